"""What counts as a column of paths."""

import os
import reprlib

import numpy as np
import pandas as pd


def check_paths(reader, X, *, reset):
    """Paths as a list of str.

    Parameters
    ----------
    reader : ImageReader
        Gets ``n_features_in_`` and ``feature_names_in_`` when `reset` is True, and is asked for
        the name when it is False.

    X : array-like of shape (n,) or (n, 1), or DataFrame with one column
        Paths.

    reset : bool or None
        True in ``fit``, False in ``transform``; None where nothing has been fitted.

    Returns
    -------
    list of str
        The paths.

    Raises
    ------
    TypeError
        If something in `X` is no path.

    ValueError
        If `X` has another shape, no rows, or a column of another name.
    """
    names = np.asarray(X.columns, dtype=object) if isinstance(X, pd.DataFrame) else None
    if isinstance(X, str | bytes | os.PathLike):
        text = reprlib.repr(X) if isinstance(X, bytes) else repr(X)
        raise TypeError(f"Expected a list of paths, got the single path {text}. Write [{text}].")
    values = np.asarray(X, dtype=object)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ValueError(
            f"ImageReader takes one column of paths, (n,) or (n, 1), got shape {values.shape}. "
            "Select the column of paths. Pixels need no reader: give them to the steps after it, "
            "model[1:], in the size that it reads (Resize does that)."
        )
    if len(values) == 0:
        raise ValueError("ImageReader got no paths (0 sample(s)); at least one is needed.")
    for i, path in enumerate(values):
        if not isinstance(path, str | os.PathLike):
            raise TypeError(
                f"X[{i}] is {reprlib.repr(path)} ({type(path).__name__}), not a path. ImageReader "
                "takes str or pathlib.Path; an image without a file has to be left out."
            )
    if reset is not None:
        _check_column(reader, names, reset)
    return [os.fspath(path) for path in values]


def _check_column(reader, names, reset):
    if reset:
        reader.n_features_in_ = 1
        vars(reader).pop("feature_names_in_", None)
        if names is not None and isinstance(names[0], str):
            reader.feature_names_in_ = names
        return
    fitted = getattr(reader, "feature_names_in_", None)
    if fitted is not None and names is not None and list(names) != list(fitted):
        raise ValueError(
            f"ImageReader was fitted on column {fitted[0]!r}, got column {names[0]!r}. Give the "
            "column of paths under the same name."
        )
