"""Area under the ROC curve with its interval, and the comparison of two."""

import math
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr
from sklearn.utils import check_random_state

from sklearn_cxr.metrics._bootstrap import bootstrap_values, summarise
from sklearn_cxr.metrics._checks import check_holders, check_patients, check_positive, check_score
from sklearn_cxr.metrics._delong import clustered_variance, interval_of_area, placements
from sklearn_cxr.metrics._interval import normal_interval
from sklearn_cxr.metrics._kernels import auc_kernel
from sklearn_cxr.metrics._resampling import patient_strata
from sklearn_cxr.utils._sklearn import Interval as Range
from sklearn_cxr.utils._sklearn import StrOptions, validate_params

_CONFIDENCE = [Range(Real, 0, 1, closed="neither")]


@validate_params(
    {
        "y": ["array-like"],
        "score": ["array-like"],
        "groups": ["array-like", None],
        "method": [StrOptions({"delong", "bootstrap"})],
        "transform": [StrOptions({"logit"}), None],
        "confidence": _CONFIDENCE,
        "n_resamples": [Range(Integral, 2, None, closed="left")],
        "pos_label": "no_validation",
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def roc_auc_interval(
    y,
    score,
    *,
    groups=None,
    method="delong",
    transform=None,
    confidence=0.95,
    n_resamples=1000,
    pos_label=None,
    random_state=None,
):
    """Area under the ROC curve with an interval that knows whose image each one is.

    Images of one patient are alike, so that they tell less than as many images of different
    patients. With `groups`, the variance is that of Obuchowski [2]_, which sums over patients;
    without them every image counts as a patient of its own, and the variance is DeLong's [1]_.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Two classes; more of them together with `pos_label`.

    score : array-like of shape (n_samples,)
        Greater for images that are more likely positive: probabilities, log odds or ranks.

    groups : array-like of shape (n_samples,), default=None
        Patient id of each image.

    method : {"delong", "bootstrap"}, default="delong"
        How the interval is made: from the variance, or from resampled patients by
        percentiles.

    transform : {"logit"} or None, default=None
        Scale on which the area is taken as normally distributed, for ``method="delong"``. None
        is the area itself, cut at 0 and 1, as other software reports it. "logit" covers better
        for few patients and areas above 0.9; it is what the reports of this library use.

    confidence : float, default=0.95
        Level of the interval, in (0, 1).

    n_resamples : int, default=1000
        Number of resamples, at least 2, for ``method="bootstrap"``.

    pos_label : object, default=None
        The positive class. None stands for the greater of two labels, which is that of
        ``predict_proba(X)[:, 1]``. Others, if there are more, are negative.

    random_state : int, RandomState instance or None, default=None
        Governs the resamples. Pass an int for the same interval at every call.

    Returns
    -------
    Interval
        The area, equal to that of :func:`sklearn.metrics.roc_auc_score`, with its interval,
        whose ends are NaN where the errors of patients cancel out so that no variance is seen.

    Raises
    ------
    ValueError
        If one class is absent, labels or scores are missing, lengths differ, or fewer than two
        patients have positive, or negative, images.

    See Also
    --------
    roc_auc_test : Whether two scores of the same images differ.
    multilabel_report : Many labels at once, with unknown ones.
    bootstrap_interval : Any other metric.

    Notes
    -----
    If the score separates the classes without error, both methods would answer an interval of
    no width. Then the exact lower end is given instead: ``m`` pairs of a positive and a
    negative image, of ``2 * m`` different patients, are all in the right order with a
    probability of at most ``area ** m``, hence ``low = ((1 - confidence) / 2) ** (1 / m)``.

    References
    ----------
    .. [1] E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson, "Comparing the Areas under Two or
       More Correlated Receiver Operating Characteristic Curves: A Nonparametric Approach",
       Biometrics 44(3), 1988, https://doi.org/10.2307/2531595
    .. [2] N. A. Obuchowski, "Nonparametric Analysis of Clustered ROC Curve Data", Biometrics
       53(2), 1997, https://doi.org/10.2307/2533958

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_cxr.metrics import roc_auc_interval
    >>> rng = np.random.RandomState(0)
    >>> patients = np.repeat(np.arange(100), 3)
    >>> y = np.repeat(rng.randint(2, size=100), 3)
    >>> score = y + np.repeat(rng.normal(size=100), 3) + 0.3 * rng.normal(size=300)
    >>> auc = roc_auc_interval(y, score, groups=patients)
    >>> print(f"{auc.estimate:.3f} ({auc.low:.3f} to {auc.high:.3f})")
    0.704 (0.604 to 0.803)
    >>> too_sure = roc_auc_interval(y, score)
    >>> print(f"{too_sure.estimate:.3f} ({too_sure.low:.3f} to {too_sure.high:.3f})")
    0.704 (0.645 to 0.762)
    """
    caller = "roc_auc_interval"
    positive, _ = check_positive(y, caller=caller, pos_label=pos_label)
    score = check_score(score, len(positive), caller=caller)
    codes, n_patients = check_patients(groups, len(positive), caller=caller)
    check_holders(positive, codes, n_patients, caller=caller)
    auc, deviations = placements(positive, score)
    if method == "delong" or auc in (0.0, 1.0):
        return interval_of_area(
            auc, positive, deviations, codes, n_patients, confidence, transform=transform
        )
    values = bootstrap_values(
        auc_kernel(positive, score),
        codes,
        n_patients,
        strata=patient_strata(positive, codes, n_patients, stratify="auto", caller=caller),
        n_resamples=n_resamples,
        random_state=check_random_state(random_state),
    )
    return summarise(auc, values, confidence, caller=caller)


class RocAucTestResult(NamedTuple):
    """The difference of two areas under the ROC curve, and how sure it is.

    Parameters
    ----------
    difference : float
        Area of the first score less that of the second.

    low : float
        Lower end of the interval of the difference.

    high : float
        Upper end of the interval of the difference.

    statistic : float
        Difference divided by its standard error; normal if there is no difference.

    pvalue : float
        Probability of a statistic at least as far from 0 if there is no difference.

    auc_a : float
        Area of the first score.

    auc_b : float
        Area of the second score.

    confidence : float
        Level of the interval.

    See Also
    --------
    roc_auc_test : The function that returns it.

    Examples
    --------
    >>> from sklearn_cxr.metrics import RocAucTestResult, roc_auc_test
    >>> result = roc_auc_test([0, 0, 1, 1], [1, 2, 3, 4], [1, 3, 2, 4])
    >>> isinstance(result, RocAucTestResult), result.auc_a, result.auc_b
    (True, 1.0, 0.75)
    """

    difference: float
    low: float
    high: float
    statistic: float
    pvalue: float
    auc_a: float
    auc_b: float
    confidence: float


@validate_params(
    {
        "y": ["array-like"],
        "a": ["array-like"],
        "b": ["array-like"],
        "groups": ["array-like", None],
        "confidence": _CONFIDENCE,
        "pos_label": "no_validation",
    },
    prefer_skip_nested_validation=True,
)
def roc_auc_test(y, a, b, *, groups=None, confidence=0.95, pos_label=None):
    """Compare the areas under the ROC curve of two scores of the same images.

    Both scores were given to the same patients, so that their areas rise and fall together.
    The test takes that into account, DeLong's [1]_ way for independent images and Obuchowski's
    [2]_ with `groups`.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Two classes; more of them together with `pos_label`.

    a : array-like of shape (n_samples,)
        First score, greater for images that are more likely positive.

    b : array-like of shape (n_samples,)
        Second score of the same images. Its scale may be another.

    groups : array-like of shape (n_samples,), default=None
        Patient id of each image. None stands for one patient per image.

    confidence : float, default=0.95
        Level of the interval, in (0, 1).

    pos_label : object, default=None
        The positive class. None stands for the greater of two labels.

    Returns
    -------
    RocAucTestResult
        Difference ``a - b`` with its interval, statistic, two-sided p-value and both areas.

    Raises
    ------
    ValueError
        If one class is absent, labels or scores are missing, lengths differ, or fewer than two
        patients have positive, or negative, images.

    See Also
    --------
    roc_auc_interval : One score alone.

    Notes
    -----
    Two scores that order the images alike have a difference of 0 with p-value 1. Where the
    difference is the same in every image (as between a perfect and a reversed score), or
    differences cancel out within each patient, no variance can be seen; statistic and p-value
    are NaN, and the interval is all of [-1, 1].

    Do not choose the better of many models by this test and report its p-value: it holds for
    two models that were named before the labels were looked at.

    References
    ----------
    .. [1] E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson, "Comparing the Areas under Two or
       More Correlated Receiver Operating Characteristic Curves: A Nonparametric Approach",
       Biometrics 44(3), 1988, https://doi.org/10.2307/2531595
    .. [2] N. A. Obuchowski, "Nonparametric Analysis of Clustered ROC Curve Data", Biometrics
       53(2), 1997, https://doi.org/10.2307/2533958

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_cxr.metrics import roc_auc_test
    >>> rng = np.random.RandomState(0)
    >>> patients = np.repeat(np.arange(100), 2)
    >>> y = np.repeat(rng.randint(2, size=100), 2)
    >>> finding = y + np.repeat(rng.normal(size=100), 2)
    >>> a, b = (finding + noise * rng.normal(size=200) for noise in (0.2, 1.5))
    >>> result = roc_auc_test(y, a, b, groups=patients)
    >>> print(f"{result.difference:.3f} ({result.low:.3f} to {result.high:.3f})")
    0.120 (0.044 to 0.196)
    >>> print(f"p = {result.pvalue:.3f}")
    p = 0.002
    """
    caller = "roc_auc_test"
    positive, _ = check_positive(y, caller=caller, pos_label=pos_label)
    a = check_score(a, len(positive), caller=caller, name="a")
    b = check_score(b, len(positive), caller=caller, name="b")
    codes, n_patients = check_patients(groups, len(positive), caller=caller)
    check_holders(positive, codes, n_patients, caller=caller)
    (auc_a, of_a), (auc_b, of_b) = placements(positive, a), placements(positive, b)
    difference = auc_a - auc_b
    variance = clustered_variance(positive, of_a - of_b, codes, n_patients)
    if variance > 0:
        _, low, high, _ = normal_interval(difference, variance, confidence, bounds=(-1.0, 1.0))
        statistic = difference / math.sqrt(variance)
        pvalue = float(2 * ndtr(-abs(statistic)))
    elif difference == 0 and not (of_a - of_b).any():
        low, high, statistic, pvalue = 0.0, 0.0, 0.0, 1.0
    else:
        low, high, statistic, pvalue = -1.0, 1.0, np.nan, np.nan
    return RocAucTestResult(difference, low, high, statistic, pvalue, auc_a, auc_b, confidence)
