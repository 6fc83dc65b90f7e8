import tracemalloc

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from sklearn_cxr.preprocessing._pixel_scaler import PixelScaler


def _films(n=23, shape=(6, 7), seed=0, dtype=np.uint8):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, *shape)).astype(np.uint8)
    if np.dtype(dtype).kind == "f":
        return (images / 255).astype(dtype)
    return images.astype(dtype) * (257 if dtype == np.uint16 else 1)


DTYPES = [np.uint8, np.uint16, np.int32, np.float32, np.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch_size", [None, 1, 4, 100])
def test_equals_standard_scaler(dtype, batch_size):
    images = _films(dtype=dtype)
    flat = images.reshape(len(images), -1).astype(np.float64)
    scaler = PixelScaler(batch_size=batch_size).fit(images)
    reference = StandardScaler().fit(flat)
    np.testing.assert_allclose(scaler.mean_, reference.mean_, rtol=1e-12)
    np.testing.assert_allclose(scaler.var_, reference.var_, rtol=1e-12)
    np.testing.assert_allclose(scaler.scale_, reference.scale_, rtol=1e-12)
    assert scaler.n_samples_seen_ == 23
    out = scaler.transform(images)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out.reshape(23, -1), reference.transform(flat), atol=1e-6)
    np.testing.assert_array_equal(scaler.mean_image_, scaler.mean_.reshape(6, 7))


@pytest.mark.parametrize("dtype", DTYPES)
def test_partial_fit_equals_fit(dtype):
    images = _films(dtype=dtype)
    whole = PixelScaler().fit(images)
    parts = PixelScaler()
    for start in (0, 1, 9, 20):
        stop = {0: 1, 1: 9, 9: 20, 20: 23}[start]
        assert parts.partial_fit(images[start:stop]) is parts
    assert parts.n_samples_seen_ == 23
    np.testing.assert_allclose(parts.mean_, whole.mean_, rtol=1e-12)
    np.testing.assert_allclose(parts.var_, whole.var_, rtol=1e-12)
    parts.fit(images[:5])
    assert parts.n_samples_seen_ == 5
    np.testing.assert_allclose(parts.mean_image_, images[:5].mean(axis=0), rtol=1e-6)


def test_integer_sums_do_not_cancel():
    # A hair of variance on the brightest levels: float sums of squares would lose it.
    column = np.full(70_000, 65535, dtype=np.uint16)
    column[::1000] -= 1
    images = np.stack([column, column // 2], axis=1)
    scaler = PixelScaler().fit(images)
    share = 70 / 70_000
    assert scaler.var_[0] == pytest.approx(share * (1 - share), rel=1e-12)
    assert scaler.mean_[0] == pytest.approx(65535 - share, rel=1e-15)


def test_floats_far_from_zero_keep_their_variance():
    rng = np.random.default_rng(0)
    values = 1e8 + rng.normal(size=(1000, 3))
    scaler = PixelScaler(batch_size=10).fit(values)
    np.testing.assert_allclose(scaler.var_, (values - 1e8).var(axis=0), rtol=1e-6)


@pytest.mark.parametrize("value", [np.uint8(9), np.uint16(60000), np.float32(0.1), 0.1, -1e9 / 3])
def test_constant_pixels_get_scale_one(value):
    images = np.full((50, 2, 2), value)
    images[::2, 0, 0] = 0
    scaler = PixelScaler().fit(images)
    np.testing.assert_array_equal(scaler.scale_[1:], 1)
    assert scaler.scale_[0] == pytest.approx(abs(float(value)) / 2)
    np.testing.assert_allclose(scaler.transform(images)[:, 1], 0, atol=1e-6)


def test_with_mean_and_with_std():
    images = _films()
    flat = images.reshape(23, -1).astype(np.float64)
    for with_mean in (True, False):
        for with_std in (True, False):
            scaler = PixelScaler(with_mean=with_mean, with_std=with_std).fit(images)
            reference = StandardScaler(with_mean=with_mean, with_std=with_std).fit(flat)
            out = scaler.transform(images).reshape(23, -1)
            np.testing.assert_allclose(out, reference.transform(flat), rtol=1e-6, atol=1e-6)
            back = scaler.inverse_transform(out)
            np.testing.assert_allclose(back, flat, atol=1e-4)
    np.testing.assert_array_equal(scaler.scale_, 1)
    np.testing.assert_allclose(scaler.var_, flat.var(axis=0))


def test_inverse_transform_gives_the_images_back():
    images = _films()
    scaler = PixelScaler(batch_size=5).fit(images)
    back = scaler.inverse_transform(scaler.transform(images))
    assert back.shape == images.shape and back.dtype == np.float32
    np.testing.assert_allclose(back, images, atol=1e-4)
    with pytest.raises(ValueError, match=r"fitted on \(6, 7\)"):
        scaler.inverse_transform(np.zeros((2, 7, 6)))
    with pytest.raises(ValueError, match="X has 41 features"):
        scaler.inverse_transform(np.zeros((2, 41)))


def test_no_half_fitted_scaler_after_an_error():
    images = _films(dtype=np.float64)
    scaler = PixelScaler(batch_size=4).fit(images)
    broken = images.copy()
    broken[20, 3, 3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        scaler.fit(broken)
    with pytest.raises(ValueError, match="not fitted"):
        scaler.transform(images)


def test_memory_map_is_read_in_pieces(tmp_path):
    shape = (600, 128, 128)
    path = tmp_path / "films.dat"
    images = np.memmap(path, dtype=np.uint8, mode="w+", shape=shape)
    images[:] = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    images.flush()
    before = path.read_bytes()
    mapped = np.memmap(path, dtype=np.uint8, mode="r", shape=shape)

    tracemalloc.start()
    scaler = PixelScaler().fit(mapped)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Some accumulators of one image each; the films are 9.8 MB, 78.6 MB in float64.
    assert peak < 2.5e6
    exact = np.frombuffer(before, dtype=np.uint8).reshape(shape)
    np.testing.assert_allclose(scaler.mean_image_, exact.mean(axis=0), rtol=1e-12)
    assert path.read_bytes() == before


def test_float_memory_map_is_converted_chunk_by_chunk(tmp_path):
    shape = (400, 64, 64)
    path = tmp_path / "films.dat"
    images = np.memmap(path, dtype=np.float32, mode="w+", shape=shape)
    images[:] = np.random.default_rng(0).random(shape, dtype=np.float32)
    tracemalloc.start()
    scaler = PixelScaler(batch_size=20).fit(images)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2.5e6  # 6.5 MB as they are, 13.1 MB in float64
    np.testing.assert_allclose(
        scaler.mean_image_, np.asarray(images).mean(axis=0, dtype=np.float64), rtol=1e-12
    )
