"""Films that are the same, or nearly so."""

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from sklearn_cxr.inspection._audit_measures import HASH_BITS, normalise

# A film that was re-encoded, resized or brightened differs in fewer than 40 of the 256 bits. So do
# films of two people at times, since chests resemble each other: what the bits propose has to
# correlate in its details too, less those of the mean film. Of 13.6 million pairs of Kermany's
# films the closest that are no copies correlate by 0.74, of 180,000 pairs of phantoms one by 0.87
# and the next by 0.83; the least like its original, a phantom at a gamma of 0.7, keeps 0.91.
MAX_DISTANCE = 40
MIN_CORRELATION = 0.89
# So few films have no mean film to take off.
_FEW, _MIN_CORRELATION_OF_FEW = 20, 0.95
_DETAIL = 5
_BLOCK_VALUES = 2**23
_PAIRS = 8192


def identical_groups(keys, usable):
    """Give numbers to the sets of films with the same pixels.

    Parameters
    ----------
    keys : list of bytes
        Digest of each film.

    usable : ndarray of shape (n,), dtype bool
        Films that count.

    Returns
    -------
    ndarray of shape (n,), dtype int64
        Number of the set, -1 for a film that is alone.
    """
    codes = pd.factorize(pd.Series(keys, dtype=object))[0]
    codes = np.where(usable, codes, -1)
    return _renumber(codes)


def near_groups(fingerprints, thumbs, keys, usable):
    """Give numbers to the sets of films that look the same without being identical.

    Parameters
    ----------
    fingerprints : ndarray of shape (n, 32), dtype uint8
        Perceptual hashes, 256 packed bits.

    thumbs : ndarray of shape (n, 32, 32), dtype uint8
        Grey films.

    keys : list of bytes
        Digest of each film.

    usable : ndarray of shape (n,), dtype bool
        Films that count.

    Returns
    -------
    groups : ndarray of shape (n,), dtype int64
        Number of the set, -1 for a film that is alone or has identical copies only.

    similarity : ndarray of shape (n,)
        Greatest correlation with a film of the same set; NaN for films in none.
    """
    codes = pd.factorize(pd.Series(keys, dtype=object))[0]
    kept = np.flatnonzero(usable)
    _, first = np.unique(codes[kept], return_index=True)
    films = kept[np.sort(first)]
    left, right, correlation = _near_pairs(fingerprints[films], thumbs[films])
    left, right = films[left], films[right]
    n_codes = codes.max() + 1
    graph = coo_matrix((np.ones(len(left)), (codes[left], codes[right])), shape=(n_codes, n_codes))
    component = connected_components(graph, directed=False)[1]
    linked = np.zeros(n_codes, dtype=bool)
    linked[codes[left]] = linked[codes[right]] = True
    best = np.full(n_codes, np.nan)
    for side in (left, right):
        np.fmax.at(best, codes[side], correlation)
    member = usable & linked[codes]
    groups = _renumber(np.where(member, component[codes], -1))
    return groups, np.where(member, best[codes], np.nan)


def _near_pairs(fingerprints, thumbs):
    n = len(fingerprints)
    signs = np.unpackbits(fingerprints, axis=1).astype(np.float32) * 2 - 1
    step = max(1, _BLOCK_VALUES // max(1, n))
    limit, common = _MIN_CORRELATION_OF_FEW, None
    if n >= _FEW:
        limit = MIN_CORRELATION
        blocks = (thumbs[at : at + _PAIRS] for at in range(0, n, _PAIRS))
        common = normalise(sum(_details(block).sum(axis=0) for block in blocks)[None])[0]
    found = [(np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0, np.float32))]
    for start in range(0, n, step):
        # The distance of all pairs of a block is one matrix product.
        agreement = signs[start : start + step] @ signs[start:].T
        left, right = np.nonzero(agreement >= HASH_BITS - 2 * MAX_DISTANCE)
        later = right > left
        left, right = left[later] + start, right[later] + start
        for at in range(0, len(left), _PAIRS):
            a, b = left[at : at + _PAIRS], right[at : at + _PAIRS]
            first, second = _details(thumbs[a], common), _details(thumbs[b], common)
            correlation = (first * second).sum(axis=(1, 2))
            alike = correlation >= limit
            found.append((a[alike], b[alike], correlation[alike]))
    return tuple(np.concatenate(part) for part in zip(*found, strict=True))


def _details(thumbs, common=None):
    values = thumbs.astype(np.float32)
    values = normalise(values - ndimage.uniform_filter(values, (1, _DETAIL, _DETAIL)))
    if common is None:
        return values
    shared = np.tensordot(values, common, 2)
    return normalise(values - shared[:, None, None] * common)


def _renumber(codes):
    """Give numbers to sets of two and more, in the order of their first film; the rest is -1."""
    counts = np.bincount(codes[codes >= 0], minlength=codes.max(initial=0) + 1)
    several = (codes >= 0) & (counts[np.maximum(codes, 0)] > 1)
    out = np.full(len(codes), -1, dtype=np.int64)
    out[several] = pd.factorize(codes[several])[0]
    return out


def crossing(groups, codes):
    """Tell which sets of films hold more than one value.

    Parameters
    ----------
    groups : ndarray of shape (n,), dtype int64
        Number of the set, -1 for none.

    codes : ndarray of shape (n,), dtype int64
        Number of the value, -1 for unknown.

    Returns
    -------
    ndarray of shape (n,), dtype bool
        True for the films of such sets.
    """
    known = (groups >= 0) & (codes >= 0)
    if not known.any():
        return np.zeros(len(groups), dtype=bool)
    size = groups.max() + 1
    low = np.full(size, codes.max() + 1)
    high = np.full(size, -1)
    np.minimum.at(low, groups[known], codes[known])
    np.maximum.at(high, groups[known], codes[known])
    return (groups >= 0) & (high > low)[np.maximum(groups, 0)]
