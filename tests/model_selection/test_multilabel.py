import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_cxr.datasets import load_nih
from sklearn_cxr.model_selection import MultilabelStratifiedGroupKFold, check_patient_leakage
from sklearn_cxr.preprocessing import ImageReader

# Positives per image of the 14 findings in ChestX-ray14, from common to rare.
PREVALENCE = (
    np.array(
        [11559, 2776, 13317, 19894, 5782, 6331, 1431, 5302, 4667, 2303, 2516, 1686, 3385, 227]
    )
    / 112120
)


def findings(n_patients, seed=0, unknown=0.1, prevalence=PREVALENCE):
    """Findings that recur in a patient's images, 0/1/NaN, and the patient of each image."""
    rng = np.random.RandomState(seed)
    images = np.minimum(rng.geometric(0.28, n_patients), 60)
    groups = np.repeat(np.arange(n_patients) + 1, images)
    own = rng.beta(0.3, 0.3 * (1 / prevalence - 1), size=(n_patients, len(prevalence)))
    y = (rng.random_sample((len(groups), len(prevalence))) < own[groups - 1]).astype(float)
    y[rng.random_sample(y.shape) < unknown] = np.nan
    return groups, y


def folds_of(splitter, y, groups):
    return [test for _, test in splitter.split(np.zeros(len(groups)), y, groups)]


@pytest.mark.parametrize("shuffle", [False, True])
def test_label_shares_are_kept_in_every_fold(shuffle):
    groups, y = findings(2000)
    splitter = MultilabelStratifiedGroupKFold(
        5, shuffle=shuffle, random_state=0 if shuffle else None
    )
    splits = list(splitter.split(y, y, groups))
    assert check_patient_leakage(groups, splits) == 5
    assert sorted(np.concatenate([test for _, test in splits])) == list(range(len(y)))
    positives = np.array([np.nansum(y[test], axis=0) for _, test in splits])
    known = np.array([(~np.isnan(y[test])).sum(axis=0) for _, test in splits])
    sizes = np.array([len(test) for _, test in splits])
    # Nearly equal: no fold is more than two images off in a label, known or positive.
    assert np.abs(positives - np.nansum(y, axis=0) / 5).max() <= 2
    assert np.abs(known - (~np.isnan(y)).sum(axis=0) / 5).max() <= 6
    assert np.abs(sizes - len(y) / 5).max() <= 6
    for train, test in splits:
        assert sorted([*train, *test]) == list(range(len(y)))


def test_far_nearer_than_a_random_grouped_split():
    groups, y = findings(800, seed=1)
    rng = np.random.RandomState(0)
    fold_of_patient = rng.permutation(np.arange(800) % 5)
    by_chance = [np.flatnonzero(fold_of_patient[groups - 1] == fold) for fold in range(5)]
    ours = folds_of(MultilabelStratifiedGroupKFold(5), y, groups)

    def worst(tests):
        positives = np.array([np.nansum(y[test], axis=0) for test in tests])
        return np.abs(positives - positives.mean(axis=0)).max()

    assert worst(ours) < worst(by_chance) / 5


@pytest.mark.parametrize("seed", range(8))
def test_every_fold_has_every_label_that_has_patients_enough(seed):
    rng = np.random.RandomState(seed)
    groups = np.repeat(np.arange(30), rng.randint(1, 6, 30))
    y = np.zeros((len(groups), 3))
    for label, n_patients in enumerate((4, 7, 12)):
        chosen = rng.choice(30, n_patients, replace=False)
        y[:, label] = np.isin(groups, chosen) & (rng.random_sample(len(groups)) < 0.9)
        y[np.unique(groups, return_index=True)[1][chosen], label] = 1
    for test in folds_of(MultilabelStratifiedGroupKFold(4), y, groups):
        assert (y[test].sum(axis=0) > 0).all()
        assert ((1 - y[test]).sum(axis=0) > 0).all()


def test_a_patient_with_most_positives_does_not_starve_the_others():
    groups = np.array([0] * 20 + [1, 2, 3] + list(range(4, 40)))
    y = np.zeros((len(groups), 2))
    y[:23, 0] = 1
    y[23:40, 1] = 1
    for test in folds_of(MultilabelStratifiedGroupKFold(4), y, groups):
        assert y[test, 0].sum() >= 1


@pytest.mark.parametrize(
    "labels", [["normal", "bacterial", "viral"], [0, 1, 2], [0.0, 1.0, np.nan]]
)
def test_one_vector_of_classes(labels):
    rng = np.random.RandomState(0)
    groups = np.repeat(np.arange(120), rng.randint(1, 5, 120))
    y = np.array(labels)[rng.choice(3, size=len(groups), p=[0.2, 0.5, 0.3])]
    for test in folds_of(MultilabelStratifiedGroupKFold(4), y, groups):
        for label in labels[:2]:
            assert abs(np.sum(y[test] == label) - np.sum(y == label) / 4) <= 1


@pytest.mark.parametrize(
    "convert",
    [
        lambda y: y.tolist(),
        pd.DataFrame,
        lambda y: pd.DataFrame(y).astype("Int64"),
        lambda y: np.where(np.isnan(y), None, y),
    ],
    ids=["list", "frame", "Int64", "object"],
)
def test_label_containers(convert):
    groups, y = findings(200, prevalence=np.array([0.3, 0.1]))
    expected = folds_of(MultilabelStratifiedGroupKFold(3), y, groups)
    got = folds_of(MultilabelStratifiedGroupKFold(3), convert(y), groups)
    for a, b in zip(expected, got, strict=True):
        np.testing.assert_array_equal(a, b)


def test_names_of_patients_do_not_matter():
    groups, y = findings(200, prevalence=np.array([0.3, 0.1]))
    expected = folds_of(MultilabelStratifiedGroupKFold(3), y, groups)
    for renamed in ([f"p{g}" for g in groups], pd.Series(-groups, index=groups[::-1])):
        got = folds_of(MultilabelStratifiedGroupKFold(3), y, renamed)
        for a, b in zip(expected, got, strict=True):
            np.testing.assert_array_equal(a, b)


def test_random_state():
    groups, y = findings(200, prevalence=np.array([0.3, 0.1]))

    def folds(random_state):
        splitter = MultilabelStratifiedGroupKFold(3, shuffle=True, random_state=random_state)
        return [list(test) for test in folds_of(splitter, y, groups)]

    assert folds(0) == folds(0)
    assert folds(0) != folds(1)


def test_rare_labels_are_named():
    groups = np.arange(20)
    y = np.zeros((20, 3))
    y[:10, 0] = 1
    y[:2, 1] = 1
    splitter = MultilabelStratifiedGroupKFold(3)
    with pytest.warns(UserWarning) as record:
        tests = folds_of(splitter, y, groups)
    assert len(record) == 1 and record[0].filename == __file__
    message = str(record[0].message)
    assert "label 1 positive in 2 patients; label 2 positive in 0 patients" in message
    assert "label 0" not in message and "negative" not in message
    assert record[0].filename == __file__
    assert sorted(len(test) for test in tests) == [6, 7, 7]


def test_rare_negatives_are_named():
    y = np.array([[1, 0], [1, 1]] * 10)
    y[3, 1] = 0
    y[0, 0] = 0
    with pytest.warns(UserWarning, match="label 0 negative in 1 patient;? ?"):
        folds_of(MultilabelStratifiedGroupKFold(2), y, np.arange(20))


@pytest.mark.parametrize(
    ("y", "groups", "message"),
    [
        (np.zeros((6, 2)), None, "groups=None"),
        (None, np.arange(6), "y=None"),
        (np.zeros((6, 2)), [1, 2, None, 4, 5, 6], "without a patient id"),
        (np.zeros((6, 2)), [1, 1, 1, 2, 2, 2], "n_splits=3 for 2 patients"),
        (np.full((6, 2), 2), np.arange(6), "expected 0, 1 or NaN"),
        (np.zeros((6, 2, 2)), np.arange(6), r"shape \(6, 2, 2\)"),
        (np.linspace(0, 1, 6), np.arange(6), "continuous"),
        (np.zeros((5, 2)), np.arange(6), "inconsistent numbers"),
    ],
)
def test_errors(y, groups, message):
    with pytest.raises(ValueError, match=message):
        list(MultilabelStratifiedGroupKFold(3).split(np.zeros(6), y, groups))


def test_splitter_protocol():
    splitter = MultilabelStratifiedGroupKFold(4, shuffle=True, random_state=7)
    assert splitter.get_n_splits() == splitter.get_n_splits(1, 2, 3) == 4
    assert repr(splitter) == (
        "MultilabelStratifiedGroupKFold(n_splits=4, random_state=7, shuffle=True)"
    )
    assert splitter.get_metadata_routing().split.requests == {"groups": True}
    with pytest.raises(ValueError, match="n_splits=2 or more"):
        MultilabelStratifiedGroupKFold(1)
    with pytest.raises(ValueError, match="random_state has no effect"):
        MultilabelStratifiedGroupKFold(random_state=0)


class OnePerLabel(ClassifierMixin, BaseEstimator):
    """A logistic regression per label, on the images where that label is known."""

    def __init__(self, C=1.0):
        self.C = C

    def fit(self, X, y):
        known = ~np.isnan(y)
        self.models_ = [
            LogisticRegression(C=self.C).fit(X[known[:, k]], y[known[:, k], k])
            for k in range(y.shape[1])
        ]
        return self

    def predict_proba(self, X):
        return np.column_stack([model.predict_proba(X)[:, 1] for model in self.models_])


def mean_auc(estimator, X, y):
    """Mean over the labels of the area under the curve where they are known."""
    scores = estimator.predict_proba(X)
    known = ~np.isnan(y)
    return np.mean(
        [roc_auc_score(y[known[:, k], k], scores[known[:, k], k]) for k in range(y.shape[1])]
    )


@pytest.mark.parametrize("routing", [False, True])
def test_grid_search_over_fourteen_labels(routing):
    groups, y = findings(700, seed=3, prevalence=3 * PREVALENCE)
    rng = np.random.RandomState(0)
    X = np.nan_to_num(y) @ rng.normal(size=(14, 20)) + rng.normal(size=(len(y), 20))
    search = GridSearchCV(
        make_pipeline(StandardScaler(), OnePerLabel()),
        {"oneperlabel__C": [1e-6, 1.0]},
        cv=MultilabelStratifiedGroupKFold(3),
        scoring=mean_auc,
        error_score="raise",
    )
    with sklearn.config_context(enable_metadata_routing=routing):
        search.fit(X, y, groups=groups)
        scores = cross_val_score(
            search.best_estimator_,
            X,
            y,
            scoring=mean_auc,
            cv=search.cv,
            **({"params": {"groups": groups}} if routing else {"groups": groups}),
        )
    assert search.n_splits_ == 3
    assert search.best_params_ == {"oneperlabel__C": 1.0}
    assert search.best_score_ > 0.8
    # An AUC is undefined in a fold without a positive: here every fold has all 14.
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(scores.mean(), search.best_score_)


def test_as_many_patients_as_nih():
    groups, y = findings(30805)
    # A quadratic algorithm would take minutes here.
    tests = folds_of(MultilabelStratifiedGroupKFold(5), y, groups)
    shares = np.array([np.nanmean(y[test], axis=0) for test in tests])
    assert np.abs(shares - np.nanmean(y, axis=0)).max() < 0.0005


def test_real_nih_labels(data_root):
    frame = pd.read_csv(data_root / "nih" / "Data_Entry_2017.csv")
    table = frame["Finding Labels"].str.get_dummies("|").drop(columns="No Finding")
    assert table.shape == (106, 14)
    holders = table.groupby(frame["Patient ID"]).max().sum()
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        splits = list(MultilabelStratifiedGroupKFold(3).split(frame, table, frame["Patient ID"]))
    assert check_patient_leakage(frame["Patient ID"], splits) == 3
    rare = [k for k, name in enumerate(table) if holders[name] < 3]
    assert all(
        f"label {k} positive in {holders.iloc[k]} patient" in str(record[0].message) for k in rare
    )
    for _, test in splits:
        assert abs(len(test) - 106 / 3) < 3
        counts = table.iloc[test].sum()
        assert (counts[holders >= 3] >= 1).all()
        # Labels of many patients are spread to within two images.
        common = holders >= 7
        assert (counts - table.sum() / 3)[common].abs().max() <= 2


class NeverAlone(KNeighborsClassifier):
    """Nearest neighbours that answer two columns for a label that a fold has none of."""

    def predict_proba(self, X):
        return [
            p if p.shape[1] == 2 else np.column_stack([p, 1 - p]) for p in super().predict_proba(X)
        ]


# Some findings of the slice have fewer positive patients than there are folds.
@pytest.mark.filterwarnings("ignore:.*positive in:UserWarning")
def test_grid_search_over_the_fourteen_labels_of_real_nih_films(data_root):
    films = load_nih(data_root / "nih", subset="all", task="multilabel")
    assert films.target.shape == (106, 14)

    def negative_brier(estimator, X, y):
        positive = np.column_stack([p[:, 1] for p in estimator.predict_proba(X)])
        return -np.nanmean((positive - y) ** 2)

    search = GridSearchCV(
        make_pipeline(ImageReader(16, output="flat"), NeverAlone(n_neighbors=3)),
        {"neveralone__n_neighbors": [1, 25]},
        cv=MultilabelStratifiedGroupKFold(3),
        scoring=negative_brier,
        error_score="raise",
    ).fit(films.images, films.target, groups=films.groups)
    # A single neighbour is far too sure of itself.
    assert search.best_params_ == {"neveralone__n_neighbors": 25}
    assert search.cv_results_["mean_test_score"][1] > search.cv_results_["mean_test_score"][0]
