"""Label tables of anybody's own data: reading them and finding the files that they name."""

import os
import re
from collections import defaultdict

import numpy as np
import pandas as pd

from sklearn_cxr.datasets._files import read_csv_rows, shorten
from sklearn_cxr.exceptions import DatasetError
from sklearn_cxr.utils._ids import plain_id

# What pandas, R and databases write into an empty cell; "None" is left to be a class.
_UNKNOWN = {"", "na", "n/a", "nan", "<na>", "null"}
_DECIMAL = re.compile(r"[+-]?\d+(\.\d*)?")


def read_labels(labels):
    """Label table with every cell as text, or the DataFrame as it was given.

    Text, so that a patient "007" keeps its zeros and a class may be called "None".
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


def known_text(value):
    """Cell as text, with "" for an empty one and for the words that tables write into those."""
    text = as_text(value)
    return "" if text.lower() in _UNKNOWN else text


def unknown_words(values):
    """In parentheses, the words by which cells say that they hold nothing; "" without any."""
    words = sorted({text for text in map(as_text, values) if text and not known_text(text)})
    return f" (counting {', '.join(map(repr, words))} as none)" if words else ""


def check_spelling(values, column, where):
    """Raise where one class is written in two ways: 1 and 1.0, or Finding and finding."""
    twice = _written_twice(values, lambda text: _without_decimals(text).casefold())
    if twice:
        raise DatasetError(
            f"{where}, column {column!r}: the same number or word is written in several ways "
            f"({twice}), and cells are compared as text. Write each in one way."
        )


def alike_patients(values):
    """First few ids that differ in leading zeros or decimals only, for a message; "" without."""
    return _written_twice(values, plain_id)


def check_patients(values, column, where):
    """Raise where ids differ in leading zeros or decimals only, such as 007, 7 and 7.0.

    They may be one patient, and a patient on both sides of a split is worse than an error.
    """
    twice = alike_patients(values)
    if twice:
        raise DatasetError(
            f"{where}, column {column!r}: the same number or name is written in several ways, "
            f"with other zeros ({twice}), and cells are compared as text. Write each patient in "
            "one way; if they are different patients, put a letter before the ids of some."
        )


def _without_decimals(text):
    decimal = _DECIMAL.fullmatch(text) and "." in text
    return text.rstrip("0").rstrip(".") if decimal else text


def _written_twice(values, plain):
    """First few sets of cells that are equal in a plainer form, for a message; "" without any."""
    spellings = defaultdict(set)
    for text in map(known_text, values):
        spellings[plain(text)].add(text)
    twice = [", ".join(sorted(texts)) for texts in spellings.values() if len(texts) > 1]
    return "; ".join(twice[:3])


def check_columns(table, wanted, where):
    """Raise where a named column is not in the table."""
    absent = [name for name in wanted if name not in table.columns]
    if absent:
        raise DatasetError(
            f"{where} has no column {', '.join(map(repr, absent))}; it has "
            f"{', '.join(map(repr, table.columns))}. Name the right ones by path_column, "
            f"target_column and group_column.{_separator_words(table)}"
        )
    if table.columns.has_duplicates:
        raise DatasetError(f"{where} has two columns of the same name; rename one of them.")
    if table.empty:
        raise DatasetError(f"{where} has no rows; expected one for each image.")


def _separator_words(table):
    """Say what to do where the whole header is one cell: the file has another separator."""
    found = [mark for mark in ";\t|" if len(table.columns) == 1 and mark in str(table.columns[0])]
    if not found:
        return ""
    return (
        f" The cells seem to be separated by {found[0]!r}: pass "
        f"labels=pd.read_csv(path, sep={found[0]!r}, dtype=str, keep_default_na=False)."
    )


def extension_words(names, files):
    """Say how many names without a file are those of files without their extension."""
    stems = {os.path.splitext(os.path.basename(path))[0] for path in files}
    found = sum(os.path.basename(name) in stems for name in names)
    return f", {found} of them for want of the file's extension" if found else ""


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
        # Links to one file are one file; asking takes longer than all else here.
        if len(found) > 1 and len(real := set(real_files(found))) > 1:
            raise DatasetError(
                f"{where}: {name!r} is the name of {len(real)} files below {root} "
                f"({shorten(found)}); write the path relative to that folder."
            )
        resolved.append(found[0] if found else None)
    return resolved


def drop_repeated(table, columns, where):
    """One row per file; rows of one file that differ in label or patient are an error."""
    key = pd.DataFrame(
        {name: [known_text(value) for value in table[name]] for name in columns}, index=table.index
    )
    key["__file__"] = real_files(table["__path__"])
    distinct = key.drop_duplicates()
    contrary = table.loc[distinct.index[distinct.duplicated("__file__")], "__path__"].tolist()
    if contrary:
        raise DatasetError(
            f"{where}: {len(contrary)} images have rows that contradict each other "
            f"({shorten(contrary)}); expected one row for each image, by whatever links the file "
            "is reached."
        )
    return table[~key.duplicated("__file__")]


def real_files(paths):
    """File behind each path, so that two spellings of one, through a link, are equal."""
    return [os.path.realpath(path) for path in paths]


def read_ages(values, where):
    """Years as floats, NaN from an empty cell; anything else is an error."""
    ages = pd.to_numeric(pd.Series([as_text(value) or np.nan for value in values]), "coerce")
    bad = [
        text
        for text, age in zip(map(as_text, values), ages, strict=True)
        if text and not np.isfinite(age)
    ]
    if bad:
        raise DatasetError(
            f"{where}, column 'age': {len(bad)} cells hold no number ({shorten(bad)}); expected "
            "years or an empty cell. Rename the column if it is something else."
        )
    return ages.to_numpy(dtype=float)


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
        texts = [known_text(value) for value in table[name]]
        strange = sorted({text for text in texts if text not in values})
        if strange:
            raise DatasetError(
                f"{where}, column {name!r}: got {shorten(strange)}; expected 0, 1 or an empty "
                "cell, because several target columns are read as multilabel."
            )
        matrix[:, at] = [values[text] for text in texts]
    return matrix
