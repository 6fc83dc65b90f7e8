import hashlib
import io
import os
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from sklearn_cxr.datasets import (
    _fetch,
    fetch_kermany,
    fetch_pneumoniamnist,
    get_data_home,
)
from sklearn_cxr.exceptions import (
    DatasetError,
    DatasetWarning,
    DownloadError,
    LeakageRiskWarning,
)

pytest.importorskip("pooch", reason="the extra 'fetch' is not installed")

# PneumoniaMNIST names no patients, of which every load warns; one test asserts that it does.
NO_PATIENTS = pytest.mark.filterwarnings("ignore::sklearn_cxr.exceptions.LeakageRiskWarning")


def _visible(folder):
    return sorted(name for name in os.listdir(folder) if not name.endswith(".lock"))


@NO_PATIENTS
def test_complete_download_then_cache(server, arrays, tmp_path):
    data = fetch_pneumoniamnist(data_home=tmp_path)
    np.testing.assert_array_equal(data.images, arrays["train_images"])
    np.testing.assert_array_equal(data.target, arrays["train_labels"].ravel())
    assert data.target.dtype == np.int64 and data.target_names == ["normal", "pneumonia"]
    assert set(data.frame["split"]) == {"train"}
    assert _visible(tmp_path) == ["pneumoniamnist.npz"]
    assert server.asked == [("/pneumoniamnist.npz?download=1", None)]
    X, y = fetch_pneumoniamnist(
        data_home=tmp_path, subset="test", download_if_missing=False, return_X_y=True
    )
    np.testing.assert_array_equal(X, arrays["test_images"])
    np.testing.assert_array_equal(y, arrays["test_labels"].ravel())
    assert len(server.asked) == 1


def test_all_splits_and_missing_patients(server, arrays, tmp_path):
    with pytest.warns(LeakageRiskWarning, match="does not tell patients") as caught:
        data = fetch_pneumoniamnist(data_home=tmp_path, subset="all")
    assert len(caught) == 1 and caught[0].filename == __file__
    assert data.images.shape == (13, 28, 28)
    assert data.frame["split"].tolist() == ["train"] * 6 + ["val"] * 3 + ["test"] * 4
    assert len(set(data.groups)) == 12
    assert data.groups[8] == data.groups[1] == "train_image0001"


@NO_PATIENTS
def test_as_frame_writes_files(server, arrays, tmp_path):
    for _ in range(2):
        X, y = fetch_pneumoniamnist(
            data_home=tmp_path, subset="all", return_X_y=True, as_frame=True
        )
        assert list(X) == ["path", "age", "sex", "view"]
        read = np.stack([np.asarray(Image.open(path)) for path in X["path"]])
        expected = [arrays[f"{split}_images"] for split in ("train", "val", "test")]
        np.testing.assert_array_equal(read, np.concatenate(expected))
        assert len(y) == 13
    os.remove(X["path"][0])
    with pytest.raises(DatasetError, match="should hold 6 images and was changed"):
        fetch_pneumoniamnist(data_home=tmp_path, as_frame=True)


@NO_PATIENTS
def test_file_placed_by_hand(server, arrays, tmp_path):
    (tmp_path / "pneumoniamnist.npz").write_bytes(server.body)
    assert len(fetch_pneumoniamnist(data_home=tmp_path).images) == 6
    assert server.asked == []


def test_no_download_on_request(server, arrays, tmp_path):
    with pytest.raises(DownloadError, match=r"download_if_missing=False. To do it by hand"):
        fetch_pneumoniamnist(data_home=tmp_path, download_if_missing=False)
    (tmp_path / "pneumoniamnist.npz").write_bytes(b"other")
    with pytest.raises(DownloadError, match=r"is not the published file. To do it by hand"):
        fetch_pneumoniamnist(data_home=tmp_path, download_if_missing=False)
    assert server.asked == []


@NO_PATIENTS
def test_damaged_cached_file_is_downloaded_again(server, arrays, tmp_path):
    path = tmp_path / "pneumoniamnist.npz"
    damaged = bytearray(server.body)
    damaged[500] ^= 1
    path.write_bytes(damaged)
    with pytest.warns(DatasetWarning, match="is not the published file") as caught:
        fetch_pneumoniamnist(data_home=tmp_path)
    assert caught[0].filename == __file__
    assert path.read_bytes() == server.body


@NO_PATIENTS
def test_archive_with_other_arrays(server, arrays, tmp_path, monkeypatch):
    monkeypatch.setitem(_fetch._PNEUMONIAMNIST, 64, _fetch._PNEUMONIAMNIST[28])
    with pytest.raises(DatasetError, match=r"expected \(6, 64, 64\) and uint8"):
        fetch_pneumoniamnist(size=64, data_home=tmp_path)
    with pytest.raises(ValueError, match="'size' parameter of fetch_pneumoniamnist"):
        fetch_pneumoniamnist(size=32, data_home=tmp_path)


def test_published_checksums():
    """As medmnist 3 gives them for the record on Zenodo."""
    assert {size: known for size, (_, known) in _fetch._PNEUMONIAMNIST.items()} == {
        28: "md5:28209eda62fecd6e6a2d98b1501bb15f",
        64: "md5:8f4eceb4ccffa70c672198ea285246c6",
        128: "md5:05b46931834c231683c68f40c47b2971",
        224: "md5:d6a3c71de1b945ea11211b03746c1fe1",
    }


KERMANY = [
    "train/NORMAL/IM-0115-0001.jpeg",
    "train/NORMAL/NORMAL2-IM-0117-0001.jpeg",
    "train/PNEUMONIA/person7_bacteria_21.jpeg",
    "test/NORMAL/IM-0001-0001.jpeg",
    "test/PNEUMONIA/person7_virus_3.jpeg",
]
COUNTS = {
    ("train", "NORMAL"): 2,
    ("train", "PNEUMONIA"): 1,
    ("test", "NORMAL"): 1,
    ("test", "PNEUMONIA"): 1,
}


def _offer_zip(server, monkeypatch, members=(), counts=COUNTS):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name in KERMANY:
            file.writestr(f"chest_xray/{name}", name.encode() * 100)
        file.writestr("__MACOSX/chest_xray/._train", b"junk")
        file.writestr("chest_xray/.DS_Store", b"junk")
        file.writestr("chest_xray/train/NORMAL/.DS_Store", b"junk")
        for name, content in members:
            file.writestr(name, content)
    server.body = stream.getvalue()
    known = "sha256:" + hashlib.sha256(server.body).hexdigest()
    monkeypatch.setattr(_fetch, "_KERMANY_HASH", known)
    monkeypatch.setattr(_fetch, "_KERMANY_COUNTS", counts)


def test_fetch_kermany(server, tmp_path, monkeypatch):
    _offer_zip(server, monkeypatch)
    server.cut = [1000]
    data = fetch_kermany(data_home=tmp_path, subset="all", task="subtype")
    assert [asked for _, asked in server.asked] == [None, "bytes=1000-"]
    folder = tmp_path / "ChestXRay2017" / "chest_xray"
    assert [os.path.relpath(path, folder).replace(os.sep, "/") for path in data.images] == KERMANY
    assert data.target.tolist() == [0, 0, 1, 0, 2]
    assert _visible(tmp_path) == ["ChestXRay2017", "ChestXRay2017.zip"]
    assert _visible(tmp_path / "ChestXRay2017") == ["chest_xray"]
    assert _visible(folder / "train" / "NORMAL") == sorted(
        os.path.basename(name) for name in KERMANY[:2]
    )
    # The extracted folder is enough: neither the network nor the archive is needed again.
    os.remove(tmp_path / "ChestXRay2017.zip")
    assert fetch_kermany(data_home=tmp_path).target.tolist() == [0, 0, 1]
    assert len(server.asked) == 2
    os.remove(data.images[0])
    with pytest.raises(DownloadError, match="delete this folder"):
        fetch_kermany(data_home=tmp_path)


def test_dead_server_for_kermany(server, tmp_path, monkeypatch):
    server.status = [500, 500]
    with pytest.raises(DownloadError, match=r"get ChestXRay2017.zip from https://data.mendeley"):
        fetch_kermany(data_home=tmp_path)


def test_archive_with_other_counts(server, tmp_path, monkeypatch):
    _offer_zip(server, monkeypatch, counts={**COUNTS, ("test", "NORMAL"): 234})
    with pytest.raises(DownloadError, match="234"):
        fetch_kermany(data_home=tmp_path)
    assert _visible(tmp_path) == ["ChestXRay2017.zip"]


def _link():
    info = zipfile.ZipInfo("chest_xray/link")
    info.create_system = 3
    info.external_attr = 0o120777 << 16
    return info


@pytest.mark.parametrize(
    "member", ["../evil.txt", "chest_xray/../../evil.txt", "/evil.txt", "C:/evil.txt",
               "chest_xray\\..\\..\\evil.txt", _link()],
)  # fmt: skip
def test_archive_that_leads_outside(server, tmp_path, monkeypatch, member):
    _offer_zip(server, monkeypatch, members=[(member, b"/etc")])
    home = tmp_path / "inner" / "home"
    with pytest.raises(DownloadError, match="leads outside the folder; nothing was extracted"):
        fetch_kermany(data_home=home)
    assert _visible(home) == ["ChestXRay2017.zip"]
    assert _visible(tmp_path) == ["inner"] and _visible(tmp_path / "inner") == ["home"]


def test_damaged_archive(server, tmp_path, monkeypatch):
    _offer_zip(server, monkeypatch)
    body = bytearray(server.body)
    body[body.index(KERMANY[0].encode() * 2) + 5] ^= 1
    server.body = bytes(body)
    known = "sha256:" + hashlib.sha256(server.body).hexdigest()
    monkeypatch.setattr(_fetch, "_KERMANY_HASH", known)
    with pytest.raises(DownloadError, match="is no whole zip archive"):
        fetch_kermany(data_home=tmp_path)
    assert _visible(tmp_path) == ["ChestXRay2017.zip"]


def test_get_data_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.delenv("SKLEARN_CXR_CACHE", raising=False)
    assert get_data_home() == str(tmp_path / ".cache" / "sklearn_cxr")
    monkeypatch.setenv("SKLEARN_CXR_CACHE", str(tmp_path / "films"))
    assert get_data_home() == str(tmp_path / "films")
    assert get_data_home(tmp_path / "here") == str(tmp_path / "here")
    assert get_data_home("~/there") == str(tmp_path / "there")
    assert os.listdir(tmp_path) == []


def test_message_without_pooch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r"fetch_pneumoniamnist needs .*sklearn-cxr\[fetch\]"):
        fetch_pneumoniamnist(data_home=tmp_path)
