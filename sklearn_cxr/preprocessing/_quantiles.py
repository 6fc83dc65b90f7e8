"""Exact percentiles of more pixels than fit into memory."""

import numpy as np

from sklearn_cxr.utils._images import level_dtype

_DIGIT = 16
_SIGN = np.uint64(1) << np.uint64(63)


def _keys(values):
    # Unsigned integers in the order of the floats: the sign bit flipped for positive ones, all
    # bits for negative ones. Adding zero makes -0.0 the same as 0.0.
    bits = (values.ravel().astype(np.float64) + 0.0).view(np.uint64)
    return np.where(bits >= _SIGN, ~bits, bits | _SIGN)


def _value(key):
    key = np.uint64(key)
    bits = key ^ _SIGN if key >= _SIGN else ~key
    return float(np.array([bits], dtype=np.uint64).view(np.float64)[0])


def _select_small(chunks, ranks):
    # Each level of 8 or 16-bit integers has a bin of its own: one pass.
    counts = np.zeros(2**16, dtype=np.int64)
    for chunk in chunks:
        counts += np.bincount(chunk.ravel(), minlength=2**16)
    return [float(np.searchsorted(np.cumsum(counts), rank, side="right")) for rank in ranks]


def _select(chunks, ranks):
    # Radix selection: each pass fixes 16 more bits of the key that holds each rank.
    prefixes, rests = [0] * len(ranks), list(ranks)
    for shift in range(64 - _DIGIT, -1, -_DIGIT):
        counts = {prefix: np.zeros(2**_DIGIT, dtype=np.int64) for prefix in prefixes}
        for chunk in chunks:
            digits = _keys(chunk) >> np.uint64(shift)
            above = digits >> np.uint64(_DIGIT)
            for prefix, count in counts.items():
                inside = digits[above == np.uint64(prefix)] & np.uint64(2**_DIGIT - 1)
                count += np.bincount(inside.astype(np.intp), minlength=2**_DIGIT)
        for i, prefix in enumerate(prefixes):
            upto = np.cumsum(counts[prefix])
            digit = int(np.searchsorted(upto, rests[i], side="right"))
            rests[i] -= int(upto[digit - 1]) if digit else 0
            prefixes[i] = (prefix << _DIGIT) | digit
    return [_value(prefix) for prefix in prefixes]


def stream_percentiles(chunks, percentiles, *, size, dtype):
    """Percentiles of all values in `chunks`, as :func:`numpy.percentile` interpolates them.

    Parameters
    ----------
    chunks : iterable of ndarray
        Finite values of one dtype; iterated once for uint8 and uint16, else four times.

    percentiles : sequence of float
        Percentiles, in [0, 100].

    size : int
        Number of values in all chunks together.

    dtype : dtype
        Their dtype.

    Returns
    -------
    list of float
        The values.
    """
    places = [(size - 1) * float(q) / 100 for q in percentiles]
    ranks = sorted({min(int(place) + up, size - 1) for place in places for up in (0, 1)})
    select = _select if level_dtype(dtype) is None else _select_small
    found = dict(zip(ranks, select(chunks, ranks), strict=True))
    result = []
    for place in places:
        low, high = found[int(place)], found[min(int(place) + 1, size - 1)]
        result.append(low + (high - low) * (place - int(place)))
    return result
