"""Sensitivity and specificity at the threshold that the other one sets."""

from numbers import Real

import numpy as np
import pandas as pd

from sklearn_cxr.metrics._checks import check_positive, check_score
from sklearn_cxr.utils._sklearn import Interval as Range
from sklearn_cxr.utils._sklearn import _check_sample_weight, validate_params

# A share such as 19/20 must pass for 0.95 whatever the weights were summed to.
_TOLERANCE = 1e-12
# More than all folds of a usual cross-validation can win back.
_PENALTY = 10.0

_SHARE = [Range(Real, 0, 1, closed="both")]
_ARRAYS = {
    "y": ["array-like"],
    "sample_weight": ["array-like", None],
    "pos_label": "no_validation",
}


def reaches(share, target):
    """Tell whether a share is at least the target."""
    return share >= target - _TOLERANCE


def roc_points(positive, score, weights=None):
    """Return thresholds, sensitivities and specificities of the rule ``score >= threshold``.

    Parameters
    ----------
    positive : ndarray of shape (n_samples,), dtype=bool
        True where the image is positive.

    score : ndarray of shape (n_samples,), dtype=float64
        The scores.

    weights : ndarray of shape (n_samples,), default=None
        Weight of each image.

    Returns
    -------
    thresholds, sensitivity, specificity : ndarray of shape (n_thresholds,), dtype=float64
        First just above the greatest score, where nothing is called positive, then the scores
        themselves, descending.
    """
    weights = np.ones(len(score)) if weights is None else weights
    order = np.argsort(-score, kind="stable")
    descending = score[order]
    last = np.append(np.flatnonzero(descending[1:] != descending[:-1]), len(score) - 1)
    found, false = (
        np.cumsum(np.where(kind, weights, 0.0)[order]) for kind in (positive, ~positive)
    )
    sensitivity = np.append(0.0, found[last] / found[-1])
    specificity = np.append(1.0, (false[-1] - false[last]) / false[-1])
    above = np.nextafter(descending[0], np.inf)
    return np.append(above, descending[last]), sensitivity, specificity


def _checked(y, score, sample_weight, pos_label, caller):
    positive, _ = check_positive(y, caller=caller, pos_label=pos_label)
    score = check_score(score, len(positive), caller=caller)
    weights = _check_sample_weight(sample_weight, score, dtype=np.float64)
    for name, kind in (("positive", positive), ("negative", ~positive)):
        if not weights[kind].any():
            raise ValueError(
                f"{caller} got a sample_weight of 0 for all {name} images; expected both classes."
            )
    return positive, score, weights


@validate_params(
    {**_ARRAYS, "score": ["array-like"], "specificity": _SHARE},
    prefer_skip_nested_validation=True,
)
def sensitivity_at_specificity(y, score, *, specificity=0.95, pos_label=None, sample_weight=None):
    """Greatest sensitivity at a threshold that keeps a specificity.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Two classes; more of them together with `pos_label`.

    score : array-like of shape (n_samples,)
        Greater for images that are more likely positive. Those with ``score >= threshold`` are
        called positive.

    specificity : float, default=0.95
        Least share of the negative images that is called negative, in [0, 1].

    pos_label : object, default=None
        The positive class. None stands for the greater of two labels.

    sample_weight : array-like of shape (n_samples,), default=None
        Weight of each image.

    Returns
    -------
    float
        The sensitivity, in [0, 1]. There is no interpolation between thresholds.

    Raises
    ------
    ValueError
        If one class is absent, labels or scores are missing, or lengths differ.

    See Also
    --------
    sensitivity_at_specificity_scorer : The same as a scorer for a search.
    specificity_at_sensitivity : The other way round.
    operating_point : The threshold itself, with intervals.

    Examples
    --------
    >>> from sklearn_cxr.metrics import sensitivity_at_specificity
    >>> y = [0, 0, 0, 0, 1, 1, 1, 1]
    >>> score = [0.1, 0.2, 0.3, 0.6, 0.4, 0.5, 0.8, 0.9]
    >>> sensitivity_at_specificity(y, score, specificity=1.0)
    0.5
    >>> sensitivity_at_specificity(y, score, specificity=0.75)
    1.0
    """
    checked = _checked(y, score, sample_weight, pos_label, "sensitivity_at_specificity")
    _, of_positive, of_negative = roc_points(*checked)
    return float(of_positive[reaches(of_negative, specificity)].max())


@validate_params(
    {**_ARRAYS, "score": ["array-like"], "sensitivity": _SHARE},
    prefer_skip_nested_validation=True,
)
def specificity_at_sensitivity(y, score, *, sensitivity=0.95, pos_label=None, sample_weight=None):
    """Greatest specificity at a threshold that keeps a sensitivity.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Two classes; more of them together with `pos_label`.

    score : array-like of shape (n_samples,)
        Greater for images that are more likely positive. Those with ``score >= threshold`` are
        called positive.

    sensitivity : float, default=0.95
        Least share of the positive images that is called positive, in [0, 1].

    pos_label : object, default=None
        The positive class. None stands for the greater of two labels.

    sample_weight : array-like of shape (n_samples,), default=None
        Weight of each image.

    Returns
    -------
    float
        The specificity, in [0, 1]. There is no interpolation between thresholds.

    Raises
    ------
    ValueError
        If one class is absent, labels or scores are missing, or lengths differ.

    See Also
    --------
    specificity_at_sensitivity_scorer : The same as a scorer for a search.
    sensitivity_at_specificity : The other way round.
    operating_point : The threshold itself, with intervals.

    Examples
    --------
    >>> from sklearn_cxr.metrics import specificity_at_sensitivity
    >>> y = ["normal", "normal", "normal", "normal", "pneumonia", "pneumonia"]
    >>> score = [0.1, 0.2, 0.3, 0.6, 0.4, 0.9]
    >>> specificity_at_sensitivity(y, score, sensitivity=1.0)
    0.75
    """
    checked = _checked(y, score, sample_weight, pos_label, "specificity_at_sensitivity")
    _, of_positive, of_negative = roc_points(*checked)
    return float(of_negative[reaches(of_positive, sensitivity)].max())


def _shares(y, y_pred, pos_label, sample_weight, caller):
    """Return sensitivity and specificity of predicted labels."""
    positive, label = check_positive(y, caller=caller, pos_label=pos_label)
    predicted = np.asarray(y_pred)
    if predicted.shape != positive.shape:
        raise ValueError(
            f"{caller} got y_pred of shape {predicted.shape} for {len(positive)} labels in y; "
            "expected one predicted label per image."
        )
    # A score would be compared with the label and silently be wrong nearly everywhere.
    strange = set(pd.unique(predicted).tolist()) - set(pd.unique(np.asarray(y)).tolist())
    if strange:
        raise ValueError(
            f"{caller} got predictions that are no labels of y, such as "
            f"{min(strange, key=repr)!r}; expected predicted labels, not scores."
        )
    weights = _check_sample_weight(sample_weight, positive, dtype=np.float64)
    hit = predicted == label
    return (
        float(np.average(hit[positive], weights=weights[positive])),
        float(np.average(~hit[~positive], weights=weights[~positive])),
    )


def _constrained(score, kept, target):
    return score if reaches(kept, target) else kept - target - _PENALTY


@validate_params(
    {**_ARRAYS, "y_pred": ["array-like"], "sensitivity": _SHARE},
    prefer_skip_nested_validation=True,
)
def constrained_specificity_score(
    y, y_pred, *, sensitivity=0.95, pos_label=None, sample_weight=None
):
    """Specificity of predicted labels if they keep a sensitivity, else a penalty.

    What :class:`~sklearn.model_selection.TunedThresholdClassifierCV` is to maximise where
    misses are bounded: it scores predicted labels at many thresholds and takes the mean over
    the folds.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Two classes; more of them together with `pos_label`.

    y_pred : array-like of shape (n_samples,)
        Predicted labels.

    sensitivity : float, default=0.95
        Least share of the positive images that has to be called positive, in [0, 1].

    pos_label : object, default=None
        The positive class. None stands for the greater of two labels.

    sample_weight : array-like of shape (n_samples,), default=None
        Weight of each image.

    Returns
    -------
    float
        The specificity, in [0, 1], if the sensitivity is kept. Otherwise -10 less what is
        missing, so that in up to ten folds a threshold that keeps the sensitivity in each of
        them has a better mean than any other.

    Raises
    ------
    ValueError
        If one class is absent, labels are missing, lengths differ, or predictions are no labels.

    See Also
    --------
    constrained_specificity_scorer : The same as a scorer.
    specificity_at_sensitivity : The same for scores, for ranking models.

    Examples
    --------
    >>> from sklearn_cxr.metrics import constrained_specificity_score
    >>> y = [0, 0, 0, 0, 1, 1, 1, 1]
    >>> constrained_specificity_score(y, [0, 0, 1, 1, 1, 1, 1, 1], sensitivity=0.9)
    0.5
    >>> constrained_specificity_score(y, [0, 0, 0, 0, 0, 1, 1, 1], sensitivity=0.75)
    1.0
    >>> constrained_specificity_score(y, [0, 0, 0, 0, 0, 1, 1, 1], sensitivity=1.0)
    -10.25
    """
    caller = "constrained_specificity_score"
    of_positive, of_negative = _shares(y, y_pred, pos_label, sample_weight, caller)
    return _constrained(of_negative, of_positive, sensitivity)


@validate_params(
    {**_ARRAYS, "y_pred": ["array-like"], "specificity": _SHARE},
    prefer_skip_nested_validation=True,
)
def constrained_sensitivity_score(
    y, y_pred, *, specificity=0.95, pos_label=None, sample_weight=None
):
    """Sensitivity of predicted labels if they keep a specificity, else a penalty.

    What :class:`~sklearn.model_selection.TunedThresholdClassifierCV` is to maximise where
    false alarms are bounded.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Two classes; more of them together with `pos_label`.

    y_pred : array-like of shape (n_samples,)
        Predicted labels.

    specificity : float, default=0.95
        Least share of the negative images that has to be called negative, in [0, 1].

    pos_label : object, default=None
        The positive class. None stands for the greater of two labels.

    sample_weight : array-like of shape (n_samples,), default=None
        Weight of each image.

    Returns
    -------
    float
        The sensitivity, in [0, 1], if the specificity is kept. Otherwise -10 less what is
        missing, so that in up to ten folds a threshold that keeps the specificity in each of
        them has a better mean than any other.

    Raises
    ------
    ValueError
        If one class is absent, labels are missing, lengths differ, or predictions are no labels.

    See Also
    --------
    constrained_sensitivity_scorer : The same as a scorer.
    sensitivity_at_specificity : The same for scores, for ranking models.

    Examples
    --------
    >>> from sklearn_cxr.metrics import constrained_sensitivity_score
    >>> y = [0, 0, 0, 0, 1, 1, 1, 1]
    >>> constrained_sensitivity_score(y, [0, 0, 0, 0, 0, 1, 1, 1], specificity=0.9)
    0.75
    """
    caller = "constrained_sensitivity_score"
    of_positive, of_negative = _shares(y, y_pred, pos_label, sample_weight, caller)
    return _constrained(of_positive, of_negative, specificity)
