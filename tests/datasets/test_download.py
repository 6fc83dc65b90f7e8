"""What a network can do to a download, met through `fetch_pneumoniamnist`."""

import hashlib
import os
import socket
import threading

import numpy as np
import pytest

from sklearn_cxr.datasets import _fetch, fetch_pneumoniamnist
from sklearn_cxr.exceptions import DownloadError

pytest.importorskip("pooch", reason="the extra 'fetch' is not installed")

# PneumoniaMNIST names no patients, of which every load warns; one test asserts that it does.
NO_PATIENTS = pytest.mark.filterwarnings("ignore::sklearn_cxr.exceptions.LeakageRiskWarning")


def _visible(folder):
    return sorted(name for name in os.listdir(folder) if not name.endswith(".lock"))


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
