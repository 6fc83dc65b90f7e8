"""Some rows of a batch, or all of them, without a copy."""

import numpy as np


class Rows:
    """All rows of an array-like that has no length, as zarr's arrays have none since version 3.

    Parameters
    ----------
    X : array-like of shape (n, ...)
        Has `shape`, `dtype` and indexing by rows.
    """

    def __init__(self, X):
        self._X = X
        self.shape, self.dtype, self.ndim = tuple(X.shape), X.dtype, len(X.shape)
        self.chunks = getattr(X, "chunks", None)

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, key):
        return np.asarray(self._X[key])

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self._X, dtype=dtype)


class RowSubset:
    """Rows of an array-like by number, read where they lie.

    A fold of a memory map taken by an index would be copied into memory; this is what a fold
    can be handed on as instead.

    Parameters
    ----------
    X : array-like of shape (n, ...)
        Has `shape`, `dtype`, ``len`` and indexing by rows.

    rows : ndarray of shape (k,), dtype=intp
        Row numbers.
    """

    def __init__(self, X, rows):
        self._X, self._rows = X, np.asarray(rows, dtype=np.intp)
        self.shape = (len(self._rows), *X.shape[1:])
        self.dtype = X.dtype
        self.ndim = len(self.shape)

    @property
    def whole(self):
        """The array-like that the rows belong to, and their numbers in it."""
        return self._X, self._rows

    def __len__(self):
        return len(self._rows)

    def __getitem__(self, key):
        rows = self._rows[key]
        if rows.ndim == 0:
            return np.asarray(self._X[int(rows)])
        # HDF5 takes rising row numbers only.
        distinct, back = np.unique(rows, return_inverse=True)
        return np.asarray(self._X[distinct])[back]

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self[:], dtype=dtype)


def subset(X, rows):
    """Rows of `X` in whichever way does not copy them.

    Parameters
    ----------
    X : array-like of shape (n, ...)
        A batch.

    rows : ndarray of shape (k,), dtype=intp
        Row numbers.

    Returns
    -------
    array-like of shape (k, ...)
        A view where `X` gives one by itself, else a RowSubset.
    """
    return X[rows] if hasattr(X, "pieces") else RowSubset(X, rows)
