import pickle

import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedGroupKFold,
    TunedThresholdClassifierCV,
    cross_val_score,
    cross_validate,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from sklearn_cxr import metrics
from sklearn_cxr.metrics import (
    constrained_sensitivity_scorer,
    constrained_specificity_scorer,
    nan_average_precision_score,
    nan_average_precision_scorer,
    nan_roc_auc_score,
    nan_roc_auc_scorer,
    sensitivity_at_specificity,
    sensitivity_at_specificity_scorer,
    specificity_at_sensitivity,
    specificity_at_sensitivity_scorer,
)
from sklearn_cxr.model_selection import MultilabelStratifiedGroupKFold


class LabelByLabel(ClassifierMixin, BaseEstimator):
    """Logistic regressions on the known images of each label; probabilities as one matrix."""

    def __init__(self, C=1.0):
        self.C = C

    def fit(self, X, Y, sample_weight=None):
        known = ~np.isnan(Y)
        self.models_ = [
            LogisticRegression(C=self.C).fit(X[k], Y[k, j]) for j, k in enumerate(known.T)
        ]
        # Two labels are two classes to scikit-learn's own way from estimators to scores.
        self.classes_ = np.arange(Y.shape[1])
        return self

    def predict_proba(self, X):
        return np.stack([model.predict_proba(X)[:, 1] for model in self.models_], axis=1)


def findings(n_labels=2, unknown=0.2, seed=0):
    rng = np.random.RandomState(seed)
    groups = np.repeat(np.arange(60), rng.randint(1, 5, 60))
    X = rng.normal(size=(len(groups), 5))
    Y = (X[:, :n_labels] + rng.normal(size=(len(groups), n_labels)) > 0).astype(float)
    Y[rng.uniform(size=Y.shape) < unknown] = np.nan
    return X, Y, groups


def films(seed=0, n_patients=120):
    rng = np.random.RandomState(seed)
    groups = np.repeat(np.arange(n_patients), rng.randint(1, 5, n_patients))
    y = (rng.uniform(size=n_patients) < 0.4)[groups].astype(int)
    X = rng.normal(size=(len(y), 3)) + 2 * y[:, None] + rng.normal(size=(n_patients, 3))[groups]
    return X, np.array(["normal", "pneumonia"])[y], groups


@pytest.mark.parametrize(
    ("scorer", "metric"),
    [
        (nan_roc_auc_scorer, nan_roc_auc_score),
        (nan_average_precision_scorer, nan_average_precision_score),
    ],
)
@pytest.mark.parametrize("n_labels", [2, 3])
def test_a_search_over_unknown_labels_by_patient(scorer, metric, n_labels):
    X, Y, groups = findings(n_labels)
    folds = MultilabelStratifiedGroupKFold(3)
    search = GridSearchCV(LabelByLabel(), {"C": [1e-4, 1.0]}, scoring=scorer, cv=folds)
    search.fit(X, Y, groups=groups)
    for i, C in enumerate([1e-4, 1.0]):
        for k, (train, test) in enumerate(folds.split(X, Y, groups)):
            model = LabelByLabel(C).fit(X[train], Y[train])
            expected = metric(Y[test], model.predict_proba(X[test]))
            assert search.cv_results_[f"split{k}_test_score"][i] == pytest.approx(expected)


@pytest.mark.parametrize("model", [KNeighborsClassifier(5), RandomForestClassifier(5)])
def test_lists_of_scikit_learns_multilabel_classifiers(model):
    X, Y, _ = findings(3, unknown=0)
    model.fit(X, Y)
    parts = model.predict_proba(X)
    matrix = np.stack([part[:, 1] for part in parts], axis=1)
    Y[::7, 1] = np.nan
    assert nan_roc_auc_scorer(model, X, Y) == nan_roc_auc_score(Y, matrix)


def test_labels_that_had_one_class_in_training():
    X, Y, _ = findings(3, unknown=0)
    one = Y.copy()
    one[:, 0], one[:, 2] = 0, 1
    model = KNeighborsClassifier(5).fit(X, one)
    assert [part.shape[1] for part in model.predict_proba(X)] == [1, 2, 1]
    middle = nan_roc_auc_score(Y[:, 1], model.predict_proba(X)[1][:, 1])
    # Constant scores for the other two, 0 and 1.
    assert nan_roc_auc_scorer(model, X, Y) == pytest.approx((0.5 + middle + 0.5) / 3)


def test_one_label_and_decision_functions():
    X, Y, _ = findings(1, unknown=0)
    y = Y[:, 0].astype(int)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    expected = nan_roc_auc_score(y, model.predict_proba(X)[:, 1])
    assert nan_roc_auc_scorer(model, X, y) == expected
    assert nan_roc_auc_scorer(model, X, np.where(np.arange(len(y)) < 5, np.nan, y)) > 0.5
    svm = LinearSVC().fit(X, y)
    assert nan_roc_auc_scorer(svm, X, y) == nan_roc_auc_score(y, svm.decision_function(X))


def test_a_label_without_one_class_in_a_fold_is_told():
    X, Y, groups = findings(3)
    Y[:, 1] = groups < 2
    model = LabelByLabel().fit(X, Y)
    later = groups > 1
    with pytest.warns(UndefinedMetricWarning, match="one class only of label 1"):
        found = nan_roc_auc_scorer(model, X[later], Y[later])
    P = model.predict_proba(X[later])[:, [0, 2]]
    assert found == pytest.approx(nan_roc_auc_score(Y[later][:, [0, 2]], P))


def test_an_estimator_without_scores():
    class Labels(BaseEstimator):
        def predict(self, X):
            return np.zeros((len(X), 2))

    with pytest.raises(AttributeError, match="needs predict_proba or decision_function, and Lab"):
        nan_roc_auc_scorer(Labels(), np.zeros((3, 1)), np.eye(3)[:, :2])


def test_several_scorers_at_once_and_weights():
    X, Y, groups = findings()
    scoring = {"auc": nan_roc_auc_scorer, "ap": nan_average_precision_scorer}
    folds = MultilabelStratifiedGroupKFold(3)
    results = cross_validate(LabelByLabel(), X, Y, groups=groups, cv=folds, scoring=scoring)
    single = cross_val_score(LabelByLabel(), X, Y, groups=groups, cv=folds, scoring=scoring["ap"])
    np.testing.assert_array_equal(results["test_ap"], single)
    weights = np.random.RandomState(0).uniform(size=len(X))
    model = LabelByLabel().fit(X, Y)
    assert nan_roc_auc_scorer(model, X, Y, sample_weight=weights) == nan_roc_auc_score(
        Y, model.predict_proba(X), sample_weight=weights
    )


def test_weights_are_routed_to_a_copy_that_asks_for_them():
    X, Y, groups = findings()
    weights = np.random.RandomState(0).uniform(size=len(X))
    folds = MultilabelStratifiedGroupKFold(3)
    with sklearn.config_context(enable_metadata_routing=True):
        scorer = pickle.loads(pickle.dumps(nan_roc_auc_scorer))
        scorer.set_score_request(sample_weight=True)
        model = LabelByLabel().set_fit_request(sample_weight=False)
        search = GridSearchCV(model, {"C": [1.0]}, scoring=scorer, cv=folds)
        search.fit(X, Y, groups=groups, sample_weight=weights)
    train, test = next(iter(folds.split(X, Y, groups)))
    model = LabelByLabel().fit(X[train], Y[train])
    assert search.cv_results_["split0_test_score"][0] == pytest.approx(
        nan_roc_auc_score(Y[test], model.predict_proba(X[test]), sample_weight=weights[test])
    )


@pytest.mark.parametrize(
    ("scorer", "metric"),
    [
        (sensitivity_at_specificity_scorer, sensitivity_at_specificity),
        (specificity_at_sensitivity_scorer, specificity_at_sensitivity),
    ],
)
@pytest.mark.parametrize("model", [LogisticRegression(), KNeighborsClassifier(15)])
def test_ranking_scorers_in_a_search_by_patient(scorer, metric, model):
    X, y, groups = films()
    folds = StratifiedGroupKFold(3)
    grid = {"C": [1e-3, 1.0]} if isinstance(model, LogisticRegression) else {"n_neighbors": [15]}
    search = GridSearchCV(model, grid, scoring=scorer, cv=folds).fit(X, y, groups=groups)
    train, test = next(iter(folds.split(X, y, groups)))
    own = sklearn.clone(model).set_params(**{k: v[0] for k, v in grid.items()})
    own.fit(X[train], y[train])
    expected = metric(y[test], own.predict_proba(X[test])[:, 1])
    assert search.cv_results_["split0_test_score"][0] == pytest.approx(expected)


class RecordingFolds(StratifiedGroupKFold):
    seen = None

    def split(self, X, y=None, groups=None):
        RecordingFolds.seen = groups
        for train, test in super().split(X, y, groups):
            assert not set(groups[train]) & set(groups[test])
            yield train, test


@pytest.mark.parametrize("routed", [True, False])
@pytest.mark.parametrize(
    ("scorer", "kept"),
    [(constrained_specificity_scorer, "pneumonia"), (constrained_sensitivity_scorer, "normal")],
)
def test_tuned_thresholds_by_patient(scorer, kept, routed):
    X, y, groups = films()
    folds, model = RecordingFolds(4), LogisticRegression()
    RecordingFolds.seen = None
    with sklearn.config_context(enable_metadata_routing=routed):
        cv = folds if routed else list(folds.split(X, y, groups))
        tuned = TunedThresholdClassifierCV(model, scoring=scorer, cv=cv, thresholds=200)
        tuned.fit(X, y, **({"groups": groups} if routed else {}))
    assert RecordingFolds.seen is groups
    assert 0 <= tuned.best_score_ <= 1
    # The threshold keeps 0.95 of that class in every fold, and not by calling all alike.
    shares = {"pneumonia": [], "normal": []}
    for train, test in StratifiedGroupKFold(4).split(X, y, groups):
        probability = model.fit(X[train], y[train]).predict_proba(X[test])[:, 1]
        predicted = np.where(probability >= tuned.best_threshold_, "pneumonia", "normal")
        for name, own in shares.items():
            own.append(np.mean(predicted[y[test] == name] == name))
    other = "normal" if kept == "pneumonia" else "pneumonia"
    assert min(shares[kept]) >= 0.95
    assert np.mean(shares[other]) == pytest.approx(tuned.best_score_, abs=0.03)
    assert tuned.best_score_ > 0.2


def test_scorers_describe_themselves():
    for name in metrics.__all__:
        if name.endswith("_scorer"):
            scorer = getattr(metrics, name)
            assert scorer.__name__ == name and f"import {name}" in scorer.__doc__
            assert name[: -len("_scorer")] in repr(scorer)
