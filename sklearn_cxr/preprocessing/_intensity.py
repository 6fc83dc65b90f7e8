"""Linear changes of the grey levels: to [0, 1], to zero mean and unit variance, to percentiles."""

import numpy as np

from sklearn_cxr.preprocessing._base import (
    IMAGE_SHAPE_CONSTRAINT,
    VALUE_RANGE_CONSTRAINT,
    BaseImageTransformer,
)
from sklearn_cxr.preprocessing._moments import ColumnMoments, is_constant
from sklearn_cxr.preprocessing._quantiles import stream_percentiles
from sklearn_cxr.utils._chunks import ImageChunks
from sklearn_cxr.utils._images import level_range
from sklearn_cxr.utils._sklearn import StrOptions


class IntensityScaler(BaseImageTransformer):
    """Bring grey levels to a common scale by a shift and a factor.

    ``mode="unit"`` divides by the absolute range: black becomes 0, white 1, and exposure stays
    visible. ``mode="standard"`` gives zero mean and unit variance, ``mode="percentile"`` clips
    at two percentiles and scales them to 0 and 1, so that a burned-in marker or a few bright
    pixels do not set the scale. Both take away brightness and contrast that differ from film to
    film with ``per="image"``; with ``per="dataset"`` they are learnt once from the training images
    and the same change is applied to every image.

    The values are float32 (float64 where float64 came in). The colour channels of an image share
    one shift and factor. Where there is nothing to scale by, because the image is constant or
    its two percentiles are equal, ``"standard"`` and ``"percentile"`` give zeros.

    Parameters
    ----------
    mode : {"unit", "standard", "percentile"}, default="unit"
        The scale.

    per : {"image", "dataset"}, default="image"
        Whether "standard" and "percentile" take their statistics from each image by itself, or
        from all pixels of the images in ``fit``. "unit" has none and ignores it.

    percentiles : tuple of (float, float), default=(1, 99)
        For ``mode="percentile"``: lower and upper percentile, in [0, 100].

    value_range : tuple of (float, float) or None, default=None
        For ``mode="unit"``: grey levels of black and white, both of which the dtype of the images
        can hold. None means 0 to 255 for uint8, 0 to 65535 for uint16 and 0 to 1 for floats; any
        other dtype, and floats outside [0, 1], then raise. The other modes do not depend on it.

    image_shape : tuple of int or None, default=None
        ``(h, w)`` or ``(h, w, c)`` behind flat input. None means a square where the number of
        features is one, else one row. Shaped input tells its own.

    Attributes
    ----------
    offset_ : float or None
        What is subtracted from every image; None where each image has its own.

    scale_ : float or None
        What every image is then divided by; None where each image has its own.

    image_shape_ : tuple of int
        Shape of one image.

    input_kind_ : {"uint8", "uint16", "unit float", "other"}
        Kind of grey level seen in ``fit``; a batch of another kind raises.

    n_features_in_ : int
        Number of values in an image.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features seen in ``fit``, where `X` was a DataFrame.

    See Also
    --------
    PixelScaler : Mean and variance of each pixel over the training images.
    HistogramEqualizer : The grey levels spread evenly.

    Notes
    -----
    ``per="dataset"`` reads a memory map or a view of the decode store in pieces. Its percentiles
    are exact; for other than 8 and 16-bit integers they take four passes over the images.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_cxr.preprocessing import IntensityScaler
    >>> images = np.array([[[0, 51], [102, 255]]], dtype=np.uint8)
    >>> IntensityScaler().fit_transform(images)
    array([[[0. , 0.2],
            [0.4, 1. ]]], dtype=float32)
    """

    _parameter_constraints: dict = {
        "mode": [StrOptions({"unit", "standard", "percentile"})],
        "per": [StrOptions({"image", "dataset"})],
        "percentiles": ["array-like"],
        "value_range": VALUE_RANGE_CONSTRAINT,
        "image_shape": IMAGE_SHAPE_CONSTRAINT,
    }

    def __init__(
        self,
        mode="unit",
        *,
        per="image",
        percentiles=(1, 99),
        value_range=None,
        image_shape=None,
    ):
        self.mode = mode
        self.per = per
        self.percentiles = percentiles
        self.value_range = value_range
        self.image_shape = image_shape

    @property
    def _needs_levels(self):
        return self.mode == "unit"

    def _fit_batch(self, X):
        percentiles = self._check_percentiles()
        chunks = ImageChunks(self, X, reset=True, image_shape=self.image_shape)
        offset = scale = None
        if self._needs_levels:
            for chunk in chunks:
                low, high = level_range(chunk, self.value_range, type(self).__name__)
            offset, scale = low, high - low
        elif self.per == "image":
            for _ in chunks:
                pass
        elif self.mode == "standard":
            offset, scale = _dataset_mean_and_std(chunks)
        else:
            size = len(chunks) * chunks.n_features
            low, high = stream_percentiles(chunks, percentiles, size=size, dtype=chunks.dtype)
            offset, scale = low, high - low
        self.offset_, self.scale_ = offset, scale

    def _transform_batch(self, X):
        chunks = ImageChunks(self, X, reset=False)
        dtype = np.float64 if chunks.dtype.newbyteorder("=") == np.float64 else np.float32
        out = np.empty((len(chunks), chunks.n_features), dtype=dtype)
        for rows, chunk in chunks.items():
            if self._needs_levels:
                level_range(chunk, self.value_range, type(self).__name__)
            out[rows] = self._scale(chunk)
        return out.reshape(-1, *self.image_shape_) if chunks.shaped else out

    def _scale(self, flat):
        offset, scale = self.offset_, self.scale_
        if offset is None:
            offset, scale = self._image_scales(flat)
        values = flat.astype(np.float64)
        values -= offset
        values /= np.where(scale > 0, scale, np.inf)
        if self.mode == "percentile":
            np.clip(values, 0, 1, out=values)
        return values

    def _image_scales(self, flat):
        if self.mode == "percentile":
            # Percentiles are interpolated, and booleans cannot be subtracted.
            flat = flat.astype(np.uint8) if flat.dtype.kind == "b" else flat
            low, high = np.percentile(flat, self._check_percentiles(), axis=1, keepdims=True)
            return low.astype(np.float64), high.astype(np.float64) - low
        mean = flat.mean(axis=1, dtype=np.float64, keepdims=True)
        std = flat.std(axis=1, dtype=np.float64, keepdims=True)
        # The mean of equal floats may be off by rounding, and their deviation then is not zero.
        constant = flat.min(axis=1, keepdims=True) == flat.max(axis=1, keepdims=True)
        return mean, np.where(constant, 0, std)

    def _check_percentiles(self):
        low_high = np.asarray(self.percentiles)
        numbers = low_high.shape == (2,) and low_high.dtype.kind in "iuf"
        if not numbers or not 0 <= low_high[0] < low_high[1] <= 100:
            raise ValueError(
                "percentiles must be (low, high) with 0 <= low < high <= 100, got "
                f"{self.percentiles!r}."
            )
        return low_high

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _dataset_mean_and_std(chunks):
    # The variance of all pixels is the mean of the columns' variances plus the variance of
    # their means; the columns are summed exactly and fast.
    columns = ColumnMoments(chunks.n_features)
    for chunk in chunks:
        columns.update(chunk)
    n, means, variances = columns.finish()
    mean, variance = means.mean(), variances.mean() + means.var()
    constant = is_constant(n * chunks.n_features, mean, variance)
    return float(mean), 0.0 if constant else float(np.sqrt(variance))
