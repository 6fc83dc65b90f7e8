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

from sklearn_cxr.datasets._phantoms import make_chest_xrays


@pytest.fixture(scope="module")
def many():
    """600 small films in three classes, as in the learnability figures."""
    return make_chest_xrays(600, image_size=32, random_state=0)


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
