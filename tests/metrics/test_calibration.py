import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from sklearn_cxr.metrics import bootstrap_interval, calibration_error, calibration_error_interval


def sample(n_patients, seed, power=1.0, copies=1):
    """Labels whose true probability is ``p``, and the claim ``p ** power``."""
    rng = np.random.RandomState(seed)
    p = rng.uniform(size=n_patients)
    y = (rng.uniform(size=n_patients) < p).astype(int)
    groups = np.repeat(np.arange(n_patients), copies)
    return y[groups], p[groups] ** power, groups


def true_error(power, n_bins=10):
    p = (np.arange(200_000) + 0.5) / 200_000
    bins = np.minimum((p**power * n_bins).astype(int), n_bins - 1)
    return np.abs(np.bincount(bins, weights=p - p**power)).sum() / len(p)


@pytest.mark.parametrize("n_bins", [1, 5, 10])
def test_error_is_that_of_scikit_learns_curve(n_bins):
    y, probability, _ = sample(300, 0)
    shares, means = calibration_curve(y, probability, n_bins=n_bins)
    bins = np.searchsorted(np.linspace(0, 1, n_bins + 1)[1:-1], probability)
    sizes = np.bincount(bins, minlength=n_bins)
    expected = np.abs(shares - means) @ sizes[sizes > 0] / 300
    assert calibration_error(y, probability, n_bins=n_bins) == pytest.approx(expected)


@pytest.mark.parametrize("n_bins", [1, 5, 10])
def test_bins_of_equally_many_images(n_bins):
    # Some bins are too high and others too low: else the bins would not matter.
    y, probability, _ = sample(300, 0)
    rising = np.argsort(probability)
    distances = (y - probability)[rising].reshape(n_bins, -1).mean(axis=1)
    found = calibration_error(y, probability, n_bins=n_bins, strategy="quantile")
    assert found == pytest.approx(np.abs(distances).mean())


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_weights_are_copies(strategy):
    y, probability, _ = sample(100, 1)
    counts = np.random.RandomState(0).randint(4, size=100)
    given = {"strategy": strategy, "n_bins": 4}
    copied = calibration_error(np.repeat(y, counts), np.repeat(probability, counts), **given)
    weighted = calibration_error(y, probability, sample_weight=counts, **given)
    assert weighted == pytest.approx(copied)
    by_share = calibration_error(y, probability, sample_weight=counts / counts.sum(), **given)
    assert by_share == pytest.approx(copied)


def test_the_other_class_has_the_same_error():
    y, probability, _ = sample(100, 1)
    names = np.where(y, "viral", "normal")
    error = calibration_error(names, probability, n_bins=7)
    assert error == calibration_error(y, probability, n_bins=7)
    other = calibration_error(names, 1 - probability, n_bins=7, pos_label="normal")
    assert other == pytest.approx(error)


@pytest.mark.parametrize("function", [calibration_error, calibration_error_interval])
def test_scores_are_refused(function):
    with pytest.raises(
        ValueError, match=r"1 values in probability outside of \[0, 1\], such as 2"
    ):
        function([0, 1, 1], [0.5, 2.0, 0.1])


def test_estimate_and_reproducibility():
    y, probability, groups = sample(200, 2, power=1.5, copies=2)
    interval = calibration_error_interval(y, probability, groups=groups, random_state=0)
    assert interval.estimate == pytest.approx(calibration_error(y, probability))
    assert interval.low < interval.estimate < interval.high
    assert calibration_error_interval(y, probability, groups=groups, random_state=0) == interval


def test_copies_tell_nothing():
    y, probability, groups = sample(300, 3, power=2, copies=3)
    single = calibration_error_interval(y[::3], probability[::3], random_state=0)
    copied = calibration_error_interval(y, probability, groups=groups, random_state=0)
    assert copied == pytest.approx(single, abs=1e-12)
    unknown = calibration_error_interval(y, probability, random_state=0)
    assert unknown.high - unknown.low < 0.75 * (copied.high - copied.low)


def test_one_bin_is_the_interval_of_a_mean():
    """With one bin that is surely wrong, the error is the mean of probability less label."""
    y, probability, _ = sample(500, 4, power=4)
    interval = calibration_error_interval(
        y, probability, n_bins=1, n_resamples=3000, random_state=0
    )
    spread = (y - probability).std() / np.sqrt(500)
    assert interval.estimate == pytest.approx(abs(np.mean(y - probability)))
    assert interval.high - interval.estimate == pytest.approx(1.96 * spread, rel=0.06)


@pytest.mark.parametrize("power", [1.0, 1.2, 2.0])
def test_intervals_cover_the_truth_where_percentiles_do_not(power):
    truth = true_error(power)
    inside, by_percentiles = [], []
    for seed in range(150):
        y, probability, groups = sample(300, seed, power=power, copies=2)
        options = {"groups": groups, "n_resamples": 200, "random_state": seed}
        interval = calibration_error_interval(y, probability, **options)
        inside.append(interval.low <= truth + 1e-9 and truth <= interval.high)
        if power == 1 and seed < 10:
            interval = bootstrap_interval(calibration_error, y, probability, **options)
            by_percentiles.append(interval.low <= truth)
    # Standard error of 150 runs at 0.95: 0.018; it may be wider than that, not narrower.
    assert np.mean(inside) >= 0.9
    assert not any(by_percentiles)


def test_edges_of_many_equal_weights():
    # The sum of a hundred thousand tenths is off by more than the steps of float64 near 1.
    rng = np.random.RandomState(0)
    probability = rng.permutation(100_000) / 100_000
    # One bin too high, the next too low, so that a film beyond an edge changes the error.
    wrong = np.where((probability * 10).astype(int) % 2, 0.1, -0.1)
    y = rng.uniform(size=100_000) < probability + wrong
    plain = calibration_error(y, probability, strategy="quantile")
    weights = np.full(100_000, 0.1)
    weighted = calibration_error(y, probability, strategy="quantile", sample_weight=weights)
    assert weighted == pytest.approx(plain, abs=1e-12)


def test_no_films_at_all():
    with pytest.raises(ValueError, match="labels of one class only"):
        calibration_error([], [])
