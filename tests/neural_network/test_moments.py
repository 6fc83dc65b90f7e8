"""Range, mean and deviation against NumPy's over the whole."""

import numpy as np
import pytest
from network_common import InChunks

from sklearn_cxr.neural_network._moments import channel_moments, check_levels, level_bounds
from sklearn_cxr.utils import _chunks

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(_chunks, "CHUNK_VALUES", 60)


@pytest.mark.parametrize("n_channels", [1, 3])
def test_moments_by_channel(n_channels):
    X = RNG.normal(1000, 5, size=(17, 4, 5, n_channels))
    weight = RNG.uniform(0, 2, 17)
    pixels = X.reshape(17, -1, n_channels)
    each = np.repeat(weight, pixels.shape[1])
    flat = pixels.reshape(-1, n_channels)
    expected = np.average(flat, axis=0, weights=each)
    deviation = np.sqrt(np.average((flat - expected) ** 2, axis=0, weights=each))
    mean, std = channel_moments(X, weight, n_channels)
    np.testing.assert_allclose(mean, expected)
    np.testing.assert_allclose(std, deviation, rtol=1e-9)


def test_rows_are_read_in_pieces():
    X = RNG.integers(0, 256, (40, 5, 4), dtype=np.uint8)
    view = InChunks(X)
    mean, std = channel_moments(view, np.ones(40), 1)
    assert mean[0] == pytest.approx(X.mean())
    assert std[0] == pytest.approx(X.std())
    assert level_bounds(view) == (X.min(), X.max())
    assert view.largest == 3


def test_a_constant_has_deviation_one():
    mean, std = channel_moments(np.full((6, 3, 3), 0.1), np.ones(6), 1)
    assert mean[0] == pytest.approx(0.1)
    assert std[0] == 1
    assert level_bounds(np.full((6, 3, 3), 7.0)) == (7, 8)


def test_an_outlier_that_does_not_count_leaves_the_scale():
    X = RNG.normal(size=(30, 2))
    X[0] = 1e7
    weight = np.r_[0.0, np.ones(29)]
    mean, std = channel_moments(X, weight, 2)
    np.testing.assert_allclose(mean, X[1:].mean(axis=0))
    np.testing.assert_allclose(std, X[1:].std(axis=0))


def test_small_values_are_no_constants():
    X = 1e-7 * RNG.normal(size=(30, 2))
    mean, std = channel_moments(X, np.ones(30), 2)
    np.testing.assert_allclose(mean, X.mean(axis=0))
    np.testing.assert_allclose(std, X.std(axis=0))


def test_levels_of_a_kind_are_known_without_reading():
    view = InChunks(RNG.integers(0, 256, (40, 5, 4), dtype=np.uint8))
    assert check_levels(view, None, "X") == (0, 255)
    assert view.largest <= 1


def test_levels_are_held_to_the_range():
    X = RNG.uniform(0, 1, (40, 5, 4))
    assert check_levels(InChunks(X), None, "X") == (0, 1)
    assert check_levels(X * 100, (-10, 200), "X") == (-10, 200)
    X[-1, 0, 0] = 1.5
    with pytest.raises(ValueError, match=r"X expected values in \[0, 1\], got"):
        check_levels(InChunks(X), None, "X")
