"""Range, mean and deviation of the grey levels of a training set, read in pieces."""

import numpy as np

from sklearn_cxr.utils._chunks import chunk_slices
from sklearn_cxr.utils._images import level_dtype, level_range


def level_bounds(rows):
    """Least and greatest value of a batch.

    Parameters
    ----------
    rows : ndarray or row-indexed view of shape (n, ...)
        Finite numbers.

    Returns
    -------
    low, high : float
        They differ: one more is added where they would not.
    """
    low, high = np.inf, -np.inf
    for piece in _pieces(rows):
        low, high = min(low, float(piece.min())), max(high, float(piece.max()))
    return low, high if high > low else low + 1


def channel_moments(rows, weight, n_channels):
    """Weighted mean and standard deviation of each channel over all pixels.

    Parameters
    ----------
    rows : ndarray or row-indexed view of shape (n, ...)
        Images, the channel last.

    weight : ndarray of shape (n,)
        Weights of the images.

    n_channels : int
        Number of channels.

    Returns
    -------
    mean, std : ndarray of shape (n_channels,)
        A deviation of 0 is given as 1.
    """
    total, first, second, start = 0.0, 0.0, 0.0, 0
    # Around the first image that counts, so that no digits are lost far from zero.
    begin = int(np.argmax(weight > 0))
    first_image = np.asarray(rows[begin : begin + 1]).reshape(-1, n_channels)
    shift = first_image.mean(axis=0, dtype=np.float64)
    for piece in _pieces(rows):
        here = weight[start : start + len(piece)]
        start += len(piece)
        values = piece.reshape(len(piece), -1, n_channels).astype(np.float64) - shift
        total += here.sum() * values.shape[1]
        first = first + here @ values.sum(axis=1)
        second = second + here @ np.einsum("ipc,ipc->ic", values, values)
    mean = first / total
    variance = np.maximum(second / total - mean**2, 0)
    # Rounding leaves a trace of variance in constant images: in the difference of the squares,
    # and where the shift itself was rounded.
    rounding = 64 * np.finfo(np.float64).eps * (mean + shift)
    constant = variance <= 1e-12 * mean**2 + rounding**2
    return mean + shift, np.where(constant, 1.0, np.sqrt(variance))


def _pieces(rows):
    n_values = int(np.prod(rows.shape[1:]))
    for rows_here in chunk_slices(len(rows), n_values):
        yield np.asarray(rows[rows_here])


def check_levels(rows, value_range, caller):
    """Levels of black and white of a batch, whose values are held to them.

    Parameters
    ----------
    rows : ndarray or row-indexed view of shape (n, ...)
        Finite numbers.

    value_range : tuple of (float, float) or None
        As for `level_range`.

    caller : str
        Name of the estimator, for messages.

    Returns
    -------
    low, high : float
        The levels.
    """
    known = level_dtype(rows.dtype) is not None and value_range is None
    if isinstance(rows, np.ndarray) or known:
        return level_range(np.asarray(rows[:1]) if known else rows, value_range, caller)
    for piece in _pieces(rows):
        levels = level_range(piece, value_range, caller)
    return levels
