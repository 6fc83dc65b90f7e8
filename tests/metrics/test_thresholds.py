import numpy as np
import pytest

from sklearn_cxr.metrics import (
    constrained_sensitivity_score,
    constrained_specificity_score,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
)
from sklearn_cxr.metrics._thresholds import roc_points


def search(y, score, weights, *, least_sensitivity=0.0, least_specificity=0.0):
    """Sensitivity and specificity at every threshold that there is, by counting."""
    found = []
    for threshold in [*np.unique(score), np.inf]:
        called = score >= threshold
        sensitivity = weights[(y == 1) & called].sum() / weights[y == 1].sum()
        specificity = weights[(y == 0) & ~called].sum() / weights[y == 0].sum()
        if sensitivity >= least_sensitivity - 1e-9 and specificity >= least_specificity - 1e-9:
            found.append((sensitivity, specificity))
    return np.array(found)


@pytest.mark.parametrize("target", [0, 0.5, 0.9, 0.95, 1])
@pytest.mark.parametrize("decimals", [6, 1])
@pytest.mark.parametrize("weighted", [False, True])
def test_best_of_all_thresholds(target, decimals, weighted):
    rng = np.random.RandomState(0)
    y = rng.randint(2, size=80)
    score = (y + rng.normal(size=80)).round(decimals)
    weights = rng.randint(4, size=80).astype(float) if weighted else np.ones(80)
    options = {"sample_weight": weights} if weighted else {}
    assert sensitivity_at_specificity(y, score, specificity=target, **options) == pytest.approx(
        search(y, score, weights, least_specificity=target)[:, 0].max()
    )
    assert specificity_at_sensitivity(y, score, sensitivity=target, **options) == pytest.approx(
        search(y, score, weights, least_sensitivity=target)[:, 1].max()
    )


def test_a_share_that_is_just_reached_counts():
    y = np.repeat([0, 1], 20)
    score = np.concatenate([np.arange(20), 0.5 + np.arange(20)])
    # 19 of 20 negatives lie below 18.5, two positives do not.
    assert sensitivity_at_specificity(y, score, specificity=19 / 20) == 2 / 20
    assert sensitivity_at_specificity(y, score, specificity=0.95) == 2 / 20
    assert specificity_at_sensitivity(y, score, sensitivity=0.95) == 2 / 20
    thirds = np.full(40, 1 / 3)
    assert sensitivity_at_specificity(
        y, score, specificity=0.95, sample_weight=thirds
    ) == pytest.approx(2 / 20)


def test_ties_across_classes_are_not_split():
    assert sensitivity_at_specificity([0, 0, 1, 1], [0.2, 0.5, 0.5, 0.9], specificity=1.0) == 0.5
    assert specificity_at_sensitivity([0, 0, 1, 1], [0.5] * 4, sensitivity=0.95) == 0.0


def test_the_positive_class_can_be_named():
    y = np.array(["normal", "normal", "viral", "viral", "bacterial"])
    score = np.array([0.9, 0.6, 0.5, 0.4, 0.1])
    options = {"specificity": 1.0, "pos_label": "normal"}
    assert sensitivity_at_specificity(y, score, **options) == 1.0
    with pytest.raises(ValueError, match="weight of 0 for all positive images"):
        specificity_at_sensitivity([0, 1], [0, 1], sample_weight=[1, 0])


def test_roc_points_begin_above_the_greatest_score():
    thresholds, sensitivity, specificity = roc_points(
        np.array([True, False, True, False]), np.array([0.5, 0.25, 0.25, 0.0])
    )
    assert thresholds[0] > 0.5 and thresholds[0] == pytest.approx(0.5)
    assert thresholds[1:].tolist() == [0.5, 0.25, 0.0]
    assert sensitivity.tolist() == [0, 0.5, 1, 1]
    assert specificity.tolist() == [1, 1, 0.5, 0]


def test_constrained_scores():
    y = np.repeat(["normal", "viral"], 20)
    predicted = np.repeat(["normal", "viral", "normal", "viral"], [16, 4, 1, 19])
    assert constrained_specificity_score(y, predicted) == 0.8
    assert constrained_specificity_score(y, predicted, sensitivity=0.96) == pytest.approx(-10.01)
    assert constrained_sensitivity_score(y, predicted, specificity=0.8) == 0.95
    assert constrained_sensitivity_score(y, predicted) == pytest.approx(-10.15)
    assert constrained_specificity_score(y, predicted, pos_label="normal", sensitivity=0.8) == 0.95
    # Without the missed one, all positives are found.
    weights = np.where((y == "viral") & (predicted == "normal"), 0.0, 1.0)
    assert constrained_specificity_score(y, predicted, sensitivity=1, sample_weight=weights) == 0.8


def test_a_threshold_that_fails_in_one_of_ten_folds_loses():
    y = np.repeat([0, 1], 10)
    kept = constrained_specificity_score(y, np.ones(20, dtype=int))
    missed = constrained_specificity_score(y, np.repeat([0, 1], [11, 9]), sensitivity=1)
    assert kept == 0 and 9 * 1.0 + missed < 10 * kept
