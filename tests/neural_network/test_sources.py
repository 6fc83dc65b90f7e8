"""Batches: every row once, with what belongs to it, wherever the rows lie."""

import h5py
import numpy as np
import pytest
import torch

from sklearn_cxr.neural_network._sources import Batches, RowSource
from sklearn_cxr.preprocessing import ImageRows

CPU = torch.device("cpu")
FILMS = np.arange(11 * 6, dtype=np.uint8).reshape(11, 2, 3)


def batches_of(rows, batch_size, *, shuffle=None, X=FILMS):
    targets = {"labels": torch.arange(len(FILMS)) * 10}
    return Batches(RowSource(X, (2, 3), CPU), targets, rows, batch_size, shuffle=shuffle)


def test_validation_keeps_the_order():
    rows = np.array([7, 2, 9, 4, 0])
    out = list(batches_of(rows, 2))
    assert [len(images) for images, _ in out] == [2, 2, 1]
    np.testing.assert_array_equal(torch.cat([images for images, _ in out]), FILMS[rows])
    assert torch.cat([target["labels"] for _, target in out]).tolist() == (rows * 10).tolist()


def test_training_is_shuffled_anew_and_all_rows_come():
    rows = np.arange(10)
    batches = batches_of(rows, 4, shuffle=np.random.RandomState(0))
    orders = []
    for _ in range(2):
        images, labels = zip(*((x, t["labels"]) for x, t in batches), strict=True)
        assert [len(part) for part in images] == [4, 4, 2]
        order = torch.cat(labels).numpy() // 10
        np.testing.assert_array_equal(torch.cat(images), FILMS[order])
        assert sorted(order) == rows.tolist()
        orders.append(order.tolist())
    assert orders[0] != orders[1] != rows.tolist()


@pytest.mark.parametrize(("n", "sizes"), [(9, [4, 5]), (8, [4, 4]), (1, [1]), (5, [5]), (4, [4])])
def test_a_single_image_joins_the_batch_before(n, sizes):
    batches = batches_of(np.arange(n), 4, shuffle=np.random.RandomState(0))
    assert [len(images) for images, _ in batches] == sizes
    assert len(batches) == len(sizes)


def test_in_validation_a_single_image_stays_alone():
    batches = batches_of(np.arange(5), 4)
    assert [len(images) for images, _ in batches] == [4, 1]
    assert len(batches) == 2


@pytest.mark.parametrize("kind", ["flat", "memmap", "h5py", "rows"])
def test_rows_from_anywhere(kind, tmp_path):
    np.save(tmp_path / "films.npy", FILMS)
    with h5py.File(tmp_path / "films.h5", "w") as file:
        X = {
            "flat": FILMS.reshape(11, -1),
            "memmap": np.load(tmp_path / "films.npy", mmap_mode="r"),
            "h5py": file.create_dataset("films", data=FILMS),
            "rows": ImageRows([FILMS], np.zeros(11, int), np.arange(11)),
        }[kind]
        source = RowSource(X, (2, 3), CPU)
        assert len(source) == 11
        assert not source.resident
        index = np.array([5, 0, 10])
        taken = source.take(index)
        assert taken.dtype == torch.uint8
        np.testing.assert_array_equal(taken, FILMS[index])


def test_what_lies_on_the_device_is_indexed_there():
    source = RowSource(FILMS, (2, 3), CPU)
    source._whole = torch.as_tensor(FILMS) + 100
    index = np.array([3, 1])
    np.testing.assert_array_equal(source.take(index), FILMS[index] + 100)
    np.testing.assert_array_equal(next(source.stream([index])), FILMS[index] + 100)


def test_the_next_batch_is_fetched_while_one_is_computed_on():
    # "meta" stands for a device of its own: nothing is computed, but the thread is used.
    source = RowSource(FILMS, (2, 3), torch.device("meta"))
    asked = []
    source.host = lambda index: asked.append(index.tolist()) or torch.as_tensor(FILMS[index])
    stream = source.stream([np.array([0, 1]), np.array([2, 3]), np.array([4])])
    assert next(stream).shape == (2, 2, 3)
    assert asked[0] == [0, 1]
    assert [len(images) for images in stream] == [2, 1]
    assert asked == [[0, 1], [2, 3], [4]]
