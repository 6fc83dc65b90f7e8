"""Logistic regression on pixels, the baseline that every study should print first."""

from numbers import Integral, Real

import numpy as np
from scipy.special import log_softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from sklearn_cxr.utils._images import validate_images
from sklearn_cxr.utils._sklearn import (
    CallbackSupportMixin,
    Interval,
    StrOptions,
    _check_sample_weight,
    _fit_context,
    fit_task,
    with_callbacks,
)


class PixelLogisticRegression(CallbackSupportMixin, ClassifierMixin, BaseEstimator):
    """L2-penalised logistic regression on pixels, binary and multinomial.

    Equal to ``make_pipeline(StandardScaler(), LogisticRegression(C))`` on the flat pixels; it
    takes shaped images too, folds the standardisation into its coefficients, and shows them as
    an image.

    Parameters
    ----------
    image_shape : tuple of int or None, default=None
        ``(h, w)`` or ``(h, w, c)`` behind flat input. None means a square where the number of
        features is one, else one row. Shaped input tells its own.

    C : float, default=1.0
        Inverse strength of the L2 penalty: the objective is
        ``||w||^2 / 2 + C * sum(log loss)``. A study that writes
        ``sum(log loss) + lambda * ||w||^2`` has ``C = 1 / (2 * lambda)``.

    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, as in :class:`~sklearn.linear_model.LogisticRegression`.

    standardize : bool, default=True
        Bring every pixel to zero mean and unit variance over the training images (weighted by
        `sample_weight`), so that the penalty treats all pixels alike.

    fit_intercept : bool, default=True
        Fit an intercept, which is not penalised.

    solver : {"lbfgs", "newton-cg", "sag", "saga"}, default="lbfgs"
        Optimiser, as in :class:`~sklearn.linear_model.LogisticRegression`.

    max_iter : int, default=1000
        Largest number of iterations.

    tol : float, default=1e-4
        Tolerance of the stopping rule: the largest component of the gradient for "lbfgs" and
        "newton-cg".

    warm_start : bool, default=False
        Start from the coefficients of the previous fit.

    random_state : int, RandomState instance or None, default=None
        Order in which "sag" and "saga" visit the images.

    verbose : int, default=0
        Passed to the solver.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.

    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        Coefficients of the pixels as they came, standardisation folded in.

    intercept_ : ndarray of shape (1,) or (n_classes,)
        Intercepts.

    coef_image_ : ndarray of shape (1, h, w[, c]) or (n_classes, h, w[, c])
        Coefficients per standard deviation of each pixel, as images: what to look at. For two
        classes positive means toward ``classes_[1]``.

    mean_, scale_ : ndarray of shape (n_features,)
        Mean and standard deviation of each pixel over the training images; 0 and 1 without
        `standardize`, and scale 1 for a constant pixel.

    n_iter_ : ndarray of shape (1,)
        Iterations that the solver took.

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
    sklearn.linear_model.LogisticRegression : The solver inside.

    Notes
    -----
    The images are held once as floats: 8 bytes a pixel, 4 where they come as float32.

    Examples
    --------
    >>> from sklearn_cxr.datasets import make_chest_xrays
    >>> from sklearn_cxr.linear_model import PixelLogisticRegression
    >>> X, y = make_chest_xrays(60, image_size=32, random_state=0, return_X_y=True)
    >>> model = PixelLogisticRegression(C=0.01).fit(X, y)
    >>> model.predict_proba(X).shape, model.coef_image_.shape
    ((60, 3), (3, 32, 32))
    """

    _parameter_constraints: dict = {
        "image_shape": ["array-like", None],
        "C": [Interval(Real, 0, None, closed="neither")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "standardize": ["boolean"],
        "fit_intercept": ["boolean"],
        "solver": [StrOptions({"lbfgs", "newton-cg", "sag", "saga"})],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        *,
        image_shape=None,
        C=1.0,
        class_weight=None,
        standardize=True,
        fit_intercept=True,
        solver="lbfgs",
        max_iter=1000,
        tol=1e-4,
        warm_start=False,
        random_state=None,
        verbose=0,
    ):
        self.image_shape = image_shape
        self.C = C
        self.class_weight = class_weight
        self.standardize = standardize
        self.fit_intercept = fit_intercept
        self.solver = solver
        self.max_iter = max_iter
        self.tol = tol
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Fit the model.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images.

        y : array-like of shape (n,)
            Class labels of any hashable kind.

        sample_weight : array-like of shape (n,) or None, default=None
            Weights of the images.

        Returns
        -------
        self : object
            The fitted classifier.

        Raises
        ------
        ValueError
            If `y` holds one class only.
        """
        solver = LogisticRegression(
            C=self.C,
            class_weight=self.class_weight,
            fit_intercept=self.fit_intercept,
            solver=self.solver,
            max_iter=self.max_iter,
            tol=self.tol,
            warm_start=self.warm_start,
            random_state=self.random_state,
            verbose=self.verbose,
        )
        with fit_task(self, X, y, sub_estimator=solver):
            previous = self._previous() if self.warm_start else None
            flat, y, _ = validate_images(self, X, y, reset=True, image_shape=self.image_shape)
            check_classification_targets(y)
            if len(np.unique(y)) < 2:
                raise ValueError(
                    f"y holds one class only ({y[0]!r}): logistic regression needs at least 2 "
                    "classes. Check the labels, or the fold that these images come from."
                )
            if sample_weight is not None:
                sample_weight = _check_sample_weight(
                    sample_weight, flat, dtype=np.float64, ensure_non_negative=True
                )
            Z = self._standardized(flat, sample_weight)
            if previous is not None:
                self._start_from(previous, solver)
            solver.fit(Z, y, sample_weight=sample_weight)
            self._fold(solver)
        return self

    def _previous(self):
        return (self.coef_, self.intercept_) if hasattr(self, "coef_") else None

    def _start_from(self, previous, solver):
        coef, intercept = previous
        if coef.shape[1] != len(self.scale_):
            raise ValueError(
                f"warm_start=True, but the previous fit was on {coef.shape[1]} features and this "
                f"X has {len(self.scale_)}. Use images of the same shape, or clone the estimator."
            )
        solver.coef_ = coef * self.scale_
        solver.intercept_ = intercept + coef @ self.mean_

    def _standardized(self, flat, sample_weight):
        dtype = np.float32 if flat.dtype == np.float32 else np.float64
        self.mean_ = np.zeros(flat.shape[1])
        self.scale_ = np.ones(flat.shape[1])
        if not self.standardize:
            return flat.astype(dtype, copy=False)
        scaler = StandardScaler().fit(flat, sample_weight=sample_weight)
        self.mean_, self.scale_ = scaler.mean_, scaler.scale_
        Z = flat.astype(dtype)
        Z -= self.mean_.astype(dtype)
        Z /= self.scale_.astype(dtype)
        return Z

    def _fold(self, solver):
        self.classes_ = solver.classes_
        self.n_iter_ = solver.n_iter_
        self.coef_image_ = solver.coef_.reshape(-1, *self.image_shape_)
        self.coef_ = solver.coef_ / self.scale_
        self.intercept_ = solver.intercept_ - self.coef_ @ self.mean_

    def decision_function(self, X):
        """Log odds of ``classes_[1]``, or the unnormalised log probabilities of all classes.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the shape seen in ``fit``.

        Returns
        -------
        ndarray of shape (n,) or (n, n_classes)
            Decision values.
        """
        check_is_fitted(self)
        flat, _ = validate_images(self, X, reset=False)
        scores = flat @ self.coef_.T + self.intercept_
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict_proba(self, X):
        """Probability of each class.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the shape seen in ``fit``.

        Returns
        -------
        ndarray of shape (n, n_classes)
            Probabilities, in the order of ``classes_``.
        """
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X):
        """Logarithm of the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the shape seen in ``fit``.

        Returns
        -------
        ndarray of shape (n, n_classes)
            Log probabilities, in the order of ``classes_``.
        """
        scores = self.decision_function(X)
        if scores.ndim == 1:
            scores = np.column_stack([np.zeros_like(scores), scores])
        return log_softmax(scores, axis=1)

    def predict(self, X):
        """Most probable class.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the shape seen in ``fit``.

        Returns
        -------
        ndarray of shape (n,)
            Labels as ``fit`` got them.
        """
        scores = self.decision_function(X)
        index = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
        return self.classes_[index]
