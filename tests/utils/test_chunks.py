import h5py
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, clone

from sklearn_cxr.decomposition import PixelPCA
from sklearn_cxr.preprocessing._intensity import IntensityScaler
from sklearn_cxr.preprocessing._pixel_scaler import PixelScaler
from sklearn_cxr.preprocessing._sampler import RandomPixelSampler
from sklearn_cxr.utils import _chunks, _design
from sklearn_cxr.utils._chunks import (
    ImageChunks,
    as_rows,
    chunk_slices,
    is_row_view,
    stored_step,
)


class _Model(BaseEstimator):
    """An estimator to validate for."""


class _RowView:
    """Hands out rows, and fails where more than `most` of them are asked for at once."""

    def __init__(self, images, most):
        self._images, self._most = images, most
        self.shape, self.dtype = images.shape, images.dtype

    def __len__(self):
        return len(self._images)

    def __getitem__(self, rows):
        return _RowView(self._images[rows], self._most)

    def __array__(self, dtype=None, copy=None):
        assert len(self) <= self._most, f"{len(self)} rows were materialised at once"
        return np.array(self._images, dtype=dtype)


def _films(n=11, shape=(4, 6), dtype=np.uint8):
    images = np.random.default_rng(0).integers(0, 256, (n, *shape)).astype(np.uint8)
    return (images / 255).astype(dtype) if np.dtype(dtype).kind == "f" else images.astype(dtype)


def test_is_row_view():
    images = _films()
    assert is_row_view(_RowView(images, 1))
    assert is_row_view(_RowView(images.reshape(11, -1), 1))
    frame = pd.DataFrame(images.reshape(11, -1))
    paths = pd.Series(["a.png"])
    for X in (images, images.tolist(), frame, paths, _RowView(np.array(["a", "b"]), 1)):
        assert not is_row_view(X)


class _WithoutLength:
    """Rows as zarr's arrays hand them out since version 3."""

    def __init__(self, images):
        self._images, self.shape, self.dtype = images, images.shape, images.dtype

    def __getitem__(self, rows):
        return self._images[rows]

    def __array__(self, dtype=None, copy=None):
        return np.array(self._images, dtype=dtype)


def test_rows_without_a_length_get_one():
    images = _films()
    rows = as_rows(_WithoutLength(images))
    assert is_row_view(rows) and len(rows) == 11 and rows.ndim == 3
    np.testing.assert_array_equal(rows[2:5], images[2:5])
    np.testing.assert_array_equal(np.asarray(rows, dtype=float), images)
    chunks = ImageChunks(_Model(), _WithoutLength(images), reset=True, batch_size=4)
    np.testing.assert_array_equal(np.concatenate(list(chunks)), images.reshape(11, -1))
    view = _RowView(images, 1)
    for X in (
        images,
        images.tolist(),
        view,
        pd.DataFrame(images.reshape(11, -1)),
        images[0, 0, 0],
    ):
        assert as_rows(X) is X
    text = _WithoutLength(np.array([["a", "b"]]))
    assert as_rows(text) is text
    with pytest.raises(TypeError, match="can be read once only"):
        as_rows(iter(images))


@pytest.mark.parametrize(("n", "batch_size"), [(11, 4), (11, 11), (11, 50), (1, None), (12, 4)])
def test_chunk_slices(n, batch_size):
    slices = chunk_slices(n, 6, batch_size)
    assert np.concatenate([np.arange(n)[part] for part in slices]).tolist() == list(range(n))
    assert {part.stop - part.start for part in slices[:-1]} <= {batch_size}


def test_chunk_slices_of_large_images_hold_one():
    assert chunk_slices(3, 10**8) == [slice(0, 1), slice(1, 2), slice(2, 3)]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("shaped", [True, False])
def test_view_equals_array(dtype, shaped):
    images = _films(dtype=dtype)
    X = images if shaped else images.reshape(11, -1)
    from_array, from_view = _Model(), _Model()
    image_shape = None if shaped else (4, 6)
    array = ImageChunks(from_array, X, reset=True, image_shape=image_shape, batch_size=3)
    view = ImageChunks(
        from_view, _RowView(X, 3), reset=True, image_shape=image_shape, batch_size=3
    )
    np.testing.assert_array_equal(np.concatenate(list(view)), np.concatenate(list(array)))
    assert vars(from_view) == vars(from_array)
    assert from_view.image_shape_ == (4, 6)
    for name in ("shaped", "n_features", "dtype"):
        assert getattr(view, name) == getattr(array, name)
    assert [rows for rows, _ in view.items()] == [rows for rows, _ in array.items()]
    assert view.shaped is shaped and len(view) == len(array) == 11
    for rows, chunk in view.items():  # and again
        np.testing.assert_array_equal(chunk, images.reshape(11, -1)[rows])


def test_chunks_of_an_array_are_views():
    images = _films()
    for chunk in ImageChunks(_Model(), images, reset=True, batch_size=2):
        assert np.shares_memory(chunk, images)


def test_view_is_checked_for_finiteness():
    images = _films(dtype=np.float64)
    images[9, 2, 2] = np.inf
    chunks = iter(ImageChunks(_Model(), _RowView(images, 4), reset=True, batch_size=4))
    assert len(next(chunks)) == len(next(chunks)) == 4
    with pytest.raises(ValueError, match="contains infinity"):
        next(chunks)


def test_view_is_held_to_shape_and_kind_of_fit():
    model = _Model()
    images = _films()
    list(ImageChunks(model, _RowView(images, 11), reset=True))
    with pytest.raises(ValueError, match=r"\(3, 6\), but _Model was fitted on \(4, 6\)"):
        ImageChunks(model, _RowView(images[:, :3], 11), reset=False)
    with pytest.raises(ValueError, match="23 features"):
        ImageChunks(model, _RowView(images.reshape(11, -1)[:, :23], 11), reset=False)
    with pytest.raises(ValueError, match=r"fitted on uint8 .* is uint16"):
        ImageChunks(model, _RowView(images.astype(np.uint16), 11), reset=False)
    with pytest.raises(ValueError, match=r"fitted on uint8 .* \(float64, 0 to 1\)"):
        list(ImageChunks(model, _RowView(images / 255, 3), reset=False, batch_size=3))
    with pytest.raises(ValueError, match="0 sample"):
        ImageChunks(model, _RowView(images[:0], 11), reset=False)


def test_kind_of_a_view_is_that_of_all_its_rows():
    values = np.zeros((6, 2, 2))
    values[5] = 2.5
    model = _Model()
    list(ImageChunks(model, _RowView(values, 2), reset=True, batch_size=2))
    assert model.input_kind_ == "other"
    assert model.n_features_in_ == 4


def test_names_of_an_earlier_fit_are_forgotten():
    model = _Model()
    frame = pd.DataFrame(_films().reshape(11, -1)).add_prefix("p")
    list(ImageChunks(model, frame, reset=True))
    assert model.feature_names_in_[0] == "p0"
    list(ImageChunks(model, _RowView(_films(), 11), reset=True))
    assert not hasattr(model, "feature_names_in_")


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shaped", [True, False])
@pytest.mark.parametrize(
    "estimator",
    [
        PixelScaler(),
        IntensityScaler("standard", per="dataset"),
        IntensityScaler("percentile", per="dataset"),
        IntensityScaler(),
        RandomPixelSampler(5, random_state=0),
    ],
    ids=str,
)
def test_streaming_estimators_never_materialise_a_view(estimator, dtype, shaped, monkeypatch):
    monkeypatch.setattr("sklearn_cxr.utils._chunks.CHUNK_VALUES", 3 * 24)
    images = _films(dtype=dtype)
    X = images if shaped else images.reshape(11, -1)
    estimator = clone(estimator).set_params(image_shape=(4, 6))
    from_view = clone(estimator).fit(_RowView(X, 3))
    from_array = clone(estimator).fit(X)
    for name, value in vars(from_array).items():
        np.testing.assert_array_equal(vars(from_view)[name], value, err_msg=name)
    np.testing.assert_array_equal(from_view.transform(_RowView(X, 3)), from_array.transform(X))


@pytest.mark.parametrize(
    ("chunks", "n_values", "expected"),
    [
        (None, 500, 20),
        ((7, 2, 6), 500, 14),  # two chunks of seven rows
        ((30, 4, 6), 500, 30),  # one that is larger, but not by far
        ((180, 4, 6), 500, 20),
        ((20, 4, 6), 500, 20),
        (None, 1, 1),
    ],
)
def test_whole_chunks_are_read_of_what_is_stored_in_chunks(chunks, n_values, expected):
    rows = _RowView(np.zeros((200, 4, 6), np.uint8), 200)
    rows.chunks = chunks
    # A row of 24 values, so that 500 of them hold twenty.
    assert stored_step(rows, n_values) == expected


@pytest.mark.parametrize("read", [lambda X: PixelPCA(2).fit(X), lambda X: PixelScaler().fit(X)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_every_chunk_of_a_file_is_unpacked_once_a_pass(dtype, read, tmp_path, monkeypatch):
    images = _films(60, dtype=dtype)
    asked = []
    take = h5py.Dataset.__getitem__

    def watched(self, key):
        asked.append(key)
        return take(self, key)

    monkeypatch.setattr(_chunks, "_BLOCK_VALUES", 15 * 24)
    monkeypatch.setattr(_design, "_CHUNK_BYTES", 8 * 15 * 24)
    with h5py.File(tmp_path / "films.h5", "w") as file:
        stored = file.create_dataset("films", data=images, chunks=(7, 2, 3))
        monkeypatch.setattr(h5py.Dataset, "__getitem__", watched)
        read(stored)
    starts = [key.start for key in asked if isinstance(key, slice) and key.start]
    assert len(starts) >= 4
    assert all(start % 14 == 0 for start in starts)


def test_a_file_that_shrinks_between_two_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(_chunks, "_BLOCK_VALUES", 7 * 24)
    with h5py.File(tmp_path / "films.h5", "w") as file:
        stored = file.create_dataset(
            "films", data=_films(60), chunks=(7, 4, 6), maxshape=(60, 4, 6)
        )
        blocks = _chunks.read_blocks(stored)
        assert len(next(blocks)[1]) == 7
        stored.resize(10, axis=0)
        with pytest.raises(ValueError, match=r"had 60 rows .* gave 3 of the rows 7 to 13"):
            next(blocks)
