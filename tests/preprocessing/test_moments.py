import numpy as np
import pytest

from sklearn_cxr.preprocessing._moments import ColumnMoments, is_constant


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64, bool])
def test_equals_numpy_whatever_the_chunks(dtype):
    values = (np.random.default_rng(0).random((37, 5)) * 2**9).astype(dtype)
    moments = ColumnMoments(5)
    for start, stop in [(0, 1), (1, 20), (20, 37)]:
        moments.update(values[start:stop])
    n, mean, variance = moments.finish()
    assert n == 37
    np.testing.assert_allclose(mean, values.mean(axis=0, dtype=np.float64), rtol=1e-13)
    np.testing.assert_allclose(variance, values.astype(np.float64).var(axis=0), rtol=1e-12)


def test_goes_on_after_finish():
    values = np.random.default_rng(0).integers(0, 256, (30, 4)).astype(np.uint8)
    moments = ColumnMoments(4)
    moments.update(values[:11])
    moments.finish()
    moments.update(values[11:])
    n, mean, variance = moments.finish()
    assert n == 30
    np.testing.assert_allclose(mean, values.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(variance, values.var(axis=0), rtol=1e-12)


def test_sums_beyond_32_bits():
    bright = np.full((140_000, 1), 255, dtype=np.uint8)
    moments = ColumnMoments(1)
    moments.update(bright)
    assert moments.finish() == (140_000, 255, 0)
    brighter = np.full((70_000, 1), 65535, dtype=np.uint16)
    moments = ColumnMoments(1)
    moments.update(brighter)
    assert moments.finish() == (70_000, 65535, 0)


def test_merge_of_known_moments():
    values = np.random.default_rng(0).normal(5, 2, (20, 3))
    moments = ColumnMoments(3)
    moments.merge(8, values[:8].mean(axis=0), values[:8].var(axis=0) * 8)
    moments.update(values[8:])
    n, mean, variance = moments.finish()
    assert n == 20
    np.testing.assert_allclose(mean, values.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(variance, values.var(axis=0), rtol=1e-12)


def test_is_constant_forgives_rounding_only():
    variance = np.array([0.0, 1e-34, 1e-20, 1.0])
    np.testing.assert_array_equal(
        is_constant(100, np.full(4, 0.1), variance), [True, True, False, False]
    )
