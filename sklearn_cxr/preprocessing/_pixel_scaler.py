"""Each pixel brought to zero mean and unit variance over the training images."""

from numbers import Integral

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from sklearn_cxr.preprocessing._base import IMAGE_SHAPE_CONSTRAINT, BaseImageTransformer
from sklearn_cxr.preprocessing._moments import ColumnMoments, is_constant
from sklearn_cxr.utils._chunks import ImageChunks, chunk_slices
from sklearn_cxr.utils._images import flatten_batch
from sklearn_cxr.utils._sklearn import Interval, _fit_context, fit_task, with_callbacks


class PixelScaler(BaseImageTransformer):
    """Standardise each pixel by its mean and deviation over the training images.

    The same numbers as :class:`sklearn.preprocessing.StandardScaler` on the flat images, learnt
    in one pass over them in pieces: neither a memory map nor a view of the decode store is ever
    held whole, and nothing is converted to floats but one piece at a time. uint8 and uint16
    images are summed as integers, without rounding; others in float64 [1]_. The result is
    float32 whatever came in.

    Parameters
    ----------
    with_mean : bool, default=True
        Whether the mean of each pixel is subtracted.

    with_std : bool, default=True
        Whether each pixel is divided by its standard deviation.

    batch_size : int or None, default=None
        Number of images worked on at a time. None takes as many as hold about a million
        values (8 MiB in float64). The result does not depend on it, but for the last digits.

    image_shape : tuple of int or None, default=None
        ``(h, w)`` or ``(h, w, c)`` behind flat input. None means a square where the number of
        features is one, else one row. Shaped input tells its own.

    Attributes
    ----------
    mean_ : ndarray of shape (`n_features_in_`,), float64
        Mean of each pixel, in row-major order.

    var_ : ndarray of shape (`n_features_in_`,), float64
        Variance of each pixel, divided by the number of images.

    scale_ : ndarray of shape (`n_features_in_`,), float64
        What each pixel is divided by: its standard deviation, or 1 where that is zero up to
        rounding or `with_std` is False.

    mean_image_ : ndarray of shape `image_shape_`, float64
        The mean as an image.

    n_samples_seen_ : int
        Number of images learnt from.

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
    IntensityScaler : One scale for all pixels of an image, or of a dataset.

    References
    ----------
    .. [1] T. F. Chan, G. H. Golub and R. J. LeVeque, "Algorithms for computing the sample
       variance: analysis and recommendations", The American Statistician 37(3), 1983.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_cxr.preprocessing import PixelScaler
    >>> images = np.array([[[0, 10]], [[4, 10]]], dtype=np.uint8)
    >>> scaler = PixelScaler().fit(images)
    >>> scaler.mean_image_
    array([[ 2., 10.]])
    >>> scaler.transform(images)
    array([[[-1.,  0.]],
    <BLANKLINE>
           [[ 1.,  0.]]], dtype=float32)
    """

    _parameter_constraints: dict = {
        "with_mean": ["boolean"],
        "with_std": ["boolean"],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "image_shape": IMAGE_SHAPE_CONSTRAINT,
    }

    def __init__(self, *, with_mean=True, with_std=True, batch_size=None, image_shape=None):
        self.with_mean = with_mean
        self.with_std = with_std
        self.batch_size = batch_size
        self.image_shape = image_shape

    def _fit_batch(self, X):
        for name in ("mean_", "var_", "scale_", "n_samples_seen_"):
            vars(self).pop(name, None)
        self._learn(X)

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None):
        """Learn from more images, beside those seen before.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the shape and kind seen before.

        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted transformer.
        """
        with fit_task(self, X, y):
            self._learn(X)
        return self

    def _learn(self, X):
        first = not self.__sklearn_is_fitted__()
        chunks = self._chunks(X, reset=first)
        moments = ColumnMoments(chunks.n_features)
        if not first:
            seen = self.n_samples_seen_
            moments.merge(seen, self.mean_, self.var_ * seen)
        for chunk in chunks:
            moments.update(chunk)
        self.n_samples_seen_, self.mean_, self.var_ = moments.finish()
        varies = ~is_constant(self.n_samples_seen_, self.mean_, self.var_)
        self.scale_ = np.sqrt(self.var_, out=np.ones_like(self.var_), where=varies & self.with_std)

    def _chunks(self, X, *, reset):
        return ImageChunks(
            self, X, reset=reset, image_shape=self.image_shape, batch_size=self.batch_size
        )

    @property
    def mean_image_(self):
        """The mean as an image."""
        return self.mean_.reshape(self.image_shape_)

    def _transform_batch(self, X):
        chunks = self._chunks(X, reset=False)
        out = np.empty((len(chunks), chunks.n_features), dtype=np.float32)
        mean = self.mean_ if self.with_mean else 0.0
        for part, chunk in chunks.items():
            values = chunk.astype(np.float64)
            values -= mean
            values /= self.scale_
            out[part] = values
        return out.reshape(-1, *self.image_shape_) if chunks.shaped else out

    def inverse_transform(self, X):
        """Bring standardised images back to grey levels.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Standardised images of the shape seen in ``fit``.

        Returns
        -------
        ndarray
            Grey levels in the form that `X` had, float32.
        """
        check_is_fitted(self)
        flat, shaped = flatten_batch(self, X, reset=False)
        flat = check_array(flat, estimator=self, input_name="X")
        if flat.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {flat.shape[1]} features, but PixelScaler was fitted on images of "
                f"{self.n_features_in_} values, shape {self.image_shape_}."
            )
        out = np.empty(flat.shape, dtype=np.float32)
        mean = self.mean_ if self.with_mean else 0.0
        for part in chunk_slices(*flat.shape, self.batch_size):
            np.add(flat[part] * self.scale_, mean, out=out[part], casting="same_kind")
        return out.reshape(-1, *self.image_shape_) if shaped else out

    def __sklearn_is_fitted__(self):
        """Tell whether a fit has ended, which the first attributes of one do not."""
        return hasattr(self, "n_samples_seen_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
