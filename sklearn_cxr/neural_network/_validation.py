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
            "groups=patients.",
            LeakageRiskWarning,
        )
        groups = rows
    return patient_train_test_split(
        rows, groups=groups, test_size=fraction, stratify=codes, random_state=rng
    )
