"""Metrics of many resamples at once, from scores that are sorted only once and from counts.

Each function returns a function of the weights, an array (n_samples, n_resamples) that is
gathered from the patients' counts by row, which answers an array (..., n_resamples). A metric is
NaN where it is not defined.
"""

import numpy as np

from sklearn_cxr.metrics._thresholds import reaches


def _sorted_classes(positive, score, known):
    """Return rows of positive and of negative images, either by ascending score."""
    rows = [np.flatnonzero(known & kind) for kind in (positive, ~positive)]
    return [own[np.argsort(score[own], kind="stable")] for own in rows]


def _with_zero(cumulated):
    return np.concatenate([np.zeros((1, cumulated.shape[1])), cumulated])


def auc_kernel(positive, score, known=True):
    """Return the weighted area under the ROC curve as a function of the weights.

    Parameters
    ----------
    positive : ndarray of shape (n_samples,), dtype=bool
        True where the image is positive.

    score : ndarray of shape (n_samples,), dtype=float64
        The scores.

    known : bool or ndarray of shape (n_samples,), dtype=bool, default=True
        Which labels are known.

    Returns
    -------
    callable
        Takes ``gather``, a function that returns the weights of rows, and answers the areas.
    """
    up, down = _sorted_classes(positive, score, known)
    lower = np.searchsorted(score[down], score[up], side="left")
    upper = np.searchsorted(score[down], score[up], side="right")
    tied = bool((lower != upper).any())

    def areas(gather):
        weights, others = gather(up), _with_zero(np.cumsum(gather(down), axis=0))
        below = others[lower]
        if tied:
            below += others[upper]
            below *= 0.5
        right = np.einsum("ij,ij->j", weights, below)
        with np.errstate(invalid="ignore"):
            return right / (weights.sum(axis=0) * others[-1])

    return areas


def _called_kernel(positive, score, known, finish):
    """Return what `finish` makes of the images that are called positive.

    It gets the weights of the positive images, then, for the threshold at the score of each of
    these, the weights of positive and of negative images with at least that score, and the
    weights of all negative images.
    """
    up, down = _sorted_classes(positive, score, known)
    first_positive = np.searchsorted(score[up], score[up], side="left")
    first_negative = np.searchsorted(score[down], score[up], side="left")

    def values(gather):
        weights = gather(up)
        hits = _with_zero(np.cumsum(weights, axis=0))
        misses = _with_zero(np.cumsum(gather(down), axis=0))
        # At least this score: all less those before the first of its ties.
        found, false = hits[-1] - hits[first_positive], misses[-1] - misses[first_negative]
        with np.errstate(invalid="ignore", divide="ignore"):
            return finish(weights, found, false, misses[-1])

    return values


def average_precision_kernel(positive, score, known=True, *, both=False):
    """Return the weighted average precision as a function of the weights.

    Parameters
    ----------
    positive : ndarray of shape (n_samples,), dtype=bool
        True where the image is positive.

    score : ndarray of shape (n_samples,), dtype=float64
        The scores.

    known : bool or ndarray of shape (n_samples,), dtype=bool, default=True
        Which labels are known.

    both : bool, default=False
        Whether the average is undefined without negative images too.

    Returns
    -------
    callable
        Takes ``gather``, a function that returns the weights of rows, and answers the averages.
    """

    def finish(weights, found, false, negatives):
        precision = np.where(found > 0, found / (found + false), 0.0)
        averages = np.einsum("ij,ij->j", weights, precision) / weights.sum(axis=0)
        return np.where(negatives > 0, averages, np.nan) if both else averages

    return _called_kernel(positive, score, known, finish)


def constrained_kernel(positive, score, *, sensitivity=None, specificity=None):
    """Return the weighted sensitivity that keeps a specificity, or the other way round.

    Parameters
    ----------
    positive : ndarray of shape (n_samples,), dtype=bool
        True where the image is positive.

    score : ndarray of shape (n_samples,), dtype=float64
        The scores.

    sensitivity : float, default=None
        What is kept, for the specificity.

    specificity : float, default=None
        What is kept, for the sensitivity.

    Returns
    -------
    callable
        Takes ``gather``, a function that returns the weights of rows, and answers the shares.
    """

    def finish(weights, found, false, negatives):
        of_positive, of_negative = found / weights.sum(axis=0), (negatives - false) / negatives
        if specificity is not None:
            shares = np.where(reaches(of_negative, specificity), of_positive, 0.0).max(axis=0)
        elif reaches(0.0, sensitivity):
            shares = np.ones(weights.shape[1])
        else:
            shares = np.where(reaches(of_positive, sensitivity), of_negative, 0.0).max(axis=0)
        return np.where((weights.sum(axis=0) > 0) & (negatives > 0), shares, np.nan)

    return _called_kernel(positive, score, True, finish)


def mean_kernel(losses):
    """Return the weighted mean of what each image adds to a metric.

    Parameters
    ----------
    losses : ndarray of shape (n_samples,), dtype=float64
        One number per image.

    Returns
    -------
    callable
        Takes ``gather``, a function that returns the weights of rows, and answers the means.
    """
    rows = np.arange(len(losses))

    def means(gather):
        weights = gather(rows)
        return np.einsum("i,ij->j", losses, weights) / weights.sum(axis=0)

    return means


def f_kernel(positive, called, of_false, of_missed):
    """Return the share of hits beside false alarms and misses as a function of the weights.

    Parameters
    ----------
    positive : ndarray of shape (n_samples,), dtype=bool
        True where the image is positive.

    called : ndarray of shape (n_samples,), dtype=bool
        True where it is called so.

    of_false : float
        Weight of the false alarms: 1 for the precision, 0 for the recall, 0.5 for the F1 score.

    of_missed : float
        Weight of the misses: 0, 1 and 0.5.

    Returns
    -------
    callable
        Takes ``gather``, a function that returns the weights of rows, and answers the shares; 0
        where there is nothing to divide by, as scikit-learn does.
    """
    rows = np.arange(len(positive))
    kinds = np.stack([positive & called, ~positive & called, positive & ~called])
    kinds = kinds.astype(np.float64)

    def shares(gather):
        hits, false, missed = kinds @ gather(rows)
        total = hits + of_false * false + of_missed * missed
        return np.divide(hits, total, out=np.zeros_like(hits), where=total > 0)

    return shares


def balanced_accuracy_kernel(hits, codes):
    """Return the mean over the classes of the share that is right.

    Parameters
    ----------
    hits : ndarray of shape (n_samples,), dtype=bool
        True where the predicted class is right.

    codes : ndarray of shape (n_samples,), dtype=int
        Number of each image's class.

    Returns
    -------
    callable
        Takes ``gather``, a function that returns the weights of rows, and answers the means over
        the classes that are there.
    """
    rows = np.arange(len(hits))
    of_class = (codes == np.arange(codes.max() + 1)[:, None]).astype(np.float64)

    def means(gather):
        weights = gather(rows)
        right, total = (of_class * hits) @ weights, of_class @ weights
        each = np.divide(right, total, out=np.zeros_like(right), where=total > 0)
        return each.sum(axis=0) / (total > 0).sum(axis=0)

    return means


def stacked(kernels, average, *, skip_undefined=False):
    """Return several labels' kernels as one, their mean if `average` is "macro".

    With `skip_undefined` the mean is that of the labels that are defined in a resample.
    """

    def values(gather):
        each = np.stack([kernel(gather) for kernel in kernels])
        if average != "macro":
            return each
        if not skip_undefined:
            return each.mean(axis=0)
        defined = np.isfinite(each)
        with np.errstate(invalid="ignore"):
            return np.where(defined, each, 0.0).sum(axis=0) / defined.sum(axis=0)

    return values
