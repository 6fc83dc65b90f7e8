"""Files on disk: what counts as an image, which files are copies, what to say about misfits."""

import csv
import hashlib
import os
from collections import defaultdict

import numpy as np

from sklearn_cxr.exceptions import DatasetError, DatasetWarning
from sklearn_cxr.utils._warn import warn

IMAGE_SUFFIXES = (".bmp", ".dcm", ".dicom", ".jpeg", ".jpg", ".png", ".tif", ".tiff")
_JUNK_NAMES = {"__macosx", "thumbs.db", "desktop.ini"}


def is_junk(name):
    """Whether an operating system or an archiver left this behind (``.DS_Store``, ``._x.png``)."""
    return name.startswith(".") or name.lower() in _JUNK_NAMES


def has_suffix(name, suffixes=IMAGE_SUFFIXES):
    """Whether a file name ends in one of the suffixes, whatever the case."""
    return name.lower().endswith(tuple(suffixes))


def is_image(path, suffixes):
    """Whether a file is an image by its suffix; DICOM files often have none, but say DICM."""
    if has_suffix(path, suffixes):
        return True
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def check_folder(root, expected):
    """Absolute path of a folder, or a DatasetError that says what was expected there."""
    root = os.path.abspath(os.fspath(root))
    if not os.path.isdir(root):
        state = "is a file" if os.path.exists(root) else "does not exist"
        raise DatasetError(f"{root} {state}; expected {expected}.")
    return root


def path_array(paths):
    """1-D object array of str, also where it is empty."""
    array = np.empty(len(paths), dtype=object)
    array[:] = [str(path) for path in paths]
    return array


def walk_files(folder):
    """Sorted paths of all files below a folder but junk; links are followed, each folder once."""
    found, seen = [], set()
    for here, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not is_junk(name))
        found += [os.path.join(here, name) for name in names if not is_junk(name)]
    return sorted(found)


def _digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def identical_files(paths):
    """Give each path the number of its set of byte-identical files, -1 where it has no copy.

    Only files of equal size are read.
    """
    by_size = defaultdict(list)
    for index, path in enumerate(paths):
        by_size[os.stat(path).st_size].append(index)
    by_content = defaultdict(list)
    for indices in by_size.values():
        if len(indices) > 1:
            for index in indices:
                by_content[_digest(paths[index])].append(index)
    return number_sets(by_content.values(), len(paths))


def number_sets(sets, n):
    """Turn lists of indices into one number for each index; a set of one counts as none."""
    numbers = np.full(n, -1, dtype=np.int64)
    several = sorted(indices for indices in sets if len(indices) > 1)
    for number, indices in enumerate(several):
        numbers[indices] = number
    return numbers


def merge_groups(keys, sets):
    """Join the groups that share a copy; each joined group bears its first key in sorted order.

    Parameters
    ----------
    keys : sequence of str
        Group of each image.

    sets : array of int
        What `identical_files` returned.

    Returns
    -------
    ndarray of str
        Group of each image after joining.
    """
    parent = {key: key for key in keys}

    def find(key):
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    first_of_set = {}
    for key, number in zip(keys, sets, strict=True):
        if number >= 0:
            a, b = sorted((find(key), find(first_of_set.setdefault(number, key))))
            parent[b] = a
    return np.array([find(key) for key in keys], dtype=str)


def shorten(names, limit=3):
    """First few of a list of names, for a message."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(str(name) for name in names[:limit]) + more


def settle(problems, *, missing, where):
    """Raise one error, or give one counted warning, for all that does not fit.

    Parameters
    ----------
    problems : list of (str, list of str)
        What is wrong with these names.

    missing : {"raise", "warn"}
        What the user asked for.

    where : str
        Folder or file, for the message.
    """
    problems = [(what, names) for what, names in problems if names]
    if not problems:
        return
    text = "; ".join(f"{len(names)} {what} ({shorten(names)})" for what, names in problems)
    if missing == "raise":
        raise DatasetError(
            f"{where}: {text}. Complete or correct the folder or the table, or pass "
            "missing='warn' to leave these out with one warning."
        )
    warn(f"{where}: left out {text}.", DatasetWarning)


def read_csv_rows(path):
    """Read the header and the rows, with their line numbers, of a CSV file; cells are stripped."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            rows = []
            for cells in reader:
                cells = [cell.strip() for cell in cells]
                if any(cells):
                    rows.append((reader.line_num, cells))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(
            f"{path} is not a CSV file in UTF-8 ({error}); save it as one."
        ) from error
    if len(rows) < 2:
        raise DatasetError(f"{path} holds no rows; expected a header and one row per image.")
    return rows[0][1], rows[1:]
