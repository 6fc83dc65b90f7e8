"""Mean and variance of every column in one pass, whatever the size of the batch."""

import numpy as np

from sklearn_cxr.utils._images import level_dtype

# Sums of so many uint8 squares, or uint16 values, still fit into 32 bits.
_ROWS_IN_32_BITS = 2**16


class ColumnMoments:
    """Mean and sum of squared deviations of columns, updated chunk by chunk.

    uint8 and uint16 chunks are summed as integers, so that nothing is rounded before the end.
    Other chunks are merged by the update of Chan, Golub and LeVeque [1]_ in float64.

    Parameters
    ----------
    n_features : int
        Number of columns.

    References
    ----------
    .. [1] T. F. Chan, G. H. Golub and R. J. LeVeque, "Algorithms for computing the sample
       variance: analysis and recommendations", The American Statistician 37(3), 1983.
    """

    def __init__(self, n_features):
        self.n = 0
        self.mean = np.zeros(n_features)
        self.deviations = np.zeros(n_features)
        self._n_summed = 0
        self._sum = np.zeros(n_features, dtype=np.int64)
        self._sum_squares = np.zeros(n_features, dtype=np.int64)

    def update(self, chunk):
        """Add the rows of `chunk`, an ndarray of shape (n, n_features)."""
        known = level_dtype(chunk.dtype)
        if known is None:
            chunk = chunk.astype(np.float64)
            mean = chunk.mean(axis=0)
            chunk -= mean
            self.merge(len(chunk), mean, np.einsum("ij,ij->j", chunk, chunk))
            return
        wide = np.uint32 if known == "uint8" else np.uint64
        for start in range(0, len(chunk), _ROWS_IN_32_BITS):
            part = chunk[start : start + _ROWS_IN_32_BITS]
            self._sum += part.sum(axis=0, dtype=np.uint32)
            self._sum_squares += np.einsum("ij,ij->j", part, part, dtype=wide).astype(np.int64)
        self._n_summed += len(chunk)

    def merge(self, n, mean, deviations):
        """Add `n` rows known by their mean and their sum of squared deviations from it."""
        total = self.n + n
        delta = mean - self.mean
        self.deviations += deviations + delta**2 * (self.n * n / total)
        self.mean += delta * (n / total)
        self.n = total

    def finish(self):
        """Close the integer sums and return (n, mean, variance); the variance divides by n."""
        if self._n_summed:
            n = self._n_summed
            # Shifted by the integer part of the mean, the squares do not cancel in float64.
            whole, rest = np.divmod(self._sum, n)
            squares = self._sum_squares - 2 * whole * self._sum + n * whole**2
            self._n_summed = 0
            self.merge(n, whole + rest / n, np.maximum(squares - rest * (rest / n), 0.0))
            self._sum[:] = self._sum_squares[:] = 0
        return self.n, self.mean, self.deviations / max(self.n, 1)


def is_constant(n, mean, variance):
    """Tell which columns vary by no more than rounding, as scikit-learn's StandardScaler does."""
    eps = np.finfo(np.float64).eps
    return variance <= n * eps * variance + (n * mean * eps) ** 2
