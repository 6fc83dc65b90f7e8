"""The penalty path of pixel logistic regression, by patient."""

from numbers import Integral

import numpy as np
from sklearn.metrics import check_scoring
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, check_cv
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted
from tqdm.auto import tqdm

from sklearn_cxr.exceptions import LeakageRiskWarning
from sklearn_cxr.linear_model._base import BasePixelClassifier
from sklearn_cxr.linear_model._logistic import PixelLogisticRegression
from sklearn_cxr.model_selection._groups import encode_groups
from sklearn_cxr.utils._chunks import is_dask_array, validate_rows
from sklearn_cxr.utils._dask import take_rising
from sklearn_cxr.utils._sklearn import Interval, _fit_context, fit_task, with_callbacks
from sklearn_cxr.utils._subset import subset
from sklearn_cxr.utils._warn import warn
from sklearn_cxr.utils._whole import whole_or_not_at_all

_WEAKEST, _STRONGEST = 2, -6


class PixelLogisticRegressionCV(BasePixelClassifier):
    """Logistic regression on pixels with the penalty chosen by cross-validation.

    For each fold the values of `Cs` are fitted from the strongest penalty to the weakest, each
    from the solution of the one before, on rows that are read where they lie. The best value is
    fitted again on all images.

    Parameters
    ----------
    Cs : int or array-like of float, default=10
        Inverse strengths of the penalty; a number stands for so many values from 1e-6 to 1e2,
        evenly spaced on a logarithmic scale.

    cv : int, splitter, iterable of splits or None, default=None
        Folds. A number k or None (5) means ``StratifiedGroupKFold(k)`` where `groups` are given.
        Without groups it is ``StratifiedKFold(k)``, with a warning, because images of one
        patient may then stand on both sides. Splits that are given are checked by `groups`.

    scoring : str, callable or None, default="roc_auc"
        What is maximised, as in :class:`~sklearn.model_selection.GridSearchCV`. None is the
        accuracy. "roc_auc" stands for "roc_auc_ovr" where there are more than two classes.

    one_standard_error : bool, default=False
        Choose the strongest penalty whose mean score is within one standard error of the best,
        instead of the best.

    image_shape : tuple of int or None, default=None
        ``(h, w)`` or ``(h, w, c)`` behind flat input. None means a square where the number of
        features is one, else one row. Shaped input tells its own.

    class_weight : dict, "balanced" or None, default=None
        Weights of the classes.

    standardize : bool, default=True
        Bring every pixel to zero mean and unit variance over the training images of each fold.

    fit_intercept : bool, default=True
        Fit an intercept, which is not penalised.

    solver : {"auto", "passes", "gram"}, default="auto"
        As in :class:`PixelLogisticRegression`. With "gram" one matrix of products serves all
        penalties of a fold; "auto" takes their number into account.

    max_iter : int, default=1000
        Largest number of iterations of each fit.

    tol : float, default=1e-4
        Largest component of the gradient at which a fit has converged.

    verbose : int, default=0
        With 1, a progress bar over folds and values of C.

    Attributes
    ----------
    C_ : float
        The chosen inverse strength.

    Cs_ : ndarray of shape (n_Cs,)
        The values tried, rising.

    scores_ : ndarray of shape (n_folds, n_Cs)
        Score of each value on the images that the fold left out.

    classes_ : ndarray of shape (n_classes,)
        Class labels.

    coef_, intercept_, coef_image_, mean_, scale_, n_iter_, objective_ : ndarray or float
        As in :class:`PixelLogisticRegression`, of the fit on all images.

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
    PixelLogisticRegression : One penalty.

    Examples
    --------
    >>> from sklearn_cxr.datasets import make_chest_xrays
    >>> from sklearn_cxr.linear_model import PixelLogisticRegressionCV
    >>> films = make_chest_xrays(120, image_size=32, random_state=0)
    >>> search = PixelLogisticRegressionCV([1e-4, 1e-3, 1e-2], cv=3)
    >>> search = search.fit(films.images, films.target, groups=films.groups)
    >>> search.scores_.shape, search.C_ in search.Cs_
    ((3, 3), True)
    """

    __metadata_request__fit = {"groups": True}

    _parameter_constraints: dict = {
        **{
            name: PixelLogisticRegression._parameter_constraints[name]
            for name in (
                "image_shape",
                "class_weight",
                "standardize",
                "fit_intercept",
                "solver",
                "max_iter",
                "tol",
                "verbose",
            )
        },
        "Cs": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "cv": ["cv_object"],
        "scoring": [str, callable, None],
        "one_standard_error": ["boolean"],
    }

    def __init__(
        self,
        Cs=10,
        *,
        cv=None,
        scoring="roc_auc",
        one_standard_error=False,
        image_shape=None,
        class_weight=None,
        standardize=True,
        fit_intercept=True,
        solver="auto",
        max_iter=1000,
        tol=1e-4,
        verbose=0,
    ):
        self.Cs = Cs
        self.cv = cv
        self.scoring = scoring
        self.one_standard_error = one_standard_error
        self.image_shape = image_shape
        self.class_weight = class_weight
        self.standardize = standardize
        self.fit_intercept = fit_intercept
        self.solver = solver
        self.max_iter = max_iter
        self.tol = tol
        self.verbose = verbose

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, groups=None):
        """Choose the penalty and fit with it.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images.

        y : array-like of shape (n,)
            Class labels: integers, booleans or strings.

        groups : array-like of shape (n,) or None, default=None
            Patient of each image. A warning says so where there are none, or where `cv` has
            images of one patient on both sides of a split.

        Returns
        -------
        self : object
            The fitted classifier.

        Raises
        ------
        ValueError
            If `Cs` are not positive, `y` holds one class only, a fold lacks a class that it
            needs, or a score is no number.
        """
        with fit_task(self, X, y), whole_or_not_at_all(self):
            Cs = self._values()
            X, y = validate_rows(self, X, y, reset=True, image_shape=self.image_shape)
            check_classification_targets(y)
            final = self._estimator(Cs[0])
            if len(np.unique(y)) > 1:
                splits = self._splits(y, groups)
                self._check_folds(y, splits)
                if groups is not None:
                    _warn_of_shared_patients(groups, splits, len(y))
                self.Cs_, self.scores_ = Cs, np.empty((len(splits), len(Cs)))
                with tqdm(
                    total=self.scores_.size, desc="Penalty path", disable=not self.verbose
                ) as bar:
                    for fold, (train, test) in enumerate(splits):
                        for i, score in enumerate(self._path(X, y, train, test, Cs)):
                            self.scores_[fold, i] = self._check_score(score, fold, Cs[i])
                            bar.update()
                self.C_ = float(Cs[self._choose()])
                final.set_params(C=self.C_)
            # One class only: it is the fit that says so.
            final.fit(X, y)
            for name in ("coef_", "intercept_", "coef_image_", "mean_", "scale_"):
                setattr(self, name, getattr(final, name))
            self.n_iter_, self.objective_ = final.n_iter_, final.objective_
            self.classes_ = final.classes_
        return self

    def _values(self):
        if isinstance(self.Cs, Integral):
            return np.logspace(_STRONGEST, _WEAKEST, self.Cs)
        told = f"Cs must be positive numbers, or how many of them, got {self.Cs!r}."
        try:
            Cs = np.unique(np.asarray(self.Cs, dtype=np.float64))
        except (TypeError, ValueError) as error:
            raise ValueError(told) from error
        if not len(Cs) or not (np.isfinite(Cs).all() and Cs.min() > 0):
            raise ValueError(told)
        return Cs

    def _folds(self, y, groups):
        if groups is None:
            given = not (self.cv is None or isinstance(self.cv, Integral))
            warn(
                "PixelLogisticRegressionCV got no groups: "
                + ("whether cv keeps them apart is not checked, and " if given else "")
                + "images of one patient may stand on both sides of a split, which makes the "
                "scores too high and the penalty too weak. Give groups=patients"
                + (", beside cv too." if given else "."),
                LeakageRiskWarning,
            )
        if self.cv is None or isinstance(self.cv, Integral):
            k = 5 if self.cv is None else self.cv
            return StratifiedKFold(k) if groups is None else StratifiedGroupKFold(k)
        return check_cv(self.cv, y, classifier=True)

    def _splits(self, y, groups):
        """Row numbers of each fold, whether they came as numbers or as masks."""
        every = np.arange(len(y))
        folds = self._folds(y, groups).split(np.zeros(len(y)), y, groups)
        splits = [(every[train], every[test]) for train, test in folds]
        if not splits:
            raise ValueError(
                f"cv={self.cv!r} gave no split. Give a number of folds, a splitter, or a list of "
                "splits; a generator of splits is used up by the first fit."
            )
        return splits

    def _check_folds(self, y, splits):
        ranking = isinstance(self.scoring, str) and self.scoring.startswith("roc_auc")
        for number, (train, test) in enumerate(splits):
            sides = {"trained on": train, "scored on": test if ranking else np.arange(len(y))}
            for side, rows in sides.items():
                missing = np.setdiff1d(y, y[rows]).tolist()
                if missing:
                    raise ValueError(
                        f"Fold {number} of {len(splits)} has no image of {missing} among those "
                        f"that it is {side}. Take fewer folds, or such as keep the shares of the "
                        "classes: cv=StratifiedGroupKFold(k)."
                    )

    def _check_score(self, score, fold, C):
        if not np.isfinite(score):
            raise ValueError(
                f"The score {self.scoring!r} of fold {fold} at C={C:g} is {score}, so no penalty "
                "can be chosen by it. Take a score that is defined on every fold, or other folds."
            )
        return score

    def _estimator(self, C):
        names = ("class_weight", "standardize", "fit_intercept", "solver", "max_iter", "tol")
        return PixelLogisticRegression(
            C=C,
            image_shape=self.image_shape_,
            **{name: getattr(self, name) for name in names},
        )

    def _path(self, X, y, train, test, Cs):
        """Yield the score of each C on one fold."""
        model = self._estimator(Cs[0])
        if is_dask_array(X):
            # The order of the rows is of no account, and in that of X they stay where they are.
            train, test = np.sort(train), np.sort(test)
            X_train, X_test = take_rising(X, train), take_rising(X, test)
        else:
            X_train, X_test = subset(X, train), subset(X, test)
        scorer = check_scoring(model, scoring=self._scoring(len(np.unique(y))))
        with model._problem(X_train, y[train], n_fits=len(Cs)) as problem:
            # The kind of grey level is that of the whole batch, not that of a part.
            model.input_kind_, model._fitted_on_levels = self.input_kind_, self._fitted_on_levels
            previous = None
            for C in Cs:
                model.set_params(C=C)._solve(problem, previous)
                previous = model.coef_, model.intercept_
                try:
                    yield scorer(model, X_test, y[test])
                except ValueError as error:
                    missing = np.setdiff1d(y, y[test]).tolist()
                    if not missing:
                        raise
                    raise ValueError(
                        f"The score {self.scoring!r} fails where no image of {missing} is scored: "
                        f"{error} Take fewer folds, or such as keep the shares of the classes: "
                        "cv=StratifiedGroupKFold(k)."
                    ) from error

    def _choose(self):
        mean = self.scores_.mean(axis=0)
        best = int(np.argmax(mean))
        if not self.one_standard_error or len(self.scores_) < 2:
            return best
        error = self.scores_[:, best].std(ddof=1) / np.sqrt(len(self.scores_))
        return int(np.argmax(mean >= mean[best] - error))

    def _scoring(self, n_classes):
        """Return `scoring`, in the form that several classes need."""
        return "roc_auc_ovr" if self.scoring == "roc_auc" and n_classes > 2 else self.scoring

    def score(self, X, y, sample_weight=None):
        """Score predictions by `scoring`, as a search over the penalty would.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the shape seen in ``fit``.

        y : array-like of shape (n,)
            Their class labels.

        sample_weight : array-like of shape (n,) or None, default=None
            Weights of the images.

        Returns
        -------
        float
            The score; by default the area under the ROC curve.
        """
        check_is_fitted(self)
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        scoring = self._scoring(len(self.classes_))
        if scoring is None:
            return super().score(X, y, **weights)
        return check_scoring(self, scoring=scoring)(self, X, y, **weights)


def _warn_of_shared_patients(groups, splits, n):
    """Warn where splits that were given have images of one patient on both sides."""
    patients = encode_groups(groups, n, caller="PixelLogisticRegressionCV")[0]
    shared = [len(np.intersect1d(patients[train], patients[test])) for train, test in splits]
    if any(shared):
        fold = int(np.argmax(shared))
        warn(
            f"Fold {fold} of cv trains and scores on images of the same {shared[fold]} patients, "
            "which makes the scores too high and the penalty too weak. Take a splitter that "
            "keeps patients together: cv=StratifiedGroupKFold(k).",
            LeakageRiskWarning,
        )
