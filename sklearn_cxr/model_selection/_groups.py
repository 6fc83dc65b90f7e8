"""Patients and labels of a data set, as the counts that a patient-wise split works on."""

from numbers import Real

import numpy as np
import pandas as pd
from scipy.sparse import issparse

from sklearn_cxr.exceptions import LeakageRiskWarning
from sklearn_cxr.utils._ids import plain_id
from sklearn_cxr.utils._warn import warn


def encode_groups(groups, n_samples, *, caller):
    """Give the patients numbers in the order in which they appear.

    Parameters
    ----------
    groups : array-like of shape (n_samples,)
        Patient ids: strings, integers or any other hashable objects.

    n_samples : int
        Number of images.

    caller : str
        What the user called, for the error messages.

    Returns
    -------
    codes : ndarray of shape (n_samples,), dtype=int64
        Number of each image's patient.

    patients : ndarray of shape (n_patients,), dtype=object
        The ids by number.

    Raises
    ------
    ValueError
        If ids are absent or missing, or their number is not that of the images.
    """
    if groups is None:
        raise ValueError(
            f"{caller} splits by patient and got groups=None; pass groups=<one patient id "
            "per image>."
        )
    if isinstance(groups, list) and any(isinstance(group, tuple) for group in groups):
        # Pairs such as (hospital, number) are ids, not columns.
        ids = np.fromiter(groups, dtype=object, count=len(groups))
    else:
        # A list of 1 and "1" must stay two patients: only an object array keeps both.
        ids = np.asarray(groups, dtype=object)
    if ids.ndim == 2 and ids.shape[1] == 1:
        ids = ids[:, 0]
    if ids.ndim != 1:
        raise ValueError(
            f"{caller} got groups of shape {ids.shape}; expected one patient id per image, "
            "shape (n_samples,)."
        )
    if len(ids) != n_samples:
        raise ValueError(
            f"{caller} got {len(ids)} patient ids in groups for {n_samples} images; expected "
            "one id per image."
        )
    codes, patients = pd.factorize(ids, use_na_sentinel=True)
    missing = np.flatnonzero(codes < 0)
    if len(missing):
        raise ValueError(
            f"{caller} got {len(missing)} images without a patient id (first in row "
            f"{missing[0]}: {ids[missing[0]]!r}); give every image an id, a unique one where "
            "the patient is not known, or leave these images out."
        )
    return codes.astype(np.int64), np.asarray(patients, dtype=object)


def warn_of_alike_ids(patients, *, caller):
    """Warn where two ids differ in spaces, leading zeros or type only.

    Parameters
    ----------
    patients : array-like of shape (n_patients,)
        Ids, each once.

    caller : str
        What the user called, for the message.
    """
    spellings = {}
    for patient in patients:
        spellings.setdefault(plain_id(patient), []).append(patient)
    alike = [ids for ids in spellings.values() if len(ids) > 1]
    if alike:
        warn(
            f"{caller}: {len(alike)} patients have ids that differ in zeros, spaces or type only, "
            f"such as {alike[0][0]!r} and {alike[0][1]!r}, and count as different patients. If "
            "they are one, write its id in one way; if not, put a letter before some.",
            LeakageRiskWarning,
        )


def _matrix_indicators(y, caller):
    """Return one column per label and value (positive, negative) of a 0/1/NaN matrix."""
    if issparse(y):
        y = y.toarray()
    values = y if isinstance(y, np.ndarray) else np.asarray(y, dtype=object)
    if values.dtype == object:
        values = np.where(pd.isna(values), np.nan, values)
    try:
        values = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{caller} got a label matrix that is not numeric ({error}); expected 0, 1 or NaN "
            "(unknown) in every cell."
        ) from error
    strange = np.unique(values[~np.isnan(values) & (values != 0) & (values != 1)])
    if len(strange):
        raise ValueError(
            f"{caller} got a label matrix with the values {strange[:5].tolist()}; expected 0, 1 "
            "or NaN (unknown) in every cell."
        )
    n_labels = values.shape[1]
    indicators = np.concatenate([values == 1, values == 0], axis=1)
    names = [(label, 1) for label in range(n_labels)] + [(label, 0) for label in range(n_labels)]
    return indicators, names


def label_indicators(y, n_samples, *, caller):
    """Turn labels into one boolean column per class, or per label and value.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_labels)
        One class per image, or a matrix of 0, 1 and NaN. Unknown labels are NaN or None.

    n_samples : int
        Number of images.

    caller : str
        What the user called, for the error messages.

    Returns
    -------
    indicators : ndarray of shape (n_samples, n_columns), dtype=bool
        True where the image is known to belong to the column.

    names : list
        The class of each column, or (index of the label, value) for a matrix.

    Raises
    ------
    ValueError
        If the labels have another shape or length, or are not classes.
    """
    if y is None:
        raise ValueError(f"{caller} keeps class shares and got y=None; pass the labels.")
    shape = np.shape(y)
    if len(shape) not in (1, 2) or shape[0] != n_samples:
        raise ValueError(
            f"{caller} got labels of shape {shape} for {n_samples} images; expected "
            f"({n_samples},) or ({n_samples}, n_labels)."
        )
    if len(shape) == 2 and shape[1] > 1:
        return _matrix_indicators(y, caller)
    # A list of strings with NaN stays mixed only in an object array.
    values = y if isinstance(y, np.ndarray) else np.asarray(y, dtype=object)
    codes, classes = pd.factorize(values.reshape(-1), use_na_sentinel=True)
    if not len(classes):
        raise ValueError(f"{caller} got labels that are all unknown (NaN or None).")
    fractions = [c for c in classes if isinstance(c, Real) and not float(c).is_integer()]
    if fractions:
        raise ValueError(
            f"{caller} got continuous labels such as {fractions[0]!r}; expected classes. Bin "
            "them first if a split is to keep their distribution."
        )
    return codes[:, None] == np.arange(len(classes)), list(classes)


def describe_column(name):
    """Return a column of `label_indicators` in words."""
    if isinstance(name, tuple):
        label, value = name
        return f"label {label} {'positive' if value else 'negative'}"
    # NumPy 2 would show np.str_('viral').
    return f"class {getattr(name, 'item', lambda: name)()!r}"


def count_by_patient(codes, n_patients, indicators):
    """Count images per patient, in all and per column.

    Parameters
    ----------
    codes : ndarray of shape (n_samples,)
        Number of each image's patient.

    n_patients : int
        Number of patients.

    indicators : ndarray of shape (n_samples, n_columns), dtype=bool
        Columns of `label_indicators`; without any column only the images are counted.

    Returns
    -------
    sizes : ndarray of shape (n_patients,), dtype=int64
        Images of each patient.

    counts : ndarray of shape (n_patients, n_columns), dtype=float64
        Images of each patient in each column.
    """
    sizes = np.bincount(codes, minlength=n_patients)
    counts = np.empty((n_patients, indicators.shape[1]))
    for column in range(indicators.shape[1]):
        counts[:, column] = np.bincount(codes[indicators[:, column]], minlength=n_patients)
    return sizes, counts
