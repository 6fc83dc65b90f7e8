"""What a fitted classifier says of films, as scores of one form, and of which threshold."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from sklearn_cxr.imbalance import ResampledClassifier
from sklearn_cxr.inspection._display_base import refuse_pairwise


@dataclass(frozen=True)
class Scores:
    """Scores of films and what they mean.

    Parameters
    ----------
    values : ndarray of shape (n,) or (n, k)
        Score of the positive class; or of each class or label.

    kind : {"binary", "multiclass", "multilabel"}
        What the columns are.

    classes : list
        The classes: two, positive last; or one for each column; or the labels' names.

    is_probability : bool
        Whether these are probabilities.

    threshold : float or None
        Where the classifier itself cuts; None for several classes.

    threshold_origin : str
        Where that comes from, in words.

    swapped : bool, default=False
        Whether the positive class is the first of the classifier's.

    called : ndarray of shape (n,) or None, default=None
        What ``predict`` answers, where it was asked: True for the positive class of two, or the
        number of the class.
    """

    values: np.ndarray
    kind: str
    classes: list
    is_probability: bool
    threshold: float | None = None
    threshold_origin: str = ""
    swapped: bool = False
    called: np.ndarray | None = None

    def describe(self, names):
        """Write the most probable class of each film with its score."""
        if self.kind == "binary":
            mark = "p" if self.is_probability else "score"
            return [f"{mark}({names[-1]}) {value:.2f}" for value in self.values]
        best = self.values.argmax(axis=1)
        return [
            f"{names[column]} {row[column]:.2f}"
            for column, row in zip(best, self.values, strict=True)
        ]


def final_estimator(estimator):
    """Return the classifier at the end of searches and pipelines."""
    while True:
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif isinstance(estimator, Pipeline):
            estimator = estimator[-1]
        else:
            return estimator


def scoring_estimator(estimator):
    """Return the classifier whose scores and threshold count, also in a ResampledClassifier."""
    final = final_estimator(estimator)
    while isinstance(final, ResampledClassifier):
        final = final_estimator(final.estimator_)
    return final


def plain(value):
    """Return a class label as Python has it, which is how messages show it."""
    return value.item() if isinstance(value, np.generic) else value


def _own_threshold(final, method, classes, at, values, called):
    """Return where ``predict`` cuts the scores of the positive class, and where that comes from.

    The wrappers that move the threshold cut the score of a positive class of their own, which may
    be the other one. What they called positive decides between the numbers that it can be.
    """
    cut, origin, other = (0.5 if method == "predict_proba" else 0.0), "the estimator's own", False
    if isinstance(final, TunedThresholdClassifierCV):
        cut, origin, other = float(final.best_threshold_), "tuned on the training data", at == 0
    elif isinstance(final, FixedThresholdClassifier) and final.threshold != "auto":
        theirs = _positive_index(classes, final.pos_label, "FixedThresholdClassifier")
        cut, origin, other = float(final.threshold), "fixed in the estimator", at != theirs
    if called is None:
        return cut, origin
    numbers = [cut, (1.0 - cut) if method == "predict_proba" else -cut]
    numbers = numbers[::-1] if other else numbers
    # Ties may go to the negative class, as in the argmax of two equal probabilities.
    numbers = [end for number in numbers for end in (number, np.nextafter(number, np.inf))]
    agree = [int(np.sum((values >= number) == called)) for number in numbers]
    return float(numbers[int(np.argmax(agree))]), origin


def _response_method(estimator, caller):
    final = scoring_estimator(estimator)
    wanted = getattr(final, "response_method", "auto")
    names = ("predict_proba", "decision_function")
    if isinstance(final, TunedThresholdClassifierCV | FixedThresholdClassifier) and (
        wanted in names
    ):
        names = (wanted,)
    for name in names:
        if hasattr(estimator, name):
            return name
    raise TypeError(
        f"{caller} got {type(estimator).__name__}, which has neither predict_proba nor "
        "decision_function; expected a fitted classifier."
    )


def _stack_labels(values, estimator):
    """Probabilities of several labels as one matrix; forests give a list of (n, 2)."""
    if not isinstance(values, list):
        return np.asarray(values)
    classes = getattr(estimator, "classes_", [np.array([0, 1])] * len(values))
    columns = []
    for column, known in zip(values, classes, strict=True):
        at = np.flatnonzero(np.asarray(known) == 1)
        columns.append(column[:, at[0]] if len(at) else np.zeros(len(column)))
    return np.column_stack(columns)


def check_scores(values, caller):
    """Return scores as floats, all of them finite."""
    values = np.asarray(values, dtype=np.float64)
    bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if bad.any():
        raise ValueError(
            f"{caller} got {int(bad.sum())} scores that are NaN or infinite (first in row "
            f"{int(np.flatnonzero(bad)[0])}); expected a finite score for each film. Look at what "
            "the model was given there."
        )
    return values


def predict_scores(estimator, X, *, multilabel=False, pos_label=None, with_calls=False, caller):
    """Ask a fitted classifier for its scores.

    Parameters
    ----------
    estimator : fitted classifier
        With ``predict_proba`` or ``decision_function``.

    X : array-like
        Films in the form that it takes.

    multilabel : bool, default=False
        Whether the columns are labels, not classes.

    pos_label : object, default=None
        Positive class of two; None takes ``classes_[1]``.

    with_calls : bool, default=False
        Whether to ask ``predict`` as well, of classes.

    caller : str
        What the user called.

    Returns
    -------
    Scores
        The scores.
    """
    check_is_fitted(estimator)
    method = _response_method(estimator, caller)
    if method == "decision_function":
        classifier = scoring_estimator(estimator)
        refuse_pairwise(classifier, len(getattr(classifier, "classes_", ())), caller)
    values = getattr(estimator, method)(X)
    probability = method == "predict_proba"
    if multilabel:
        values = check_scores(_stack_labels(values, estimator), caller)
        names = list(range(values.shape[1]))
        return Scores(values, "multilabel", names, probability)
    classes = np.asarray(estimator.classes_)
    if classes.ndim != 1:
        raise ValueError(
            f"{caller} got {type(estimator).__name__}, which was fitted on several labels, and y "
            "with one class per film; pass y as it was in fit."
        )
    values = check_scores(values, caller)
    if len(classes) < 2:
        raise ValueError(
            f"{caller} got {type(estimator).__name__}, which knows the class {classes.tolist()} "
            "only; expected at least two classes in fit."
        )
    answers = None
    if with_calls and hasattr(estimator, "predict"):
        answers = np.asarray(estimator.predict(X), dtype=object).ravel()
    if len(classes) > 2:
        if answers is not None:
            answers = (answers[:, None] == classes.astype(object)).argmax(axis=1)
        return Scores(values, "multiclass", classes.tolist(), probability, called=answers)
    at = _positive_index(classes, pos_label, caller)
    if values.ndim == 2:
        values = values[:, at]
    elif at == 0:
        values = -values
    called = None if answers is None else np.asarray(answers == classes[at], dtype=bool)
    threshold, origin = _own_threshold(
        scoring_estimator(estimator), method, classes, at, values, called
    )
    return Scores(
        values,
        "binary",
        [plain(classes[1 - at]), plain(classes[at])],
        probability,
        threshold,
        origin,
        swapped=at == 0,
        called=called,
    )


def _positive_index(classes, pos_label, caller):
    if pos_label is None:
        return 1
    found = np.flatnonzero(classes == pos_label)
    if not len(found):
        raise ValueError(
            f"{caller} got pos_label={pos_label!r}; expected one of the classes "
            f"{classes.tolist()}."
        )
    return int(found[0])


def check_labels(y, caller):
    """Return y as an array: one class per film, or a column of 0, 1 and NaN per label."""
    # An array from a list of strings and NaN would turn the NaN into a class.
    y = y.to_numpy() if hasattr(y, "to_numpy") else y
    known = np.asarray(y, dtype=None if hasattr(y, "dtype") else object)
    known = known[:, 0] if known.ndim == 2 and known.shape[1] == 1 else known
    if known.ndim not in (1, 2) or not len(known):
        raise ValueError(
            f"{caller} got y of shape {known.shape}; expected one class per film, or a column of "
            "0, 1 and NaN per label."
        )
    missing = pd.isna(known)
    if known.ndim == 1 and missing.any():
        raise ValueError(
            f"{caller} got {int(missing.sum())} films without a class (NaN or None); leave "
            "them out."
        )
    if known.ndim == 1:
        return known if hasattr(y, "dtype") else np.asarray(known.tolist())
    try:
        return np.where(missing, np.nan, known).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{caller} got y of shape {known.shape} that holds no numbers ({error}); expected 0, "
            "1 or NaN (unknown) in each cell."
        ) from error


def ordered_classes(y, pos_label, caller):
    """Return the classes in y in order, the positive one last where it is named."""
    classes = [plain(value) for value in pd.unique(check_labels(y, caller).ravel())]
    try:
        classes = sorted(classes)
    except TypeError as error:
        if pos_label is None:
            raise ValueError(
                f"{caller} got classes that have no order ({classes[:5]}); pass pos_label=<the "
                "positive one>."
            ) from error
    if pos_label is not None:
        classes = [name for name in classes if name != pos_label] + [pos_label]
    return classes


def refuse_strange(y, classes, caller):
    """Raise if y holds classes that the classifier does not know, or one class only."""
    found = [plain(value) for value in pd.unique(y)]
    strange = sorted(repr(value) for value in found if value not in classes)
    if strange:
        raise ValueError(
            f"{caller} got the classes {', '.join(strange[:5])} in y, which the classifier does "
            f"not know; it knows {classes}."
        )
    if len(found) < 2:
        other = "two classes at least"
        if len(classes) == 2:
            other = f"both {classes[0]!r} and {classes[1]!r}"
        raise ValueError(
            f"{caller} got films of the class {found[0]!r} only; expected films of {other}, since "
            "nothing can be told apart otherwise."
        )


def check_binary(y, classes, caller):
    """Return 0/1 labels of films of two classes, positive last.

    Parameters
    ----------
    y : array-like of shape (n,)
        Class of each film.

    classes : list
        Negative and positive class.

    caller : str
        What the user called.

    Returns
    -------
    ndarray of shape (n,), dtype int
        1 where a film is positive.
    """
    y = check_labels(y, caller)
    if y.ndim != 1:
        raise ValueError(
            f"{caller} got y of shape {y.shape}; expected one class per film, shape (n,)."
        )
    refuse_strange(y, classes, caller)
    return np.asarray(y.astype(object) == classes[1]).astype(np.int64)
