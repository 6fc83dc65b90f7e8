import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import average_precision_score, roc_auc_score

from sklearn_cxr.metrics import (
    bootstrap_interval,
    multilabel_report,
    nan_average_precision_score,
    nan_roc_auc_score,
    roc_auc_interval,
)

METRICS = [
    (nan_roc_auc_score, roc_auc_score),
    (nan_average_precision_score, average_precision_score),
]


def findings(n_patients=150, n_labels=4, seed=0, unknown=0.2, decimals=8):
    rng = np.random.RandomState(seed)
    groups = np.repeat(np.arange(n_patients), rng.randint(1, 6, n_patients))
    own = rng.uniform(size=(n_patients, n_labels)) < np.linspace(0.15, 0.5, n_labels)
    Y = own[groups].astype(float)
    shared = rng.normal(size=(n_patients, 1))[groups]
    P = (Y + shared + 0.5 * rng.normal(size=Y.shape)).round(decimals)
    Y[rng.uniform(size=Y.shape) < unknown] = np.nan
    return Y, P, groups


@pytest.mark.parametrize("decimals", [8, 0])
@pytest.mark.parametrize(("metric", "peer"), METRICS)
class TestScores:
    def test_known_images_of_each_label(self, metric, peer, decimals):
        Y, P, _ = findings(decimals=decimals)
        known = ~np.isnan(Y)
        expected = [peer(Y[k, j], P[k, j]) for j, k in enumerate(known.T)]
        np.testing.assert_allclose(metric(Y, P, average=None), expected, atol=1e-12)
        assert metric(Y, P) == pytest.approx(np.mean(expected), abs=1e-12)
        positives = np.nansum(Y, axis=0)
        weighted = np.average(expected, weights=positives)
        assert metric(Y, P, average="weighted") == pytest.approx(weighted, abs=1e-12)

    def test_without_unknown_ones_it_is_scikit_learns(self, metric, peer, decimals):
        Y, P, _ = findings(unknown=0, decimals=decimals)
        weights = np.random.RandomState(0).uniform(size=len(Y))
        for average in ("macro", "weighted", None):
            expected = peer(Y, P, average=average, sample_weight=weights)
            found = metric(Y, P, average=average, sample_weight=weights)
            np.testing.assert_allclose(found, expected, atol=1e-12)
        assert metric(Y[:, 0], P[:, 0]) == pytest.approx(peer(Y[:, 0], P[:, 0]), abs=1e-12)

    def test_one_class_is_left_out_and_told(self, metric, peer, decimals):
        Y, P, _ = findings(decimals=decimals)
        expected = metric(Y, P, average=None)
        Y[:, 1] = np.where(np.isnan(Y[:, 1]), np.nan, 0)
        with pytest.warns(UndefinedMetricWarning, match="one class only of label 1; its value"):
            mean = metric(Y, P)
        assert mean == pytest.approx(np.delete(expected, 1).mean())
        frame = pd.DataFrame(Y, columns=["mass", "hernia", "edema", "nodule"])
        with pytest.warns(UndefinedMetricWarning, match="of label 'hernia'"):
            assert np.isnan(metric(frame, P, average=None)).tolist() == [0, 1, 0, 0]

    def test_no_label_with_both_classes(self, metric, peer, decimals):
        with pytest.warns(UndefinedMetricWarning, match="of label 0, 1; their values"):
            assert math.isnan(metric(np.ones((5, 2)), np.eye(5)[:, :2]))

    def test_a_class_without_weight_is_no_class(self, metric, peer, decimals):
        with pytest.warns(UndefinedMetricWarning):
            assert math.isnan(metric([0, 0, 1], [0.1, 0.3, 0.2], sample_weight=[1, 1, 0]))


def test_forests_frames_and_missing_values_of_any_kind():
    Y, P, _ = findings(unknown=0)
    forest = RandomForestClassifier(5, random_state=0).fit(P, Y)
    parts = forest.predict_proba(P)
    assert isinstance(parts, list) and parts[0].shape == (len(Y), 2)
    matrix = np.stack([part[:, 1] for part in parts], axis=1)
    assert nan_roc_auc_score(Y, parts) == nan_roc_auc_score(Y, matrix)
    Y[3, 1] = np.nan
    expected = nan_roc_auc_score(Y, P)
    nullable = pd.DataFrame(Y).astype("Int64")
    assert nullable.isna().to_numpy().sum() == 1
    assert nan_roc_auc_score(nullable, pd.DataFrame(P)) == expected
    assert nan_roc_auc_score(np.where(np.isnan(Y), None, Y), P) == expected
    assert nan_roc_auc_score(Y.tolist(), P.tolist()) == expected


class TestReport:
    def test_rows_are_what_single_functions_say(self):
        Y, P, groups = findings()
        names = ["mass", "hernia", "edema", "nodule"]
        report = multilabel_report(Y, P, label_names=names, groups=groups, confidence=0.9)
        assert list(report.index) == [*names, "mean"]
        assert list(report.columns) == [
            *("n", "n_patients", "n_positive", "prevalence"),
            *("roc_auc", "roc_auc_low", "roc_auc_high", "average_precision"),
        ]
        assert report.attrs["confidence"] == 0.9
        for j, name in enumerate(names):
            known = ~np.isnan(Y[:, j])
            y, score, own = Y[known, j], P[known, j], groups[known]
            row = report.loc[name]
            assert row["n"] == known.sum() and row["n_positive"] == y.sum()
            assert row["n_patients"] == len(np.unique(own))
            assert row["prevalence"] == pytest.approx(y.mean())
            given = {"groups": own, "confidence": 0.9}
            interval = roc_auc_interval(y, score, transform="logit", **given)
            found = row[["roc_auc", "roc_auc_low", "roc_auc_high"]].astype(float)
            assert tuple(found) == pytest.approx(interval[:3], abs=1e-12)
            assert row["average_precision"] == pytest.approx(average_precision_score(y, score))
        measures = report.columns[3:]
        means = report.loc[names, ["prevalence", "roc_auc", "average_precision"]].mean()
        assert tuple(report.loc["mean", means.index]) == pytest.approx(tuple(means))
        assert report.loc["mean", ["n", "n_patients", "n_positive"]].isna().all()
        assert (report[measures].dtypes == np.float64).all()
        assert (report[["n", "n_patients", "n_positive"]].dtypes == "Int64").all()

    def test_interval_of_the_mean_is_that_of_resampled_patients(self):
        Y, P, groups = findings(400)
        row = multilabel_report(Y, P, groups=groups).loc["mean"]
        resampled = bootstrap_interval(nan_roc_auc_score, Y, P, groups=groups, random_state=0)
        width = row["roc_auc_high"] - row["roc_auc_low"]
        assert row["roc_auc"] == pytest.approx(resampled.estimate)
        assert width == pytest.approx(resampled.high - resampled.low, rel=0.1)

    def test_a_label_given_twice_does_not_make_the_mean_surer(self):
        Y, P, groups = findings(n_labels=1)
        single = multilabel_report(Y, P, groups=groups).loc["mean"]
        twice = multilabel_report(Y[:, [0, 0]], P[:, [0, 0]], groups=groups).loc["mean"]
        ends = ["roc_auc", "roc_auc_low", "roc_auc_high"]
        assert tuple(twice[ends]) == pytest.approx(tuple(single[ends]))

    def test_mean_of_one_label_is_that_label(self):
        Y, P, groups = findings(n_labels=1)
        report = multilabel_report(Y, P, groups=groups)
        ends = report[["roc_auc", "roc_auc_low", "roc_auc_high"]].to_numpy(dtype=float)
        np.testing.assert_allclose(ends[0], ends[1], atol=2e-3)
        single = multilabel_report(Y[:, 0], P[:, 0], groups=groups)
        pd.testing.assert_frame_equal(single, report)

    def test_a_label_with_one_class_is_nan_and_told(self):
        Y, P, groups = findings()
        full = multilabel_report(Y, P, groups=groups)
        Y[:, 2] = np.where(np.isnan(Y[:, 2]), np.nan, 1)
        Y[:, 3] = np.nan
        with pytest.warns(UndefinedMetricWarning, match="of label 'label 2', 'label 3'"):
            report = multilabel_report(Y, P, groups=groups)
        assert report.loc[["label 2", "label 3"]].iloc[:, 4:].isna().all(axis=None)
        assert report.loc["label 2", "prevalence"] == 1 and report.loc["label 3", "n"] == 0
        pd.testing.assert_frame_equal(report.iloc[:2], full.iloc[:2])
        assert report.loc["mean", "roc_auc"] == pytest.approx(full["roc_auc"].iloc[:2].mean())
        assert report.loc["mean", "prevalence"] == pytest.approx(full["prevalence"][:2].mean())
        assert np.isfinite(report.loc["mean", "roc_auc_low"])

    def test_a_class_of_one_patient_has_no_interval(self):
        Y, P, groups = findings(unknown=0)
        Y[:, 1] = groups == 3
        with pytest.warns(UndefinedMetricWarning, match="fewer than 2 patients .* 'label 1'"):
            report = multilabel_report(Y, P, groups=groups)
        assert np.isfinite(report.loc["label 1", ["roc_auc", "average_precision"]]).all()
        low = report["roc_auc_low"]
        assert low.isna().tolist() == [False, True, False, False, True]

    def test_separation_without_error_is_not_certainty(self):
        y = np.repeat([0.0, 1.0], [20, 10])
        report = multilabel_report(np.stack([y, y], axis=1), np.stack([y, y], axis=1))
        assert report["roc_auc_low"].to_numpy() == pytest.approx(0.025 ** (1 / 10))
        assert (report["roc_auc_high"] == 1).all()

    def test_the_scale_of_the_intervals(self):
        Y, P, groups = findings()
        plain = multilabel_report(Y, P, groups=groups, transform=None)
        known = ~np.isnan(Y[:, 0])
        limits = roc_auc_interval(Y[known, 0], P[known, 0], groups=groups[known])
        row = plain.iloc[0][["roc_auc_low", "roc_auc_high"]].astype(float)
        assert tuple(row) == pytest.approx(limits[1:3], abs=1e-12)
        mean, other = plain.loc["mean"], multilabel_report(Y, P, groups=groups).loc["mean"]
        assert mean["roc_auc_high"] - mean["roc_auc"] == pytest.approx(
            mean["roc_auc"] - mean["roc_auc_low"]
        )

        def logit(share):
            return math.log(share / (1 - share))

        # The same reach, by the slope of the logit.
        slope = other["roc_auc"] * (1 - other["roc_auc"])
        reach = (mean["roc_auc_high"] - mean["roc_auc"]) / slope
        for end, side in (("low", -1), ("high", 1)):
            found = logit(other[f"roc_auc_{end}"]) - logit(other["roc_auc"])
            assert found == pytest.approx(side * reach)

    def test_few_positive_patients_are_covered(self):
        """Of 95 % intervals with five positive patients the plain ones miss too often."""
        truth, hits = norm.cdf(1.5 / math.sqrt(2)), {"logit": 0, None: 0}
        rng, y = np.random.RandomState(0), np.repeat([1.0, 0.0], [5, 20])
        for _ in range(20):
            # Fifteen labels at a time, of the same films.
            scores = rng.normal(size=(25, 15)) + 1.5 * y[:, None]
            labels = np.repeat(y[:, None], 15, axis=1)
            for transform in hits:
                table = multilabel_report(labels, scores, transform=transform).iloc[:15]
                inside = (table["roc_auc_low"] <= truth) & (table["roc_auc_high"] >= truth)
                hits[transform] += int(inside.sum())
        assert hits["logit"] / 300 >= 0.93 > hits[None] / 300

    def test_names_and_patients_by_position(self):
        Y, P, groups = findings(n_labels=2)
        names = ["mass", "edema"]
        expected = multilabel_report(Y, P, label_names=names, groups=groups)
        pd.testing.assert_frame_equal(multilabel_report(Y, P, names, groups), expected)

    def test_names_come_from_the_columns(self):
        Y, P, _ = findings(n_labels=2)
        frame = pd.DataFrame(Y, columns=["mass", "edema"])
        assert list(multilabel_report(frame, P).index) == ["mass", "edema", "mean"]
        scores = pd.DataFrame(P, columns=["mass", "edema"])
        assert list(multilabel_report(Y, scores).index) == ["mass", "edema", "mean"]
        report = multilabel_report(frame, P, label_names=np.array(["a", "b"]))
        assert list(report.index) == ["a", "b", "mean"]

    @pytest.mark.parametrize("names", [["a"], ["a", "a"], ["a", "mean"]])
    def test_names_that_do_not_fit(self, names):
        Y, P, _ = findings(n_labels=2)
        with pytest.raises(ValueError, match="for 2 labels; expected as many, all different"):
            multilabel_report(Y, P, label_names=names)

    def test_groups(self):
        Y, P, groups = findings()
        with pytest.raises(ValueError, match="patient ids in groups for"):
            multilabel_report(Y, P, groups=groups[1:])
        with pytest.raises(ValueError, match="images of 1 patient"):
            multilabel_report(Y, P, groups=np.zeros(len(Y)))


def test_the_mean_of_errors_that_cancel_out_has_no_interval():
    """What rounding leaves of the patients' sums is no variance."""
    y = [1, 1, 0, 0, 1, 0, 0, 1, 1, 0, 1, 1, 1, 1, 0, 0, 0, 0]
    score = [3, 1, 2, 0, 1, 4, 4, 5, 3, 4, 5, 5, 3, 1, 0, 2, 2, 0]
    groups = [2, 1, 2, 1, 1, 0, 0, 0, 2, 0, 0, 0, 2, 1, 1, 2, 2, 1]
    report = multilabel_report(np.c_[y], np.c_[score] / 5, groups=groups)
    assert report["roc_auc"].to_numpy() == pytest.approx(2 / 3)
    assert report[["roc_auc_low", "roc_auc_high"]].isna().all(axis=None)
