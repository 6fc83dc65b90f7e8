"""Labels, scores and patients as the metrics take them."""

from numbers import Real

import numpy as np
import pandas as pd
from scipy.sparse import issparse

from sklearn_cxr.model_selection._groups import encode_groups


def check_score(score, n_samples, *, caller, name="score"):
    """Return scores as finite float64 numbers, one per image.

    Parameters
    ----------
    score : array-like of shape (n_samples,)
        The scores.

    n_samples : int
        Number of labels.

    caller : str
        What the user called, for the error messages.

    name : str, default="score"
        The parameter's name, for the error messages.

    Returns
    -------
    ndarray of shape (n_samples,), dtype=float64
        The scores.

    Raises
    ------
    ValueError
        If there is not one finite number per image.
    """
    values = _as_float(score, caller=caller, name=name)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        hint = "; pass the column of the positive class, as predict_proba(X)[:, 1]"
        raise ValueError(
            f"{caller} got {name} of shape {values.shape}; expected one number per image, shape "
            f"({n_samples},){hint if values.ndim == 2 else ''}."
        )
    if len(values) != n_samples:
        raise ValueError(
            f"{caller} got {len(values)} values in {name} for {n_samples} labels in y; expected "
            "one per image."
        )
    refuse_non_finite(values, caller=caller, name=name)
    return values


def _as_float(values, *, caller, name):
    try:
        return np.asarray(values).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{caller} got {name} that are not numbers ({error}); expected probabilities or "
            "scores, not predicted classes."
        ) from error


def refuse_non_finite(values, *, caller, name):
    """Raise on NaN and infinite values, with the place of the first."""
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        where = f"row {bad[0][0]}" + (f", column {bad[0][1]}" if values.ndim == 2 else "")
        raise ValueError(
            f"{caller} got {len(bad)} values in {name} that are NaN or infinite (first in "
            f"{where}); expected finite numbers. Leave out images without a prediction, and count "
            "them."
        )


def check_positive(y, *, caller, pos_label=None):
    """Tell which images are positive.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Two classes, or more together with `pos_label`.

    caller : str
        What the user called, for the error messages.

    pos_label : object, default=None
        The positive class. None stands for the greater of two.

    Returns
    -------
    positive : ndarray of shape (n_samples,), dtype=bool
        True where the image is positive.

    label : object
        The positive class.

    Raises
    ------
    ValueError
        If labels are missing, one class is there only, or the positive one is not known.
    """
    # An array from a list of strings and NaN would turn the NaN into a class.
    values = y if hasattr(y, "__array__") else np.asarray(y, dtype=object)
    values = np.asarray(values)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ValueError(
            f"{caller} got y of shape {values.shape}; expected one class per image, shape "
            "(n_samples,). For several labels per image there is multilabel_report."
        )
    codes, classes = pd.factorize(values, use_na_sentinel=True)
    missing = np.flatnonzero(codes < 0)
    if len(missing):
        raise ValueError(
            f"{caller} got {len(missing)} unknown labels (NaN or None, first in row "
            f"{missing[0]}); expected a class for every image. Leave these images out, or use "
            "nan_roc_auc_score and multilabel_report, which take NaN as unknown."
        )
    label = _positive_class(list(classes), caller=caller, pos_label=pos_label)
    return np.asarray(values == label, dtype=bool), label


def _positive_class(classes, *, caller, pos_label):
    # NumPy 2 would show np.str_('viral').
    shown = [getattr(name, "item", lambda name=name: name)() for name in classes]
    if len(classes) < 2:
        raise ValueError(
            f"{caller} got labels of one class only ({', '.join(map(repr, shown)) or 'none'}) in "
            "y; expected images of both classes. Check the split: stratify it by class."
        )
    if pos_label is not None:
        if pos_label not in shown:
            raise ValueError(
                f"{caller} got pos_label={pos_label!r}; expected one of the labels in y: "
                f"{', '.join(map(repr, shown[:5]))}."
            )
        return pos_label
    if len(classes) > 2:
        swapped = any(isinstance(name, Real) and not float(name).is_integer() for name in shown)
        hint = "y comes first, then the scores" if swapped else "pass pos_label=<class>"
        raise ValueError(
            f"{caller} got {len(classes)} different labels in y ("
            f"{', '.join(map(repr, shown[:5]))}{', ...' if len(shown) > 5 else ''}); expected "
            f"two: {hint}."
        )
    try:
        return max(shown)
    except TypeError as error:
        raise ValueError(
            f"{caller} got labels that have no order ({shown[0]!r} and {shown[1]!r}); pass "
            "pos_label=<the positive one>."
        ) from error


def check_patients(groups, n_samples, *, caller):
    """Return the patients' numbers, at least two of them.

    Parameters
    ----------
    groups : array-like of shape (n_samples,) or None
        Patient ids. None stands for one patient per image.

    n_samples : int
        Number of images.

    caller : str
        What the user called, for the error messages.

    Returns
    -------
    codes : ndarray of shape (n_samples,), dtype=int64 or None
        Number of each image's patient.

    n_patients : int
        Number of patients.

    Raises
    ------
    ValueError
        If ids are missing, of another number, or all the same.
    """
    if groups is None:
        return None, n_samples
    codes, patients = encode_groups(groups, n_samples, caller=caller)
    if len(patients) < 2:
        raise ValueError(
            f"{caller} got images of {len(patients)} patient; expected at least 2, since how much "
            "patients differ cannot be seen in one."
        )
    return codes, len(patients)


def check_holders(positive, codes, n_patients, *, caller):
    """Raise unless two patients at least have positive images, and two have negative ones."""
    for name, rows in (("positive", positive), ("negative", ~positive)):
        holders = int(rows.sum()) if codes is None else len(np.unique(codes[rows]))
        if holders < 2:
            unit = "image" if codes is None else "patient"
            raise ValueError(
                f"{caller} got {holders} {unit} with {name} label; expected at least 2, since an "
                "interval needs a difference between them."
            )


def check_share(value, name, *, closed=False):
    """Return a number of [0, 1], or of (0, 1), as a float; raise on any other."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not (0 <= value <= 1 if closed else 0 < value < 1):
        raise ValueError(
            f"Got {name}={value!r}; expected a share in {'[0, 1]' if closed else '(0, 1)'}."
        )
    return float(value)


def label_columns(Y):
    """Return the column names of a DataFrame, or None."""
    return [str(name) for name in Y.columns] if isinstance(Y, pd.DataFrame) else None


def check_multilabel(Y, P, *, caller):
    """Return a label matrix and its scores, both (n_samples, n_labels).

    Parameters
    ----------
    Y : array-like of shape (n_samples,) or (n_samples, n_labels)
        0, 1 or NaN (unknown).

    P : array-like of the same shape, or list of arrays of shape (n_samples, 2)
        Scores of the positive class, or what scikit-learn's multilabel forests answer.

    caller : str
        What the user called, for the error messages.

    Returns
    -------
    Y : ndarray of shape (n_samples, n_labels), dtype=float64
        Labels.

    P : ndarray of shape (n_samples, n_labels), dtype=float64
        Scores.

    Raises
    ------
    ValueError
        If values or shapes are others, or the columns of two DataFrames differ.
    """
    names = label_columns(Y), label_columns(P)
    if None not in names and names[0] != names[1]:
        raise ValueError(
            f"{caller} got Y with the columns {names[0][:5]} and P with {names[1][:5]}; expected "
            "the same columns in the same order."
        )
    labels = _label_matrix(Y, caller)
    scores = _score_matrix(P, caller)
    if labels.shape != scores.shape:
        raise ValueError(
            f"{caller} got Y of shape {labels.shape} and P of shape {scores.shape}; expected the "
            "same shape, (n_samples, n_labels)."
        )
    refuse_non_finite(scores, caller=caller, name="P")
    return labels, scores


def _label_matrix(Y, caller):
    if issparse(Y):
        Y = Y.toarray()
    values = np.asarray(Y, dtype=object) if not hasattr(Y, "dtype") else np.asarray(Y)
    if values.dtype == object:
        values = np.where(pd.isna(values), np.nan, values)
    values = _as_float(values, caller=caller, name="labels Y")
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or not values.size:
        raise ValueError(
            f"{caller} got Y of shape {values.shape}; expected (n_samples, n_labels)."
        )
    strange = np.unique(values[~np.isnan(values) & (values != 0) & (values != 1)])
    if len(strange):
        raise ValueError(
            f"{caller} got Y with the values {strange[:5].tolist()}; expected 0, 1 or NaN "
            "(unknown) in every cell."
        )
    return values


def _score_matrix(P, caller):
    if isinstance(P, list) and P and all(np.ndim(part) == 2 for part in P):
        shapes = {np.shape(part) for part in P}
        if len(shapes) > 1 or next(iter(shapes))[1] != 2:
            raise ValueError(
                f"{caller} got a list of arrays of shapes {sorted(shapes)}; expected one array of "
                "shape (n_samples, 2) per label. An array with one column comes from a label that "
                "had one class in training; pass P[:, 1] of each label as a matrix."
            )
        P = np.stack([np.asarray(part)[:, 1] for part in P], axis=1)
    values = _as_float(P, caller=caller, name="scores P")
    return values[:, None] if values.ndim == 1 else values
