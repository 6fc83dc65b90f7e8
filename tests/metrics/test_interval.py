import math

import numpy as np
import pytest
from scipy.stats import binomtest

from sklearn_cxr.metrics._interval import share_interval, wilson_interval


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (1, 10), (50, 73), (19, 20), (20, 20)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_wilson_is_that_of_scipy(hits, n, confidence):
    expected = binomtest(hits, n).proportion_ci(confidence, method="wilson")
    interval = wilson_interval(hits / n, n, confidence)
    assert interval[:3] == pytest.approx((hits / n, expected.low, expected.high), abs=1e-12)
    images = np.arange(n) < hits
    assert share_interval(images, None, n, confidence) == pytest.approx(interval)
    # A patient for each image, and patients without an image, change nothing.
    single = share_interval(images, np.arange(n) * 2, 2 * n, confidence)
    assert single == pytest.approx(interval, abs=1e-12)


def test_design_effect_by_hand():
    # Four patients with 3 images: 3, 3, 2 and 0 hits of 3, hence 8 of 12.
    # Deviations 1, 1, 0, -2 from 2 each: variance 4/3 * 6 / 144 = 1/18, between images as if
    # independent 2/9 / 11 = 2/99, design effect 11/4.
    hits = np.array([1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0], dtype=bool)
    interval = share_interval(hits, np.repeat(np.arange(4), 3), 4, 0.95)
    assert interval == pytest.approx(wilson_interval(8 / 12, 12 / (11 / 4), 0.95))


def test_copies_of_an_image_tell_nothing():
    rng = np.random.RandomState(0)
    hits = rng.uniform(size=80) < 0.7
    single = share_interval(hits, np.arange(80), 80, 0.95)
    copied = share_interval(np.repeat(hits, 5), np.repeat(np.arange(80), 5), 80, 0.95)
    assert copied == pytest.approx(single, abs=1e-3)


def test_patients_that_differ_less_than_chance_do_not_narrow_it():
    hits = np.tile([True, False], 20)
    interval = share_interval(hits, np.repeat(np.arange(20), 2), 20, 0.95)
    assert interval == wilson_interval(0.5, 40, 0.95)


def test_without_a_miss_each_patient_counts_once():
    codes = np.repeat(np.arange(10), 4)
    full = share_interval(np.ones(40, dtype=bool), codes, 10, 0.95)
    assert full == wilson_interval(1.0, 10, 0.95)
    assert full.high == 1.0
    none = share_interval(np.zeros(40, dtype=bool), codes, 10, 0.95)
    assert none.low == 0.0 and none.high == pytest.approx(1 - full.low)


def test_one_patient_has_the_weight_of_one_image():
    interval = share_interval(np.array([True, False, True]), np.zeros(3, dtype=int), 5, 0.95)
    assert interval == wilson_interval(2 / 3, 1, 0.95)
    assert math.isfinite(interval.low) and interval.high - interval.low > 0.8
