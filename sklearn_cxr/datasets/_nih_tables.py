"""The tables and lists beside the NIH images, with the quirks of their headers."""

import os
import re

import numpy as np
import pandas as pd

from sklearn_cxr.datasets._files import read_csv_rows, shorten
from sklearn_cxr.exceptions import DatasetError

# The order in which the paper numbers its fourteen findings.
FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
NO_FINDING = "No Finding"
ENTRY_NAMES = ("Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv")
BOX_NAME = "BBox_List_2017.csv"
MAX_AGE = 120.0
_ENTRY_COLUMNS = {
    "image": "image index",
    "findings": "finding labels",
    "follow_up": "follow-up #",
    "patient": "patient id",
    "age": "patient age",
    "sex": "patient gender",
    "view": "view position",
}
# The header writes "OriginalImage[Width,Height]" without quotes, so that it falls in two cells.
_OPTIONAL_COLUMNS = {
    "original_width": "originalimage[width",
    "original_height": "height]",
    "spacing_x": "originalimagepixelspacing[x",
    "spacing_y": "y]",
}
# The box list says "Infiltrate" for what the label table calls "Infiltration".
_BOX_LABELS = {"Infiltrate": "Infiltration"}
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([YMWD]?)", re.IGNORECASE)
_NUMBER = re.compile(r"0*(\d+)(?:\.0*)?")
_YEARS = {"": 1.0, "Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}


def parse_age(text):
    """Years from "58", "058Y", "011M" or "013D"; NaN from an empty cell; None if unreadable."""
    if not text:
        return np.nan
    match = _AGE.fullmatch(text)
    return float(match[1]) * _YEARS[match[2].upper()] if match else None


def find_entry_table(root):
    """Path of the one label table in the folder."""
    found = [name for name in ENTRY_NAMES if os.path.isfile(os.path.join(root, name))]
    if len(found) != 1:
        got = "holds both" if found else "holds neither"
        raise DatasetError(
            f"{root} {got} {' and '.join(ENTRY_NAMES) if found else ' nor '.join(ENTRY_NAMES)}; "
            "expected one label table."
        )
    return os.path.join(root, found[0])


def read_entries(path):
    """Label table as a DataFrame of text, one row per row of the file.

    Columns: image, findings, patient, sex, view (text), age (years), line (of the file), and
    follow_up, original_width, original_height, spacing_x, spacing_y where they are in the file.
    """
    header, rows = read_csv_rows(path)
    names = [name.lower() for name in header]
    missing = [name for name in _ENTRY_COLUMNS.values() if name not in names]
    if missing:
        raise DatasetError(
            f"{path} has no column {', '.join(map(repr, missing))}; expected the official columns "
            f"Image Index, Finding Labels, ..., View Position, got {header}."
        )
    position = {key: names.index(name) for key, name in _ENTRY_COLUMNS.items()}
    for key, name in _OPTIONAL_COLUMNS.items():
        if name in names:
            position[key] = names.index(name)
    needed = 1 + max(position.values())
    width = len(header)
    for line, cells in rows:
        if len(cells) < needed or any(cells[width:]):
            raise DatasetError(
                f"{path}, line {line}: {len(cells)} cells where the header has {width}; "
                "expected one cell for each column."
            )
    table = pd.DataFrame(
        {
            key: pd.Series([cells[at] for _, cells in rows], dtype=object)
            for key, at in position.items()
        }
    )
    table["line"] = [line for line, _ in rows]
    _check_filled(table, path)
    table["patient"] = _patients(table["patient"])
    table["age"] = _ages(table, path)
    for key in ("follow_up", *_OPTIONAL_COLUMNS):
        if key in table:
            table[key] = _numbers(table, key, path)
    return table


def _check_filled(table, path):
    for key in ("image", "patient"):
        empty = table.loc[table[key] == "", "line"]
        if len(empty):
            raise DatasetError(
                f"{path}: no {_ENTRY_COLUMNS[key]!r} in line {shorten(empty)}; "
                "every row needs one."
            )


def _patients(texts):
    # A spreadsheet takes the zeros off, or adds ".0", in some rows or files and not in others.
    matches = [_NUMBER.fullmatch(text) for text in texts]
    if not all(matches):
        return texts
    return pd.Series([match[1] for match in matches], dtype=object)


def _ages(table, path):
    ages = [parse_age(text) for text in table["age"]]
    bad = [
        f"line {line}: {text!r}"
        for line, text, age in zip(table["line"], table["age"], ages, strict=True)
        if age is None
    ]
    if bad:
        raise DatasetError(
            f"{path}: {len(bad)} ages cannot be read ({shorten(bad)}); expected years such as 58, "
            "or 058Y, 011M, 013D, or an empty cell."
        )
    return np.array(ages, dtype=float)


def _numbers(table, key, path):
    numbers = pd.to_numeric(table[key].where(table[key] != "", np.nan), errors="coerce")
    bad = numbers.isna() & (table[key] != "")
    if bad.any():
        raise DatasetError(
            f"{path}: column {key!r} holds no number in line {shorten(table.loc[bad, 'line'])}."
        )
    return numbers.astype(float)


def finding_matrix(table, path):
    """0/1 matrix of shape (n, 14) in the order of `FINDINGS`; an empty cell gives a row of NaN."""
    column = {name: at for at, name in enumerate(FINDINGS)}
    matrix = np.zeros((len(table), len(FINDINGS)))
    for row, (cell, line) in enumerate(zip(table["findings"], table["line"], strict=True)):
        if not cell:
            matrix[row] = np.nan
            continue
        words = [word.strip() for word in cell.split("|")]
        if words == [NO_FINDING]:
            continue
        unknown = [word for word in words if word not in column]
        if unknown:
            raise DatasetError(
                f"{path}, line {line}: {cell!r} is neither {NO_FINDING!r} alone nor made of the "
                f"fourteen findings {', '.join(FINDINGS)}."
            )
        matrix[row, [column[word] for word in words]] = 1.0
    return matrix


def read_list(path):
    """Set of image names in a list file, or None where there is no such file."""
    if not os.path.isfile(path):
        return None
    with open(path, encoding="utf-8-sig") as file:
        return {line.strip() for line in file if line.strip()}


def split_of(images, root):
    """Split of each image: "train_val", "test", or None where the lists do not tell.

    With only one of the two lists, what is not in it belongs to the other split.
    """
    lists = {
        name: read_list(os.path.join(root, f"{name}_list.txt")) for name in ("train_val", "test")
    }
    train_val, test = lists["train_val"], lists["test"]
    if train_val is None and test is None:
        return np.full(len(images), None, dtype=object), False
    if train_val is not None and test is not None:
        both = sorted(train_val & test)
        if both:
            raise DatasetError(
                f"{root}: {len(both)} images are in train_val_list.txt and in test_list.txt "
                f"({shorten(both)}); expected two lists without a common image."
            )
    splits = np.full(len(images), None, dtype=object)
    for row, image in enumerate(images):
        if train_val is not None and image in train_val:
            splits[row] = "train_val"
        elif test is not None and image in test:
            splits[row] = "test"
        elif test is None:
            splits[row] = "test"
        elif train_val is None:
            splits[row] = "train_val"
    return splits, True


def read_boxes(path):
    """Box list as a DataFrame with image, label, x, y, w and h in pixels of the image file.

    The header has one cell ``Bbox [x,y,w,h]`` that a CSV reader takes for four or more, so the
    cells are read by position.
    """
    header, rows = read_csv_rows(path)
    if [name.lower() for name in header[:2]] != ["image index", "finding label"]:
        raise DatasetError(
            f"{path} starts with the columns {header[:2]}; expected Image Index, Finding Label "
            "and then x, y, w, h."
        )
    boxes = []
    for line, cells in rows:
        label = _BOX_LABELS.get(cells[1], cells[1]) if len(cells) > 1 else ""
        try:
            numbers = [float(cell) for cell in cells[2:6]]
        except ValueError:
            numbers = []
        good = len(numbers) == 4 and np.isfinite(numbers).all() and not any(cells[6:])
        if label not in FINDINGS or not good or min(numbers[2:]) <= 0:
            raise DatasetError(
                f"{path}, line {line}: got {cells}; expected an image, one of the fourteen "
                "findings and x, y, w, h with a positive width and height."
            )
        boxes.append((cells[0], label, *numbers))
    return pd.DataFrame(boxes, columns=["image", "label", "x", "y", "w", "h"]).astype(
        {"image": object, "label": object}
    )
