"""A random choice of pixels as features."""

from numbers import Integral

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.random import sample_without_replacement
from sklearn.utils.validation import check_is_fitted

from sklearn_cxr.preprocessing._base import IMAGE_SHAPE_CONSTRAINT, BaseImageTransformer
from sklearn_cxr.utils._chunks import ImageChunks
from sklearn_cxr.utils._images import pixel_names
from sklearn_cxr.utils._sklearn import Interval, RealNotInt, _check_feature_names_in


class RandomPixelSampler(BaseImageTransformer):
    """Keep the same randomly chosen pixels of every image.

    The pixels are drawn uniformly and without replacement in ``fit``. The result is always flat,
    ``(n, n_pixels)``, in the dtype of the images: what is left has no rows and columns. In a
    colour image each channel of a pixel counts as one.

    Parameters
    ----------
    size : int or float, default=0.1
        Number of pixels to keep. A float, in (0, 1], is the share of all pixels, rounded, and
        at least one pixel.

    random_state : int, RandomState instance or None, default=None
        Controls which pixels are drawn. An int makes every fit on images of one shape choose the
        same.

    image_shape : tuple of int or None, default=None
        ``(h, w)`` or ``(h, w, c)`` behind flat input. None means a square where the number of
        features is one, else one row. Shaped input tells its own.

    Attributes
    ----------
    pixel_indices_ : ndarray of shape (n_pixels,), int64
        The chosen pixels as sorted indices into the flat image, in row-major order;
        ``np.unravel_index(pixel_indices_, image_shape_)`` gives rows and columns.

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
    Flatten : All pixels as features.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_cxr.preprocessing import RandomPixelSampler
    >>> images = np.arange(32, dtype=np.uint8).reshape(2, 4, 4)
    >>> sampler = RandomPixelSampler(3, random_state=0).fit(images)
    >>> sampler.pixel_indices_
    array([1, 6, 8])
    >>> sampler.transform(images)
    array([[ 1,  6,  8],
           [17, 22, 24]], dtype=uint8)
    >>> sampler.get_feature_names_out()
    array(['pixel_0_1', 'pixel_1_2', 'pixel_2_0'], dtype=object)
    """

    _parameter_constraints: dict = {
        "size": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="right"),
        ],
        "random_state": ["random_state"],
        "image_shape": IMAGE_SHAPE_CONSTRAINT,
    }

    def __init__(self, size=0.1, *, random_state=None, image_shape=None):
        self.size = size
        self.random_state = random_state
        self.image_shape = image_shape

    def _fit_batch(self, X):
        chunks = ImageChunks(self, X, reset=True, image_shape=self.image_shape)
        n_pixels = self._n_pixels(chunks.n_features)
        for _ in chunks:  # a view of the decode store is only validated while it is read
            pass
        rng = check_random_state(self.random_state)
        drawn = sample_without_replacement(chunks.n_features, n_pixels, random_state=rng)
        self.pixel_indices_ = np.sort(drawn)

    def _n_pixels(self, n_features):
        if not isinstance(self.size, Integral):
            return max(1, round(self.size * n_features))
        if self.size > n_features:
            raise ValueError(
                f"size={self.size} pixels were asked for, but the images have {n_features} "
                f"(shape {self.image_shape_}). Ask for fewer, or for a share such as size=0.1."
            )
        return self.size

    def transform(self, X):
        """Take the chosen pixels out of each image.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the shape and kind seen in ``fit``.

        Returns
        -------
        ndarray of shape (n, n_pixels) or DataFrame
            The pixels, in the dtype of `X`.
        """
        check_is_fitted(self)
        chunks = ImageChunks(self, X, reset=False)
        out = np.empty((len(chunks), len(self.pixel_indices_)), dtype=chunks.dtype)
        for part, chunk in chunks.items():
            out[part] = chunk[:, self.pixel_indices_]
        return out

    def _shape_out(self):
        return (len(self.pixel_indices_),)

    def get_feature_names_out(self, input_features=None):
        """Name the chosen pixels.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Checked against the names seen in ``fit``.

        Returns
        -------
        ndarray of str objects
            The input's own names where it had some, else ``pixel_<row>_<column>`` (and
            ``_<channel>`` for colour).
        """
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        if input_features is None and not hasattr(self, "feature_names_in_"):
            names = pixel_names(self.image_shape_)
        return names[self.pixel_indices_]

    def _keeps_pixels(self):
        return False

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
