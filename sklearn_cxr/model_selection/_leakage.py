"""A check of any split for patients who stand on both sides."""

import numpy as np

from sklearn_cxr.exceptions import PatientLeakageError
from sklearn_cxr.model_selection._groups import encode_groups, warn_of_alike_ids
from sklearn_cxr.utils._sklearn import _num_samples

_NAMED_PATIENTS = 5


def _as_rows(part, n_samples, where):
    """Check one part of a split and return its row numbers."""
    rows = np.asarray(part)
    if rows.ndim != 1 or rows.size == 0:
        raise ValueError(
            f"check_patient_leakage got {where} of shape {rows.shape}; expected a vector of at "
            "least one row number, or a mask."
        )
    if rows.dtype == bool:
        if len(rows) != n_samples or not rows.any():
            raise ValueError(
                f"check_patient_leakage got {where} as a mask of {len(rows)} values with "
                f"{rows.sum()} true; expected {n_samples} values, at least one true."
            )
        return np.flatnonzero(rows)
    if rows.dtype.kind not in "iu":
        raise ValueError(
            f"check_patient_leakage got {where} with dtype {rows.dtype}; expected row numbers "
            "(integers) or a mask (booleans)."
        )
    if rows.min() < 0 or rows.max() >= n_samples:
        raise ValueError(
            f"check_patient_leakage got {where} with row numbers from {rows.min()} to "
            f"{rows.max()}; expected 0 to {n_samples - 1}, as groups has {n_samples} entries."
        )
    return rows


def _is_vector(element):
    """Tell a part (its entries are scalars) from a fold (its entries are parts)."""
    return np.ndim(next(iter(element), 0)) == 0


def _as_folds(splits):
    """Return a list of (name of the fold, its parts by name)."""
    if hasattr(splits, "split") or isinstance(splits, str):
        raise TypeError(
            f"check_patient_leakage got {splits!r} for splits; expected the splits themselves: "
            "list(cv.split(X, y, groups)), or one array of row numbers per part."
        )
    if isinstance(splits, dict):
        return [("the split", {f"part {name!r}": part for name, part in splits.items()})]
    splits = list(splits)
    if not splits:
        raise ValueError(
            "check_patient_leakage got no split at all; an iterator may have been used up "
            "before. Pass list(cv.split(X, y, groups))."
        )
    if all(np.isscalar(element) for element in splits):
        # NumPy 2 would show np.str_('p1').
        shown = np.asarray(splits[0]).item()
        raise ValueError(
            f"check_patient_leakage got single values such as {shown!r} for splits; expected "
            "row numbers of each part, as in check_patient_leakage(groups, {'train': train_rows, "
            "'test': test_rows}) with the patients of all images in groups."
        )
    if all(_is_vector(element) for element in splits):
        return [("the split", {f"part {i}": part for i, part in enumerate(splits)})]
    folds = []
    for number, fold in enumerate(splits):
        parts = list(fold)
        names = ("train", "test") if len(parts) == 2 else [f"part {i}" for i in range(len(parts))]
        folds.append((f"fold {number}", dict(zip(names, parts, strict=True))))
    return folds


def check_patient_leakage(groups, splits):
    """Raise an error that names the patients who stand on more than one side of a split.

    Parameters
    ----------
    groups : array-like of shape (n_samples,)
        Patient id of each image: strings, integers or other hashable objects.

    splits : iterable
        Either folds, each a tuple of two or more parts such as ``(train, test)``, as
        ``cv.split(X, y, groups)`` yields them; or the parts of one split, as a sequence or a
        dict of them. A part is a vector of row numbers or a boolean mask over all rows.

    Returns
    -------
    n_checked : int
        Number of folds that were checked, 1 for the parts of one split.

    Raises
    ------
    PatientLeakageError
        If a patient stands in more than one part of a fold.

    ValueError
        If there is nothing to check, a part is empty, or row numbers do not fit `groups`.

    See Also
    --------
    sklearn_cxr.model_selection.patient_train_test_split : A split without leakage.
    sklearn_cxr.model_selection.MultilabelStratifiedGroupKFold : Folds without leakage.

    Examples
    --------
    >>> from sklearn.model_selection import GroupKFold
    >>> from sklearn_cxr.model_selection import check_patient_leakage
    >>> patients = ["a", "a", "b", "c"]
    >>> check_patient_leakage(patients, GroupKFold(3).split(patients, groups=patients))
    3
    >>> check_patient_leakage(
    ...     patients, {"train": [0, 2], "test": [1, 3]}
    ... )  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    sklearn_cxr.exceptions.PatientLeakageError: 1 patient stands in both part 'train' and part ...
    """
    n_samples = _num_samples(groups) if groups is not None else 0
    codes, patients = encode_groups(groups, n_samples, caller="check_patient_leakage")
    warn_of_alike_ids(patients, caller="check_patient_leakage")
    folds = _as_folds(splits)
    for fold, parts in folds:
        if len(parts) < 2:
            raise ValueError(
                f"check_patient_leakage got {len(parts)} part in {fold}; expected at least two "
                "to compare, such as (train, test)."
            )
        owner = np.full(len(patients), -1)
        for number, (name, part) in enumerate(parts.items()):
            present = np.unique(codes[_as_rows(part, n_samples, f"{name} of {fold}")])
            shared = present[owner[present] >= 0]
            if len(shared):
                first = owner[shared[0]]
                _raise_leakage(
                    fold, list(parts)[first], name, patients[shared[owner[shared] == first]]
                )
            owner[present] = number
    return len(folds)


def _raise_leakage(fold, first, second, patients):
    named = ", ".join(repr(patient) for patient in patients[:_NAMED_PATIENTS])
    more = len(patients) - _NAMED_PATIENTS
    raise PatientLeakageError(
        f"{len(patients)} patient{' stands' if len(patients) == 1 else 's stand'} in both "
        f"{first} and {second} of {fold}: {named}{f' and {more} more' if more > 0 else ''}. "
        "Split by patient: patient_train_test_split, or a cross-validation with groups."
    )
