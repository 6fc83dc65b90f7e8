"""The decode store: decoded once, shared, and never believed when it should not be."""

import multiprocessing
import os
import pickle
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from sklearn_cxr.exceptions import ImageFormatError, StoreWarning, UnreadableImageWarning
from sklearn_cxr.preprocessing import ImageReader, ImageRows, _decode_files, _store


@pytest.fixture
def films(tmp_path):
    folder = tmp_path / "films"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(10):
        pixels = rng.integers(0, 255, (12, 10), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return sorted(map(str, folder.glob("*.png")))


@pytest.fixture
def decoded(monkeypatch):
    """Names of the files that are decoded from now on."""
    names = []
    original = _decode_files.decode

    def recording(path, content, options):
        names.append(os.path.basename(path))
        return original(path, content, options)

    monkeypatch.setattr(_decode_files, "decode", recording)
    return names


def reader(tmp_path, **kwargs):
    return ImageReader(size=6, cache_dir=tmp_path / "store", **kwargs)


def stored(tmp_path):
    """Number of rows in all segments, each of which begins as a plain .npy file."""
    return sum(len(np.load(path, mmap_mode="r")) for path in segments(tmp_path))


def segments(tmp_path):
    """Segments that count; those that a merge has replaced lie beside a mark."""
    found = sorted((tmp_path / "store").glob("*/*.seg"))
    return [path for path in found if not path.with_suffix(".replaced").exists()]


def test_rows_equal_a_plain_read(films, tmp_path):
    rows = reader(tmp_path).fit_transform(films)
    assert isinstance(rows, ImageRows)
    np.testing.assert_array_equal(np.asarray(rows), ImageReader(size=6).fit_transform(films))


def test_each_file_is_decoded_once(films, tmp_path, decoded):
    expected = ImageReader(size=6).fit_transform(films)
    decoded.clear()
    first = reader(tmp_path).fit_transform(films[:6] + films[:3])
    assert sorted(decoded) == [f"{i}.png" for i in range(6)]
    second = reader(tmp_path).fit_transform(films[::-1])
    assert sorted(decoded) == [f"{i}.png" for i in range(10)]
    np.testing.assert_array_equal(np.asarray(first), expected[[0, 1, 2, 3, 4, 5, 0, 1, 2]])
    np.testing.assert_array_equal(np.asarray(second), expected[::-1])


def test_equal_content_takes_one_row(films, tmp_path):
    copies = []
    for i in range(5):
        copies.append(str(tmp_path / f"copy{i}.png"))
        with open(films[0], "rb") as source, open(copies[-1], "wb") as target:
            target.write(source.read())
    rows = reader(tmp_path).fit_transform(copies)
    assert len(rows) == 5
    assert stored(tmp_path) == 1


def test_a_changed_file_is_decoded_again(films, tmp_path):
    reader(tmp_path).fit_transform(films)
    Image.new("L", (12, 12), 77).save(films[3])
    os.utime(films[3], ns=(1, 1))
    assert (np.asarray(reader(tmp_path).fit_transform(films))[3] == 77).all()


def test_other_options_do_not_meet(films, tmp_path):
    grey = reader(tmp_path).fit_transform(films)
    deep = reader(tmp_path, dtype="uint16").fit_transform(films)
    assert (grey.dtype, deep.dtype) == (np.uint8, np.uint16)
    assert len(list((tmp_path / "store").iterdir())) == 2


def test_large_reads_make_several_segments(films, tmp_path, monkeypatch):
    monkeypatch.setattr(_store, "_SEGMENT_BYTES", 6 * 6 * 4)
    rows = reader(tmp_path).fit_transform(films)
    assert len(segments(tmp_path)) == 3
    np.testing.assert_array_equal(np.asarray(rows), ImageReader(size=6).fit_transform(films))


def test_unreadable_files_are_not_stored(films, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    with pytest.warns(UnreadableImageWarning, match="1 of 3"):
        rows = reader(tmp_path, on_error="report", fill_value=9).fit_transform(
            [films[0], broken, films[1]]
        )
    assert (np.asarray(rows)[1] == 9).all()
    with pytest.raises(ImageFormatError, match=r"broken\.png"):
        reader(tmp_path).fit_transform([films[0], broken])
    Image.new("L", (4, 4), 50).save(broken)
    assert (np.asarray(reader(tmp_path).fit_transform([broken])) == 50).all()


@pytest.mark.parametrize(
    "damage", ["truncated", "foreign", "other size", "other aspect", "tail", "table"]
)
def test_damaged_segments_are_set_aside_and_rebuilt(films, tmp_path, damage, decoded):
    expected = np.asarray(reader(tmp_path).fit_transform(films)).copy()
    (segment,) = segments(tmp_path)
    whole = segment.read_bytes()
    if damage == "truncated":
        segment.write_bytes(whole[: len(whole) // 2])
    elif damage == "foreign":
        np.save(segment.with_suffix(".npy"), np.zeros((10, 6, 6), dtype=np.uint8))
        os.replace(segment.with_suffix(".npy"), segment)
    elif damage == "tail":
        segment.write_bytes(whole + b"more")
    elif damage == "table":
        at = whole.rindex(b"NUMPY") + 100
        segment.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    else:
        change = {"size": 7} if damage == "other size" else {"size": 6, "aspect": "pad"}
        ImageReader(**change, cache_dir=tmp_path / "other").fit(films)
        (foreign,) = (tmp_path / "other").glob("*/*.seg")
        os.replace(foreign, segment)
    decoded.clear()
    with pytest.warns(StoreWarning, match="damaged"):
        rows = reader(tmp_path).fit_transform(films)
    assert len(decoded) == 10
    np.testing.assert_array_equal(np.asarray(rows), expected)
    decoded.clear()
    np.testing.assert_array_equal(np.asarray(reader(tmp_path).fit_transform(films)), expected)
    assert decoded == []


def test_half_written_files_are_not_believed_and_swept(films, tmp_path):
    reader(tmp_path).fit_transform(films[:5])
    folder = segments(tmp_path)[0].parent
    (folder / "dead.tmp").write_bytes(b"x" * 100)
    rows = reader(tmp_path).fit_transform(films)
    np.testing.assert_array_equal(np.asarray(rows), ImageReader(size=6).fit_transform(films))
    assert not list(folder.glob("*.tmp"))


def _fill(store, films, order, barrier):
    barrier.wait()
    ImageReader(size=6, cache_dir=store).fit([films[i] for i in order])


def test_two_processes_at_once_lose_nothing_and_decode_nothing_twice(films, tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    orders = [list(range(8)), list(range(9, 1, -1))]
    workers = [
        context.Process(target=_fill, args=(tmp_path / "store", films, order, barrier))
        for order in orders
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert stored(tmp_path) == 10
    rows = reader(tmp_path).fit_transform(films)
    np.testing.assert_array_equal(np.asarray(rows), ImageReader(size=6).fit_transform(films))


def test_a_killed_process_leaves_its_finished_segments_and_no_lock(films, tmp_path):
    program = (
        "import sys, time\n"
        "from sklearn_cxr.preprocessing import ImageReader, _decode_files, _store\n"
        "_store._SEGMENT_BYTES = 6 * 6 * 2\n"
        "_decode_files._FILES_PER_TASK = 1\n"
        "plain = _decode_files.decode\n"
        "def slow(path, content, options):\n"
        "    if path.endswith('7.png'):\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(60)\n"
        "    return plain(path, content, options)\n"
        "_decode_files.decode = slow\n"
        "ImageReader(size=6, cache_dir=sys.argv[1]).fit(sys.argv[2:])\n"
    )
    victim = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "store"), *films],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert victim.stdout.readline() == "ready\n"
    victim.send_signal(signal.SIGKILL)
    victim.wait(30)
    victim.stdout.close()
    assert segments(tmp_path)
    # A lock left behind would hold this up for ever.
    rows = reader(tmp_path).fit_transform(films)
    np.testing.assert_array_equal(np.asarray(rows), ImageReader(size=6).fit_transform(films))


def test_a_full_disk_names_the_folder(films, tmp_path):
    # A limit on the size of files stands in for the disk's end: the same write fails.
    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    program = (
        "import sys; from sklearn_cxr.preprocessing import ImageReader\n"
        "ImageReader(size=64, cache_dir=sys.argv[1]).fit(sys.argv[2:])\n"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", program, str(tmp_path / "store"), *films],
        preexec_fn=limited,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "OSError" in done.stderr
    assert str(tmp_path / "store") in done.stderr
    assert "full" in done.stderr
    assert not segments(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(films, tmp_path):
    (tmp_path / "store").write_text("in the way")
    with pytest.raises(OSError, match=r"decode store .*store"):
        reader(tmp_path).fit_transform(films)


def test_a_segment_that_cannot_be_opened_is_not_damaged(films, tmp_path):
    for film in films:
        reader(tmp_path).fit([film])
    before = [path.name for path in segments(tmp_path)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    try:
        # A few descriptors are left: enough to list the folder, too few to map all segments.
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 4, hard))
        with pytest.raises(OSError, match=r"decode store .*Too many open files"):
            reader(tmp_path).fit_transform(films)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [path.name for path in segments(tmp_path)] == before
    rows = reader(tmp_path).fit_transform(films)
    np.testing.assert_array_equal(np.asarray(rows), ImageReader(size=6).fit_transform(films))


def test_only_the_segments_that_are_needed_are_mapped(films, tmp_path):
    for film in films:
        reader(tmp_path).fit([film])
    one = reader(tmp_path).fit_transform(films[:1])
    assert len(one._blocks) == 1
    assert len(pickle.dumps(one)) < 1500


def test_many_small_segments_are_merged(films, tmp_path, monkeypatch):
    expected = ImageReader(size=6).fit_transform(films)
    monkeypatch.setattr(_store, "_SMALL_SEGMENTS", 4)
    for film in films:
        reader(tmp_path).fit([film])
    assert len(segments(tmp_path)) < 6
    assert stored(tmp_path) == 10
    np.testing.assert_array_equal(np.asarray(reader(tmp_path).fit_transform(films)), expected)


@pytest.fixture
def merging_at_4(monkeypatch):
    monkeypatch.setattr(_store, "_SMALL_SEGMENTS", 4)


def test_a_view_outlives_one_merge(films, tmp_path, merging_at_4):
    expected = ImageReader(size=6).fit_transform(films)
    for film in films[2:5]:
        reader(tmp_path).fit([film])
    rows = reader(tmp_path).fit_transform(films[:2])
    pickled = pickle.dumps(rows)
    before = {path.name for path in segments(tmp_path)}
    reader(tmp_path).fit(films[5:6])
    # All four were merged: none of them counts any more.
    assert before.isdisjoint(path.name for path in segments(tmp_path))
    np.testing.assert_array_equal(np.asarray(pickle.loads(pickled)), expected[:2])
    # The view itself keeps its maps for as long as it lives.
    for film in films[6:]:
        reader(tmp_path).fit([film])
    np.testing.assert_array_equal(np.asarray(rows), expected[:2])


def test_replaced_segments_go_with_the_next_merge(films, tmp_path, merging_at_4):
    seen = []
    for film in films:
        reader(tmp_path).fit([film])
        files = {path.name for path in (tmp_path / "store").glob("*/*.seg")}
        seen.append((len(segments(tmp_path)), len(files)))
    # One segment a film; the 5th and 8th film find four, and make one of them.
    assert [live for live, _ in seen] == [1, 2, 3, 4, 2, 3, 4, 2, 3, 4]
    assert [total - live for live, total in seen] == [0, 0, 0, 0, 4, 4, 4, 4, 4, 4]
    assert len(list((tmp_path / "store").glob("*/*.replaced"))) == 4
    assert stored(tmp_path) == 10


@pytest.mark.parametrize("when", ["listed", "indexed"])
def test_a_segment_that_vanishes_is_looked_for_again(
    films, tmp_path, monkeypatch, decoded, when, merging_at_4
):
    expected = ImageReader(size=6).fit_transform(films)
    for film in films[:4]:
        reader(tmp_path).fit([film])
    original, merged = _store.open_segment, []

    def others_merge():
        # What other processes do meanwhile: two merges, so that the first four files go.
        if not merged:
            merged.append(True)
            for film in films[4:8]:
                reader(tmp_path).fit([film])

    def opening(path, *args):
        if when == "listed":
            others_merge()
        return original(path, *args)

    def viewing(store, *args):
        if when == "indexed":
            others_merge()
        return view(store, *args)

    view = _store.DecodeStore._view
    monkeypatch.setattr(_store, "open_segment", opening)
    monkeypatch.setattr(_store.DecodeStore, "_view", viewing)
    decoded.clear()
    rows = reader(tmp_path).fit_transform(films[:4])
    assert sorted(decoded) == ["4.png", "5.png", "6.png", "7.png"]
    np.testing.assert_array_equal(np.asarray(rows), expected[:4])


def test_another_decoder_has_another_folder(films, tmp_path, monkeypatch, decoded):
    reader(tmp_path).fit(films)
    monkeypatch.setattr(_store, "DECODER", _store.DECODER + 1)
    decoded.clear()
    reader(tmp_path).fit(films)
    assert len(decoded) == 10
    assert len(list((tmp_path / "store").iterdir())) == 2


def test_the_fill_value_matters_to_the_store_only_with_padding(films, tmp_path):
    reader(tmp_path, fill_value=1).fit(films)
    reader(tmp_path, fill_value=2).fit(films)
    assert len(list((tmp_path / "store").iterdir())) == 1
    reader(tmp_path, fill_value=1, aspect="pad").fit(films)
    reader(tmp_path, fill_value=2, aspect="pad").fit(films)
    assert len(list((tmp_path / "store").iterdir())) == 3


def test_a_store_that_must_not_be_written_to_still_serves(films, tmp_path, monkeypatch):
    reader(tmp_path).fit(films[:8])
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")

    class Refusing:
        def __init__(self, path):
            pass

        def acquire(self):
            raise PermissionError(13, "Permission denied")

    # The tests may run as root, whom no permission keeps out.
    monkeypatch.setattr(_store, "FileLock", Refusing)
    with pytest.warns(StoreWarning, match="2 images that it lacks are decoded into memory"):
        rows = reader(tmp_path).fit_transform(films)
    np.testing.assert_array_equal(np.asarray(rows), ImageReader(size=6).fit_transform(films))
    with pytest.warns(UnreadableImageWarning, match="1 of 2") as caught:
        reader(tmp_path, on_error="report").fit_transform([films[0], broken])
    assert len(caught) == 1
    with pytest.raises(ImageFormatError, match=r"broken\.png"):
        reader(tmp_path).fit_transform([films[0], broken])


def test_a_missing_file_raises_before_anything_is_decoded(films, tmp_path, decoded):
    with pytest.raises(ImageFormatError, match="no such file"):
        reader(tmp_path).fit([*films, str(tmp_path / "gone.png")])
    assert decoded == []


def test_the_warning_names_the_callers_line(films, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"nothing")
    with pytest.warns(UnreadableImageWarning) as caught:
        reader(tmp_path, on_error="report").fit([films[0], tmp_path / "broken.png"])
    assert caught[0].filename == __file__
