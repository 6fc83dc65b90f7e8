"""Crop to the lung fields."""

from numbers import Integral, Real

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from sklearn.utils import gen_batches, gen_even_slices
from sklearn.utils.validation import check_is_fitted

from sklearn_cxr.preprocessing._base import (
    IMAGE_SHAPE_CONSTRAINT,
    VALUE_RANGE_CONSTRAINT,
    wrap_flat_output,
)
from sklearn_cxr.preprocessing._crop import BaseCrop, grey
from sklearn_cxr.preprocessing._lung_fields import find_fields, reduce_film
from sklearn_cxr.preprocessing._resize import SIZE_CONSTRAINT, resample, whole_boxes
from sklearn_cxr.utils._images import level_range
from sklearn_cxr.utils._sklearn import Interval, _fit_context, fit_task, with_callbacks

_BLOCK = 256  # films that are held reduced at a time


class _FitTransformOnce:
    """A ``fit_transform`` that segments once; no TransformerMixin, see the frame's own."""

    @wrap_flat_output
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit_transform(self, X, y=None):
        """Fit to `X` and crop it, segmenting each image once.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images.

        y : None
            Ignored.

        Returns
        -------
        ndarray or DataFrame
            The cropped images in the form that `X` had.
        """
        with fit_task(self, X, y):
            flat, shaped = self._validate(X, reset=True)
            images = flat.reshape(len(flat), *self.image_shape_)
            out = self._crop(images, self._fit_images(images))
        return out if shaped else out.reshape(len(out), -1)


class LungCrop(_FitTransformOnce, BaseCrop):
    """Crop frontal chest radiographs to the box around both lung fields.

    Each image is segmented on its own, at 128 pixels: it is cut at ten global and six local
    grey levels, regions along the image's edge (the air around the patient) are dropped, and
    of the dark regions left and right of the spine the pair that most resembles two lungs, in
    area, solidity, outline contrast and symmetry, gives the box. Air has to be dark.

    An image without a plausible pair is kept whole, and a
    :class:`~sklearn_cxr.exceptions.FallbackWarning` tells how many there were. That is common
    where the lungs run off the film or one of them is white throughout. The crop is stretched
    to `size`.

    Whether an image falls back goes with disease: of 300 training films of the Kermany set
    none of the normal ones did, but 22 % of the bacterial and 10 % of the viral ones. A model
    can take the wider view for a sign of pneumonia, so look at what falls back, by class,
    before a study relies on the crop.

    Parameters
    ----------
    margin : float, default=0.05
        What is added at each side of the box, as a share of its width or height. The box is
        cut at the image's edge.

    size : int, tuple of (int, int) or None, default=None
        Side of a square, or (height, width), of the output. None means the input's size.

    value_range : tuple of (float, float) or None, default=None
        Grey levels of black and white, both of which the dtype of the images can hold. None
        means 0..255 for uint8, 0..65535 for uint16 and [0, 1] for floats. An image that spans
        less than 2 % of it is not segmented.

    image_shape : tuple of int or None, default=None
        ``(h, w)`` or ``(h, w, c)`` behind flat input. None means a square where the number of
        features is one, else one row. Shaped input tells its own.

    n_jobs : int or None, default=None
        Number of processes that segment. None means 1 unless in a
        :func:`joblib.parallel_config` context. Worth it from some hundred images on.

    Attributes
    ----------
    n_fallbacks_ : int
        Number of images kept whole among those seen in ``fit``.

    size_ : tuple of (int, int)
        Height and width of the output.

    image_shape_ : tuple of int
        Shape of one input image.

    input_kind_ : {"uint8", "uint16", "unit float", "other"}
        Kind of grey level seen in ``fit``; a batch of another kind raises.

    n_features_in_ : int
        Number of values in an input image.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features seen in ``fit``, where `X` was a DataFrame.

    See Also
    --------
    CropBorders : Cuts off black borders only.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_cxr.preprocessing import LungCrop
    >>> row, column = np.mgrid[:128, :128]
    >>> film = np.full((128, 128), 200, dtype=np.uint8)
    >>> for centre in (38, 90):
    ...     film[((row - 60) / 40) ** 2 + ((column - centre) / 18) ** 2 < 1] = 80
    >>> crop = LungCrop(size=64).fit(film[None])
    >>> crop.transform(film[None]).shape
    (1, 64, 64)
    >>> crop.n_fallbacks_
    0
    """

    _fallback_reason = "no plausible pair of lung fields was found in them"
    _parameter_constraints: dict = {
        "margin": [Interval(Real, 0, 1, closed="both")],
        "size": SIZE_CONSTRAINT + [None],
        "value_range": VALUE_RANGE_CONSTRAINT,
        "image_shape": IMAGE_SHAPE_CONSTRAINT,
        "n_jobs": [Integral, None],
    }

    def __init__(self, *, margin=0.05, size=None, value_range=None, image_shape=None, n_jobs=None):
        self.margin = margin
        self.size = size
        self.value_range = value_range
        self.image_shape = image_shape
        self.n_jobs = n_jobs

    def _fit_images(self, images):
        super()._fit_images(images)
        boxes, found = self._find_boxes(images)
        self.n_fallbacks_ = int(np.sum(~found))
        self._warn_of_fallbacks(found)
        return boxes

    def _find_masks(self, images):
        # The mask of each image at the working resolution, or None. Workers get reduced films
        # of 64 kB only.
        low, high = level_range(images[:0], self.value_range, type(self).__name__)
        for block in gen_batches(len(images), _BLOCK):
            films = [reduce_film(grey(image), low, high) for image in images[block]]
            workers = min(effective_n_jobs(self.n_jobs), len(films))
            if workers == 1:
                yield from find_fields(films)
                continue
            parts = gen_even_slices(len(films), workers)
            tasks = (delayed(find_fields)(films[part]) for part in parts)
            for masks in Parallel(n_jobs=self.n_jobs)(tasks):
                yield from masks

    def _find_boxes(self, images):
        boxes = whole_boxes(images)
        found = np.zeros(len(images), dtype=bool)
        for i, mask in enumerate(self._find_masks(images)):
            if mask is not None:
                boxes[i] = self._mask_box(mask, images.shape[1:3])
                found[i] = True
        return boxes, found

    def _mask_box(self, mask, shape):
        # The box around a mask, with its margin, in pixels of an image of that shape.
        spans = []
        for axis, length in enumerate(shape):
            lines = np.flatnonzero(mask.any(axis=1 - axis))
            scale = length / mask.shape[axis]
            start, stop = lines[0] * scale, (lines[-1] + 1) * scale
            extra = self.margin * (stop - start)
            start = max(int(np.floor(start - extra)), 0)
            spans.append((start, min(int(np.ceil(stop + extra)), length) - start))
        (y, h), (x, w) = spans
        return x, y, w, h

    def segment(self, X):
        """Compute masks of the lung fields.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the shape seen in ``fit``.

        Returns
        -------
        ndarray of shape (n, h, w), dtype bool
            True in the lung fields as far as they are dark; consolidations and what the heart
            covers are left out. All False where no plausible pair was found. The outline is
            that of a segmentation at 128 pixels.
        """
        check_is_fitted(self)
        flat, _ = self._validate(X, reset=False)
        images = flat.reshape(len(flat), *self.image_shape_)
        masks = np.zeros(images.shape[:3], dtype=bool)
        for mask, found in zip(masks, self._find_masks(images), strict=True):
            if found is not None:
                mask[...] = resample(found, mask.shape) > 0.5
        return masks
