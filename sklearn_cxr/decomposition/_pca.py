"""Principal components of pixels, and the images behind them."""

import dataclasses
from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted
from threadpoolctl import threadpool_limits

from sklearn_cxr.decomposition._lanczos import count_reached, leading_axes
from sklearn_cxr.decomposition._merge import Sketch, axes_of_rows
from sklearn_cxr.utils._chunks import ImageChunks, is_shaped_rows, read_blocks, validate_rows
from sklearn_cxr.utils._design import open_design
from sklearn_cxr.utils._sklearn import (
    CallbackSupportMixin,
    Interval,
    RealNotInt,
    _fit_context,
    fit_task,
    with_callbacks,
)
from sklearn_cxr.utils._warn import warn
from sklearn_cxr.utils._whole import whole_or_not_at_all


class PixelPCA(
    CallbackSupportMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    """Principal component analysis of pixels.

    Equal to :class:`sklearn.decomposition.PCA` on the flat pixels, up to the sign of a
    component; it takes shaped images too, shows the components as images ("eigenimages") and
    goes back to images.

    Parameters
    ----------
    n_components : int, float or None, default=0.7
        A number of components; or, between 0 and 1, the share of the variance that they have to
        explain; or None for all of them.

    image_shape : tuple of int or None, default=None
        ``(h, w)`` or ``(h, w, c)`` behind flat input. None means a square where the number of
        features is one, else one row. Shaped input tells its own.

    whiten : bool, default=False
        Scale every component to unit variance.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        Principal axes, by decreasing variance.

    eigenimages_ : ndarray of shape (n_components, h, w[, c])
        The same axes as images.

    mean_ : ndarray of shape (n_features,)
        Mean of each pixel.

    mean_image_ : ndarray of shape (h, w[, c])
        The mean as an image.

    explained_variance_ : ndarray of shape (n_components,)
        Variance along each axis, in squared grey levels.

    explained_variance_ratio_ : ndarray of shape (n_components,)
        The same as a share of the total variance.

    singular_values_ : ndarray of shape (n_components,)
        Singular values of the centred images, in grey levels.

    noise_variance_ : float
        Mean variance along the axes that were not kept, in squared grey levels; 0 where all were.

    n_components_ : int
        Number of components kept.

    n_samples_seen_ : int
        Number of images that the axes come from.

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
    sklearn.decomposition.PCA : The same decomposition, by a singular value decomposition.

    Notes
    -----
    The design matrix is never made while fewer than a fifth of all components are wanted: the
    axes come from Lanczos iterations [1]_, each of which passes once over the rows where they
    lie (an array, a memory map, the decode store of
    :class:`~sklearn_cxr.preprocessing.ImageReader`, an HDF5 or zarr array) in their own dtype,
    and computes in float64. For more components, or all of them, the images are held as floats
    and the smaller of the two Gram matrices is decomposed whole. Images that come in parts go to
    ``partial_fit``, which sees each of them once and approximates.

    References
    ----------
    .. [1] R. B. Lehoucq, D. C. Sorensen and C. Yang, "ARPACK Users' Guide", SIAM, 1998.

    Examples
    --------
    >>> from sklearn_cxr.datasets import make_chest_xrays
    >>> from sklearn_cxr.decomposition import PixelPCA
    >>> X, _ = make_chest_xrays(60, image_size=32, random_state=0, return_X_y=True)
    >>> pca = PixelPCA(5).fit(X)
    >>> pca.transform(X).shape, pca.eigenimages_.shape
    ((60, 5), (5, 32, 32))
    >>> pca.inverse_transform(pca.transform(X)).shape
    (60, 32, 32)
    """

    _parameter_constraints: dict = {
        "n_components": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
            None,
        ],
        "image_shape": ["array-like", None],
        "whiten": ["boolean"],
    }

    def __init__(self, n_components=0.7, *, image_shape=None, whiten=False):
        self.n_components = n_components
        self.image_shape = image_shape
        self.whiten = whiten

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Find the principal axes.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images; at least two of them.

        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted transformer.

        Raises
        ------
        ValueError
            If `n_components` exceeds the number of images or of pixels.
        """
        with fit_task(self, X, y), whole_or_not_at_all(self):
            self._fitted_on_shaped = is_shaped_rows(X)
            X = validate_rows(
                self, X, reset=True, image_shape=self.image_shape, ensure_min_samples=2
            )
            self._check_number(len(X), self.n_features_in_)
            # Threads of BLAS would contend with those of the passes.
            with threadpool_limits(limits=1, user_api="blas"), open_design(X).threads() as design:
                mean, variance = design.moments(np.ones(len(X)))
                total = _variance(len(X), mean, variance)
                values, axes = leading_axes(design, mean, self.n_components, total)
            if values is None:
                values, axes = _all_axes(np.asarray(X), mean, self.n_components, total)
            self._held = None
            self._settle(Sketch(values, axes, mean, len(X), total), len(values), _float_dtype(X))
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None):
        """Go on from the axes of the images so far with more images.

        What ``fit`` finds in several passes over all images is approximated from one look at
        each: of the images before, their mean, their whole variance and the leading axes are
        remembered, twice as many of these as are kept and 20 more. With ``n_components=None``
        nothing is left out.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            More images. The first part holds at least two, and at least `n_components` where
            that is a number.

        y : None
            Ignored.

        Returns
        -------
        self : object
            The transformer, fitted on all images so far, those of ``fit`` among them.

        Raises
        ------
        ValueError
            If the first part is too small, or the images are not such as came before.
        """
        first = not hasattr(self, "components_")
        with whole_or_not_at_all(self):
            shaped = is_shaped_rows(X)
            X = validate_rows(
                self,
                X,
                reset=first,
                image_shape=self.image_shape,
                ensure_min_samples=2 if first else 1,
            )
            if first:
                self._check_number(len(X), self.n_features_in_)
                self._fitted_on_shaped = shaped
                sketch, dtype = Sketch.of_nothing(self.n_features_in_), _float_dtype(X)
            else:
                sketch, dtype = self._so_far(), self.components_.dtype
            with threadpool_limits(limits=1, user_api="blas"):
                self._add(sketch, X)
            kept = self._count_kept(sketch)
            self._held = dataclasses.asdict(sketch)
            self._settle(sketch, kept, dtype)
        return self

    def _add(self, sketch, X):
        """Add rows in steps, and cut what need not be carried along after each."""
        rest = None
        for first, block in read_blocks(X):
            is_last = first + len(block) == len(X)
            # Steps do not depend on how the rows are stored, lest the axes would.
            block = block if rest is None else np.concatenate([rest, block])
            start = 0
            while len(block) - start >= sketch.step() or (is_last and start < len(block)):
                rows = np.asarray(block[start : start + sketch.step()])
                sketch.add(rows.reshape(len(rows), -1).astype(np.float64))
                start += len(rows)
                if self.n_components is not None:
                    kept = count_reached(sketch.values, self.n_components, sketch.total)
                    sketch.cut(len(sketch.values) if kept is None else kept)
            rest = block[start:] if start < len(block) else None

    def _count_kept(self, sketch):
        """How many axes of all parts are kept; None for all that there are."""
        if self.n_components is None:
            return None
        kept = count_reached(sketch.values, self.n_components, sketch.total)
        if kept is None:
            share = sketch.values.sum() / sketch.total
            warn(
                f"n_components={self.n_components} of the variance is not reached: the "
                f"{len(sketch.values)} axes that were carried along explain {share:.3g}, since "
                "the parts before were held to less. Call fit on all images, or begin anew with "
                "partial_fit on a clone.",
                UserWarning,
            )
        return kept

    def _so_far(self):
        """Return what the next part is merged with."""
        if self._held is not None:
            return Sketch(**self._held)
        values = self.explained_variance_ * (self.n_samples_seen_ - 1)
        share = self.explained_variance_ratio_.sum()
        total = float(values.sum() / share) if share > 0 else 0.0
        axes, mean = self.components_.astype(np.float64), self.mean_.astype(np.float64)
        return Sketch(values, axes, mean, self.n_samples_seen_, total)

    def _settle(self, sketch, n_components, dtype):
        """Set what is fitted by the leading axes."""
        values, axes = sketch.values[:n_components], sketch.axes[:n_components]
        self.mean_, self.components_ = sketch.mean.astype(dtype), _signed(axes).astype(dtype)
        self.eigenimages_ = self.components_.reshape(-1, *self.image_shape_)
        self.mean_image_ = self.mean_.reshape(self.image_shape_)
        self.explained_variance_ = values / (sketch.n - 1)
        whole = sketch.total if sketch.total > 0 else np.inf
        self.explained_variance_ratio_ = values / whole
        self.singular_values_ = np.sqrt(values)
        left = min(sketch.n, len(sketch.mean)) - len(values)
        rest = max(sketch.total - float(values.sum()), 0.0) / (sketch.n - 1)
        self.noise_variance_ = rest / left if left else 0.0
        self.n_components_ = len(values)
        self.n_samples_seen_ = sketch.n

    def _check_number(self, n_images, n_features):
        most = min(n_images, n_features)
        if isinstance(self.n_components, Integral) and self.n_components > most:
            raise ValueError(
                f"n_components={self.n_components}, but {n_images} images of {n_features} pixels "
                f"have at most {most} components. Ask for fewer, or for a share of the variance."
            )

    def transform(self, X):
        """Project images on the principal axes.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the shape seen in ``fit``.

        Returns
        -------
        ndarray or DataFrame of shape (n, n_components)
            Coordinates along the axes.
        """
        check_is_fitted(self)
        chunks = ImageChunks(self, X, reset=False)
        dtype = _float_dtype(chunks)
        axes = self.components_.T.astype(dtype, copy=False)
        out = np.empty((len(chunks), self.n_components_), dtype=dtype)
        for rows, chunk in chunks.items():
            out[rows] = (chunk.astype(dtype) - self.mean_.astype(dtype)) @ axes
        out /= self._scale()
        return out

    def _scale(self):
        """Return what a coordinate is divided by: its standard deviation where it is whitened."""
        if not self.whiten:
            return 1.0
        # A component without variance is known to no more than the rounding of the scatter
        # matrix, and to divide by less would blow that rounding up.
        eps = np.finfo(np.float64).eps
        least = np.sqrt(self.n_samples_seen_ * eps * self.explained_variance_[0])
        return np.maximum(np.sqrt(self.explained_variance_), least if least > 0 else eps)

    def inverse_transform(self, X):
        """Go back from coordinates to images.

        Parameters
        ----------
        X : array-like of shape (n, n_components)
            Coordinates along the axes.

        Returns
        -------
        ndarray of shape (n, h, w[, c]) or (n, n_features)
            Images, in the form (shaped or flat) that ``fit`` got.
        """
        check_is_fitted(self)
        X = check_array(X, dtype=[np.float64, np.float32])
        if X.shape[1] != self.n_components_:
            raise ValueError(
                f"Got {X.shape[1]} coordinates a row, but PixelPCA keeps {self.n_components_} "
                "components. Give what transform returned."
            )
        flat = (X * self._scale()) @ self.components_ + self.mean_
        return flat.reshape(-1, *self.image_shape_) if self._fitted_on_shaped else flat

    @property
    def _n_features_out(self):
        return self.n_components_


def _float_dtype(X):
    """float32 stays float32; all else is described in float64."""
    return np.float32 if X.dtype.newbyteorder("=") == np.float32 else np.float64


def _variance(n, mean, variance):
    """Sum of the squared deviations of all pixels, 0 where it is but the rounding of the mean."""
    rounding = (n * np.finfo(np.float64).eps) ** 2 * float(mean @ mean)
    total = float(variance.sum())
    return n * total if total > rounding else 0.0


def _all_axes(X, mean, n_components, total):
    """Axes by the whole eigendecomposition of the smaller Gram matrix."""
    centred = X.reshape(len(X), -1) - mean
    if n_components is None:
        return axes_of_rows(centred)
    return axes_of_rows(centred, lambda values: count_reached(values, n_components, total))


def _signed(axes):
    """Make the largest pixel of each axis positive: an eigenvector's sign is arbitrary."""
    largest = np.abs(axes).argmax(axis=1)
    return axes * np.sign(axes[np.arange(len(axes)), largest])[:, None]
