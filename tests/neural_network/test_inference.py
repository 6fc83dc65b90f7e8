"""Images through a frozen network: every row once, in order, wherever it lies."""

import threading

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from sklearn_cxr.neural_network._inference import (
    batches_in_order,
    forward_batches,
    gather,
    iterate_batches,
    one_ahead,
)
from sklearn_cxr.neural_network._network import inference_copy
from sklearn_cxr.neural_network._prepare import Prepare
from sklearn_cxr.preprocessing import ImageRows

CPU = torch.device("cpu")


class Levels(nn.Module):
    """Mean and largest value of each channel; remembers what it was given."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, images):
        self.seen.append(images)
        return torch.cat([images.mean(dim=(2, 3)), images.amax(dim=(2, 3))], dim=1)


@pytest.fixture
def films():
    return np.random.default_rng(0).integers(0, 256, (11, 6, 5), dtype=np.uint8)


def expected_levels(films):
    flat = films.reshape(len(films), -1) / 255
    return np.column_stack([flat.mean(axis=1), flat.max(axis=1)])


def forward(X, module=None, *, dtype=torch.float32, batch_size=4, **kwargs):
    return forward_batches(
        Levels() if module is None else module,
        X,
        batch_size=batch_size,
        device=CPU,
        dtype=dtype,
        prepare=Prepare(0, 255, [0.0], [1.0]),
        **kwargs,
    )


@pytest.mark.parametrize("batch_size", [1, 4, 11, 100])
def test_every_image_gets_its_row(films, batch_size):
    out = forward(films, batch_size=batch_size)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, expected_levels(films), rtol=1e-6)


def test_flat_images_are_given_their_shape(films):
    flat = films.reshape(11, -1)
    out = forward(flat, image_shape=(6, 5))
    np.testing.assert_allclose(out, expected_levels(films), rtol=1e-6)


class SharedLevels(Levels):
    """Remembers too how many threads each call may use."""

    reentrant = True

    def forward(self, images):
        self.seen.append((len(images), threading.get_ident(), torch.get_num_threads()))
        return torch.cat([images.mean(dim=(2, 3)), images.amax(dim=(2, 3))], dim=1)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("n_images", "pieces"), [(40, [7, 7, 7, 7, 6, 6]), (5, [3, 2]), (3, [3])])
def test_cores_take_pieces_of_a_batch(two_threads, n_images, pieces):
    """A piece has at most as many pixels as eight images of 224 x 224."""
    films = np.random.default_rng(0).integers(0, 256, (n_images, 224, 256), dtype=np.uint8)
    module = SharedLevels()
    out = forward(films, module, batch_size=64)
    np.testing.assert_allclose(out, expected_levels(films), rtol=1e-5)
    sizes, threads, shares = zip(*module.seen, strict=True)
    assert sorted(sizes, reverse=True) == pieces
    if len(pieces) > 1:
        assert set(shares) == {1}
        assert threading.get_ident() not in threads
    else:
        assert set(shares) == {2}
    assert torch.get_num_threads() == 2


def test_with_one_thread_the_pieces_follow_each_other(films):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        module = SharedLevels()
        films = np.zeros((20, 224, 224), np.uint8)
        forward(films, module, batch_size=20)
    finally:
        torch.set_num_threads(before)
    sizes, threads, _ = zip(*module.seen, strict=True)
    assert sizes == (7, 7, 6)
    assert set(threads) == {threading.get_ident()}


def test_a_network_of_the_users_gets_whole_batches(two_threads):
    """What it keeps of a call would be that of another thread."""
    module = Levels()
    forward(np.zeros((40, 224, 224), np.uint8), module, batch_size=40)
    assert [len(images) for images in module.seen] == [40]


def test_rows_that_are_no_images_stay_together(two_threads):
    module = SharedLevels()
    module.forward = lambda rows: module.seen.append(len(rows)) or rows.float()
    forward_batches(module, np.ones((50, 7)), batch_size=50, device=CPU, dtype=torch.float32)
    assert module.seen == [50]


def test_other_threads_of_torch_keep_their_cores(two_threads):
    forward(np.zeros((32, 224, 224), np.uint8), SharedLevels(), batch_size=32)
    found = []
    later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert found == [2]


@pytest.mark.parametrize("as_view", ["rows", "memmap", "h5py"])
def test_views_and_maps_are_read_batch_by_batch(films, tmp_path, as_view):
    with h5py.File(tmp_path / "films.h5", "w") as file:
        np.save(tmp_path / "films.npy", films)
        order = np.arange(11)[::-1]
        X, expected = {
            "rows": (ImageRows([films], np.zeros(11, int), order), films[::-1]),
            "memmap": (np.load(tmp_path / "films.npy", mmap_mode="r"), films),
            "h5py": (file.create_dataset("films", data=films), films),
        }[as_view]
        np.testing.assert_allclose(forward(X), expected_levels(expected), rtol=1e-6)


def test_the_network_gets_what_its_precision_says(films):
    module = Levels()
    out = forward(films, module, dtype=torch.bfloat16)
    assert {images.dtype for images in module.seen} == {torch.bfloat16}
    assert out.dtype == np.float32
    # bfloat16 has eight significant bits.
    np.testing.assert_allclose(out, expected_levels(films), rtol=2**-7)
    exact = forward(films, dtype=torch.float64)
    assert exact.dtype == np.float64
    np.testing.assert_allclose(exact, expected_levels(films), rtol=1e-14)


def test_batches_are_channels_last_and_carry_no_gradients(films):
    module = Levels()
    rgb = np.repeat(films[..., None], 3, axis=3)
    forward_batches(
        module,
        rgb,
        batch_size=4,
        device=CPU,
        dtype=torch.float32,
        prepare=Prepare(0, 255, [0.5] * 3, [0.2] * 3, channels=3),
    )
    assert [len(images) for images in module.seen] == [4, 4, 3]
    for images in module.seen:
        assert images.shape[1:] == (3, 6, 5)
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert images.is_inference()


def test_inference_mode_ends_with_each_batch(films):
    """A generator that kept it on would take the gradients from whoever reads it."""
    steps = iterate_batches(
        Levels(),
        films,
        batches_in_order(11, 4),
        device=CPU,
        dtype=torch.float32,
        prepare=Prepare(0, 255, [0.0], [1.0]),
    )
    for _ in steps:
        assert not torch.is_inference_mode_enabled()
        assert torch.is_grad_enabled()


def test_without_preparation_the_network_gets_the_rows_as_stored():
    rows = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    out = forward_batches(
        nn.Identity(), rows, batch_size=3, device=CPU, dtype=torch.float32, prepare=None
    )
    np.testing.assert_array_equal(out, rows)


def test_each_batch_is_told_of(films):
    told = []
    out = forward(films, on_batch=lambda positions, rows: told.append((positions, rows)))
    assert [positions.tolist() for positions, _ in told] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10],
    ]
    np.testing.assert_array_equal(np.concatenate([rows for _, rows in told]), out)


def test_progress_is_drawn_only_when_asked_for(films, capfd):
    forward(films)
    assert capfd.readouterr() == ("", "")
    forward(films, verbose=1, description="tiny")
    err = capfd.readouterr().err
    assert "tiny" in err
    assert "11/11" in err


@pytest.mark.parametrize(("fits", "said"), [(3, "batch_size=2 fits"), (0, "Not even one image")])
def test_out_of_memory_says_what_fits(films, fits, said):
    class Greedy(nn.Module):
        def forward(self, images):
            if len(images) > fits:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 TiB.")
            return images.mean(dim=(2, 3))

    with pytest.raises(MemoryError, match=f"batch_size=8.*{said}"):
        forward(films, Greedy(), batch_size=8)


def test_other_errors_of_the_network_come_through(films):
    class Broken(nn.Module):
        def forward(self, images):
            raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        forward(films, Broken())


@pytest.mark.parametrize("positions", [[3, 4, 5], [5, 0, 9], [9, 10, 0, 1], [7]])
def test_rows_are_gathered_in_any_order(films, tmp_path, positions):
    positions = np.array(positions)
    view = ImageRows([films], np.zeros(11, int), np.arange(11))
    with h5py.File(tmp_path / "films.h5", "w") as file:
        for X in (films, films.reshape(11, -1), view, file.create_dataset("films", data=films)):
            batch = gather(X, positions, (6, 5))
            np.testing.assert_array_equal(batch, films[positions])


def test_one_ahead_keeps_order_and_runs_beside_the_caller():
    caller, started = threading.get_ident(), []

    def square(number):
        started.append((number, threading.get_ident()))
        return number**2

    results = []
    for result in one_ahead(square, iter(range(5))):
        results.append(result)
    assert results == [0, 1, 4, 9, 16]
    assert [number for number, _ in started] == list(range(5))
    assert all(thread != caller for _, thread in started)


def test_one_ahead_begins_the_next_before_it_hands_out_one():
    begun = threading.Event()

    def wait_for_second(number):
        if number == 1:
            begun.set()
        return number

    first = next(one_ahead(wait_for_second, range(3)))
    assert first == 0
    assert begun.wait(timeout=5)


def test_one_ahead_passes_an_error_on():
    with pytest.raises(ZeroDivisionError):
        list(one_ahead(lambda number: 1 // number, [1, 0, 1]))
    assert list(one_ahead(str, [])) == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_on_a_gpu_the_rows_are_those_of_the_cpu(films):
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    answers = [
        forward_batches(
            inference_copy(network, torch.float64, device),
            films,
            batch_size=3,
            device=device,
            dtype=torch.float64,
            prepare=Prepare(0, 255, [0.5], [0.2]),
        )
        for device in (CPU, torch.device("cuda"))
    ]
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-10)
