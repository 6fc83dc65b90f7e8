import os
import shutil
from collections import defaultdict

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sklearn_cxr.datasets import load_kermany
from sklearn_cxr.exceptions import DatasetError

TREE = [
    ("train/NORMAL/IM-0115-0001.jpeg", 10),
    ("train/NORMAL/IM-0115-0002.jpeg", 20),
    ("train/NORMAL/NORMAL2-IM-0115-0001-0001.jpeg", 30),
    ("train/NORMAL/NORMAL2-IM-0096-0001.jpeg", 40),
    ("train/PNEUMONIA/person7_bacteria_21.jpeg", 50),
    ("train/PNEUMONIA/person7_virus_3_1.jpeg", 60),
    ("train/PNEUMONIA/person8_virus_4.jpeg", 70),
    ("test/NORMAL/IM-0115-0001.jpeg", 80),
    ("test/PNEUMONIA/person7_bacteria_1.jpeg", 90),
]


def _write(root, tree):
    for name, level in tree:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (12, 9), level).save(path)
    return root


@pytest.fixture
def root(tmp_path):
    return _write(tmp_path / "data", TREE)


def _names(paths):
    return [os.path.basename(path) for path in paths]


def test_binary_train(root):
    data = load_kermany(root)
    assert _names(data.images) == [
        "IM-0115-0001.jpeg",
        "IM-0115-0002.jpeg",
        "NORMAL2-IM-0096-0001.jpeg",
        "NORMAL2-IM-0115-0001-0001.jpeg",
        "person7_bacteria_21.jpeg",
        "person7_virus_3_1.jpeg",
        "person8_virus_4.jpeg",
    ]
    assert data.images.dtype == object
    assert all(os.path.isabs(path) and os.path.isfile(path) for path in data.images)
    np.testing.assert_array_equal(data.target, [0, 0, 0, 0, 1, 1, 1])
    assert data.target.dtype == np.int64
    assert data.target_names == ["normal", "pneumonia"]
    assert "data" not in data
    assert data.DESCR.startswith("Paediatric chest radiographs")


def test_subtype_and_groups(root):
    data = load_kermany(root, subset="all", task="subtype")
    assert data.target_names == ["normal", "bacterial", "viral"]
    np.testing.assert_array_equal(data.target, [0, 0, 0, 0, 1, 2, 2, 0, 1])
    # One number is one patient of its split, whichever prefix or subtype it comes with.
    assert data.groups.tolist() == [
        "train_IM-0115",
        "train_IM-0115",
        "train_IM-0096",
        "train_IM-0115",
        "train_person7",
        "train_person7",
        "train_person8",
        "test_IM-0115",
        "test_person7",
    ]
    frame = data.frame
    assert list(frame.columns[:8]) == [
        "path", "target", "patient", "split", "age", "sex", "view", "subtype",
    ]  # fmt: skip
    assert frame["split"].tolist() == ["train"] * 7 + ["test"] * 2
    assert frame["patient"].tolist() == data.groups.tolist()
    assert set(frame["view"]) == {"AP"}
    assert frame["age"].isna().all()
    assert (frame["duplicate_set"] == -1).all()


def test_copies_are_one_patient(root):
    source = root / "train" / "NORMAL" / "NORMAL2-IM-0096-0001.jpeg"
    shutil.copy(source, root / "train" / "NORMAL" / "NORMAL2-IM-0095-0001.jpeg")
    # A second pair bridges 0096 and person8, so that three numbers become one group.
    shutil.copy(source, root / "train" / "PNEUMONIA" / "person8_virus_9.jpeg")
    # Same size, other content: no copy.
    same_size = bytearray(source.read_bytes())
    same_size[-3] ^= 1
    (root / "train" / "NORMAL" / "IM-0200-0001.jpeg").write_bytes(same_size)
    frame = load_kermany(root).frame.set_index("path")
    frame.index = _names(frame.index)
    joined = frame.loc[
        ["NORMAL2-IM-0096-0001.jpeg", "NORMAL2-IM-0095-0001.jpeg", "person8_virus_4.jpeg"]
    ]
    assert set(joined["patient"]) == {"train_IM-0095"}
    assert frame.loc["IM-0200-0001.jpeg", "patient"] == "train_IM-0200"
    assert frame["duplicate_set"].value_counts().to_dict() == {-1: 7, 0: 3}


def test_return_forms(root):
    X, y = load_kermany(root, return_X_y=True)
    assert X.shape == (7,) and y.shape == (7,)
    X, y = load_kermany(root, return_X_y=True, as_frame=True)
    assert list(X.columns) == ["path", "age", "sex", "view"]
    assert X["path"].tolist() == load_kermany(root).images.tolist()
    assert isinstance(y, pd.Series) and y.name == "target"
    data = load_kermany(root, as_frame=True)
    pd.testing.assert_frame_equal(data.data, X)
    pd.testing.assert_series_equal(data.target, y)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_accepts_the_folders_above_and_ignores_junk(tmp_path, depth):
    base = tmp_path.joinpath("archive", *["chest_xray"] * depth)
    _write(base, TREE)
    (base / "__MACOSX").mkdir()
    (base / "train" / ".DS_Store").write_bytes(b"x")
    (base / "train" / "NORMAL" / ".DS_Store").write_bytes(b"x")
    (base / "train" / "NORMAL" / "._IM-0115-0001.jpeg").write_bytes(b"x")
    assert len(load_kermany(tmp_path / "archive", subset="all").images) == 9


def test_val_is_numbered_with_train(root):
    extra = [
        ("val/NORMAL/NORMAL2-IM-1427-0001.jpeg", 5),
        ("val/PNEUMONIA/person7_virus_9.jpeg", 6),
    ]
    _write(root, extra)
    val = load_kermany(root, subset="val")
    assert val.groups.tolist() == ["train_IM-1427", "train_person7"]
    assert set(val.frame["split"]) == {"val"}
    assert load_kermany(root, subset="all").frame["split"].value_counts().to_dict() == {
        "train": 7,
        "val": 2,
        "test": 2,
    }
    assert len(load_kermany(root).images) == 7


def test_names_of_the_third_release(tmp_path):
    tree = [
        ("test/NORMAL/NORMAL-1003233-0001.jpeg", 1),
        ("test/PNEUMONIA/BACTERIA-1008087-0001.jpeg", 2),
        ("test/PNEUMONIA/VIRUS-1008087-0002.jpeg", 3),
    ]
    data = load_kermany(_write(tmp_path, tree), subset="test", task="subtype")
    assert data.target.tolist() == [0, 1, 2]
    assert data.groups.tolist() == ["patient1003233", "patient1008087", "patient1008087"]


@pytest.mark.parametrize(
    "name",
    [
        "NORMAL/scan.jpeg",
        "NORMAL/person3_virus_1.jpeg",
        "PNEUMONIA/IM-0115-0001.jpeg",
        "PNEUMONIA/person3_fungus_1.jpeg",
        "PNEUMONIA/person3_virus_1.txt",
        "COVID/person3_virus_1.jpeg",
    ],
)
def test_a_name_that_does_not_fit_is_named(root, name):
    path = root / "train" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    stranger = "COVID" if name.startswith("COVID") else os.path.basename(name)
    with pytest.raises(DatasetError, match=stranger) as caught:
        load_kermany(root)
    assert str(root / "train") in str(caught.value)
    assert len(load_kermany(root, subset="test").images) == 2


def test_missing_folders(tmp_path, root):
    with pytest.raises(
        DatasetError, match=r"nowhere does not exist; expected a folder with train"
    ):
        load_kermany(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DatasetError, match="is a file"):
        load_kermany(tmp_path / "file")
    with pytest.raises(DatasetError, match="holds no folder train or test"):
        load_kermany(root / "train" / "NORMAL")
    with pytest.raises(DatasetError, match="val does not exist"):
        load_kermany(root, subset="val")
    shutil.rmtree(root / "test" / "PNEUMONIA")
    with pytest.raises(DatasetError, match="PNEUMONIA does not exist"):
        load_kermany(root, subset="all")
    (root / "test" / "PNEUMONIA").mkdir()
    with pytest.raises(DatasetError, match="PNEUMONIA is empty"):
        load_kermany(root, subset="all")


def test_parameters_are_checked(root):
    with pytest.raises(ValueError, match="'subset' parameter of load_kermany"):
        load_kermany(root, subset="trian")
    with pytest.raises(TypeError):
        load_kermany(root, "test")


COUNTS = {
    "train": {"normal": 1341, "bacterial": 2530, "viral": 1345},
    "test": {"normal": 234, "bacterial": 242, "viral": 148},
}


@pytest.mark.parametrize("subset", ["train", "test"])
def test_real_counts(data_root, subset):
    data = load_kermany(data_root / "chest_xray", subset=subset, task="subtype")
    names = np.array(data.target_names)[data.target]
    assert dict(zip(*np.unique(names, return_counts=True), strict=True)) == COUNTS[subset]
    binary = load_kermany(data_root / "chest_xray", subset=subset).target
    np.testing.assert_array_equal(binary, data.target > 0)


def test_real_copies_and_groups(data_root):
    data = load_kermany(data_root / "chest_xray", subset="all")
    by_content = defaultdict(list)
    for row, path in enumerate(data.images):
        with open(path, "rb") as file:
            by_content[file.read()].append(row)
    copies = [rows for rows in by_content.values() if len(rows) > 1]
    assert len(copies) == 30 and sum(map(len, copies)) == 62
    assert (data.frame["duplicate_set"] >= 0).sum() == 62
    for rows in copies:
        assert len(set(data.groups[rows])) == 1
        assert data.frame["duplicate_set"][rows].nunique() == 1
    # Copies sit inside one split, so that no group spans train and test.
    assert data.frame.groupby("patient")["split"].nunique().max() == 1
    by_name = dict(zip(_names(data.images), data.groups, strict=True))
    pair = [name for name in by_name if name.startswith(("NORMAL2-IM-0095", "NORMAL2-IM-0096"))]
    assert len(pair) >= 2 and len({by_name[name] for name in pair}) == 1
