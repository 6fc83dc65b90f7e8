"""The passes over a dask array, each chunk where it is."""

import contextlib
import itertools
import math

import numpy as np

from sklearn_cxr.utils._design import Design
from sklearn_cxr.utils._optional import import_optional

# So many partial results are added up at once, by a worker.
_FAN_IN = 8


def take_rising(X, rows):
    """Rows of a dask array, every one left in the chunk that it is in.

    Indexing the array itself gathers rows of several chunks in one, anew in every pass.

    Parameters
    ----------
    X : dask array of shape (n, ...)
        The whole.

    rows : ndarray of shape (k,), dtype=intp
        Row numbers, not negative and in rising order.

    Returns
    -------
    dask array of shape (k, ...)
        One chunk for each chunk of `X` that has any of the rows.
    """
    import dask.array as da

    edges = np.cumsum((0, *X.chunks[0])).tolist()
    cuts = np.searchsorted(rows, edges)
    return da.concatenate(
        [
            X[start:stop][rows[first:last] - start]
            for (start, stop), (first, last) in zip(
                itertools.pairwise(edges), itertools.pairwise(cuts), strict=True
            )
            if last > first
        ]
    )


def without_empty_chunks(X):
    """Return a dask array of the same rows in which no chunk has none of them."""
    if all(X.chunks[0]):
        return X
    return take_rising(X, np.arange(len(X)))


class DaskDesign:
    """Rows of a dask array with the passes of `Design`.

    A pass sends the coefficients to the workers and gets sums of the size of an image back; the
    rows stay. It goes to whichever scheduler dask uses: that of a Client where there is one.

    Parameters
    ----------
    X : dask array of shape (n, ...)
        Finite real numbers. An image that is divided among chunks is put together.

    Attributes
    ----------
    shape : tuple of int
        ``(n, n_features)``.

    n_passes : int
        How often the rows have been read.
    """

    def __init__(self, X):
        self._dask = import_optional("dask", extra="distributed", caller="A fit of a dask array")
        X = X.rechunk(dict.fromkeys(range(1, X.ndim), -1))
        self.shape = (len(X), math.prod(X.shape[1:]))
        self.n_passes = 0
        self._edges = list(itertools.accumulate(X.chunks[0], initial=0))
        self._blocks = X.to_delayed().ravel()
        self._held = []

    @contextlib.contextmanager
    def threads(self):
        """Keep the targets and weights of the rows on the workers while inside."""
        try:
            yield self
        finally:
            self._held = []

    def _divided(self, values):
        """Return the parts of an array of n values that belong to the chunks, on the workers."""
        for whole, parts in self._held:
            if whole is values:
                return parts
        spans = itertools.pairwise(self._edges)
        parts = [self._dask.delayed(values[..., a:b], traverse=False).persist() for a, b in spans]
        self._held.append((values, parts))
        return parts

    def _run(self, method, shared, by_row=()):
        """Call a method of `Design` on every chunk; return the results, still to be computed."""
        self.n_passes += 1
        delayed = self._dask.delayed
        shared = delayed(shared, traverse=False)
        divided = [self._divided(values) for values in by_row]
        one = delayed(_one_chunk, pure=False)
        return [
            one(block, method, shared, *parts)
            for block, *parts in zip(self._blocks, *divided, strict=True)
        ]

    def _sum(self, method, shared, by_row=()):
        parts = self._run(method, shared, by_row)
        add = self._dask.delayed(_add, pure=False)
        while len(parts) > 1:
            parts = [add(parts[i : i + _FAN_IN]) for i in range(0, len(parts), _FAN_IN)]
        return self._dask.compute(parts[0])[0]

    def moments(self, weight):
        """Weighted mean and variance of every column; see `Design.moments`."""
        total = weight.sum()
        mean = self._sum("sums_by_row", (), (weight,))[0] / total
        return mean, self._sum("squares_by_row", (mean,), (weight,))[0] / total

    def scatter(self, vector, mean):
        """Product of the scatter matrix with a vector; see `Design.scatter`."""
        return self._sum("scatter", (vector, mean))[0]

    def scores(self, coef, intercept):
        """Product with the coefficients; see `Design.scores`."""
        parts = self._dask.compute(*self._run("scores", (coef, intercept)))
        return np.concatenate([part for (part,) in parts])

    def loss_gradient(self, coef, intercept, target, weight):
        """Sum of the weighted log loss and its derivatives; see `Design.loss_gradient`."""
        return self._sum("loss_gradient", (coef, intercept), (target, weight))


def _one_chunk(block, method, shared, *by_row):
    # One thread a chunk: it is dask that runs several of them at once.
    design = Design(np.asarray(block))
    if method == "sums_by_row":
        out = design.weighted_sums(by_row[0][None])[0]
    elif method == "squares_by_row":
        out = design.weighted_squares(*by_row, *shared)
    else:
        out = getattr(design, method)(*shared, *by_row)
    return out if isinstance(out, tuple) else (out,)


def _add(parts):
    return tuple(sum(values) for values in zip(*parts, strict=True))
