"""Batches read piece by piece, because the whole may not fit into memory."""

import math
from collections.abc import Iterator
from numbers import Integral

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import check_consistent_length, validate_data

from sklearn_cxr.utils._files import check_mapped, check_open
from sklearn_cxr.utils._images import (
    check_image_shape,
    check_kind,
    is_shaped,
    resolve_image_shape,
    validate_images,
)
from sklearn_cxr.utils._subset import Rows

_BLOCK_VALUES = 2**22  # read at once of what is stored in chunks
CHUNK_VALUES = 2**20  # 8 MiB in float64: large enough to amortise, small for the cache


def is_dask_array(X):
    """Tell whether X is a dask array, without importing dask."""
    return type(X).__module__.startswith("dask.array")


def is_row_view(X):
    """Tell whether X only hands out rows, like ImageReader's view or an HDF5 or zarr array.

    Rows that can be read once only, or no longer, raise.
    """
    if isinstance(X, np.ndarray):
        return False
    check_open(X)
    if isinstance(X, Iterator):
        raise TypeError(
            f"X is a {type(X).__name__}, whose rows can be read once only; every estimator reads "
            "them more often. Give an array, a list, a memory map or a row-indexed view."
        )
    return hasattr(X, "__len__") and _hands_out_rows(X)


def as_rows(X):
    """Return X, or where it has rows but no length, as a zarr array of today, a view that has.

    What is no such thing comes back as it is. Rows that can be read once only, or no longer,
    raise.
    """
    is_row_view(X)
    return Rows(X) if not hasattr(X, "__len__") and _hands_out_rows(X) else X


def _hands_out_rows(X):
    return (
        all(hasattr(X, name) for name in ("shape", "dtype", "__getitem__", "__array__"))
        and isinstance(X.dtype, np.dtype)
        and X.dtype.kind in "biuf"
        and len(X.shape) >= 2
    )


def is_shaped_rows(X):
    """Tell whether X is a shaped batch; rows that can be read once only, or no longer, raise."""
    is_row_view(X)
    return is_shaped(X)


def chunk_slices(n_samples, n_features, batch_size=None):
    """Slices that cut a batch into chunks.

    Parameters
    ----------
    n_samples : int
        Number of rows.

    n_features : int
        Number of values in a row.

    batch_size : int or None, default=None
        Rows in a chunk. None means as many as hold about a million values.

    Returns
    -------
    list of slice
        The slices, in order.
    """
    step = batch_size or max(1, CHUNK_VALUES // max(1, n_features))
    return [slice(start, min(start + step, n_samples)) for start in range(0, n_samples, step)]


def stored_step(X, n_values):
    """How many rows to read at once of what may be stored in chunks.

    A chunk of an HDF5 or a zarr array is read and unpacked whole for whichever rows of it are
    asked for, so that a step that divides chunks has them unpacked again and again.

    Parameters
    ----------
    X : array-like of shape (n, ...)
        Rows; the attribute `chunks` tells how they are stored, where they are in chunks.

    n_values : int
        About so many values are to be read at once.

    Returns
    -------
    int
        A number of rows, at least 1. Whole chunks where one of them is no more than eight times
        as large as that.
    """
    row = max(1, math.prod(X.shape[1:]))
    step = max(1, n_values // row)
    chunks = getattr(X, "chunks", None)
    if not chunks or not isinstance(chunks[0], Integral):
        return step
    if step >= chunks[0]:
        return step - step % chunks[0]
    return chunks[0] if chunks[0] * row <= 8 * n_values else step


def check_unshrunk(n_read, start, stop, n):
    """Raise where fewer rows were read than there were when the pass began.

    Parameters
    ----------
    n_read : int
        Number of rows that were read.

    start, stop : int
        Those that were asked for.

    n : int
        Number of all rows when the pass began.
    """
    if n_read != stop - start:
        raise ValueError(
            f"X had {n} rows when the pass began, but gave {n_read} of the rows {start} to "
            f"{stop - 1}: it has shrunk meanwhile. Leave the rows as they are until fit or "
            "predict has ended."
        )


def read_blocks(X):
    """Rows of a batch in the parts that it is best read in.

    Parameters
    ----------
    X : array-like of shape (n, ...)
        A batch. A dask array of known length is computed chunk by chunk, each of them once, and
        held one at a time, and an HDF5 or zarr array is read in whole chunks; anything else is
        its own only part.

    Yields
    ------
    start : int
        Number of the first row of the part.

    block : array-like of shape (m, ...)
        The part.
    """
    start = 0
    if is_dask_array(X):
        for number in range(X.numblocks[0]):
            block = np.asarray(X.blocks[number])
            yield start, block
            start += len(block)
    elif getattr(X, "chunks", None):
        n, step = len(X), stored_step(X, _BLOCK_VALUES)
        for start in range(0, n, step):
            block = np.asarray(X[start : start + step])
            check_unshrunk(len(block), start, min(start + step, n), n)
            yield start, block
    else:
        yield start, X


class _Extent:
    # Dtype and range of a batch, in the words that input_kind and check_kind ask an array in.
    def __init__(self, dtype):
        self.dtype, self.size = dtype, 0
        self._low, self._high = math.inf, -math.inf

    def add(self, chunk):
        self.size += chunk.size
        self._low = min(self._low, chunk.min())
        self._high = max(self._high, chunk.max())

    def min(self):
        return self._low

    def max(self):
        return self._high


class ImageChunks:
    """A batch of images as flat chunks in order, validated like `validate_images` does.

    An ndarray, list or DataFrame is validated at once and its chunks are views. A row-indexed
    view is never held whole: its values are validated during the first iteration, and its kind
    of grey level is known, and held to that of ``fit``, only when that iteration has ended.

    Parameters
    ----------
    estimator : estimator
        Gets ``n_features_in_``, ``image_shape_`` and ``input_kind_`` when `reset`.

    X : array-like or row-indexed view of shape (n, h, w), (n, h, w, c) or (n, n_features)
        The batch.

    reset : bool
        True in ``fit``.

    image_shape : tuple of int or None, default=None
        The estimator's parameter of that name.

    batch_size : int or None, default=None
        Rows in a chunk. None means as many as hold about a million values.

    Attributes
    ----------
    shaped : bool
        Whether `X` came shaped.

    n_features : int
        Number of values in a row.

    dtype : dtype
        That of the chunks.
    """

    def __init__(self, estimator, X, *, reset, image_shape=None, batch_size=None):
        X = as_rows(X)
        self._pending = is_row_view(X)
        if self._pending:
            self.shaped = _validate_view(estimator, X, reset=reset, image_shape=image_shape)
            self.n_features = math.prod(X.shape[1:])
        else:
            X, self.shaped = validate_images(estimator, X, reset=reset, image_shape=image_shape)
            self.n_features = X.shape[1]
        self._X, self._estimator, self._reset = X, estimator, reset
        self.dtype = X.dtype
        self._batch_size = batch_size

    def __len__(self):
        return len(self._X)

    def __iter__(self):
        return (chunk for _, chunk in self.items())

    def items(self):
        """Yield each chunk with the slice of its rows."""
        extent = _Extent(self.dtype)
        for first, block in read_blocks(self._X):
            for rows in chunk_slices(len(block), self.n_features, self._batch_size):
                chunk = np.asarray(block[rows]).reshape(-1, self.n_features)
                if self._pending:
                    chunk = check_array(chunk, input_name="X", estimator=self._estimator)
                    extent.add(chunk)
                yield slice(first + rows.start, first + rows.stop), chunk
        if self._pending:
            check_kind(self._estimator, extent, reset=self._reset)
            self._pending = False


def validate_rows(
    estimator, X, y="no_validation", *, reset, image_shape=None, ensure_min_samples=1
):
    """Validate a batch without holding it: what `validate_images` does, for row views too.

    Parameters
    ----------
    estimator : estimator
        Gets ``n_features_in_``, ``image_shape_`` and ``input_kind_`` when `reset`.

    X : array-like or row-indexed view of shape (n, h, w), (n, h, w, c) or (n, n_features)
        The batch.

    y : array-like, None or "no_validation", default="no_validation"
        Target, validated where given.

    reset : bool
        True in ``fit``.

    image_shape : tuple of int or None, default=None
        The estimator's parameter of that name.

    ensure_min_samples : int, default=1
        Fewest rows.

    Returns
    -------
    X : ndarray of shape (n, n_features), or the row view as it came
        Known to be finite numbers; a row view that has no length has got one.

    y : ndarray
        Only where `y` was given.
    """
    alone = isinstance(y, str) and y == "no_validation"
    X = as_rows(X)
    check_mapped(X)
    if getattr(getattr(X, "dtype", None), "kind", "f") in "mMV":
        raise TypeError(
            f"X holds {X.dtype}, which is no grey level. Give integers or floating point numbers."
        )
    if not is_row_view(X):
        out = validate_images(
            estimator,
            X,
            y,
            reset=reset,
            image_shape=image_shape,
            ensure_min_samples=ensure_min_samples,
        )
        return out[0] if alone else out[:2]
    if is_dask_array(X) and np.isnan(X.shape[0]):
        raise ValueError(
            "X is a dask array of unknown length. Call X.compute_chunk_sizes() first, which reads "
            "it once."
        )
    if len(X) < ensure_min_samples:
        raise ValueError(
            f"Found array with {len(X)} sample(s) while a minimum of {ensure_min_samples} is "
            f"required by {type(estimator).__name__}."
        )
    if is_dask_array(X):
        from sklearn_cxr.utils._dask import without_empty_chunks

        X = without_empty_chunks(X)
        _validate_dask(estimator, X, reset=reset, image_shape=image_shape)
    elif X.dtype in (np.uint8, np.uint16):
        # The dtype says it all: nothing has to be read.
        _validate_view(estimator, X, reset=reset, image_shape=image_shape)
        check_kind(estimator, _Extent(X.dtype), reset=reset)
    else:
        for _ in ImageChunks(estimator, X, reset=reset, image_shape=image_shape):
            pass
    if alone:
        return X
    y = validate_data(estimator, X="no_validation", y=y, reset=False)
    check_consistent_length(X, y)
    return X, y


def _validate_dask(estimator, X, *, reset, image_shape):
    # The least and the greatest value are looked for where the chunks are.
    _validate_view(estimator, X, reset=reset, image_shape=image_shape)
    extent = _Extent(X.dtype)
    if X.dtype not in (np.uint8, np.uint16):
        from dask import compute

        ends = np.array(compute(X.min(), X.max()))
        extent.add(check_array(ends[None], input_name="X", estimator=estimator))
        extent.size = X.size
    check_kind(estimator, extent, reset=reset)


def _validate_view(estimator, X, *, reset, image_shape):
    # Everything that shape and dtype tell; one row stands for the rest in scikit-learn's checks.
    shaped = is_shaped(X)
    if shaped:
        check_image_shape(estimator, tuple(X.shape), reset=reset, image_shape=image_shape)
    # A row of a dask array would cost a whole chunk, and its dtype is known.
    first = np.zeros((1, *X.shape[1:]), X.dtype) if is_dask_array(X) else np.asarray(X[:1])
    first = first.reshape(-1, math.prod(X.shape[1:]))
    validate_data(estimator, first, reset=reset)
    if reset and not shaped:
        estimator.image_shape_ = resolve_image_shape(first.shape[1], image_shape)
    if not reset and X.dtype in (np.uint8, np.uint16):
        check_kind(estimator, first, reset=False)
    return shaped
