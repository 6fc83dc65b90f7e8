"""ChestX-ray14 of the NIH Clinical Center."""

import glob
import os
from os import PathLike

import numpy as np
import pandas as pd

from sklearn_cxr.datasets._bunch import make_bunch, read_descr
from sklearn_cxr.datasets._files import (
    check_folder,
    has_suffix,
    is_junk,
    path_array,
    settle,
    shorten,
)
from sklearn_cxr.datasets._nih_tables import (
    BOX_NAME,
    FINDINGS,
    MAX_AGE,
    find_entry_table,
    finding_matrix,
    read_boxes,
    read_entries,
    split_of,
)
from sklearn_cxr.exceptions import DatasetError, DatasetWarning
from sklearn_cxr.utils._sklearn import StrOptions, validate_params
from sklearn_cxr.utils._warn import warn

_BOX_COLUMNS = ["image", "label", "x", "y", "w", "h"]
_LABEL_COLUMNS = ["findings", "patient", "age", "sex", "view"]


def _find_images(root):
    """Path of each image file by its name."""
    patterns = ("images", "images_*", os.path.join("images_*", "images"))
    folders = [
        folder
        for pattern in patterns
        for folder in sorted(glob.glob(os.path.join(glob.escape(root), pattern)))
        if os.path.isdir(folder)
    ]
    if not folders:
        raise DatasetError(
            f"{root} holds no image folder; expected images/, or images_001/images/ to "
            "images_012/images/ as in the full release."
        )
    found = {}
    for folder in folders:
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            if is_junk(name) or not has_suffix(name):
                continue
            if name in found:
                raise DatasetError(
                    f"{name} is there twice: {found[name]} and {path}; keep one of them."
                )
            found[name] = path
    return found


def _drop_repeated(table, path):
    """First row of each image and the names of those repeated; contradicting rows are an error."""
    repeated = table.duplicated("image", keep=False)
    if not repeated.any():
        return table, []
    distinct = table[repeated].drop_duplicates(["image", *_LABEL_COLUMNS])
    contrary = distinct.loc[distinct.duplicated("image"), "image"].tolist()
    if contrary:
        raise DatasetError(
            f"{path}: {len(contrary)} images have rows that contradict each other "
            f"({shorten(contrary)}); expected one row for each image."
        )
    names = table.loc[table.duplicated("image"), "image"].tolist()
    return table.drop_duplicates("image"), names


def _choose(table, *, root, subset):
    """Rows of the subset with their split, and the images of which the lists know nothing."""
    splits, listed = split_of(table["image"], root)
    table = table.assign(split=splits)
    if subset != "all" and not listed:
        raise DatasetError(
            f"{root} holds neither train_val_list.txt nor test_list.txt, which tell the official "
            "split; add them or pass subset='all'."
        )
    unlisted = table.loc[table["split"].isna(), "image"].tolist() if listed else []
    if subset != "all":
        table = table[table["split"] == subset]
    return table, unlisted


def _make_target(table, matrix, task):
    if task == "multilabel":
        return matrix, list(FINDINGS)
    if task == "pneumonia":
        target = matrix[:, FINDINGS.index("Pneumonia")] > 0
        return target.astype(np.int64), ["no_pneumonia", "pneumonia"]
    return matrix.any(axis=1).astype(np.int64), ["normal", "abnormal"]


def _clean_ages(table, path):
    """Ages with the impossible ones as NaN, under one counted warning."""
    ages = table["age"].to_numpy(dtype=float, copy=True)
    impossible = ages > MAX_AGE
    if impossible.any():
        warn(
            f"{path}: {int(impossible.sum())} ages above {MAX_AGE:g} years "
            f"({shorten(table.loc[impossible, 'image'])}) cannot be true and are NaN.",
            DatasetWarning,
        )
        ages[impossible] = np.nan
    return ages


def _load_boxes(root, images):
    """Boxes of these images and how many the file holds; None for the latter without a file."""
    path = os.path.join(root, BOX_NAME)
    if not os.path.isfile(path):
        return pd.DataFrame(columns=_BOX_COLUMNS), None
    boxes = read_boxes(path)
    kept = boxes[boxes["image"].isin(set(images))]
    return kept.sort_values(_BOX_COLUMNS, ignore_index=True), len(boxes)


def _columns(table, matrix, task, ages):
    columns = {
        "split": table["split"],
        "age": ages,
        "sex": table["sex"],
        "view": table["view"],
        "image": table["image"],
        "findings": table["findings"],
    }
    for name in ("follow_up", "original_width", "original_height", "spacing_x", "spacing_y"):
        if name in table:
            columns[name] = table[name]
    if task != "multilabel":
        columns.update({name: matrix[:, at] for at, name in enumerate(FINDINGS)})
    return columns


@validate_params(
    {
        "root": [str, PathLike],
        "subset": [StrOptions({"train_val", "test", "all"})],
        "task": [StrOptions({"pneumonia", "abnormal", "multilabel"})],
        "boxes": ["boolean"],
        "missing": [StrOptions({"raise", "warn"})],
        "return_X_y": ["boolean"],
        "as_frame": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def load_nih(
    root,
    *,
    subset="train_val",
    task="pneumonia",
    boxes=True,
    missing="raise",
    return_X_y=False,
    as_frame=False,
):
    r"""Load ChestX-ray14 of the NIH Clinical Center, or a part of it, from a folder.

    The images stay files: what is returned are their paths, ready for
    :class:`~sklearn_cxr.preprocessing.ImageReader`. They are in the order of the image names.

    Parameters
    ----------
    root : str or path-like
        Folder with ``Data_Entry_2017.csv`` (or ``Data_Entry_2017_v2020.csv``), the images in
        ``images`` or in ``images_001/images`` to ``images_012/images``, and, where they are used,
        ``train_val_list.txt``, ``test_list.txt`` and ``BBox_List_2017.csv``.

    subset : {"train_val", "test", "all"}, default="train_val"
        Official split to load. Where only one of the two list files is there, images that it does
        not name belong to the other split.

    task : {"pneumonia", "abnormal", "multilabel"}, default="pneumonia"
        ``"pneumonia"``: 1 where Pneumonia is among the findings. ``"abnormal"``: 1 where there is
        any finding. ``"multilabel"``: one 0/1 column for each of the fourteen findings, in the
        order of the paper; NaN where the findings of an image are not known.

    boxes : bool, default=True
        Read the bounding boxes.

    missing : {"raise", "warn"}, default="raise"
        What to do where table, lists and images do not fit together: a row without an image
        file, an image without a row, a repeated row, an image in neither list where both are
        there (but with ``subset="all"`` it is kept and its ``split`` is NaN), no box file,
        unknown findings in a task that has no NaN. ``"raise"`` is an error, ``"warn"`` leaves
        them out with one warning that counts them. Rows outside `subset` need no image file.

    return_X_y : bool, default=False
        Return ``(X, y)`` instead of a Bunch.

    as_frame : bool, default=False
        X is a DataFrame with the columns ``path``, ``age``, ``sex`` and ``view``, y a Series, or
        a DataFrame with a column for each finding.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        With the attributes

        images : ndarray of shape (n_images,), dtype object
            Absolute paths.
        target : ndarray of shape (n_images,), dtype int64, or (n_images, 14), dtype float64
            Index into `target_names`, or 0, 1 and NaN for each finding; pandas with `as_frame`.
        target_names : list of str
            Names of the classes or findings.
        groups : ndarray of shape (n_images,) of str
            Patients. Where the table names all of them by numbers, these are written without
            leading zeros, so that "1" and "01" are one patient; else as the table writes them.
        frame : DataFrame
            One row per image: ``path``, ``target`` or the fourteen findings, ``patient``,
            ``split``, ``age`` (years, NaN where not known), ``sex``, ``view``, ``image`` (file
            name), ``findings`` (text), ``follow_up``, size and spacing of the original where the
            table has them, and the fourteen findings.
        boxes : DataFrame
            Columns ``image``, ``label``, ``x``, ``y``, ``w``, ``h`` in pixels of the image file
            (1024 x 1024 in the release), for the images that were loaded. Only with
            ``boxes=True``.
        box_counts : dict
            ``"in_file"``, ``"loaded"`` and ``"images"``: boxes in the file, boxes loaded, and
            images that have one. Only with ``boxes=True``.
        data : DataFrame
            X as described at `as_frame`; only with ``as_frame=True``.
        DESCR : str
            Description of the data set.

    (X, y) : tuple
        Only with ``return_X_y=True``.

    Raises
    ------
    DatasetError
        If a file is missing or cannot be understood, if rows contradict each other, or, with
        ``missing="raise"``, if table, lists and images do not fit together.

    References
    ----------
    .. [1] Wang X. et al. "ChestX-ray8: Hospital-scale chest X-ray database and benchmarks on
       weakly-supervised classification and localization of common thorax diseases". CVPR 2017.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from sklearn_cxr.datasets import load_nih
    >>> header = ("Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,"
    ...           "Patient Gender,View Position")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     root = pathlib.Path(folder)
    ...     (root / "images").mkdir()
    ...     _ = (root / "images" / "00000001_000.png").write_bytes(b"pixels")
    ...     row = "00000001_000.png,Edema|Mass,0,1,060Y,F,AP"
    ...     _ = (root / "Data_Entry_2017.csv").write_text(f"{header}\n{row}\n")
    ...     data = load_nih(root, subset="all", task="multilabel", boxes=False)
    >>> [name for name, value in zip(data.target_names, data.target[0]) if value == 1]
    ['Mass', 'Edema']
    >>> data.frame[["patient", "age", "sex", "view"]].values.tolist()
    [['1', 60.0, 'F', 'AP']]
    """
    root = check_folder(root, "a folder with Data_Entry_2017.csv and images")
    path = find_entry_table(root)
    files = _find_images(root)
    table, repeated = _drop_repeated(read_entries(path), path)
    unlabelled = sorted(set(files) - set(table["image"]))
    table, unlisted = _choose(table, root=root, subset=subset)
    has_file = table["image"].isin(set(files))
    absent = table.loc[~has_file, "image"].tolist()
    table = table[has_file].sort_values("image", ignore_index=True)
    matrix = finding_matrix(table, path)
    unknown = np.zeros(len(table), dtype=bool)
    if task != "multilabel":
        unknown = np.isnan(matrix).any(axis=1)
    problems = [
        ("rows without an image file", absent),
        ("images without a row", unlabelled),
        ("repeated rows", repeated),
        ("images in neither list file", [] if subset == "all" else unlisted),
        ("images with unknown findings", table.loc[unknown, "image"].tolist()),
    ]
    table, matrix = table[~unknown].reset_index(drop=True), matrix[~unknown]
    fields = {}
    if boxes:
        box_table, n_in_file = _load_boxes(root, table["image"])
        problems.append(("missing box list", [] if n_in_file is not None else [BOX_NAME]))
        fields["boxes"] = box_table
        fields["box_counts"] = {
            "in_file": n_in_file or 0,
            "loaded": len(box_table),
            "images": int(box_table["image"].nunique()),
        }
    settle(problems, missing=missing, where=path)
    if table.empty:
        raise DatasetError(f"{root}: no image of subset={subset!r} is left to load.")
    ages = _clean_ages(table, path)
    target, target_names = _make_target(table, matrix, task)
    return make_bunch(
        path_array([files[image] for image in table["image"]]),
        target=target,
        target_names=target_names,
        groups=table["patient"].to_numpy(dtype=object),
        descr=read_descr("nih"),
        columns=_columns(table, matrix, task, ages),
        return_X_y=return_X_y,
        as_frame=as_frame,
        **fields,
    )
