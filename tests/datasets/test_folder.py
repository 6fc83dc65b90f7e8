import os
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sklearn_cxr.datasets import load_image_folder
from sklearn_cxr.exceptions import DatasetError, DatasetWarning, LeakageRiskWarning

PATTERN = r"^(\d+)_"


def _image(path, level=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    level = sum(map(ord, str(path))) % 256 if level is None else level
    Image.new("L", (7, 5), level).save(path)


@pytest.fixture
def root(tmp_path):
    """Folder with two classes and three patients."""
    root = tmp_path / "films"
    for name in ("well/012_a.png", "sick/007_b.JPG", "sick/deep/007_a.png", "sick/100_a.tif"):
        _image(root / name)
    return root


def _relative(data, root):
    return [os.path.relpath(path, root).replace(os.sep, "/") for path in data.images]


def test_classes_from_folders(root):
    (root / "README.txt").write_text("no class folder, so no label is lost")
    (root / ".DS_Store").write_bytes(b"x")
    data = load_image_folder(root, group_pattern=PATTERN)
    assert _relative(data, root) == [
        "sick/007_b.JPG",
        "sick/100_a.tif",
        "sick/deep/007_a.png",
        "well/012_a.png",
    ]
    assert data.target.tolist() == [0, 0, 0, 1] and data.target.dtype == np.int64
    assert data.target_names == ["sick", "well"]
    assert data.groups.tolist() == ["007", "100", "007", "012"]
    assert list(data.frame) == ["path", "target", "patient", "split", "age", "sex", "view"]
    X, y = load_image_folder(root, group_pattern=PATTERN, return_X_y=True, as_frame=True)
    assert list(X) == ["path", "age", "sex", "view"]
    assert X["path"].tolist() == data.images.tolist() and y.tolist() == [0, 0, 0, 1]


def test_without_patients_each_image_is_a_group(root):
    source = (root / "well" / "012_a.png").read_bytes()
    (root / "well" / "copy.png").write_bytes(source)
    with pytest.warns(LeakageRiskWarning, match="patients are not known") as caught:
        data = load_image_folder(root)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert len(data.images) == 5 and len(set(data.groups)) == 4
    assert data.groups[3] == data.groups[4]


@pytest.mark.parametrize("kind", ["loose", "empty"])
def test_misfits_in_folders(root, kind):
    if kind == "loose":
        _image(root / "stray.png")
        text = r"1 images outside the class folders \(.*stray.png\)"
    else:
        (root / "unsure").mkdir()
        text = r"1 class folders without an image \(unsure\)"
    with pytest.raises(DatasetError, match=text):
        load_image_folder(root, group_pattern=PATTERN)
    with pytest.warns(DatasetWarning, match=text) as caught:
        data = load_image_folder(root, group_pattern=PATTERN, missing="warn")
    assert len(caught) == 1 and caught[0].filename == __file__
    assert len(data.images) == 4 and data.target_names == ["sick", "well"]


def test_files_that_are_no_images_are_counted(root):
    (root / "well" / "013_a.webp").write_bytes(b"x")
    with pytest.warns(DatasetWarning, match=r"left out 1 files .*013_a.webp") as caught:
        assert len(load_image_folder(root, group_pattern=PATTERN).images) == 4
    assert caught[0].filename == __file__
    (root / "well" / "notes.txt").write_text("x")
    with pytest.warns(DatasetWarning, match=r"left out 2 files .*100_a.tif.*notes.txt"):
        data = load_image_folder(root, group_pattern=PATTERN, extensions=(".png", ".webp", ".jpg"))
    assert _relative(data, root)[-1] == "well/013_a.webp" and len(data.images) == 4


def test_folders_that_are_no_classes(tmp_path):
    with pytest.raises(DatasetError, match="does not exist"):
        load_image_folder(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="holds no folders"):
        load_image_folder(tmp_path)
    _image(tmp_path / "train" / "sick" / "1.png")
    _image(tmp_path / "test" / "sick" / "1.png")
    with pytest.raises(DatasetError, match="test, train, which are splits and not classes"):
        load_image_folder(tmp_path)


def test_group_pattern_must_fit(root):
    with pytest.raises(DatasetError, match=r"no patient in the names of 1 images .*100_a.tif"):
        load_image_folder(root, group_pattern=r"^(0\d+)_")
    with pytest.raises(ValueError, match="has no group"):
        load_image_folder(root, group_pattern=r"^\d+_")
    with pytest.raises(ValueError, match="needs a label table"):
        load_image_folder(root, group_column="patient")
    with pytest.raises(ValueError, match="pass one of them"):
        load_image_folder(root, labels="x.csv", group_column="patient", group_pattern=PATTERN)
    with pytest.raises(ValueError, match="group_column='path' is the column of the file names"):
        load_image_folder(root, labels="x.csv", group_column="path")


CSV = """\
file,finding,pid,age,sex,view,hospital,note
sick/007_b.JPG,None,007,61,F,PA,002,
well/012_a.png,TB,012,,,AP,003,seen
007_a.png,None,007,62.5,F,,002,
100_a.tif,TB,100,4,M,PA,002,NA
"""
NAMES = {"path_column": "file", "target_column": "finding", "group_column": "pid"}


@pytest.fixture
def table(tmp_path, root):
    path = tmp_path / "labels.csv"
    path.write_text(CSV, encoding="utf-8-sig")
    return path


def test_labels_from_csv(root, table):
    data = load_image_folder(root, labels=table, **NAMES)
    assert _relative(data, root) == [
        "sick/007_b.JPG",
        "sick/100_a.tif",
        "sick/deep/007_a.png",
        "well/012_a.png",
    ]
    # "None" and "NA" are text, and numbers in text keep their zeros.
    assert data.target_names == ["None", "TB"]
    assert data.target.tolist() == [0, 1, 0, 1]
    assert data.groups.tolist() == ["007", "100", "007", "012"]
    frame = data.frame
    np.testing.assert_array_equal(frame["age"], [61, 4, 62.5, np.nan])
    assert frame["sex"].tolist()[:3] == ["F", "M", "F"] and frame["sex"].isna().tolist()[3]
    assert frame["view"].isna().tolist() == [False, False, True, False]
    assert frame["hospital"].tolist() == ["002", "002", "002", "003"]
    assert frame["note"].tolist() == ["", "NA", "", "seen"]
    again = load_image_folder(root, labels=str(table), **NAMES)
    pd.testing.assert_frame_equal(again.frame, frame)


def test_labels_from_a_frame(root):
    table = pd.DataFrame(
        {
            "path": [
                str(root / "sick" / "100_a.tif"),
                "sick\\007_b.JPG",
                "012_a.png",
                "007_a.png",
            ],
            "target": [10, 2, 2, 10],
            "pid": [3.0, 4.0, 4.0, 5.0],
            "patient": ["a", "b", "c", "d"],
        }
    )
    data = load_image_folder(root, labels=table, group_column="pid")
    # Sorted by path: 007_b, 100_a, 007_a, 012_a; the classes are sorted as numbers.
    assert data.target_names == ["2", "10"]
    assert data.target.tolist() == [0, 1, 1, 0]
    assert data.groups.tolist() == ["4", "3", "5", "4"]
    assert data.frame["patient_given"].tolist() == ["b", "a", "d", "c"]


def test_group_pattern_with_a_table(root, table):
    names = {key: value for key, value in NAMES.items() if key != "group_column"}
    data = load_image_folder(root, labels=table, group_pattern=PATTERN, **names)
    assert data.groups.tolist() == ["007", "100", "007", "012"]


def test_several_target_columns(root):
    table = pd.DataFrame(
        {
            "path": ["007_b.JPG", "100_a.tif", "007_a.png", "012_a.png"],
            "edema": ["1", "", "0", ""],
            "mass": [1.0, 0.0, np.nan, np.nan],
            "pid": list("abcd"),
        }
    )
    options = {"labels": table, "group_column": "pid"}
    data = load_image_folder(root, target_column=["mass", "edema"], **options)
    assert data.target_names == ["mass", "edema"]
    nan = np.nan
    np.testing.assert_array_equal(data.target, [[1, 1], [0, nan], [nan, 0], [nan, nan]])
    _, y = load_image_folder(
        root, target_column=["edema"], return_X_y=True, as_frame=True, **options
    )
    np.testing.assert_array_equal(y["edema"], [1, nan, 0, nan])
    with pytest.raises(DatasetError, match="column 'pid': got a, b, c and 1 more; expected 0, 1"):
        load_image_folder(root, target_column=["mass", "pid"], **options)


def test_misfits_in_a_table_are_counted_once(root, table):
    text = CSV.replace("100_a.tif,TB", "100_a.tif,").replace("012_a", "013_a")
    table.write_text(text + text.splitlines()[1] + "\n")
    with pytest.raises(DatasetError) as caught:
        load_image_folder(root, labels=table, **NAMES)
    for part in (
        "1 rows without an image file (well/013_a.png)",
        f"1 images without a row ({root / 'well' / '012_a.png'})",
        f"1 images without a label ({root / 'sick' / '100_a.tif'})",
        f"1 repeated rows ({root / 'sick' / '007_b.JPG'})",
        "missing='warn'",
        str(table),
    ):
        assert part in str(caught.value)
    with pytest.warns(DatasetWarning, match="left out 1 rows without") as w:
        data = load_image_folder(root, labels=table, missing="warn", **NAMES)
    assert len(w) == 1 and w[0].filename == __file__
    assert _relative(data, root) == ["sick/007_b.JPG", "sick/deep/007_a.png"]


@pytest.mark.parametrize(
    "change, message",
    [
        (("012_a.png,TB,012", "012_a.png,TB,"), r"1 images have no patient .*012_a.png"),
        (("100_a.tif,TB,100,4", "100_a.tif,TB,100,old"), r"column 'age': 1 cells .*\(old\)"),
        (("hospital", "split,hospital"), "line 2: 8 cells where the header has 9"),
        (("seen", "seen,twice"), "line 3: 9 cells where the header has 8"),
        (("hospital", "sex"), "two columns of the same name"),
        (("well/012_a.png", "007_a.png"), "1 images have rows that contradict each other"),
        (("file,finding", "name,finding"), r"no column 'file'; it has 'name', 'finding'"),
    ],
)
def test_tables_that_cannot_be_understood(root, table, change, message):
    table.write_text(CSV.replace(*change))
    with pytest.raises(DatasetError, match=message):
        load_image_folder(root, labels=table, missing="warn", **NAMES)


def test_an_ambiguous_name_is_an_error(root, table):
    _image(root / "well" / "007_a.png")
    with pytest.raises(DatasetError, match=r"'007_a.png' is the name of 2 files below"):
        load_image_folder(root, labels=table, missing="warn", **NAMES)
    table.write_text(CSV.replace("\n007_a.png", "\nsick/deep/007_a.png"))
    with pytest.warns(DatasetWarning, match=r"1 images without a row"):
        assert len(load_image_folder(root, labels=table, missing="warn", **NAMES).images) == 4


def test_a_path_by_another_spelling_is_the_same_file(tmp_path, root, table):
    link = tmp_path / "link"
    link.symlink_to(root, target_is_directory=True)
    table.write_text(CSV.replace("well/012_a.png", str(link / "well" / "012_a.png")))
    assert len(load_image_folder(root, labels=table, **NAMES).images) == 4


@pytest.fixture
def linked(tmp_path, root, table):
    """Table in which one file has a second row, by a path through a linked folder."""
    link = tmp_path / "link"
    link.symlink_to(root, target_is_directory=True)

    def write(cells):
        table.write_text(CSV + f"{link / 'well' / '012_a.png'},{cells}\n")
        return link / "well" / "012_a.png"

    return write


@pytest.mark.parametrize("cells", ["None,012,,,AP,003,seen", "TB,100,,,AP,003,seen"])
def test_rows_of_one_file_contradict_through_a_link(root, table, linked, cells):
    path = linked(cells)
    with pytest.raises(DatasetError, match=f"1 images have rows that contradict .*{path}"):
        load_image_folder(root, labels=table, missing="warn", **NAMES)


def test_a_file_given_twice_through_a_link_is_repeated(root, table, linked):
    path = linked("TB,012,,,AP,003,seen")
    with pytest.raises(DatasetError, match=rf"1 repeated rows \({path}\)"):
        load_image_folder(root, labels=table, **NAMES)
    with pytest.warns(DatasetWarning, match="1 repeated rows"):
        data = load_image_folder(root, labels=table, missing="warn", **NAMES)
    # The path stays as the first row gives it.
    assert _relative(data, root)[-1] == "well/012_a.png" and len(data.images) == 4
    assert list(data.frame)[7:] == ["hospital", "note"]


def test_a_path_through_a_link_is_kept_as_given(tmp_path, root, table, linked):
    path = linked("TB,012,,,AP,003,seen")
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join([lines[0], lines[-1], lines[1], *lines[3:-1]]))
    data = load_image_folder(root, labels=table, **NAMES)
    assert str(path) in data.images.tolist() and len(data.images) == 4


def test_a_bare_name_may_have_a_link_beside_its_file(root, table):
    (root / "well" / "007_a.png").symlink_to(root / "sick" / "deep" / "007_a.png")
    data = load_image_folder(root, labels=table, **NAMES)
    assert len(data.images) == 4


def test_tables_that_are_not_there(tmp_path, root):
    with pytest.raises(DatasetError, match=r"none.csv does not exist"):
        load_image_folder(root, labels=tmp_path / "none.csv", **NAMES)
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(DatasetError, match="holds no rows"):
        load_image_folder(root, labels=tmp_path / "empty.csv", **NAMES)
    (tmp_path / "head.csv").write_text("file,finding,pid\n")
    with pytest.raises(DatasetError, match="holds no rows"):
        load_image_folder(root, labels=tmp_path / "head.csv", **NAMES)


def test_real_folder(data_root):
    root = data_root / "chest_xray" / "test"
    # The numbers of normal films, 0001, and of others, 1, are those of different children.
    with pytest.warns(LeakageRiskWarning, match=r"leading zeros only \(0001, 1; .* the letters"):
        load_image_folder(root, group_pattern=r"(?:person|IM-)(\d+)")
    data = load_image_folder(root, group_pattern=r"((?:person|IM-)\d+)")
    assert data.target_names == ["NORMAL", "PNEUMONIA"]
    assert np.bincount(data.target).tolist() == [234, 390]


@pytest.mark.parametrize("word", ["NA", "NaN", "nan", "N/A", "n/a", "<NA>", "NULL"])
def test_words_for_an_empty_cell_are_no_class_and_no_patient(root, table, word):
    table.write_text(CSV.replace("100_a.tif,TB,", f"100_a.tif,{word},"))
    text = rf"1 images without a label \(counting '{word}' as none\) \(.*100_a.tif\)"
    with pytest.raises(DatasetError, match=text):
        load_image_folder(root, labels=table, **NAMES)
    with pytest.warns(DatasetWarning, match=text):
        data = load_image_folder(root, labels=table, missing="warn", **NAMES)
    assert data.target_names == ["None", "TB"] and data.target.tolist() == [0, 0, 1]
    table.write_text(CSV.replace(",007,", f",{word},"))
    with pytest.raises(DatasetError, match=f"2 images have no patient .*counting '{word}' as"):
        load_image_folder(root, labels=table, missing="warn", **NAMES)


def test_words_for_an_empty_cell_are_unknown_labels(root):
    table = pd.DataFrame(
        {
            "path": ["007_b.JPG", "100_a.tif", "007_a.png", "012_a.png"],
            "edema": ["1", "NA", "nan", "0"],
            "pid": list("abcd"),
        }
    )
    data = load_image_folder(root, labels=table, target_column=["edema"], group_column="pid")
    np.testing.assert_array_equal(data.target[:, 0], [1, np.nan, np.nan, 0])


@pytest.mark.parametrize(
    ("change", "column", "message"),
    [
        ((",TB,012", ",1,012"), "finding", r"\(1, 1.0\)"),
        ((",TB,012", ",1.00,012"), "finding", r"\(1.0, 1.00\)"),
        ((",TB,012", ",1.,012"), "finding", r"\(1\., 1\.0\)"),
        ((",012,", ",007.0,"), "pid", r"\(007, 007.0\)"),
        ((",012,", ",7,"), "pid", r"\(007, 7\)"),
        ((",012,", ",7.0,"), "pid", r"\(007, 7.0\)"),
        ((",007,62", ",07,62"), "pid", r"\(007, 07\)"),
    ],
)
def test_one_number_in_two_spellings_is_an_error(root, table, change, column, message):
    table.write_text(CSV.replace("100_a.tif,TB", "100_a.tif,1.0").replace(*change))
    with pytest.raises(DatasetError, match=f"column '{column}': the same number .*{message}"):
        load_image_folder(root, labels=table, **NAMES)


def test_leading_zeros_make_another_class(root, table):
    text = CSV.replace(",TB,012", ",1,012").replace("100_a.tif,TB", "100_a.tif,01")
    table.write_text(text)
    data = load_image_folder(root, labels=table, **NAMES)
    assert data.target_names == ["01", "1", "None"]
    assert data.groups.tolist() == ["007", "100", "007", "012"]


@pytest.mark.parametrize("ids", [("0a1", "a1"), ("0", "00")])
def test_leading_zeros_do_not_make_another_patient(root, table, ids):
    table.write_text(CSV.replace(",012,", f",{ids[0]},").replace(",100,", f",{ids[1]},"))
    with pytest.raises(DatasetError, match=rf"column 'pid': .*\({ids[0]}, {ids[1]}\)"):
        load_image_folder(root, labels=table, **NAMES)


def test_zeros_inside_and_at_the_end_make_another_patient(root, table):
    table.write_text(CSV.replace(",012,", ",10,").replace(",007,", ",1,"))
    data = load_image_folder(root, labels=table, **NAMES)
    assert data.groups.tolist() == ["1", "100", "1", "10"]


@pytest.mark.parametrize("wrong", [[], ["a", "a"], ["a", 1]])
def test_target_columns_that_are_none(root, table, wrong):
    with pytest.raises(ValueError, match=r"a list of at least one str, each once, got \["):
        load_image_folder(root, labels=table, target_column=wrong)


def test_a_pattern_that_is_none(root):
    with pytest.raises(ValueError, match=r"'\(\[' is no regular expression \(.*expected one such"):
        load_image_folder(root, group_pattern="([")


def test_rows_that_name_no_image(tmp_path, root, table):
    (root / "notes.txt").write_text("x")
    text = CSV.replace("100_a.tif,", f"{table},").replace("well/012_a.png,", "notes.txt,")
    table.write_text(text)
    with pytest.raises(DatasetError) as caught:
        load_image_folder(root, labels=table, **NAMES)
    part = f"2 rows whose file is no image by `extensions` ({root / 'notes.txt'}, {table})"
    assert part in str(caught.value)
    with pytest.warns(DatasetWarning, match="2 rows whose file is no image"):
        data = load_image_folder(root, labels=table, missing="warn", **NAMES)
    assert _relative(data, root) == ["sick/007_b.JPG", "sick/deep/007_a.png"]


def test_a_row_may_name_a_dicom_file_without_a_suffix(root, table):
    (root / "well" / "IM0001").write_bytes(bytes(128) + b"DICM" + bytes(20))
    table.write_text(CSV + "well/IM0001,TB,100,,,,,\n")
    data = load_image_folder(root, labels=table, **NAMES)
    assert _relative(data, root)[-1] == "well/IM0001"


def test_a_single_class_folder_is_told_with_the_table_beside_it(tmp_path):
    for name in ("films/1_a.png", "films/2_a.png"):
        _image(tmp_path / name)
    with pytest.warns(DatasetWarning, match=r"one class folder, 'films', .* own\.$"):
        load_image_folder(tmp_path, group_pattern=PATTERN)
    (tmp_path / "labels.csv").write_text(CSV)
    with pytest.warns(DatasetWarning, match=r"may stand in .*labels.csv: name it by labels"):
        data = load_image_folder(tmp_path, group_pattern=PATTERN, missing="warn")
    assert data.target_names == ["films"]


def test_a_class_in_two_spellings(root, table):
    table.write_text(CSV.replace(",TB,4", ",Tb,4").replace("100_a.tif,TB", "100_a.tif,tb"))
    with pytest.raises(DatasetError, match=r"'finding': the same number or word .* \(TB, tb\)"):
        load_image_folder(root, labels=table, **NAMES)


@pytest.mark.parametrize("mark", [";", "\t"])
def test_a_table_with_another_separator(root, table, mark):
    table.write_text(CSV.replace(",", mark))
    with pytest.raises(
        DatasetError, match=rf"has no column .* sep={re.escape(repr(mark))}, dtype"
    ):
        load_image_folder(root, labels=table, **NAMES)
    read = pd.read_csv(table, sep=mark, dtype=str, keep_default_na=False)
    assert load_image_folder(root, labels=read, **NAMES).target_names == ["None", "TB"]


def test_names_without_their_extension(root, table):
    table.write_text(CSV.replace("012_a.png", "012_a").replace("100_a.tif", "gone.tif"))
    words = r"2 rows without an image file, 1 of them for want of the file's extension"
    with pytest.raises(DatasetError, match=words):
        load_image_folder(root, labels=table, **NAMES)
