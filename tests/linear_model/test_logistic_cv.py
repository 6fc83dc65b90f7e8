import h5py
import numpy as np
import pytest
from sklearn import config_context
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedGroupKFold,
    StratifiedKFold,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline

from sklearn_cxr.datasets import make_chest_xrays
from sklearn_cxr.exceptions import LeakageRiskWarning
from sklearn_cxr.linear_model import PixelLogisticRegression, PixelLogisticRegressionCV
from sklearn_cxr.preprocessing import ImageRows, Resize
from sklearn_cxr.utils import _design

CS = [1e-3, 1e-2, 1e-1]


def films(n=90, side=8, n_classes=2, seed=0):
    """Two films a patient, with a faint label and a strong patient."""
    rng = np.random.default_rng(seed)
    groups = np.arange(n) // 2
    y = groups % n_classes
    X = rng.normal(110, 20, (n // 2, side, side))[groups] + rng.normal(0, 12, (n, side, side))
    for label in range(n_classes):
        X[y == label, label : label + 3, label : label + 3] += 9
    return X.clip(0, 255).astype(np.uint8), y, groups


@pytest.mark.parametrize(("n_classes", "scoring"), [(2, "roc_auc"), (3, "roc_auc_ovr")])
def test_scores_equal_a_grid_search_of_cold_fits(n_classes, scoring):
    X, y, groups = films(n_classes=n_classes)
    ours = PixelLogisticRegressionCV(CS, cv=3, tol=1e-7).fit(X, y, groups=groups)
    peer = GridSearchCV(
        PixelLogisticRegression(tol=1e-7), {"C": CS}, cv=StratifiedGroupKFold(3), scoring=scoring
    ).fit(X, y, groups=groups)
    theirs = [peer.cv_results_[f"split{k}_test_score"] for k in range(3)]
    np.testing.assert_allclose(ours.scores_, theirs, atol=1e-3)
    assert ours.C_ == peer.best_params_["C"]
    np.testing.assert_allclose(ours.predict_proba(X), peer.predict_proba(X), atol=1e-5)
    np.testing.assert_allclose(ours.coef_image_, peer.best_estimator_.coef_image_, atol=1e-4)


def test_folds_are_taken_by_patient():
    X, y, groups = films()
    seen = []

    class Recording(StratifiedGroupKFold):
        def split(self, X, y=None, groups=None):
            seen.append(np.array(groups))
            return super().split(X, y, groups)

    PixelLogisticRegressionCV(CS, cv=Recording(3)).fit(X, y, groups=groups)
    np.testing.assert_array_equal(seen[0], groups)


def test_without_patients_it_warns_of_what_may_happen():
    X, y, groups = films()
    with pytest.warns(LeakageRiskWarning, match="groups=patients") as caught:
        leaky = PixelLogisticRegressionCV(CS, cv=3).fit(X, y)
    assert caught[0].filename == __file__
    splits = list(StratifiedGroupKFold(3).split(X, y, groups))
    with pytest.warns(LeakageRiskWarning, match="whether cv keeps them apart is not checked"):
        PixelLogisticRegressionCV(CS, cv=splits).fit(X, y)
    strict = PixelLogisticRegressionCV(CS, cv=3).fit(X, y, groups=groups)
    assert leaky.scores_.max() > strict.scores_.max() + 0.05


def test_a_list_of_splits():
    X, y, groups = films()
    splits = list(StratifiedGroupKFold(3).split(X, y, groups))
    by_list = PixelLogisticRegressionCV(CS, cv=splits).fit(X, y, groups=groups)
    by_number = PixelLogisticRegressionCV(CS, cv=3).fit(X, y, groups=groups)
    np.testing.assert_array_equal(by_list.scores_, by_number.scores_)


def test_splits_that_share_patients_are_told_of():
    X, y, groups = films()
    splits = list(StratifiedKFold(3, shuffle=True, random_state=0).split(X, y))
    shared = [len(set(groups[train]) & set(groups[test])) for train, test in splits]
    most = int(np.argmax(shared))
    told = f"Fold {most} of cv trains and scores on images of the same {shared[most]} patients"
    with pytest.warns(LeakageRiskWarning, match=told):
        PixelLogisticRegressionCV([0.1], cv=splits).fit(X, y, groups=groups)
    with pytest.raises(ValueError, match="got 5 patient ids in groups for 90 images"):
        PixelLogisticRegressionCV([0.1], cv=splits).fit(X, y, groups=groups[:5])


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_score_is_what_the_penalty_was_chosen_by(n_classes):
    X, y, groups = films(n_classes=n_classes)
    model = PixelLogisticRegressionCV([1e-2], cv=3).fit(X, y, groups=groups)
    weight = np.random.default_rng(0).uniform(0.5, 2, len(y))
    p = model.predict_proba(X)
    p = p[:, 1] if n_classes == 2 else p
    given = {"multi_class": "ovr"} if n_classes > 2 else {}
    assert model.score(X, y) == roc_auc_score(y, p, **given)
    expected = roc_auc_score(y, p, sample_weight=weight, **given)
    assert model.score(X, y, sample_weight=weight) == expected
    accuracy = model.set_params(scoring=None).score(X, y)
    assert (
        accuracy
        == np.mean(model.predict(X) == y)
        != model.set_params(scoring="roc_auc").score(X, y)
    )


def test_splits_as_masks():
    X, y, groups = films()
    splits = list(StratifiedGroupKFold(3).split(X, y, groups))
    masks = [tuple(np.isin(np.arange(len(y)), part) for part in split) for split in splits]
    by_masks = PixelLogisticRegressionCV(CS, cv=masks).fit(X, y, groups=groups)
    by_numbers = PixelLogisticRegressionCV(CS, cv=splits).fit(X, y, groups=groups)
    np.testing.assert_array_equal(by_masks.scores_, by_numbers.scores_)


def test_no_split_is_no_choice():
    X, y, groups = films()
    splits = (split for split in StratifiedGroupKFold(3).split(X, y, groups))
    search = PixelLogisticRegressionCV(CS, cv=splits).fit(X, y, groups=groups)
    with pytest.raises(ValueError, match=r"gave no split\. .* a generator of splits is used up"):
        search.fit(X, y, groups=groups)


def test_one_standard_error_takes_the_strongest_penalty_that_is_as_good():
    # Films on which the best, the strongest and the one chosen are three different penalties.
    X, y, groups = films(seed=5)
    model = PixelLogisticRegressionCV(np.logspace(-5, 0, 6), cv=3).fit(X, y, groups=groups)
    mean = model.scores_.mean(axis=0)
    best = mean.argmax()
    assert model.C_ == model.Cs_[best]
    model.set_params(one_standard_error=True).fit(X, y, groups=groups)
    floor = mean[best] - model.scores_[:, best].std(ddof=1) / np.sqrt(3)
    assert model.C_ == model.Cs_[np.flatnonzero(mean >= floor)[0]]
    assert model.Cs_[0] < model.C_ < model.Cs_[best]


def test_the_path_starts_each_fit_where_the_last_one_ended(monkeypatch):
    films = make_chest_xrays(200, image_size=32, random_state=0)
    X, y, groups = films.images, films.target > 0, films.groups
    passes = []
    once = _design.Design.loss_gradient

    def counted(self, *arguments):
        passes.append(self.shape[0])
        return once(self, *arguments)

    monkeypatch.setattr(_design.Design, "loss_gradient", counted)
    Cs, folds = np.geomspace(1, 10, 5), list(StratifiedGroupKFold(2).split(X, y, groups))
    PixelLogisticRegressionCV(Cs, cv=folds, solver="passes").fit(X, y, groups=groups)
    # Less the last fit, which is that of all films.
    warm = sum(n < 200 for n in passes)
    passes.clear()
    for train, _ in folds:
        for C in Cs:
            PixelLogisticRegression(C=C, solver="passes").fit(X[train], y[train])
    assert 0 < warm < 0.75 * len(passes)


def test_the_scores_of_the_chosen_penalty_are_those_of_cross_validation():
    X, y, groups = films()
    model = PixelLogisticRegressionCV(CS, cv=3, tol=1e-7, scoring="accuracy")
    model.fit(X, y, groups=groups)
    plain = PixelLogisticRegression(C=model.C_, tol=1e-7)
    expected = cross_val_score(
        plain, X, y, groups=groups, cv=StratifiedGroupKFold(3), scoring="accuracy"
    )
    np.testing.assert_allclose(model.scores_[:, list(model.Cs_).index(model.C_)], expected)


def test_rows_of_a_view_are_not_copied_whole(tmp_path, monkeypatch):
    X, y, groups = films()
    X.tofile(tmp_path / "rows.raw")
    mapped = np.memmap(tmp_path / "rows.raw", mode="r", dtype=np.uint8, shape=X.shape)
    rows = ImageRows([mapped], np.zeros(len(X), int), np.arange(len(X)))
    expected = PixelLogisticRegressionCV(CS, cv=3).fit(X, y, groups=groups)

    def refuse(self):
        raise AssertionError("the rows were made into an array")

    monkeypatch.setattr(_design, "_VALUES_FOR_NUMPY", 0)
    monkeypatch.setattr(ImageRows, "_gather", refuse)
    model = PixelLogisticRegressionCV(CS, cv=3).fit(rows, y, groups=groups)
    np.testing.assert_allclose(model.scores_, expected.scores_, atol=1e-6)


def test_an_hdf5_data_set_gives_what_an_array_gives(tmp_path):
    X, y, groups = films()
    expected = PixelLogisticRegressionCV(CS, cv=3).fit(X, y, groups=groups)
    with h5py.File(tmp_path / "films.h5", "w") as file:
        rows = file.create_dataset("films", data=X, chunks=(7, 8, 8), compression="gzip")
        model = PixelLogisticRegressionCV(CS, cv=3).fit(rows, y, groups=groups)
        np.testing.assert_allclose(model.scores_, expected.scores_, atol=1e-9)
        np.testing.assert_allclose(model.predict_proba(rows), expected.predict_proba(X), rtol=1e-6)


@pytest.mark.parametrize("Cs", [[], [0.0, 1.0], [-1.0], [np.nan], [[1.0], [2.0]], 0])
def test_penalties_that_are_none(Cs):
    X, y, groups = films()
    if np.ndim(Cs) == 2:
        assert PixelLogisticRegressionCV(Cs, cv=3).fit(X, y, groups=groups).Cs_.tolist() == [1, 2]
        return
    with pytest.raises(ValueError, match="Cs"):
        PixelLogisticRegressionCV(Cs).fit(X, y, groups=groups)


def test_groups_are_requested_by_default():
    X, y, groups = films()
    with config_context(enable_metadata_routing=True):
        search = make_pipeline(Resize(6), PixelLogisticRegressionCV(CS, cv=3))
        search.fit(X, y, groups=groups)
    assert search[-1].scores_.shape == (3, 3)
    assert roc_auc_score(y, search.predict_proba(X)[:, 1]) > 0.8


def test_one_class_only():
    X, y, groups = films()
    with pytest.raises(ValueError, match="one class only"):
        PixelLogisticRegressionCV(CS).fit(X, y * 0, groups=groups)


def test_progress_is_drawn_only_on_request(capfd):
    X, y, groups = films()
    PixelLogisticRegressionCV(CS, cv=3).fit(X, y, groups=groups)
    assert capfd.readouterr() == ("", "")
    PixelLogisticRegressionCV(CS, cv=3, verbose=1).fit(X, y, groups=groups)
    assert "9/9" in capfd.readouterr().err
