"""Principal axes by Lanczos iterations over rows where they lie."""

import math
from numbers import Integral

import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh
from sklearn.utils import check_random_state

# Relative precision of the eigenvalues; a tighter one only costs passes.
_TOLERANCE = 1e-10
# From one try to the next the number of axes grows by this factor at most, since the first few
# tell little of those far behind them.
_GROWTH = 4


def leading_axes(design, mean, n_components, total):
    """Axes by Lanczos iterations, each a pass over the rows.

    Parameters
    ----------
    design : Design or DaskDesign
        The rows.

    mean : ndarray of shape (n_features,)
        Mean of every column.

    n_components : int, float or None
        As in PixelPCA.

    total : float
        Trace of the scatter matrix.

    Returns
    -------
    values : ndarray of shape (k,) or None
        Eigenvalues of the scatter matrix, falling. None where more than a fifth of all are
        wanted, or there is no variance.

    axes : ndarray of shape (k, n_features) or None
        Their eigenvectors.
    """
    most = min(design.shape) // 5
    k = n_components if isinstance(n_components, Integral) else min(16, most)
    # As a share of the whole, because ARPACK's tolerance ends at an absolute value.
    scatter = LinearOperator(
        (design.shape[1],) * 2,
        matvec=lambda v: design.scatter(v.ravel(), mean) / total,
        dtype=np.float64,
    )
    while n_components is not None and total > 0 and 0 < k <= most:
        start = check_random_state(0).uniform(-1, 1, design.shape[1])
        values, vectors = eigsh(scatter, k=k, which="LA", v0=start, tol=_TOLERANCE)
        values, axes = np.clip(values[::-1], 0, None) * total, vectors[:, ::-1].T
        kept = count_reached(values, n_components, total)
        if kept is not None:
            return values[:kept], axes[:kept]
        k = _next_number(values, n_components * total, most)
    return None, None


def _next_number(values, wanted, most):
    """How many eigenvalues to ask for after these, whose sum does not come up to `wanted`.

    A try starts from nothing, so that both too few and too many cost time: the last half of
    the values is continued as a power of their rank, and the number at which that reaches
    `wanted` is asked for, with some to spare.
    """
    k, lacking = len(values), wanted - values.sum()
    # None that follows is larger than the last.
    last = max(values[-1], np.finfo(np.float64).tiny)
    least = k + max(1, math.ceil(min(lacking / last, most)))
    if least > most:
        return least
    half = np.arange(k // 2, k)
    slope = np.polyfit(np.log(half + 1), np.log(values[half]), 1)[0] if k > 3 else 0.0
    ranks = np.arange(k + 1, most + 1)
    following = values[-1] * (ranks / k) ** min(slope, 0.0)
    guess = k + 1 + np.searchsorted(np.cumsum(following), lacking)
    return min(max(least, min(int(1.1 * guess) + 4, _GROWTH * k)), most)


def count_reached(values, n_components, total):
    """How many of the leading eigenvalues are kept.

    Parameters
    ----------
    values : ndarray of shape (k,)
        The leading eigenvalues, falling.

    n_components : int or float
        A number, or the share of `total` that they have to exceed.

    total : float
        Sum of all eigenvalues.

    Returns
    -------
    int or None
        None where more eigenvalues are needed to tell.
    """
    if isinstance(n_components, Integral):
        return n_components
    share = np.cumsum(values) / total if total > 0 else np.ones(len(values))
    reached = np.flatnonzero(share > n_components)
    return int(reached[0]) + 1 if len(reached) else None
