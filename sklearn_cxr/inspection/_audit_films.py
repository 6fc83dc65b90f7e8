"""Films of any form as 8-bit grey images, piece by piece, with what their files say."""

import hashlib
import io
import os
import warnings

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from PIL import Image

from sklearn_cxr.exceptions import UnreadableImageWarning
from sklearn_cxr.preprocessing import ImageReader
from sklearn_cxr.preprocessing._decode import MAX_PIXELS
from sklearn_cxr.preprocessing._dicom import is_dicom, read_dicom
from sklearn_cxr.utils._chunks import as_rows, is_row_view
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
    X = as_rows(X)
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
        self._pixels, self.used_range, self.n_levels = None, None, 256
        if self.paths is None:
            self._pixels = self._check_pixels(X, image_shape)
            # Of each film that was read, before it is brought to 8 bits.
            self.used_range = np.full(len(self._pixels), np.nan)
        self._reader = {
            "size": READ_SIZE,
            "on_error": "report",
            "cache_dir": cache_dir,
            "n_jobs": n_jobs,
            "verbose": verbose,
        }
        self._stored = cache_dir is not None and self.paths is not None

    def _check_pixels(self, X, image_shape):
        X = as_rows(X)
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
        low, high = self._range(block)
        flat = block.reshape(len(block), -1)
        self.used_range[rows] = (flat.max(axis=1) - flat.min(axis=1).astype(float)) / (high - low)
        self.n_levels = high - low + 1 if block.dtype.kind != "f" or high - low > 1 else 2**16
        return self._to_grey(block, low, high), keys, problems

    def _range(self, block):
        if block.dtype.kind == "b":
            return 0.0, 1.0
        if self.value_range is None and self._pixels.dtype in (np.uint8, np.uint16):
            return 0.0, float(np.iinfo(self._pixels.dtype).max)
        return level_range(block, self.value_range, self.caller)

    @staticmethod
    def _to_grey(block, low, high):
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


def file_facts(paths, *, levels=True, n_jobs=None):
    """Read what the headers of files say.

    Parameters
    ----------
    paths : list of str
        The files; those that cannot be opened get a row of missing values.

    levels : bool, default=True
        Whether to decode files of more than 8 bits, to see how much of the range they use.

    n_jobs : int or None, default=None
        Number of threads.

    Returns
    -------
    DataFrame
        file_size (bytes), format, mode, bit_depth, width, height (pixels, as stored), photometric
        ("normal" or "inverted", by the header), content (digest of the bytes), used_range
        (difference of the least and the greatest level as a share of what the depth allows, or
        the window of a DICOM file; missing for files of 8 bits).
    """
    step = 256
    parts = Parallel(n_jobs=n_jobs, require="sharedmem")(
        delayed(_headers)(paths[at : at + step], levels) for at in range(0, len(paths), step)
    )
    return pd.DataFrame([facts for part in parts for facts in part])


def _headers(paths, levels):
    return [_header(path, levels) for path in paths]


def _header(path, levels):
    facts = {
        "file_size": np.nan,
        "format": None,
        "mode": None,
        "bit_depth": np.nan,
        "width": np.nan,
        "height": np.nan,
        "photometric": None,
        "content": None,
        "used_range": np.nan,
    }
    try:
        with open(path, "rb") as stream:
            content = stream.read()
        facts["file_size"] = len(content)
        facts["content"] = hashlib.blake2b(content, digest_size=16).hexdigest()
        facts.update(_dicom(content) if is_dicom(content) else _picture(content))
        if levels and facts["bit_depth"] > 8 and facts["width"] * facts["height"] <= MAX_PIXELS:
            facts["used_range"] = _used_range(content, facts["bit_depth"])
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


def _used_range(content, bit_depth):
    if is_dicom(content):
        return np.ptp(read_dicom(content, MAX_PIXELS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = np.asarray(Image.open(io.BytesIO(content)))
    # Pillow decodes deep colour to 8 bits.
    top = 255 if values.dtype == np.uint8 else 2.0**bit_depth - 1
    return (float(values.max()) - float(values.min())) / top


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
