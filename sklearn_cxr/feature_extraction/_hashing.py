"""Names for images that depend on what they hold, not on where they lie."""

import hashlib
import json
import os
import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from sklearn_cxr.utils._chunks import chunk_slices

_PAIR = struct.Struct("<QQ")
_DIGEST_SIZE = 16  # two uint64


def image_keys(X, image_shape):
    """Hash the pixels, shape and dtype of every image.

    Parameters
    ----------
    X : ndarray or row view of shape (n, ...)
        Images, shaped or flat.

    image_shape : tuple of int
        Shape of one image; a last axis of one channel does not count.

    Returns
    -------
    ndarray of shape (n, 2), dtype=uint64
        Equal for equal images, whatever their form, byte order and place.
    """
    native = X.dtype.newbyteorder("=")
    sides = image_shape[:2] if image_shape[2:] == (1,) else image_shape
    # "|u1", "<f4": named by the order on disk, so that machines can share a folder.
    start = hashlib.blake2b(
        f"{tuple(sides)} {native.newbyteorder('<').str}".encode(), digest_size=_DIGEST_SIZE
    )
    keys = np.empty((len(X), 2), dtype=np.uint64)

    def fill(rows):
        chunk = np.ascontiguousarray(np.asarray(X[rows]), dtype=native.newbyteorder("<"))
        for place, image in zip(range(rows.start, rows.stop), chunk, strict=True):
            digest = start.copy()
            digest.update(image.data)
            keys[place] = _PAIR.unpack(digest.digest())

    slices = chunk_slices(len(X), int(np.prod(image_shape)))
    if len(slices) < 2:
        for rows in slices:
            fill(rows)
        return keys
    # Hashing lets go of the interpreter's lock.
    with ThreadPoolExecutor(min(len(slices), os.cpu_count() or 1)) as threads:
        list(threads.map(fill, slices))
    return keys


def description_key(description):
    """Hash a description of how features are made.

    Parameters
    ----------
    description : dict
        Anything that JSON can write.

    Returns
    -------
    bytes
        16 bytes, equal for equal descriptions.
    """
    text = json.dumps(description, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_SIZE).digest()
