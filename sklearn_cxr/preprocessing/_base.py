"""The frame that every image transformer hangs in: form in, same form out."""

import functools
import math

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from sklearn_cxr.utils._images import level_range, pixel_names, validate_images
from sklearn_cxr.utils._sklearn import (
    CallbackSupportMixin,
    _check_feature_names_in,
    _fit_context,
    _get_output_config,
    _wrap_data_with_container,
    fit_task,
    with_callbacks,
)

IMAGE_SHAPE_CONSTRAINT = ["array-like", None]
VALUE_RANGE_CONSTRAINT = ["array-like", None]


def wrap_flat_output(method):
    """Honour ``set_output`` where the output is flat; shaped output stays an ndarray."""

    @functools.wraps(method)
    def wrapped(self, X, *args, **kwargs):
        out = method(self, X, *args, **kwargs)
        if out.ndim != 2 or _get_output_config("transform", self)["dense"] == "default":
            return out
        return _wrap_data_with_container("transform", np.asarray(out), X, self)

    return wrapped


class _FlatOutputTransform:
    """``transform`` and ``fit_transform`` of image transformers.

    They stand in a class that is no TransformerMixin, because that mixin would wrap them to
    put every output into a DataFrame, and a shaped batch cannot go into one.
    """

    @wrap_flat_output
    def transform(self, X):
        """Transform a batch of images.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the shape seen in ``fit``.

        Returns
        -------
        ndarray or DataFrame
            The transformed images in the form that `X` had: shaped, or flat rows.
        """
        check_is_fitted(self)
        return self._transform_batch(X)

    def fit_transform(self, X, y=None, **fit_params):
        """Fit to `X` and transform it.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images.

        y : None
            Ignored.

        **fit_params : dict
            Passed to ``fit``.

        Returns
        -------
        ndarray or DataFrame
            The transformed images in the form that `X` had.
        """
        return self.fit(X, y, **fit_params).transform(X)


class BaseImageTransformer(
    _FlatOutputTransform, CallbackSupportMixin, TransformerMixin, BaseEstimator
):
    """Base of the transformers from images to images.

    A subclass defines ``_transform_images(images)`` for a shaped batch ``(n, h, w[, c])``; where
    it learns something, ``_fit_images(images)``; and where the output has another shape,
    ``_shape_out()``. To read `X` in pieces it defines ``_fit_batch(X)`` and
    ``_transform_batch(X)`` instead; a ``transform`` of its own would be wrapped by
    TransformerMixin. Class attribute ``_needs_levels`` says that the absolute grey level
    matters; then there is a parameter `value_range`.
    """

    _needs_levels = False

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Record the shape and kind of the images, and learn what the method needs.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images.

        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted transformer.
        """
        with fit_task(self, X, y):
            self._fit_batch(X)
        return self

    def _fit_batch(self, X):
        flat, _ = self._validate(X, reset=True)
        self._fit_images(flat.reshape(len(flat), *self.image_shape_))

    def _validate(self, X, *, reset):
        flat, shaped = validate_images(self, X, reset=reset, image_shape=self.image_shape)
        if self._needs_levels:
            level_range(flat, self.value_range, type(self).__name__)
        return flat, shaped

    def _fit_images(self, images):
        """Learn from the images; stateless transformers have nothing to learn."""

    def _transform_batch(self, X):
        flat, shaped = self._validate(X, reset=False)
        out = self._transform_images(flat.reshape(len(flat), *self.image_shape_))
        return out if shaped else out.reshape(len(out), math.prod(out.shape[1:]))

    def _shape_out(self):
        return self.image_shape_

    def get_feature_names_out(self, input_features=None):
        """Name the columns of the flat output.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Checked against the names seen in ``fit``.

        Returns
        -------
        ndarray of str objects
            The input's own names where it had some and the shape is kept, else
            ``pixel_<row>_<column>`` (and ``_<channel>`` for colour).
        """
        check_is_fitted(self, "n_features_in_")
        names = _check_feature_names_in(self, input_features)
        shape = tuple(self._shape_out())
        if shape == tuple(self.image_shape_) and self._keeps_pixels():
            if input_features is not None or hasattr(self, "feature_names_in_"):
                return names
        return pixel_names(shape)

    def _keeps_pixels(self):
        """Tell whether output column i is still the same pixel as input column i."""
        return True


def as_float(images):
    """Images as floats: float32 and float64 stay as they are, all else becomes float32."""
    native = images.dtype.newbyteorder("=")
    dtype = native if native in (np.float32, np.float64) else np.float32
    return images.astype(dtype, copy=False)


def restore_dtype(values, dtype):
    """Bring floats back to `dtype`, rounding and clipping where it is an integer one."""
    dtype = np.dtype(dtype)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        values = np.clip(np.rint(values), info.min, info.max)
    return values.astype(dtype, copy=False)
