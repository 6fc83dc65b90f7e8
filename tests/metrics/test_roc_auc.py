import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from sklearn_cxr.metrics import Interval, RocAucTestResult, roc_auc_interval, roc_auc_test

Z = norm.ppf(0.975)


def clustered(n_patients, seed, *, mix=0.3, delta=1.5, decimals=8):
    """Images whose label and score are partly those of their patient."""
    rng = np.random.RandomState(seed)
    groups = np.repeat(np.arange(n_patients), rng.randint(1, 8, n_patients))
    n = len(groups)
    own = (rng.uniform(size=n_patients) < 0.3)[groups]
    y = np.where(rng.uniform(size=n) < mix, rng.uniform(size=n) < 0.3, own).astype(int)
    noise = math.sqrt(0.8) * rng.normal(size=n_patients)[groups]
    score = delta * y + noise + math.sqrt(0.2) * rng.normal(size=n)
    return y, score.round(decimals), groups


def pairs(y, score):
    """Every positive beside every negative: 1 in the right order, 1/2 tied, 0 otherwise."""
    up, down = score[y == 1][:, None], score[y == 0]
    return (up > down) + 0.5 * (up == down)


def delong_direct(y, *scores):
    """Covariance of the areas, DeLong 1988, from all pairs."""
    parts = [pairs(y, score) for score in scores]
    of_positives = np.cov([part.mean(axis=1) for part in parts]) / (y == 1).sum()
    of_negatives = np.cov([part.mean(axis=0) for part in parts]) / (y == 0).sum()
    return np.atleast_2d(of_positives + of_negatives)


def obuchowski_direct(y, a, b, groups):
    """Covariance of two areas, Obuchowski 1997, patient by patient from all pairs."""
    n_positive, n_negative = (y == 1).sum(), (y == 0).sum()
    sums = []
    for score in (a, b):
        order = pairs(y, score)
        area = order.mean()
        rows, columns = groups[y == 1], groups[y == 0]
        sums.append(
            [
                (
                    sum(order[i].mean() - area for i in np.flatnonzero(rows == patient)),
                    sum(order[:, j].mean() - area for j in np.flatnonzero(columns == patient)),
                )
                for patient in np.unique(groups)
            ]
        )
    (x_a, y_a), (x_b, y_b) = (np.transpose(part) for part in sums)
    n = len(np.unique(groups))
    n_10, n_01 = len(np.unique(groups[y == 1])), len(np.unique(groups[y == 0]))
    s_10 = n_10 / ((n_10 - 1) * n_positive) * (x_a * x_b).sum()
    s_01 = n_01 / ((n_01 - 1) * n_negative) * (y_a * y_b).sum()
    s_11 = n / (n - 1) * np.array([(x_a * y_b).sum(), (x_b * y_a).sum()])
    return s_10 / n_positive + s_01 / n_negative + s_11.sum() / (n_positive * n_negative)


def half_width(interval):
    return interval.estimate - interval.low


@pytest.mark.parametrize("decimals", [8, 1, 0])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_area_is_that_of_scikit_learn_with_ties(seed, decimals):
    y, score, groups = clustered(300, seed, decimals=decimals)
    expected = roc_auc_score(y, score)
    assert roc_auc_interval(y, score).estimate == pytest.approx(expected, abs=1e-12)
    assert roc_auc_interval(y, score, groups=groups).estimate == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("decimals", [8, 1, 0])
def test_delong_is_the_direct_computation(decimals):
    y, score, _ = clustered(60, 0, decimals=decimals)
    interval = roc_auc_interval(y, score)
    variance = delong_direct(y, score).item()
    assert half_width(interval) == pytest.approx(Z * math.sqrt(variance), rel=1e-12)
    assert interval.high - interval.estimate == pytest.approx(half_width(interval))
    other = score + np.random.RandomState(1).normal(size=len(score)).round(decimals)
    result = roc_auc_test(y, score, other)
    covariance = delong_direct(y, score, other)
    spread = math.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    difference = roc_auc_score(y, score) - roc_auc_score(y, other)
    assert result.difference == pytest.approx(difference, abs=1e-12)
    assert result.statistic == pytest.approx(difference / spread, rel=1e-9)
    assert result.pvalue == pytest.approx(2 * norm.sf(abs(difference / spread)), rel=1e-9)
    assert result.difference - result.low == pytest.approx(Z * spread, rel=1e-9)


@pytest.mark.parametrize("decimals", [8, 1, 0])
def test_groups_give_obuchowskis_variance(decimals):
    y, score, groups = clustered(40, 2, decimals=decimals)
    assert len(set(groups[y == 1]) & set(groups[y == 0])) > 3
    interval = roc_auc_interval(y, score, groups=groups)
    variance = obuchowski_direct(y, score, score, groups)
    assert half_width(interval) == pytest.approx(Z * math.sqrt(variance), rel=1e-10)
    other = score + np.random.RandomState(1).normal(size=len(score)).round(decimals)
    result = roc_auc_test(y, score, other, groups=groups)
    spread = math.sqrt(
        variance
        + obuchowski_direct(y, other, other, groups)
        - 2 * obuchowski_direct(y, score, other, groups)
    )
    assert result.statistic == pytest.approx(result.difference / spread, rel=1e-9)


def test_one_image_per_patient_is_delong():
    y, score, _ = clustered(50, 3)
    own = [f"patient {i}" for i in range(len(y))]
    assert roc_auc_interval(y, score, groups=own) == pytest.approx(
        roc_auc_interval(y, score), rel=1e-12
    )


def test_published_ratings_of_hanley_and_mcneil():
    """109 CT images of Hanley and McNeil 1982; area and DeLong interval as Stata's roctab."""
    y = np.repeat([0, 1], [58, 51])
    rating = np.repeat([1, 2, 3, 4, 5, 1, 2, 3, 4, 5], [33, 6, 6, 11, 2, 3, 2, 2, 11, 33])
    interval = roc_auc_interval(y, rating)
    assert interval.estimate == pytest.approx(0.8932, abs=5e-5)
    assert half_width(interval) / Z == pytest.approx(0.0307, abs=5e-5)
    assert (interval.low, interval.high) == pytest.approx((0.83295, 0.95339), abs=5e-6)


def test_published_grades_of_subarachnoid_haemorrhage():
    """WFNS grades of 113 patients by outcome (Turck 2010); interval as pROC's documentation."""
    y = np.repeat(["Good", "Poor"], [72, 41])
    grade = np.repeat([1, 2, 3, 4, 5, 1, 2, 3, 4, 5], [37, 20, 3, 8, 4, 2, 12, 1, 8, 18])
    interval = roc_auc_interval(y, grade)
    assert interval[:3] == pytest.approx((0.8237, 0.7485, 0.8988), abs=5e-5)


def test_clustered_example_by_hand():
    # Positive: 3 of A, 2 of B, 4 of D. Negative: 1 of A, 2 of C, 0 of D. One tie, B with C.
    # Shares less the area 17/18: 1, -2, 1 eighteenths for A, B, D and for A, C, D.
    # S10 = S01 = 3 / (2 * 3) * 6 / 324, S11 = 4 / 3 * 2 / 324, variance = 1/162 + 4/2187.
    interval = roc_auc_interval(
        [1, 1, 1, 0, 0, 0], [3, 2, 4, 1, 2, 0], groups=["A", "B", "D", "A", "C", "D"]
    )
    assert interval.estimate == pytest.approx(17 / 18, abs=1e-15)
    assert half_width(interval) == pytest.approx(Z * math.sqrt(35 / 4374), rel=1e-12)
    assert interval.high == 1


def test_intervals_cover_the_truth_only_if_patients_are_known():
    truth = norm.cdf(1.5 / math.sqrt(2))
    runs = [clustered(150, seed) for seed in range(400)]

    def coverage(**options):
        found = [
            roc_auc_interval(y, score, groups=g if options.get("groups") else None)
            if set(options) == {"groups"}
            else roc_auc_interval(y, score, groups=g, **options)
            for y, score, g in runs
        ]
        return np.mean([i.low <= truth <= i.high for i in found])

    # Standard error of 400 runs at 0.95: 0.011.
    assert 0.915 <= coverage(groups=True) <= 0.98
    assert 0.925 <= coverage(transform="logit") <= 0.98
    assert coverage(groups=False) < 0.85


def test_the_test_has_its_level_only_if_patients_are_known():
    pvalues = {True: [], False: []}
    for seed in range(300):
        y, score, groups = clustered(120, seed, delta=1.0)
        rng = np.random.RandomState(seed + 1000)
        shared = [rng.normal(size=groups.max() + 1)[groups] for _ in range(2)]
        a, b = (score + part for part in shared)
        for known in pvalues:
            pvalues[known].append(roc_auc_test(y, a, b, groups=groups if known else None).pvalue)
    assert 0.02 <= np.mean(np.less(pvalues[True], 0.05)) <= 0.09
    assert np.mean(np.less(pvalues[False], 0.05)) > 0.15


def test_bootstrap_agrees_with_the_variance():
    y, score, groups = clustered(400, 5)
    analytic = roc_auc_interval(y, score, groups=groups)
    resampled = roc_auc_interval(
        y, score, groups=groups, method="bootstrap", n_resamples=1500, random_state=0
    )
    assert resampled.estimate == analytic.estimate
    width = analytic.high - analytic.low
    assert resampled.high - resampled.low == pytest.approx(width, rel=0.12)
    assert resampled[1:3] == pytest.approx(analytic[1:3], abs=0.15 * width)
    again = roc_auc_interval(
        y, score, groups=groups, method="bootstrap", n_resamples=1500, random_state=0
    )
    assert again == resampled


def test_logit_interval_is_the_delta_method():
    y, score, groups = clustered(80, 6, delta=2.8)
    plain = roc_auc_interval(y, score, groups=groups, confidence=0.9)
    logit = roc_auc_interval(y, score, groups=groups, confidence=0.9, transform="logit")
    reach = (plain.estimate - plain.low) / (plain.estimate * (1 - plain.estimate))
    centre = math.log(plain.estimate / (1 - plain.estimate))
    for end, side in ((logit.low, -1), (logit.high, 1)):
        assert math.log(end / (1 - end)) == pytest.approx(centre + side * reach)
    assert logit.high < 1


@pytest.mark.parametrize("method", ["delong", "bootstrap"])
def test_separation_without_error_is_not_certainty(method):
    y = np.repeat([0, 1], [30, 10])
    interval = roc_auc_interval(y, np.arange(40), method=method)
    assert interval == (1.0, pytest.approx(0.025 ** (1 / 10)), 1.0, 0.95)
    turned = roc_auc_interval(y, -np.arange(40), method=method)
    assert turned == (0.0, 0.0, pytest.approx(1 - 0.025 ** (1 / 10)), 0.95)
    # Three of the four patients with positive images have negative ones too: two pairs at most.
    groups = np.array(["a", "b", "c", "d"] * 10)
    few = roc_auc_interval(y, np.arange(40), groups=groups, method=method, confidence=0.9)
    assert few.low == pytest.approx(0.05 ** (1 / 2))


def test_a_constant_score_is_known_to_be_useless():
    assert roc_auc_interval([0, 0, 1, 1], [1.0] * 4) == (0.5, 0.5, 0.5, 0.95)


def test_scores_that_order_alike_do_not_differ():
    y, score, groups = clustered(40, 7)
    result = roc_auc_test(y, score, np.exp(score), groups=groups)
    area = roc_auc_score(y, score)
    assert result == (0.0, 0.0, 0.0, 0.0, 1.0, pytest.approx(area), pytest.approx(area), 0.95)


def test_errors_that_cancel_out_have_no_interval():
    """Each patient is as far above the mean with one film as below it with the other."""
    y, score, groups = [1, 0, 1, 0], [1, 0, 3, 2], [0, 0, 1, 1]
    for transform in (None, "logit"):
        interval = roc_auc_interval(y, score, groups=groups, transform=transform)
        assert interval.estimate == 0.75
        assert math.isnan(interval.low) and math.isnan(interval.high)


def test_errors_that_cancel_out_but_for_rounding():
    y = [1, 1, 0, 0, 1, 0, 0, 1, 1, 0, 1, 1, 1, 1, 0, 0, 0, 0]
    score = [3, 1, 2, 0, 1, 4, 4, 5, 3, 4, 5, 5, 3, 1, 0, 2, 2, 0]
    groups = [2, 1, 2, 1, 1, 0, 0, 0, 2, 0, 0, 0, 2, 1, 1, 2, 2, 1]
    for transform in (None, "logit"):
        interval = roc_auc_interval(y, score, groups=groups, transform=transform)
        assert interval.estimate == pytest.approx(2 / 3)
        assert math.isnan(interval.low) and math.isnan(interval.high)
    result = roc_auc_test(y, score, y, groups=groups)
    assert (result.low, result.high) == (-1, 1)
    assert math.isnan(result.pvalue)


def test_differences_that_cancel_out_are_not_certain():
    y, groups = [0, 1] * 4, [0, 0, 1, 1, 2, 2, 3, 3]
    a, b = [2, 2, 1, 1, 2, 2, 2, 2], [1, 1, 1, 1, 1, 1, 0, 0]
    result = roc_auc_test(y, a, b, groups=groups)
    assert (result.difference, result.low, result.high) == (0, -1, 1)
    assert math.isnan(result.pvalue)


def test_a_difference_without_variance_has_no_p_value():
    y = np.repeat([0, 1], 5)
    result = roc_auc_test(y, np.arange(10), -np.arange(10))
    assert result.difference == 1 and (result.low, result.high) == (-1, 1)
    assert math.isnan(result.pvalue) and math.isnan(result.statistic)


def test_what_comes_back_is_a_named_tuple_of_plain_numbers():
    interval = roc_auc_interval([0, 0, 1, 1], [1, 3, 2, 4], confidence=0.8)
    assert isinstance(interval, Interval) and isinstance(interval, tuple)
    assert interval._fields == ("estimate", "low", "high", "confidence")
    assert {type(value) for value in interval} == {float} and interval.confidence == 0.8
    result = roc_auc_test([0, 0, 1, 1], [1, 3, 2, 4], [1, 2, 4, 3])
    assert isinstance(result, RocAucTestResult)
    assert {type(value) for value in result} == {float}
    assert result._fields[:5] == ("difference", "low", "high", "statistic", "pvalue")


def test_labels_scores_and_patients_of_any_kind():
    y, score, groups = clustered(30, 8)
    expected = roc_auc_interval(y, score, groups=groups)
    names = np.where(y == 1, "pneumonia", "normal")
    for labels in (names, list(names), pd.Series(names), pd.Series(names, dtype="category")):
        assert roc_auc_interval(labels, score, groups=groups) == expected
    assert roc_auc_interval(y.astype(bool), list(score), groups=list(groups)) == expected
    assert roc_auc_interval(y[:, None], pd.DataFrame(score), groups=pd.Series(groups)) == expected
    ids = [("site", group) for group in groups]
    assert roc_auc_interval(y, score, groups=ids) == expected
    turned = roc_auc_interval(names, -score, groups=groups, pos_label="normal")
    assert turned == pytest.approx(expected, abs=1e-12)
    three = np.where(y == 1, "viral", np.where(np.arange(len(y)) % 2, "bacterial", "normal"))
    assert roc_auc_interval(three, score, groups=groups, pos_label="viral") == expected


def test_the_order_of_the_rows_does_not_matter():
    y, score, groups = clustered(30, 9, decimals=1)
    turned = np.random.RandomState(0).permutation(len(y))
    assert roc_auc_interval(y[turned], score[turned], groups=groups[turned]) == pytest.approx(
        roc_auc_interval(y, score, groups=groups), abs=1e-12
    )
