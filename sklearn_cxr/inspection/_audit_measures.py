"""What one film shows by itself: brightness, borders, markers, polarity, fingerprint."""

import numpy as np
from joblib import Parallel, delayed
from PIL import Image
from scipy import ndimage

from sklearn_cxr.utils._optional import import_optional

THUMB = 32
HASH_SIDE = 16
HASH_BITS = HASH_SIDE**2
# Levels are shares of the range from black to white. The limits below were set on phantoms and
# on the films of Kermany's and the NIH set.
MARKER_LIMIT = 0.38
_MARKER_SIDE = 112
_MARKER_WINDOW = 11  # more than a letter's stroke or a wire, less than a shoulder
_MARKER_ROWS = 0.6
_MARKER_EDGE = 0.2
_MARKER_PIXELS = 8
_NEAR_BLACK = 0.06
_FILM_SHARE = 0.1
_FLAT_LINE = 0.015
_BLOCK = 64  # films; small enough for the caches


def measure(images, n_jobs=None):
    """Measure films.

    Parameters
    ----------
    images : ndarray of shape (n, h, w), dtype uint8
        Grey films.

    n_jobs : int or None, default=None
        Number of threads.

    Returns
    -------
    dict of ndarray of shape (n, ...)
        mean_intensity, contrast (standard deviation), border_share, marker_score,
        spine_contrast, used_range (from the least level to the greatest), all as shares of the
        range from black to white or of the area; thumb
        (n, 32, 32) uint8; fingerprint (n, 32) uint8, 256 packed bits.
    """
    imagehash = import_optional("imagehash", extra="inspection", caller="audit_dataset")
    # Threads do, because resizing and filtering leave the interpreter free.
    parts = Parallel(n_jobs=n_jobs, require="sharedmem")(
        delayed(_measure)(images[at : at + _BLOCK], imagehash)
        for at in range(0, len(images), _BLOCK)
    )
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _measure(images, imagehash):
    n = len(images)
    thumbs = np.empty((n, THUMB, THUMB), dtype=np.uint8)
    reduced = np.empty((n, _MARKER_SIDE, _MARKER_SIDE), dtype=np.uint8)
    bits = np.empty((n, HASH_BITS // 8), dtype=np.uint8)
    for i, values in enumerate(images):
        image = Image.fromarray(values)
        thumbs[i] = image.resize((THUMB, THUMB), Image.Resampling.BOX)
        reduced[i] = image.resize((_MARKER_SIDE, _MARKER_SIDE), Image.Resampling.BOX)
        bits[i] = np.packbits(imagehash.phash(image, hash_size=HASH_SIDE).hash)
    unit = reduced.astype(np.float32) / 255
    fine = min(images.shape[1:]) >= _MARKER_SIDE
    return {
        "mean_intensity": unit.mean(axis=(1, 2), dtype=np.float64),
        "contrast": unit.std(axis=(1, 2), dtype=np.float64),
        "used_range": np.ptp(images.reshape(n, -1), axis=1) / 255,
        "border_share": border_share(unit),
        "marker_score": marker_score(reduced) if fine else np.full(n, np.nan),
        "spine_contrast": spine_contrast(thumbs),
        "thumb": thumbs,
        "fingerprint": bits,
    }


def border_share(unit):
    """Share of the area outside of the film: lines along the edges that are black or flat.

    Parameters
    ----------
    unit : ndarray of shape (n, h, w)
        Grey levels in [0, 1].

    Returns
    -------
    ndarray of shape (n,)
        Shares in [0, 1]; 1 where no line holds a film.
    """
    kept = np.ones(len(unit))
    for axis in (1, 2):
        across = 3 - axis
        film = (unit > _NEAR_BLACK).mean(axis=across) >= _FILM_SHARE
        film &= unit.std(axis=across) > _FLAT_LINE
        first = film.argmax(axis=1)
        last = film.shape[1] - film[:, ::-1].argmax(axis=1)
        kept *= np.where(film.any(axis=1), (last - first) / film.shape[1], 0)
    return 1 - kept


def marker_score(reduced):
    """How much something small and bright stands out near the upper and side edges.

    Parameters
    ----------
    reduced : ndarray of shape (n, 112, 112), dtype uint8
        Grey films.

    Returns
    -------
    ndarray of shape (n,)
        In [0, 1]; a burned-in letter lies above `MARKER_LIMIT`.
    """
    rows = int(_MARKER_ROWS * _MARKER_SIDE)
    edge = int(_MARKER_EDGE * _MARKER_SIDE)
    upper = reduced[:, :rows]
    window = (1, _MARKER_WINDOW, _MARKER_WINDOW)
    ground = ndimage.maximum_filter(ndimage.minimum_filter(upper, window), window)
    hat = upper - np.minimum(ground, upper)
    bright = np.quantile(reduced[:, ::3, ::3].reshape(len(reduced), -1), 0.95, axis=1)
    hat[upper < 0.8 * bright[:, None, None]] = 0
    hat[:, edge:, edge:-edge] = 0
    flat = hat.reshape(len(hat), -1)
    return np.partition(flat, -_MARKER_PIXELS, axis=1)[:, -_MARKER_PIXELS] / 255


def spine_contrast(thumbs):
    """How much brighter the middle of a film is than the lungs beside it.

    Parameters
    ----------
    thumbs : ndarray of shape (n, 32, 32), dtype uint8
        Grey films.

    Returns
    -------
    ndarray of shape (n,)
        In [-1, 1]. Above 0 on each of 5,322 real frontal films, below 0 on their negatives.
    """
    rows = thumbs[:, 6:20].astype(np.float64) / 255
    middle = rows[:, :, 14:18].mean(axis=(1, 2))
    return middle - (rows[:, :, 7:11].mean(axis=(1, 2)) + rows[:, :, 21:25].mean(axis=(1, 2))) / 2


def normalise(thumbs):
    """Bring thumbnails to zero mean and unit length, so that products are correlations."""
    values = thumbs.astype(np.float32)
    values -= values.mean(axis=(1, 2), keepdims=True)
    length = np.sqrt((values**2).sum(axis=(1, 2), keepdims=True))
    return values / np.maximum(length, 1e-6)


def compare_with_typical(thumbs, spine, usable):
    """Compare each film with the mean of those whose polarity is right.

    Parameters
    ----------
    thumbs : ndarray of shape (n, 32, 32), dtype uint8
        Grey films.

    spine : ndarray of shape (n,)
        What `spine_contrast` says.

    usable : ndarray of shape (n,), dtype bool
        Films that can be looked at.

    Returns
    -------
    upright : ndarray of shape (n,)
        Correlation with the mean film, in [-1, 1]; NaN for films that are not usable.

    turned : ndarray of shape (n,)
        The greatest correlation after one to three quarter turns.
    """
    upright, turned = np.full(len(thumbs), np.nan), np.full(len(thumbs), np.nan)
    good = usable & (spine > 0)
    if not good.any():
        return upright, turned
    total = sum(normalise(thumbs[block]).sum(axis=0) for block in _blocks(np.flatnonzero(good)))
    typical = normalise(total[None])[0]
    for block in _blocks(np.flatnonzero(usable)):
        films = normalise(thumbs[block])
        upright[block] = np.tensordot(films, typical, 2)
        turns = [np.tensordot(films, np.rot90(typical, k), 2) for k in (1, 2, 3)]
        turned[block] = np.max(turns, axis=0)
    return upright, turned


def _blocks(rows, size=4096):
    return [rows[i : i + size] for i in range(0, len(rows), size)]
