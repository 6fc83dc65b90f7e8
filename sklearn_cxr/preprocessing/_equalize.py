"""Histogram equalisation, over the whole film or within tiles of it."""

from numbers import Integral, Real

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from skimage import exposure
from sklearn.utils import gen_even_slices

from sklearn_cxr.preprocessing._base import (
    IMAGE_SHAPE_CONSTRAINT,
    VALUE_RANGE_CONSTRAINT,
    BaseImageTransformer,
    restore_dtype,
)
from sklearn_cxr.utils._images import level_dtype, level_range
from sklearn_cxr.utils._sklearn import Interval, StrOptions

_SMALLEST_TILE = 8


class HistogramEqualizer(BaseImageTransformer):
    """Spread the grey levels of each image evenly over the whole range.

    The work is done by scikit-image: :func:`skimage.exposure.equalize_hist` for
    ``method="global"`` and :func:`skimage.exposure.equalize_adapthist` (contrast-limited
    adaptive histogram equalisation [1]_) for ``method="adaptive"``. Each image is treated by
    itself, and each channel of a colour image by itself, so that a grey film stored as RGB
    gives three times the result of the film stored as grey.

    uint8 stays uint8 and uint16 stays uint16; floats stay floats in the same range. An image,
    or a channel, that is constant has no histogram to spread and is left as it is.

    Parameters
    ----------
    method : {"global", "adaptive"}, default="global"
        Whether one histogram is taken over the image, or one in each tile.

    clip_limit : float, default=0.01
        For ``method="adaptive"``: share of a tile's pixels, in [0, 1], that one histogram bin may
        hold; the excess is spread over the others, so that noise is not blown up. Larger means
        more contrast; 0 means no limit.

    kernel_size : int, tuple of (int, int) or None, default=None
        For ``method="adaptive"``: height and width of a tile in pixels. None means an eighth of
        the image's height and width as in scikit-image, but at least 8 pixels where the side
        has as many: fewer pixels make no histogram.

    n_bins : int, default=256
        Number of histogram bins between the lowest and the highest value of an image. For
        ``method="global"`` on uint8 and uint16 each level is its own bin instead.

    value_range : tuple of (float, float) or None, default=None
        Grey levels of black and white, which the result spans; the dtype of the images has to
        hold both. None means 0 to 255 for uint8, 0 to 65535 for uint16 and 0 to 1 for floats;
        any other dtype, and floats outside [0, 1], then raise.

    image_shape : tuple of int or None, default=None
        ``(h, w)`` or ``(h, w, c)`` behind flat input. None means a square where the number of
        features is one, else one row. Shaped input tells its own.

    n_jobs : int or None, default=None
        Number of threads. None means 1 unless in a :func:`joblib.parallel_config` context.
        ``method="global"`` on uint8 is a table look-up, bound by memory, and runs in one.

    Attributes
    ----------
    value_range_ : tuple of (float, float)
        Grey levels of black and white.

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
    IntensityScaler : Linear changes of the grey levels.

    References
    ----------
    .. [1] K. Zuiderveld, "Contrast limited adaptive histogram equalization", in Graphics Gems
       IV, Academic Press, 1994, pp. 474-485.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_cxr.preprocessing import HistogramEqualizer
    >>> flat_film = np.array([[[100, 101], [102, 103]]], dtype=np.uint8)
    >>> HistogramEqualizer().fit_transform(flat_film)
    array([[[ 64, 128],
            [191, 255]]], dtype=uint8)
    """

    _needs_levels = True

    _parameter_constraints: dict = {
        "method": [StrOptions({"global", "adaptive"})],
        "clip_limit": [Interval(Real, 0, 1, closed="both")],
        "kernel_size": [Interval(Integral, 1, None, closed="left"), "array-like", None],
        "n_bins": [Interval(Integral, 2, 2**14, closed="both")],
        "value_range": VALUE_RANGE_CONSTRAINT,
        "image_shape": IMAGE_SHAPE_CONSTRAINT,
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        method="global",
        *,
        clip_limit=0.01,
        kernel_size=None,
        n_bins=256,
        value_range=None,
        image_shape=None,
        n_jobs=None,
    ):
        self.method = method
        self.clip_limit = clip_limit
        self.kernel_size = kernel_size
        self.n_bins = n_bins
        self.value_range = value_range
        self.image_shape = image_shape
        self.n_jobs = n_jobs

    def _fit_images(self, images):
        if images.dtype.kind == "b":
            raise ValueError(
                "HistogramEqualizer got booleans, which have no histogram to spread. Give grey "
                "levels, such as uint8."
            )
        self._tile()
        self.value_range_ = level_range(images, self.value_range, type(self).__name__)

    def _transform_images(self, images):
        out = np.empty(images.shape, dtype=images.dtype)
        planes = images if images.ndim == 4 else images[..., None]
        out_planes = out if out.ndim == 4 else out[..., None]

        def work(rows):
            for i in range(rows.start, rows.stop):
                for channel in range(planes.shape[-1]):
                    out_planes[i, ..., channel] = self._equalize(planes[i, ..., channel])

        by_table = self.method == "global" and level_dtype(images.dtype) == "uint8"
        workers = 1 if by_table else min(effective_n_jobs(self.n_jobs), len(images))
        parts = gen_even_slices(len(images), workers)
        # Threads, because all of them write into one output.
        Parallel(n_jobs=workers, require="sharedmem")(delayed(work)(part) for part in parts)
        return out

    def _equalize(self, plane):
        first, last = plane.min(), plane.max()
        if first == last:
            return plane
        dtype = plane.dtype
        plane = plane.astype(dtype.newbyteorder("="), copy=False)
        if level_dtype(dtype) is None:
            # scikit-image stretches to the image's own range anyway; done here in float64, no
            # dtype and no value range is outside of what it takes.
            first, last = float(first), float(last)
            plane = (plane.astype(np.float64) - first) / (last - first)
        elif self.method == "global":
            return self._look_up(plane)
        return restore_dtype(self._to_levels(self._by_skimage(plane)), dtype)

    def _look_up(self, plane):
        # equalize_hist interpolates the cumulative histogram at every pixel; on integers each
        # pixel falls on a node, so a table of the nodes is equal and many times faster.
        cumulative, levels = exposure.cumulative_distribution(plane)
        table = np.zeros(int(levels[-1]) + 1, dtype=plane.dtype)
        table[levels] = restore_dtype(self._to_levels(cumulative), plane.dtype)
        return table[plane]

    def _by_skimage(self, plane):
        if self.method == "global":
            return exposure.equalize_hist(plane, nbins=self.n_bins)
        return exposure.equalize_adapthist(
            plane, kernel_size=self._tile(), clip_limit=self.clip_limit, nbins=self.n_bins
        )

    def _to_levels(self, share):
        low, high = self.value_range_
        return np.clip(low + share * (high - low), low, high)

    def _tile(self):
        height, width = self.image_shape_[:2]
        if self.kernel_size is None:
            return tuple(max(side // 8, min(side, _SMALLEST_TILE)) for side in (height, width))
        tile = np.asarray(self.kernel_size)
        tile = np.broadcast_to(tile, 2) if tile.ndim == 0 else tile
        if tile.shape != (2,) or tile.dtype.kind not in "iu" or tile.min() < 1:
            raise ValueError(
                "kernel_size must be a positive int or (height, width) of two, got "
                f"{self.kernel_size!r}."
            )
        return int(tile[0]), int(tile[1])

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
