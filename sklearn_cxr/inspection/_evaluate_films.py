"""Which films a report is of: digests by which two reports can be told to be of the same ones."""

import hashlib
import os

import numpy as np
from scipy.sparse import issparse

from sklearn_cxr.inspection._display_base import _paths_of, n_rows

# Rows of a view that are read at a time.
_CHUNK = 256


def film_keys(X, films, n, caller):
    """Return what tells the films apart.

    Parameters
    ----------
    X : array-like of n films
        Films in any form.

    films : array-like of shape (n,) or None
        Names of the films, if they were given.

    n : int
        Number of films.

    caller : str
        What the user called.

    Returns
    -------
    form : str
        Keys of two reports can be compared if they have the same form.

    keys : list of str
        File name, with the folders below those that all files share where names come again;
        given name; or digest of the pixels or features.
    """
    if films is not None:
        names = [str(name) for name in films]
        if len(names) != n:
            raise ValueError(
                f"{caller} got {len(names)} names in films for {n} films; expected one per film."
            )
        return "names", names
    paths = _paths_of(X)
    if paths is not None:
        return "names", _short_names([os.fspath(path) for path in paths])
    keys, form = [], ""
    rows = X if hasattr(X, "shape") and not hasattr(X, "iloc") else np.asarray(X)
    for start in range(0, n_rows(rows), _CHUNK):
        part = rows[start : start + _CHUNK]
        part = np.asarray(part.toarray() if issparse(part) else part)
        form = f"{part.dtype} {part.shape[1:]}"
        keys += [_digest(row) for row in part]
    return form, keys


def _short_names(paths):
    """Names of files, with as much of their folders as tells them apart."""
    names = [os.path.basename(path) for path in paths]
    if len(set(names)) == len(set(paths)):
        return names
    paths = [os.path.abspath(path) for path in paths]
    try:
        shared = os.path.commonpath(list(set(paths)))
    except ValueError:  # on several drives of Windows there is no such folder
        return paths
    return [os.path.relpath(path, shared) for path in paths]


def _digest(row):
    row = np.asarray(row)
    # The bytes of objects are their addresses.
    content = repr(row.tolist()).encode() if row.dtype.hasobject else row.tobytes()
    return hashlib.blake2b(content, digest_size=12).hexdigest()


def _label_rows(y):
    # -1 for unknown, since NaN has many representations.
    labels = np.where(np.isnan(y), -1, y) if y.dtype.kind == "f" else y
    return [repr(np.asarray(row).tolist()) for row in labels]


def _hash(rows):
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]


def split_digest(report, *, with_films=True):
    """Digest of labels, patients and films of a report.

    Parameters
    ----------
    report : EvaluationReport
        The report.

    with_films : bool, default=True
        Whether the films are in it.

    Returns
    -------
    str
        The digest.
    """
    rows = _label_rows(report.y)
    films = report.films[1] if with_films and report.films is not None else None
    if films is not None:
        rows = [f"{film}|{row}" for film, row in zip(films, rows, strict=True)]
    if report.groups is not None:
        patients = report.patients[report.groups]
        rows = [f"{patient!s}|{row}" for patient, row in zip(patients, rows, strict=True)]
    # With films or patients the order does not matter; without them it is all there is.
    return _hash(rows if films is None and report.groups is None else sorted(rows))


def same_films(a, b):
    """Tell whether two reports are of the same films, as far as that can be known."""
    names = {a.split, b.split}
    if len(names - {None}) > 1:
        return False
    if _comparable(a, b):
        return split_digest(a) == split_digest(b)
    # The same films in another form look different: then both reports must name the split.
    same = split_digest(a, with_films=False) == split_digest(b, with_films=False)
    return same and None not in names


def same_rows(a, b):
    """Tell whether two reports of two classes are of the same films in the same order."""
    if not (a.kind == b.kind == "binary" and _comparable(a, b) and np.array_equal(a.y, b.y)):
        return False
    if a.films[1] != b.films[1] or (a.groups is None) != (b.groups is None):
        return False
    return a.groups is None or np.array_equal(a.patients[a.groups], b.patients[b.groups])


def _comparable(a, b):
    return a.films is not None and b.films is not None and a.films[0] == b.films[0]
