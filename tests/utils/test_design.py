"""The passes against plain NumPy, on every kind of rows."""

import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from sklearn_cxr.preprocessing import ImageReader, ImageRows
from sklearn_cxr.utils import _design
from sklearn_cxr.utils._design import Design


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.fixture(params=[1, 3, 8, 9, 50])
def n(request):
    """Fewer rows than a group of eight, one group, and groups that are not full."""
    return request.param


class FileRows:
    """Rows as h5py hands them out: shape, dtype, and slices read on demand."""

    def __init__(self, array):
        self._array, self.shape, self.dtype = array, array.shape, array.dtype
        self.largest = 0

    def __len__(self):
        return len(self._array)

    def __getitem__(self, key):
        out = self._array[key].copy()
        self.largest = max(self.largest, out.nbytes)
        return out

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("the whole was asked for")


def forms(array, tmp_path):
    """The same rows in every form that a design is made of."""
    n = len(array)
    path = tmp_path / "rows.raw"
    order = np.random.default_rng(0).permutation(n)
    array[order].tofile(path)
    mapped = np.memmap(path, mode="r", dtype=array.dtype, shape=array.shape)
    array.tofile(tmp_path / "in_order.raw")
    in_order = np.memmap(tmp_path / "in_order.raw", mode="r", dtype=array.dtype, shape=array.shape)
    cut = n // 2
    blocks = [array[:cut] if cut else array[:1], array[cut:]]
    block = np.where(np.arange(n) < cut, 0, 1)
    return {
        "array": array,
        "memory map": in_order,
        "Fortran order": np.asfortranarray(array),
        "every other column": np.repeat(array, 2, axis=1)[:, ::2],
        "big endian": array.astype(array.dtype.newbyteorder(">")),
        "rows of a file": FileRows(array),
        "gathered rows": ImageRows([mapped], np.zeros(n, int), np.argsort(order)),
        "two blocks": ImageRows(blocks, block, np.where(block, np.arange(n) - cut, np.arange(n))),
    }


FORMS = [
    "array", "memory map", "Fortran order", "every other column", "big endian", "rows of a file",
    "gathered rows", "two blocks",
]  # fmt: skip


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    """These few rows would otherwise be multiplied by NumPy."""
    monkeypatch.setattr(_design, "_VALUES_FOR_NUMPY", 0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64, np.int16])
def test_every_kind_of_rows(n, dtype, form, tmp_path):
    rng = np.random.default_rng(n)
    array = rng.integers(0, 255, (n, 21)).astype(dtype)
    X, wide = forms(array, tmp_path)[form], array.astype(float)
    assert isinstance(X, np.memmap) == (form == "memory map")
    weight = rng.random(n) + 0.1
    coef, intercept = rng.normal(size=(3, 21)) / 100, rng.normal(size=3)
    target = rng.integers(0, 3, n)
    with Design(X).threads() as design:
        mean, variance = design.moments(weight)
        scores = design.scores(coef, intercept)
        loss, by_coef, by_intercept = design.loss_gradient(coef, intercept, target, weight)
    expected_mean = np.average(wide, axis=0, weights=weight)
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-12)
    np.testing.assert_allclose(
        variance, np.average((wide - expected_mean) ** 2, axis=0, weights=weight), atol=1e-9
    )
    z = wide @ coef.T + intercept
    np.testing.assert_allclose(scores, z, rtol=1e-12, atol=1e-12)
    p = softmax(z)
    residual = (p - np.eye(3)[target]) * weight[:, None]
    np.testing.assert_allclose(loss, -(weight * np.log(p[np.arange(n), target])).sum(), rtol=1e-12)
    np.testing.assert_allclose(by_coef, residual.T @ wide, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(by_intercept, residual.sum(axis=0), rtol=1e-10, atol=1e-12)


def test_two_classes(n):
    rng = np.random.default_rng(n)
    X = rng.integers(0, 255, (n, 33), dtype=np.uint8)
    weight, target = rng.random(n), rng.integers(0, 2, n)
    coef, intercept = rng.normal(size=(1, 33)) / 500, rng.normal(size=1)
    loss, by_coef, by_intercept = Design(X).loss_gradient(coef, intercept, target, weight)
    p = 1 / (1 + np.exp(-(X @ coef[0] + intercept[0])))
    likelihood = np.where(target == 1, p, 1 - p)
    residual = weight * (p - target)
    np.testing.assert_allclose(loss, -(weight * np.log(likelihood)).sum(), rtol=1e-9)
    np.testing.assert_allclose(by_coef[0], residual @ X, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(by_intercept, residual.sum(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("far", [-800.0, 800.0])
def test_scores_far_from_zero_do_not_overflow(far):
    X = np.ones((4, 1))
    target, weight = np.array([0, 1, 0, 1]), np.ones(4)
    loss, by_coef, _ = Design(X).loss_gradient([[far]], [0.0], target, weight)
    assert loss == pytest.approx(2 * abs(far))
    assert abs(by_coef[0, 0]) == pytest.approx(2)
    loss, _, _ = Design(X).loss_gradient([[far], [0.0], [0.0]], np.zeros(3), target, weight)
    assert np.isfinite(loss)


def test_rows_of_weight_zero_count_nothing():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 255, (19, 7), dtype=np.uint8)
    target, weight = rng.integers(0, 2, 19), (np.arange(19) % 3 > 0).astype(float)
    coef, intercept = rng.normal(size=(1, 7)) / 99, np.zeros(1)
    kept = weight > 0
    whole = Design(X).loss_gradient(coef, intercept, target, weight)
    part = Design(X[kept]).loss_gradient(coef, intercept, target[kept], weight[kept])
    for one, other in zip(whole, part, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_several_threads_agree_with_one(monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 255, (37, 11), dtype=np.uint8)
    target, weight = rng.integers(0, 2, 37), rng.random(37)
    coef, intercept = rng.normal(size=(1, 11)) / 99, np.zeros(1)
    one = Design(X).loss_gradient(coef, intercept, target, weight)
    monkeypatch.setattr(_design, "_VALUES_FOR_THREADS", 0)
    monkeypatch.setattr(_design, "_thread_count", lambda: 5)
    with Design(X).threads() as design:
        five = design.loss_gradient(coef, intercept, target, weight)
        np.testing.assert_allclose(design.scores(coef, intercept)[:, 0], X @ coef[0])
    for a, b in zip(one, five, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_rows_of_a_file_are_read_in_chunks(monkeypatch):
    monkeypatch.setattr(_design, "_CHUNK_BYTES", 8 * 50 * 10)
    rows = FileRows(np.random.default_rng(0).integers(0, 255, (95, 50), dtype=np.uint8))
    scores = Design(rows).scores(np.ones((1, 50)), np.zeros(1))
    np.testing.assert_array_equal(scores[:, 0], rows._array.sum(axis=1))
    assert rows.largest == 10 * 50


def test_sums_over_many_chunks_need_the_memory_of_one(monkeypatch):
    monkeypatch.setattr(_design, "_CHUNK_BYTES", 1)
    rows = FileRows(np.random.default_rng(0).integers(0, 255, (100, 5000), dtype=np.uint8))
    design, mean = Design(rows), rows._array.mean(axis=0)
    design.weighted_squares(np.ones(100), mean)  # the compiler allocates too
    tracemalloc.start()
    sums = design.weighted_squares(np.ones(100), mean)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_allclose(sums, ((rows._array - mean) ** 2).sum(axis=0))
    # A vector of these sums is 40 kB; one for every chunk would be 4 MB.
    assert most < 10 * 8 * 5000


def test_no_two_threads_read_a_view_at_once(monkeypatch):
    monkeypatch.setattr(_design, "_CHUNK_BYTES", 8 * 600 * 20)
    monkeypatch.setattr(_design, "_thread_count", lambda: 4)
    inside, most = [], []

    class Slow(FileRows):
        def __getitem__(self, key):
            inside.append(None)
            most.append(len(inside))
            time.sleep(0.002)
            inside.pop()
            return super().__getitem__(key)

    array = np.random.default_rng(0).integers(0, 255, (500, 600), dtype=np.uint8)
    with Design(Slow(array)).threads() as design:
        gram = design.gram(np.ones(500), np.zeros(600), np.ones(600))
    np.testing.assert_allclose(gram, array.astype(float) @ array.T)
    assert len(most) > 4 and max(most) == 1


def test_shaped_rows_of_the_decode_store(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(20):
        Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    paths = sorted(tmp_path.glob("*.png"))
    rows = ImageReader(8, cache_dir=tmp_path / "store").fit_transform(paths)[::-2]
    design = Design(rows)
    assert design.shape == (10, 64)
    coef = rng.normal(size=(1, 64))
    np.testing.assert_allclose(
        design.scores(coef, np.zeros(1)), np.asarray(rows).reshape(10, 64) @ coef.T
    )


def test_a_few_rows_need_no_compiler(monkeypatch):
    monkeypatch.setattr(_design, "_VALUES_FOR_NUMPY", 2**20)
    program = (
        "import sys, numpy as np\n"
        "from sklearn_cxr.utils._design import Design\n"
        "X = np.arange(12, dtype=np.uint8).reshape(3, 4)\n"
        "with Design(X).threads() as design:\n"
        "    out = design.scores(np.ones((1, 4)), np.array([0.5]))\n"
        "assert out.ravel().tolist() == [6.5, 22.5, 38.5], out\n"
        "assert 'numba' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_without_a_folder_for_compiled_code_it_is_compiled_all_the_same():
    program = (
        "import numba.core.caching as caching\n"
        "caching.CompileResultCacheImpl._locator_classes = []\n"
        "import numpy as np\n"
        "from sklearn_cxr.utils._design import Design\n"
        "from sklearn_cxr.utils import _kernels\n"
        "assert not _kernels._OPTIONS['cache']\n"
        "mean, _ = Design(np.arange(12, dtype=np.uint8).reshape(3, 4)).moments(np.ones(3))\n"
        "assert mean.tolist() == [4, 5, 6, 7]\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_weighted_sums_take_weights_of_any_sign():
    rng = np.random.default_rng(0)
    X, weights = rng.integers(0, 255, (37, 11), dtype=np.uint8), rng.normal(size=(3, 37))
    np.testing.assert_allclose(Design(X).weighted_sums(weights), weights @ X, rtol=1e-12)


@pytest.mark.parametrize(
    ("told", "expected"), [("1", 1), ("2", 2), ("3", 2), (None, 2), ("", 2), ("0", 2), ("x", 2)]
)
def test_threads_are_no_more_than_the_environment_allows(told, expected, monkeypatch):
    from numba import config

    monkeypatch.setattr(config, "NUMBA_NUM_THREADS", 2)
    monkeypatch.setattr(_design.os, "cpu_count", lambda: 8)
    if told is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert _design._thread_count() == expected
