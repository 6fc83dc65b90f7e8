"""The one place where a Bunch, ``return_X_y`` and ``as_frame`` are put together."""

import importlib.resources

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

FEATURE_COLUMNS = ("path", "age", "sex", "view")
_TEXT_COLUMNS = ("split", "sex", "view")


def read_descr(name):
    """Text of ``descr/<name>.rst``, which becomes the ``DESCR`` of a Bunch."""
    folder = importlib.resources.files(__package__) / "descr"
    return (folder / f"{name}.rst").read_text(encoding="utf-8")


def text_column(values, n):
    """Object column of text with NaN for None and for empty text."""
    if values is None:
        values = [None] * n
    column = np.empty(n, dtype=object)
    column[:] = [np.nan if _is_empty(value) else str(value) for value in values]
    # An explicit dtype, because pandas 3 would turn text into its string type and pandas 2 not.
    return pd.Series(column, dtype=object)


def _is_empty(value):
    return value is None or (isinstance(value, float) and np.isnan(value)) or value == ""


def _target_frame(target, target_names):
    if target.ndim == 1:
        return pd.DataFrame({"target": target})
    return pd.DataFrame(target, columns=list(target_names))


def _build_frame(n, *, paths, target_frame, groups, columns):
    columns = dict(columns)
    parts = {}
    if paths is not None:
        parts["path"] = text_column(paths, n)
    clash = {"path", "patient", "split", "age", "sex", "view"} & set(target_frame)
    if clash:
        raise ValueError(f"a target column must not be called {sorted(clash)}; rename it")
    parts.update({name: target_frame[name] for name in target_frame})
    parts["patient"] = text_column(groups, n)
    for name in ("split", "age", "sex", "view"):
        values = columns.pop(name, None)
        if name in _TEXT_COLUMNS:
            parts[name] = text_column(values, n)
        else:
            values = np.full(n, np.nan) if values is None else values
            parts[name] = pd.Series(np.asarray(values, dtype=float))
    for name, values in columns.items():
        if name in parts:
            raise ValueError(f"column {name!r} is given twice; rename the extra column")
        parts[name] = pd.Series(values).reset_index(drop=True)
    return pd.DataFrame(parts)


def make_bunch(
    images,
    *,
    target,
    target_names,
    groups,
    descr,
    columns=None,
    paths=None,
    return_X_y=False,
    as_frame=False,
    **fields,
):
    """Assemble what every loader returns.

    Parameters
    ----------
    images : array of shape (n,) of str paths, or of shape (n, h, w)
        The images or where they are.

    target : array of shape (n,) of int, or (n, k) of float
        Index into `target_names`, or one 0/1/NaN column for each of them.

    target_names : list of str
        Names of the classes or findings.

    groups : array of shape (n,) of str
        Patient of each image.

    descr : str
        Description of the data set.

    columns : dict, default=None
        Further columns of the frame: ``split``, ``age``, ``sex``, ``view`` and any others. The
        four named ones are always there; what is not given is NaN.

    paths : array of shape (n,) of str, default=None
        Paths where `images` holds pixels. None with pixels means that there are no files.

    return_X_y : bool, default=False
        Return ``(X, y)`` only.

    as_frame : bool, default=False
        X is a DataFrame with ``path`` (where there are files), ``age``, ``sex`` and ``view``, y a
        Series or DataFrame.

    **fields : dict
        Further entries of the Bunch.

    Returns
    -------
    Bunch or (X, y)
        As the public loaders document it.
    """
    images = np.asarray(images)
    n = len(images)
    if paths is None and images.ndim == 1:
        paths = images
    target_frame = _target_frame(target, target_names)
    frame = _build_frame(
        n, paths=paths, target_frame=target_frame, groups=groups, columns=columns or {}
    )
    X, y = images, target
    if as_frame:
        X = frame[[name for name in FEATURE_COLUMNS if name in frame]].copy()
        y = frame["target"].copy() if target.ndim == 1 else target_frame
    if return_X_y:
        return X, y
    if as_frame:
        fields = {"data": X, **fields}
    return Bunch(
        images=images,
        target=y,
        target_names=list(target_names),
        groups=np.asarray(groups).astype(str),
        frame=frame,
        DESCR=descr,
        **fields,
    )
