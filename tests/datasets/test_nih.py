import csv
import os

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sklearn_cxr.datasets import load_nih
from sklearn_cxr.exceptions import DatasetError, DatasetWarning

FINDINGS = [
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia",
    "Pneumothorax", "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening",
    "Hernia",
]  # fmt: skip
HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"
)
# As in the full release, where two headings with a comma fall into two cells each.
WIDE = HEADER + ",OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
ROWS = [
    "00000002_000.png,No Finding,0,0002,080Y,M,PA",
    "00000001_000.png,Pneumonia|Edema,0,0001,006M,F,AP",
    "00000001_001.png,Hernia,1,0001,58,F,PA",
    "00000003_000.png,,0,0003,,,",
]


def _write(root, rows=ROWS, header=HEADER, images=None, folder="images", encoding="utf-8"):
    root.mkdir(exist_ok=True)
    (root / "Data_Entry_2017.csv").write_text("\n".join([header, *rows, ""]), encoding=encoding)
    names = [row.split(",")[0] for row in rows] if images is None else images
    for name in names:
        path = root / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 9).save(path)
    return root


@pytest.fixture
def root(tmp_path):
    return _write(tmp_path / "nih")


def _load(root, **kwargs):
    return load_nih(root, **{"subset": "all", "boxes": False, **kwargs})


def test_multilabel(root):
    data = _load(root, task="multilabel")
    assert [os.path.basename(path) for path in data.images] == sorted(
        row.split(",")[0] for row in ROWS
    )
    assert data.target_names == FINDINGS
    expected = np.zeros((4, 14))
    expected[0, [FINDINGS.index("Pneumonia"), FINDINGS.index("Edema")]] = 1
    expected[1, FINDINGS.index("Hernia")] = 1
    expected[3] = np.nan
    np.testing.assert_array_equal(data.target, expected)
    assert data.groups.tolist() == ["1", "1", "2", "3"]
    np.testing.assert_array_equal(data.frame["age"], [0.5, 58.0, 80.0, np.nan])
    assert data.frame["sex"].tolist()[:3] == ["F", "F", "M"]
    assert data.frame["view"].tolist()[:3] == ["AP", "PA", "PA"]
    assert data.frame[["sex", "view"]].iloc[3].isna().all()
    np.testing.assert_array_equal(data.frame[FINDINGS], expected)
    assert "boxes" not in data


@pytest.mark.parametrize(
    "task, target, names",
    [
        ("pneumonia", [1, 0, 0], ["no_pneumonia", "pneumonia"]),
        ("abnormal", [1, 1, 0], ["normal", "abnormal"]),
    ],
)
def test_binary_tasks(root, task, target, names):
    with pytest.raises(DatasetError, match=r"1 images with unknown findings \(00000003_000.png\)"):
        _load(root, task=task)
    with pytest.warns(DatasetWarning, match="1 images with unknown findings") as caught:
        data = _load(root, task=task, missing="warn")
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert data.target.tolist() == target and data.target.dtype == np.int64
    assert data.target_names == names
    np.testing.assert_array_equal(data.frame["Hernia"], [0, 1, 0])


def test_return_forms(root):
    X, y = _load(root, task="multilabel", return_X_y=True, as_frame=True)
    assert list(X.columns) == ["path", "age", "sex", "view"]
    assert isinstance(y, pd.DataFrame) and list(y.columns) == FINDINGS
    assert X["age"].dtype == float
    X, y = _load(root, task="multilabel", return_X_y=True)
    assert X.shape == (4,) and y.shape == (4, 14)


def test_header_of_the_full_release(tmp_path):
    rows = [row + f",{2500 + n},2048,0.143,0.168" for n, row in enumerate(ROWS[:3])]
    root = _write(tmp_path / "nih", rows, WIDE, encoding="utf-8-sig")
    frame = _load(root).frame
    assert frame["original_width"].tolist() == [2501.0, 2502.0, 2500.0]
    assert frame["original_height"].tolist() == [2048.0] * 3
    assert frame["spacing_x"].tolist() == [0.143] * 3
    assert frame["spacing_y"].tolist() == [0.168] * 3
    os.rename(root / "Data_Entry_2017.csv", root / "Data_Entry_2017_v2020.csv")
    assert len(_load(root).images) == 3
    _write(root, ROWS[:3])
    with pytest.raises(DatasetError, match=r"holds both Data_Entry_2017.csv and"):
        _load(root)


def test_numbered_image_folders(tmp_path):
    root = _write(
        tmp_path / "nih", ROWS[:3], images=["00000002_000.png"], folder="images_001/images"
    )
    _write(
        root, ROWS[:3], images=["00000001_000.png", "00000001_001.png"], folder="images_012/images"
    )
    data = _load(root)
    assert [os.path.relpath(path, root) for path in data.images] == [
        os.path.join("images_012", "images", "00000001_000.png"),
        os.path.join("images_012", "images", "00000001_001.png"),
        os.path.join("images_001", "images", "00000002_000.png"),
    ]
    _write(root, ROWS[:3], images=["00000002_000.png"])
    with pytest.raises(DatasetError, match=r"00000002_000.png is there twice"):
        _load(root)


def _subset(root, subset):
    data = load_nih(root, subset=subset, task="multilabel", boxes=False)
    return [os.path.basename(path)[:-4] for path in data.images]


def test_official_lists(root):
    with pytest.raises(DatasetError, match=r"neither train_val_list.txt nor test_list.txt"):
        _subset(root, "train_val")
    assert _load(root, task="multilabel").frame["split"].isna().all()
    (root / "train_val_list.txt").write_text(
        "00000001_000.png\n00000001_001.png\n00099999_000.png"
    )
    assert _subset(root, "train_val") == ["00000001_000", "00000001_001"]
    assert _subset(root, "test") == ["00000002_000", "00000003_000"]
    (root / "test_list.txt").write_text("00000002_000.png\r\n")
    with pytest.raises(DatasetError, match=r"1 images in neither list file \(00000003_000.png\)"):
        _subset(root, "test")
    assert _load(root, task="multilabel").frame["split"].isna().sum() == 1
    (root / "test_list.txt").write_text("00000002_000.png\n00000003_000.png\n00000001_000.png\n")
    with pytest.raises(DatasetError, match=r"1 images are in train_val_list.txt and in test_list"):
        _subset(root, "test")
    os.remove(root / "train_val_list.txt")
    assert _subset(root, "train_val") == ["00000001_001"]


def test_rows_outside_the_subset_need_no_file(root):
    (root / "train_val_list.txt").write_text("00000001_000.png\n00000001_001.png\n")
    os.remove(root / "images" / "00000002_000.png")
    assert len(_subset(root, "train_val")) == 2
    with pytest.raises(DatasetError, match="1 rows without an image file"):
        _subset(root, "test")


def test_misfits_are_counted_once(tmp_path):
    rows = [*ROWS[:3], ROWS[0], "00000009_000.png,Mass,0,9,,,", "00000009_001.png,Mass,1,9,,,"]
    images = ["00000001_000.png", "00000001_001.png", "00000002_000.png", "00000005_000.png"]
    root = _write(tmp_path / "nih", rows, images=images)
    with pytest.raises(DatasetError) as caught:
        _load(root)
    for text in (
        "2 rows without an image file (00000009_000.png, 00000009_001.png)",
        "1 images without a row (00000005_000.png)",
        "1 repeated rows (00000002_000.png)",
        "missing='warn'",
        str(root / "Data_Entry_2017.csv"),
    ):
        assert text in str(caught.value)
    with pytest.warns(
        DatasetWarning, match="2 rows without .* 1 images without .* 1 repeated"
    ) as w:
        data = _load(root, missing="warn")
    assert len(w) == 1 and w[0].filename == __file__
    assert len(data.images) == 3


@pytest.mark.parametrize(
    "row, message",
    [
        ("00000002_000.png,Mass,0,0002,080Y,M,PA", "1 images have rows that contradict"),
        ("00000004_000.png,Broken Rib,0,4,,,", "line 6: 'Broken Rib' is neither"),
        ("00000004_000.png,No Finding|Mass,0,4,,,", "line 6: 'No Finding|Mass'"),
        ("00000004_000.png,Mass,0,4,old,,", "1 ages cannot be read .line 6: 'old'"),
        ("00000004_000.png,Mass,0,,,,", "no 'patient id' in line 6"),
        ("00000004_000.png,Mass,x,4,,,", "'follow_up' holds no number in line 6"),
        ("00000004_000.png,Mass,0", "line 6: 3 cells where the header has 7"),
        ("00000004_000.png,Mass,0,4,,,,extra", "line 6: 8 cells where the header has 7"),
    ],
)
def test_rows_that_cannot_be_understood(tmp_path, row, message):
    root = _write(tmp_path / "nih", [*ROWS, row])
    with pytest.raises(DatasetError, match=message.replace("|", r"\|")):
        _load(root, task="multilabel", missing="warn")


def test_impossible_ages_are_unknown(tmp_path):
    root = _write(tmp_path / "nih", [*ROWS[:3], "00000004_000.png,Mass,0,4,414,M,PA"])
    with pytest.warns(DatasetWarning, match=r"1 ages above 120 years \(00000004_000.png\)") as w:
        data = _load(root)
    assert w[0].filename == __file__
    np.testing.assert_array_equal(data.frame["age"], [0.5, 58.0, 80.0, np.nan])


def test_tables_and_folders_that_are_not_there(tmp_path):
    with pytest.raises(DatasetError, match="does not exist"):
        _load(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"holds neither Data_Entry_2017.csv nor"):
        _load(tmp_path)
    (tmp_path / "Data_Entry_2017.csv").write_text("Image,Label\na.png,Mass\n")
    with pytest.raises(DatasetError, match="holds no image folder"):
        _load(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(DatasetError, match="has no column 'image index', 'finding labels'"):
        _load(tmp_path)
    (tmp_path / "Data_Entry_2017.csv").write_text(HEADER + "\n")
    with pytest.raises(DatasetError, match="holds no rows"):
        _load(tmp_path)
    (tmp_path / "Data_Entry_2017.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DatasetError, match="is not a CSV file in UTF-8"):
        _load(tmp_path)
    _write(tmp_path, ROWS[:2], images=[])
    with (
        pytest.warns(DatasetWarning, match="2 rows without"),
        pytest.raises(DatasetError, match="no image of subset='all' is left"),
    ):
        _load(tmp_path, missing="warn")


BOX_ROWS = "00000001_000.png,Infiltrate,10.5,20,30,40\n00000099_000.png,Mass,1,2,3,4\n"


@pytest.mark.parametrize(
    "header",
    ["Image Index,Finding Label,Bbox [x,y,w,h]", "Image Index,Finding Label,Bbox [x,y,w,h],,,"],
)
@pytest.mark.parametrize("tail", ["", ",,,"])
def test_boxes(root, header, tail):
    rows = BOX_ROWS.replace("\n", tail + "\n")
    (root / "BBox_List_2017.csv").write_text(f"{header}\n{rows}")
    data = _load(root, task="multilabel", boxes=True)
    assert data.boxes.values.tolist() == [["00000001_000.png", "Infiltration", 10.5, 20, 30, 40]]
    assert list(data.boxes.columns) == ["image", "label", "x", "y", "w", "h"]
    assert data.box_counts == {"in_file": 2, "loaded": 1, "images": 1}


@pytest.mark.parametrize(
    "row", ["a.png,Mass,1,2,3", "a.png,Mass,1,2,0,4", "a.png,Rib,1,2,3,4", "a.png,Mass,1,x,3,4",
            "a.png,Mass,1,2,3,4,5", "a.png,Mass,1,nan,3,4", "a.png"],
)  # fmt: skip
def test_boxes_that_cannot_be_understood(root, row):
    (root / "BBox_List_2017.csv").write_text(
        f"Image Index,Finding Label,Bbox [x,y,w,h]\n{BOX_ROWS}{row}\n"
    )
    with pytest.raises(DatasetError, match=r"BBox_List_2017.csv, line 4"):
        _load(root, task="multilabel", boxes=True)


def test_box_file_that_is_not_there(root):
    with pytest.raises(DatasetError, match=r"1 missing box list \(BBox_List_2017.csv\)"):
        _load(root, task="multilabel", boxes=True)
    with pytest.warns(DatasetWarning, match="missing box list"):
        data = _load(root, task="multilabel", boxes=True, missing="warn")
    assert data.boxes.empty and data.box_counts["in_file"] == 0


def test_real_slice(data_root):
    root = data_root / "nih"
    data = load_nih(root, subset="all", task="multilabel")
    with open(root / "Data_Entry_2017.csv", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["Image Index"])
    assert len(data.images) == len(rows) == 106
    assert [os.path.basename(path) for path in data.images] == [r["Image Index"] for r in rows]
    for at, name in enumerate(FINDINGS):
        given = [name in row["Finding Labels"].split("|") for row in rows]
        np.testing.assert_array_equal(data.target[:, at], given)
    assert data.groups.tolist() == [row["Patient ID"] for row in rows]
    with open(root / "train_val_list.txt") as file:
        official = set(file.read().split())
    is_train = np.array([row["Image Index"] in official for row in rows])
    np.testing.assert_array_equal(data.frame["split"] == "train_val", is_train)
    train = load_nih(root, task="abnormal")
    assert len(train.images) == is_train.sum()
    assert train.target.sum() == sum(
        row["Finding Labels"] != "No Finding" for row, ok in zip(rows, is_train, strict=True) if ok
    )
    assert set(load_nih(root, subset="test").images).isdisjoint(train.images)


def test_real_boxes(data_root):
    root = data_root / "nih"
    data = load_nih(root, subset="all")
    with open(root / "BBox_List_2017.csv", newline="") as file:
        rows = list(csv.reader(file))[1:]
    here = set(os.listdir(root / "images"))
    expected = sorted((r[0], [float(v) for v in r[2:6]]) for r in rows if r[0] in here)
    assert data.box_counts == {"in_file": 984, "loaded": 6, "images": 6}
    got = [(row.image, [row.x, row.y, row.w, row.h]) for row in data.boxes.itertuples(index=False)]
    assert got == expected
    assert (data.boxes["x"] + data.boxes["w"] <= 1024).all()
    assert (data.boxes["y"] + data.boxes["h"] <= 1024).all()


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["1", "01", "0001.0", "10"], ["1", "1", "1", "10"]),
        (["0", "00", "100", "1"], ["0", "0", "100", "1"]),
        # Not all are numbers: nothing is known of what the zeros mean.
        (["1", "01", "A1", "10"], ["1", "01", "A1", "10"]),
    ],
)
def test_patients_that_are_numbers_are_compared_as_such(tmp_path, ids, expected):
    rows = [f"{n:08d}_000.png,Edema,0,{patient},,," for n, patient in enumerate(ids)]
    data = _load(_write(tmp_path / "nih", rows=rows))
    assert data.groups.tolist() == expected
    assert data.groups.dtype.kind == "U"
    assert data.frame["patient"].tolist() == expected
