"""One hold-out split by patient."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_random_state, indexable

from sklearn_cxr.model_selection._allocation import Allocation
from sklearn_cxr.model_selection._groups import (
    count_by_patient,
    describe_column,
    encode_groups,
    label_indicators,
    warn_of_alike_ids,
)
from sklearn_cxr.utils._sklearn import Interval, _num_samples, _safe_indexing, validate_params
from sklearn_cxr.utils._warn import warn

_RESTARTS = 30
_GOOD_ENOUGH = (0.001, 0.005)
_FEW_PATIENTS = 200
# Of the class shares in shares of images; of the size as a part of the smaller side, or an image.
_TOLERATED_SHARE = 0.02
_TOLERATED_SIZE = 0.1


def _test_share(test_size, n_samples, n_patients):
    """Return the share of the images that the test side is to hold."""
    if n_patients < 2:
        raise ValueError(
            f"patient_train_test_split got {n_samples} images of {n_patients} patient; expected "
            "at least two patients, one for each side."
        )
    share = test_size if isinstance(test_size, Real) and test_size < 1 else test_size / n_samples
    if share >= 1:
        raise ValueError(
            f"patient_train_test_split got test_size={test_size} for {n_samples} images; expected "
            f"at most {n_samples - 1}, or a share between 0 and 1."
        )
    return float(share)


def _draw_test_patients(sizes, share, random_state):
    """Draw patients at random until the test side holds its share, at least one a side."""
    order = random_state.permutation(len(sizes))
    filled = np.cumsum(sizes[order])
    # The patient that crosses the border joins the test side when that comes nearer.
    n_test = int(np.argmin(np.abs(filled - share * sizes.sum()))) + 1
    parts = np.zeros(len(sizes), dtype=np.int64)
    parts[order[: min(n_test, len(sizes) - 1)]] = 1
    return parts


def _deviations(test, totals, share):
    """Return how far both sides are from their size and their class shares.

    Parameters
    ----------
    test : ndarray of shape (..., 1 + n_columns)
        Images on the test side, in all and per column.

    totals : ndarray of shape (1 + n_columns,)
        The same for the whole data set.

    share : float
        Wanted share of the images on the test side.

    Returns
    -------
    size : ndarray of shape (...)
        Difference of the test side from its wanted share of all images.

    classes : ndarray of shape (..., 2, n_columns)
        Difference of the class shares of each side (training, test) from those of the whole.
    """
    sides = np.stack([totals - test, test], axis=-2)
    size = np.abs(test[..., 0] / totals[0] - share)
    class_shares = sides[..., 1:] / np.maximum(sides[..., :1], 1)
    return size, np.abs(class_shares - totals[1:] / totals[0])


def _badness(test, totals, share, spreadable):
    """Return the deviation of size and shares, above all the number of classes absent."""
    size, classes = _deviations(test, totals, share)
    worst = classes.max(axis=(-2, -1), initial=0.0)
    smaller = min(share, 1 - share)
    relative = size / smaller
    # In this order: no class is absent, the size is tolerable, the shares are, both are small.
    size_excess = np.maximum(relative - max(_TOLERATED_SIZE, 1 / (smaller * totals[0])), 0)
    share_excess = np.maximum(worst - _TOLERATED_SHARE, 0)
    absent = (((test == 0) | (test == totals)) & spreadable).sum(axis=-1)
    badness = 1000 * absent + 100 * size_excess + 10 * share_excess + 0.2 * relative + worst
    return np.round(badness, 9)


def _polish(in_test, images, share, spreadable, enough):
    """Move or exchange patients as long as the deviations get smaller.

    Parameters
    ----------
    in_test : ndarray of shape (n_patients,), dtype=bool
        Patients on the test side to begin with.

    images : ndarray of shape (n_patients, 1 + n_columns)
        Images of each patient, in all and per column.

    share : float
        Wanted share of the images on the test side.

    spreadable : ndarray of shape (1 + n_columns,), dtype=bool
        Columns that have to stand on both sides.

    enough : float
        What `_badness` may say for the search to end.

    Returns
    -------
    in_test : ndarray of shape (n_patients,), dtype=bool
        Patients on the test side in the end.

    badness : float
        What `_badness` says of it.
    """
    totals = images.sum(axis=0)
    in_test = in_test.copy()
    now = float(_badness(images[in_test].sum(axis=0), totals, share, spreadable))
    while now >= enough:
        ours, theirs = np.flatnonzero(in_test), np.flatnonzero(~in_test)
        # A row of zeros stands for nobody: an exchange with nobody is a move.
        gone = np.vstack([images[ours], np.zeros_like(totals)])
        come = np.vstack([images[theirs], np.zeros_like(totals)])
        test = images[ours].sum(axis=0) - gone[:, None] + come[None, :]
        badness = _badness(test, totals, share, spreadable)
        leaver, comer = np.unravel_index(badness.argmin(), badness.shape)
        if badness[leaver, comer] >= now:
            break
        now = float(badness[leaver, comer])
        in_test[ours[leaver : leaver + 1]] = False
        in_test[theirs[comer : comer + 1]] = True
    return in_test, now


def _assign_sides(sizes, counts, share, random_state):
    """Return the best of several improved random assignments of patients to train and test."""
    images = np.column_stack([sizes, counts]).astype(np.float64)
    totals = images.sum(axis=0)
    # On a side of fewer patients than classes, the size goes before the presence of all.
    spread = min(share, 1 - share) * len(sizes) >= counts.shape[1]
    spreadable = (images > 0).sum(axis=0) >= 2
    spreadable[1:] &= spread
    # One image on the smaller side, where that is neither much nor next to nothing.
    enough = float(np.clip(1 / (min(share, 1 - share) * totals[0]), *_GOOD_ENOUGH))
    best, lowest = None, np.inf
    for _ in range(_RESTARTS):
        shares = np.array([1 - share, share])
        allocation = Allocation(sizes, counts, shares, random_state, spread=spread)
        allocation.start(_draw_test_patients(sizes, share, random_state)).improve()
        in_test = allocation.parts == 1
        if len(sizes) <= _FEW_PATIENTS:
            in_test, badness = _polish(in_test, images, share, spreadable, enough)
        else:
            badness = float(_badness(images[in_test].sum(axis=0), totals, share, spreadable))
        if badness < lowest:
            best, lowest = in_test, badness
        if lowest < enough:
            break
    return best


def _warn_about_deviations(in_test, sizes, counts, names, share):
    """Warn once when patients are too few or too large for what was asked."""
    images = np.column_stack([sizes, counts])
    totals, test = images.sum(axis=0), images[in_test].sum(axis=0)
    size, classes = _deviations(test, totals, share)
    found = []
    # Whole patients round as images do: a typical patient's images are no news.
    tolerated = _TOLERATED_SIZE * min(share, 1 - share) * totals[0]
    if size * totals[0] > max(tolerated, np.median(sizes)):
        found.append(
            f"the test side holds {test[0]:.0f} images instead of {share * totals[0]:.0f}"
        )
    for side, held in enumerate((totals - test, test)):
        side_name = ("training", "test")[side]
        for column, name in enumerate(names):
            unit = np.median(counts[counts[:, column] > 0, column])
            if held[1 + column] == 0:
                found.append(f"the {side_name} side has no {describe_column(name)}")
            elif classes[side, column] * held[0] > max(_TOLERATED_SHARE * held[0], unit):
                found.append(
                    f"the share of {describe_column(name)} on the {side_name} side is "
                    f"{held[1 + column] / held[0]:.1%} instead of "
                    f"{totals[1 + column] / totals[0]:.1%}"
                )
    if found:
        warn(
            f"With whole patients on either side, {'; '.join(found)}. Nearer was not found: few "
            "patients hold many of these images.",
            UserWarning,
        )


@validate_params(
    {
        "test_size": [
            Interval(Real, 0, 1, closed="neither"),
            Interval(Integral, 1, None, closed="left"),
        ],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def patient_train_test_split(*arrays, groups, test_size=0.2, stratify=None, random_state=None):
    """Split arrays into a training and a test side with no patient on both.

    Patients are drawn at random; then patients are moved and exchanged until the test side has
    its size and, with `stratify`, both sides have the class shares of the whole, as near as
    whole patients allow. The best of several draws is returned.

    Parameters
    ----------
    *arrays : sequence of array-likes with the same length
        What is split by rows: image arrays of any shape, lists, paths, DataFrames, Series,
        sparse matrices. Pass `groups` here as well to get each side's patient ids.

    groups : array-like of shape (n_samples,)
        Patient id of each image: strings, integers or other hashable objects.

    test_size : float or int, default=0.2
        Share of the images for the test side, in (0, 1), or their number, at least 1 and below
        the number of images.

    stratify : array-like of shape (n_samples,) or (n_samples, n_labels), default=None
        Labels whose shares both sides are to keep: one class per image, or a matrix of 0, 1
        and NaN (unknown). A patient's images may have different labels.

    random_state : int, RandomState instance or None, default=None
        Governs the draw. Pass an int for the same split at every call.

    Returns
    -------
    splitting : list of length 2 * len(arrays)
        Training and test side of each array in turn, of the array's own type, with the rows in
        their order.

    Raises
    ------
    ValueError
        If nothing is passed to split, lengths differ, a patient id is missing, there is only
        one patient, or `test_size` leaves nothing for training.

    Warns
    -----
    UserWarning
        If a class share is off by more than 2 percentage points, or the size by more than a
        tenth of the smaller side, and both by more than a typical patient's images; or if a
        class is absent from one side.

    See Also
    --------
    sklearn_cxr.model_selection.MultilabelStratifiedGroupKFold : Folds instead of one split.
    sklearn_cxr.model_selection.check_patient_leakage : Check any split for shared patients.
    sklearn.model_selection.train_test_split : The same by images.

    Examples
    --------
    >>> from sklearn_cxr.model_selection import patient_train_test_split
    >>> paths = ["a1.png", "a2.png", "b1.png", "c1.png", "c2.png", "d1.png"]
    >>> y = ["ill", "ill", "ill", "well", "well", "well"]
    >>> patients = ["a", "a", "b", "c", "c", "d"]
    >>> train, test, y_train, y_test = patient_train_test_split(
    ...     paths, y, groups=patients, test_size=2, stratify=y, random_state=0
    ... )
    >>> test, y_test
    (['b1.png', 'd1.png'], ['ill', 'well'])
    """
    if not arrays or any(array is None for array in arrays):
        raise ValueError(
            f"patient_train_test_split got {'None' if arrays else 'no array'} to split; pass at "
            "least one array, list or DataFrame with one row per image, and no None."
        )
    arrays = indexable(*arrays)
    n_samples = _num_samples(arrays[0])
    caller = "patient_train_test_split"
    codes, patients = encode_groups(groups, n_samples, caller=caller)
    warn_of_alike_ids(patients, caller=caller)
    share = _test_share(test_size, n_samples, len(patients))
    indicators, names = np.empty((n_samples, 0), dtype=bool), []
    if stratify is not None:
        indicators, names = label_indicators(stratify, n_samples, caller=caller)
        present = indicators.any(axis=0)
        indicators = indicators[:, present]
        names = [name for name, keep in zip(names, present, strict=True) if keep]
    sizes, counts = count_by_patient(codes, len(patients), indicators)
    test_patients = _assign_sides(sizes, counts, share, check_random_state(random_state))
    _warn_about_deviations(test_patients, sizes, counts, names, share)
    in_test = test_patients[codes]
    sides = np.flatnonzero(~in_test), np.flatnonzero(in_test)
    return [_safe_indexing(array, side) for array in arrays for side in sides]
