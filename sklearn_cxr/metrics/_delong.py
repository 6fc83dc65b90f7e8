"""The area under the ROC curve and its variance, DeLong's and, by patient, Obuchowski's."""

import numpy as np
from scipy.stats import rankdata

from sklearn_cxr.metrics._interval import Interval, logit_interval, normal_interval


def placements(positive, score):
    """Return the area under the curve and each image's share in it, in O(n log n).

    Parameters
    ----------
    positive : ndarray of shape (n_samples,), dtype=bool
        True where the image is positive; both kinds are there.

    score : ndarray of shape (n_samples,), dtype=float64
        The scores.

    Returns
    -------
    auc : float
        Share of pairs in the right order, ties counted half.

    deviations : ndarray of shape (n_samples,), dtype=float64
        The same share among the pairs of each image, less `auc`.

    References
    ----------
    X. Sun, W. Xu, "Fast Implementation of DeLong's Algorithm for Comparing the Areas Under
    Correlated Receiver Operating Characteristic Curves", IEEE Signal Processing Letters 21(11),
    2014, https://doi.org/10.1109/LSP.2014.2337313
    """
    within = np.empty(len(score))
    within[positive] = rankdata(score[positive])
    within[~positive] = rankdata(score[~positive])
    # How many of the other class have a lower score, ties half: a multiple of 1/2, hence exact.
    below = rankdata(score) - within
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    auc = float(below[positive].sum() / (n_positive * n_negative))
    shares = np.where(positive, below / n_negative, 1 - below / n_positive)
    return auc, shares - auc


def patient_sums(positive, deviations, codes, n_patients):
    """Sum deviations by patient, those of positive and of negative images apart.

    Parameters
    ----------
    positive : ndarray of shape (n_samples,), dtype=bool
        True where the image is positive.

    deviations : ndarray of shape (n_samples,), dtype=float64
        Of one score, or differences between those of two.

    codes : ndarray of shape (n_samples,), dtype=int64 or None
        Number of each image's patient; None for one patient per image.

    n_patients : int
        Number of patients.

    Returns
    -------
    of_positives, of_negatives : ndarray of shape (n_patients,), dtype=float64
        Sums, divided by the number of positive and of negative images.

    holders : tuple of int
        Number of patients that have positive and that have negative images.
    """
    codes = np.arange(len(positive)) if codes is None else codes
    sums, holders = [], []
    for rows in (positive, ~positive):
        own = codes[rows]
        sums.append(np.bincount(own, weights=deviations[rows], minlength=n_patients) / len(own))
        holders.append(int((np.bincount(own, minlength=n_patients) > 0).sum()))
    return sums[0], sums[1], tuple(holders)


def clustered_variance(positive, deviations, codes, n_patients):
    """Return the variance of an area under the curve, or of the difference of two.

    Parameters
    ----------
    positive : ndarray of shape (n_samples,), dtype=bool
        True where the image is positive; both kinds are there for two patients at least.

    deviations : ndarray of shape (n_samples,), dtype=float64
        From `placements`; the differences of two scores give the variance of their difference.

    codes : ndarray of shape (n_samples,), dtype=int64 or None
        Number of each image's patient; None for one patient per image, which is DeLong's
        variance.

    n_patients : int
        Number of patients.

    Returns
    -------
    float
        The variance.

    References
    ----------
    N. A. Obuchowski, "Nonparametric Analysis of Clustered ROC Curve Data", Biometrics 53(2),
    1997, https://doi.org/10.2307/2533958
    """
    of_positives, of_negatives, holders = patient_sums(positive, deviations, codes, n_patients)
    variance = sum(
        n / (n - 1) * float(part @ part)
        for n, part in zip(holders, (of_positives, of_negatives), strict=True)
    )
    apart = variance
    variance += 2 * n_patients / (n_patients - 1) * float(of_positives @ of_negatives)
    # Where patients cancel out, what is left is rounding, of either sign: both factors above are
    # at least the last one.
    return variance if variance > 1e-12 * apart else 0.0


def separable_pairs(positive, codes, n_patients):
    """Return how many pairs of a positive and a negative image can be made of other patients."""
    if codes is None:
        n_positive = int(positive.sum())
        return min(n_positive, len(positive) - n_positive)
    holders = [len(np.unique(codes[rows])) for rows in (positive, ~positive)]
    return min(*holders, n_patients // 2)


def interval_of_area(auc, positive, deviations, codes, n_patients, confidence, *, transform=None):
    """Return the interval of an area from its variance, or the exact one where that is 0.

    Parameters
    ----------
    auc : float
        The area.

    positive : ndarray of shape (n_samples,), dtype=bool
        True where the image is positive.

    deviations : ndarray of shape (n_samples,), dtype=float64
        From `placements`.

    codes : ndarray of shape (n_samples,), dtype=int64 or None
        Number of each image's patient; None for one patient per image.

    n_patients : int
        Number of patients.

    confidence : float
        Level of the interval.

    transform : {"logit"} or None, default=None
        As of `roc_auc_interval`.

    Returns
    -------
    Interval
        The area with its interval, NaN where no variance can be seen.
    """
    if auc in (0.0, 1.0):
        pairs = separable_pairs(positive, codes, n_patients)
        end = ((1 - confidence) / 2) ** (1 / pairs)
        low, high = (end, 1.0) if auc == 1 else (0.0, 1 - end)
        return Interval(auc, low, high, confidence)
    variance = clustered_variance(positive, deviations, codes, n_patients)
    if variance == 0 and deviations.any():
        # Errors of patients that cancel out say nothing; one score for all is known to be useless.
        return Interval(auc, np.nan, np.nan, confidence)
    if transform == "logit":
        return logit_interval(auc, variance, confidence)
    return normal_interval(auc, variance, confidence, bounds=(0.0, 1.0))
