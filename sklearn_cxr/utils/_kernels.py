"""Compiled passes over rows of pixels of any dtype, in float64 arithmetic.

Eight rows are taken at a time: they stay in the second-level cache between the product with the
coefficients and the accumulation of the gradient, so that every row is read from memory once
and the vectors as long as a row are read once for eight of them. All functions release the GIL
and do for one thread the rows ``rows[first:last]`` of `block`, which stand at the positions
``places[first:last]`` of the whole.
"""

import numpy as np
from numba import njit


def _can_cache():
    """Tell whether numba finds a folder to keep compiled code in.

    Where the package and the home folder are read-only, as in many containers, asking for a
    cache is an error.
    """

    def probe():
        return 0

    try:
        njit(cache=True)(probe)
    except RuntimeError:
        return False
    return True


# Sums may be reordered, which lets them be vectorised; NaN and infinity keep their meaning.
_OPTIONS = {
    "nogil": True,
    "cache": _can_cache(),
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},
}
_F = np.float64
GROUP = 8


@njit(inline="always", **_OPTIONS)
def _dot(x0, x1, x2, x3, x4, x5, x6, x7, v, out):
    a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = 0.0
    for j in range(v.size):
        w = v[j]
        a0 += w * _F(x0[j])
        a1 += w * _F(x1[j])
        a2 += w * _F(x2[j])
        a3 += w * _F(x3[j])
        a4 += w * _F(x4[j])
        a5 += w * _F(x5[j])
        a6 += w * _F(x6[j])
        a7 += w * _F(x7[j])
    out[0], out[1], out[2], out[3] = a0, a1, a2, a3
    out[4], out[5], out[6], out[7] = a4, a5, a6, a7


@njit(inline="always", **_OPTIONS)
def _add(x0, x1, x2, x3, x4, x5, x6, x7, r, g):
    r0, r1, r2, r3, r4, r5, r6, r7 = r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7]
    for j in range(g.size):
        g[j] += (
            r0 * _F(x0[j])
            + r1 * _F(x1[j])
            + r2 * _F(x2[j])
            + r3 * _F(x3[j])
            + r4 * _F(x4[j])
            + r5 * _F(x5[j])
            + r6 * _F(x6[j])
            + r7 * _F(x7[j])
        )


@njit(**_OPTIONS)
def scores(block, rows, places, first, last, coef, intercept, out):
    """Write ``block[rows] @ coef.T + intercept`` into ``out[places]``."""
    eight = np.empty(GROUP)
    at = np.empty(GROUP, np.intp)
    for start in range(first, last, GROUP):
        for i in range(GROUP):
            at[i] = rows[min(start + i, last - 1)]
        for k in range(coef.shape[0]):
            _dot(
                block[at[0]], block[at[1]], block[at[2]], block[at[3]],
                block[at[4]], block[at[5]], block[at[6]], block[at[7]],
                coef[k], eight,
            )  # fmt: skip
            for i in range(min(GROUP, last - start)):
                out[places[start + i], k] = eight[i] + intercept[k]


@njit(**_OPTIONS)
def _logistic(z, target, weight, residual):
    """Loss of one image for two classes; its derivative goes into `residual`."""
    e = np.exp(-abs(z[0]))
    p = 1.0 / (1.0 + e) if z[0] > 0 else e / (1.0 + e)
    residual[0] = weight * (p - target)
    return weight * (max(z[0], 0.0) - target * z[0] + np.log1p(e))


@njit(**_OPTIONS)
def _softmax(z, target, weight, residual):
    """Loss of one image for several classes; its derivatives go into `residual`."""
    top = z.max()
    total = 0.0
    for k in range(z.size):
        residual[k] = np.exp(z[k] - top)
        total += residual[k]
    for k in range(z.size):
        residual[k] *= weight / total
    residual[target] -= weight
    return weight * (np.log(total) + top - z[target])


@njit(**_OPTIONS)
def loss_gradient(
    block, rows, places, first, last, coef, intercept, target, weight, gradient, at_zero
):
    """Sum the log loss; add its derivatives to `gradient` and, for the intercepts, `at_zero`."""
    n_classes = coef.shape[0]
    z = np.empty((n_classes, GROUP))
    residual = np.zeros((n_classes, GROUP))
    one = np.empty(n_classes)
    at = np.empty(GROUP, np.intp)
    loss = 0.0
    for start in range(first, last, GROUP):
        for i in range(GROUP):
            at[i] = rows[min(start + i, last - 1)]
        x0, x1, x2, x3 = block[at[0]], block[at[1]], block[at[2]], block[at[3]]
        x4, x5, x6, x7 = block[at[4]], block[at[5]], block[at[6]], block[at[7]]
        for k in range(n_classes):
            _dot(x0, x1, x2, x3, x4, x5, x6, x7, coef[k], z[k])
        # Behind the last row the group is filled up with rows that count nothing.
        residual[:] = 0.0
        for i in range(min(GROUP, last - start)):
            zi = z[:, i] + intercept
            place = places[start + i]
            if n_classes == 1:
                loss += _logistic(zi, target[place], weight[place], one)
            else:
                loss += _softmax(zi, target[place], weight[place], one)
            residual[:, i] = one
            at_zero += one
        for k in range(n_classes):
            _add(x0, x1, x2, x3, x4, x5, x6, x7, residual[k], gradient[k])
    return loss


@njit(**_OPTIONS)
def normal(block, rows, places, first, last, vector, shift, total):
    """Add ``x * (x @ vector - shift)`` of each row x to `total`; return the sum of the factors."""
    eight = np.empty(GROUP)
    at = np.empty(GROUP, np.intp)
    factors = 0.0
    for start in range(first, last, GROUP):
        for i in range(GROUP):
            at[i] = rows[min(start + i, last - 1)]
        x0, x1, x2, x3 = block[at[0]], block[at[1]], block[at[2]], block[at[3]]
        x4, x5, x6, x7 = block[at[4]], block[at[5]], block[at[6]], block[at[7]]
        _dot(x0, x1, x2, x3, x4, x5, x6, x7, vector, eight)
        for i in range(GROUP):
            eight[i] = eight[i] - shift if start + i < last else 0.0
            factors += eight[i]
        _add(x0, x1, x2, x3, x4, x5, x6, x7, eight, total)
    return factors


@njit(**_OPTIONS)
def weighted_sum(block, rows, places, first, last, weight, total):
    """Add the weighted rows to `total`."""
    eight = np.zeros(GROUP)
    at = np.empty(GROUP, np.intp)
    for start in range(first, last, GROUP):
        for i in range(GROUP):
            inside = start + i < last
            at[i] = rows[min(start + i, last - 1)]
            eight[i] = weight[places[min(start + i, last - 1)]] if inside else 0.0
        _add(
            block[at[0]], block[at[1]], block[at[2]], block[at[3]],
            block[at[4]], block[at[5]], block[at[6]], block[at[7]],
            eight, total,
        )  # fmt: skip


@njit(**_OPTIONS)
def weighted_squares(block, rows, places, first, last, weight, mean, total):
    """Add the weighted squared deviations of the rows from `mean` to `total`."""
    for i in range(first, last):
        x = block[rows[i]]
        w = weight[places[i]]
        for j in range(total.size):
            deviation = _F(x[j]) - mean[j]
            total[j] += w * deviation * deviation
