"""From a metric to the function that computes it on many resamples."""

import inspect
import warnings
from functools import partial
from types import FunctionType

import numpy as np
import pandas as pd
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
    roc_auc_score,
)

from sklearn_cxr.metrics._checks import check_multilabel
from sklearn_cxr.metrics._kernels import (
    auc_kernel,
    average_precision_kernel,
    balanced_accuracy_kernel,
    constrained_kernel,
    f_kernel,
    mean_kernel,
    stacked,
)
from sklearn_cxr.metrics._multilabel import nan_average_precision_score, nan_roc_auc_score
from sklearn_cxr.metrics._thresholds import (
    sensitivity_at_specificity,
    specificity_at_sensitivity,
)
from sklearn_cxr.utils._sklearn import _check_sample_weight

_KERNELS = {
    roc_auc_score: auc_kernel,
    average_precision_score: average_precision_kernel,
    nan_roc_auc_score: auc_kernel,
    nan_average_precision_score: average_precision_kernel,
}
_CONSTRAINED = {
    sensitivity_at_specificity: "specificity",
    specificity_at_sensitivity: "sensitivity",
}
# Weight of the false alarms and of the misses, beside that of the hits, in what is divided by.
_OF_ONE_CLASS = {precision_score: (1.0, 0.0), recall_score: (0.0, 1.0), f1_score: (0.5, 0.5)}


def kernel_of(metric, y, score):
    """Return a metric as a kernel, by the fastest way that there is for it.

    Parameters
    ----------
    metric : callable
        As `bootstrap_interval` takes it.

    y : ndarray of shape (n_samples,) or (n_samples, n_labels)
        True labels.

    score : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        Scores or predicted labels.

    Returns
    -------
    callable
        As those of `_kernels`: takes a function from rows to weights and answers values.
    """
    fast = fast_kernel(metric, y, score)
    if fast is not None:
        return fast
    if isinstance(metric, partial) and metric.keywords.get("sample_weight") is not None:
        return _of_given_weights(metric, y, score)
    try:
        weighted = "sample_weight" in inspect.signature(metric).parameters
    except (TypeError, ValueError):  # some callables have no signature that can be read
        weighted = False
    return weighted_kernel(metric, y, score) if weighted else _repeated_kernel(metric, y, score)


def _greatest(y):
    return pd.factorize(y, sort=True)[1][-1]


def fast_kernel(metric, y, score):
    """Return a metric that is known as a kernel of all resamples at once, or None."""
    options = {}
    if isinstance(metric, partial) and not metric.args:
        metric, options = metric.func, metric.keywords
    if not isinstance(metric, FunctionType) or y.shape != score.shape:
        return None
    kept = _CONSTRAINED.get(metric)
    if kept is not None and set(options) <= {kept}:
        share = options.get(kept, 0.95)
        return constrained_kernel(y == _greatest(y), score.astype(np.float64), **{kept: share})
    # Of one class alone it is for scikit-learn to say which of the two it is.
    two_classes = y.ndim == 1 and len(pd.unique(y)) == 2
    if metric in (brier_score_loss, log_loss) and not options and two_classes:
        score = score if score.dtype.kind == "f" else score.astype(np.float64)
        right = np.where(y == _greatest(y), score, 1 - score)
        if metric is brier_score_loss:
            return mean_kernel((1 - right.astype(np.float64)) ** 2)
        # As scikit-learn does: a probability of 0 is taken as the least step from 1.
        return mean_kernel(-np.log(np.maximum(right, np.finfo(right.dtype).eps)))
    if y.ndim == 1 and (metric in (accuracy_score, balanced_accuracy_score, *_OF_ONE_CLASS)):
        return _of_predictions(metric, y, score, options)
    make, average = _KERNELS.get(metric), options.get("average", "macro")
    if make is None or average not in ("macro", None) or not set(options) <= {"average"}:
        return None
    if metric in (nan_roc_auc_score, nan_average_precision_score):
        labels, score = check_multilabel(y, score, caller=metric.__name__)
    elif y.ndim == 1:
        label = 1 if metric is average_precision_score else _greatest(y)
        return make(y == label, score.astype(np.float64))
    else:
        labels, score = y.astype(np.float64), score.astype(np.float64)
    columns = zip(labels.T, score.T, strict=True)
    skip = metric in (nan_roc_auc_score, nan_average_precision_score)
    given = {"both": True} if metric is nan_average_precision_score else {}
    kernels = [make(label == 1, own, ~np.isnan(label), **given) for label, own in columns]
    return stacked(kernels, "macro" if y.ndim == 1 else average, skip_undefined=skip)


def _of_predictions(metric, y, predicted, options):
    """Return a metric of predicted labels as a kernel, or None where it needs scikit-learn."""
    if metric in (accuracy_score, balanced_accuracy_score):
        if options:
            return None
        hits = np.asarray(y == predicted, dtype=bool)
        if metric is accuracy_score:
            return mean_kernel(hits.astype(np.float64))
        return balanced_accuracy_kernel(hits, pd.factorize(y)[0])
    label = options.get("pos_label", 1)
    classes = pd.unique(np.concatenate([y, predicted]))
    # Of more classes they are means, and an absent label is for scikit-learn to refuse.
    if not set(options) <= {"pos_label"} or len(classes) != 2 or label not in classes.tolist():
        return None
    return f_kernel(y == label, predicted == label, *_OF_ONE_CLASS[metric])


def _of_given_weights(metric, y, score):
    """Return a metric with weights of the user's own, which multiply those of the resamples."""
    options = dict(metric.keywords)
    weight = _check_sample_weight(options.pop("sample_weight"), y, dtype=np.float64)
    return weighted_kernel(partial(metric.func, *metric.args, **options), y, score, weight)


def weighted_kernel(metric, y, score, weight=None):
    """Return a metric as a kernel that weighs the images, resample by resample."""
    rows = np.arange(len(y))
    weight = np.ones(len(y)) if weight is None else weight
    cells = None
    if y.ndim == score.ndim == 1:
        pairs = pd.MultiIndex.from_arrays([pd.factorize(y)[0], pd.factorize(score)[0]])
        numbers, _ = pairs.factorize()
        if numbers.max() + 1 <= len(y) // 4:
            cells, first = numbers, np.unique(numbers, return_index=True)[1]
            y, score = y[first], score[first]

    def of_one(own):
        # Metrics differ in what they make of no weight at all: nothing is known of it.
        if not own.any():
            return np.full(np.shape(metric(y, score)), np.nan)
        return metric(y, score, sample_weight=own)

    def values(gather):
        weights = gather(rows) * weight[:, None]
        if cells is not None:
            weights = np.stack([np.bincount(cells, weights=own) for own in weights.T], axis=1)
        return _each(of_one, weights.T)

    return values


def _repeated_kernel(metric, y, score):
    rows = np.arange(len(y))

    def of_one(counts):
        drawn = np.repeat(rows, counts.astype(np.int64))
        return metric(y[drawn], score[drawn])

    return lambda gather: _each(of_one, gather(rows).T)


def _each(metric, resamples):
    values = []
    with warnings.catch_warnings():
        # The NaN that it comes with is counted and told once, for all resamples.
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        for own in resamples:
            try:
                values.append(metric(np.ascontiguousarray(own)))
            except ValueError as error:
                error.add_note("This was raised in a bootstrap resample, not on all images.")
                raise
    return np.stack([np.asarray(value, dtype=np.float64) for value in values], axis=-1)
