import pickle

import joblib
import numpy as np
import pytest
from sklearn.model_selection import KFold, cross_val_score
from sklearn.utils import _safe_indexing

from sklearn_cxr.linear_model import PixelLogisticRegression
from sklearn_cxr.preprocessing import ImageRows


@pytest.fixture
def blocks(tmp_path):
    rng = np.random.default_rng(0)
    out = []
    for number, n in enumerate((5, 7)):
        path = tmp_path / f"{number}.raw"
        rng.integers(0, 255, (n, 4, 3), dtype=np.uint8).tofile(path)
        out.append(np.memmap(path, mode="r", dtype=np.uint8, shape=(n, 4, 3)))
    return out


@pytest.fixture
def pair(blocks):
    """A view over two blocks, and the array that it stands for."""
    block, row = [0, 1, 1, 0, 1, 1], [4, 0, 6, 1, 2, 3]
    array = np.stack([blocks[b][r] for b, r in zip(block, row, strict=True)])
    return ImageRows(blocks, block, row), array


def test_it_looks_like_an_array(pair):
    rows, array = pair
    assert (rows.shape, rows.ndim, rows.size, rows.nbytes, len(rows), rows.dtype) == (
        array.shape, array.ndim, array.size, array.nbytes, len(array), array.dtype,
    )  # fmt: skip
    np.testing.assert_array_equal(np.asarray(rows), array)
    assert np.asarray(rows, dtype=np.float32).dtype == np.float32
    assert "(6, 4, 3)" in repr(rows)


@pytest.mark.parametrize(
    "key",
    [
        slice(1, 4), slice(None, None, -2), [0, 5, 0], np.array([3, 1]), ...,
        np.array([True, False, True, False, False, True]), (slice(0, 3), ...), ([1, 2], ...),
    ],
    ids=str,
)  # fmt: skip
def test_rows_are_selected_without_a_copy(pair, key):
    rows, array = pair
    assert isinstance(rows[key], ImageRows)
    np.testing.assert_array_equal(np.asarray(rows[key]), array[key])


@pytest.mark.parametrize(
    "key",
    [
        0, -1, np.int64(2), (1, 2), (slice(1, 3), 0), (slice(None), 1, 2), (..., 0), (0, [1, 2]),
        (slice(None), [0, 1]), (slice(None), np.array([0, 1])), ([0, 1], [2, 3]),
        (slice(None), np.array([True, False, True, False])), (np.array([5, 0]), slice(1, 3)),
    ],
    ids=str,
)  # fmt: skip
def test_what_reaches_into_images_is_an_array(pair, key):
    rows, array = pair
    np.testing.assert_array_equal(rows[key], array[key])


def test_a_row_that_is_not_there_raises(pair):
    with pytest.raises(IndexError):
        pair[0][6]


@pytest.mark.parametrize("key", [np.zeros((2, 2), dtype=int), [0.7, 1.2], True, "path", None])
def test_what_selects_no_rows_raises(pair, key):
    with pytest.raises(IndexError):
        pair[0][key]


def test_arrays_of_rows_are_read_only_where_they_are_the_file(blocks):
    rows = ImageRows(blocks, [1, 1], [0, 1])
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(rows)[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        rows[0][0] = 0


def test_pieces_cover_every_row_once(pair):
    rows, array = pair
    seen = np.full(len(rows), -1)
    for block, numbers, places in rows.pieces():
        np.testing.assert_array_equal(block[numbers], array[places])
        assert (np.diff(numbers) >= 0).all()
        seen[places] = 1
    assert (seen == 1).all()


def test_a_view_of_no_rows_survives_pickling(pair):
    again = pickle.loads(pickle.dumps(pair[0][:0]))
    assert again.shape == (0, 4, 3)


def test_neighbouring_rows_of_one_block_are_not_copied(blocks):
    rows = ImageRows(blocks, [1, 1, 1], [2, 3, 4])
    assert np.shares_memory(np.asarray(rows), blocks[1])
    assert not np.shares_memory(np.array(rows, copy=True), blocks[1])


def test_rows_that_lie_apart_say_so_when_no_copy_is_allowed(pair):
    with pytest.raises(ValueError, match="lie apart"):
        pair[0].__array__(copy=False)


def test_reshape_between_the_forms(pair):
    rows, array = pair
    flat = rows.reshape(len(rows), -1)
    assert isinstance(flat, ImageRows)
    assert flat.shape == (6, 12)
    np.testing.assert_array_equal(np.asarray(flat), array.reshape(6, -1))
    np.testing.assert_array_equal(flat[2], array[2].ravel())
    np.testing.assert_array_equal(np.asarray(flat.reshape((-1, 4, 3))), array)
    np.testing.assert_array_equal(rows.reshape(12, 6), array.reshape(12, 6))


def test_scikit_learn_takes_it(pair):
    rows, array = pair
    picked = _safe_indexing(rows, np.array([4, 2]))
    np.testing.assert_array_equal(np.asarray(picked), array[[4, 2]])
    y = np.array([0, 1, 0, 1, 0, 1])
    cv = KFold(2)
    of_rows = cross_val_score(PixelLogisticRegression(), rows, y, cv=cv)
    np.testing.assert_array_equal(
        of_rows, cross_val_score(PixelLogisticRegression(), array, y, cv=cv)
    )


@pytest.mark.parametrize("dump", [pickle.dumps, joblib.hash], ids=["pickle", "hash"])
def test_pickling_names_the_files_and_not_the_pixels(tmp_path, dump):
    big = tmp_path / "big.raw"
    np.zeros((64, 128, 128), dtype=np.uint8).tofile(big)
    rows = ImageRows(
        [np.memmap(big, mode="r", dtype=np.uint8, shape=(64, 128, 128))], [0] * 8, range(8)
    )
    if dump is pickle.dumps:
        again = pickle.loads(dump(rows))
        assert len(dump(rows)) < 2000
        assert again.shape == (8, 128, 128)
    assert dump(rows) == dump(rows)


@pytest.mark.parametrize("part", ["tail", "part of a part", "every other", "turned", "raw"])
def test_a_part_of_a_map_comes_back_as_that_part(part, tmp_path):
    array = np.random.default_rng(0).integers(0, 255, (9, 4, 3), dtype=np.uint8)
    path = tmp_path / "films.raw"
    path.write_bytes(b"head" + array.tobytes())
    films = np.memmap(path, mode="r", dtype=np.uint8, offset=4, shape=(9, 4, 3))
    cut = {
        "tail": lambda a: a[5:],
        "part of a part": lambda a: a[2:][3:7],
        "every other": lambda a: a[::2],
        "turned": lambda a: a.transpose(0, 2, 1),
        "raw": lambda a: a,
    }[part]
    rows = ImageRows([cut(films)], [0, 0], [0, 2])
    again = pickle.loads(pickle.dumps(rows))
    np.testing.assert_array_equal(np.asarray(again), cut(array)[[0, 2]])


def test_what_was_written_to_a_copy_of_a_map_is_kept(tmp_path):
    np.save(tmp_path / "films.npy", np.zeros((3, 4, 4), dtype=np.uint8))
    films = np.load(tmp_path / "films.npy", mmap_mode="c")
    films[1] = 7
    again = pickle.loads(pickle.dumps(ImageRows([films], [0, 0], [0, 1])))
    assert np.asarray(again).mean(axis=(1, 2)).tolist() == [0, 7]


def test_unpickling_says_when_the_files_are_gone(pair, blocks, tmp_path):
    state = pickle.dumps(pair[0])
    (tmp_path / "0.raw").unlink()
    with pytest.raises(FileNotFoundError, match=r"0\.raw is gone.*ImageReader"):
        pickle.loads(state)


def test_blocks_that_differ_are_refused(blocks):
    deep = np.full((2, 4, 3), 60_000, np.uint16)
    with pytest.raises(ValueError, match=r"got \['\(4, 3\) uint16', '\(4, 3\) uint8'\]"):
        ImageRows([blocks[0], deep], [0, 1], [0, 0])
    with pytest.raises(ValueError, match="of one shape and dtype"):
        ImageRows([blocks[0], blocks[1].reshape(-1, 3, 4)], [0, 1], [0, 0])
