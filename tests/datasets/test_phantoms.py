import time

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold, StratifiedGroupKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_cxr.datasets._anatomy import POSE_RANGES, draw, draw_patient
from sklearn_cxr.datasets._phantoms import make_chest_xrays
from sklearn_cxr.datasets._projection import render


@pytest.fixture(scope="module")
def many():
    """600 small films in three classes, as in the learnability figures."""
    return make_chest_xrays(600, image_size=32, random_state=0)


@pytest.fixture(scope="module")
def healthy():
    """Films of 20 healthy patients without noise."""
    return make_chest_xrays(
        20, n_patients=20, classes=["normal"], noise=0, image_size=160, random_state=3
    )


def _of_class(name, severity, size=128, **more):
    return make_chest_xrays(
        8,
        n_patients=8,
        classes=[name],
        severity=severity,
        noise=0,
        image_size=size,
        random_state=11,
        **more,
    )


# What comes back


def test_bunch_holds_what_is_promised():
    films = make_chest_xrays(30, n_patients=12, image_size=48, random_state=0)
    assert films.images.shape == (30, 48, 48)
    assert films.images.dtype == np.uint8
    assert films.target.dtype == np.int64
    assert films.target_names == ["normal", "bacterial", "viral"]
    assert len(set(films.groups)) == 12
    assert "data" not in films
    assert "30" in films.DESCR and "bacterial" in films.DESCR
    frame = films.frame
    assert list(frame) == [
        *("patient", "target", "label", "view", "age", "sex", "severity", "marker"),
        *("x", "y", "w", "h"),
    ]
    np.testing.assert_array_equal(frame["patient"], films.groups)
    np.testing.assert_array_equal(frame["target"], films.target)
    assert [films.target_names[t] for t in films.target] == frame["label"].tolist()
    assert frame["age"].between(18, 90).all()
    assert set(frame["sex"]) == {"F", "M"}
    assert set(frame["view"]) == {"PA"}
    assert set(frame["marker"]) == {"none"}
    assert (frame.loc[frame["label"] == "normal", "severity"] == 0).all()
    assert frame.loc[frame["label"] != "normal", "severity"].between(0.1, 1.0).all()


def test_only_consolidations_have_a_box_and_it_lies_in_the_image():
    films = make_chest_xrays(60, image_size=40, random_state=1)
    box = films.frame[["x", "y", "w", "h"]]
    has_box = box.notna().all(axis=1)
    np.testing.assert_array_equal(has_box, films.frame["label"] == "bacterial")
    assert box[~has_box].isna().all(axis=None)
    box = box[has_box]
    assert (box[["w", "h"]] > 0).all(axis=None)
    assert (box[["x", "y"]] >= 0).all(axis=None)
    assert (box["x"] + box["w"]).max() <= 40
    assert (box["y"] + box["h"]).max() <= 40


@pytest.mark.parametrize("as_frame", [False, True])
def test_return_x_y(as_frame):
    X, y = make_chest_xrays(10, image_size=24, random_state=0, return_X_y=True, as_frame=as_frame)
    films = make_chest_xrays(10, image_size=24, random_state=0)
    np.testing.assert_array_equal(y, films.target)
    if as_frame:
        pd.testing.assert_frame_equal(X, films.frame[["age", "sex", "view"]])
        assert isinstance(y, pd.Series) and y.name == "target"
    else:
        np.testing.assert_array_equal(X, films.images)
        assert isinstance(y, np.ndarray)


def test_as_frame_keeps_images_and_shares_nothing_with_the_frame():
    films = make_chest_xrays(10, image_size=24, random_state=0, as_frame=True)
    assert isinstance(films.images, np.ndarray)
    assert isinstance(films.target, pd.Series)
    old = films.data.loc[films.data["age"] > 50]
    assert films.images[old.index].shape == (len(old), 24, 24)
    films.data["age"] = -1
    assert films.frame["age"].min() >= 18


# Randomness


def test_same_random_state_makes_the_same_bytes():
    first, second, other = (
        make_chest_xrays(12, image_size=64, marker="random", view="mixed", random_state=seed)
        for seed in (5, np.random.RandomState(5), 6)
    )
    assert first.images.tobytes() == second.images.tobytes()
    pd.testing.assert_frame_equal(first.frame, second.frame)
    assert first.images.tobytes() != other.images.tobytes()


@pytest.mark.parametrize("random_state", [None, 0])
def test_global_generators_are_left_alone(random_state):
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - the global state is what is tested
    make_chest_xrays(3, image_size=16, random_state=random_state)
    after = np.random.get_state()[1]  # noqa: NPY002 - the global state is what is tested
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("small", [16, 56, 112])
def test_a_smaller_image_shows_the_same_film(small):
    options = {"noise": 0, "random_state": 2, "view": "mixed"}
    large_films = make_chest_xrays(6, image_size=224, **options)
    small_films = make_chest_xrays(6, image_size=small, **options)
    k = 224 // small
    mean = large_films.images.reshape(6, small, k, small, k).mean(axis=(2, 4))
    assert np.abs(mean - small_films.images).mean() < 2.0
    same = ["patient", "label", "view", "age", "sex", "severity", "marker"]
    pd.testing.assert_frame_equal(large_films.frame[same], small_films.frame[same])
    box = ["x", "y", "w", "h"]
    np.testing.assert_allclose(
        large_films.frame[box] / 224, small_films.frame[box] / small, atol=0.02
    )


@pytest.mark.parametrize("size", [16, 17, 97, 113, 300, 1024])
def test_any_size_shows_lungs_between_brighter_tissue(size):
    films = make_chest_xrays(1, classes=["normal"], image_size=size, random_state=0)
    image = films.images[0].astype(float)
    assert image.shape == (size, size)
    rows = slice(int(0.42 * size), int(0.62 * size))
    right_lung = image[rows, int(0.22 * size) : int(0.38 * size)].mean()
    middle = image[rows, int(0.46 * size) : int(0.54 * size) + 1].mean()
    assert middle > right_lung + 60


def test_noise_has_the_stated_standard_deviation():
    quiet, loud, small_quiet, small_loud = (
        make_chest_xrays(
            4, classes=["normal"], image_size=size, noise=noise, random_state=0
        ).images.astype(float)
        for size, noise in [(224, 0), (224, 6), (56, 0), (56, 12)]
    )
    mid = (quiet > 115) & (quiet < 140)
    assert 5.5 < (loud - quiet)[mid].std() < 6.5
    bright = quiet > 200
    assert (loud - quiet)[bright].std() > (loud - quiet)[mid].std() + 0.5
    mid = (small_quiet > 110) & (small_quiet < 145)
    assert 2.5 < (small_loud - small_quiet)[mid].std() < 3.5


# Patients


def test_every_patient_has_one_class_and_one_anatomy(many):
    per_patient = many.frame.groupby("patient")[["target", "age", "sex", "severity"]].nunique()
    assert (per_patient == 1).all(axis=None)
    assert len(per_patient) == 300
    sizes = many.frame.groupby("patient").size()
    assert sizes.min() >= 1 and sizes.max() >= 3


def test_class_shares_follow_class_weight():
    def shares(**options):
        films = make_chest_xrays(200, n_patients=80, image_size=16, random_state=0, **options)
        return np.bincount(films.target, minlength=3) / 200

    np.testing.assert_allclose(shares(), [1 / 3] * 3, atol=0.01)
    weights = {"viral": 1, "normal": 5, "bacterial": 2}
    np.testing.assert_allclose(shares(class_weight=weights), [5 / 8, 2 / 8, 1 / 8], atol=0.01)
    np.testing.assert_allclose(shares(class_weight=[0.5, 0.5, 0]), [0.5, 0.5, 0], atol=0.01)


def test_order_of_classes_gives_the_target():
    films = make_chest_xrays(9, classes=("viral", "normal"), image_size=16, random_state=0)
    assert films.target_names == ["viral", "normal"]
    np.testing.assert_array_equal(films.target == 0, films.frame["label"] == "viral")


def test_default_is_two_images_a_patient():
    assert len(set(make_chest_xrays(21, image_size=16, random_state=0).groups)) == 11


def test_films_of_one_patient_are_more_alike_than_films_of_two(many):
    flat = many.images.reshape(600, -1).astype(float)
    flat -= flat.mean(axis=0)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    alike = flat @ flat.T
    np.fill_diagonal(alike, -np.inf)
    same = many.groups[:, None] == many.groups
    siblings = alike[same & np.isfinite(alike)]
    strangers = alike[~same]
    assert np.median(siblings) > np.quantile(strangers, 0.98)
    assert siblings.max() < 0.9999


def _auc(model, X, y, splits):
    method = "predict_proba" if hasattr(model, "predict_proba") else "predict"
    return roc_auc_score(y, cross_val_predict(model, X, y, cv=splits, method=method)[:, 1])


def test_leaking_a_patient_scores_falsely_high(many):
    X, y = many.images.reshape(600, -1).astype(float), (many.target > 0).astype(int)
    plain = list(KFold(5, shuffle=True, random_state=0).split(X))
    grouped = list(StratifiedGroupKFold(5, shuffle=True, random_state=0).split(X, y, many.groups))
    neighbour = KNeighborsClassifier(1)
    assert _auc(neighbour, X, y, plain) > _auc(neighbour, X, y, grouped) + 0.12


def test_patients_are_recognised_by_labels_that_mean_nothing(many):
    X = many.images.reshape(600, -1).astype(float)
    patients, number = np.unique(many.groups, return_inverse=True)
    y = np.random.default_rng(0).permutation(np.arange(len(patients)) % 2)[number]
    plain = list(KFold(5, shuffle=True, random_state=0).split(X))
    grouped = list(StratifiedGroupKFold(5, shuffle=True, random_state=0).split(X, y, many.groups))
    neighbour = KNeighborsClassifier(1)
    assert 0.40 < _auc(neighbour, X, y, grouped) < 0.60
    assert _auc(neighbour, X, y, plain) > 0.68


def test_task_is_learnable_but_not_trivial(many):
    X, y = many.images.reshape(600, -1).astype(np.float32), (many.target > 0).astype(int)
    grouped = list(StratifiedGroupKFold(5, shuffle=True, random_state=0).split(X, y, many.groups))
    # A loose tolerance costs about 0.01 of AUC and saves most of the time.
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, tol=1e-2, max_iter=500))
    assert 0.85 < _auc(model, X, y, grouped) < 0.95
    model = make_pipeline(PCA(60, random_state=0), StandardScaler(), LogisticRegression(C=0.1))
    subtype = cross_val_predict(model, X, many.target, cv=grouped)
    assert np.mean(subtype == many.target) > 0.55


# What the films show


def test_anatomy_is_where_it_belongs(healthy):
    mean = healthy.images.astype(float).mean(axis=0)
    n = mean.shape[0]

    def level(x0, x1, y0, y1):
        return mean[int(y0 * n) : int(y1 * n), int(x0 * n) : int(x1 * n)].mean()

    air = level(0.0, 0.04, 0.75, 0.9)
    right_lung, left_lung = level(0.24, 0.36, 0.35, 0.6), level(0.66, 0.76, 0.35, 0.5)
    assert air < 12
    assert air < right_lung < 90 and air < left_lung < 90
    assert level(0.46, 0.54, 0.5, 0.65) > 180
    # The liver side is brighter than the side of the gastric bubble.
    assert level(0.25, 0.4, 0.85, 0.95) > level(0.6, 0.75, 0.8, 0.9) > 120
    # The heart lies on the patient's left, the right edge of the film.
    assert level(0.60, 0.66, 0.56, 0.66) > level(0.34, 0.40, 0.56, 0.66) + 50
    # Chest wall beside the lung.
    assert level(0.06, 0.10, 0.5, 0.6) > 30


def _dome(image, column):
    """Row of the steepest rise in brightness in the lower half of a column."""
    half = len(image) // 2
    profile = np.convolve(image[half:, column].astype(float), np.ones(5) / 5, mode="valid")
    return half + int(np.argmax(profile[4:] - profile[:-4]))


def test_right_dome_is_higher(healthy):
    n = healthy.images.shape[1]
    right = [_dome(image, int(0.3 * n)) for image in healthy.images]
    left = [_dome(image, int(0.72 * n)) for image in healthy.images]
    assert np.median(np.subtract(left, right)) >= 2


def test_ribs_cross_the_lungs(healthy):
    n = healthy.images.shape[1]
    for image in healthy.images:
        profile = image[int(0.25 * n) : int(0.62 * n), int(0.25 * n)].astype(float)
        ripple = profile - np.convolve(np.pad(profile, 10, "edge"), np.ones(21) / 21, "valid")
        crossings = np.flatnonzero(np.diff(np.sign(ripple)) > 0)
        assert 3 <= len(crossings) <= 12
        assert ripple.std() > 3


def test_vessels_taper_to_the_periphery():
    patient = draw_patient("normal", 0.0, np.random.default_rng(0))
    for tree in patient.vessels:
        radius = [generation[:, 5].mean() for generation in tree]
        distance = [np.abs(generation[:, 0]).mean() for generation in tree]
        assert np.all(np.diff(radius) < 0)
        assert np.all(np.diff(distance) > 0)


def test_ap_geometry():
    pa, ap = (
        make_chest_xrays(12, n_patients=12, classes=["normal"], view=view, noise=0, random_state=4)
        for view in ("PA", "AP")
    )
    assert set(ap.frame["view"]) == {"AP"}
    np.testing.assert_array_equal(pa.frame["age"], ap.frame["age"])
    n = pa.images.shape[1]

    def heart_width(image):
        profile = image[int(0.55 * n) : int(0.62 * n)].mean(axis=0)[int(0.2 * n) : int(0.85 * n)]
        return (profile > 150).sum()

    wider = [heart_width(b) > heart_width(a) for a, b in zip(pa.images, ap.images, strict=True)]
    higher = [
        _dome(b, int(0.3 * n)) < _dome(a, int(0.3 * n))
        for a, b in zip(pa.images, ap.images, strict=True)
    ]
    assert np.mean(wider) >= 0.9
    assert np.mean(higher) >= 0.9
    # The shoulder blades lie over the upper outer lungs.
    outer = (slice(int(0.28 * n), int(0.45 * n)), slice(int(0.20 * n), int(0.25 * n)))
    assert ap.images[:, *outer].mean() > pa.images[:, *outer].mean() + 5


@pytest.mark.parametrize("name", ["bacterial", "viral"])
def test_severity_zero_is_the_healthy_film_and_more_is_denser(name):
    healthy_films = _of_class("normal", 0.0)
    films = [_of_class(name, s) for s in (0.0, 0.3, 1.0)]
    np.testing.assert_array_equal(films[0].images, healthy_films.images)
    gain = [(f.images.astype(float) - healthy_films.images).mean() for f in films]
    assert 0 == gain[0] < gain[1] < gain[2]
    # Nearly invisible where it is slight.
    faint = _of_class(name, 0.1).images.astype(float) - healthy_films.images
    strong = films[2].images.astype(float) - healthy_films.images
    assert faint.max() < 60 < strong.max()


def test_consolidation_is_one_sided_and_inside_its_box():
    healthy_films, films = _of_class("normal", 0.0), _of_class("bacterial", 1.0)
    for image, base, box in zip(
        films.images.astype(float),
        healthy_films.images,
        films.frame[["x", "y", "w", "h"]].to_numpy(),
        strict=True,
    ):
        gain = image - base
        x, y, w, h = box.round().astype(int)
        inside = np.zeros(gain.shape, bool)
        inside[y : y + h, x : x + w] = True
        assert gain[inside].sum() > 0.7 * gain.clip(0).sum()
        assert gain[inside].mean() > 5 * gain[~inside].mean()
        halves = sorted([gain[:, :64].sum(), gain[:, 64:].sum()])
        assert halves[1] > 4 * halves[0]


def test_interstitial_pattern_is_on_both_sides_and_finer():
    normal, viral = _of_class("normal", 0.0), _of_class("viral", 1.0)
    bacterial = _of_class("bacterial", 1.0)

    def roughness(films):
        gain = films.images.astype(float) - normal.images
        return np.abs(np.diff(gain, axis=2)).sum() / np.abs(gain).sum()

    gain = viral.images.astype(float) - normal.images
    left, right = gain[:, :, :64].sum(axis=(1, 2)), gain[:, :, 64:].sum(axis=(1, 2))
    assert (np.minimum(left, right) > 0.25 * np.maximum(left, right)).all()
    assert roughness(viral) > 1.5 * roughness(bacterial)


# Markers and confounding


@pytest.mark.parametrize("marker", ["L", "R", "box"])
@pytest.mark.parametrize("size", [32, 224])
def test_marker_is_burned_into_an_upper_corner_only(marker, size):
    options = {"classes": ["normal"], "image_size": size, "random_state": 0}
    plain = make_chest_xrays(10, **options)
    marked = make_chest_xrays(10, marker=marker, **options)
    carries = (marked.frame["marker"] == marker).to_numpy()
    assert set(marked.frame["marker"]) == {"none", marker}
    np.testing.assert_array_equal(marked.images[~carries], plain.images[~carries])
    changed = np.abs(marked.images.astype(int) - plain.images) > 0
    assert not changed[:, size // 4 :].any()
    assert not changed[:, :, int(0.3 * size) : int(0.7 * size)].any()
    for image, where in zip(marked.images[carries], changed[carries], strict=True):
        assert image[where].max() >= (120 if size == 32 else 245)
        columns = np.flatnonzero(where.any(axis=0))
        if marker == "L":
            assert columns.min() > size / 2
        elif marker == "R":
            assert columns.max() < size / 2


def test_marker_confounding():
    def rates(confounding):
        films = make_chest_xrays(
            300, image_size=16, marker="random", marker_confounding=confounding, random_state=0
        )
        carries = films.frame["marker"] != "none"
        ill = films.target > 0
        assert set(films.frame["marker"]) == {"none", "L", "R", "box"}
        return carries[ill].mean(), carries[~ill].mean()

    assert rates(1.0) == (1.0, 0.0)
    np.testing.assert_allclose(rates(0.5), (0.75, 0.25), atol=0.1)
    np.testing.assert_allclose(rates(0.0), (0.5, 0.5), atol=0.12)


def test_marker_probabilities_by_class():
    films = make_chest_xrays(
        90, image_size=16, marker={"normal": 0, "bacterial": 1, "viral": 0.5}, random_state=0
    )
    share = (films.frame["marker"] != "none").groupby(films.frame["label"]).mean()
    assert share["normal"] == 0 and share["bacterial"] == 1
    assert 0.2 < share["viral"] < 0.8


def test_view_confounding():
    def rates(confounding, classes=("normal", "bacterial", "viral")):
        films = make_chest_xrays(
            300,
            image_size=16,
            view="mixed",
            view_confounding=confounding,
            classes=classes,
            random_state=1,
        )
        ap = films.frame["view"] == "AP"
        ill = films.target > 0
        return ap[ill].mean(), ap[~ill].mean()

    assert rates(1.0) == (1.0, 0.0)
    assert rates(1.0, ("bacterial", "viral")) == (1.0, 0.0)
    np.testing.assert_allclose(rates(0.0), (0.5, 0.5), atol=0.12)


# Bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_samples": 0}, "'n_samples'.*range"),
        ({"n_samples": 4, "n_patients": 5}, "n_patients=5 is more than n_samples=4"),
        ({"image_size": 15}, "'image_size'"),
        ({"image_size": 1025}, "'image_size'"),
        ({"classes": ()}, "expected one or more different names"),
        ({"classes": "normal"}, "'classes'"),
        ({"classes": ("normal", "fungal")}, "fungal.*expected one or more"),
        ({"classes": ("normal", "normal")}, "different names"),
        ({"class_weight": [1, 2]}, "expected 3 numbers"),
        ({"class_weight": [1, -1, 1]}, "at least 0"),
        ({"class_weight": [0, 0, 0]}, "not all of them 0"),
        ({"class_weight": ["a", 1, 1]}, "expected numbers"),
        ({"class_weight": [np.nan, 1, 1]}, "finite"),
        ({"class_weight": {"normal": 1}}, "one number for each of the classes"),
        ({"view": "lateral"}, "'view'"),
        ({"noise": -1}, "'noise'"),
        ({"severity": (0.5, 0.2)}, "low <= high"),
        ({"severity": (0.1, 0.2, 0.3)}, "range"),
        ({"severity": 2}, "'severity'|severity=2"),
        ({"marker": "X"}, "'marker'"),
        ({"marker": {"normal": 1}}, "one number for each of the classes"),
        ({"marker": {"normal": 0, "bacterial": 2, "viral": 0}}, "probability"),
        ({"marker_confounding": 0.5}, "needs a marker"),
        (
            {"marker": {"normal": 0, "bacterial": 1, "viral": 0}, "marker_confounding": 0.5},
            "leave marker_confounding at 0",
        ),
        ({"marker": "L", "marker_confounding": 1.5}, "'marker_confounding'"),
        (
            {"marker": "L", "marker_confounding": 0.5, "classes": ["viral"]},
            "needs two classes",
        ),
        ({"view_confounding": 0.5}, "needs view='mixed'"),
        ({"random_state": "seed"}, "'random_state'"),
    ],
)
def test_bad_arguments_raise(options, message):
    with pytest.raises(ValueError, match=message):
        make_chest_xrays(**{"n_samples": 3, "image_size": 16, **options})


def test_no_random_state_makes_new_films_every_time():
    first, second = (make_chest_xrays(2, image_size=16) for _ in range(2))
    assert first.images.tobytes() != second.images.tobytes()


def test_arguments_are_keyword_only():
    with pytest.raises(TypeError, match="positional"):
        make_chest_xrays(3, 2)


# Speed


def test_thousand_films_in_ten_seconds_of_processor_time():
    def seconds():
        start = time.process_time()
        make_chest_xrays(50, random_state=0)
        return time.process_time() - start

    # The best of three: other work on the machine only ever adds time.
    assert min(seconds() for _ in range(3)) * 20 < 10


def test_films_are_drawn_in_single_precision():
    rng = np.random.default_rng(0)
    patient = draw_patient("bacterial", 0.5, rng)
    film, box = render(patient, draw(POSE_RANGES, rng), "AP", 64)
    assert film.dtype == np.float32
    assert box.shape == (4,)
