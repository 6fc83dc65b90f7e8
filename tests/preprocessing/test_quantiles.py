import numpy as np
import pytest

from sklearn_cxr.preprocessing._quantiles import stream_percentiles


@pytest.mark.parametrize("chunk", [1, 7, 1000])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
def test_stream_percentiles_equals_numpy(dtype, chunk):
    values = np.random.default_rng(1).normal(0, 50, 1001)
    if np.dtype(dtype).kind == "u":
        values = np.abs(values)
    values = values.astype(dtype)
    values[:60] = 0
    if dtype == np.float64:
        values[:6] = [-0.0, 5e-324, -5e-324, 1e300, -1e300, 1e-300]
    chunks = [values[i : i + chunk] for i in range(0, len(values), chunk)]
    quantiles = [0, 0.1, 1, 33.3, 50, 99, 100]
    got = stream_percentiles(chunks, quantiles, size=len(values), dtype=values.dtype)
    expected = np.percentile(values.astype(np.float64), quantiles)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
