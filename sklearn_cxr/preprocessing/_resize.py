"""Images of another size: resampled, or padded to a square."""

import functools
from numbers import Integral, Real

import numpy as np
from scipy.sparse import csr_matrix

from sklearn_cxr.preprocessing._base import IMAGE_SHAPE_CONSTRAINT
from sklearn_cxr.preprocessing._geometry import BaseGeometricTransformer, resolve_size
from sklearn_cxr.utils._sklearn import Interval, StrOptions

SIZE_CONSTRAINT = [Interval(Integral, 1, None, closed="left"), "array-like"]
# A flat row is taken as a square or as one row; one row this long is hardly meant as an image,
# and its square would fill the memory.
_LONGEST_ROW = 8192
# Pixels that are converted to floats at once.
_BAND = 2**19


def _area_weights(n_in, n_out, start, step):
    # Output pixel i averages [i, i + 1) * step; exact shares of the pixels that are cut.
    edges = start + np.arange(n_out + 1) * step
    low, high = edges[:-1, None], edges[1:, None]
    taps = np.arange(int(np.ceil(step)) + 1)
    index = np.floor(low).astype(int) + taps
    weights = np.clip(np.minimum(high, index + 1) - np.maximum(low, index), 0, None)
    # What rounding puts beyond the film has next to no weight, but would be read there.
    return np.clip(index, 0, n_in - 1), weights / step


def _bilinear_weights(n_in, n_out, start, step):
    # Samples at the centres of the output pixels; beyond the outermost centres the edge goes on.
    centre = np.clip(start + (np.arange(n_out) + 0.5) * step - 0.5, 0, n_in - 1)
    left = np.minimum(np.floor(centre).astype(int), max(n_in - 2, 0))
    right_share = centre - left
    index = np.stack([left, np.minimum(left + 1, n_in - 1)], axis=1)
    return index, np.stack([1 - right_share, right_share], axis=1)


@functools.lru_cache(maxsize=512)
def _weights(n_in, n_out, ends, anti_aliasing, dtype):
    step = (ends[1] - ends[0]) / n_out
    make = _area_weights if anti_aliasing and step >= 1 else _bilinear_weights
    index, weights = make(n_in, n_out, ends[0], step)
    starts = np.arange(n_out + 1) * index.shape[1]
    matrix = csr_matrix(
        (weights.ravel().astype(dtype), index.ravel(), starts), shape=(n_out, n_in)
    )
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def _working_dtype(dtype):
    # float32 holds every level of 16 bits; wider integers need float64.
    wide = dtype.itemsize > {"f": 4, "i": 2, "u": 2}.get(dtype.kind, 1)
    return np.float64 if wide else np.float32


def _spaced(image):
    # Pixels of a column that lie a power of two apart drive each other out of the cache, which
    # makes the copy of a film of 1,024 columns five times as slow: rows get a few values more.
    rows = image.reshape(len(image), -1)
    if rows.strides[0] % 1024:
        return image
    longer = np.empty((len(rows), rows.shape[1] + 16), dtype=rows.dtype)[:, : rows.shape[1]]
    longer[...] = rows
    return longer.reshape(image.shape)


def resample(image, size, *, box=None, anti_aliasing=True):
    """Resample one image, each axis on its own.

    Parameters
    ----------
    image : ndarray of shape (h, w) or (h, w, c)
        Real numbers.

    size : tuple of (int, int)
        Height and width of the result.

    box : tuple of float or None, default=None
        Left, top, right and bottom of the part that is resampled, in pixels; all of it with None.

    anti_aliasing : bool, default=True
        Whether an axis that shrinks is averaged by area; otherwise it is sampled bilinearly.

    Returns
    -------
    ndarray of shape (*size[, c])
        Floats, within the range of the input: float64 for float64 and integers of more than
        16 bits, else float32.
    """
    dtype = _working_dtype(image.dtype)
    whole = (0.0, 0.0, float(image.shape[1]), float(image.shape[0]))
    left, top, right, bottom = whole if box is None else map(float, box)
    if image.shape[:2] == tuple(size) and (left, top, right, bottom) == whole:
        return image.astype(dtype)
    low, high = image.min(), image.max()
    for axis, (side, ends) in enumerate(zip(size, ((top, bottom), (left, right)), strict=True)):
        lines = np.moveaxis(_spaced(image) if axis else image, axis, 0)
        matrix = _weights(lines.shape[0], side, ends, anti_aliasing, dtype)
        flat = lines.reshape(lines.shape[0], -1)
        out = np.empty((side, flat.shape[1]), dtype=dtype)
        # In bands, so that there is never a float copy of all of a large film.
        band = max(_BAND // len(flat), 16)
        for start in range(0, flat.shape[1], band):
            part = slice(start, start + band)
            out[:, part] = matrix @ np.ascontiguousarray(flat[:, part], dtype=dtype)
        image = np.moveaxis(out.reshape(side, *lines.shape[1:]), 0, axis)
    # Rounding may leave the range by an ulp, and a later step would refuse 1.0000001.
    return np.clip(image, dtype(low), dtype(high))


def store(values, out):
    """Write floats into `out`: rounded where it holds integers, cut at one half for booleans."""
    if out.dtype.kind in "iu":
        values = np.rint(values)
    elif out.dtype.kind == "b":
        values = values > 0.5
    out[...] = values


def crop_and_resize(images, boxes, size, *, anti_aliasing=True):
    """Cut a box out of each image and bring it to `size`.

    Parameters
    ----------
    images : ndarray of shape (n, h, w) or (n, h, w, c)
        Images.

    boxes : ndarray of shape (n, 4), dtype int
        x, y, width and height within the image.

    size : tuple of (int, int)
        Height and width of the output.

    anti_aliasing : bool, default=True
        As in :func:`resample`.

    Returns
    -------
    ndarray of shape (n, *size[, c])
        Images of the dtype of `images`.
    """
    out = np.empty((len(images), *size, *images.shape[3:]), dtype=images.dtype)
    for image, (x, y, w, h), target in zip(images, boxes, out, strict=True):
        crop = image[y : y + h, x : x + w]
        if crop.shape[:2] == tuple(size):
            target[...] = crop
        else:
            store(resample(crop, size, anti_aliasing=anti_aliasing), target)
    return out


def whole_boxes(images):
    """Return the box of the whole image, once for each image."""
    h, w = images.shape[1:3]
    return np.tile(np.array([0, 0, w, h]), (len(images), 1))


class Resize(BaseGeometricTransformer):
    """Bring images to another size.

    An axis that shrinks is averaged by area, exactly: each output pixel is the mean of the
    input it covers. An axis that grows is interpolated bilinearly. The aspect ratio follows
    `size`; to keep it, use :class:`SquarePad` first. The dtype stays: integers are rounded.

    Parameters
    ----------
    size : int or tuple of (int, int), default=224
        Side of a square, or (height, width), in pixels.

    anti_aliasing : bool, default=True
        Whether an axis that shrinks is averaged by area. False samples bilinearly there too,
        which skips pixels and turns fine texture into noise.

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
    SquarePad : Makes images square without stretching them.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_cxr.preprocessing import Resize
    >>> image = np.array([[0, 10, 20, 30], [40, 50, 60, 70]], dtype=np.uint8)
    >>> Resize((1, 2)).fit_transform(image[None])
    array([[[25, 45]]], dtype=uint8)
    """

    _parameter_constraints: dict = {
        "size": SIZE_CONSTRAINT,
        "anti_aliasing": ["boolean"],
        "image_shape": IMAGE_SHAPE_CONSTRAINT,
    }

    def __init__(self, size=224, *, anti_aliasing=True, image_shape=None):
        self.size = size
        self.anti_aliasing = anti_aliasing
        self.image_shape = image_shape

    def _fit_images(self, images):
        self.size_ = resolve_size(self.size, type(self).__name__)

    def _source_boxes(self, images):
        return whole_boxes(images)

    def _transform_images(self, images):
        return crop_and_resize(
            images, whole_boxes(images), self.size_, anti_aliasing=self.anti_aliasing
        )


class SquarePad(BaseGeometricTransformer):
    """Pad images to a square, so that a later resize does not stretch them.

    Parameters
    ----------
    fill_value : float, default=0
        Grey level of the padding; has to exist in the dtype of the images.

    position : {"center", "start", "end"}, default="center"
        Where the image lies along the axis that is padded. "start" is the upper or left edge.
        With "center" and an odd difference, the extra line goes to the lower or right edge.

    image_shape : tuple of int or None, default=None
        ``(h, w)`` or ``(h, w, c)`` behind flat input. None means a square where the number of
        features is one, else one row. Shaped input tells its own.

    Attributes
    ----------
    size_ : tuple of (int, int)
        Height and width of the output: the longer side of the input, twice.

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
    Resize : Brings the square to a common size.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_cxr.preprocessing import SquarePad
    >>> SquarePad().fit_transform(np.full((1, 1, 3), 7, dtype=np.uint8))
    array([[[0, 0, 0],
            [7, 7, 7],
            [0, 0, 0]]], dtype=uint8)
    """

    _parameter_constraints: dict = {
        "fill_value": [Interval(Real, None, None, closed="neither")],
        "position": [StrOptions({"center", "start", "end"})],
        "image_shape": IMAGE_SHAPE_CONSTRAINT,
    }

    def __init__(self, *, fill_value=0, position="center", image_shape=None):
        self.fill_value = fill_value
        self.position = position
        self.image_shape = image_shape

    def _fit_images(self, images):
        h, w = images.shape[1:3]
        if self.image_shape is None and h == 1 and w > _LONGEST_ROW:
            raise ValueError(
                f"SquarePad would pad rows of 1 x {w} to {w} x {w}. Where that is a flat image, "
                "say its shape: SquarePad(image_shape=(h, w))."
            )
        self._fill(images.dtype)
        self.size_ = (max(h, w), max(h, w))

    def _fill(self, dtype):
        # The fill value in the images' dtype, or an error where that would be another number.
        with np.errstate(all="ignore"):  # a cast that fails is judged below
            fill = np.asarray(self.fill_value, dtype=np.float64).astype(dtype)
        same = np.isfinite(fill) if dtype.kind == "f" else fill == self.fill_value
        if not same:
            raise ValueError(
                f"fill_value={self.fill_value!r} does not exist in images of dtype {dtype}. "
                "Give a grey level of the images."
            )
        return fill

    def _corner(self):
        # Row and column of the image's upper left corner in the square.
        share = {"center": 2, "start": None, "end": 1}[self.position]
        gaps = [side - own for side, own in zip(self.size_, self.image_shape_[:2], strict=True)]
        return tuple(0 if share is None else gap // share for gap in gaps)

    def _source_boxes(self, images):
        top, left = self._corner()
        side = self.size_[0]
        return np.tile(np.array([-left, -top, side, side]), (len(images), 1))

    def _transform_images(self, images):
        h, w = self.image_shape_[:2]
        top, left = self._corner()
        shape = (len(images), *self._shape_out())
        out = np.full(shape, self._fill(images.dtype), dtype=images.dtype)
        out[:, top : top + h, left : left + w] = images
        return out
