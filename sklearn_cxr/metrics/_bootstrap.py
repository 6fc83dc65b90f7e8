"""Intervals of any metric from resampled patients."""

import warnings
from functools import partial
from numbers import Integral, Real

import numpy as np
import pandas as pd
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils import check_random_state

from sklearn_cxr.metrics._checks import check_patients, refuse_non_finite
from sklearn_cxr.metrics._interval import Interval
from sklearn_cxr.metrics._metric_kernels import kernel_of
from sklearn_cxr.metrics._resampling import patient_counts, patient_strata
from sklearn_cxr.utils._sklearn import Interval as Range
from sklearn_cxr.utils._sklearn import StrOptions, validate_params
from sklearn_cxr.utils._warn import warn

# Of the resamples that are worked on at a time; more of them leave the processor's cache.
_CHUNK = 16
# Above that many classes, a vector of labels is a quantity.
_MOST_CLASSES = 50


@validate_params(
    {
        "metric": [callable],
        "y": ["array-like"],
        "score": ["array-like"],
        "groups": ["array-like", None],
        "stratify": ["boolean", StrOptions({"auto"})],
        "confidence": [Range(Real, 0, 1, closed="neither")],
        "n_resamples": [Range(Integral, 2, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def bootstrap_interval(
    metric,
    y,
    score,
    *,
    groups=None,
    stratify="auto",
    confidence=0.95,
    n_resamples=1000,
    random_state=None,
):
    """Interval of any metric from resampled patients.

    Patients are drawn with replacement, each with all images, as many as there are; the metric
    of each such set is taken, and the interval holds the middle of them. What the estimate owes
    to the choice of patients is in it, what it owes to the training is not.

    Parameters
    ----------
    metric : callable
        A metric of scikit-learn or of this library, or any function ``metric(y, score)`` that
        answers a number or an array. If it takes `sample_weight`, patients are weighted by how
        often they are drawn, which is faster, and the same but for metrics that average over the
        classes that they see, such as a macro F1 score: there a class that a resample lacks
        counts as if nobody had found it, which ``stratify=True`` avoids. For other parameters
        pass ``functools.partial(metric, average=None)``.

    y : array-like of shape (n_samples,) or (n_samples, n_labels)
        True labels as `metric` takes them.

    score : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Scores, probabilities or predicted labels as `metric` takes them.

    groups : array-like of shape (n_samples,), default=None
        Patient id of each image. None stands for one patient per image.

    stratify : {"auto"} or bool, default="auto"
        Whether the number of patients of each class is kept, a patient counting for the rarest
        class that it has images of. Metrics that depend on the prevalence, such as the
        accuracy, then have intervals for that prevalence. "auto": only where a class has fewer
        than 20 patients, so that a resample may lack it. A matrix `y` has no strata.

    confidence : float, default=0.95
        Level of the interval, in (0, 1).

    n_resamples : int, default=1000
        Number of resamples, at least 2.

    random_state : int, RandomState instance or None, default=None
        Governs the resamples. Pass an int for the same interval at every call.

    Returns
    -------
    Interval
        ``metric(y, score)`` and the percentiles of the resamples; arrays if the metric answers
        an array.

    Raises
    ------
    ValueError
        If lengths differ, scores are not finite, there are fewer than two patients (of a class
        that is stratified by), or the metric is not defined on these labels.

    Warns
    -----
    UndefinedMetricWarning
        If the metric is NaN for some labels, or in some resamples, which are then left out.

    See Also
    --------
    roc_auc_interval : The area under the ROC curve without resampling.
    calibration_error_interval : The calibration error, for which percentiles are biased.

    Notes
    -----
    Areas under the ROC curve and average precisions of all resamples are computed together
    from scores that are sorted once, accuracy, balanced accuracy, and precision, recall and F1
    score of two classes from counts. Other metrics of predicted labels see each combination of
    true and predicted label once, weighted by its images.

    The percentiles of a metric that is biased (the calibration error, the maximum over
    thresholds) are biased twice.

    References
    ----------
    .. [1] B. Efron, R. J. Tibshirani, "An Introduction to the Bootstrap", Chapman & Hall, 1993.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.metrics import balanced_accuracy_score
    >>> from sklearn_cxr.metrics import bootstrap_interval
    >>> rng = np.random.RandomState(0)
    >>> patients = np.repeat(np.arange(100), 3)
    >>> y = np.repeat(rng.randint(2, size=100), 3)
    >>> predicted = np.where(rng.uniform(size=300) < 0.8, y, 1 - y)
    >>> result = bootstrap_interval(
    ...     balanced_accuracy_score, y, predicted, groups=patients, random_state=0
    ... )
    >>> print(f"{result.estimate:.2f} ({result.low:.2f} to {result.high:.2f})")
    0.82 (0.77 to 0.86)
    """
    caller = "bootstrap_interval"
    y, score = np.asarray(y), np.asarray(score)
    if len(y) != len(score):
        raise ValueError(
            f"{caller} got {len(score)} values in score for {len(y)} labels in y; expected one "
            "per image."
        )
    if score.dtype.kind == "f":
        refuse_non_finite(score, caller=caller, name="score")
    codes, n_patients = check_patients(groups, len(y), caller=caller)
    if n_patients < 2:
        raise ValueError(f"{caller} got {n_patients} image; expected at least 2 to resample from.")
    estimate = _estimate(metric, y, score, caller)
    values = bootstrap_values(
        kernel_of(metric, y, score),
        codes,
        n_patients,
        strata=_strata(y, codes, n_patients, stratify, caller),
        n_resamples=n_resamples,
        random_state=check_random_state(random_state),
    )
    return summarise(estimate, values, confidence, caller=caller)


def _estimate(metric, y, score, caller):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UndefinedMetricWarning)
        estimate = np.asarray(metric(y, score), dtype=np.float64)
    if not np.isfinite(estimate).any():
        inner = metric.func if isinstance(metric, partial) else metric
        raise ValueError(
            f"{caller}: {getattr(inner, '__name__', repr(inner))} of these labels is {estimate}; "
            "expected a metric that is defined on all images, for most metrics images of both "
            "classes."
        )
    for warning in caught:
        warn(str(warning.message), warning.category)
    return estimate


def _strata(y, codes, n_patients, stratify, caller):
    numbers, classes = pd.factorize(y) if y.ndim == 1 else (np.array([-1]), [])
    if (numbers < 0).any() or len(classes) > _MOST_CLASSES:
        if stratify is True:
            raise ValueError(
                f"{caller} got stratify=True for y of shape {y.shape} and dtype {y.dtype}; "
                f"expected one known class per image, at most {_MOST_CLASSES} of them. Pass one "
                "label at a time, or stratify=False."
            )
        return None
    return patient_strata(y, codes, n_patients, stratify=stratify, caller=caller)


def bootstrap_values(kernel, codes, n_patients, *, strata, n_resamples, random_state):
    """Return the values of a metric on resampled patients.

    Parameters
    ----------
    kernel : callable
        As those of `_kernels`: takes a function from rows to weights and answers values.

    codes : ndarray of shape (n_samples,), dtype=int64 or None
        Number of each image's patient; None for one patient per image.

    n_patients : int
        Number of patients.

    strata : list of ndarray, or None
        From `patient_strata`.

    n_resamples : int
        Number of resamples.

    random_state : RandomState instance
        The generator.

    Returns
    -------
    ndarray of shape (..., n_resamples), dtype=float64
        The values.
    """
    values = []
    for counts in patient_counts(n_patients, strata, n_resamples, random_state, _CHUNK):

        def gather(rows, counts=counts):
            return counts[rows if codes is None else codes[rows]]

        values.append(kernel(gather))
    return np.concatenate(values, axis=-1)


def summarise(estimate, values, confidence, *, caller):
    """Return the estimate and the percentiles of its resamples, NaN left out and told.

    Parameters
    ----------
    estimate : float or ndarray
        The estimate.

    values : ndarray of shape (..., n_resamples)
        Its resamples.

    confidence : float
        Level of the interval.

    caller : str
        What the user called, for the messages.

    Returns
    -------
    Interval
        The estimate with its interval.
    """
    estimates, values = np.asarray(estimate).reshape(-1), values.reshape(-1, values.shape[-1])
    usable, defined = np.isfinite(estimates), np.isfinite(values)
    lost = float((~defined[usable]).mean(axis=1).max())
    if lost:
        warn(
            f"{caller}: the metric is not defined in up to {100 * lost:.1f} % of the resamples "
            "(without any patient of a class); they are left out, and the interval holds for the "
            "others.",
            UndefinedMetricWarning,
        )
    if not usable.all():
        warn(
            f"{caller}: the metric is NaN for {int((~usable).sum())} of {len(usable)} labels (one "
            "class only); so are their intervals.",
            UndefinedMetricWarning,
        )
    ends = np.full((2, len(estimates)), np.nan)
    for i in np.flatnonzero(usable & (defined.sum(axis=1) >= 2)):
        levels = [(1 - confidence) / 2, (1 + confidence) / 2]
        ends[:, i] = np.quantile(values[i, defined[i]], levels)
    if np.ndim(estimate) == 0:
        return Interval(float(estimate), float(ends[0, 0]), float(ends[1, 0]), confidence)
    low, high = ends.reshape(2, *np.shape(estimate))
    return Interval(estimate, low, high, confidence)
