"""From paths to pixels: the one transformer that opens image files."""

import os
from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from sklearn_cxr.exceptions import UnreadableImageWarning
from sklearn_cxr.preprocessing._base import wrap_flat_output
from sklearn_cxr.preprocessing._decode import ReadOptions, image_size, placement
from sklearn_cxr.preprocessing._decode_files import decode_files
from sklearn_cxr.preprocessing._geometry import resolve_size
from sklearn_cxr.preprocessing._paths import check_paths
from sklearn_cxr.preprocessing._store import DecodeStore
from sklearn_cxr.utils._images import pixel_names
from sklearn_cxr.utils._sklearn import (
    CallbackSupportMixin,
    Interval,
    StrOptions,
    _check_feature_names_in,
    _fit_context,
    fit_task,
    with_callbacks,
)
from sklearn_cxr.utils._warn import warn


class _PathTransform:
    """``transform`` and ``fit_transform``, apart from TransformerMixin's wrapping of them."""

    @wrap_flat_output
    def transform(self, X):
        """Read images.

        Parameters
        ----------
        X : array-like of shape (n,) or (n, 1), or DataFrame with one column
            Paths of image files, absolute or relative to the current folder.

        Returns
        -------
        ndarray, ImageRows or DataFrame of shape (n, h, w), (n, h, w, 3) or (n, n_pixels)
            The images; a memory-mapped view of them where `cache_dir` is given.

        Raises
        ------
        ImageFormatError
            With ``on_error="raise"``, for the first file that cannot be read.
        """
        check_is_fitted(self)
        return self._finish(*self._read(check_paths(self, X, reset=False)))

    @with_callbacks
    @wrap_flat_output
    @_fit_context(prefer_skip_nested_validation=True)
    def fit_transform(self, X, y=None):
        """Read images once, and remember which ones could not be read.

        Parameters
        ----------
        X : array-like of shape (n,) or (n, 1), or DataFrame with one column
            Paths of image files.

        y : None
            Ignored.

        Returns
        -------
        ndarray, ImageRows or DataFrame of shape (n, h, w), (n, h, w, 3) or (n, n_pixels)
            The images.
        """
        with fit_task(self, X, y):
            images, errors = self._fit_read(X)
        return self._finish(images, errors)


class ImageReader(_PathTransform, CallbackSupportMixin, TransformerMixin, BaseEstimator):
    """Read image files into arrays of one size, once.

    JPEG (grey, colour, CMYK), PNG (1, 8 and 16 bit, palette, alpha), TIFF (8 and 16 bit, one
    page), BMP and DICOM (modality LUT, VOI window, MONOCHROME1 inverted) are read; the EXIF
    orientation is applied. 16-bit films keep their range: 0..65535 becomes 0..255 with
    ``dtype="uint8"``. An axis that shrinks is averaged by area, exactly, and one that grows is
    interpolated, as `Resize` does it; a JPEG of four times the wanted size or more is shrunk
    inside its decoder before, which moves a pixel by half a grey level on average.

    Parameters
    ----------
    size : int or tuple of (int, int), default=224
        Height and width of the result in pixels; one number stands for both.

    aspect : {"stretch", "pad", "crop"}, default="stretch"
        What happens to images of another aspect ratio: they are stretched to `size`; or fitted
        inside it and padded with `fill_value`; or the largest centred part of the right shape
        is taken.

    color : {"gray", "rgb"}, default="gray"
        One channel, or three. Colour becomes grey by ITU-R 601 luma.

    dtype : {"uint8", "uint16"}, default="uint8"
        Data type of the result. "uint16" keeps a 12- or 16-bit grey film whole, on the scale
        0..65535; 8-bit images are multiplied by 257.

    output : {"image", "flat"}, default="image"
        Form of the result: ``(n, h, w[, 3])``, or ``(n, h*w[*3])`` for ColumnTransformer,
        FeatureUnion, bagging and samplers, which take 2-D only.

    on_error : {"raise", "report"}, default="raise"
        What to do with a file that cannot be read: raise, naming the file and the reason; or
        keep its row, filled with `fill_value`, and warn once with the count. See `report` and
        `drop_unreadable`.

    fill_value : int, default=0
        Grey level of unreadable rows and of the padding of ``aspect="pad"``.

    cache_dir : path-like or None, default=None
        Folder of the decode store. With it every distinct file (by content, and read options)
        is decoded once and shared through memory maps by folds, grid points, processes and
        later runs. A file counts as unchanged while its path, size and time of change are.
        A relative folder counts from where a process is; give an absolute one where worker
        processes may be elsewhere. None decodes at every call.

    n_jobs : int or None, default=None
        Number of threads that decode. None means 1 unless in a
        :obj:`joblib.parallel_config` context; -1 means all processors.

    verbose : int, default=0
        With 1, a progress bar while files are decoded.

    Attributes
    ----------
    errors_ : DataFrame with columns "file" and "reason"
        Files of ``fit`` that could not be read; the index is their position in `X`.

    image_shape_ : tuple of int
        Shape of one image of the result, ``(h, w)`` or ``(h, w, 3)``.

    n_features_in_ : int
        Always 1: the path.

    feature_names_in_ : ndarray of shape (1,)
        Name of the column, where `X` was a DataFrame.

    Notes
    -----
    Without `cache_dir` the result is an ndarray. With it, it is an
    :class:`~sklearn_cxr.preprocessing.ImageRows`: a read-only view of the rows in the mapped
    files, which every estimator of this library, and ``np.asarray``, takes.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from PIL import Image
    >>> from sklearn_cxr.preprocessing import ImageReader
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for level in (10, 200):
    ...     Image.new("L", (64, 48), level).save(folder / f"{level}.png")
    >>> paths = sorted(folder.glob("*.png"))
    >>> images = ImageReader(size=8).fit_transform(paths)
    >>> images.shape, images.dtype, images[:, 0, 0]
    ((2, 8, 8), dtype('uint8'), array([ 10, 200], dtype=uint8))
    """

    _parameter_constraints: dict = {
        "size": [Interval(Integral, 1, None, closed="left"), tuple, list],
        "aspect": [StrOptions({"stretch", "pad", "crop"})],
        "color": [StrOptions({"gray", "rgb"})],
        "dtype": [StrOptions({"uint8", "uint16"})],
        "output": [StrOptions({"image", "flat"})],
        "on_error": [StrOptions({"raise", "report"})],
        "fill_value": [Interval(Integral, 0, 65535, closed="both")],
        "cache_dir": [str, os.PathLike, None],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        size=224,
        *,
        aspect="stretch",
        color="gray",
        dtype="uint8",
        output="image",
        on_error="raise",
        fill_value=0,
        cache_dir=None,
        n_jobs=None,
        verbose=0,
    ):
        self.size = size
        self.aspect = aspect
        self.color = color
        self.dtype = dtype
        self.output = output
        self.on_error = on_error
        self.fill_value = fill_value
        self.cache_dir = cache_dir
        self.n_jobs = n_jobs
        self.verbose = verbose

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Read the files, so that unreadable ones are known and the store is filled.

        Parameters
        ----------
        X : array-like of shape (n,) or (n, 1), or DataFrame with one column
            Paths of image files.

        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted reader.

        Raises
        ------
        ImageFormatError
            With ``on_error="raise"``, for the first file that cannot be read.
        """
        with fit_task(self, X, y):
            self._warn(*self._fit_read(X))
        return self

    def _fit_read(self, X):
        paths = check_paths(self, X, reset=True)
        images, errors = self._read(paths)
        self.image_shape_ = self._options().row_shape
        # Arrays, because skops cannot save a DataFrame.
        self._error_positions = np.array(sorted(errors), dtype=np.intp)
        self._error_files = np.array([paths[i] for i in sorted(errors)], dtype=str)
        self._error_reasons = np.array([str(errors[i]) for i in sorted(errors)], dtype=str)
        return images, errors

    @property
    def errors_(self):
        """Files of ``fit`` that could not be read."""
        check_is_fitted(self)
        return _error_frame(self._error_positions, self._error_files, self._error_reasons)

    def _options(self):
        self._validate_params()
        height, width = resolve_size(self.size, "ImageReader")
        if self.fill_value > np.iinfo(self.dtype).max:
            raise ValueError(f"fill_value={self.fill_value} does not fit into {self.dtype}.")
        return ReadOptions(
            height, width, self.aspect, self.color, self.dtype, int(self.fill_value)
        )

    def _read(self, paths):
        """Images of the paths, and the reason for each position that could not be read."""
        options = self._options()
        if self.cache_dir is not None:
            store = DecodeStore(self.cache_dir, options)
            return store.rows(paths, lambda new: self._decode(new, options), self.on_error)
        images = np.empty((len(paths), *options.row_shape), dtype=options.dtype)
        errors = {}
        for i, (_, image) in enumerate(self._decode(paths, options)):
            if isinstance(image, Exception):
                errors[i] = image
                image = options.fill_value
            images[i] = image
        return images, errors

    def _decode(self, paths, options):
        return decode_files(
            paths,
            options,
            on_error=self.on_error,
            with_hash=self.cache_dir is not None,
            n_jobs=self.n_jobs,
            verbose=self.verbose,
        )

    def _finish(self, images, errors):
        self._warn(images, errors)
        return images.reshape(len(images), -1) if self.output == "flat" else images

    def _warn(self, images, errors):
        if not errors:
            return
        first = errors[min(errors)]
        warn(
            f"{len(errors)} of {len(images)} images could not be read; their rows hold "
            f"{self.fill_value}. The first: {first} See report(X) for all of them, and "
            "drop_unreadable(X, y, groups) to do without them.",
            UnreadableImageWarning,
        )

    def report(self, X):
        """List the files that cannot be read; nothing is kept.

        Parameters
        ----------
        X : array-like of shape (n,) or (n, 1), or DataFrame with one column
            Paths of image files.

        Returns
        -------
        DataFrame with columns "file" and "reason"
            One row for each unreadable file; the index is its position in `X`.
        """
        paths = check_paths(self, X, reset=None)
        errors = self._reporting()._read(paths)[1]
        positions = sorted(errors)
        return _error_frame(
            positions, [paths[i] for i in positions], [str(errors[i]) for i in positions]
        )

    def drop_unreadable(self, X, y=None, groups=None, *others):
        """Leave out the images that cannot be read, together with their labels and patients.

        Parameters
        ----------
        X : array-like of shape (n,) or (n, 1), or DataFrame
            Paths of image files. A DataFrame with more columns needs its paths in a column
            ``path``.

        y : array-like of shape (n,) or (n, k), or None, default=None
            Labels.

        groups : array-like of shape (n,) or None, default=None
            Patients.

        *others : array-like of shape (n, ...) or DataFrame
            Whatever else has a row for each image, such as the loader's ``frame``.

        Returns
        -------
        X, y, groups, *others : as given
            Without the rows of unreadable images; None stays None.
        """
        check_consistent_length(X, y, groups, *others)
        several = isinstance(X, pd.DataFrame) and X.shape[1] > 1 and "path" in X
        bad = self.report(X[["path"]] if several else X).index
        keep = np.setdiff1d(np.arange(len(X)), bad)
        return tuple(
            None if a is None else _safe_indexing(a, keep) for a in (X, y, groups, *others)
        )

    def _reporting(self):
        return ImageReader(**{**self.get_params(), "on_error": "report"})

    def geometry(self, X):
        """Return affine maps from pixels of the result to pixels of the original, upright image.

        Parameters
        ----------
        X : array-like of shape (n,) or (n, 1), or DataFrame with one column
            Paths of image files.

        Returns
        -------
        ndarray of shape (n, 2, 3)
            ``A @ (x, y, 1)`` are coordinates in the original; pixel (row r, column c) covers
            ``[c, c + 1) x [r, r + 1)``.

        Raises
        ------
        ImageFormatError
            For the first file whose header cannot be read.
        """
        options = self._options()
        affines = np.zeros((len(X), 2, 3))
        for i, path in enumerate(check_paths(self, X, reset=None)):
            box, target = placement(*image_size(path), options)
            for axis in (0, 1):
                scale = (box[axis + 2] - box[axis]) / (target[axis + 2] - target[axis])
                affines[i, axis, axis] = scale
                affines[i, axis, 2] = box[axis] - scale * target[axis]
        return affines

    def get_feature_names_out(self, input_features=None):
        """Name the columns of the flat output.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Checked against the name seen in ``fit``.

        Returns
        -------
        ndarray of str objects
            ``pixel_<row>_<column>``, with the channel where there is one.
        """
        check_is_fitted(self)
        _check_feature_names_in(self, input_features)
        return pixel_names(self.image_shape_)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.input_tags.string = True
        return tags


def _error_frame(positions, files, reasons):
    columns = {"file": files, "reason": reasons}
    return pd.DataFrame(
        {
            name: pd.Series([str(value) for value in values], index=list(positions), dtype=object)
            for name, values in columns.items()
        }
    )
