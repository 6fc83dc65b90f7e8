"""Rows that lie in files which somebody else may close or cut."""

import os

import numpy as np

from sklearn_cxr.utils._subset import RowSubset


def check_open(X):
    """Raise where `X` is a data set of an HDF5 file that has been closed.

    Parameters
    ----------
    X : object
        Anything; what does not come from h5py passes.

    Raises
    ------
    ValueError
        If the file is closed.
    """
    X = X.whole[0] if isinstance(X, RowSubset) else X
    # A closed data set says of itself that it is false, and has no shape any more.
    if type(X).__module__.partition(".")[0] == "h5py" and not bool(X):
        raise ValueError(
            "X is a data set of an HDF5 file that is closed. Keep the file open until fit, "
            "transform or predict has ended: call it inside of `with h5py.File(...) as file`."
        )


def mapped_whole(X):
    """Return the memory map that `X` is, or is a view of, as it was opened; None without one."""
    root, found = X, None
    while isinstance(root, np.ndarray):
        found = root if isinstance(root, np.memmap) else found
        root = root.base
    return found


def check_mapped(X):
    """Raise where the file behind a memory map has become shorter than the map.

    Reading behind the end of a mapped file ends the process, so this is asked before a pass.

    Parameters
    ----------
    X : object
        Anything; what is no view of a memory map passes.

    Raises
    ------
    ValueError
        If the file has been cut.
    """
    found = mapped_whole(X)
    if found is None or not isinstance(found.filename, str | os.PathLike):
        return
    try:
        length = os.stat(found.filename).st_size
    except FileNotFoundError:
        # A file that was deleted lives on as long as it is mapped.
        return
    needed = found.offset + found.nbytes
    if length < needed:
        raise ValueError(
            f"{os.fspath(found.filename)}: the file has {length} bytes, but {needed} of it are "
            "mapped: it was cut while it was in use. Write it again and open it anew."
        )
