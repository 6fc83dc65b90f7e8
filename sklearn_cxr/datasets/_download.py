"""Downloads that resume, are checked, and appear under their name only when they are whole."""

import contextlib
import os
import shutil
import stat
import tempfile
import time
import zipfile
import zlib
from pathlib import Path

from filelock import FileLock

from sklearn_cxr.datasets._files import is_junk
from sklearn_cxr.exceptions import DatasetWarning, DownloadError
from sklearn_cxr.utils._optional import import_optional
from sklearn_cxr.utils._warn import warn

_ATTEMPTS = 5
_WAIT = 2.0
_TIMEOUT = (10.0, 60.0)
_CHUNK = 1 << 16


class _Interrupted(Exception):
    """The body ended early or the server failed; what has come is kept for the next attempt."""


def _total_size(response, start):
    """Size of the whole file by the headers, or None."""
    content_range = response.headers.get("Content-Range", "")
    total = content_range.rpartition("/")[2]
    if response.status_code in (206, 416):
        return int(total) if total.isdigit() else None
    length = response.headers.get("Content-Length", "")
    return start + int(length) if length.isdigit() else None


def _range_start(response):
    """First byte that a partial answer holds, or None where it does not say."""
    start = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(start) if start.isdigit() else None


class ResumingDownloader:
    """A downloader for pooch that keeps a broken download and goes on where it ended.

    Parameters
    ----------
    part : path-like
        File that holds what has come so far; it outlives the process.

    verbose : int, default=0
        Draw a progress bar where it is positive.
    """

    def __init__(self, part, *, verbose=0):
        self.part = Path(part)
        self.verbose = verbose

    def __call__(self, url, output_file, _pooch):
        """Download `url` into `output_file`, as pooch calls it."""
        requests = import_optional("requests", extra="fetch", caller="a download")
        for attempt in range(_ATTEMPTS):
            try:
                self._attempt(requests, url)
                break
            except (_Interrupted, requests.exceptions.RequestException) as error:
                if attempt + 1 == _ATTEMPTS or not self._may_recover(requests, error):
                    raise
                time.sleep(_WAIT * (attempt + 1))
        os.replace(self.part, output_file)

    @staticmethod
    def _may_recover(requests, error):
        """Whether trying again has a chance: not after an answer such as 404."""
        if isinstance(error, requests.exceptions.HTTPError):
            return error.response.status_code >= 500 or error.response.status_code == 429
        return True

    def _attempt(self, requests, url):
        start = self.part.stat().st_size if self.part.exists() else 0
        # Without compression on the way, bytes on disk and bytes of the file are the same.
        headers = {"Accept-Encoding": "identity", "User-Agent": "sklearn-cxr"}
        if start:
            headers["Range"] = f"bytes={start}-"
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            if response.status_code == 416:
                if _total_size(response, start) == start:
                    return
                self.part.unlink()
                raise _Interrupted("the partial file is longer than the file on the server")
            response.raise_for_status()
            if response.status_code != 206:
                start = 0
            elif _range_start(response) != start:
                self.part.unlink()
                raise _Interrupted("the server sent another range than was asked for")
            self._store(requests, response, start)

    def _store(self, requests, response, start):
        total = _total_size(response, start)
        with open(self.part, "ab" if start else "wb") as file, self._bar(total, start) as bar:
            try:
                for chunk in response.iter_content(_CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
            except requests.exceptions.RequestException as error:
                raise _Interrupted(f"the connection broke ({error})") from error
            got = file.tell()
        if total is not None and got != total:
            raise _Interrupted(f"{got} of {total} bytes came")

    def _bar(self, total, start):
        from tqdm import tqdm

        return tqdm(
            total=total,
            initial=start,
            unit="B",
            unit_scale=True,
            desc=self.part.stem,
            disable=self.verbose <= 0,
        )


def _matches(path, known_hash):
    pooch_hashes = import_optional("pooch.hashes", extra="fetch", caller="the cache check")
    algorithm, _, expected = known_hash.partition(":")
    return pooch_hashes.file_hash(str(path), alg=algorithm).lower() == expected.lower()


def fetch_file(url, *, folder, name, known_hash, page, caller, download, verbose):
    """Path of a checked file in the cache, downloaded where it is not there.

    Parameters
    ----------
    url : str
        Where the file is.

    folder : Path
        Folder of the cache.

    name : str
        File name in the cache.

    known_hash : str
        Algorithm and checksum, such as ``"md5:..."``.

    page : str
        Page from which a person can download the file.

    caller : str
        Public function that asks for it.

    download : bool
        Whether the network may be used.

    verbose : int
        Draw a progress bar where it is positive.

    Returns
    -------
    Path
        The file, whose checksum is right.

    Raises
    ------
    DownloadError
        If the file is not there and cannot be downloaded, or is not the published one.
    """
    pooch = import_optional("pooch", extra="fetch", caller=caller)
    requests = import_optional("requests", extra="fetch", caller=caller)
    path = Path(folder) / name
    by_hand = (
        f"To do it by hand, get {name} from {page} ({known_hash}), place it at {path} and call "
        f"{caller} again."
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if path.is_file():
            if _matches(path, known_hash):
                return path
            if not download:
                raise DownloadError(f"{path} is not the published file. {by_hand}")
            warn(
                f"{path} is not the published file ({known_hash}); it is downloaded again.",
                DatasetWarning,
            )
        elif not download:
            raise DownloadError(f"{path} is not there, and download_if_missing=False. {by_hand}")
        try:
            pooch.retrieve(
                url,
                known_hash,
                fname=name,
                path=path.parent,
                downloader=ResumingDownloader(f"{path}.part", verbose=verbose),
            )
        except (_Interrupted, requests.exceptions.RequestException) as error:
            raise DownloadError(
                f"{url} could not be downloaded: {error}. What has come is kept, and the next "
                f"call goes on from there. {by_hand}"
            ) from error
        except OSError as error:
            raise DownloadError(f"{path} could not be written: {error}. {by_hand}") from error
        except ValueError as error:
            raise DownloadError(
                f"{url} did not give the published file: {error} {by_hand}"
            ) from error
    return path


@contextlib.contextmanager
def new_folder(folder):
    """Fill a temporary folder that gets its name only if nothing went wrong."""
    folder = Path(folder)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield temporary
        # mkdtemp makes a folder for one user only; a cache may be shared.
        temporary.chmod(0o755)
        os.replace(temporary, folder)
    finally:
        if temporary.exists():
            shutil.rmtree(temporary)


def _check_member(info, archive):
    """Raise where a member would be written outside the folder or is no plain file."""
    parts = info.filename.replace("\\", "/").split("/")
    mode = info.external_attr >> 16
    bad_path = info.filename.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]
    if bad_path or stat.S_ISLNK(mode):
        raise DownloadError(
            f"{archive} holds {info.filename!r}, which leads outside the folder; nothing was "
            "extracted. Do not use this archive."
        )


def extract_zip(archive, folder, check=None):
    """Extract a zip archive into a new folder that appears only when it is complete.

    Parameters
    ----------
    archive : Path
        The zip file.

    folder : Path
        Folder to make; it must not exist.

    check : callable, default=None
        Called with the temporary folder before it gets its name; it raises where something is
        wrong.

    Raises
    ------
    DownloadError
        If the archive is damaged or a member leads outside the folder.
    """
    with new_folder(folder) as temporary:
        try:
            with zipfile.ZipFile(archive) as file:
                for info in file.infolist():
                    _check_member(info, archive)
                for info in file.infolist():
                    if not any(is_junk(part) for part in info.filename.split("/")):
                        file.extract(info, temporary)
        except (zipfile.BadZipFile, EOFError, zlib.error) as error:
            raise DownloadError(
                f"{archive} is no whole zip archive ({error}); delete it and call again."
            ) from error
        if check is not None:
            check(temporary)
