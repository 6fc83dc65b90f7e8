import json
import ntpath
import os
import sys
import types
import warnings

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError, UndefinedMetricWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    confusion_matrix,
    make_scorer,
    recall_score,
    roc_auc_score,
)
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC, LinearSVC

from sklearn_cxr.exceptions import ContaminationWarning, PatientLeakageError
from sklearn_cxr.imbalance import ResampledClassifier
from sklearn_cxr.inspection import (
    ErrorGalleryDisplay,
    EvaluationReport,
    SubgroupDisplay,
    _evaluate_films,
    compare_reports,
    evaluate,
)
from sklearn_cxr.inspection._evaluate_films import film_keys
from sklearn_cxr.metrics import (
    calibration_error,
    multilabel_report,
    operating_point,
    roc_auc_interval,
    roc_auc_test,
)
from sklearn_cxr.neural_network import WeightsInfo
from sklearn_cxr.preprocessing import Flatten

matplotlib.use("Agg")


class Given(ClassifierMixin, BaseEstimator):
    """Answers its only feature as the probability of the second class."""

    def __init__(self, classes=(0, 1)):
        self.classes = classes

    def fit(self, X=None, y=None):
        self.classes_ = np.array(self.classes)
        return self

    def predict(self, X):
        return self.classes_[(np.asarray(X)[:, 0] >= 0.5).astype(int)]

    def predict_proba(self, X):
        X = np.asarray(X)
        return np.column_stack([1 - X[:, 0], X[:, 0]]) if X.shape[1] == 1 else X


@pytest.fixture
def films():
    rng = np.random.RandomState(0)
    y = np.repeat(rng.randint(2, size=60), 4)
    groups = np.repeat([f"p{i:02d}" for i in range(60)], 4)
    logit = 1.5 * (2 * y - 1) + np.repeat(rng.normal(size=60), 4) + rng.normal(size=240)
    return (1 / (1 + np.exp(-logit)))[:, None], y, groups


def judge(X, y, **given):
    given = {"n_resamples": 50, "random_state": 0, **given}
    return evaluate(Given().fit(), X, y, **given)


# two classes


def test_figures_of_two_classes(films):
    X, y, groups = films
    report = judge(X, y, groups=groups)
    score, figures = X[:, 0], report.metrics["estimate"]
    (tn, fp), (fn, tp) = confusion_matrix(y, score >= 0.5)
    expected = {
        "roc_auc": roc_auc_score(y, score),
        "average_precision": average_precision_score(y, score),
        "accuracy": (tp + tn) / 240,
        "sensitivity": tp / (tp + fn),
        "specificity": tn / (tn + fp),
        "ppv": tp / (tp + fp),
        "npv": tn / (tn + fn),
        "calibration_error": calibration_error(y, score, strategy="quantile"),
        "brier": brier_score_loss(y, score),
    }
    assert figures.index.tolist() == list(expected)
    np.testing.assert_allclose(figures, list(expected.values()))
    limits = roc_auc_interval(y, score, groups=groups, transform="logit")
    np.testing.assert_allclose(report.metrics.loc["roc_auc", ["low", "high"]], limits[1:3])
    assert (report.metrics["low"] <= figures).all()
    assert (report.metrics["high"] >= figures).all()
    assert report.confusion.to_numpy().tolist() == [[tn, fp], [fn, tp]]
    assert (report.n_images, report.n_patients) == (240, 60)
    assert report.notes == []


def test_intervals_know_the_patients(films):
    X, y, groups = films
    by_patient = judge(X, y, groups=groups).metrics
    alone = judge(X, y)
    width = (by_patient["high"] - by_patient["low"]) / (
        alone.metrics["high"] - alone.metrics["low"]
    )
    assert (width[["roc_auc", "accuracy", "sensitivity", "specificity"]] > 1.2).all()
    assert alone.n_patients is None
    assert "Patients were not given" in str(alone)


def test_labels_and_the_positive_class(films):
    X, y, groups = films
    words = np.where(y == 1, "ill", "well")
    model = Given(("ill", "well")).fit()
    default = evaluate(model, X, words, groups=groups, n_resamples=10)
    assert default.names == ["ill", "well"]
    np.testing.assert_allclose(
        default.metrics.loc["roc_auc", "estimate"], roc_auc_score(1 - y, X[:, 0])
    )
    asked = evaluate(
        model,
        X,
        words,
        groups=groups,
        pos_label="ill",
        label_names=["Ill", "Well"],
        n_resamples=10,
    )
    assert asked.names == ["Well", "Ill"]
    np.testing.assert_allclose(
        asked.metrics.loc["roc_auc", "estimate"], roc_auc_score(y, 1 - X[:, 0])
    )


FORMS = {
    "list": list,
    "U": np.asarray,
    "object series": lambda words: pd.Series(list(words), dtype=object, index=range(240, 0, -1)),
    "string series": lambda words: pd.Series(list(words), dtype="string"),
    "categories": lambda words: pd.Series(pd.Categorical(words)),
}


@pytest.mark.parametrize("form", FORMS)
def test_words_in_any_form(films, form):
    X, y, groups = films
    words = FORMS[form](np.where(y == 1, "well", "ill"))
    model = LogisticRegression().fit(X, words)
    report = evaluate(model, X, words, groups=groups, n_resamples=10)
    expected = roc_auc_score(y, model.predict_proba(X)[:, 1])
    np.testing.assert_allclose(report.metrics.loc["roc_auc", "estimate"], expected)
    assert report.names == ["ill", "well"]
    frame = pd.DataFrame({"sex": ["F", "M"] * 120})
    display = SubgroupDisplay.from_estimator(
        model, X, words, frame=frame, columns=[], metrics=["accuracy"]
    )
    assert display.report.loc[("all", "all"), "n_positive"] == y.sum()
    images = np.zeros((240, 4, 4))
    gallery = ErrorGalleryDisplay.from_estimator(model, X, words, images=images, n_errors=1)
    wrong = (np.asarray(model.predict(X)) == "well") != (y == 1)
    assert sum(gallery.counts.values()) == wrong.sum()
    matplotlib.pyplot.close("all")
    with pytest.raises(ValueError, match="films of the class 'ill' only; expected films of both"):
        evaluate(model, X, FORMS[form](np.full(240, "ill")), n_resamples=10)


def test_three_classes_of_words_of_which_one_is_here(films):
    X, _, groups = films
    three = pd.Series(np.array(["a", "b", "c"])[np.arange(240) % 3], dtype=object)
    model = LogisticRegression().fit(X, three)
    with pytest.raises(ValueError, match="films of the class 'b' only; expected films of two"):
        evaluate(model, X, pd.Series(["b"] * 240, dtype=object), groups=groups)
    with pytest.raises(ValueError, match="classes 'x' in y"):
        evaluate(model, X, pd.Series(["b", "x"] * 120, dtype=object), groups=groups)
    with pytest.raises(ValueError, match="1 films without a class"):
        evaluate(model, X, [None, *three[1:]], groups=groups)


# the threshold


def tuned(scoring):
    return TunedThresholdClassifierCV(LogisticRegression(), cv=2, scoring=scoring, thresholds=20)


CUTTING = {
    "forest": RandomForestClassifier(4, random_state=0),
    "neighbours": KNeighborsClassifier(2),
    "fixed": FixedThresholdClassifier(LogisticRegression(), threshold=0.2),
    "fixed, first class": FixedThresholdClassifier(
        LogisticRegression(), threshold=0.2, pos_label=0
    ),
    "fixed score": FixedThresholdClassifier(
        LogisticRegression(), threshold=1.0, response_method="decision_function"
    ),
    "fixed, resampled": ResampledClassifier(
        FixedThresholdClassifier(LogisticRegression(), threshold=0.2)
    ),
    "tuned": tuned("f1"),
    "tuned, first class": tuned(make_scorer(recall_score, pos_label=0)),
    "linear": LinearSVC(),
}


@pytest.mark.parametrize("pos_label", [0, 1])
@pytest.mark.parametrize("name", CUTTING)
def test_the_own_threshold_is_what_predict_does(films, name, pos_label):
    X, y, groups = films
    X = np.column_stack([X[:, 0], np.random.RandomState(0).normal(size=(240, 2))])
    model = CUTTING[name].fit(X[:120], y[:120])
    test, truth = X[120:], y[120:]
    frame = pd.DataFrame({"sex": ["F", "M"] * 60})
    report = evaluate(
        model, test, truth, groups=groups[120:], pos_label=pos_label, frame=frame, n_resamples=5
    )
    called, positive = model.predict(test) == pos_label, truth == pos_label
    assert report.confusion.to_numpy().tolist() == confusion_matrix(positive, called).tolist()
    np.testing.assert_allclose(report.subgroups["accuracy"].iloc[0], (called == positive).mean())
    assert np.array_equal(report.scores >= report.threshold, called)
    assert report.notes == []
    if name == "fixed":
        assert report.threshold == pytest.approx(0.2 if pos_label else 0.8)


def test_pictures_count_what_predict_calls(films):
    X, y, _ = films
    model, called = OfItsOwnMind().fit(), np.arange(240) % 2 == 1
    frame = pd.DataFrame({"sex": ["F", "M"] * 120})
    display = SubgroupDisplay.from_estimator(model, X, y, frame=frame, metrics=["accuracy"])
    np.testing.assert_allclose(display.report["sensitivity"].iloc[0], called[y == 1].mean())
    images = np.zeros((240, 4, 4), dtype=np.uint8)
    gallery = ErrorGalleryDisplay.from_estimator(model, X, y, images=images, n_errors=1)
    assert gallery.counts["false negative"] == ((y == 1) & ~called).sum()
    matplotlib.pyplot.close("all")


class OfItsOwnMind(Given):
    """Predicts what no threshold of its probability says."""

    def predict(self, X):
        return self.classes_[np.arange(len(X)) % 2]


def test_a_predict_that_follows_no_threshold_is_believed_and_told(films):
    X, y, groups = films
    images = np.zeros((240, 4, 4), dtype=np.uint8)
    report = evaluate(
        OfItsOwnMind().fit(), X, y, groups=groups, n_resamples=5, n_errors=2, images=images
    )
    called = np.arange(240) % 2
    assert report.confusion.to_numpy().tolist() == confusion_matrix(y, called).tolist()
    assert "predict calls them" in report.notes[0]
    missed = report.errors.loc[report.errors["kind"] == "false negative", "row"]
    assert (called[missed] == 0).all() and (y[missed] == 1).all()
    given = evaluate(OfItsOwnMind().fit(), X, y, groups=groups, n_resamples=5, threshold=0.5)
    expected = confusion_matrix(y, X[:, 0] >= 0.5).tolist()
    assert given.confusion.to_numpy().tolist() == expected


def test_thresholds_are_told_apart(films):
    X, y, groups = films
    own = judge(X, y, groups=groups)
    assert (own.threshold, own.threshold_origin) == (0.5, "the estimator's own")
    given = judge(X, y, groups=groups, threshold=0.3)
    assert (given.threshold, given.threshold_origin) == (0.3, "given")
    point = operating_point(y, X[:, 0], target=("sensitivity", 0.9), groups=groups)
    found = judge(X, y, groups=groups, threshold=point)
    assert found.threshold == point.threshold
    assert found.threshold_origin == "an operating point found beforehand"
    assert found.notes == []


def test_a_threshold_chosen_on_the_judged_films_is_confessed(films):
    X, y, groups = films
    report = judge(X, y, groups=groups, threshold=("sensitivity", 0.95))
    assert report.metrics.loc["sensitivity", "estimate"] >= 0.95
    assert "flattered" in report.notes[0]
    assert "chosen on these films for sensitivity 0.95" in str(report)
    assert "flattered" in report._repr_html_()
    assert "chosen on these films" in json.loads(report.to_json())["threshold_origin"]


@pytest.mark.parametrize("inside", ["alone", "pipeline", "search"])
def test_a_tuned_threshold_is_that_of_predict(films, inside):
    X, y, groups = films
    y = np.r_[y[:200], np.zeros(40, int)]
    model = TunedThresholdClassifierCV(LogisticRegression(), cv=3)
    if inside == "pipeline":
        model = make_pipeline(Flatten(), model)
    if inside == "search":
        grid = {"thresholds": [50, 100]}
        model = GridSearchCV(model, grid, cv=2, scoring="accuracy")
    model.fit(X, y)
    report = evaluate(model, X, y, groups=groups, n_resamples=10)
    predicted = model.predict(X)
    np.testing.assert_allclose(report.metrics.loc["accuracy", "estimate"], (predicted == y).mean())
    assert report.confusion.to_numpy().tolist() == confusion_matrix(y, predicted).tolist()
    assert report.threshold_origin == "tuned on the training data"
    assert report.name == "TunedThresholdClassifierCV"


def test_scores_that_are_no_probabilities(films):
    X, y, groups = films
    for model in (
        LinearSVC().fit(X, y),
        FixedThresholdClassifier(
            LogisticRegression(), threshold=0.2, response_method="decision_function"
        ).fit(X, y),
    ):
        report = evaluate(model, X, y, groups=groups, n_resamples=10)
        assert "brier" not in report.metrics.index
        accuracy = report.metrics.loc["accuracy", "estimate"]
        np.testing.assert_allclose(accuracy, (model.predict(X) == y).mean())
        assert "score of 1" in [axis.get_xlabel() for axis in draw(report).axes]


def draw(report):
    return report.plot(figure=matplotlib.figure.Figure())


# several classes, several labels


def test_several_classes(films):
    _, y, groups = films
    rng = np.random.RandomState(0)
    y = (y + np.arange(240) // 4 % 2).astype(int)
    X = rng.normal(size=(240, 3)) + 1.5 * np.eye(3)[y]
    names = np.array(["a", "b", "c"])
    model = LogisticRegression().fit(X, names[y])
    frame = pd.DataFrame({"view": np.where(np.arange(240) % 2, "PA", "AP")})
    report = evaluate(model, X, names[y], groups=groups, frame=frame, n_resamples=20)
    predicted = model.predict(X)
    figures = report.metrics["estimate"]
    np.testing.assert_allclose(figures["accuracy"], (predicted == names[y]).mean())
    aucs = [roc_auc_score(y == k, model.predict_proba(X)[:, k]) for k in range(3)]
    np.testing.assert_allclose(report.labels["roc_auc"].iloc[:3].astype(float), aucs)
    np.testing.assert_allclose(figures["mean_roc_auc"], np.mean(aucs))
    expected = confusion_matrix(names[y], predicted).tolist()
    assert report.confusion.to_numpy().tolist() == expected
    part = frame["view"].to_numpy() == "AP"
    np.testing.assert_allclose(
        report.subgroups.loc[("view", "AP"), "accuracy"],
        (predicted == names[y])[part].mean(),
    )
    assert len(draw(report).axes) == 2
    with pytest.raises(ValueError, match="one threshold is for two classes"):
        evaluate(model, X, names[y], threshold=0.5)
    with pytest.raises(ValueError, match="gallery of errors is for two classes"):
        evaluate(model, X, names[y], n_errors=1, n_resamples=10)


def labels_of(films):
    X, y, groups = films
    Y = np.column_stack([y, 1 - y]).astype(float)
    P = np.column_stack([X[:, 0], 1 - X[:, 0] ** 2])
    return P, Y, groups


def test_several_labels_some_unknown(films):
    P, Y, groups = labels_of(films)
    Y[:40, 1] = np.nan
    report = evaluate(Given().fit(), P, Y, groups=groups, label_names=["mass", "edema"])
    expected = [roc_auc_score(Y[:, 0], P[:, 0]), roc_auc_score(Y[40:, 1], P[40:, 1])]
    np.testing.assert_allclose(report.labels["roc_auc"].iloc[:2].astype(float), expected)
    assert report.labels.loc["edema", "n"] == 200
    np.testing.assert_allclose(report.metrics.loc["mean_roc_auc", "estimate"], np.mean(expected))
    assert len(draw(report).axes) == 2
    assert json.loads(report.to_json())["labels"][1]["label"] == "edema"


def test_parts_of_several_labels_have_intervals(films):
    P, Y, groups = labels_of(films)
    Y[:40, 1] = np.nan
    view = np.where(np.arange(240) % 2, "PA", "AP").astype(object)
    # A part of one patient, who has both classes of the first label, and one of a single film.
    Y[60, 0] = 1 - Y[60, 0]
    view[60:64], view[239] = "LL", "RAO"
    frame = pd.DataFrame({"view": view})
    report = evaluate(Given().fit(), P, Y, groups=groups, frame=frame, columns=["view"])
    parts = report.subgroups
    names = ["mean_roc_auc", "mean_roc_auc_low", "mean_roc_auc_high"]
    np.testing.assert_allclose(
        parts.loc[("all", "all"), names].astype(float), report.metrics.loc["mean_roc_auc"]
    )
    chosen = view == "AP"
    one = chosen & ~np.isnan(Y[:, 1])
    expected = np.mean([roc_auc_score(Y[o, k], P[o, k]) for k, o in ((0, chosen), (1, one))])
    assert parts.loc[[("all", "all"), ("view", "LL")], "n_labels"].tolist() == [Y.shape[1], 1]
    row = parts.loc[("view", "AP"), names].astype(float)
    assert row.iloc[0] == pytest.approx(expected)
    assert row.iloc[1] < row.iloc[0] < row.iloc[2]
    by_itself = multilabel_report(Y[chosen], P[chosen], groups=groups[chosen])
    for name, value in zip(("roc_auc", "roc_auc_low", "roc_auc_high"), row, strict=True):
        assert value == pytest.approx(by_itself[name].iloc[-1])
    assert parts.loc[[("view", "LL"), ("view", "RAO")], names[1:]].isna().all(axis=None)
    lone = parts.loc[("view", "LL"), "mean_roc_auc"]
    assert lone == pytest.approx(roc_auc_score(Y[60:64, 0], P[60:64, 0]))
    alone = evaluate(Given().fit(), P, Y, frame=frame, columns=["view"])
    assert np.isnan(alone.subgroups.loc[("view", "RAO"), "mean_roc_auc"])
    assert f"({row.iloc[1]:.3f} to {row.iloc[2]:.3f})" in str(report)
    assert "Figures of each part with their intervals" in report._repr_html_()


def test_a_label_of_one_class_warns(films):
    P, Y, groups = labels_of(films)
    Y[:, 1] = 0
    with pytest.warns(UndefinedMetricWarning):
        report = evaluate(Given().fit(), P, Y, groups=groups)
    assert np.isnan(report.labels["roc_auc"].iloc[1])
    assert "roc_auc" in str(report)
    assert len(draw(report).axes) == 2


def test_a_forest_of_labels_answers_a_list(films):
    P, Y, groups = labels_of(films)
    forest = RandomForestClassifier(5, max_depth=2, random_state=0).fit(P, Y)
    report = evaluate(forest, P, Y, groups=groups)
    scores = np.column_stack([part[:, 1] for part in forest.predict_proba(P)])
    assert np.array_equal(report.scores, scores)


def test_labels_are_named_by_the_columns(films):
    P, Y, groups = labels_of(films)
    frame = pd.DataFrame(Y, columns=["mass", "edema"]).astype("Int64")
    frame.loc[:9, "mass"] = pd.NA
    report = evaluate(Given().fit(), P, frame, groups=groups)
    assert report.labels.index.tolist() == ["mass", "edema", "mean"]
    assert report.labels.loc["mass", "n"] == 230
    named = evaluate(Given().fit(), P, frame, groups=groups, label_names=["a", "b"])
    assert named.labels.index.tolist() == ["a", "b", "mean"]


# few patients


def test_one_patient_of_a_class_has_figures_without_intervals(films):
    X, _, groups = films
    y = np.zeros(240, int)
    y[:3] = 1
    report = judge(X, y, groups=groups, label_names=["well", "ill"])
    np.testing.assert_allclose(
        report.metrics.loc["average_precision", "estimate"], average_precision_score(y, X[:, 0])
    )
    for metric in ("roc_auc", "average_precision", "brier"):
        assert report.metrics.loc[metric, ["low", "high"]].isna().all()
    assert "only of ill" in report.notes[0] and len(report.notes) == 1
    assert np.isfinite(report.metrics.loc["specificity", "low"])
    json.loads(report.to_json())
    draw(report)


def test_one_patient_of_one_of_three_classes(films):
    _, y, groups = films
    three = np.where(groups == "p00", 2, y)
    P = np.random.RandomState(0).dirichlet(np.ones(3), size=240)
    with pytest.warns(UndefinedMetricWarning, match="fewer than 2 patients"):
        report = evaluate(Given((0, 1, 2)).fit(), P, three, groups=groups, threshold=None)
    row = report.metrics.loc["balanced_accuracy"]
    assert np.isfinite(row["estimate"]) and np.isnan(row["low"])
    assert "only of 2" in report.notes[0]


def test_calibration_is_drawn_in_the_bins_of_its_error():
    y = np.repeat([0, 1], 100)
    score = np.full(200, 0.5)
    score[:8] = [0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9]

    def curve(order):
        report = judge(score[order, None], y[order])
        axis = next(a for a in draw(report).axes if a.get_title() == "Calibration")
        return axis.containers[0].lines[0].get_xydata(), report.metrics

    order = np.random.RandomState(0).permutation(200)
    (points, metrics), (shuffled, _) = curve(np.arange(200)), curve(order)
    np.testing.assert_allclose(points, shuffled)
    # All films of one probability are one bin: no bin of them is all ill or all well.
    low = score <= 0.5
    expected = [[score[rows].mean(), y[rows].mean()] for rows in (low, ~low)]
    np.testing.assert_allclose(points, expected)
    error = sum(rows.mean() * abs(score[rows].mean() - y[rows].mean()) for rows in (low, ~low))
    np.testing.assert_allclose(metrics.loc["calibration_error", "estimate"], error)


# bad input


def test_bad_input(films):
    X, y, groups = films
    with pytest.raises(ValueError, match="films of the class 0 only"):
        judge(X, np.zeros(240, int))
    with pytest.raises(ValueError, match="1 scores that are NaN"):
        judge(np.r_[[[np.nan]], X[1:]], y)
    with pytest.raises(ValueError, match="films of 1 patient"):
        judge(X, y, groups=np.zeros(240))
    with pytest.raises(ValueError, match="5 patient ids"):
        judge(X, y, groups=groups[:5])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        judge(X, y[:5])
    with pytest.raises(ValueError, match="classes 7 in y"):
        judge(X, np.where(y == 1, 7, 0))
    with pytest.raises(ValueError, match="40 films without a class"):
        judge(X, np.r_[np.full(40, np.nan), y[40:]])
    with pytest.raises(ValueError, match="pos_label='ill'"):
        judge(X, y, pos_label="ill")
    with pytest.raises(ValueError, match="3 label_names for 2"):
        judge(X, y, label_names=["a", "b", "c"])
    with pytest.raises(ValueError, match="no frame"):
        judge(X, y, columns=["sex"])
    with pytest.raises(ValueError, match="column per label in both"):
        evaluate(Given().fit(), X, np.eye(3)[np.arange(240) % 3])
    with pytest.raises(NotFittedError):
        evaluate(LogisticRegression(), X, y)
    with pytest.raises(TypeError, match="neither predict_proba nor decision_function"):
        evaluate(Flatten().fit(X), X, y)


def test_patients_of_the_training_are_refused(films):
    X, y, groups = films
    judge(X, y, groups=groups, train_groups=["other"])
    with pytest.raises(PatientLeakageError, match=r"2 of 60 patients .* 'p03'"):
        judge(X, y, groups=groups, train_groups=["p07", "p03", "other"])
    with pytest.raises(ValueError, match="train_groups and no groups"):
        judge(X, y, train_groups=["p03"])


class OfWeights(Given):
    def fit(self, X, y):
        self.weights_info_ = WeightsInfo(
            "nih", mean=(0.5,), std=(0.5,), size=224, trained_on=("nih",)
        )
        return super().fit()


def test_weights_that_know_the_films_are_told_of(films):
    X, y, groups = films
    search = GridSearchCV(make_pipeline(OfWeights()), {}, cv=2).fit(X, y)
    given = {"groups": groups, "n_resamples": 5}
    for estimator in (search, search.best_estimator_, search.best_estimator_[-1]):
        with pytest.warns(ContaminationWarning, match="trained on nih"):
            evaluate(estimator, X, y, dataset="ChestX-ray14", **given)
    # Nothing is said of other films, or where nobody says which they are.
    with warnings.catch_warnings():
        warnings.simplefilter("error", ContaminationWarning)
        evaluate(search, X, y, dataset="kermany", **given)
        evaluate(search, X, y, **given)


@pytest.mark.parametrize("kind", [int, float, np.int64])
def test_patients_of_the_training_with_ids_of_another_type(films, kind):
    X, y, _ = films
    numbers = np.repeat(np.arange(60), 4)
    seen = [kind(7), kind(100)]
    with pytest.raises(PatientLeakageError, match=r"1 patients such as '7' .* Write both in one"):
        judge(X, y, groups=numbers.astype(str), train_groups=seen)
    with pytest.raises(PatientLeakageError, match="such as '00000007' in train_groups"):
        judge(X, y, groups=numbers, train_groups=["00000007", "00000100"])
    judge(X, y, groups=numbers.astype(str), train_groups=[kind(100)])


# what becomes of it


def test_a_notebook_without_matplotlib_shows_the_figures(films, monkeypatch):
    X, y, groups = films
    report = judge(X, y, groups=groups, frame=pd.DataFrame({"sex": ["F", "M"] * 120}))
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    page = report._repr_html_()
    assert "data:image" not in page
    assert "sklearn-cxr[plot]" in page and "Subgroups" in page and "Figures" in page


def test_the_model_is_written_in_full(films):
    X, y, _ = films
    steps = [FixedThresholdClassifier(LogisticRegression(C=1 + i / 7)) for i in range(20)]
    model = Kept(steps).fit(X, y)
    report = evaluate(model, X, y, n_resamples=5)
    assert "..." not in report.model
    assert report.model.count("FixedThresholdClassifier") == 20


class Kept(Given):
    def __init__(self, steps=(), classes=(0, 1)):
        self.steps = steps
        self.classes = classes


def test_json_is_strict_and_holds_no_patient(films):
    X, y, groups = films
    frame = pd.DataFrame({"view": ["PA"] * 239 + ["AP"]})
    report = judge(X, y, groups=groups, frame=frame, split="test", name="m")
    text = report.to_json()
    assert "p03" not in text
    data = json.loads(text, parse_constant=pytest.fail)
    assert data["metrics"]["roc_auc"]["estimate"] == report.metrics.loc["roc_auc", "estimate"]
    parts = {(row["column"], row["value"]): row for row in data["subgroups"]}
    assert parts["view", "AP"]["n_images"] == 1
    assert parts["view", "AP"]["roc_auc"] is None
    assert data["split"] == "test"
    assert data["versions"]["scikit-learn"]


def test_files_are_whole(films, tmp_path):
    X, y, groups = films
    report = judge(X, y, groups=groups, name="a <b> & c")
    report.to_json(tmp_path / "report.json")
    report.to_html(tmp_path / "report.html")
    assert json.loads((tmp_path / "report.json").read_text())["name"] == "a <b> & c"
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "a &lt;b&gt; &amp; c" in page
    assert "<b> & c" not in page
    assert page.count("data:image/png;base64,") == 1
    assert "http" not in page.replace("http-equiv", "")
    assert len(page) < 5e6
    assert sorted(file.name for file in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_errors_come_with_their_films_when_asked_for(films):
    X, y, groups = films
    images = np.zeros((240, 8, 8), dtype=np.uint8)
    report = judge(X, y, groups=groups, n_errors=2, images=images)
    called = X[:, 0] >= 0.5
    missed = np.flatnonzero((y == 1) & ~called)
    worst = missed[X[missed, 0].argmin()]
    assert report.errors.iloc[0].tolist() == ["false negative", worst, X[worst, 0], groups[worst]]
    page = report._repr_html_()
    assert page.count("data:image/jpeg;base64,") == 4
    assert groups[worst] in page
    assert judge(X, y, groups=groups).errors is None
    with pytest.raises(ValueError, match="3 films in images for 240"):
        judge(X, y, n_errors=1, images=images[:3])


def test_a_frame_as_X_brings_its_subgroups(films):
    X, y, groups = films
    table = pd.DataFrame({"score": X[:, 0], "sex": np.where(np.arange(240) % 3, "F", "M")})

    class First(Given):
        def predict_proba(self, X):
            return super().predict_proba(X[["score"]])

    report = evaluate(First().fit(), table, y, groups=groups, n_resamples=10)
    assert report.subgroups.index.tolist() == [("all", "all"), ("sex", "F"), ("sex", "M")]


def test_print_and_pictures(films):
    X, y, groups = films
    report = judge(X, y, groups=groups, split="held out", name="model")
    assert isinstance(report, EvaluationReport)
    auc = report.metrics.loc["roc_auc"]
    text = f"AUC {auc['estimate']:.3f} ({auc['low']:.3f} to {auc['high']:.3f})"
    assert text in repr(report)
    assert "model on held out (240 films of 60 patients)" in str(report)
    figure = draw(report)
    assert [axis.get_title() for axis in figure.axes] == [
        "ROC curve",
        "Precision and recall",
        "Calibration",
        "Scores",
    ]
    scalars = report.scalars()
    assert scalars["roc_auc_low"] == auc["low"]
    assert all(isinstance(value, float) for value in scalars.values())


# several reports


def test_models_on_the_same_films_are_compared(films):
    X, y, groups = films
    files = [f"{row}.png" for row in range(240)]
    given = {"groups": groups, "films": files}
    first, second = judge(X, y, name="a", **given), judge(X**3, y, name="b", **given)
    worse = np.random.RandomState(1).uniform(size=X.shape)
    third = judge(worse, y, name="c", **given)
    table = compare_reports(first, second, third)
    assert table.index.tolist() == ["a", "b", "c"]
    assert table.loc["b", "roc_auc_difference"] == 0
    expected = roc_auc_test(y, worse[:, 0], X[:, 0], groups=groups)
    assert table.loc["c", "roc_auc_difference"] == expected.difference
    assert table.loc["c", "roc_auc_difference_pvalue"] == expected.pvalue
    assert np.isnan(table.loc["a", "roc_auc_difference"])


def test_reports_of_different_films_are_kept_apart(films):
    X, y, groups = films
    half = slice(0, 120)
    first, second = judge(X, y, groups=groups), judge(X[half], y[half], groups=groups[half])
    with pytest.raises(ValueError, match="allow_different_splits=True"):
        compare_reports(first, second)
    table = compare_reports(first, second, allow_different_splits=True)
    assert table["n_images"].tolist() == [240, 120]
    assert table["fingerprint"].nunique() == 2
    assert "roc_auc_difference" not in table


def test_what_makes_a_split_another(films):
    X, y, groups = films
    base = judge(X, y, groups=groups)
    other_patients = judge(X, y, groups=np.char.add("q", groups))
    assert other_patients.fingerprint != base.fingerprint
    order = np.random.RandomState(0).permutation(240)
    shuffled = judge(X[order], y[order], groups=groups[order])
    assert shuffled.fingerprint == base.fingerprint
    assert "roc_auc_difference" not in compare_reports(base, shuffled)
    words = evaluate(
        Given(("no", "yes")).fit(),
        X,
        np.where(y == 1, "yes", "no"),
        groups=groups,
        n_resamples=10,
    )
    assert words.fingerprint == base.fingerprint
    named = [judge(X, y, groups=groups, split=name) for name in ("official", "random")]
    with pytest.raises(ValueError, match="different films"):
        compare_reports(*named)
    assert len(compare_reports(base, named[0])) == 2
    with pytest.raises(TypeError, match="nothing"):
        compare_reports()
    with pytest.raises(TypeError, match="int"):
        compare_reports(base, 3)


def test_other_films_of_the_same_labels_are_not_compared(films):
    X, _, _ = films
    y = np.repeat([0, 1], 120)
    other = X[::-1].copy()
    for groups in (None, np.arange(240)):
        first, second = judge(X, y, groups=groups), judge(other, y, groups=groups)
        with pytest.raises(ValueError, match="different films"):
            compare_reports(first, second)
        table = compare_reports(first, second, allow_different_splits=True)
        assert "roc_auc_difference" not in table
        assert table["fingerprint"].nunique() == 2
        again = compare_reports(first, judge(X.copy(), y, groups=groups))
        assert again["roc_auc_difference"].iloc[1] == 0


def test_the_same_films_in_another_form_need_a_name(films):
    X, y, groups = films
    wide = np.column_stack([1 - X[:, 0], X[:, 0]])
    first, second = (judge(part, y, groups=groups) for part in (X, wide))
    with pytest.raises(ValueError, match="pass films="):
        compare_reports(first, second)
    named = [judge(part, y, groups=groups, split="test") for part in (X, wide)]
    assert "roc_auc_difference" not in compare_reports(*named)
    files = [f"folder/{row}.png" for row in range(240)]
    known = [judge(part, y, groups=groups, films=files) for part in (X, wide)]
    assert compare_reports(*known)["roc_auc_difference"].iloc[1] == 0
    with pytest.raises(ValueError, match="3 names in films for 240"):
        judge(X, y, films=files[:3])


def test_scores_of_pairs_of_classes_are_refused(films):
    X = np.random.default_rng(0).normal(size=(60, 3))
    three = np.arange(60) % 3
    pairs = make_pipeline(Flatten(), SVC(decision_function_shape="ovo")).fit(X, three)
    refused = r"SVC with .*'ovo', whose scores are of pairs .* Set decision_func.*='ovr'\.$"
    resampled = ResampledClassifier(pairs).fit(X, three)
    for model in (pairs, resampled, make_pipeline(Flatten(), resampled)):
        with pytest.raises(ValueError, match=refused):
            evaluate(model, X, three)
    each = ResampledClassifier(SVC()).fit(X, three)
    report = evaluate(each, X, three)
    assert report.kind == "multiclass"
    assert report.name == "ResampledClassifier"
    two = SVC(decision_function_shape="ovo").fit(X, three > 0)
    assert evaluate(two, X, three > 0).kind == "binary"


class ByPath(Given):
    """Answers the probability that it was given for a path."""

    def __init__(self, scores):
        super().__init__()
        self.scores = scores

    def predict_proba(self, X):
        positive = np.array([self.scores[path] for path in X])
        return np.column_stack([1 - positive, positive])

    def predict(self, X):
        return (self.predict_proba(X)[:, 1] >= 0.5).astype(int)


def test_files_of_one_name_in_other_folders_are_other_films():
    def report(folder, first):
        paths = [f"{folder}/patient{first + i}/view1.jpg" for i in range(60)]
        scores = np.random.default_rng(first).uniform(size=60)
        return evaluate(
            ByPath(dict(zip(paths, scores, strict=True))).fit(), paths, np.arange(60) % 2
        )

    base, moved, others = report("valid", 0), report("copy/of/valid", 0), report("test", 900)
    assert base.fingerprint == moved.fingerprint != others.fingerprint
    with pytest.raises(ValueError, match="film"):
        compare_reports(base, others)


def test_films_on_two_drives_are_told_by_their_whole_paths(monkeypatch):
    paths = [r"C:\films\a\1.png", r"D:\films\b\1.png", r"D:\films\b\2.png"]
    windows = types.SimpleNamespace(path=ntpath, fspath=os.fspath)
    monkeypatch.setattr(_evaluate_films, "os", windows)
    assert film_keys(np.array(paths, dtype=object), None, 3, "evaluate") == ("names", paths)
    within = film_keys(np.array(paths[:1] + [r"C:\films\b\1.png"]), None, 2, "evaluate")
    assert within == ("names", [r"a\1.png", r"b\1.png"])
