"""The images that a fit keeps aside to judge its epochs by, patient by patient."""

import numpy as np

from sklearn_cxr.exceptions import LeakageRiskWarning
from sklearn_cxr.model_selection import patient_train_test_split
from sklearn_cxr.utils._warn import warn


def hold_out(codes, groups, fraction, rng, *, caller):
    """Split the rows of a fit into those that train and those that judge.

    Parameters
    ----------
    codes : ndarray of shape (n,), int, or (n, k), float
        Labels, whose shares both sides keep.

    groups : array-like of shape (n,) or None
        Patients. Without them images are split, with a warning.

    fraction : float
        Share of the images that judge, in (0, 1).

    rng : RandomState
        Governs the split.

    caller : str
        Name of the estimator, for messages.

    Returns
    -------
    train, valid : ndarray of int
        Row numbers.

    Warns
    -----
    LeakageRiskWarning
        If there are no groups.
    """
    rows = np.arange(len(codes))
    if groups is None:
        warn(
            f"{caller} holds out images for validation and got no groups: images of one patient "
            "may stand on both sides, which makes every epoch look better than it is. Give "
            "groups=patients; through a Pipeline they have the step's name, as in "
            "fit(X, y, classify__groups=patients).",
            LeakageRiskWarning,
        )
        groups = rows
    return patient_train_test_split(
        rows, groups=groups, test_size=fraction, stratify=codes, random_state=rng
    )


def check_groups(groups, n_samples, caller):
    """Raise where there are groups, but not one for each image; also where nobody needs them.

    Parameters
    ----------
    groups : array-like or None
        Patients.

    n_samples : int
        Number of images.

    caller : str
        Name of the estimator, for messages.

    Raises
    ------
    ValueError
        If the numbers differ.
    """
    if groups is not None and len(groups) != n_samples:
        raise ValueError(
            f"{caller} got {len(groups)} patient ids in groups for {n_samples} images; expected "
            "one id per image."
        )


def check_sides(codes, weight, sides, *, caller):
    """Raise where one of two sides has nothing to learn or to judge by.

    Parameters
    ----------
    codes : ndarray of shape (n,), int, or (n, k), float
        Labels; NaN where unknown.

    weight : ndarray of shape (n,)
        Weights of the images.

    sides : tuple of (ndarray, ndarray)
        Row numbers that train and that judge.

    caller : str
        Name of the estimator, for messages.

    Raises
    ------
    ValueError
        If no image of a side has a weight and a known label.
    """
    counted = weight > 0
    if codes.ndim == 2:
        counted &= ~np.isnan(codes).all(axis=1)
    for rows, what in zip(sides, ("trains", "is held out"), strict=True):
        if not counted[rows].any():
            raise ValueError(
                f"{caller} split its images, and none of the {len(rows)} that {what} has both a "
                "known label and a weight above 0. Leave out images without, or change "
                "validation_fraction."
            )
