"""What `y` is: labels of one column, or several columns of 0, 1 and unknown."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length

from sklearn_cxr.utils._warn import warn


def is_multilabel(y):
    """Tell whether `y` has several columns, each a label of its own."""
    shape = getattr(y, "shape", None) if y is not None else None
    if shape is None and isinstance(y, list | tuple) and len(y):
        shape = np.shape(y[0]) if isinstance(y[0], list | tuple | np.ndarray) else ()
        return len(shape) == 1 and shape[0] > 1
    return shape is not None and len(shape) == 2 and shape[1] > 1


@dataclass(frozen=True)
class Labels:
    """Labels by number.

    Parameters
    ----------
    codes : ndarray of shape (n,), int, or (n, k), float
        Number of each image's class; or 0, 1 and NaN for each label.

    classes : ndarray
        Labels by number; for several columns their numbers.

    constant : ndarray of shape (k,) or None
        For several columns: the only value of a label that has one, else NaN.
    """

    codes: np.ndarray
    classes: np.ndarray
    constant: np.ndarray | None

    @property
    def exclusive(self):
        """Whether a softmax over several classes is asked for."""
        return self.constant is None and len(self.classes) > 2

    @property
    def n_outputs(self):
        """Number of logits: one for two classes, else one for each class or label."""
        return 1 if self.constant is None and len(self.classes) == 2 else len(self.classes)


def encode_classes(y, weight, caller):
    """Encode one column of labels by the numbers of its classes.

    Parameters
    ----------
    y : ndarray of shape (n,)
        Labels.

    weight : ndarray of shape (n,)
        Weights; images of weight 0 count as absent.

    caller : str
        Name of the estimator, for messages.

    Returns
    -------
    Labels
        The labels.

    Raises
    ------
    ValueError
        If there is one class only.
    """
    check_classification_targets(y)
    classes, codes = np.unique(y, return_inverse=True)
    present = np.unique(codes[weight > 0])
    if len(present) < 2:
        seen = classes[present].tolist() if len(present) else "none with a weight"
        raise ValueError(
            f"y holds one class only ({seen}): {caller} needs at least 2 classes. Check the "
            "labels, or the fold that these images come from."
        )
    return Labels(codes, classes, None)


def encode_part(y, classes, caller):
    """Encode the labels of a part of the data by the classes of the whole.

    Parameters
    ----------
    y : ndarray of shape (n,)
        Labels.

    classes : array-like or None
        All labels that will come.

    caller : str
        Name of the estimator, for messages.

    Returns
    -------
    Labels
        The labels.

    Raises
    ------
    ValueError
        If `classes` is None, fewer than 2, or lacks labels of `y`.
    """
    check_classification_targets(y)
    if classes is None:
        raise ValueError(
            f"{caller}.partial_fit needs classes=<all labels that will come> in its first call."
        )
    classes = np.unique(classes)
    if len(classes) < 2:
        raise ValueError(f"{caller} needs at least 2 classes, got one class: {classes.tolist()}.")
    strangers = np.setdiff1d(y, classes)
    if len(strangers):
        raise ValueError(
            f"y holds {strangers.tolist()}, but the classes of the first call of partial_fit are "
            f"{classes.tolist()}."
        )
    return Labels(np.searchsorted(classes, y), classes, None)


def encode_labels(y, n_samples, weight, caller, *, partial=False):
    """Check several columns of labels.

    Parameters
    ----------
    y : array-like of shape (n, k)
        0, 1, and NaN where not known.

    n_samples : int
        Number of images.

    weight : ndarray of shape (n,)
        Weights; images of weight 0 count as unknown.

    caller : str
        Name of the estimator, for messages.

    partial : bool, default=False
        Whether more data are to come, in which a label may have other values.

    Returns
    -------
    Labels
        The labels.

    Raises
    ------
    ValueError
        If there are other values, or a label is known of no image.

    Warns
    -----
    UserWarning
        If a label has one value only: that will be its constant prediction. If each image has
        exactly one label, as classes would.
    """
    try:
        codes = np.asarray(y.toarray() if issparse(y) else y).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{caller} takes several labels as columns of 0, 1 and NaN (unknown), got values that "
            f"are no numbers ({error})."
        ) from error
    if len(codes) != n_samples:
        check_consistent_length(np.empty(n_samples), codes)
    strange = codes[~np.isnan(codes) & (codes != 0) & (codes != 1)]
    if len(strange):
        raise ValueError(
            f"{caller} takes several labels as columns of 0, 1 and NaN (unknown), got "
            f"{strange[0]:g}. Say what other values mean: where -1 stands for unknown, give "
            "np.where(y == -1, np.nan, y)."
        )
    if partial:
        return Labels(codes, np.arange(codes.shape[1]), np.full(codes.shape[1], np.nan))
    if codes.shape[1] > 1 and len(codes) > 1 and (codes.sum(axis=1) == 1).all():
        warn(
            f"{caller} got y of shape {codes.shape} with exactly one 1 in each row, and takes it "
            "for labels that do not exclude each other. If they are classes, give "
            "y.argmax(axis=1).",
            UserWarning,
        )
    counted = codes[weight > 0]
    known = ~np.isnan(counted)
    nothing = np.flatnonzero(~known.any(axis=0))
    if len(nothing):
        raise ValueError(
            f"Label(s) {nothing.tolist()} of y are known of no image: {caller} cannot learn them. "
            "Leave these columns out."
        )
    low, high = (np.nanmin(counted, axis=0), np.nanmax(counted, axis=0))
    constant = np.where(low == high, low, np.nan)
    single = np.flatnonzero(low == high)
    if len(single):
        warn(
            f"Label(s) {single.tolist()} of y have one class only ({low[single].tolist()}): that "
            "is what will be predicted of every image.",
            UserWarning,
        )
    return Labels(codes, np.arange(codes.shape[1]), constant)


def check_same_task(labels, classes, constant, named, caller):
    """Hold the labels of a fit that goes on to those that it goes on from.

    Parameters
    ----------
    labels : Labels
        Of the present fit.

    classes : ndarray
        Classes of the fit before.

    constant : ndarray or None
        Its constant labels; None for one column.

    named : array-like or None
        Classes that the user named for the present fit.

    caller : str
        Name of the estimator, for messages.

    Raises
    ------
    ValueError
        If they differ.
    """
    same = np.array_equal(labels.classes, classes)
    if not same or (labels.constant is None) != (constant is None):
        raise ValueError(
            f"{caller} goes on from a fit on the classes {classes.tolist()}, but y now has "
            f"{labels.classes.tolist()}. Keep the classes, or clone the estimator to start anew."
        )
    if named is not None and not np.array_equal(np.unique(named), classes):
        raise ValueError(
            f"{caller}.partial_fit got classes={np.asarray(named).tolist()}, but the first call "
            f"named {classes.tolist()}. Name the same, or clone the estimator to start anew."
        )


def check_known(y, classes):
    """Raise where none of the labels of `y` is one of the fit's: they are of another type.

    Parameters
    ----------
    y : array-like of shape (n,)
        Labels.

    classes : ndarray of shape (n_classes,)
        Labels of the fit.

    Raises
    ------
    ValueError
        If there is none.
    """
    y = np.asarray(y)
    if y.ndim == 1 and len(y) and not np.isin(y, classes).any():
        raise ValueError(
            f"None of the labels of y ({np.unique(y)[:5].tolist()}, {y.dtype}) is among those of "
            f"the fit ({classes[:5].tolist()}, {classes.dtype}). Give labels of the same type."
        )


def subset_score(y_true, y_pred, weight=None):
    """Share of the images all of whose known labels are predicted right.

    Parameters
    ----------
    y_true : array-like of shape (n, k)
        0, 1 and NaN; an image of which nothing is known does not count.

    y_pred : ndarray of shape (n, k)
        0 and 1.

    weight : array-like of shape (n,) or None, default=None
        Weights.

    Returns
    -------
    float
        The share.
    """
    y_true = np.asarray(y_true.toarray() if issparse(y_true) else y_true, dtype=np.float64)
    known = ~np.isnan(y_true)
    right = ((y_true == y_pred) | ~known).all(axis=1)
    counted = known.any(axis=1)
    if not counted.any():
        raise ValueError("All of y is NaN: there is no known label to score against.")
    weight = np.ones(len(right)) if weight is None else np.asarray(weight, dtype=np.float64)
    return float(np.average(right[counted], weights=weight[counted]))
