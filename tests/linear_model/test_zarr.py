"""Rows of a zarr array, which is read where it lies and never as a whole."""

import numpy as np
import pytest
import zarr

from sklearn_cxr.decomposition import PixelPCA, _merge
from sklearn_cxr.linear_model import PixelLogisticRegression, PixelLogisticRegressionCV
from sklearn_cxr.preprocessing import PixelScaler
from sklearn_cxr.utils import _chunks, _design
from sklearn_cxr.utils._chunks import as_rows
from sklearn_cxr.utils._subset import subset

N, SIDE, AT_ONCE = 90, 8, 16
GROUPS = np.arange(N) // 2


def films(dtype=np.uint8):
    rng = np.random.default_rng(0)
    y = GROUPS % 2
    X = rng.normal(110, 25, (N, SIDE, SIDE))
    X[y == 1, 2:5, 2:5] += 12
    return X.clip(0, 255).astype(dtype), y


def stored(X, folder):
    rows = zarr.open(
        str(folder / "films.zarr"),
        mode="w",
        shape=X.shape,
        chunks=(7, *X.shape[1:]),
        dtype=X.dtype,
    )
    rows[:] = X
    return rows


@pytest.fixture
def reads(monkeypatch):
    """Numbers of rows that zarr was asked for at once; all of them at once are refused."""
    numbers = []
    read = zarr.Array.__getitem__

    def watched(self, key):
        out = read(self, key)
        numbers.append(len(out))
        return out

    def refuse(self, *args, **kwargs):
        raise AssertionError("the whole was asked for")

    monkeypatch.setattr(zarr.Array, "__getitem__", watched)
    monkeypatch.setattr(zarr.Array, "__array__", refuse)
    # These few films would otherwise be one chunk.
    monkeypatch.setattr(_design, "_CHUNK_BYTES", 8 * SIDE**2 * AT_ONCE)
    monkeypatch.setattr(_chunks, "_BLOCK_VALUES", SIDE**2 * AT_ONCE)
    monkeypatch.setattr(_merge, "_CHUNK_BYTES", 8 * SIDE**2 * AT_ONCE)
    monkeypatch.setattr(_chunks, "CHUNK_VALUES", SIDE**2 * AT_ONCE)
    monkeypatch.setattr(_design, "_VALUES_FOR_NUMPY", 0)
    yield numbers
    assert numbers and max(numbers) <= AT_ONCE


@pytest.mark.parametrize("solver", ["passes", "gram"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_logistic_regression(solver, dtype, tmp_path, reads):
    X, y = films(dtype)
    rows, model = stored(X, tmp_path), PixelLogisticRegression(C=0.1, solver=solver)
    expected = model.fit(X, y).coef_
    probabilities = model.predict_proba(X)
    np.testing.assert_allclose(model.fit(rows, y).coef_, expected, rtol=1e-6, atol=1e-10)
    assert model.image_shape_ == (SIDE, SIDE)
    np.testing.assert_allclose(model.predict_proba(rows), probabilities, rtol=1e-6)
    np.testing.assert_array_equal(model.predict(rows), model.predict(X))


def test_the_penalty_path(tmp_path, reads):
    X, y = films()
    search = PixelLogisticRegressionCV([1e-3, 1e-2, 1e-1], cv=3)
    expected = search.fit(X, y, groups=GROUPS).scores_
    rows, C = stored(X, tmp_path), search.C_
    search.fit(rows, y, groups=GROUPS)
    np.testing.assert_allclose(search.scores_, expected, atol=1e-9)
    assert search.C_ == C


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_principal_components(dtype, tmp_path, reads):
    X, _ = films(dtype)
    rows, whole = stored(X, tmp_path), PixelPCA(3).fit(X)
    pca = PixelPCA(3).fit(rows)
    np.testing.assert_allclose(pca.explained_variance_, whole.explained_variance_, rtol=1e-6)
    np.testing.assert_allclose(pca.transform(rows), whole.transform(X), rtol=1e-3, atol=1e-2)
    assert pca.inverse_transform(pca.transform(rows)).shape == X.shape


def test_principal_components_of_parts(tmp_path, monkeypatch, reads):
    # As many rows are taken at once as axes are carried along.
    monkeypatch.setattr(_merge, "_SPARE", AT_ONCE - 2)
    X, _ = films()
    rows, expected = stored(X, tmp_path), PixelPCA(1).partial_fit(X)
    found = PixelPCA(1).partial_fit(rows)
    assert found.n_samples_seen_ == N
    np.testing.assert_allclose(found.components_, expected.components_, atol=1e-9)


def test_estimators_that_stream(tmp_path, reads):
    X, _ = films()
    rows, expected = stored(X, tmp_path), PixelScaler().fit(X)
    np.testing.assert_allclose(PixelScaler().fit(rows).transform(rows), expected.transform(X))


def test_a_value_that_is_none(tmp_path, reads):
    X, y = films(np.float32)
    X[70, 3, 3] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN"):
        PixelLogisticRegression().fit(stored(X, tmp_path), y)


def test_rows_by_number(tmp_path, reads):
    X, _ = films()
    picked = np.array([80, 3, 3, 17])
    np.testing.assert_array_equal(subset(as_rows(stored(X, tmp_path)), picked)[:], X[picked])
