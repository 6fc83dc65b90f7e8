"""The design matrix that is never made: passes over rows of pixels where they lie."""

import contextlib
import itertools
import math
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from sklearn_cxr.utils._subset import RowSubset

# Rows of these dtypes are read as they are; others are converted a chunk at a time.
_DTYPES = (np.uint8, np.uint16, np.float32, np.float64)
_CHUNK_BYTES = 32 * 2**20
# Below so many values a second thread costs more than it saves.
_VALUES_FOR_THREADS = 2**18
# So many values are converted as a whole sooner than numba is imported.
_VALUES_FOR_NUMPY = 2**20


class Design:
    """Rows of pixels with the passes that a linear model needs, in bounded memory.

    Parameters
    ----------
    X : ndarray of shape (n, n_features), or row-indexed view of shape (n, ...)
        Finite real numbers. An ndarray or memory map in C order is read in place; so are the
        blocks of an `ImageRows`; anything else is read in chunks.

    Attributes
    ----------
    shape : tuple of int
        ``(n, n_features)``.

    n_passes : int
        How often the rows have been read.
    """

    def __init__(self, X):
        self.shape = (len(X), math.prod(X.shape[1:]))
        self.n_passes = 0
        self._X = X
        self._pool = None
        self._threads = (
            _thread_count() if self.shape[0] * self.shape[1] > _VALUES_FOR_THREADS else 1
        )

    @contextlib.contextmanager
    def threads(self):
        """Keep the threads of the passes alive while inside."""
        with ThreadPoolExecutor(self._threads) as self._pool:
            try:
                yield self
            finally:
                self._pool = None

    def _pieces(self):
        """Yield blocks in C order, row numbers in them, and the positions of those rows."""
        if hasattr(self._X, "pieces"):
            for block, rows, positions in self._X.pieces():
                yield _read_only(block.reshape(len(block), -1)), rows, positions
            return
        n, n_features = self.shape
        X, rows = self._X.whole if isinstance(self._X, RowSubset) else (self._X, np.arange(n))
        if _is_plain(X):
            yield _read_only(X.reshape(len(X), -1)), rows, np.arange(n)
            return
        X = self._X
        step = max(1, _CHUNK_BYTES // (8 * n_features))
        for start in range(0, n, step):
            chunk = np.asarray(X[start : start + step]).reshape(-1, n_features)
            native = chunk.dtype.newbyteorder("=")
            dtype = native if native in _DTYPES else np.float64
            chunk = np.ascontiguousarray(chunk, dtype=dtype)
            yield _read_only(chunk), np.arange(len(chunk)), np.arange(start, start + len(chunk))

    def _all_rows(self):
        return np.asarray(self._X).reshape(self.shape).astype(np.float64)

    def _run(self, kernel, arguments, accumulators=tuple):
        """Call `kernel` on all rows, divided among the threads.

        Returns a list of what it returned, each with the accumulators of that call, of which
        ``accumulators()`` makes a fresh set.
        """
        self.n_passes += 1
        results = []
        for block, rows, places in self._pieces():
            edges = np.linspace(0, len(rows), self._threads + 1).astype(int)
            spans = [(a, b) for a, b in itertools.pairwise(edges) if b > a]
            own = [accumulators() for _ in spans]
            calls = [
                (block, rows, places, *span, *arguments, *mine)
                for span, mine in zip(spans, own, strict=True)
            ]
            spread = map if self._pool is None or len(calls) == 1 else self._pool.map
            results += zip(spread(lambda call: kernel(*call), calls), own, strict=True)
        return results

    def moments(self, weight):
        """Weighted mean and variance of every column.

        Parameters
        ----------
        weight : ndarray of shape (n,)
            Weights of the rows.

        Returns
        -------
        mean, variance : ndarray of shape (n_features,)
            In float64.
        """
        from sklearn_cxr.utils import _kernels

        def sums(kernel, *arguments):
            parts = self._run(kernel, (weight, *arguments), lambda: (np.zeros(self.shape[1]),))
            return sum(total for _, (total,) in parts) / weight.sum()

        mean = sums(_kernels.weighted_sum)
        return mean, sums(_kernels.weighted_squares, mean)

    def scatter(self, vector, mean):
        """Product of the scatter matrix with a vector, ``(X - mean).T @ (X - mean) @ vector``.

        Parameters
        ----------
        vector : ndarray of shape (n_features,)
            The vector.

        mean : ndarray of shape (n_features,)
            Mean of every column.

        Returns
        -------
        ndarray of shape (n_features,)
            In float64.
        """
        from sklearn_cxr.utils import _kernels

        vector = _contiguous(vector)
        results = self._run(
            _kernels.normal, (vector, float(mean @ vector)), lambda: (np.zeros(self.shape[1]),)
        )
        factors = math.fsum(part for part, _ in results)
        return sum(total for _, (total,) in results) - mean * factors

    def scores(self, coef, intercept):
        """Product with the coefficients, ``X @ coef.T + intercept``.

        Parameters
        ----------
        coef : ndarray of shape (n_outputs, n_features)
            Coefficients.

        intercept : ndarray of shape (n_outputs,)
            Intercepts.

        Returns
        -------
        ndarray of shape (n, n_outputs)
            In float64.
        """
        if self.shape[0] * self.shape[1] <= _VALUES_FOR_NUMPY:
            # An application with one film at a time need not wait for a compiler.
            return self._all_rows() @ coef.T + intercept
        from sklearn_cxr.utils import _kernels

        out = np.empty((self.shape[0], len(coef)))
        self._run(_kernels.scores, (_contiguous(coef), _contiguous(intercept), out))
        return out

    def loss_gradient(self, coef, intercept, target, weight):
        """Sum of the weighted log loss, and its derivatives.

        Parameters
        ----------
        coef : ndarray of shape (1, n_features) or (n_classes, n_features)
            Coefficients: one row for two classes.

        intercept : ndarray of shape (1,) or (n_classes,)
            Intercepts.

        target : ndarray of shape (n,), dtype=intp
            Number of the class of each row.

        weight : ndarray of shape (n,)
            Weights of the rows.

        Returns
        -------
        loss : float
            The sum.

        gradient : ndarray of the shape of `coef`
            Derivatives by the coefficients.

        at_zero : ndarray of the shape of `intercept`
            Derivatives by the intercepts.
        """
        from sklearn_cxr.utils import _kernels

        coef, intercept = _contiguous(coef), _contiguous(intercept)
        results = self._run(
            _kernels.loss_gradient,
            (coef, intercept, target, weight),
            lambda: (np.zeros_like(coef), np.zeros_like(intercept)),
        )
        loss = math.fsum(part for part, _ in results)
        return loss, sum(own[0] for _, own in results), sum(own[1] for _, own in results)


def _thread_count():
    """Return the number of threads; joblib holds it down in its workers."""
    from numba import config

    return min(config.NUMBA_NUM_THREADS, os.cpu_count() or 1)


def _is_plain(X):
    return (
        isinstance(X, np.ndarray)
        and X.flags.c_contiguous
        and X.dtype.isnative
        and X.dtype in _DTYPES
    )


def _contiguous(values):
    return np.ascontiguousarray(values, dtype=np.float64)


def _read_only(block):
    # One kind of array for the compiler, whether it came from a file or from memory.
    view = np.asarray(block).view()
    view.flags.writeable = False
    return view
