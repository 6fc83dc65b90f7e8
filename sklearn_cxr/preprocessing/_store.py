"""The decode store: every distinct file is decoded once, and shared through memory maps.

A store is a folder, one for each set of read options, that holds segment files (see
`_segments`). A lock lets one process decode at a time, so that nothing is decoded twice; a
killed process loses its lock and at most one segment. Small segments are merged; those that a
merge has replaced stay, beside an empty file that marks them, until the next one.
"""

import contextlib
import errno
import hashlib
import json
import os
from pathlib import Path

import numpy as np
from filelock import FileLock

from sklearn_cxr.exceptions import ImageFormatError, StoreWarning
from sklearn_cxr.preprocessing._decode import DECODER, file_error
from sklearn_cxr.preprocessing._decode_files import with_advice
from sklearn_cxr.preprocessing._rows import ImageRows
from sklearn_cxr.preprocessing._segments import (
    DamagedSegmentError,
    Index,
    name_hash,
    open_segment,
    write_segment,
)
from sklearn_cxr.utils._warn import warn

_SEGMENT_BYTES = 32 * 2**20
# So many segments of less than a quarter of that size are merged when the store is written to.
_SMALL_SEGMENTS = 32
# Suffix of the empty file beside a segment that a merge has replaced.
_REPLACED = ".replaced"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


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
        decisive = {**vars(options), "decoder": DECODER}
        if options.aspect != "pad":
            del decisive["fill_value"]
        description = json.dumps(sorted(decisive.items())).encode()
        self._key = hashlib.blake2b(description, digest_size=16).digest()
        name = f"{options.height}x{options.width}-{options.color}-{options.dtype}"
        self.folder = Path(cache_dir).expanduser().absolute() / f"{name}-{self._key.hex()[:12]}"
        self._segments = {}

    def rows(self, paths, decode_new, on_error):
        """View of the images of `paths`, decoding what the store does not hold.

        Parameters
        ----------
        paths : sequence of str
            The files.

        decode_new : callable
            Called with a list of distinct paths; yields for each, in order, a pair: the hash of
            its content, and its image or an error.

        on_error : {"raise", "report"}
            Whether a file that is not there raises before anything is decoded.

        Returns
        -------
        rows : ImageRows
            One row a path; rows with an error hold the fill value.

        errors : dict of int to Exception
            Reason for each position that could not be read.
        """
        names, errors = self._names(paths)
        if errors and on_error == "raise":
            raise with_advice(errors[min(errors)])
        try:
            return self._rows(names, dict(errors), paths, decode_new)
        except FileNotFoundError:
            # Another process may have removed merged segments after they were listed here.
            return self._rows(names, errors, paths, decode_new)

    def _rows(self, names, errors, paths, decode_new):
        index = self._load()
        extra, failed = {}, {}
        if len(self._missing(index, names, errors)):
            try:
                with self._lock():
                    index = self._load()
                    missing = self._missing(index, names, errors)
                    failed = self._fill(index, names, missing, paths, decode_new)
                    index = self._load()
            except PermissionError:
                missing = self._missing(index, names, errors)
                extra, failed = self._decode_beside(names, missing, paths, decode_new)
        # Equal files fail alike, and were decoded once.
        errors |= {i: failed[name] for i, name in enumerate(map(tuple, names)) if name in failed}
        return self._view(index, names, errors, extra), errors

    def _names(self, paths):
        names, errors = np.zeros((len(paths), 2), dtype=np.uint64), {}
        for i, path in enumerate(paths):
            try:
                names[i] = name_hash(path)
            except (OSError, ValueError) as error:
                errors[i] = file_error(path, error)
        return names, errors

    def _missing(self, index, names, errors):
        """First position of each name that the store does not hold."""
        unknown = index.by_name(names)[:, 0] < 0
        unknown[list(errors)] = False
        positions = np.flatnonzero(unknown)
        first = np.unique(names[positions], axis=0, return_index=True)[1]
        return positions[np.sort(first)]

    @contextlib.contextmanager
    def _lock(self):
        with self._told("be opened for writing"):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / ".lock")
            lock.acquire()
        try:
            # Under the lock nobody writes: temporary files are those of killed processes.
            for stray in self.folder.glob("*.tmp"):
                stray.unlink(missing_ok=True)
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def _told(self, what):
        """Name the folder in an error of the file system."""
        try:
            yield
        except OSError as error:
            full = error.errno in _FULL
            advice = "It is full: free" if full else "Check its permissions and free"
            kind = PermissionError if error.errno in _READ_ONLY else OSError
            raise kind(
                error.errno,
                f"The decode store {self.folder} cannot {what} ({error.strerror}). {advice} "
                "space, give ImageReader another cache_dir, or None to decode without a store",
            ) from error

    def _load(self):
        """Take in the segments that are there, and set damaged ones aside."""
        # The marks come first: what has replaced the marked ones is then among the segments.
        replaced = {path.stem for path in self.folder.glob(f"*{_REPLACED}")}
        found = [p for p in sorted(self.folder.glob("*.seg")) if p.stem not in replaced]
        known = {path.name for path in found}
        self._segments = {name: s for name, s in self._segments.items() if name in known}
        for path in found:
            if path.name in self._segments:
                continue
            try:
                with self._told(f"open {path.name}"):
                    self._segments[path.name] = open_segment(
                        path, self._key, self.options.row_shape, np.dtype(self.options.dtype)
                    )
            except DamagedSegmentError:
                self._set_aside(path)
        return Index(list(self._segments.values()))

    def _set_aside(self, path):
        warn(
            f"{path} in the decode store is damaged or not a part of it; it is set aside as "
            ".damaged and its images are decoded again.",
            StoreWarning,
        )
        with contextlib.suppress(FileNotFoundError), self._told(f"set {path.name} aside"):
            os.replace(path, path.with_suffix(".damaged"))

    def _fill(self, index, names, missing, paths, decode_new):
        """Decode and write what is missing; return the error of each name that failed."""
        failed, batch = {}, _Batch(self, index)
        results = decode_new([paths[i] for i in missing])
        for i, (content, image) in zip(missing, results, strict=True):
            if isinstance(image, Exception):
                failed[tuple(names[i])] = image
            else:
                batch.add(names[i], content, image)
        batch.write()
        self._merge(index)
        return failed

    def _merge(self, index):
        """Make one segment of many small ones, such as single films read one by one leave."""
        small = [
            i
            for i, s in enumerate(index.segments)
            if np.prod(s.shape) * s.dtype.itemsize < _SEGMENT_BYTES // 4
        ]
        if len(small) < _SMALL_SEGMENTS:
            return
        chosen, total = [], 0
        for i in small:
            total += np.prod(index.segments[i].shape) * index.segments[i].dtype.itemsize
            if total > _SEGMENT_BYTES:
                break
            chosen.append(i)
        parts = [index.segments[i] for i in chosen]
        with self._told("be written to"):
            images = np.concatenate([np.asarray(part.rows) for part in parts])
            contents = np.concatenate([part.contents for part in parts])
            write_segment(self.folder, self._key, images, contents, index.names_of(chosen))
            # Pickled views and other readers may still need the parts: they go one merge later.
            for mark in self.folder.glob(f"*{_REPLACED}"):
                mark.with_suffix(".seg").unlink(missing_ok=True)
                mark.unlink(missing_ok=True)
            for part in parts:
                part.path.with_suffix(_REPLACED).touch()

    def _decode_beside(self, names, missing, paths, decode_new):
        """Decode what a store lacks that must not be written to, into memory."""
        images, failed = {}, {}
        results = decode_new([paths[i] for i in missing])
        for i, (_, image) in zip(missing, results, strict=True):
            name = tuple(names[i])
            (failed if isinstance(image, ImageFormatError) else images)[name] = image
        if images:
            warn(
                f"The decode store {self.folder} cannot be written to; {len(images)} images that "
                "it lacks are decoded into memory, and will be again at the next call.",
                StoreWarning,
            )
        return images, failed

    def _view(self, index, names, errors, extra):
        options = self.options
        places = index.by_name(names)
        positions = {name: number for number, name in enumerate(extra, start=1)}
        for i, name in enumerate(map(tuple, names)):
            if i in errors:
                places[i] = len(index.segments), 0
            elif name in positions:
                places[i] = len(index.segments), positions[name]
        blank = np.full(options.row_shape, options.fill_value, options.dtype)
        used = np.unique(places[:, 0])
        with self._told("be mapped into memory"):
            mapped = [index.segments[i].rows for i in used if i < len(index.segments)]
        beside = [np.stack([blank, *extra.values()])] if len(mapped) < len(used) else []
        return ImageRows(mapped + beside, np.searchsorted(used, places[:, 0]), places[:, 1])


class _Batch:
    # Images on their way into segments of a bounded size.
    def __init__(self, store, index):
        self._store, self._index, self._seen = store, index, set()
        options = store.options
        row_bytes = np.prod(options.row_shape) * np.dtype(options.dtype).itemsize
        self._limit = max(1, int(_SEGMENT_BYTES // row_bytes))
        self._images, self._contents, self._names = [], [], []

    def add(self, name, content, image):
        self._names.append((*name, *content))
        key = np.array([content], dtype=np.uint64)
        if content not in self._seen and self._index.by_content(key)[0, 0] < 0:
            self._seen.add(content)
            self._images.append(image)
            self._contents.append(content)
        if len(self._images) >= self._limit:
            self.write()

    def write(self):
        if not self._names:
            return
        store = self._store
        images = np.zeros((len(self._images), *store.options.row_shape), store.options.dtype)
        for i, image in enumerate(self._images):
            images[i] = image
        with store._told(f"take {images.nbytes / 1e6:.0f} MB more"):
            write_segment(store.folder, store._key, images, self._contents, self._names)
        self._images, self._contents, self._names = [], [], []
