"""Films of any form as 8-bit grey images, piece by piece, with what their files say."""

import hashlib
import io
import os
import warnings

import numpy as np
import pandas as pd
from PIL import Image

from sklearn_cxr.exceptions import UnreadableImageWarning
from sklearn_cxr.preprocessing import ImageReader
from sklearn_cxr.utils._chunks import is_row_view
from sklearn_cxr.utils._images import level_range, resolve_image_shape
from sklearn_cxr.utils._optional import import_optional

READ_SIZE = 224
_CHUNK = 512
_BITS = {"1": 1, "I": 32, "F": 32}
_TIFF_BITS, _TIFF_PHOTOMETRIC = 258, 262


def _column_of_paths(X):
    """Return the paths in X as a list, or None where X holds pixels."""
    if isinstance(X, pd.DataFrame) and "path" in X.columns:
        X = X["path"]
    if is_row_view(X) or (isinstance(X, np.ndarray) and X.dtype.kind in "biuf"):
        return None
    values = np.asarray(X, dtype=object)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or not any(isinstance(v, str | os.PathLike) for v in values):
        return None
    return [os.fspath(v) if isinstance(v, str | os.PathLike) else v for v in values]


class Films:
    """A data set that hands out 8-bit grey images.

    Parameters
    ----------
    X : array-like
        Paths, or a DataFrame with them, or arrays of pixels in any form.

    caller : str
        What the user called, for messages.

    image_shape : tuple of int or None, default=None
        Shape behind flat rows.

    value_range : tuple of (float, float) or None, default=None
        Grey levels of black and white.

    cache_dir : path-like or None, default=None
        Decode store for paths.

    n_jobs : int or None, default=None
        Threads that decode.

    verbose : int, default=0
        With 1, a progress bar while files are decoded.
    """

    def __init__(
        self,
        X,
        *,
        caller,
        image_shape=None,
        value_range=None,
        cache_dir=None,
        n_jobs=None,
        verbose=0,
    ):
        self.caller = caller
        self.value_range = value_range
        self.paths = _column_of_paths(X)
        self._pixels = None
        if self.paths is None:
            self._pixels = self._check_pixels(X, image_shape)
        self._reader = {
            "size": READ_SIZE,
            "on_error": "report",
            "cache_dir": cache_dir,
            "n_jobs": n_jobs,
            "verbose": verbose,
        }
        self._stored = cache_dir is not None and self.paths is not None

    def _check_pixels(self, X, image_shape):
        pixels = X if is_row_view(X) else np.asarray(X)
        if pixels.dtype.kind not in "biuf" or len(pixels.shape) not in (2, 3, 4):
            raise ValueError(
                f"{self.caller} got films of dtype {pixels.dtype} and shape {pixels.shape}; "
                "expected paths, or real numbers of shape (n, h, w), (n, h, w, c) or (n, h*w)."
            )
        self._image_shape = tuple(pixels.shape[1:])
        if len(pixels.shape) == 2:
            self._image_shape = resolve_image_shape(pixels.shape[1], image_shape)
            if self._image_shape[0] == 1:
                raise ValueError(
                    f"{self.caller} got flat rows of {pixels.shape[1]} pixels, which is no "
                    "square; give image_shape=(h, w)."
                )
        return pixels

    def __len__(self):
        return len(self.paths) if self._pixels is None else len(self._pixels)

    @property
    def sides(self):
        """Height and width at which the images are looked at."""
        return (READ_SIZE, READ_SIZE) if self._pixels is None else self._image_shape[:2]

    def read(self, rows):
        """Read some images.

        Parameters
        ----------
        rows : ndarray of int
            Which.

        Returns
        -------
        images : ndarray of shape (m, h, w), dtype uint8
            The images, black where there is none.

        keys : list of bytes
            Digest of the pixels of each image, the same for the same pixels.

        problems : dict of int to tuple of (str, str)
            By position in `rows`, what is the matter ("unreadable", "not_finite") and why.
        """
        if self._pixels is None:
            return self._read_files(rows)
        block = np.asarray(self._pixels[rows]).reshape(len(rows), *self._image_shape)
        keys = [_digest(image) for image in block]
        if block.ndim == 4:
            block = block.mean(axis=3) if block.shape[3] > 1 else block[..., 0]
            block = block.astype(self._pixels.dtype) if block.dtype.kind != "f" else block
        problems = {}
        if block.dtype.kind == "f":
            bad = ~np.isfinite(block).all(axis=(1, 2))
            counts = (~np.isfinite(block)).sum(axis=(1, 2))
            for i in np.flatnonzero(bad):
                problems[int(i)] = ("not_finite", f"{counts[i]} pixels are NaN or infinite")
            block = np.where(bad[:, None, None], 0, block)
        return self._to_grey(block), keys, problems

    def _to_grey(self, block):
        if block.dtype.kind == "b":
            return block.astype(np.uint8) * np.uint8(255)
        if self.value_range is None and self._pixels.dtype in (np.uint8, np.uint16):
            low, high = 0.0, float(np.iinfo(self._pixels.dtype).max)
        else:
            low, high = level_range(block, self.value_range, self.caller)
        if block.dtype == np.uint8 and (low, high) == (0, 255):
            return block
        return np.rint((block - low) * (255 / (high - low))).astype(np.uint8)

    def _read_files(self, rows):
        images, problems = self._decode(rows)
        return images, [_digest(image) for image in images], problems

    def _decode(self, rows):
        """Images of some files, as an array or a view of the store, and what is the matter."""
        paths = [self.paths[row] for row in rows]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnreadableImageWarning)
            reader = ImageReader(**self._reader)
            images = reader.fit_transform([p if isinstance(p, str) else "" for p in paths])
        problems = {}
        for position, reason in reader.errors_["reason"].items():
            path = paths[position]
            reason = reason if isinstance(path, str) else f"{path!r} is not a path"
            problems[position] = ("unreadable", reason)
        return images, problems

    def batches(self):
        """Yield row numbers, piece by piece, with what `read` returns for them."""
        chunks = [
            np.arange(start, min(start + _CHUNK, len(self)))
            for start in range(0, len(self), _CHUNK)
        ]
        if not self._stored:
            for rows in chunks:
                yield rows, *self.read(rows)
            return
        # The store is asked once for all, because it locks its folder each time.
        view, problems = self._decode(np.arange(len(self)))
        for rows in chunks:
            images = np.asarray(view[rows])
            here = {i: problems[row] for i, row in enumerate(rows) if row in problems}
            yield rows, images, [_digest(image) for image in images], here


def _digest(image):
    content = np.ascontiguousarray(image)
    return hashlib.blake2b(memoryview(content).cast("B"), digest_size=16).digest()


def file_facts(paths):
    """Read what the headers of files say.

    Parameters
    ----------
    paths : list of str
        The files; those that cannot be opened get a row of missing values.

    Returns
    -------
    DataFrame
        file_size (bytes), format, mode, bit_depth, width, height (pixels, as stored), photometric
        ("normal" or "inverted", by the header), content (digest of the bytes).
    """
    return pd.DataFrame([_header(path) for path in paths])


def _header(path):
    facts = {
        "file_size": np.nan,
        "format": None,
        "mode": None,
        "bit_depth": np.nan,
        "width": np.nan,
        "height": np.nan,
        "photometric": None,
        "content": None,
    }
    try:
        with open(path, "rb") as stream:
            content = stream.read()
        facts["file_size"] = len(content)
        facts["content"] = hashlib.blake2b(content, digest_size=16).hexdigest()
        facts.update(_dicom(content) if content[128:132] == b"DICM" else _picture(content))
    except ImportError:
        raise
    # ImageReader has reported why; here the header's facts are missing, whatever the reason.
    except Exception:
        return facts
    return facts


def _picture(content):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(io.BytesIO(content))
    tags = getattr(image, "tag_v2", {})
    bits = 16 if image.mode.startswith("I;16") else _BITS.get(image.mode, 8)
    if image.format == "PNG":
        bits = content[24] if image.mode not in ("P", "1") else bits
    if _TIFF_BITS in tags:
        bits = int(np.max(tags[_TIFF_BITS]))
    inverted = bits > 1 and tags.get(_TIFF_PHOTOMETRIC) == 0
    return {
        "format": image.format,
        "mode": image.mode,
        "bit_depth": bits,
        "width": image.width,
        "height": image.height,
        "photometric": "inverted" if inverted else "normal",
    }


def _dicom(content):
    pydicom = import_optional("pydicom", extra="dicom", caller="Reading a DICOM file")
    header = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True)
    photometric = str(header.get("PhotometricInterpretation", ""))
    return {
        "format": "DICOM",
        "mode": photometric,
        "bit_depth": int(header.BitsStored),
        "width": int(header.Columns),
        "height": int(header.Rows),
        "photometric": "inverted" if photometric == "MONOCHROME1" else "normal",
    }
