"""The feature cache: every image goes once through a frozen network, for all processes and runs.

A cache is a folder, one for each network and set of options, that holds segment files as the
decode store does (see `preprocessing._segments`); in their tables stands a checksum of every
row. Nothing waits for a lock: processes that extract at the same time begin at different images
and leave out what another has stored in the meantime.
"""

import contextlib
import time
import zlib
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from sklearn_cxr.exceptions import StoreWarning
from sklearn_cxr.feature_extraction._hashing import description_key
from sklearn_cxr.preprocessing._segments import (
    DamagedSegmentError,
    Index,
    open_segment,
    write_segment,
)
from sklearn_cxr.utils._warn import warn

# Part of the key: a cache written by another layout or another way to compute is left alone.
FORMAT_VERSION = 1
_SEGMENT_BYTES = 32 * 2**20
# A killed process loses no more than this, and others learn of its rows no later.
_FLUSH_SECONDS = 10.0
# So many segments of less than a quarter of the bytes above are merged into one.
_SMALL_SEGMENTS = 32
_MOST_PROCESSES = 64


class FeatureCache:
    """Features of images under one network and set of options.

    Parameters
    ----------
    cache_dir : path-like
        Folder of all caches; made where it does not exist.

    name : str
        Begins the name of the folder of this cache, for people who look.

    description : dict
        All that decides the features, as JSON can write it.

    n_features : int
        Length of a row.

    dtype : dtype
        Of the features.
    """

    def __init__(self, cache_dir, name, description, *, n_features, dtype):
        self.dtype = np.dtype(dtype)
        self.n_features = int(n_features)
        self._key = description_key(
            {
                **description,
                "n_features": self.n_features,
                "dtype": self.dtype.name,
                "format": FORMAT_VERSION,
            }
        )
        tidy = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)[:60]
        root = Path(cache_dir).expanduser().absolute()
        self.folder = root / f"features-{tidy}-{self._key.hex()[:12]}"
        self._segments = {}
        self._index = Index([])
        self._writable = True

    def rows(self, keys, compute, *, batch_size):
        """Features of the images with these keys, computing what the cache does not hold.

        Parameters
        ----------
        keys : ndarray of shape (n, 2), dtype=uint64
            Hashes of the images.

        compute : callable
            Called with an iterable that hands out the positions of images in batches; yields,
            for each batch in turn, the positions and their features.

        batch_size : int
            Positions in a batch.

        Returns
        -------
        ndarray of shape (n, n_features)
            One row for each key.
        """
        first, inverse = _distinct(keys)
        wanted = keys if first is None else keys[first]
        out = np.empty((len(wanted), self.n_features), dtype=self.dtype)
        self._load()
        missing = self._take(wanted, np.arange(len(wanted)), out)
        while len(missing):
            with self._place() as share:
                turned = np.roll(missing, -int(share * len(missing)))
                done = self._compute(wanted, turned, first, compute, batch_size, out)
            missing = self._take(wanted, np.setdiff1d(missing, done), out)
        return out if first is None else out[inverse]

    def _compute(self, wanted, missing, first, compute, batch_size, out):
        """Put into `out` what has to be computed; return which rows of it that were."""
        work = _Work(self, wanted, missing, first, batch_size)
        pending, done = _Pending(self), []
        try:
            for positions, features in compute(work):
                rows = work.rows_at(positions)
                out[rows] = features
                done.append(rows)
                pending.add(wanted[rows], out[rows])
        finally:
            # What is computed stays, also when a user interrupts.
            pending.write()
        self._load()
        self._merge()
        return np.concatenate(done) if done else np.empty(0, dtype=np.intp)

    @contextlib.contextmanager
    def _place(self):
        """Take the first free place among the processes at work: where in the list to begin.

        The first begins at the start, the second half way, then at the quarters and so on; a
        killed process loses its place.
        """
        lock, number = None, 0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for number in range(_MOST_PROCESSES):
                lock = FileLock(self.folder / f".process{number}", timeout=0)
                with contextlib.suppress(Timeout):
                    lock.acquire()
                    break
        except OSError as error:
            self._stop_writing(error)
            lock = None
        try:
            yield _bit_reversed(number)
        finally:
            if lock is not None and lock.is_locked:
                lock.release()

    def known(self, keys):
        """Tell which keys the cache holds by now.

        Parameters
        ----------
        keys : ndarray of shape (n, 2), dtype=uint64
            Hashes of images.

        Returns
        -------
        ndarray of shape (n,), dtype=bool
            Whether it holds each.
        """
        self._load()
        return self._index.by_content(keys)[:, 0] >= 0

    def _load(self):
        """Take in segments that are new, and set damaged ones aside."""
        found = sorted(self.folder.glob("*.seg"))
        names = {path.name for path in found}
        segments = {name: s for name, s in self._segments.items() if name in names}
        for path in found:
            if path.name in segments:
                continue
            # One that another process has merged away in this moment is no loss.
            with contextlib.suppress(FileNotFoundError):
                try:
                    segments[path.name] = self._open(path)
                except DamagedSegmentError:
                    self._set_aside(path)
        if segments.keys() != self._segments.keys():
            self._hold(segments)

    def _open(self, path):
        segment = open_segment(path, self._key, (self.n_features,), self.dtype)
        if len(segment.names) != len(segment.contents):
            raise DamagedSegmentError
        return segment

    def _take(self, wanted, numbers, out):
        """Copy what the cache holds of some rows into `out`; return those that it does not."""
        index = self._index
        places = index.by_content(wanted[numbers])
        missing, merged = [numbers[places[:, 0] < 0]], []
        for i in np.unique(places[places[:, 0] >= 0, 0]):
            segment, here = index.segments[i], places[:, 0] == i
            rows, targets = places[here, 1], numbers[here]
            try:
                values = np.asarray(segment.rows)[rows]
            except FileNotFoundError:
                # Another process has made it part of a larger one since its tables were read.
                merged.append(targets)
                continue
            if (_checksums(values) == segment.names[rows, 0]).all():
                out[targets] = values
            else:
                self._set_aside(segment.path)
                missing.append(targets)
        if merged:
            self._load()
            missing.append(self._take(wanted, np.concatenate(merged), out))
        return np.sort(np.concatenate(missing))

    def _set_aside(self, path):
        warn(
            f"{path} in the feature cache is damaged or not a part of it; it is set aside as "
            ".damaged and its features are computed again.",
            StoreWarning,
        )
        try:
            path.replace(path.with_suffix(".damaged"))
        except OSError as error:
            self._stop_writing(error)
        self._hold({n: s for n, s in self._segments.items() if n != path.name})

    def _hold(self, segments):
        self._segments = segments
        self._index = Index(list(segments.values()))

    def write(self, keys, features):
        """Store rows; where that cannot be done, warn once and go on without.

        Parameters
        ----------
        keys : ndarray of shape (m, 2), dtype=uint64
            Hashes of the images.

        features : ndarray of shape (m, n_features)
            Their features.
        """
        if not self._writable or not len(keys):
            return
        names = np.column_stack([_checksums(features), np.zeros(len(keys), np.uint64), keys])
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_segment(self.folder, self._key, features, keys, names)
        except OSError as error:
            self._stop_writing(error)

    def _stop_writing(self, error):
        if self._writable:
            warn(
                f"The feature cache {self.folder} cannot be written to ({error.strerror or error}"
                "); what it lacks is computed now and again at the next call. Free space, check "
                "its permissions, or give another cache_dir.",
                StoreWarning,
            )
        self._writable = False

    def _merge(self):
        """Make one segment of many small ones, such as single films leave."""
        if not self._writable or len(self._small()) < _SMALL_SEGMENTS:
            return
        try:
            # Whoever finds another at it leaves it to that one.
            with contextlib.suppress(Timeout), FileLock(self.folder / ".merge", timeout=0):
                self._load()
                self._merge_small(self._small())
        except FileNotFoundError:
            # Set aside by another process in this moment: there will be other occasions.
            return
        except OSError as error:
            self._stop_writing(error)

    def _small(self):
        """Small segments, as many of them as fit into one."""
        small, total = [], 0
        for segment in self._index.segments:
            size = segment.shape[0] * self.n_features * self.dtype.itemsize
            if size < _SEGMENT_BYTES // 4 and total + size <= _SEGMENT_BYTES:
                small.append(segment)
                total += size
        return small

    def _merge_small(self, small):
        if len(small) < _SMALL_SEGMENTS:
            return
        features = np.concatenate([np.asarray(segment.rows) for segment in small])
        keys = np.concatenate([segment.contents for segment in small])
        checksums = np.concatenate([segment.names[:, 0] for segment in small])
        # A row that has decayed goes no further.
        whole = _checksums(features) == checksums
        self.write(keys[whole], features[whole])
        if self._writable:
            for segment in small:
                segment.path.unlink(missing_ok=True)


class _Work:
    # Hands out batches of positions, without what other processes have stored in the meantime.
    def __init__(self, cache, wanted, missing, first, batch_size):
        self._cache, self._wanted, self._missing = cache, wanted, missing
        self._first, self._batch_size = first, batch_size
        self._rows = {}

    def __len__(self):
        return len(self._missing)

    def __iter__(self):
        looked = time.monotonic()
        while len(self._missing):
            if time.monotonic() - looked > _FLUSH_SECONDS / 2:
                known = self._cache.known(self._wanted[self._missing])
                self._missing, looked = self._missing[~known], time.monotonic()
            rows = self._missing[: self._batch_size]
            self._missing = self._missing[self._batch_size :]
            if len(rows):
                positions = rows if self._first is None else self._first[rows]
                self._rows[positions[0]] = rows
                yield positions

    def rows_at(self, positions):
        """Rows of the result that a batch handed out stands for."""
        return self._rows.pop(positions[0])


class _Pending:
    # Features on their way into a segment of bounded size and age.
    def __init__(self, cache):
        self._cache = cache
        self._clear()

    def _clear(self):
        self._keys, self._features, self._bytes = [], [], 0
        self._since = time.monotonic()

    def add(self, keys, features):
        self._keys.append(keys)
        self._features.append(features)
        self._bytes += features.nbytes
        if self._bytes >= _SEGMENT_BYTES or time.monotonic() - self._since > _FLUSH_SECONDS:
            self.write()

    def write(self):
        if self._keys:
            self._cache.write(np.concatenate(self._keys), np.concatenate(self._features))
        self._clear()


def _distinct(keys):
    """First position of each key in order of appearance, and which of them every row is.

    None and None where all are distinct.
    """
    _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    if len(first) == len(keys):
        return None, None
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[inverse.reshape(-1)]


def _checksums(features):
    """CRC-32 of every row."""
    rows = np.ascontiguousarray(features)
    return np.fromiter((zlib.crc32(row.data) for row in rows), dtype=np.uint64, count=len(rows))


def _bit_reversed(number):
    """Binary digits mirrored at the point: 0, 1/2, 1/4, 3/4, 1/8, ..."""
    share, digit = 0.0, 0.5
    while number:
        share += digit * (number & 1)
        number, digit = number >> 1, digit / 2
    return share
