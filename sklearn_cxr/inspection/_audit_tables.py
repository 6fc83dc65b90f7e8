"""Labels, patients and splits as numbers, whatever form they came in."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

_MAX_CLASSES = 100


@dataclass
class Labels:
    """One column of codes for each label; -1 is unknown.

    Parameters
    ----------
    codes : ndarray of shape (n, k), dtype int64
        Number of the class.

    classes : list of list
        Names of the classes of each column.

    names : list of str
        Names of the columns.

    text : ndarray of shape (n,), dtype object
        The label of each film in words.
    """

    codes: np.ndarray
    classes: list
    names: list
    text: np.ndarray


def read_labels(y, n, *, caller):
    """Give numbers to the classes of y.

    Parameters
    ----------
    y : array-like of shape (n,) or (n, k) or None
        One class per film, or a matrix of 0, 1 and NaN (unknown); a DataFrame names its columns.

    n : int
        Number of films.

    caller : str
        What the user called.

    Returns
    -------
    Labels or None
        None where y is.
    """
    if y is None:
        return None
    names = [str(name) for name in y.columns] if isinstance(y, pd.DataFrame) else None
    values = np.asarray(y, dtype=object)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or len(values) != n:
        raise ValueError(
            f"{caller} got labels of shape {np.shape(y)} for {n} films; expected ({n},) or "
            f"({n}, n_labels)."
        )
    k = values.shape[1]
    if names is None or k == 1:
        names = names or (["label"] if k == 1 else [f"label {i}" for i in range(k)])
    codes = np.empty((n, k), dtype=np.int64)
    classes = []
    for column in range(k):
        codes[:, column], found = pd.factorize(values[:, column], use_na_sentinel=True)
        found = [_plain(c) for c in found]
        order = sorted(range(len(found)), key=lambda i: (str(type(found[i])), found[i]))
        rank = np.empty(len(found) + 1, dtype=np.int64)
        rank[order], rank[-1] = np.arange(len(found)), -1
        codes[:, column] = rank[codes[:, column]]
        classes.append([found[i] for i in order])
        if len(found) > _MAX_CLASSES:
            raise ValueError(
                f"{caller} got {len(found)} different values in {names[column]}; expected at most "
                f"{_MAX_CLASSES} classes. Bin a measured quantity first."
            )
    return Labels(codes, classes, names, _label_text(codes, classes, names))


def _plain(value):
    value = value.item() if hasattr(value, "item") else value
    # 0.0 and 1.0 are what 0 and 1 become beside NaN.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _label_text(codes, classes, names):
    if len(names) == 1:
        words = np.array([*map(str, classes[0]), "unknown"], dtype=object)
        return words[codes[:, 0]]
    ones = [c.index(1) if 1 in c else -2 for c in classes]
    held = codes == np.array(ones)
    return np.array(
        [", ".join(n for n, h in zip(names, row, strict=True) if h) or "none" for row in held],
        dtype=object,
    )


def read_groups(groups, n, *, caller):
    """Give numbers to the patients.

    Parameters
    ----------
    groups : array-like of shape (n,) or None
        Patient of each film; missing ones are allowed.

    n : int
        Number of films.

    caller : str
        What the user called.

    Returns
    -------
    codes : ndarray of shape (n,), dtype int64, or None
        Number of the patient, -1 where it is missing.

    ids : ndarray of shape (n_patients,), dtype object, or None
        The ids.
    """
    if groups is None:
        return None, None
    values = np.asarray(groups, dtype=object)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or len(values) != n:
        raise ValueError(
            f"{caller} got groups of shape {values.shape} for {n} films; expected one patient id "
            f"per film, shape ({n},)."
        )
    codes, ids = pd.factorize(values, use_na_sentinel=True)
    return codes.astype(np.int64), np.asarray(ids, dtype=object)


def read_splits(splits, frame, n, *, caller):
    """Bring splits to the number of the part that each film is in.

    Parameters
    ----------
    splits : array-like, dict, list of tuple, or None
        The name of the part for each film; or rows by name of the part; or folds, each a tuple
        of parts. None takes the column ``split`` of `frame`.

    frame : DataFrame or None
        Table beside the films.

    n : int
        Number of films.

    caller : str
        What the user called.

    Returns
    -------
    list of (ndarray of shape (n,), list of str, ndarray of int)
        For each split the number of each film's part (-1: in none), the names of the parts, and
        the films that are in several parts.
    """
    if splits is None:
        if frame is None or "split" not in frame.columns:
            return []
        splits = frame["split"].to_numpy(dtype=object)
    if hasattr(splits, "split") and not isinstance(splits, np.ndarray | pd.Series):
        raise TypeError(
            f"{caller} got {splits!r} for splits; expected the splits themselves: "
            "list(cv.split(X, y, groups)), or the name of the part for each film."
        )
    if isinstance(splits, dict):
        return [_parts(splits, n, caller)]
    if not isinstance(splits, np.ndarray | pd.Series):
        splits = list(splits)
        if splits and all(np.ndim(next(iter(fold), 0)) > 0 for fold in splits if _is_list(fold)):
            if all(_is_list(fold) for fold in splits):
                return [_parts(_named(fold), n, caller) for fold in splits]
    values = np.asarray(splits, dtype=object)
    if values.ndim != 1 or len(values) != n:
        raise ValueError(
            f"{caller} got splits of shape {values.shape} for {n} films; expected the name of "
            "the part for each film, a dict of rows by name, or a list of (train, test)."
        )
    codes, names = pd.factorize(values, use_na_sentinel=True)
    return [(codes.astype(np.int64), [str(name) for name in names], np.empty(0, np.intp))]


def _is_list(value):
    return isinstance(value, list | tuple | np.ndarray)


def _named(fold):
    names = ("train", "test") if len(fold) == 2 else [f"part {i}" for i in range(len(fold))]
    return dict(zip(names, fold, strict=True))


def _parts(parts, n, caller):
    codes = np.full(n, -1, dtype=np.int64)
    twice = []
    for number, (name, part) in enumerate(parts.items()):
        rows = np.asarray(part)
        if rows.size == 0:
            rows = np.empty(0, np.intp)
        if rows.dtype == bool and rows.shape == (n,):
            rows = np.flatnonzero(rows)
        if rows.ndim != 1 or rows.dtype.kind not in "iu" or (rows.size and rows.max() >= n):
            raise ValueError(
                f"{caller} got part {name!r} of splits with dtype {rows.dtype} and shape "
                f"{rows.shape}; expected row numbers below {n}, or a mask over {n} films."
            )
        if rows.size and rows.min() < 0:
            raise ValueError(
                f"{caller} got the row number {rows.min()} in part {name!r} of splits; expected "
                f"0 to {n - 1}."
            )
        twice.append(rows[codes[rows] >= 0])
        codes[rows] = number
    films = np.concatenate([np.empty(0, np.intp), *twice])
    return codes, [str(name) for name in parts], np.unique(films).astype(np.intp)
