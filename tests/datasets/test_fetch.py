import hashlib
import io
import os
import socket
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from sklearn_cxr.datasets import (
    _download,
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

NO_PATIENTS = pytest.mark.filterwarnings("ignore::sklearn_cxr.exceptions.LeakageRiskWarning")


class _Server(ThreadingHTTPServer):
    """Loopback server whose answers a test can spoil."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.body = b""
        self.cut = []  # how many bytes to send before the connection breaks, one per request
        self.status = []  # statuses to answer with instead, one per request
        self.ranges = True
        self.shift = 0
        self.asked = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.asked.append((self.path, asked))
        if server.status and (status := server.status.pop(0)):
            self.send_error(status)
            return
        total = len(server.body)
        start = 0
        if asked and server.ranges:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= total:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{total}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start += server.shift
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        else:
            self.send_response(200)
        body = server.body[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.cut:
            body = body[: server.cut.pop(0)]
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *args):
        """Keep the test output free of access logs."""


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(_download, "_WAIT", 0.0)
    monkeypatch.setattr(_download, "_ATTEMPTS", 2)
    monkeypatch.setattr(_download, "_TIMEOUT", (2.0, 2.0))
    monkeypatch.setattr(_download, "_CHUNK", 1000)
    server = _Server()
    monkeypatch.setattr(_fetch, "_ZENODO_FILES", server.url)
    monkeypatch.setattr(_fetch, "_MENDELEY_URL", server.url + "file_downloaded")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def _offer_npz(server, monkeypatch):
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 6), ("val", 3), ("test", 4)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = rng.integers(0, 2, (n, 1), dtype=np.uint8)
    arrays["val_images"][2] = arrays["train_images"][1]
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    server.body = stream.getvalue()
    known = "md5:" + hashlib.md5(server.body).hexdigest()
    monkeypatch.setitem(_fetch._PNEUMONIAMNIST, 28, ("pneumoniamnist.npz", known))
    return arrays


@pytest.fixture
def arrays(server, monkeypatch):
    return _offer_npz(server, monkeypatch)


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
def test_truncated_body_is_resumed_in_the_same_call(server, arrays, tmp_path):
    server.cut = [3000]
    data = fetch_pneumoniamnist(data_home=tmp_path)
    np.testing.assert_array_equal(data.images, arrays["train_images"])
    assert [asked for _, asked in server.asked] == [None, "bytes=3000-"]
    assert _visible(tmp_path) == ["pneumoniamnist.npz"]


@NO_PATIENTS
def test_truncated_body_is_resumed_in_the_next_call(server, arrays, tmp_path):
    server.cut = [3000, 2000]
    with pytest.raises(DownloadError, match=r"(?s)What has come is kept.*zenodo.org") as caught:
        fetch_pneumoniamnist(data_home=tmp_path)
    assert str(tmp_path / "pneumoniamnist.npz") in str(caught.value)
    assert _visible(tmp_path) == ["pneumoniamnist.npz.part"]
    part = tmp_path / "pneumoniamnist.npz.part"
    assert part.read_bytes() == server.body[:5000]
    data = fetch_pneumoniamnist(data_home=tmp_path)
    np.testing.assert_array_equal(data.images, arrays["train_images"])
    assert [asked for _, asked in server.asked] == [None, "bytes=3000-", "bytes=5000-"]
    assert _visible(tmp_path) == ["pneumoniamnist.npz"]


@NO_PATIENTS
@pytest.mark.parametrize("case", ["no ranges", "other range", "complete", "too long"])
def test_partial_file_and_awkward_server(server, arrays, tmp_path, case):
    part = tmp_path / "pneumoniamnist.npz.part"
    keep = {"complete": len(server.body), "too long": len(server.body)}.get(case, 1500)
    part.write_bytes(server.body[:keep] + (b"more" if case == "too long" else b""))
    server.ranges = case != "no ranges"
    server.shift = 10 if case == "other range" else 0
    data = fetch_pneumoniamnist(data_home=tmp_path)
    np.testing.assert_array_equal(data.images, arrays["train_images"])
    assert server.asked[0][1] == f"bytes={keep + 4 * (case == 'too long')}-"
    assert len(server.asked) == (2 if case in ("other range", "too long") else 1)
    assert not part.exists()


@NO_PATIENTS
def test_server_error_is_tried_again(server, arrays, tmp_path):
    server.status = [503]
    fetch_pneumoniamnist(data_home=tmp_path)
    assert len(server.asked) == 2


def test_missing_file_is_not_tried_again(server, arrays, tmp_path):
    server.status = [404]
    with pytest.raises(DownloadError, match="404"):
        fetch_pneumoniamnist(data_home=tmp_path)
    assert len(server.asked) == 1


def test_wrong_checksum(server, arrays, tmp_path, monkeypatch):
    expected = "0" * 32
    monkeypatch.setitem(_fetch._PNEUMONIAMNIST, 28, ("pneumoniamnist.npz", f"md5:{expected}"))
    got = hashlib.md5(server.body).hexdigest()
    with pytest.raises(DownloadError, match="did not give the published file") as caught:
        fetch_pneumoniamnist(data_home=tmp_path)
    assert expected in str(caught.value) and got in str(caught.value)
    assert _visible(tmp_path) == []


def test_stale_partial_file_is_found_by_the_checksum(server, arrays, tmp_path):
    (tmp_path / "pneumoniamnist.npz.part").write_bytes(b"\0" * 1500)
    with pytest.raises(DownloadError, match="did not give the published file"):
        fetch_pneumoniamnist(data_home=tmp_path)
    assert _visible(tmp_path) == []


def test_dead_server(server, arrays, tmp_path, monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setattr(_fetch, "_ZENODO_FILES", f"http://127.0.0.1:{port}/")
    with pytest.raises(DownloadError) as caught:
        fetch_pneumoniamnist(data_home=tmp_path)
    text = str(caught.value)
    assert f"http://127.0.0.1:{port}/pneumoniamnist.npz" in text
    assert "get pneumoniamnist.npz from https://zenodo.org/records/10519652" in text
    assert f"place it at {tmp_path / 'pneumoniamnist.npz'}" in text
    assert _fetch._PNEUMONIAMNIST[28][1] in text
    assert _visible(tmp_path) == []


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
def test_two_callers_at_once_download_once(server, arrays, tmp_path):
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(fetch_pneumoniamnist(data_home=tmp_path)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3 and len(server.asked) == 1
    for data in results:
        np.testing.assert_array_equal(data.images, arrays["train_images"])


@NO_PATIENTS
@pytest.mark.parametrize("verbose", [0, 1])
def test_progress_bar(server, arrays, tmp_path, capsys, verbose):
    fetch_pneumoniamnist(data_home=tmp_path, verbose=verbose)
    assert ("pneumoniamnist.npz: 100%" in capsys.readouterr().err) == bool(verbose)


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
