import re

import matplotlib
import numpy as np
import pandas as pd
import pytest
import zarr
from PIL import Image
from scipy.stats import rankdata
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupShuffleSplit, KFold, StratifiedGroupKFold

from sklearn_cxr.datasets import make_chest_xrays
from sklearn_cxr.exceptions import FallbackWarning, PatientLeakageError
from sklearn_cxr.inspection import ShortcutProbesDisplay, shortcut_probes
from sklearn_cxr.inspection._probe_features import _outside
from sklearn_cxr.inspection._probes import rank_in_folds
from sklearn_cxr.linear_model import PixelLogisticRegression
from sklearn_cxr.metrics import roc_auc_interval

matplotlib.use("Agg")
TWO = ("normal", "viral")


def make(n=160, **options):
    return make_chest_xrays(n, **{"image_size": 64, "classes": TWO, "random_state": 0, **options})


def probe(films, X=None, **changes):
    given = {"frame": films.frame, "cv": 3, **changes}
    y, groups = given.pop("y", films.target), given.pop("groups", films.groups)
    return shortcut_probes(films.images if X is None else X, y, groups, **given)


@pytest.fixture(scope="module")
def clean():
    return make(view="mixed", marker="random")


@pytest.fixture(scope="module")
def all_probes(clean):
    return probe(clean)


def test_clean_films_light_no_probe_that_does_not_see_lungs(all_probes):
    found = all_probes
    assert found.shortcuts == []
    assert list(found.table["probe"]) == [
        "border",
        "outside_lungs",
        "thumbnail",
        "histogram",
        "metadata",
    ]
    assert "none lights up" in str(found)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_clean_films_of_other_patients_light_none_either(seed):
    clean = make(view="mixed", marker="random", random_state=seed)
    found = probe(clean, probes=["border", "outside_lungs", "metadata"])
    assert found.shortcuts == []
    assert found.table["verdict"].tolist() == ["quiet"] * 3


@pytest.mark.parametrize("seed", [1, 2])
def test_a_marker_that_goes_with_the_label_lights_the_border(seed):
    spoiled = make(marker="random", marker_confounding=0.9, random_state=seed)
    found = probe(spoiled, probes=["border", "outside_lungs", "metadata"])
    assert found.shortcuts == ["border", "outside_lungs"]
    assert (found.table.set_index("probe").loc[["border", "outside_lungs"], "auc"] > 0.8).all()


def test_a_view_that_goes_with_the_label_lights_the_metadata():
    spoiled = make(view="mixed", view_confounding=0.9)
    assert "metadata" in probe(spoiled, probes=["metadata", "histogram"]).shortcuts
    found = probe(spoiled, probes=["metadata"], metadata=["sex"])
    assert found.shortcuts == []


def test_what_files_tell_lights_the_metadata(tmp_path):
    films = make(60)
    paths = []
    for i, (image, label) in enumerate(zip(films.images, films.target, strict=True)):
        paths.append(str(tmp_path / f"{i}.{'png' if label else 'bmp'}"))
        Image.fromarray(image).save(paths[-1])
    found = probe(films, paths, frame=None, probes=["metadata"])
    assert found.shortcuts == ["metadata"]
    assert found.table["auc"].iloc[0] > 0.9


def test_the_border_does_not_see_the_inside_nor_the_thumbnail_details(clean):
    images = clean.images.copy()
    images[:, 12:-12, 12:-12] = np.random.RandomState(0).randint(256, size=(160, 40, 40))
    for probes in (["border"], ["border", "histogram"]):
        before = probe(clean, probes=probes).table.set_index("probe")
        after = probe(clean, images, probes=probes).table.set_index("probe")
        assert before.loc["border", "auc"] == after.loc["border", "auc"]
    shuffled = clean.images.reshape(160, -1)[:, np.random.RandomState(0).permutation(64 * 64)]
    same = probe(clean, shuffled, probes=["histogram"]).table
    assert same["auc"].iloc[0] == probe(clean, probes=["histogram"]).table["auc"].iloc[0]


def test_outside_the_lungs_hides_one_region_in_all_films(clean, all_probes):
    found = all_probes
    assert 0.15 < found.lung_region.mean() < 0.75
    images = np.kron(clean.images, np.ones((1, 5, 5)))[:, 2::4, 2::4].astype(np.uint8)
    region = probe(clean, images, probes=["outside_lungs"]).lung_region
    changed = images.copy()
    changed[:, np.kron(region, np.ones((4, 4))) > 0] //= 2
    np.testing.assert_array_equal(
        _outside(*_blocks(images), region), _outside(*_blocks(changed), region)
    )


def _blocks(images):
    blocks = images.reshape(-1, 20, 4, 20, 4)
    return blocks.mean(axis=(2, 4)), blocks.max(axis=(2, 4))


def test_without_lungs_the_middle_is_hidden():
    # Less contrast than any film has.
    noise = np.random.RandomState(0).randint(100, 103, size=(30, 32, 32)).astype(np.uint8)
    with pytest.warns(FallbackWarning, match="found lungs in 0 of 30"):
        blind = shortcut_probes(
            noise, np.arange(30) % 2, np.arange(30), probes=["outside_lungs"], cv=2
        )
    assert blind.lung_region[2:-3, 2:-2].all() and blind.lung_region.sum() == 15 * 16


class Recorder(ClassifierMixin, BaseEstimator):
    """Scores by mean level, and keeps what its fits were given."""

    __metadata_request__fit = {"groups": True}
    seen = []

    def fit(self, X, y, groups=None):
        self.classes_ = np.unique(y)
        self.seen.append((len(X), None if groups is None else np.unique(groups)))
        return self

    def predict_proba(self, X):
        level = np.asarray(X).reshape(len(X), -1).mean(axis=1) / 255
        return np.stack([level, 1 - level], axis=1)


@pytest.mark.parametrize("routing", [False, True])
def test_your_model_stands_beside_on_the_same_folds(clean, routing):
    folds = list(StratifiedGroupKFold(3).split(clean.images, clean.target, clean.groups))
    Recorder.seen.clear()
    y = np.array(TWO)[clean.target]
    with config_context(enable_metadata_routing=routing):
        found = probe(clean, y=y, estimator=Recorder(), cv=folds, probes=["border"])
    assert [n for n, _ in Recorder.seen] == [len(train) for train, _ in folds]
    for (_, patients), (_, test) in zip(Recorder.seen, folds, strict=True):
        assert not set(patients) & set(clean.groups[test])
    level = clean.images.mean(axis=(1, 2))
    ranked = np.empty(160)
    for _, test in folds:
        ranked[test] = rankdata(-level[test]) / (len(test) + 1)
    row = found.table.set_index("probe").loc["your model"]
    assert row["auc"] == pytest.approx(roc_auc_score(clean.target, ranked))
    expected = roc_auc_interval(clean.target, ranked, groups=clean.groups, transform="logit")
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))
    border = found.table.set_index("probe").loc["border"]
    assert border["share_of_model"] == pytest.approx((border["auc"] - 0.5) / (row["auc"] - 0.5))
    assert row["label"] == "viral" and row["verdict"] == ""


def test_fit_params_are_cut_to_the_fold(clean):
    class Weighted(Recorder):
        def fit(self, X, y, groups=None, sample_weight=None, mode=None):
            assert len(sample_weight) == len(X) and mode == "a"
            return super().fit(X, y, groups)

    params = {"sample_weight": np.arange(160), "mode": "a"}
    found = probe(clean, estimator=Weighted(), fit_params=params, probes=["border"])
    assert found.table["auc"].notna().all()


def test_several_classes_and_several_labels():
    films = make(120, classes=("normal", "bacterial", "viral"))
    found = probe(films, probes=["histogram"], estimator=PixelLogisticRegression(C=1e-4))
    assert found.table["label"].tolist() == ["0", "0", "1", "1", "2", "2"]
    Y = pd.DataFrame({"bacterial": films.target == 1, "viral": films.target == 2}).astype(float)
    Y.loc[films.target == 0, "viral"] = 0
    Y.loc[[0, 5], "bacterial"] = np.nan
    Y["never"] = 0.0
    with pytest.warns(UserWarning, match="label 2 positive in 0 patients"):
        found = probe(films, y=Y, probes=["histogram", "border"])
    table = found.table.set_index(["label", "probe"])
    assert set(table.loc["never", "verdict"]) == {"unknown"}
    assert table.loc[("bacterial", "histogram"), "auc"] > 0.5
    assert "nan" in str(found)


def test_the_answer_is_reproducible_and_the_global_generator_untouched(clean):
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - it is what has to stay untouched
    small = clean.images[:30], clean.target[:30], clean.groups[:30]
    one, other = (
        shortcut_probes(*small, probes=["outside_lungs"], cv=2, random_state=3).table for _ in "ab"
    )
    pd.testing.assert_frame_equal(one, other)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002 - the same


def test_ranks_within_folds():
    scores = np.array([[0.1], [0.9], [5.0], [7.0], [6.0]])
    folds = [([2, 3, 4], [0, 1]), ([0, 1], [2, 3, 4])]
    np.testing.assert_allclose(
        rank_in_folds(scores, folds)[:, 0], [1 / 3, 2 / 3, 1 / 4, 3 / 4, 2 / 4]
    )


def test_display(clean):
    table = probe(clean, probes=["border", "histogram"])
    display = table.plot()
    ticks = [text.get_text() for text in display.ax_.get_yticklabels()]
    assert ticks == ["border", "histogram"]
    assert "AUC" in display.ax_.get_xlabel()
    drawn = display.ax_.containers[0].lines[0].get_xdata()[0]
    assert drawn == table.table["auc"].iloc[0]
    figure, ax = matplotlib.pyplot.subplots()
    beside = ShortcutProbesDisplay.from_estimator(
        Recorder(), clean.images, clean.target, clean.groups, cv=3, probes=["border"], ax=ax
    )
    assert beside.ax_ is ax and beside.figure_ is figure
    score = clean.images.mean(axis=(1, 2))
    given = ShortcutProbesDisplay.from_predictions(
        clean.target, {"mean level": score}, groups=clean.groups
    )
    assert given.table["auc"].iloc[0] == pytest.approx(roc_auc_score(clean.target, score))
    three = make(120, classes=("normal", "bacterial", "viral"))
    legend = probe(three, probes=["border"]).plot().ax_.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["0", "1", "2"]
    matplotlib.pyplot.close("all")


def test_with_few_patients_there_is_no_verdict():
    rng = np.random.RandomState(0)
    films, patients = rng.randint(256, size=(90, 24, 24)).astype(np.uint8), np.arange(90) // 3
    for held, verdict in ((9, "unknown"), (10, "shortcut")):
        y = (patients < held).astype(int)
        films[:, :4] = 60 + 120 * y[:, None, None]
        found = shortcut_probes(films, y, patients, probes=["border"], cv=3)
        assert found.table["auc"].iloc[0] > 0.9
        assert found.table["verdict"].tolist() == [verdict]
        assert found.shortcuts == ["border"] * (held == 10)
        drawn = ShortcutProbesDisplay.from_predictions(y, {"mine": y}, groups=patients)
        assert drawn.table["verdict"].tolist() == ["lit" if held == 10 else "unknown"]
    with_model = shortcut_probes(
        films, patients < 5, patients, probes=["border"], cv=3, estimator=Recorder()
    )
    assert with_model.table["verdict"].tolist() == ["unknown", ""]
    matplotlib.pyplot.close("all")


def test_what_was_not_judged_is_no_all_clear(clean):
    nothing = probe(clean, frame=None, probes=["metadata"])
    assert nothing.table[["probe", "verdict"]].to_numpy().tolist() == [["metadata", "unknown"]]
    assert nothing.title == "Shortcut probes: none could be judged"
    assert "none lights up" not in str(nothing) + nothing._repr_html_()
    axes = nothing.plot().ax_
    assert [text.get_text() for text in axes.get_yticklabels()] == ["metadata"]
    assert " not judged" in [text.get_text() for text in axes.texts]
    some = probe(clean, frame=None, probes=["metadata", "histogram"])
    assert some.title == "Shortcut probes: none lights up; not judged: metadata"
    three = make(120, classes=("normal", "bacterial", "viral"))
    both = probe(three, frame=None, probes=["metadata", "histogram"])
    assert len(both.plot().ax_.get_legend().get_texts()) == 3
    Y = pd.DataFrame({"a": clean.target, "b": clean.groups == clean.groups[0]}).astype(float)
    with pytest.warns(UserWarning, match="label 1 positive in 1 patient"):
        few = probe(clean, y=Y, probes=["histogram"])
    assert few.title.endswith("not judged: histogram for some labels")
    matplotlib.pyplot.close("all")


def test_metadata_of_mixed_types_and_dates_are_taken(clean):
    y, odd = clean.target, np.arange(160) % 2
    mixed = pd.DataFrame({"device": [7 if i else "unit 7" for i in odd]}, dtype=object)
    assert probe(clean, frame=mixed, metadata=["device"], probes=["metadata"]).shortcuts == []
    mixed["device"] = [7 if label else "unit 7" for label in y]
    mixed.loc[0, "device"] = None
    found = probe(clean, frame=mixed, metadata=["device"], probes=["metadata"])
    assert found.shortcuts == ["metadata"]
    dates = pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(160) + 400 * y, unit="D")
    ages = pd.array([int(a) if i else None for i, a in enumerate(30 + odd)], dtype="Int64")
    given = pd.DataFrame({"date": dates, "age": ages})
    assert probe(clean, frame=given, metadata=["date"], probes=["metadata"]).shortcuts
    assert not probe(clean, frame=given, metadata=["age"], probes=["metadata"]).shortcuts


def test_a_forest_stands_beside_though_a_label_lacks_a_class_in_a_fold(clean):
    Y = pd.DataFrame({"a": clean.target, "b": clean.groups == clean.groups[0]}).astype(int)
    folds = list(StratifiedGroupKFold(3).split(clean.images, clean.target, clean.groups))
    flat = clean.images.reshape(160, -1)
    model = RandomForestClassifier(5, max_depth=2, random_state=0)
    found = probe(
        clean, flat, y=Y, cv=folds, probes=["histogram"], estimator=model, image_shape=(64, 64)
    )
    # The fold that holds the one patient was scored by a forest that knows no other class than 0.
    test = next(test for _, test in folds if clean.groups[0] in clean.groups[test])
    assert np.ptp(found.scores["your model"][test, 1]) == 0
    assert found.table.set_index(["label", "probe"]).loc[("a", "your model"), "auc"] > 0


def test_html(clean):
    text = probe(clean, probes=["border"])._repr_html_()
    assert "none lights up" in text and "share of model" not in text
    assert not re.search(r'(?:src|href)="http', text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y": np.zeros(160)}, "one class only"),
        ({"y": None}, "needs y and groups"),
        ({"groups": None}, "needs y and groups"),
        ({"groups": np.zeros(160)}, "1 patient; at least two"),
        ({"groups": np.arange(7)}, "groups of shape"),
        ({"groups": [None, *range(159)]}, "1 films without a patient"),
        ({"y": [np.nan, *[0.0, 1.0] * 79, 0.0]}, "without a class"),
        ({"y": np.arange(160) < 2}, "class of 2 patients only"),
        ({"frame": pd.DataFrame({"age": [1]})}, "frame of 1 rows"),
        ({"probes": ["edge"]}, "expected some of"),
        ({"probes": []}, "expected some of"),
        ({"threshold": 0.2}, "threshold"),
    ],
)
def test_what_does_not_fit_raises(clean, changes, message):
    given = {"probes": ["border"], **changes}
    if "y" in given and given["y"] is not None and "class of" in message:
        given["groups"] = np.arange(160)
    with pytest.raises(ValueError, match=message):
        probe(clean, **given)


def test_folds_that_leak_are_refused(clean):
    with pytest.raises(PatientLeakageError):
        probe(clean, cv=list(KFold(3).split(clean.images)), probes=["border"])


def test_unreadable_films_are_refused(clean, tmp_path):
    with pytest.raises(ValueError, match=r"160 films without usable pixels.*0\.png"):
        probe(clean, [str(tmp_path / f"{i}.png") for i in range(160)], probes=["border"])


def test_zarr_rows_for_the_users_model(clean, tmp_path):
    X = clean.images
    rows = zarr.open(str(tmp_path / "z"), mode="w", shape=X.shape, dtype=X.dtype)
    rows[:] = X
    model = PixelLogisticRegression(C=0.01)
    found, expected = (
        probe(clean, films, estimator=model, probes=["border"]) for films in (rows, X)
    )
    np.testing.assert_array_equal(found.scores["your model"], expected.scores["your model"])


def test_folds_that_do_not_judge_every_film_once(clean):
    cv = GroupShuffleSplit(3, test_size=0.25, random_state=0)
    folds = list(cv.split(clean.images, clean.target, clean.groups))
    judged = np.bincount(np.concatenate([test for _, test in folds]), minlength=160)
    never, often = (judged == 0).sum(), (judged > 1).sum()
    assert never and often
    match = f"judge {never} films never and {often} more than once; expected every film"
    with pytest.raises(ValueError, match=match):
        probe(clean, cv=folds, probes=["border"])


def test_scores_that_are_no_numbers(clean):
    class Lost(Recorder):
        def predict_proba(self, X):
            return np.full((len(X), 2), np.nan)

    with pytest.raises(ValueError, match="NaN or infinite from Lost; expected finite"):
        probe(clean, estimator=Lost(), probes=["border"])
