"""A server on the loopback address, in the place of those that publish the data sets."""

import hashlib
import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from sklearn_cxr.datasets import _download, _fetch


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
