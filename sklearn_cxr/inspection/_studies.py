"""How much a model gains from more patients."""

from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.base import is_classifier
from sklearn.model_selection import StratifiedGroupKFold, check_cv, cross_validate
from sklearn.utils import indexable

from sklearn_cxr.inspection._display_base import generator
from sklearn_cxr.model_selection import MultilabelStratifiedGroupKFold
from sklearn_cxr.model_selection._groups import encode_groups
from sklearn_cxr.utils._sklearn import (
    GroupsConsumerMixin,
    HasMethods,
    _num_samples,
    _routing_enabled,
    validate_params,
)

_CALLER = "learning_curve_by_patients"


class _ReadySplits(GroupsConsumerMixin):
    """Splits made beforehand; with metadata routing they ask for groups like any splitter."""

    def __init__(self, splits):
        self.splits = splits

    def split(self, X=None, y=None, groups=None):
        """Hand the splits out."""
        return iter(self.splits)

    def get_n_splits(self, X=None, y=None, groups=None):
        """Count the splits."""
        return len(self.splits)


def _classes(y):
    """Give each class a number, or return None where y holds quantities.

    Of several labels, the class is the rarest one that the film has.
    """
    if y.ndim == 2:
        has = np.asarray(y == 1, dtype=bool)
        rarest = np.argsort(has.sum(axis=0), kind="stable")
        return np.where(has.any(axis=1), has[:, rarest].argmax(axis=1), len(rarest))
    if y.dtype.kind == "f" and not np.array_equal(y, np.floor(y)):
        return None
    return pd.factorize(y)[0]


def _order(codes, classes, rng):
    """Patients in an order in which every beginning has about the class shares of all.

    One patient of each class comes first, so that no beginning that can have it lacks a class.
    """
    patients, numbers = np.unique(codes, return_inverse=True)
    shuffled = rng.permutation(len(patients))
    if classes is None:
        return patients[shuffled]
    # A patient counts for the rarest class that the films are of.
    sizes = np.bincount(classes)
    own = np.empty(len(patients), dtype=np.int64)
    common_first = np.argsort(-sizes[classes], kind="stable")
    own[numbers[common_first]] = classes[common_first]
    own = own[shuffled]
    place = np.empty(len(patients))
    for name in np.unique(own):
        at = np.flatnonzero(own == name)
        place[at] = (np.arange(len(at)) + rng.uniform()) / len(at)
        place[at[0]] -= 1
    return patients[shuffled[np.argsort(place, kind="stable")]]


def _sizes(n_patients, most, least):
    """Numbers of patients: as given, or shares of those on the smallest training side."""
    values = np.asarray(n_patients)
    if values.ndim != 1 or not len(values) or values.dtype.kind not in "iuf":
        raise ValueError(
            f"{_CALLER} got n_patients={n_patients!r}; expected a list of numbers of patients, or "
            "of shares in (0, 1]."
        )
    if values.dtype.kind == "f":
        if values.min() <= 0 or values.max() > 1:
            raise ValueError(
                f"{_CALLER} got shares from {values.min():g} to {values.max():g} in n_patients; "
                "expected shares in (0, 1], or whole numbers of patients."
            )
        values = np.floor(values * most + 1e-9).astype(np.int64)
        values = np.maximum(min(least, most), values)
    if values.min() < 1 or values.max() > most:
        raise ValueError(
            f"{_CALLER} got n_patients from {values.min()} to {values.max()}; expected 1 to "
            f"{most}, the patients on the smallest training side of the folds."
        )
    return np.unique(values)


def _nested_splits(X, y, codes, *, cv, n_patients, rng, classifier):
    """Training rows of the first patients of each fold, for each number of them."""
    folds = list(cv.split(X, y, codes))
    for train, test in folds:
        shared = np.intersect1d(codes[train], codes[test])
        if len(shared):
            raise ValueError(
                f"{_CALLER} got a cv that puts {len(shared)} patients on both sides of a fold; "
                "pass a splitter by group, such as StratifiedGroupKFold."
            )
    most = min(len(np.unique(codes[train])) for train, _ in folds)
    labels = np.asarray(y)
    classes = _classes(labels)
    # A classifier of classes learns nothing from films that lack one of them.
    needed = classes if classifier and labels.ndim == 1 else None
    least = 1 if needed is None else len(np.unique(needed))
    sizes = _sizes(n_patients, most, least)
    splits, images = [], np.empty((len(sizes), len(folds)), dtype=np.int64)
    for fold, (train, test) in enumerate(folds):
        order = _order(codes[train], None if classes is None else classes[train], rng)
        for number, size in enumerate(sizes):
            rows = train[np.isin(codes[train], order[:size])]
            if needed is not None:
                _require_classes(labels, rows, train, size, fold)
            images[number, fold] = len(rows)
            splits.append((rows, test))
    return splits, sizes, images


def _require_classes(y, rows, train, size, fold):
    """Raise if the chosen patients lack a class of the fold's training side."""
    lacking = set(y[train].tolist()) - set(y[rows].tolist())
    if lacking:
        shown = ", ".join(sorted(map(repr, lacking))[:5])
        raise ValueError(
            f"{_CALLER} got n_patients with {size}, and in fold {fold} the {size} patients have "
            f"no film of the class {shown}; expected a patient of each class. Ask for more "
            "patients."
        )


@validate_params(
    {
        "estimator": [HasMethods(["fit"])],
        "n_patients": ["array-like"],
        "cv": ["cv_object"],
        "scoring": [str, callable, None],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "params": [dict, None],
    },
    prefer_skip_nested_validation=False,
)
def learning_curve_by_patients(
    estimator,
    X,
    y,
    *,
    groups,
    n_patients=(0.1, 0.25, 0.5, 0.75, 1.0),
    cv=5,
    scoring=None,
    n_jobs=None,
    random_state=None,
    params=None,
):
    """Score a model after training on more and more patients.

    :func:`sklearn.model_selection.learning_curve` counts films, and its subsets cut patients
    apart. Here each fold's training patients are put in a random order, in which every beginning
    has about the class shares of all, and the model is fitted on all films of the first of them.
    The test side of a fold is the same for all numbers of patients.

    Parameters
    ----------
    estimator : estimator
        Classifier or Pipeline; it is cloned.

    X : array-like of shape (n, ...)
        Films in the form that `estimator` takes.

    y : array-like of shape (n,) or (n, n_labels)
        Labels.

    groups : array-like of shape (n,)
        Patient of each film.

    n_patients : array-like of int or float, default=(0.1, 0.25, 0.5, 0.75, 1.0)
        Numbers of patients, or shares, in (0, 1], of those on the smallest training side; of
        these at least one patient of each class.

    cv : int, splitter by group or iterable, default=5
        A number stands for that many folds of ``StratifiedGroupKFold``, shuffled, or of
        :class:`~sklearn_cxr.model_selection.MultilabelStratifiedGroupKFold` for several labels.

    scoring : str or callable, default=None
        Scorer; None takes the estimator's ``score``.

    n_jobs : int, default=None
        Fits at a time.

    random_state : int, RandomState instance or None, default=None
        Governs the folds and the order of the patients.

    params : dict, default=None
        Further metadata for fit and scorer. `groups` go to what requests them with metadata
        routing; without it, name the step here as well, as in ``{"clf__groups": groups}``.

    Returns
    -------
    DataFrame
        A row for each number of patients and fold: n_patients, fold, n_images, test_score,
        train_score and fit_time in seconds.

    Raises
    ------
    ValueError
        If a fold has fewer patients than asked for, the patients asked for lack a class, `cv`
        parts the films of a patient, or a patient id is missing.

    See Also
    --------
    PatientLearningCurveDisplay : The same as a picture.

    Examples
    --------
    >>> from sklearn_cxr.datasets import make_chest_xrays
    >>> from sklearn_cxr.inspection import learning_curve_by_patients
    >>> from sklearn_cxr.linear_model import PixelLogisticRegression
    >>> films = make_chest_xrays(
    ...     120, image_size=16, classes=("normal", "viral"), random_state=0
    ... )
    >>> curve = learning_curve_by_patients(
    ...     PixelLogisticRegression(C=1e-3), films.images, films.target, groups=films.groups,
    ...     n_patients=[10, 40], cv=3, scoring="roc_auc", random_state=0,
    ... )
    >>> curve.groupby("n_patients")["fold"].count().to_dict()
    {10: 3, 40: 3}
    """
    X, y = indexable(X, y)
    codes, _ = encode_groups(groups, _num_samples(X), caller=_CALLER)
    rng = generator(random_state)
    if isinstance(cv, Integral):
        several = np.ndim(y) == 2 and np.shape(y)[1] > 1
        kind = MultilabelStratifiedGroupKFold if several else StratifiedGroupKFold
        cv = kind(cv, shuffle=True, random_state=rng.randint(2**31 - 1))
    cv = check_cv(cv, y, classifier=is_classifier(estimator))
    splits, sizes, images = _nested_splits(
        X,
        y,
        codes,
        cv=cv,
        n_patients=n_patients,
        rng=rng,
        classifier=is_classifier(estimator),
    )
    arguments = {"groups": groups, "params": params}
    if _routing_enabled():
        arguments = {"params": {**(params or {}), "groups": groups}}
    results = cross_validate(
        estimator,
        X,
        y,
        cv=_ReadySplits(splits),
        scoring=scoring,
        n_jobs=n_jobs,
        return_train_score=True,
        error_score="raise",
        **arguments,
    )
    n_folds = images.shape[1]
    table = pd.DataFrame(
        {
            "n_patients": np.tile(sizes, n_folds),
            "fold": np.repeat(np.arange(n_folds), len(sizes)),
            "n_images": images.T.ravel(),
            "test_score": results["test_score"],
            "train_score": results["train_score"],
            "fit_time": results["fit_time"],
        }
    )
    return table.sort_values(["n_patients", "fold"], ignore_index=True)
