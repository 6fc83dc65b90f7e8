"""Bad input is a clear error in every public function that takes labels and scores."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from sklearn_cxr.metrics import (
    bootstrap_interval,
    calibration_error,
    calibration_error_interval,
    constrained_sensitivity_score,
    constrained_specificity_score,
    multilabel_report,
    nan_average_precision_score,
    nan_roc_auc_score,
    operating_point,
    roc_auc_interval,
    roc_auc_test,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
)

Y = np.array([0, 1, 0, 1, 1, 0, 1, 0])
SCORE = np.array([0.1, 0.9, 0.2, 0.4, 0.8, 0.7, 0.6, 0.3])
GROUPS = np.array(list("aabbccdd"))


def test_one(y, a, **options):
    return roc_auc_test(y, a, SCORE[: len(np.atleast_1d(a))], **options)


test_one.__test__ = False  # a helper with the name of what it calls

OF_SCORES = {
    "roc_auc_interval": roc_auc_interval,
    "roc_auc_test": test_one,
    "operating_point": operating_point,
    "sensitivity_at_specificity": sensitivity_at_specificity,
    "specificity_at_sensitivity": specificity_at_sensitivity,
    "calibration_error": calibration_error,
    "calibration_error_interval": calibration_error_interval,
}
BY_PATIENT = {
    name: OF_SCORES[name]
    for name in (
        "roc_auc_interval",
        "roc_auc_test",
        "operating_point",
        "calibration_error_interval",
    )
}
BY_PATIENT["bootstrap_interval"] = partial(bootstrap_interval, roc_auc_score)
OF_LABELS = {
    "nan_roc_auc_score": nan_roc_auc_score,
    "nan_average_precision_score": nan_average_precision_score,
    "multilabel_report": multilabel_report,
}


@pytest.mark.parametrize("name", OF_SCORES)
class TestLabelsAndScores:
    def raises(self, name, message, y=Y, score=SCORE, **options):
        with pytest.raises(ValueError, match=message) as error:
            OF_SCORES[name](y, score, **options)
        assert str(error.value).startswith(f"{name} got")

    def test_one_class_only(self, name):
        self.raises(
            name, r"labels of one class only \(1\) in y; expected .* both", y=np.ones(8, int)
        )

    def test_unknown_labels(self, name):
        self.raises(
            name, r"1 unknown labels .* row 2\); .* multilabel_report", y=[0, 1, np.nan, 1]
        )
        names = np.array(["a", "b", None, "b"], dtype=object)
        self.raises(name, r"1 unknown labels .* row 2", y=names, score=SCORE[:4])
        self.raises(
            name, r"1 unknown labels .* row 2", y=pd.Series([0, 1, pd.NA, 1], dtype="Int64")
        )

    def test_scores_with_nan(self, name):
        score = np.where(np.arange(8) == 3, np.nan, SCORE)
        self.raises(
            name, r"1 values in \w+ that are NaN or infinite \(first in row 3\)", score=score
        )

    def test_infinite_scores(self, name):
        self.raises(name, "NaN or infinite", score=np.where(SCORE > 0.8, np.inf, SCORE))

    def test_another_length(self, name):
        self.raises(name, r"5 values in \w+ for 8 labels", score=SCORE[:5])

    def test_two_columns_of_probabilities(self, name):
        both = np.stack([1 - SCORE, SCORE], axis=1)
        self.raises(name, r"of shape \(8, 2\); .* predict_proba\(X\)\[:, 1\]", score=both)

    def test_predicted_names(self, name):
        self.raises(name, "that are not numbers", score=np.array(["normal", "viral"] * 4))

    def test_more_classes(self, name):
        self.raises(name, r"3 different labels .* pass pos_label=", y=["a", "b", "c", "a"])

    def test_labels_and_scores_swapped(self, name):
        self.raises(name, "y comes first, then the scores", y=SCORE, score=Y)

    def test_an_absent_positive_class(self, name):
        self.raises(name, r"pos_label=2; expected one of the labels in y: 0, 1", pos_label=2)

    def test_labels_without_order(self, name):
        y = np.array([0, "viral"] * 4, dtype=object)
        self.raises(name, "that have no order .* pos_label", y=y)

    def test_a_matrix_of_labels(self, name):
        self.raises(name, r"y of shape \(8, 2\); .* multilabel_report", y=np.stack([Y, Y], axis=1))


class TestBootstrap:
    """`bootstrap_interval` takes any metric; what holds for all of them it checks itself."""

    METRICS = (roc_auc_score, brier_score_loss, lambda y, score: float(np.nanmean(score)))

    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_scores_that_are_not_finite(self, metric, value):
        score = np.where(np.arange(8) == 3, value, SCORE)
        with pytest.raises(
            ValueError,
            match=r"^bootstrap_interval got 1 values in score that are NaN .* row 3\); expected",
        ):
            bootstrap_interval(metric, Y, score)

    def test_a_matrix_of_scores_with_nan(self):
        P = np.stack([SCORE, np.where(np.arange(8) == 5, np.nan, SCORE)], axis=1)
        with pytest.raises(ValueError, match=r"^bootstrap_interval got 1 .* row 5, column 1"):
            bootstrap_interval(nan_roc_auc_score, np.stack([Y, Y], axis=1), P)

    @pytest.mark.parametrize("metric", METRICS)
    def test_another_length(self, metric):
        with pytest.raises(
            ValueError, match=r"^bootstrap_interval got 5 values in score for 8 labels in y; expec"
        ):
            bootstrap_interval(metric, Y, SCORE[:5])

    # scikit-learn warns of the estimate before the error that is asserted.
    @pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
    def test_one_class_only(self):
        with pytest.raises(
            ValueError,
            match=r"^bootstrap_interval: roc_auc_score of these labels is nan; expected .* both",
        ):
            bootstrap_interval(roc_auc_score, np.ones(8, int), SCORE)

    def test_fewer_than_two_patients(self):
        with pytest.raises(ValueError, match="got images of 1 patient; expected at least 2"):
            bootstrap_interval(brier_score_loss, Y, SCORE, groups=["a"] * 8)
        with pytest.raises(ValueError, match="got 1 image; expected at least 2"):
            bootstrap_interval(brier_score_loss, [1], [0.3])

    # numpy warns where the NaN meets integers, before the error that is asserted.
    @pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
    def test_unknown_labels_are_for_metrics_that_take_them(self):
        y = np.where(np.arange(8) == 2, np.nan, Y)
        with pytest.raises(ValueError, match="NaN"):
            bootstrap_interval(roc_auc_score, y, SCORE)
        known = np.arange(8) != 2
        found = bootstrap_interval(nan_roc_auc_score, y, SCORE, n_resamples=5, random_state=0)
        assert found.estimate == roc_auc_score(Y[known], SCORE[known])


@pytest.mark.parametrize("name", BY_PATIENT)
class TestPatients:
    def test_groups_of_another_length(self, name):
        with pytest.raises(ValueError, match="got 7 patient ids in groups for 8 images"):
            BY_PATIENT[name](Y, SCORE, groups=GROUPS[:7])

    def test_one_patient(self, name):
        with pytest.raises(ValueError, match="images of 1 patient; expected at least 2"):
            BY_PATIENT[name](Y, SCORE, groups=["a"] * 8)

    def test_missing_ids(self, name):
        with pytest.raises(ValueError, match="1 images without a patient id"):
            BY_PATIENT[name](Y, SCORE, groups=[*GROUPS[:7], None])


@pytest.mark.parametrize("function", [roc_auc_interval, test_one])
def test_classes_of_one_patient(function):
    groups = np.where(Y == 1, "a", GROUPS)
    with pytest.raises(ValueError, match="got 1 patient with positive label; expected at least 2"):
        function(Y, SCORE, groups=groups)
    with pytest.raises(ValueError, match="got 1 image with negative label; expected at least 2"):
        function([0, 1, 1], SCORE[:3])


@pytest.mark.parametrize("name", OF_LABELS)
class TestLabelMatrices:
    def raises(self, name, message, Y, P, **options):
        with pytest.raises(ValueError, match=message) as error:
            OF_LABELS[name](Y, P, **options)
        assert str(error.value).startswith(f"{name} got")

    def test_other_values(self, name):
        self.raises(name, r"values \[2.0\]; expected 0, 1 or NaN", [[0, 1], [2, 0]], np.eye(2))

    def test_names(self, name):
        self.raises(name, "labels Y that are not numbers", [["a", "b"], ["b", "a"]], np.eye(2))

    def test_other_shapes(self, name):
        self.raises(
            name, r"Y of shape \(2, 2\) and P of shape \(2, 3\)", np.eye(2), np.ones((2, 3))
        )
        self.raises(name, r"Y of shape \(0, 2\)", np.ones((0, 2)), np.ones((0, 2)))

    def test_scores_with_nan(self, name):
        P = np.array([[0.1, 0.2], [0.3, np.nan]])
        self.raises(
            name, r"in P that are NaN or infinite \(first in row 1, column 1\)", np.eye(2), P
        )

    def test_columns_in_another_order(self, name):
        labels = pd.DataFrame(np.eye(2), columns=["mass", "nodule"])
        scores = pd.DataFrame(np.eye(2), columns=["nodule", "mass"])
        self.raises(name, "expected the same columns in the same order", labels, scores)

    def test_a_list_with_one_column(self, name):
        parts = [np.ones((2, 2)), np.ones((2, 1))]
        self.raises(name, "had one class in training", np.eye(2), parts)


def test_metrics_of_predicted_labels_refuse_scores():
    for metric in (constrained_sensitivity_score, constrained_specificity_score):
        with pytest.raises(ValueError, match=r"no labels of y, such as 0\.1; .* not scores"):
            metric(Y, SCORE)
        with pytest.raises(ValueError, match=r"y_pred of shape \(3,\) for 8 labels"):
            metric(Y, Y[:3])
        with pytest.raises(ValueError, match="one class only"):
            metric(np.zeros(8), Y)


@pytest.mark.parametrize(
    ("function", "option"),
    [
        (roc_auc_interval, {"confidence": 1.0}),
        (roc_auc_interval, {"method": "hanley"}),
        (roc_auc_interval, {"transform": "log"}),
        (test_one, {"confidence": 95}),
        (sensitivity_at_specificity, {"specificity": 1.5}),
        (specificity_at_sensitivity, {"sensitivity": -0.1}),
        (calibration_error, {"n_bins": 0}),
        (calibration_error, {"strategy": "equal"}),
        (calibration_error_interval, {"n_resamples": 1}),
        (operating_point, {"prevalence": 0.0}),
        (partial(bootstrap_interval, roc_auc_score), {"stratify": "yes"}),
        (partial(bootstrap_interval, "roc_auc"), {}),
        (nan_roc_auc_score, {"average": "micro"}),
    ],
)
def test_parameters_are_validated(function, option):
    with pytest.raises(ValueError, match=next(iter(option), "'metric' parameter")):
        function(Y, SCORE, **option)
