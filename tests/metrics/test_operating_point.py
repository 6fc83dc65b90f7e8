import json
import math
import pickle

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from sklearn_cxr.metrics import (
    Interval,
    OperatingPoint,
    operating_point,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
)


def data(n=400, seed=0, prevalence=0.5):
    rng = np.random.RandomState(seed)
    y = (rng.uniform(size=n) < prevalence).astype(int)
    log_odds = rng.normal(loc=2 * y - 1, scale=math.sqrt(2), size=n)
    # Normal with means -1 and 1 and variance 2: the log likelihood ratio is the value itself.
    odds = np.exp(log_odds) * prevalence / (1 - prevalence)
    return y, odds / (1 + odds)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 0.95, 1.0])
def test_target_sensitivity(share):
    y, score = data()
    point = operating_point(y, score, target=("sensitivity", share))
    found = np.mean(score[y == 1] >= point.threshold)
    assert point.sensitivity.estimate == found >= share
    assert point.specificity.estimate == np.mean(score[y == 0] < point.threshold)
    best = specificity_at_sensitivity(y, score, sensitivity=share)
    assert point.specificity.estimate == pytest.approx(best)
    # It is the highest: at the next score above, the sensitivity is missed.
    if share > 0:
        above = score[score > point.threshold].min()
        assert np.mean(score[y == 1] >= above) < share


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95, 1.0])
def test_target_specificity(share):
    y, score = data()
    point = operating_point(y, score, target=("specificity", share))
    assert point.specificity.estimate >= share
    assert point.sensitivity.estimate == sensitivity_at_specificity(y, score, specificity=share)
    if share > 0:
        below = score[score < point.threshold].max()
        assert np.mean(score[y == 0] < below) < share


def test_given_threshold_and_wilson_intervals():
    y, score = data()
    point = operating_point(y, score, target=("threshold", 0.4), confidence=0.9)
    assert point.threshold == 0.4
    for interval, hits in (
        (point.sensitivity, score[y == 1] >= 0.4),
        (point.specificity, score[y == 0] < 0.4),
    ):
        expected = binomtest(int(hits.sum()), len(hits)).proportion_ci(0.9, method="wilson")
        assert interval == pytest.approx((hits.mean(), expected.low, expected.high, 0.9))
    assert (point.n_positive, point.n_negative, point.n_patients) == (sum(y), sum(y == 0), 400)


def test_predictive_values_are_those_of_the_images_at_their_prevalence():
    y, score = data(prevalence=0.3)
    point = operating_point(y, score, target=("threshold", 0.35))
    assert point.prevalence == y.mean()
    assert point.ppv.estimate == pytest.approx(y[score >= 0.35].mean())
    assert point.npv.estimate == pytest.approx(1 - y[score < 0.35].mean())


def test_predictive_values_at_another_prevalence():
    y, score = data()
    point = operating_point(y, score, prevalence=0.02)
    there = operating_point(y, score).at_prevalence(0.02)
    assert point == there and there.threshold == operating_point(y, score).threshold
    a, b = point.sensitivity.estimate, point.specificity.estimate
    assert point.ppv.estimate == pytest.approx(0.02 * a / (0.02 * a + 0.98 * (1 - b)))
    assert point.npv.estimate == pytest.approx(0.98 * b / (0.98 * b + 0.02 * (1 - a)))


def test_interval_of_the_positive_predictive_value_by_hand():
    y, score = np.repeat([1, 0], 100), np.zeros(200)
    score[:80] = score[100:110] = 1
    point = operating_point(y, score, target=("threshold", 0.5), prevalence=0.1)
    # Zou and Donner on the logarithms: 80/100 found, 10/100 called though negative.
    a = np.log([0.8, *binomtest(80, 100).proportion_ci(method="wilson")])
    b = np.log([0.1, *binomtest(10, 100).proportion_ci(method="wilson")])
    low = a[0] - b[0] - math.hypot(a[0] - a[1], b[2] - b[0])
    high = a[0] - b[0] + math.hypot(a[2] - a[0], b[0] - b[1])
    odds = np.exp([a[0] - b[0], low, high]) * 0.1 / 0.9
    assert point.ppv[:3] == pytest.approx(odds / (1 + odds))


def test_nothing_missed_or_nothing_called():
    y, score = np.repeat([0, 1], 10), np.arange(20)
    point = operating_point(y, score, target=("threshold", 10))
    assert point.ppv.estimate == point.ppv.high == 1 and 0.5 < point.ppv.low < 1
    assert point.npv.estimate == point.npv.high == 1 and 0.5 < point.npv.low < 1
    none = operating_point(y, score, target=("threshold", 99))
    assert none.sensitivity.estimate == 0 and np.isnan(none.ppv[:3]).all()
    assert none.npv.estimate == 0.5 and none.npv.low < 0.5 < none.npv.high
    wrong = operating_point(y, -score, target=("threshold", -9))
    assert wrong.ppv.estimate == 0 == wrong.ppv.low and 0 < wrong.ppv.high < 0.5


def test_patients_widen_the_intervals():
    y, score = data(100)
    groups = np.repeat(np.arange(100), 4)
    single = operating_point(y, score, target=("threshold", 0.5))
    copied = operating_point(
        np.repeat(y, 4), np.repeat(score, 4), target=("threshold", 0.5), groups=groups
    )
    assert copied.n_patients == 100 and copied.n_positive == 4 * single.n_positive
    for name in ("sensitivity", "specificity"):
        assert getattr(copied, name) == pytest.approx(getattr(single, name), abs=2e-3)
    unknown = operating_point(np.repeat(y, 4), np.repeat(score, 4), target=("threshold", 0.5))
    assert unknown.ppv.high - unknown.ppv.low < 0.6 * (copied.ppv.high - copied.ppv.low)


def clustered(n_patients, seed):
    rng = np.random.RandomState(seed)
    groups = np.repeat(np.arange(n_patients), rng.randint(1, 6, n_patients))
    own = (rng.uniform(size=n_patients) < 0.4)[groups]
    y = np.where(rng.uniform(size=len(groups)) < 0.3, ~own, own).astype(int)
    score = 2 * y + rng.normal(size=n_patients)[groups] * 0.9
    return y, score + math.sqrt(1 - 0.81) * rng.normal(size=len(groups)), groups


def test_intervals_cover_the_truth_at_the_chosen_threshold():
    inside = []
    for seed in range(300):
        y, score, groups = clustered(150, seed)
        target = ("sensitivity", 0.9) if seed % 2 else ("specificity", 0.8)
        point = operating_point(y, score, target=target, groups=groups, prevalence=0.1)
        a, b = norm.sf(point.threshold - 2), norm.cdf(point.threshold)
        truth = {
            "sensitivity": a,
            "specificity": b,
            "ppv": 0.1 * a / (0.1 * a + 0.9 * (1 - b)),
            "npv": 0.9 * b / (0.9 * b + 0.1 * (1 - a)),
        }
        found = [getattr(point, name) for name in truth]
        inside.append([i.low <= t <= i.high for i, t in zip(found, truth.values(), strict=True)])
    # Standard error of 300 runs at 0.95: 0.013.
    coverage = np.mean(inside, axis=0)
    assert (coverage >= 0.9).all() and (coverage <= 0.99).all()


class TestRethreshold:
    def test_risk_is_kept_in_odds(self):
        y, score = data()
        point = operating_point(y, score, target=("threshold", 0.5), prevalence=0.5)
        there = point.rethreshold(prevalence=0.1)
        # As many odds as the disease has fewer: 1 to 9 instead of 1 to 1.
        assert there.threshold == pytest.approx(0.9)
        assert there.prevalence == 0.1
        assert there.sensitivity.estimate == np.mean(score[y == 1] >= there.threshold)
        assert there.rethreshold(0.5).threshold == pytest.approx(0.5)
        assert point.rethreshold(prevalence=0.5).threshold == pytest.approx(0.5)

    def test_risk_minimises_the_cost_there(self):
        """Scores are right at 0.5; at 0.2, a miss being worth 4 false alarms as before."""
        y, score = data(200_000)
        here = operating_point(y, score, target=("threshold", 0.2), prevalence=0.5)
        there = here.rethreshold(prevalence=0.2)

        def cost(point):
            missed, alarmed = 1 - point.sensitivity.estimate, 1 - point.specificity.estimate
            return 4 * 0.2 * missed + 0.8 * alarmed

        others = [
            operating_point(y, score, target=("threshold", t))
            for t in (0.2, there.threshold - 0.1, there.threshold + 0.1)
        ]
        assert all(cost(there) < cost(other) for other in others)

    @pytest.mark.parametrize("keep", ["ppv", "npv"])
    def test_predictive_values_are_kept(self, keep):
        y, score = data(2000)
        point = operating_point(y, score, target=("threshold", 0.5))
        prevalence = 0.2 if keep == "ppv" else 0.8
        there = point.rethreshold(prevalence=prevalence, keep=keep)
        value = getattr(point, keep).estimate
        assert getattr(there, keep).estimate >= value - 1e-12
        assert getattr(point.at_prevalence(prevalence), keep).estimate < value
        # No threshold further to that side keeps it.
        further = score < there.threshold if keep == "ppv" else score > there.threshold
        for threshold in score[further][:200]:
            other = operating_point(
                y, score, target=("threshold", threshold), prevalence=prevalence
            )
            assert getattr(other, keep).estimate < value

    def test_what_cannot_be_kept(self):
        y, score = data()
        point = operating_point(y, 20 * score)
        with pytest.raises(ValueError, match="expected probabilities and a threshold in"):
            point.rethreshold(prevalence=0.1)
        assert point.rethreshold(prevalence=0.1, keep="npv").prevalence == 0.1
        useless = operating_point(y, np.ones(400) * 0.5)
        with pytest.raises(ValueError, match=r"no threshold has a ppv of .* prevalence of 0\.01"):
            useless.rethreshold(prevalence=0.01, keep="ppv")
        with pytest.raises(ValueError, match="keep='sensitivity'; expected one of"):
            point.rethreshold(prevalence=0.1, keep="sensitivity")

    @pytest.mark.parametrize("prevalence", [0, 1, 1.2, True, "0.5", math.nan])
    def test_no_prevalence(self, prevalence):
        point = operating_point(*data())
        with pytest.raises(ValueError, match=r"expected a share in \(0, 1\)"):
            point.rethreshold(prevalence=prevalence)
        with pytest.raises(ValueError, match=r"expected a share in \(0, 1\)"):
            point.at_prevalence(prevalence)

    def test_a_point_made_by_hand_has_no_scores(self):
        share = Interval(0.9, 0.8, 0.95, 0.95)
        point = OperatingPoint(0.5, share, share, share, share, 0.5, 10, 10, 20)
        with pytest.raises(ValueError, match="was not made by operating_point"):
            point.rethreshold(prevalence=0.1)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (("youden", 1), "expected a pair of one of"),
        (("sensitivity",), "expected a pair of one of"),
        (("sensitivity", 1.2), r"expected a share in \[0, 1\]"),
        (("threshold", math.inf), "expected a finite number"),
        (("threshold", "0.5"), "expected a finite number"),
    ],
)
def test_targets_that_are_none(target, message):
    with pytest.raises(ValueError, match=message):
        operating_point(*data(), target=target)


def test_as_json_as_text_and_pickled():
    point = operating_point(*data(), groups=np.arange(400) // 2)
    values = json.loads(json.dumps(point.to_dict()))
    assert values["sensitivity"] == point.sensitivity._asdict()
    assert set(values) == {
        *("threshold", "sensitivity", "specificity", "ppv", "npv", "prevalence"),
        *("n_positive", "n_negative", "n_patients"),
    }
    assert f"sensitivity {point.sensitivity.estimate:.3f}" in str(point)
    assert "200 patients, intervals at 95 %" in str(point)
    assert "_sample" not in repr(point)
    loaded = pickle.loads(pickle.dumps(point))
    assert loaded == point and loaded.rethreshold(0.1) == point.rethreshold(0.1)
    with pytest.raises(AttributeError):
        point.threshold = 0.5
