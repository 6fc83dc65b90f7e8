"""The feature cache: computed once, shared, and never believed when it should not be."""

import subprocess
import sys
import time

import numpy as np
import pytest

from sklearn_cxr.exceptions import StoreWarning
from sklearn_cxr.feature_extraction import _cache
from sklearn_cxr.feature_extraction._cache import FeatureCache
from sklearn_cxr.feature_extraction._hashing import image_keys

WIDTH = 3


@pytest.fixture
def films():
    return np.random.default_rng(0).integers(0, 256, (20, 4, 4), dtype=np.uint8)


def features_of(films):
    flat = films.reshape(len(films), -1).astype(np.float64)
    return np.column_stack([flat.sum(1), flat[:, 0], flat.std(1)]).astype(np.float32)


class Network:
    """Computes features, and counts for how many images."""

    def __init__(self, films):
        self.films, self.positions = films, []

    def __call__(self, batches):
        for positions in batches:
            self.positions += positions.tolist()
            yield positions, features_of(self.films[positions])


def cache(folder, description=None, **kwargs):
    kwargs = {"n_features": WIDTH, "dtype": np.float32, **kwargs}
    return FeatureCache(folder, "tiny", description or {"weights": "abc"}, **kwargs)


def extract(folder, films, *, batch_size=4, **kwargs):
    """Features of films, and the positions that were computed for them."""
    network = Network(films)
    rows = cache(folder, **kwargs).rows(
        image_keys(films, films.shape[1:]), network, batch_size=batch_size
    )
    np.testing.assert_array_equal(rows, features_of(films))
    assert rows.dtype == np.float32
    return network.positions


def segments(folder):
    return sorted(folder.glob("*/*.seg"))


def test_every_image_is_computed_once(films, tmp_path):
    assert extract(tmp_path, films[:12]) == list(range(12))
    assert extract(tmp_path, films[::-1]) == list(range(8))
    assert extract(tmp_path, films[[3, 3, 19]]) == []


def test_equal_images_are_computed_once_and_get_equal_rows(films, tmp_path):
    repeated = films[[5, 2, 5, 5, 7, 2]]
    assert extract(tmp_path, repeated) == [0, 1, 4]
    assert sum(len(np.load(path, mmap_mode="r")) for path in segments(tmp_path)) == 3


def test_batches_are_as_large_as_asked_for(films, tmp_path):
    sizes = []

    def network(batches):
        assert len(batches) == 20
        for positions in batches:
            sizes.append(len(positions))
            yield positions, features_of(films[positions])

    cache(tmp_path).rows(image_keys(films, (4, 4)), network, batch_size=8)
    assert sizes == [8, 8, 4]


@pytest.mark.parametrize(
    "other",
    [
        {"description": {"weights": "abd"}},
        {"description": {"weights": "abc", "layer": "features"}},
        {"dtype": np.float64},
        {"n_features": 4},
    ],
)
def test_each_way_to_compute_has_a_folder_of_its_own(tmp_path, other):
    assert cache(tmp_path).folder == cache(tmp_path).folder
    assert cache(tmp_path).folder != cache(tmp_path, **other).folder


def test_another_format_version_begins_anew(films, tmp_path, monkeypatch):
    extract(tmp_path, films)
    monkeypatch.setattr(_cache, "FORMAT_VERSION", _cache.FORMAT_VERSION + 1)
    assert len(extract(tmp_path, films)) == len(films)


def test_names_of_folders_are_fit_for_any_file_system(tmp_path):
    name = FeatureCache(tmp_path, "a/b:c é" + "x" * 99, {}, n_features=1, dtype=np.float32).folder
    assert name.parent == tmp_path
    assert name.name.startswith("features-a_b_c_")
    assert len(name.name) < 100


def test_a_segment_may_be_truncated_anywhere(films, tmp_path):
    extract(tmp_path, films)
    (path,) = segments(tmp_path)
    whole = path.read_bytes()
    for length in (0, 10, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.warns(StoreWarning, match=path.name):
            assert len(extract(tmp_path, films)) == len(films)
        for written in segments(tmp_path):
            written.unlink()
        assert path.with_suffix(".damaged").exists()


def test_a_row_that_has_decayed_is_computed_again(films, tmp_path):
    extract(tmp_path, films)
    (path,) = segments(tmp_path)
    content = bytearray(path.read_bytes())
    at = bytes(content).index(features_of(films)[7].tobytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.warns(StoreWarning, match="is damaged"):
        assert 7 in extract(tmp_path, films)
    assert extract(tmp_path, films) == []


def test_a_foreign_segment_is_not_believed(films, tmp_path):
    extract(tmp_path, films)
    other = cache(tmp_path, {"weights": "others"})
    other.folder.mkdir()
    (path,) = segments(tmp_path)
    path.rename(other.folder / path.name)
    with pytest.warns(StoreWarning, match="not a part of it"):
        extract(tmp_path, films, description={"weights": "others"})


def test_many_small_segments_become_one(films, tmp_path, monkeypatch):
    monkeypatch.setattr(_cache, "_SMALL_SEGMENTS", 5)
    for i in range(5):
        extract(tmp_path, films[i : i + 1])
    assert len(segments(tmp_path)) == 1
    assert extract(tmp_path, films[:5]) == []


def test_merging_leaves_full_segments_alone(films, tmp_path, monkeypatch):
    monkeypatch.setattr(_cache, "_SMALL_SEGMENTS", 3)
    monkeypatch.setattr(_cache, "_SEGMENT_BYTES", 4 * WIDTH * 4)
    extract(tmp_path, films)
    full = segments(tmp_path)
    assert len(full) == 5
    for film in films[:3] ^ 255:
        extract(tmp_path, film[None])
    assert set(full) <= set(segments(tmp_path))


def test_rows_are_stored_while_others_are_computed(films, tmp_path, monkeypatch):
    """A run that is killed loses little, and others see what is done."""
    monkeypatch.setattr(_cache, "_FLUSH_SECONDS", 0.0)
    network, seen = Network(films), []

    def watched(batches):
        for step in network(batches):
            seen.append(len(segments(tmp_path)))
            yield step

    cache(tmp_path).rows(image_keys(films, (4, 4)), watched, batch_size=5)
    assert seen == [0, 1, 2, 3]


def test_an_interruption_keeps_what_was_computed(films, tmp_path):
    def interrupted(batches):
        for number, positions in enumerate(batches):
            if number == 2:
                raise KeyboardInterrupt
            yield positions, features_of(films[positions])

    with pytest.raises(KeyboardInterrupt):
        cache(tmp_path).rows(image_keys(films, (4, 4)), interrupted, batch_size=4)
    assert extract(tmp_path, films) == list(range(8, 20))


def test_what_others_store_meanwhile_is_left_out(films, tmp_path, monkeypatch):
    monkeypatch.setattr(_cache, "_FLUSH_SECONDS", 0.0)
    keys = image_keys(films, (4, 4))
    mine = Network(films)

    def while_another_computes(batches):
        for number, step in enumerate(mine(batches)):
            if number == 0:
                assert sorted(extract(tmp_path, films[8:16])) == list(range(8))
            yield step

    rows = cache(tmp_path).rows(keys, while_another_computes, batch_size=4)
    np.testing.assert_array_equal(rows, features_of(films))
    assert mine.positions == [*range(8), *range(16, 20)]


def test_a_second_process_begins_half_way(films, tmp_path):
    """Two that extract the same images meet, instead of doing the same side by side."""
    first, second = Network(films), Network(films)
    keys = image_keys(films, (4, 4))

    def first_while_second(batches):
        for number, step in enumerate(first(batches)):
            if number == 0:
                cache(tmp_path).rows(keys, second, batch_size=4)
            yield step

    cache(tmp_path).rows(keys, first_while_second, batch_size=4)
    assert first.positions[:4] == [0, 1, 2, 3]
    assert second.positions[:4] == [10, 11, 12, 13]


def test_places_among_processes_are_spread():
    shares = [_cache._bit_reversed(number) for number in range(6)]
    assert shares == [0, 0.5, 0.25, 0.75, 0.125, 0.625]


def test_a_segment_that_is_merged_away_while_it_is_read(films, tmp_path, monkeypatch):
    for i in range(4):
        extract(tmp_path, films[i : i + 1])
    reading = cache(tmp_path)
    reading._load()
    monkeypatch.setattr(_cache, "_SMALL_SEGMENTS", 4)
    extract(tmp_path, films[4:5])
    assert len(segments(tmp_path)) == 1
    network = Network(films)
    original, loaded = reading._load, []

    def load_once_late():
        # As if the other process had merged right after the first look.
        if loaded:
            original()
        loaded.append(True)

    monkeypatch.setattr(reading, "_load", load_once_late)
    rows = reading.rows(image_keys(films[:5], (4, 4)), network, batch_size=4)
    np.testing.assert_array_equal(rows, features_of(films[:5]))
    assert network.positions in ([], [4])


@pytest.mark.parametrize("fails", ["mkdir", "write_segment"])
def test_a_cache_that_cannot_be_written_to_warns_once(films, tmp_path, monkeypatch, fails):
    def refuse(*args, **kwargs):
        raise OSError(28, "No space left on device")

    if fails == "mkdir":
        (tmp_path / "features").write_text("a file where the folder should be")
    else:
        monkeypatch.setattr(_cache, "write_segment", refuse)
    folder = tmp_path / "features" if fails == "mkdir" else tmp_path
    with pytest.warns(StoreWarning, match="cannot be written to") as caught:
        assert len(extract(folder, films)) == len(films)
    assert len(caught) == 1


# The package is imported without its __init__, which would spend seconds on importing torch.
PROGRAM = """
import importlib.util, sys, time, types
import numpy as np
import sklearn_cxr
package = types.ModuleType("sklearn_cxr.feature_extraction")
package.__path__ = [sklearn_cxr.__path__[0] + "/feature_extraction"]
sys.modules[package.__name__] = package
from sklearn_cxr.feature_extraction import _cache
from sklearn_cxr.feature_extraction._hashing import image_keys
_cache._FLUSH_SECONDS, computed = 0.0, []
folder, pause, reverse = sys.argv[1], float(sys.argv[2]), sys.argv[3] == "reverse"
films = np.load(folder + "/films.npy")[:: -1 if reverse else 1]
def slow(batches):
    for positions in batches:
        yield positions, films[positions].reshape(-1, 16)[:, :3].astype(np.float32)
        computed.extend(positions)
        print("batch", flush=True)
        time.sleep(pause)
cache = _cache.FeatureCache(folder, "tiny", {"weights": "abc"}, n_features=3, dtype=np.float32)
rows = cache.rows(image_keys(films, (4, 4)), slow, batch_size=4)
print(len(computed), (rows == films.reshape(-1, 16)[:, :3]).all())
"""


def start(folder, *arguments):
    command = [sys.executable, "-c", PROGRAM, str(folder), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_killed_process_leaves_whole_segments_and_no_lock(films, tmp_path):
    np.save(tmp_path / "films.npy", films)
    with start(tmp_path, "60", "") as process:
        assert process.stdout.readline() == "batch\n"
        process.kill()
    network = Network(films)
    rows = cache(tmp_path).rows(image_keys(films, (4, 4)), network, batch_size=4)
    # The first batch was stored before the second was asked for, and the first place is free.
    assert network.positions == list(range(4, 20))
    np.testing.assert_array_equal(rows[:4], films[:4].reshape(4, -1)[:, :3])


def test_processes_at_once_agree_and_share_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(_cache, "_FLUSH_SECONDS", 0.0)
    films = np.random.default_rng(0).integers(0, 256, (60, 4, 4), dtype=np.uint8)
    np.save(tmp_path / "films.npy", films)
    computed = []

    def slowly(batches):
        for positions in batches:
            time.sleep(0.05)
            computed.extend(positions)
            yield positions, films[positions].reshape(-1, 16)[:, :3].astype(np.float32)

    with start(tmp_path, "0.05", "reverse") as process:
        assert process.stdout.readline() == "batch\n"
        rows = cache(tmp_path).rows(image_keys(films, (4, 4)), slowly, batch_size=4)
        answer = process.communicate(timeout=60)[0].splitlines()[-1].split()
    np.testing.assert_array_equal(rows, films.reshape(-1, 16)[:, :3])
    assert answer[1] == "True"
    # What both began before either had stored it is computed twice; alone it would be all 60.
    assert 60 <= len(computed) + int(answer[0]) < 120
