"""The decode store: every distinct file is decoded once, and shared through memory maps.

A store is a folder, one for each set of read options. It holds segments, files that are
written under a temporary name, flushed and renamed, and never changed afterwards:

    rows      .npy array (m, h, w[, c]) of images
    contents  .npy array (m, 2) uint64, hash of the file that each row was decoded from
    names     .npy array (k, 4) uint64, hash of path + size + mtime, and of the content behind it
    footer    magic, positions of the two tables, length of the whole

A file without a whole footer is not believed. A lock lets one process decode at a time, so
that nothing is decoded twice; a killed process loses its lock and at most one segment.
"""

import contextlib
import errno
import hashlib
import json
import os
import struct
import uuid
import warnings
from pathlib import Path

import numpy as np
from filelock import FileLock

from sklearn_cxr.exceptions import StoreWarning
from sklearn_cxr.preprocessing._decode import file_error
from sklearn_cxr.preprocessing._rows import ImageRows

_MAGIC = b"cxrrows1"
_FOOTER = struct.Struct("<8sQQQ")
_SEGMENT_BYTES = 64 * 2**20
_FORMAT = 1


def name_hash(path):
    """Hash of a file's absolute path, size and time of change, as two uint64.

    Raises
    ------
    OSError
        If there is no such file.
    """
    status = os.stat(path)
    identity = f"{os.path.abspath(path)}\0{status.st_size}\0{status.st_mtime_ns}"
    return content_hash(identity.encode("utf-8", "surrogatepass"))


def content_hash(content):
    """Hash of bytes, as two uint64."""
    return struct.unpack("<QQ", hashlib.blake2b(content, digest_size=16).digest())


class DecodeStore:
    """Decoded images of one set of read options in one folder.

    Parameters
    ----------
    cache_dir : path-like
        Folder of all stores; made where it does not exist.

    options : ReadOptions
        What decides the pixels; each set of options has a folder of its own below `cache_dir`.
    """

    def __init__(self, cache_dir, options):
        self.options = options
        description = json.dumps([_FORMAT, *map(str, vars(options).items())])
        digest = hashlib.blake2b(description.encode(), digest_size=6).hexdigest()
        name = f"{options.height}x{options.width}-{options.color}-{options.dtype}-{digest}"
        self.folder = Path(cache_dir).expanduser().absolute() / name
        self._segments = {}

    def rows(self, paths, decode_new):
        """View of the images of `paths`, decoding what the store does not hold.

        Parameters
        ----------
        paths : sequence of str
            The files.

        decode_new : callable
            Called with a list of distinct paths; yields for each, in order, a pair: the hash of
            its content, and its image or an error.

        Returns
        -------
        rows : ImageRows
            One row a path; rows with an error hold the fill value.

        errors : dict of int to Exception
            Reason for each position that could not be read.
        """
        names, errors = self._names(paths)
        self._load()
        if self._missing(names):
            with self._lock():
                self._load()
                new = self._missing(names)
                failed = self._fill([(name, paths[i]) for name, i in new.items()], decode_new)
            errors |= {i: failed[n] for i, n in enumerate(names) if n in failed}
        return self._view(names, errors), errors

    def _names(self, paths):
        names, errors = [], {}
        for i, path in enumerate(paths):
            try:
                names.append(name_hash(path))
            except (OSError, ValueError) as error:
                names.append(None)
                errors[i] = file_error(path, error)
        return names, errors

    def _missing(self, names):
        """First position of each name that the store does not hold."""
        missing = {}
        for i, name in enumerate(names):
            if name is not None and name not in self._name_to_place:
                missing.setdefault(name, i)
        return missing

    @contextlib.contextmanager
    def _lock(self):
        with self._told("be opened for writing"):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / ".lock")
            lock.acquire()
        try:
            self._clean()
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def _told(self, what):
        """Name the folder in an error of the file system."""
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            advice = "It is full: free" if full else "Check its permissions and free"
            raise OSError(
                error.errno,
                f"The decode store {self.folder} cannot {what} ({error.strerror}). {advice} "
                "space, or give ImageReader another cache_dir",
            ) from error

    def _clean(self):
        # Under the lock nobody writes, so temporary files are those of killed processes.
        for stray in self.folder.glob("*.tmp"):
            stray.unlink(missing_ok=True)

    def _load(self):
        """Take in the segments that are there; set damaged ones aside."""
        for path in sorted(self.folder.glob("*.seg")):
            if path.name in self._segments:
                continue
            segment = _open_segment(path, self.options)
            if segment is None:
                warnings.warn(
                    f"{path} in the decode store is damaged or not a part of it; it is set aside "
                    "as .damaged and its images are decoded again.",
                    StoreWarning,
                    stacklevel=4,
                )
                with contextlib.suppress(FileNotFoundError):  # another process was first
                    os.replace(path, path.with_suffix(".damaged"))
                continue
            self._segments[path.name] = segment
        self._index()

    def _index(self):
        place, self._name_to_place, names = {}, {}, []
        for number, (_, contents, segment_names) in enumerate(self._segments.values()):
            for row, content in enumerate(map(tuple, contents.tolist())):
                place[content] = (number, row)
            names += segment_names.tolist()
        self._content_to_place = place
        for a, b, *content in names:
            if tuple(content) in place:
                self._name_to_place[a, b] = place[tuple(content)]

    def _fill(self, wanted, decode_new):
        failed = {}
        size = max(1, _SEGMENT_BYTES // (np.prod(self.options.row_shape) * 2))
        results = decode_new([path for _, path in wanted])
        rows, contents, names = [], [], []
        seen = set(self._content_to_place)
        for (name, _), (content, image) in zip(wanted, results, strict=True):
            if isinstance(image, Exception):
                failed[name] = image
                continue
            names.append((*name, *content))
            if content not in seen:
                seen.add(content)
                rows.append(image)
                contents.append(content)
            if len(rows) >= size:
                self._write(rows, contents, names)
                rows, contents, names = [], [], []
        if names:
            self._write(rows, contents, names)
        self._load()
        return failed

    def _write(self, rows, contents, names):
        name = uuid.uuid4().hex
        temporary = self.folder / f"{name}.tmp"
        images = np.zeros((len(rows), *self.options.row_shape), dtype=self.options.dtype)
        for i, row in enumerate(rows):
            images[i] = row
        with self._told(f"take {images.nbytes / 1e6:.0f} MB more"):
            try:
                with open(temporary, "wb") as stream:
                    np.save(stream, images)
                    where_contents = stream.tell()
                    np.save(stream, np.array(contents, dtype=np.uint64).reshape(-1, 2))
                    where_names = stream.tell()
                    np.save(stream, np.array(names, dtype=np.uint64).reshape(-1, 4))
                    length = stream.tell() + _FOOTER.size
                    stream.write(_FOOTER.pack(_MAGIC, where_contents, where_names, length))
                    stream.flush()
                    os.fsync(stream.fileno())
                os.replace(temporary, self.folder / f"{name}.seg")
            finally:
                temporary.unlink(missing_ok=True)

    def _view(self, names, errors):
        blank = np.full((1, *self.options.row_shape), self.options.fill_value, self.options.dtype)
        blocks = [rows for rows, _, _ in self._segments.values()] + [blank]
        nowhere = (len(blocks) - 1, 0)
        places = [
            nowhere if i in errors else self._name_to_place[name] for i, name in enumerate(names)
        ]
        block, row = np.array(places, dtype=np.intp).reshape(-1, 2).T
        used = np.unique(block)
        return ImageRows([blocks[i] for i in used], np.searchsorted(used, block), row)


def _open_segment(path, options):
    """Map rows and two tables of a segment, or return None where it cannot be believed."""
    try:
        with open(path, "rb") as stream:
            length = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, length - _FOOTER.size))
            magic, where_contents, where_names, written = _FOOTER.unpack(stream.read())
            if magic != _MAGIC or written != length:
                return None
            stream.seek(0)
            version = np.lib.format.read_magic(stream)
            if version != (1, 0):
                return None
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
            offset = stream.tell()
            stream.seek(where_contents)
            contents = np.load(stream, allow_pickle=False)
            stream.seek(where_names)
            names = np.load(stream, allow_pickle=False)
    except (OSError, ValueError, EOFError, struct.error):
        return None
    fits = shape[1:] == options.row_shape and dtype == options.dtype and not fortran
    if not fits or len(contents) != shape[0]:
        return None
    if shape[0] == 0:
        return np.empty(shape, dtype), contents, names
    return np.memmap(path, mode="r", dtype=dtype, shape=shape, offset=offset), contents, names
