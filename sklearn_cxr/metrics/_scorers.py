"""The room's metrics as scorers, for searches and tuned thresholds."""

import numpy as np
from sklearn.metrics import make_scorer

from sklearn_cxr.metrics._multilabel import nan_average_precision_score, nan_roc_auc_score
from sklearn_cxr.metrics._thresholds import (
    constrained_sensitivity_score,
    constrained_specificity_score,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
)
from sklearn_cxr.utils._sklearn import _BaseScorer


class _MultilabelScorer(_BaseScorer):
    """Scorer of a label matrix with NaN, which scikit-learn's own refuse.

    scikit-learn's way from an estimator to its scores guesses the kind of target from
    ``classes_``, which a multilabel estimator may have in several forms.
    """

    def _score(self, method_caller, estimator, X, y_true, **kwargs):
        scores = _positive_scores(estimator, X, n_labels=1 if np.ndim(y_true) == 1 else None)
        return self._sign * self._score_func(y_true, scores, **{**self._kwargs, **kwargs})


def _positive_scores(estimator, X, *, n_labels):
    """Return scores of the positive class, from probabilities or else the decision function."""
    for name in ("predict_proba", "decision_function"):
        if hasattr(estimator, name):
            break
    else:
        raise AttributeError(
            f"A scorer of labels needs predict_proba or decision_function, and "
            f"{type(estimator).__name__} has neither; choose an estimator that has one."
        )
    scores = getattr(estimator, name)(X)
    if isinstance(scores, list) and name == "predict_proba":
        # A label that had one class in training has one column, be it of 0 or of 1.
        pairs = zip(scores, estimator.classes_, strict=True)
        return np.stack([_column_of_one(part, classes) for part, classes in pairs], axis=1)
    if n_labels == 1 and name == "predict_proba" and np.ndim(scores) == 2:
        return _column_of_one(np.asarray(scores), estimator.classes_)
    return scores


def _column_of_one(probabilities, classes):
    column = np.flatnonzero(np.asarray(classes) == 1)
    return probabilities[:, column[0]] if len(column) else np.zeros(len(probabilities))


_DOC = """{summary}

    {text}

    Parameters
    ----------
    estimator : classifier
        The fitted classifier, Pipeline or search.

    X : array-like of shape (n_samples, ...)
        The images in any form that `estimator` takes.

    y_true : array-like of shape {shape}
        {target}

    sample_weight : array-like of shape (n_samples,), default=None
        Weight of each image.

    **kwargs : dict
        Further metadata that was asked for by ``set_score_request``. Do that to a copy, made
        by ``copy.deepcopy``: the scorer is shared by all that import it.

    Returns
    -------
    float
        {result}

    See Also
    --------
    {function} : The metric, for other values than its defaults with ``make_scorer``.

    Examples
    --------
    {example}
    """

_MATRIX = ("(n_samples, n_labels)", "0, 1 or NaN (unknown).")
_CLASSES = ("(n_samples,)", "Two classes, of which the greater one is positive.")

_LABELS_TEXT = """`estimator` may answer probabilities as one matrix, as the networks of this
    library do, or as a list with one array per label, as scikit-learn's multilabel forests do.
    A label with one class only in a fold is left out of its mean, with a warning;
    :class:`~sklearn_cxr.model_selection.MultilabelStratifiedGroupKFold` avoids that."""
_RANKING_TEXT = """For choosing among models. Scores are those of ``decision_function``, or of
    ``predict_proba`` if there is none."""
_TUNING_TEXT = """For :class:`~sklearn.model_selection.TunedThresholdClassifierCV`, which moves the
    threshold until this is best. A threshold that misses in any of up to ten folds loses to one
    that keeps the constraint in all."""

_SEARCH = """>>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
    >>> from sklearn_cxr.metrics import {name}
    >>> rng = np.random.RandomState(0)
    >>> y, patients = np.arange(90) % 2, np.arange(90) // 2
    >>> X = rng.normal(size=(90, 3)) + y[:, None]
    >>> search = GridSearchCV(
    ...     LogisticRegression(), {{"C": [0.01, 1.0]}}, scoring={name},
    ...     cv=StratifiedGroupKFold(3),
    ... )
    >>> search.fit(X, y, groups=patients).best_params_["C"] in (0.01, 1.0)
    True"""
_TUNED = """>>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import StratifiedGroupKFold, TunedThresholdClassifierCV
    >>> from sklearn_cxr.metrics import {name}
    >>> rng = np.random.RandomState(0)
    >>> y, patients = np.arange(90) % 2, np.arange(90) // 2
    >>> X = rng.normal(size=(90, 3)) + y[:, None]
    >>> tuned = TunedThresholdClassifierCV(
    ...     LogisticRegression(), scoring={name},
    ...     cv=list(StratifiedGroupKFold(3).split(X, y, patients)),
    ... )
    >>> tuned.fit(X, y).predict(X).shape
    (90,)"""
_UNKNOWN = """>>> import numpy as np
    >>> from sklearn.dummy import DummyClassifier
    >>> from sklearn_cxr.metrics import {name}
    >>> X, Y = np.zeros((4, 1)), np.array([[0, 1], [1, 0], [0, 1], [1, 1]])
    >>> prior = DummyClassifier().fit(X, Y)
    >>> unknown = np.array([[0, 1], [1, np.nan], [np.nan, 0], [1, 1]])
    >>> round({name}(prior, X, unknown), 3)
    {value}"""


def _described(scorer, name, summary, text, target, result, example):
    """Give a scorer the docstring of a function, which is what it is called as."""
    scorer.__name__, scorer.__module__ = name, "sklearn_cxr.metrics"
    scorer.__doc__ = _DOC.format(
        summary=summary,
        text=text,
        shape=target[0],
        target=target[1],
        result=result,
        function=scorer._score_func.__name__,
        example=example,
    )
    return scorer


def _of_labels(metric, summary, result, value):
    name = metric.__name__.replace("_score", "_scorer")
    scorer = _MultilabelScorer(metric, 1, {}, ("predict_proba", "decision_function"))
    example = _UNKNOWN.format(name=name, value=value)
    return _described(scorer, name, summary, _LABELS_TEXT, _MATRIX, result, example)


def _of_scores(metric, summary, result):
    name = f"{metric.__name__}_scorer"
    scorer = make_scorer(metric, response_method=("decision_function", "predict_proba"))
    example = _SEARCH.format(name=name)
    return _described(scorer, name, summary, _RANKING_TEXT, _CLASSES, result, example)


def _of_predictions(metric, summary, result):
    name = metric.__name__.replace("_score", "_scorer")
    example = _TUNED.format(name=name)
    scorer = make_scorer(metric)
    return _described(scorer, name, summary, _TUNING_TEXT, _CLASSES, result, example)


nan_roc_auc_scorer = _of_labels(
    nan_roc_auc_score,
    "Score a multilabel classifier by its mean area under the ROC curve, NaN being unknown.",
    "Mean area over the labels.",
    0.5,
)
nan_average_precision_scorer = _of_labels(
    nan_average_precision_score,
    "Score a multilabel classifier by its mean average precision, NaN being unknown.",
    "Mean average precision over the labels.",
    0.667,
)
sensitivity_at_specificity_scorer = _of_scores(
    sensitivity_at_specificity,
    "Score a classifier by its greatest sensitivity at a specificity of 0.95.",
    "The sensitivity.",
)
specificity_at_sensitivity_scorer = _of_scores(
    specificity_at_sensitivity,
    "Score a classifier by its greatest specificity at a sensitivity of 0.95.",
    "The specificity.",
)
constrained_sensitivity_scorer = _of_predictions(
    constrained_sensitivity_score,
    "Score predicted labels by their sensitivity if the specificity is 0.95 or more.",
    "The sensitivity, or -10 and less.",
)
constrained_specificity_scorer = _of_predictions(
    constrained_specificity_score,
    "Score predicted labels by their specificity if the sensitivity is 0.95 or more.",
    "The specificity, or -10 and less.",
)

# Examples in the docstrings of objects are run by name only.
__test__ = {
    scorer.__name__: scorer.__doc__
    for scorer in (
        nan_roc_auc_scorer,
        nan_average_precision_scorer,
        sensitivity_at_specificity_scorer,
        specificity_at_sensitivity_scorer,
        constrained_sensitivity_scorer,
        constrained_specificity_scorer,
    )
}
