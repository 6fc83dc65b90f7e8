"""Label tables of anybody's own data: reading them and finding the files that they name."""

import os
from collections import defaultdict

import numpy as np
import pandas as pd

from sklearn_cxr.datasets._files import read_csv_rows, shorten
from sklearn_cxr.exceptions import DatasetError


def read_labels(labels):
    """Label table with every cell as text, or the DataFrame as it was given.

    Text, because a patient "007" is not the patient 7 and a class may be called "None".
    """
    if isinstance(labels, pd.DataFrame):
        return labels.reset_index(drop=True), "the label table"
    path = os.path.abspath(os.fspath(labels))
    if not os.path.isfile(path):
        raise DatasetError(f"{path} does not exist; labels is 'folders', a CSV file or a table.")
    header, rows = read_csv_rows(path)
    width = len(header)
    for line, cells in rows:
        if len(cells) < width or any(cells[width:]):
            raise DatasetError(
                f"{path}, line {line}: {len(cells)} cells where the header has {width}; "
                "expected one cell for each column."
            )
    table = pd.DataFrame([cells[:width] for _, cells in rows], columns=header, dtype=object)
    return table, path


def as_text(value):
    """Cell as text: "" for None and NaN, and "12" for the 12.0 that NaN elsewhere made of 12."""
    if value is None or value is pd.NA or value != value:
        return ""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def check_columns(table, wanted, where):
    """Raise where a named column is not in the table."""
    absent = [name for name in wanted if name not in table.columns]
    if absent:
        raise DatasetError(
            f"{where} has no column {', '.join(map(repr, absent))}; it has "
            f"{', '.join(map(repr, table.columns))}. Name the right ones by path_column, "
            "target_column and group_column."
        )
    if table.columns.has_duplicates:
        raise DatasetError(f"{where} has two columns of the same name; rename one of them.")
    if table.empty:
        raise DatasetError(f"{where} has no rows; expected one for each image.")


def resolve_paths(names, *, root, files, where):
    """Absolute path of each named file, None where there is none.

    A name is a path relative to `root`, or absolute; a bare name may also be the only file of
    that name below `root`.
    """
    by_name = defaultdict(list)
    for path in files:
        by_name[os.path.basename(path)].append(path)
    resolved = []
    for name in names:
        path = os.path.normpath(os.path.join(root, name.replace("\\", os.sep)))
        if name and os.path.isfile(path):
            resolved.append(path)
            continue
        found = by_name.get(name, [])
        if len(found) > 1:
            raise DatasetError(
                f"{where}: {name!r} is the name of {len(found)} files below {root} "
                f"({shorten(found)}); write the path relative to that folder."
            )
        resolved.append(found[0] if found else None)
    return resolved


def encode_classes(labels):
    """Index into the sorted classes, and the classes; numbers are sorted as numbers."""
    classes = sorted(set(labels), key=_class_order)
    code = {name: index for index, name in enumerate(classes)}
    return np.array([code[label] for label in labels], dtype=np.int64), classes


def _class_order(label):
    try:
        return (0, float(label), label)
    except ValueError:
        return (1, 0.0, label)


def encode_multilabel(table, columns, where):
    """Float matrix of 0, 1 and NaN (empty cell) from several columns."""
    matrix = np.full((len(table), len(columns)), np.nan)
    values = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0, "False": 0.0, "True": 1.0, "": np.nan}
    for at, name in enumerate(columns):
        texts = [as_text(value) for value in table[name]]
        strange = sorted({text for text in texts if text not in values})
        if strange:
            raise DatasetError(
                f"{where}, column {name!r}: got {shorten(strange)}; expected 0, 1 or an empty "
                "cell, because several target columns are read as multilabel."
            )
        matrix[:, at] = [values[text] for text in texts]
    return matrix
