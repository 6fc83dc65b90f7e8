"""Segment files of the decode store: written whole, never changed, believed only when whole.

    rows      .npy array (m, h, w[, c]) of images
    contents  .npy array (m, 2) uint64, hash of the file that each row was decoded from
    names     .npy array (k, 4) uint64, hash of path + size + mtime, and of the content behind it
    footer    magic, key of the read options, position of the tables, length, checksum of tables

The checksum covers the tables. The rows are flushed to the disk before a file gets its name,
but are not checked again for the decay of the medium.
"""

import dataclasses
import functools
import hashlib
import io
import os
import struct
import uuid
import zlib
from pathlib import Path

import numpy as np

_MAGIC = b"cxrrows2"
_FOOTER = struct.Struct("<8s16sQQI")


def content_hash(content):
    """Hash of bytes, as two uint64."""
    return struct.unpack("<QQ", hashlib.blake2b(content, digest_size=16).digest())


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


class DamagedSegmentError(Exception):
    """A file that is no whole segment of the store that it lies in."""


@dataclasses.dataclass(frozen=True)
class Segment:
    """One segment file: its tables, and its rows when they are asked for.

    Parameters
    ----------
    path : Path
        The file.

    shape : tuple of int
        ``(m, h, w[, c])``.

    dtype : dtype
        Of the rows.

    offset : int
        Where the rows begin in the file.

    contents : ndarray of shape (m, 2), dtype=uint64
        Hash of the content behind each row.

    names : ndarray of shape (k, 4), dtype=uint64
        Hash of a name, and of the content behind it.
    """

    path: Path
    shape: tuple
    dtype: np.dtype
    offset: int
    contents: np.ndarray
    names: np.ndarray

    @functools.cached_property
    def rows(self):
        """Map the rows; a file descriptor is held from here on."""
        if self.shape[0] == 0:
            return np.empty(self.shape, self.dtype)
        return np.memmap(
            self.path, mode="r", dtype=self.dtype, shape=self.shape, offset=self.offset
        )


def write_segment(folder, key, images, contents, names):
    """Write a segment under a temporary name, flush it, and give it its name.

    Parameters
    ----------
    folder : Path
        The store.

    key : bytes
        Key of the read options, 16 bytes.

    images : ndarray of shape (m, h, w[, c])
        The rows.

    contents : list of (int, int)
        Hash of the content behind each row.

    names : list of (int, int, int, int)
        Hash of a name, and of the content behind it.
    """
    stem = uuid.uuid4().hex
    temporary = folder / f"{stem}.tmp"
    tables = [
        _table(np.array(contents, dtype=np.uint64).reshape(-1, 2)),
        _table(np.array(names, dtype=np.uint64).reshape(-1, 4)),
    ]
    try:
        with open(temporary, "wb") as stream:
            np.save(stream, images)
            at_contents = stream.tell()
            length = at_contents + len(tables[0]) + len(tables[1]) + _FOOTER.size
            checksum = zlib.crc32(b"".join(tables))
            stream.writelines(tables)
            stream.write(_FOOTER.pack(_MAGIC, key, at_contents, length, checksum))
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, folder / f"{stem}.seg")
    finally:
        temporary.unlink(missing_ok=True)


def _table(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def open_segment(path, key, row_shape, dtype):
    """Read the tables of a segment.

    Parameters
    ----------
    path : Path
        The file.

    key : bytes
        Key of the read options, 16 bytes.

    row_shape : tuple of int
        Expected shape of a row.

    dtype : dtype
        Expected dtype of the rows.

    Returns
    -------
    Segment
        Its rows are not mapped yet.

    Raises
    ------
    DamagedSegmentError
        If the file is truncated, foreign, or made with other read options.
    OSError
        If the file cannot be opened, which says nothing about its content.
    """
    with open(path, "rb") as stream:
        try:
            length = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, length - _FOOTER.size))
            magic, written_key, at_contents, written, checksum = _FOOTER.unpack(stream.read())
            if (magic, written_key, written) != (_MAGIC, key, length):
                raise DamagedSegmentError
            stream.seek(at_contents)
            tables = stream.read(length - _FOOTER.size - at_contents)
            if zlib.crc32(tables) != checksum:
                raise DamagedSegmentError
            stream.seek(0)
            if np.lib.format.read_magic(stream) != (1, 0):
                raise DamagedSegmentError
            shape, fortran, found = np.lib.format.read_array_header_1_0(stream)
            offset = stream.tell()
            tables = io.BytesIO(tables)
            contents = np.load(tables, allow_pickle=False)
            names = np.load(tables, allow_pickle=False)
        except (ValueError, EOFError, struct.error) as error:
            raise DamagedSegmentError from error
    if fortran or shape[1:] != tuple(row_shape) or found != dtype or len(contents) != shape[0]:
        raise DamagedSegmentError
    return Segment(Path(path), shape, found, offset, contents, names)


class Index:
    """Where the rows of a set of segments are found, by name and by content.

    Parameters
    ----------
    segments : list of Segment
        In any order.
    """

    def __init__(self, segments):
        self.segments = segments
        self._contents = _joined([segment.contents for segment in segments], 2)
        self._places = _joined(
            [
                np.column_stack([np.full(len(s.contents), i), np.arange(len(s.contents))])
                for i, s in enumerate(segments)
            ],
            2,
        ).astype(np.intp)
        order = np.argsort(self._contents[:, 0], kind="stable")
        self._contents, self._places = self._contents[order], self._places[order]
        names = _joined([segment.names for segment in segments], 4)
        # A name whose row went with a damaged segment is as good as unknown.
        names = names[self._find(self._contents, names[:, 2:]) >= 0]
        self._names = names[np.argsort(names[:, 0], kind="stable")]

    @staticmethod
    def _find(table, keys):
        """Row of each key in a sorted table, or -1; half the hash sorts, all of it decides."""
        if not len(table):
            return np.full(len(keys), -1)
        at = np.minimum(np.searchsorted(table[:, 0], keys[:, 0]), len(table) - 1)
        return np.where((table[at, :2] == keys).all(axis=1), at, -1)

    def by_content(self, keys):
        """Segment and row of each content, or -1 and -1.

        Parameters
        ----------
        keys : ndarray of shape (n, 2), dtype=uint64
            Hashes of contents.

        Returns
        -------
        ndarray of shape (n, 2), dtype=intp
            Number of the segment, and of the row in it.
        """
        at = self._find(self._contents, keys)
        if not len(self._places):
            return np.full((len(keys), 2), -1)
        return np.where(at[:, None] >= 0, self._places[at], -1)

    def by_name(self, keys):
        """Segment and row of each name, or -1 and -1.

        Parameters
        ----------
        keys : ndarray of shape (n, 2), dtype=uint64
            Hashes of names.

        Returns
        -------
        ndarray of shape (n, 2), dtype=intp
            Number of the segment, and of the row in it.
        """
        at = self._find(self._names, keys)
        if not len(self._names):
            return np.full((len(keys), 2), -1)
        return np.where(at[:, None] >= 0, self.by_content(self._names[at, 2:]), -1)

    def names_of(self, numbers):
        """Names of some segments, as they were written."""
        return _joined([self.segments[number].names for number in numbers], 4)


def _joined(arrays, width):
    if not arrays:
        return np.empty((0, width), dtype=np.uint64)
    return np.concatenate(arrays)
