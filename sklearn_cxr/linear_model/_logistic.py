"""Logistic regression on pixels, the baseline that every study should print first."""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable
from numbers import Integral, Real

import numpy as np
from sklearn.utils.multiclass import check_classification_targets

from sklearn_cxr.linear_model._base import BasePixelClassifier
from sklearn_cxr.linear_model._gram import Reduced, gram_pays
from sklearn_cxr.linear_model._solver import minimize
from sklearn_cxr.utils._chunks import is_dask_array, validate_rows
from sklearn_cxr.utils._design import Design, open_design
from sklearn_cxr.utils._sklearn import (
    Interval,
    StrOptions,
    _check_sample_weight,
    _fit_context,
    fit_task,
    with_callbacks,
)
from sklearn_cxr.utils._whole import whole_or_not_at_all


@dataclasses.dataclass(frozen=True)
class _Problem:
    # A fit but for its penalty and where it starts.
    minimize: Callable
    target: np.ndarray
    weight: np.ndarray
    constant: np.ndarray


class PixelLogisticRegression(BasePixelClassifier):
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
        Weights of the classes, as in :class:`~sklearn.linear_model.LogisticRegression`: not
        negative, 1 for a class that is not named.

    standardize : bool, default=True
        Bring every pixel to zero mean and unit variance over the training images (weighted by
        `sample_weight`), so that the penalty treats all pixels alike.

    fit_intercept : bool, default=True
        Fit an intercept, which is not penalised.

    solver : {"auto", "passes", "gram"}, default="auto"
        "passes" reads the rows once for every step of the optimiser. "gram" is for fewer images
        than pixels: it computes the matrix of all products of two images, n x n, and fits in n
        dimensions. Both reach the same minimum; "auto" takes the one that takes less time.

    max_iter : int, default=1000
        Largest number of iterations of the optimiser, L-BFGS.

    tol : float, default=1e-4
        The fit has converged when no component of the gradient of the mean objective (by the
        coefficients per standard deviation, and the intercepts) is larger. "gram" holds the
        length of the gradient to it, which is stricter.

    warm_start : bool, default=False
        Start from the coefficients of the previous fit.

    verbose : int, default=0
        With 1, a progress bar with the objective and the largest component of the gradient.

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
        Iterations that the optimiser took.

    objective_ : float
        The objective that was reached, as it stands under `C`.

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
    sklearn.linear_model.LogisticRegression : The same model on a design matrix in memory.

    Notes
    -----
    The design matrix is never made. Every step of the optimiser passes once over the rows where
    they lie (an array, a memory map, the decode store of
    :class:`~sklearn_cxr.preprocessing.ImageReader`, an HDF5 or zarr array) in their own dtype,
    and computes in float64; the standardisation is folded into the coefficients before each
    pass and into the gradient after it. Beyond the rows themselves the memory is some 140
    vectors of the size of the coefficients (60 MB for one image of 224 pixels), fewer where
    they are large: L-BFGS keeps at most 128 MiB, or ten pairs of vectors where these take more.

    A fit that cannot come down to `tol` warns (:class:`~sklearn.exceptions.ConvergenceWarning`)
    and says why, with one exception: where no step lowers the objective in float64 any more, it
    ends without a warning, however large the gradient is. Raw 16-bit grey levels without
    `standardize` come there, since their gradient cannot be told from zero to 1e-5 or so.

    A few hundred images of many pixels are fitted sooner with ``solver="gram"`` [2]_: the L2
    penalty keeps the coefficients in the span of the images, so that n unknowns describe them.
    The n x n matrix of float64 is held then, and a few more like it. A dask array, its chunks
    cut by rows, is always passed over, each chunk by the worker that holds it.

    References
    ----------
    .. [1] D. C. Liu and J. Nocedal, "On the limited memory BFGS method for large scale
       optimization", Mathematical Programming 45, 1989.
    .. [2] T. Hastie and R. Tibshirani, "Efficient quadratic regularization for expression
       arrays", Biostatistics 5(3), 2004.

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
        "solver": [StrOptions({"auto", "passes", "gram"})],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "warm_start": ["boolean"],
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
        solver="auto",
        max_iter=1000,
        tol=1e-4,
        warm_start=False,
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
        self.verbose = verbose

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Fit the model.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images; a dask array too.

        y : array-like of shape (n,)
            Class labels: integers, booleans or strings.

        sample_weight : array-like of shape (n,) or None, default=None
            Weights of the images.

        Returns
        -------
        self : object
            The fitted classifier.

        Raises
        ------
        ValueError
            If `y` holds one class only, or the weights are negative, no finite numbers or 0
            all of them.
        """
        with fit_task(self, X, y), whole_or_not_at_all(self):
            previous = self._previous() if self.warm_start else None
            with self._problem(X, y, sample_weight) as problem:
                self._solve(problem, previous)
        return self

    @contextlib.contextmanager
    def _problem(self, X, y, sample_weight=None, n_fits=1):
        """Settle all that does not depend on C, for so many fits."""
        X, y = validate_rows(self, X, y, reset=True, image_shape=self.image_shape)
        check_classification_targets(y)
        classes, target = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(
                f"y holds one class only ({classes.tolist()[0]!r}): logistic regression needs at "
                "least 2 classes. Check the labels, or the fold that these images come from."
            )
        if self.warm_start:
            self._check_previous(len(classes), math.prod(X.shape[1:]))
        self.classes_, target = classes, target.astype(np.intp, copy=False)
        weight = _check_sample_weight(sample_weight, y, dtype=np.float64, ensure_non_negative=True)
        self._check_weight(weight, "sample_weight")
        by_gram = self.solver == "gram"
        if by_gram and is_dask_array(X):
            raise ValueError(
                "solver='gram' needs all rows in one place, and X is a dask array. Use 'auto' or "
                "'passes', or give np.asarray(X)."
            )
        with open_design(X).threads() as design:
            if self.solver == "auto":
                by_gram = isinstance(design, Design) and gram_pays(design.shape, n_fits)
            constant = self._standardize(design, weight)
            # Divided by infinity, a pixel that never changes stays without a coefficient.
            scale = np.where(constant, np.inf, self.scale_)
            weight = weight * self._class_weights(target, weight)[target]
            self._check_weight(weight, "class_weight")
            if by_gram:
                reduced = Reduced(design, weight, self.mean_, scale)
                minimizer = functools.partial(reduced.minimize, target, weight)
            else:
                minimizer = functools.partial(
                    minimize, design, target, weight, mean=self.mean_, scale=scale
                )
            yield _Problem(minimizer, target, weight, constant)

    def _solve(self, problem, previous):
        """Fit with the C of now, from the solution of a previous fit where there is one."""
        solution = problem.minimize(
            C=self.C,
            fit_intercept=self.fit_intercept,
            start=self._start(previous, problem),
            max_iter=self.max_iter,
            tol=self.tol,
            verbose=self.verbose,
        )
        self.n_iter_ = np.array([solution.n_iter], dtype=np.int32)
        self.objective_ = solution.objective
        self.coef_image_ = solution.coef.reshape(-1, *self.image_shape_)
        self.coef_ = solution.coef / self.scale_
        self.intercept_ = solution.intercept - self.coef_ @ self.mean_

    def _previous(self):
        return (self.coef_, self.intercept_) if hasattr(self, "coef_") else None

    def _standardize(self, design, weight):
        """Settle ``mean_`` and ``scale_``; return which pixels never change."""
        n_features = design.shape[1]
        self.mean_, self.scale_ = np.zeros(n_features), np.ones(n_features)
        if not self.standardize:
            return np.zeros(n_features, dtype=bool)
        mean, variance = design.moments(weight)
        # What varies by no more than rounding is constant, as StandardScaler has it. Rounding
        # grows with the number of rows, whatever the unit of their weights.
        eps = np.finfo(np.float64).eps
        n = np.count_nonzero(weight)
        constant = variance <= n * eps * variance + (n * mean * eps) ** 2
        self.mean_ = mean
        self.scale_ = np.where(constant, 1.0, np.sqrt(variance))
        return constant

    def _class_weights(self, target, weight):
        """Return the weight of each class, in the order of ``classes_``."""
        if self.class_weight is None:
            return np.ones(len(self.classes_))
        if isinstance(self.class_weight, str):
            counts = np.bincount(target, weights=weight)
            return weight.sum() / (len(counts) * np.where(counts > 0, counts, 1))
        known = self.classes_.tolist()
        strangers = [label for label in self.class_weight if label not in known]
        # A fold may lack a rare class; a class without a weight besides tells of a wrong spelling.
        if strangers and any(label not in self.class_weight for label in known):
            raise ValueError(f"class_weight names {strangers}, but the classes are {known}.")
        return np.array([self.class_weight.get(label, 1.0) for label in known], dtype=float)

    @staticmethod
    def _check_weight(weight, name):
        """Raise where the weights of the images, into which `name` went last, fit nothing."""
        if not (np.isfinite(weight).all() and weight.min() >= 0 and weight.any()):
            raise ValueError(
                f"With {name} the weights of the images are from {weight.min():g} to "
                f"{weight.max():g}; expected finite numbers, none negative and not all of them 0."
            )

    def _check_previous(self, n_classes, n_features):
        """Raise where a previous fit is no start for this one."""
        needed = 1 if n_classes == 2 else n_classes, n_features
        coef = getattr(self, "coef_", None)
        if coef is not None and coef.shape != needed:
            raise ValueError(
                f"warm_start=True, but the previous fit was on {coef.shape[1]} features with "
                f"{coef.shape[0]} rows of coefficients, and this one needs {needed[1]} and "
                f"{needed[0]}. Use images and classes as before, or clone the estimator."
            )

    def _start(self, previous, problem):
        """Return standardised coefficients and intercepts to start from."""
        if previous is not None:
            coef, intercept = previous
            intercept = intercept + coef @ self.mean_
            # A pixel that has become constant has no coefficient, nor would it lose one by steps.
            coef = np.where(problem.constant, 0.0, coef * self.scale_)
        else:
            # The intercepts that fit the shares of the classes best with all coefficients zero.
            share = np.bincount(problem.target, weights=problem.weight)
            logits = np.log(np.maximum(share / share.sum(), 1e-12))
            binary = len(logits) == 2
            intercept = logits[1:] - logits[:1] if binary else logits - logits.mean()
            coef = np.zeros((len(intercept), len(self.scale_)))
        return coef, intercept * self.fit_intercept
