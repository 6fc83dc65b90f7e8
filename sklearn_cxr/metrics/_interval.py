"""An estimate with its interval, and the interval of a share of images counted by patient."""

import math
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri


class Interval(NamedTuple):
    """An estimate and the two ends of its confidence interval.

    Parameters
    ----------
    estimate : float or ndarray
        The value on the data at hand. An array where a metric answers one value per label.

    low : float or ndarray
        Lower end of the interval.

    high : float or ndarray
        Upper end of the interval.

    confidence : float
        Share of studies, each with other patients of the same kind, whose interval would
        contain the true value; in (0, 1).

    See Also
    --------
    roc_auc_interval : Area under the ROC curve with its interval.
    bootstrap_interval : Any metric with its interval.

    Examples
    --------
    >>> from sklearn_cxr.metrics import Interval
    >>> auc = Interval(estimate=0.91, low=0.88, high=0.94, confidence=0.95)
    >>> f"{auc.estimate:.2f} ({auc.low:.2f} to {auc.high:.2f})"
    '0.91 (0.88 to 0.94)'
    """

    estimate: float
    low: float
    high: float
    confidence: float


def two_sided_z(confidence):
    """Return how many standard errors a two-sided normal interval reaches to either side."""
    return float(ndtri((1 + confidence) / 2))


def normal_interval(estimate, variance, confidence, *, bounds):
    """Return estimate and interval of an estimator that is normal, cut at its bounds.

    Parameters
    ----------
    estimate : float
        The estimate.

    variance : float
        Its variance.

    confidence : float
        Level of the interval.

    bounds : tuple of float
        Least and greatest possible value.

    Returns
    -------
    Interval
        The estimate with its interval.
    """
    reach = two_sided_z(confidence) * math.sqrt(variance)
    low, high = max(bounds[0], estimate - reach), min(bounds[1], estimate + reach)
    return Interval(float(estimate), float(low), float(high), confidence)


def logit_interval(estimate, variance, confidence):
    """Return estimate and interval of a share that is normal on the scale of log odds."""
    slope = estimate * (1 - estimate)
    reach = two_sided_z(confidence) * math.sqrt(variance) / slope
    centre = math.log(estimate / (1 - estimate))
    low, high = (1 / (1 + math.exp(-(centre + side * reach))) for side in (-1, 1))
    return Interval(float(estimate), low, high, confidence)


def wilson_interval(share, n, confidence):
    """Return the score interval of Wilson (1927); `n` may be an effective, fractional number."""
    z2 = two_sided_z(confidence) ** 2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    reach = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n**2))) / (1 + z2 / n)
    # At a share of 0 or 1 that end is exact; the square root leaves 1e-17.
    low = 0.0 if share <= 0 else max(0.0, centre - reach)
    high = 1.0 if share >= 1 else min(1.0, centre + reach)
    return Interval(float(share), float(low), float(high), confidence)


def share_interval(hits, codes, n_patients, confidence):
    """Return the share of hits with an interval that knows whose image each one is.

    Wilson's interval at the effective number of images: their number divided by the design
    effect of Rao and Scott (1992), the ratio of the variance between patients to that of
    independent images. A design effect below 1 is taken as 1. Without a miss, or without a hit,
    it cannot be seen; each patient then counts as one image.

    Parameters
    ----------
    hits : ndarray of shape (n_samples,), dtype=bool
        What is counted.

    codes : ndarray of shape (n_samples,), dtype=int64 or None
        Number of each image's patient. None for independent images.

    n_patients : int
        Number of patients, of which some may have no image here.

    confidence : float
        Level of the interval.

    Returns
    -------
    Interval
        The share with its interval.
    """
    n = len(hits)
    share = int(hits.sum()) / n
    if codes is None:
        return wilson_interval(share, n, confidence)
    sizes = np.bincount(codes, minlength=n_patients)
    present = int((sizes > 0).sum())
    if share in (0.0, 1.0):
        return wilson_interval(share, present, confidence)
    deviations = share_deviations(hits, codes, n_patients)
    variance = (
        present / (present - 1) * float(deviations @ deviations) if present > 1 else math.inf
    )
    effect = max(1.0, variance / (share * (1 - share) / (n - 1)))
    return wilson_interval(share, max(n / effect, 1.0), confidence)


def share_deviations(hits, codes, n_patients):
    """Return what each patient adds to the error of a share, shape (n_patients,)."""
    share = hits.mean()
    return np.bincount(codes, weights=hits - share, minlength=n_patients) / len(hits)
