"""Anybody's own images: classes from folder names or from a table."""

import os
import re
from os import PathLike

import numpy as np
import pandas as pd

from sklearn_cxr.datasets._bunch import make_bunch, read_descr
from sklearn_cxr.datasets._files import (
    IMAGE_SUFFIXES,
    check_folder,
    has_suffix,
    identical_files,
    is_image,
    is_junk,
    merge_groups,
    path_array,
    settle,
    shorten,
    walk_files,
)
from sklearn_cxr.datasets._folder_tables import (
    alike_patients,
    as_text,
    check_columns,
    check_patients,
    check_spelling,
    drop_repeated,
    encode_classes,
    encode_multilabel,
    extension_words,
    known_text,
    read_ages,
    read_labels,
    real_files,
    resolve_paths,
    unknown_words,
)
from sklearn_cxr.exceptions import DatasetError, DatasetWarning, LeakageRiskWarning
from sklearn_cxr.utils._sklearn import StrOptions, validate_params
from sklearn_cxr.utils._warn import warn

_SPLIT_NAMES = {"train", "training", "test", "testing", "val", "valid", "validation"}
# The frame has columns of these names that do not come from the table's own.
_RESERVED = {"path", "target", "patient"}


def _from_folders(root, files, extensions):
    """Table of path and label by first-level folder, and what did not fit."""
    folders = [
        name
        for name in sorted(os.listdir(root))
        if not is_junk(name) and os.path.isdir(os.path.join(root, name))
    ]
    if not folders:
        raise DatasetError(f"{root} holds no folders; expected one for each class.")
    if {name.lower() for name in folders} <= _SPLIT_NAMES:
        raise DatasetError(
            f"{root} holds the folders {', '.join(folders)}, which are splits and not classes; "
            f"pass one of them as root, such as {os.path.join(root, folders[0])}."
        )
    rows, loose, others = [], [], []
    for path in files:
        first, _, rest = os.path.relpath(path, root).partition(os.sep)
        if has_suffix(path, extensions):
            if rest:
                rows.append((path, first))
            else:
                loose.append(path)
        elif rest:
            others.append(path)
    if others:
        warn(
            f"{root}: left out {len(others)} files in class folders that are no images by their "
            f"extension ({shorten(others)}); name further extensions by `extensions`.",
            DatasetWarning,
        )
    full = {label for _, label in rows}
    if len(full) == 1:
        tables = [path for path in files if path.lower().endswith(".csv")]
        words = (
            f" The classes may stand in {shorten(tables)}: name it by labels." if tables else ""
        )
        warn(
            f"{root}: all images stand in one class folder, {rows[0][1]!r}, so there is one class "
            f"only; with labels='folders' each class has a folder of its own.{words}",
            DatasetWarning,
        )
    problems = [
        ("images outside the class folders", loose),
        ("class folders without an image", [name for name in folders if name not in full]),
    ]
    return pd.DataFrame(rows, columns=["path", "label"], dtype=object), problems


def _not_named(files, named, extensions):
    """Images of which no row speaks, also not by another spelling of the path."""
    strangers = [path for path in files if has_suffix(path, extensions) and path not in named]
    if strangers:
        real = {os.path.realpath(path) for path in named}
        strangers = [path for path in strangers if os.path.realpath(path) not in real]
    return strangers


def _from_table(table, where, *, root, files, extensions, path_column, target_column):
    """Table with `path` resolved, one row per image, and what did not fit."""
    names = [as_text(value) for value in table[path_column]]
    resolved = np.array(resolve_paths(names, root=root, files=files, where=where), dtype=object)
    has_file = np.array([path is not None for path in resolved], dtype=bool)
    images = np.array([path and is_image(path, extensions) for path in resolved], dtype=bool)
    words = ""
    if isinstance(target_column, str):
        labelled = np.array([known_text(value) != "" for value in table[target_column]])
        words = unknown_words(table[target_column])
    else:
        # In a multilabel row all cells may be empty: every label is unknown, none is missing.
        labelled = np.ones(len(table), dtype=bool)
    strangers = _not_named(files, set(resolved[has_file]), extensions)
    unresolved = [name for name, ok in zip(names, has_file, strict=True) if not ok]
    problems = [
        (f"rows without an image file{extension_words(unresolved, files)}", unresolved),
        ("rows whose file is no image by `extensions`", resolved[has_file & ~images].tolist()),
        ("images without a row", strangers),
        (f"images without a label{words}", resolved[images & ~labelled].tolist()),
    ]
    table = table.assign(**{"__path__": resolved})[images & labelled]
    repeated = pd.Series(real_files(table["__path__"]), index=table.index).duplicated()
    problems.append(("repeated rows", table.loc[repeated, "__path__"].tolist()))
    return table, problems


def _groups(paths, given, pattern, where):
    """Patient of each image; without any knowledge each image is its own."""
    if given is not None:
        texts = [known_text(value) for value in given]
        empty = [path for path, text in zip(paths, texts, strict=True) if not text]
        if empty:
            raise DatasetError(
                f"{where}: {len(empty)} images have no patient ({shorten(empty)})"
                f"{unknown_words(given)}; fill the cells of the group column."
            )
        check_patients(given, given.name, where)
        return np.array(texts, dtype=str)
    if pattern is not None:
        matches = [re.search(pattern, os.path.basename(path)) for path in paths]
        strangers = [path for path, m in zip(paths, matches, strict=True) if not (m and m[1])]
        if strangers:
            raise DatasetError(
                f"group_pattern={pattern!r} finds no patient in the names of {len(strangers)} "
                f"images ({shorten(strangers)})."
            )
        found = [match[1] for match in matches]
        alike = alike_patients(found)
        if alike:
            # No error: the numbers of two sites or labels may well meet, as those of Kermany do.
            warn(
                f"{where}: group_pattern={pattern!r} finds patients that differ in leading zeros "
                f"only ({alike}), and takes them for different ones. If they are one, write its "
                "files alike; if not, let the pattern take the letters before the number too.",
                LeakageRiskWarning,
            )
        return np.array(found, dtype=str)
    warn(
        f"{where}: patients are not known, so each image is its own group (byte-identical files "
        "share one). Images of one patient may fall on both sides of a split; name the patients "
        "by group_column or group_pattern.",
        LeakageRiskWarning,
    )
    digits = len(str(len(paths)))
    return merge_groups(
        [f"image{index:0{digits}d}" for index in range(len(paths))], identical_files(paths)
    )


def _columns(table, used, where):
    """Columns of the table beside those used, by their names."""
    columns = {}
    for name in table.columns:
        if name in used or name == "__path__":
            continue
        key = f"{name}_given" if name in _RESERVED else name
        if key != name and key in table.columns:
            raise DatasetError(
                f"{where} has the columns {name!r} and {key!r}; rename one of them."
            )
        if name == "age":
            columns[key] = read_ages(table[name], where)
        elif name in ("sex", "view", "split"):
            columns[key] = [as_text(value) for value in table[name]]
        else:
            columns[key] = table[name].reset_index(drop=True)
    return columns


def _check_pattern(pattern):
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(
            f"group_pattern={pattern!r} is no regular expression ({error}); expected one such as "
            r"r'^(\d+)_'"
        ) from error
    if groups < 1:
        raise ValueError(
            f"group_pattern={pattern!r} has no group; put the patient in parentheses, "
            r"such as r'^(\d+)_'"
        )


def _check_arguments(labels, path_column, target_column, group_column, group_pattern):
    if group_column is not None and group_pattern is not None:
        raise ValueError("group_column and group_pattern both name the patient; pass one of them")
    if group_pattern is not None:
        _check_pattern(group_pattern)
    if isinstance(labels, str) and labels == "folders" and group_column is not None:
        raise ValueError(
            "group_column needs a label table; with labels='folders' use group_pattern"
        )
    if group_column is not None and group_column == path_column:
        raise ValueError(
            f"group_column={group_column!r} is the column of the file names, so that every image "
            "would be a patient of its own. Name the column of the patient ids."
        )
    if isinstance(target_column, list):
        text = all(isinstance(name, str) for name in target_column)
        if not target_column or not text or len(set(target_column)) < len(target_column):
            raise ValueError(
                "target_column must be a str or a list of at least one str, each once, got "
                f"{target_column!r}"
            )


@validate_params(
    {
        "root": [str, PathLike],
        "labels": [str, PathLike, pd.DataFrame],
        "path_column": [str],
        "target_column": [str, list],
        "group_column": [str, None],
        "group_pattern": [str, None],
        "extensions": [tuple, list, None],
        "missing": [StrOptions({"raise", "warn"})],
        "return_X_y": ["boolean"],
        "as_frame": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def load_image_folder(
    root,
    *,
    labels="folders",
    path_column="path",
    target_column="target",
    group_column=None,
    group_pattern=None,
    extensions=None,
    missing="raise",
    return_X_y=False,
    as_frame=False,
):
    r"""Load your own images, with classes from folder names or from a table.

    The images stay files: what is returned are their paths, ready for
    :class:`~sklearn_cxr.preprocessing.ImageReader`. They are in the order of the paths.

    Parameters
    ----------
    root : str or path-like
        Folder with the images, at any depth. Hidden files are ignored.

    labels : "folders", str, path-like or DataFrame, default="folders"
        ``"folders"``: the class of an image is the folder directly below `root` that it is in.
        Otherwise a CSV file, or a DataFrame, with one row per image.

    path_column : str, default="path"
        Column with the file: a path relative to `root`, an absolute path, or a bare file name
        that only one file below `root` has.

    target_column : str or list of str, default="target"
        Column with the class, as text: "01" and "1" are two classes, but one number with and
        without decimals ("1" and "1.0") is an error. A cell that is empty or says NA, N/A, NaN,
        <NA> or null, whatever the case, holds no class; "None" is one. Several columns make a
        multilabel target; they hold 0, 1 or nothing, which is NaN.

    group_column : str, default=None
        Column with the patient. It is read in the same way, so that "007" keeps its zeros, but
        every image needs a patient, and "007" beside "7" is an error: they may be one patient.

    group_pattern : str, default=None
        Regular expression that is searched in each file name; its first group is the patient,
        such as ``r"^(\d+)_"``. For `labels` of either kind.

    extensions : tuple of str, default=None
        Extensions of image files, whatever their case. None means .bmp, .dcm, .dicom, .jpeg,
        .jpg, .png, .tif and .tiff. A file that a table names may also be DICOM of any name.

    missing : {"raise", "warn"}, default="raise"
        What to do with a row without a file or with one that is no image, an image without a
        row or a label, a repeated row, an image outside the class folders and a class folder
        without an image. ``"raise"`` is an error, ``"warn"`` leaves them out with one warning
        that counts them. What is an image is told by the extension; the files are not opened
        here, see :meth:`ImageReader.report <sklearn_cxr.preprocessing.ImageReader.report>`.

    return_X_y : bool, default=False
        Return ``(X, y)`` instead of a Bunch.

    as_frame : bool, default=False
        X is a DataFrame with the columns ``path``, ``age``, ``sex`` and ``view``, y a Series, or
        a DataFrame with a column for each target column.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        With the attributes

        images : ndarray of shape (n_images,), dtype object
            Absolute paths.
        target : ndarray of shape (n_images,), dtype int64, or (n_images, k), dtype float64
            Index into `target_names`, or 0, 1 and NaN for each target column; pandas with
            `as_frame`.
        target_names : list of str
            Classes in sorted order (numbers as numbers), or the target columns as given.
        groups : ndarray of shape (n_images,) of str
            Patients. Where they are not known, each image is a group of its own, byte-identical
            files share one, and a LeakageRiskWarning says so.
        frame : DataFrame
            One row per image: ``path``, ``target`` or the target columns, ``patient``, ``split``,
            ``age``, ``sex``, ``view`` (from columns of these names, else NaN) and every other
            column of the table. A further column that is called path, target or patient gets
            the suffix ``_given``.
        data : DataFrame
            X as described at `as_frame`; only with ``as_frame=True``.
        DESCR : str
            Description of the data set.

    (X, y) : tuple
        Only with ``return_X_y=True``.

    Raises
    ------
    DatasetError
        If the table cannot be understood, a name is ambiguous, rows contradict each other, a
        patient is missing, or, with ``missing="raise"``, table and images do not fit together.

    ValueError
        If parameters contradict each other, such as `group_column` without a table, or
        `target_column` or `group_pattern` cannot be used.

    Warns
    -----
    LeakageRiskWarning
        If patients are not known, or `group_pattern` finds some that differ in leading zeros
        only.

    DatasetWarning
        If all images stand in one class folder, files are left out by their extension, or with
        ``missing="warn"``.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from sklearn_cxr.datasets import load_image_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("sick/007_a.png", "sick/007_b.png", "well/012_a.png"):
    ...         path = pathlib.Path(folder, name)
    ...         path.parent.mkdir(exist_ok=True)
    ...         _ = path.write_bytes(name.encode())
    ...     data = load_image_folder(folder, group_pattern=r"^(\d+)_")
    >>> data.target_names, data.target.tolist(), data.groups.tolist()
    (['sick', 'well'], [0, 0, 1], ['007', '007', '012'])
    """
    _check_arguments(labels, path_column, target_column, group_column, group_pattern)
    extensions = IMAGE_SUFFIXES if extensions is None else tuple(e.lower() for e in extensions)
    root = check_folder(root, "a folder with images")
    files = walk_files(root)
    single = isinstance(target_column, str)
    target_columns = [target_column] if single else list(target_column)
    used = {path_column, *target_columns} | ({group_column} if group_column else set())
    if isinstance(labels, str) and labels == "folders":
        where = root
        table, problems = _from_folders(root, files, extensions)
        table["__path__"] = table["path"]
        single, target_columns, used = True, ["label"], {"path", "label"}
    else:
        table, where = read_labels(labels)
        check_columns(table, sorted(used), where)
        table, problems = _from_table(
            table,
            where,
            root=root,
            files=files,
            extensions=extensions,
            path_column=path_column,
            target_column=target_column,
        )
        keys = target_columns + ([group_column] if group_column else [])
        table = drop_repeated(table, keys, where)
        if single:
            check_spelling(table[target_column], target_column, where)
    settle(problems, missing=missing, where=where)
    if table.empty:
        raise DatasetError(f"{where}: no image with a label is left to load.")
    table = table.sort_values("__path__", ignore_index=True)
    if single:
        target, target_names = encode_classes([as_text(v) for v in table[target_columns[0]]])
    else:
        target, target_names = encode_multilabel(table, target_columns, where), target_columns
    paths = path_array(table["__path__"])
    given = table[group_column] if group_column else None
    return make_bunch(
        paths,
        target=target,
        target_names=target_names,
        groups=_groups(paths, given, group_pattern, where),
        descr=read_descr("image_folder"),
        columns=_columns(table, used, where),
        return_X_y=return_X_y,
        as_frame=as_frame,
    )
