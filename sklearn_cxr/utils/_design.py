"""The design matrix that is never made: passes over rows of pixels where they lie."""

import contextlib
import itertools
import math
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import threadpool_limits

from sklearn_cxr.utils._chunks import check_unshrunk, is_dask_array, stored_step
from sklearn_cxr.utils._files import check_mapped, check_open
from sklearn_cxr.utils._subset import RowSubset

# Rows of these dtypes are read as they are; others are converted a chunk at a time.
_DTYPES = (np.uint8, np.uint16, np.float32, np.float64)
_CHUNK_BYTES = 32 * 2**20
# Below so many values a second thread costs more than it saves.
_VALUES_FOR_THREADS = 2**18
# So many values are converted as a whole sooner than numba is imported.
_VALUES_FOR_NUMPY = 2**20


def open_design(X):
    """Return the passes over `X`: for a dask array where its chunks are, else in this process.

    Parameters
    ----------
    X : ndarray, row-indexed view or dask array of shape (n, ...)
        Known to be finite numbers.

    Returns
    -------
    Design or DaskDesign
        With the same methods.
    """
    if is_dask_array(X):
        from sklearn_cxr.utils._dask import DaskDesign

        return DaskDesign(X)
    return Design(X)


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
        self._reading = threading.Lock()
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
        n = self.shape[0]
        if hasattr(self._X, "pieces"):
            for block, rows, positions in self._X.pieces():
                check_mapped(block)
                yield _read_only(block.reshape(len(block), -1)), rows, positions
            return
        X, rows = self._X.whole if isinstance(self._X, RowSubset) else (self._X, np.arange(n))
        if _is_plain(X):
            check_mapped(X)
            yield _read_only(X.reshape(len(X), -1)), rows, np.arange(n)
            return
        check_mapped(X)
        check_open(self._X)
        step = stored_step(X, _CHUNK_BYTES // 8)
        for start in range(0, n, step):
            yield self._chunk(start, min(start + step, n))

    def _chunk(self, start, stop):
        """Read some rows of what is neither an array nor a map, and convert them."""
        check_open(self._X)
        # Not every view may be read by two threads at once, as `gram` would.
        with self._reading:
            chunk = np.asarray(self._X[start:stop]).reshape(-1, self.shape[1])
        check_unshrunk(len(chunk), start, stop, self.shape[0])
        native = chunk.dtype.newbyteorder("=")
        dtype = native if native in _DTYPES else np.float64
        chunk = np.ascontiguousarray(chunk, dtype=dtype)
        return _read_only(chunk), np.arange(len(chunk)), np.arange(start, stop)

    def _all_rows(self):
        out = np.empty(self.shape)
        for block, rows, places in self._pieces():
            out[places] = block[rows]
        return out

    def _run(self, kernel, arguments, accumulators=tuple):
        """Call `kernel` on all rows, divided among the threads.

        Returns a list of what it returned, and the accumulators that it added to: as many sets,
        each made by ``accumulators()``, as there are threads.
        """
        self.n_passes += 1
        # One set for all pieces: an HDF5 file of the size of a study has some thousands of these.
        returned, kept = [], [accumulators() for _ in range(self._threads)]
        for block, rows, places in self._pieces():
            edges = np.linspace(0, len(rows), self._threads + 1).astype(int)
            spans = [(a, b) for a, b in itertools.pairwise(edges) if b > a]
            calls = [
                (block, rows, places, *span, *arguments, *own)
                for span, own in zip(spans, kept, strict=False)
            ]
            spread = map if self._pool is None or len(calls) == 1 else self._pool.map
            returned += spread(lambda call: kernel(*call), calls)
        return returned, kept

    def _zeros(self):
        return (np.zeros(self.shape[1]),)

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
        total = weight.sum()
        mean = self.weighted_sums(weight[None])[0] / total
        return mean, self.weighted_squares(weight, mean) / total

    def weighted_sums(self, weights):
        """Weighted sums of the rows, ``weights @ X``; one pass for each row of weights.

        Parameters
        ----------
        weights : ndarray of shape (n_sums, n)
            Weights of the rows, of any sign.

        Returns
        -------
        ndarray of shape (n_sums, n_features)
            In float64.
        """
        from sklearn_cxr.utils import _kernels

        def one(weight):
            _, kept = self._run(_kernels.weighted_sum, (_contiguous(weight),), self._zeros)
            return sum(total for (total,) in kept)

        return np.array([one(weight) for weight in weights])

    def weighted_squares(self, weight, mean):
        """Weighted sum of the squared deviations of every column from `mean`.

        Parameters
        ----------
        weight : ndarray of shape (n,)
            Weights of the rows.

        mean : ndarray of shape (n_features,)
            Mean of every column.

        Returns
        -------
        ndarray of shape (n_features,)
            In float64.
        """
        from sklearn_cxr.utils import _kernels

        _, kept = self._run(_kernels.weighted_squares, (weight, mean), self._zeros)
        return sum(total for (total,) in kept)

    def gram(self, weight, mean, scale):
        """Gram matrix of the weighted and standardised rows, ``Z @ Z.T``.

        Parameters
        ----------
        weight : ndarray of shape (n,)
            Every row is multiplied by the root of its weight.

        mean, scale : ndarray of shape (n_features,)
            Standardisation of the columns.

        Returns
        -------
        ndarray of shape (n, n)
            In float64.
        """
        n, n_features = self.shape
        width = max(64, _CHUNK_BYTES // (8 * n))
        root = np.sqrt(weight)[:, None]
        self.n_passes += 1

        def product(first):
            columns = slice(first, min(first + width, n_features))
            part = np.empty((n, columns.stop - first))
            for block, rows, places in self._pieces():
                part[places] = block[rows, columns]
            part -= mean[columns]
            part *= root / scale[columns]
            return part @ part.T

        # Its threads of BLAS would wait for each other wherever a core is shared.
        with threadpool_limits(limits=1, user_api="blas"):
            starts = range(0, n_features, width)
            spread = map if self._pool is None else self._pool.map
            total = np.zeros((n, n))
            for i in range(0, len(starts), self._threads):
                for part in spread(product, starts[i : i + self._threads]):
                    total += part
            return total

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
        factors, kept = self._run(_kernels.normal, (vector, float(mean @ vector)), self._zeros)
        return sum(total for (total,) in kept) - mean * math.fsum(factors)

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
        losses, kept = self._run(
            _kernels.loss_gradient,
            (coef, intercept, target, weight),
            lambda: (np.zeros_like(coef), np.zeros_like(intercept)),
        )
        return math.fsum(losses), sum(own[0] for own in kept), sum(own[1] for own in kept)


def _thread_count():
    """Return the number of threads, which the engines of joblib hold down in their workers."""
    from numba import config

    # loky sets numba's own variable; Dask and Spark set that of OpenMP.
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    allowed = int(allowed) if allowed.isdecimal() and int(allowed) > 0 else os.cpu_count() or 1
    return min(config.NUMBA_NUM_THREADS, allowed)


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
