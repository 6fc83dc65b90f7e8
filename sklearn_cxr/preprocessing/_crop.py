"""Crops that the image itself decides on, and the black borders of a collimated film."""

from numbers import Real

import numpy as np

from sklearn_cxr.exceptions import FallbackWarning
from sklearn_cxr.preprocessing._base import IMAGE_SHAPE_CONSTRAINT, VALUE_RANGE_CONSTRAINT
from sklearn_cxr.preprocessing._geometry import BaseGeometricTransformer, resolve_size
from sklearn_cxr.preprocessing._resize import SIZE_CONSTRAINT, crop_and_resize, whole_boxes
from sklearn_cxr.utils._images import level_range
from sklearn_cxr.utils._sklearn import Interval
from sklearn_cxr.utils._warn import warn


class BaseCrop(BaseGeometricTransformer):
    """Base of the crops whose box is found in each image.

    A subclass defines ``_find_boxes(images)``: the boxes (n, 4) as x, y, w, h, whole images
    where there is no plausible one, and a boolean array that tells where there was one; and
    ``_fallback_reason``.
    """

    _needs_levels = True
    _fallback_reason = ""

    def _fit_images(self, images):
        size = images.shape[1:3] if self.size is None else self.size
        self.size_ = resolve_size(size, type(self).__name__)

    def _source_boxes(self, images):
        return self._find_boxes(images)[0]

    def _warn_of_fallbacks(self, found):
        if not found.all():
            warn(
                f"{type(self).__name__}: {np.sum(~found)} of {len(found)} images are kept "
                f"whole, because {self._fallback_reason}.",
                FallbackWarning,
            )

    def _crop(self, images, boxes):
        return crop_and_resize(images, boxes, self.size_)

    def _transform_images(self, images):
        boxes, found = self._find_boxes(images)
        self._warn_of_fallbacks(found)
        return self._crop(images, boxes)


def grey(image):
    """Return one grey plane: the image, or the mean of its channels."""
    return image if image.ndim == 2 else image.mean(axis=-1)


def content_box(bright, min_share):
    """Box of what is left when dark rows and columns are taken off from the outside.

    Parameters
    ----------
    bright : ndarray of shape (h, w), dtype bool
        Pixels that are not black.

    min_share : float
        Share of bright pixels, of those still inside, from which a line stays.

    Returns
    -------
    tuple of int or None
        x, y, width and height; None where nothing stays.
    """
    edges = [0, bright.shape[0], 0, bright.shape[1]]
    while True:
        before = list(edges)
        for axis in (0, 1):
            inside = bright[edges[0] : edges[1], edges[2] : edges[3]]
            keep = np.flatnonzero(inside.mean(axis=1 - axis) >= min_share)
            if not len(keep):
                return None
            start = edges[2 * axis]
            edges[2 * axis : 2 * axis + 2] = [start + keep[0], start + keep[-1] + 1]
        if edges == before:
            top, bottom, left, right = (int(edge) for edge in edges)
            return left, top, right - left, bottom - top


class CropBorders(BaseCrop):
    """Cut off the black borders that collimation leaves, and resize what remains.

    From each edge inward, rows and columns are taken off as long as fewer than `min_share`
    of their pixels are brighter than near black; the shares refer to what still remains, until
    nothing changes. A burned-in marker that covers less than that share of a line, and noise
    below `threshold`, therefore do not stop the crop. White borders and frames stay.

    An image where nothing but black would remain, or where a side would lose more than
    `max_fraction`, is kept whole, and a :class:`~sklearn_cxr.exceptions.FallbackWarning` tells
    how many there were. The crop is stretched to `size`.

    Parameters
    ----------
    threshold : float, default=0.06
        Levels up to this share of the range from black to white count as black.

    min_share : float, default=0.1
        Share of pixels above `threshold` from which a row or column belongs to the film.

    size : int, tuple of (int, int) or None, default=None
        Side of a square, or (height, width), of the output. None means the input's size.

    max_fraction : float, default=0.5
        The most of the height or of the width, both edges together, that may be cut off.

    value_range : tuple of (float, float) or None, default=None
        Grey levels of black and white, both of which the dtype of the images can hold. None
        means 0..255 for uint8, 0..65535 for uint16 and [0, 1] for floats.

    image_shape : tuple of int or None, default=None
        ``(h, w)`` or ``(h, w, c)`` behind flat input. None means a square where the number of
        features is one, else one row. Shaped input tells its own.

    Attributes
    ----------
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
    LungCrop : Crops to the lung fields.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_cxr.preprocessing import CropBorders
    >>> images = np.zeros((1, 6, 6), dtype=np.uint8)
    >>> images[0, 1:5, 2:6] = 200
    >>> crop = CropBorders(size=2).fit(images)
    >>> crop.transform(images)
    array([[[200, 200],
            [200, 200]]], dtype=uint8)
    >>> crop.geometry(images)[0]
    array([[2., 0., 2.],
           [0., 2., 1.]])
    """

    _fallback_reason = "they are black throughout, or more than max_fraction would be cut off"
    _parameter_constraints: dict = {
        "threshold": [Interval(Real, 0, 1, closed="left")],
        "min_share": [Interval(Real, 0, 1, closed="right")],
        "size": SIZE_CONSTRAINT + [None],
        "max_fraction": [Interval(Real, 0, 1, closed="both")],
        "value_range": VALUE_RANGE_CONSTRAINT,
        "image_shape": IMAGE_SHAPE_CONSTRAINT,
    }

    def __init__(
        self,
        *,
        threshold=0.06,
        min_share=0.1,
        size=None,
        max_fraction=0.5,
        value_range=None,
        image_shape=None,
    ):
        self.threshold = threshold
        self.min_share = min_share
        self.size = size
        self.max_fraction = max_fraction
        self.value_range = value_range
        self.image_shape = image_shape

    def _find_boxes(self, images):
        low, high = level_range(images[:0], self.value_range, type(self).__name__)
        boxes = whole_boxes(images)
        found = np.ones(len(images), dtype=bool)
        for i, image in enumerate(images):
            box = self._find_box(image, low, high)
            if box is None:
                found[i] = False
            else:
                boxes[i] = box
        return boxes, found

    def _find_box(self, image, low, high):
        box = content_box(grey(image) > low + self.threshold * (high - low), self.min_share)
        h, w = image.shape[:2]
        if box is None:
            return None
        lost = max(1 - box[2] / w, 1 - box[3] / h)
        return None if lost > self.max_fraction else box
