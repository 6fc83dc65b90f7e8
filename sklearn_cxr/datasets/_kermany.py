"""The paediatric chest radiographs of Kermany et al. 2018."""

import os
import re
from os import PathLike

import numpy as np

from sklearn_cxr.datasets._bunch import make_bunch, read_descr, text_column
from sklearn_cxr.datasets._files import (
    check_folder,
    has_suffix,
    identical_files,
    is_junk,
    merge_groups,
    path_array,
    shorten,
)
from sklearn_cxr.exceptions import DatasetError
from sklearn_cxr.utils._sklearn import StrOptions, validate_params

SUBTYPES = ("normal", "bacterial", "viral")
_CLASS_FOLDERS = ("NORMAL", "PNEUMONIA")
_EXPECTED = "a folder with train and test, each holding NORMAL and PNEUMONIA"
_PERSON = re.compile(r"person(\d+)_(bacteria|virus)(?:_\d+)+", re.IGNORECASE)
_STUDY = re.compile(r"(?:NORMAL\d*-)?IM-(\d+)(?:-\d+)+", re.IGNORECASE)
# The names of the third release on Mendeley Data, which carry a patient number of their own.
_RELEASE_3 = re.compile(r"(NORMAL|BACTERIA|VIRUS)-(\d+)-\d+", re.IGNORECASE)
_WORDS = {"normal": "normal", "bacteria": "bacterial", "virus": "viral"}


def _parse(name, split):
    """Subtype and patient key of a file name, or None."""
    stem = os.path.splitext(name)[0]
    # The val folder of the Kaggle copy was taken out of train and keeps the numbering of train.
    numbering = "train" if split == "val" else split
    if match := _PERSON.fullmatch(stem):
        return _WORDS[match[2].lower()], f"{numbering}_person{int(match[1])}"
    if match := _STUDY.fullmatch(stem):
        return "normal", f"{numbering}_IM-{int(match[1]):04d}"
    if match := _RELEASE_3.fullmatch(stem):
        return _WORDS[match[1].lower()], f"patient{int(match[2])}"
    return None


def _find_base(root):
    root = check_folder(root, _EXPECTED)
    candidates = [root]
    for _ in range(2):
        candidates.append(os.path.join(candidates[-1], "chest_xray"))
    for base in candidates:
        if any(os.path.isdir(os.path.join(base, split)) for split in ("train", "test")):
            return base
    raise DatasetError(f"{root} holds no folder train or test; expected {_EXPECTED}.")


def _visible(folder):
    return sorted(name for name in os.listdir(folder) if not is_junk(name))


def list_class_folders(root):
    """File names in each class folder of train and test below a root, by (split, class)."""
    base = _find_base(root)
    found = {}
    for split in ("train", "test"):
        for class_folder in _CLASS_FOLDERS:
            here = os.path.join(base, split, class_folder)
            found[split, class_folder] = _visible(here) if os.path.isdir(here) else []
    return found


def _splits(base, subset):
    if subset != "all":
        wanted = [subset]
    else:
        has_val = os.path.isdir(os.path.join(base, "val"))
        wanted = ["train", "val", "test"] if has_val else ["train", "test"]
    for split in wanted:
        check_folder(os.path.join(base, split), f"a folder with {' and '.join(_CLASS_FOLDERS)}")
    return wanted


def _list_split(base, split):
    """Rows (path, split, subtype, key) of one split, in sorted order."""
    folder = os.path.join(base, split)
    strangers = [name for name in _visible(folder) if name not in _CLASS_FOLDERS]
    rows = []
    for class_folder in _CLASS_FOLDERS:
        here = check_folder(
            os.path.join(folder, class_folder), f"the {class_folder} images of {split}"
        )
        names = _visible(here)
        if not names:
            raise DatasetError(f"{here} is empty; expected the {class_folder} images of {split}.")
        for name in names:
            parsed = _parse(name, split) if has_suffix(name) else None
            fits = parsed and (parsed[0] == "normal") == (class_folder == "NORMAL")
            if fits:
                rows.append((os.path.join(here, name), split, *parsed))
            else:
                strangers.append(os.path.join(class_folder, name))
    if strangers:
        raise DatasetError(
            f"{folder}: {len(strangers)} names do not belong there ({shorten(strangers)}). "
            "Expected NORMAL/IM-<study>-<n>.jpeg, NORMAL/NORMAL2-IM-<study>-<n>.jpeg and "
            "PNEUMONIA/person<n>_bacteria_<n>.jpeg or person<n>_virus_<n>.jpeg, because the "
            "patient is read from the name. Remove or rename them, or use load_image_folder."
        )
    return rows


@validate_params(
    {
        "root": [str, PathLike],
        "subset": [StrOptions({"train", "val", "test", "all"})],
        "task": [StrOptions({"binary", "subtype"})],
        "return_X_y": ["boolean"],
        "as_frame": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def load_kermany(root, *, subset="train", task="binary", return_X_y=False, as_frame=False):
    """Load the paediatric pneumonia radiographs of Kermany et al. from a folder.

    The images stay files: what is returned are their paths, ready for
    :class:`~sklearn_cxr.preprocessing.ImageReader`. They are in the order of split, class folder
    and file name.

    Parameters
    ----------
    root : str or path-like
        Folder with ``train`` and ``test``, each holding ``NORMAL`` and ``PNEUMONIA``. It may also
        be the folder above, where that one is named ``chest_xray`` (once or twice, as in the
        archive on Kaggle). Hidden files and ``__MACOSX`` are ignored.

    subset : {"train", "val", "test", "all"}, default="train"
        Official split to load. ``"val"`` are the 16 images that the copy on Kaggle took out of
        train; ``"all"`` is every split that is there, so that it gives the same 5,856 images from
        either copy.

    task : {"binary", "subtype"}, default="binary"
        ``"binary"``: 0 is normal, 1 is pneumonia. ``"subtype"``: 0 is normal, 1 bacterial and 2
        viral pneumonia.

    return_X_y : bool, default=False
        Return ``(X, y)`` instead of a Bunch.

    as_frame : bool, default=False
        X is a DataFrame with the columns ``path``, ``age``, ``sex`` and ``view``, y a Series.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        With the attributes

        images : ndarray of shape (n_images,), dtype object
            Absolute paths.
        target : ndarray of shape (n_images,), dtype int64, or Series
            Index into `target_names`.
        target_names : list of str
            Names of the classes.
        groups : ndarray of shape (n_images,) of str
            Patients. File names are taken strictly: one number is one patient within its split,
            whichever subtype or prefix it comes with, and byte-identical files are one patient.
        frame : DataFrame
            One row per image: ``path``, ``target``, ``patient``, ``split``, ``age``, ``sex``,
            ``view`` (all were taken AP), ``subtype`` and ``duplicate_set`` (number of the set of
            byte-identical files, -1 where there is none).
        data : DataFrame
            X as described at `as_frame`; only with ``as_frame=True``.
        DESCR : str
            Description of the data set.

    (X, y) : tuple
        Only with ``return_X_y=True``.

    Raises
    ------
    DatasetError
        If a folder is missing or empty, or a file name does not tell class and patient.

    References
    ----------
    .. [1] Kermany D. S. et al. "Identifying medical diagnoses and treatable diseases by
       image-based deep learning". Cell 172(5), 1122-1131, 2018.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from sklearn_cxr.datasets import load_kermany
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("NORMAL/IM-0115-0001.jpeg", "PNEUMONIA/person7_virus_2.jpeg"):
    ...         path = pathlib.Path(folder, "train", name)
    ...         path.parent.mkdir(parents=True)
    ...         _ = path.write_bytes(name.encode())
    ...     data = load_kermany(folder, task="subtype")
    >>> data.groups.tolist()
    ['train_IM-0115', 'train_person7']
    >>> [data.target_names[code] for code in data.target]
    ['normal', 'viral']
    """
    base = _find_base(root)
    rows = [row for split in _splits(base, subset) for row in _list_split(base, split)]
    paths, splits, subtypes, keys = zip(*rows, strict=True)
    duplicate_set = identical_files(paths)
    codes = np.array([SUBTYPES.index(subtype) for subtype in subtypes], dtype=np.int64)
    if task == "binary":
        target, target_names = (codes > 0).astype(np.int64), ["normal", "pneumonia"]
    else:
        target, target_names = codes, list(SUBTYPES)
    return make_bunch(
        path_array(paths),
        target=target,
        target_names=target_names,
        groups=merge_groups(keys, duplicate_set),
        descr=read_descr("kermany"),
        columns={
            "split": splits,
            "view": ["AP"] * len(paths),
            "subtype": text_column(subtypes, len(paths)),
            "duplicate_set": duplicate_set,
        },
        return_X_y=return_X_y,
        as_frame=as_frame,
    )
