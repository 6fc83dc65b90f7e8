import numpy as np
import pytest
from skimage import exposure

from sklearn_cxr.preprocessing._equalize import HistogramEqualizer


def _films(n=3, shape=(40, 56), seed=0, dtype=np.uint8):
    rng = np.random.default_rng(seed)
    top = np.iinfo(dtype).max
    return np.clip(rng.normal(0.45 * top, 0.1 * top, (n, *shape)), 0, top).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_global_equals_scikit_image_rounded(dtype):
    images = _films(dtype=dtype)
    out = HistogramEqualizer().fit_transform(images)
    top = np.iinfo(dtype).max
    expected = [np.rint(exposure.equalize_hist(image) * top) for image in images]
    assert out.dtype == dtype
    np.testing.assert_array_equal(out, np.array(expected))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_adaptive_equals_scikit_image_rounded(dtype):
    images = _films(shape=(64, 72), dtype=dtype)
    out = HistogramEqualizer("adaptive", clip_limit=0.03, n_bins=128).fit_transform(images)
    top = np.iinfo(dtype).max
    expected = [
        np.rint(exposure.equalize_adapthist(image, clip_limit=0.03, nbins=128) * top)
        for image in images
    ]
    assert out.dtype == dtype
    np.testing.assert_array_equal(out, np.array(expected))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_equal_scikit_image_and_stay_floats(dtype):
    # Continuous values: those on a bin's edge may fall to either side of it.
    images = np.random.default_rng(0).beta(2, 5, (3, 40, 56)).astype(dtype)
    out = HistogramEqualizer(n_bins=100).fit_transform(images)
    expected = [exposure.equalize_hist(image.astype(np.float64), nbins=100) for image in images]
    assert out.dtype == dtype
    np.testing.assert_allclose(out, np.array(expected), atol=1e-6)

    images = (_films(shape=(64, 72)) / 255).astype(dtype)
    out = HistogramEqualizer("adaptive").fit_transform(images)
    expected = [exposure.equalize_adapthist(image.astype(np.float64)) for image in images]
    assert out.dtype == dtype
    # The stretch to the image's own range happens before scikit-image rounds to 16 bits.
    np.testing.assert_allclose(out, np.array(expected), atol=0.02)


def test_equalised_histogram_is_flat():
    out = HistogramEqualizer().fit_transform(_films(n=1, shape=(200, 200)))
    shares = np.histogram(out, bins=8, range=(0, 256))[0] / out.size
    np.testing.assert_allclose(shares, 1 / 8, atol=0.03)


def test_adaptive_raises_local_contrast_of_a_dark_region():
    rng = np.random.default_rng(0)
    film = rng.integers(180, 200, (1, 96, 96)).astype(np.uint8)
    film[:, :, :48] -= 170
    out = HistogramEqualizer("adaptive", clip_limit=0.5).fit_transform(film)
    assert out[..., 8:40].std() > 4 * film[..., 8:40].std()


def test_value_range_is_the_range_of_the_result():
    images = _films(dtype=np.uint16) // 16  # 12 bits
    out = HistogramEqualizer(value_range=(0, 4095)).fit_transform(images)
    expected = np.rint(exposure.equalize_hist(images[0]) * 4095)
    assert out.dtype == np.uint16
    np.testing.assert_array_equal(out[0], expected)

    signed = images.astype(np.int16) - 1000
    out = HistogramEqualizer(value_range=(-1000, 3095), n_bins=512).fit_transform(signed)
    assert out.dtype == np.int16
    assert -1000 < out.min() < -900
    assert out.max() == 3095


@pytest.mark.parametrize(
    ("dtype", "value_range"), [(np.uint8, (0, 1000)), (np.int8, (-1000, 1000))]
)
def test_a_range_outside_of_the_dtype_would_saturate(dtype, value_range):
    images = np.arange(100, dtype=dtype).reshape(1, 10, 10)
    with pytest.raises(ValueError, match="value_range must lie within"):
        HistogramEqualizer(value_range=value_range).fit(images)


def test_booleans_have_no_histogram():
    images = np.eye(4, dtype=bool)[None]
    with pytest.raises(ValueError, match="got booleans"):
        HistogramEqualizer(value_range=(0, 1)).fit(images)


@pytest.mark.parametrize("method", ["global", "adaptive"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_constant_image_is_left_as_it_is(method, dtype):
    images = np.zeros((3, 16, 16), dtype=dtype)
    images[1] = 1
    images[2, 4:9, 3:7] = 1
    out = HistogramEqualizer(method).fit_transform(images)
    np.testing.assert_array_equal(out[:2], images[:2])
    assert np.isfinite(out).all()
    assert out[2].min() < out[2].max()


def test_constant_but_for_rounding():
    image = np.full((1, 8, 8), 0.1)
    image[0, 0, 0] = np.nextafter(0.1, 1)
    out = HistogramEqualizer().fit_transform(image)
    assert out[0, 0, 0] == 1
    assert np.unique(out).size == 2


@pytest.mark.parametrize("method", ["global", "adaptive"])
def test_grey_stored_as_rgb_equals_grey(method):
    grey = _films(shape=(32, 32))
    colour = np.repeat(grey[..., None], 3, axis=-1)
    out = HistogramEqualizer(method).fit_transform(colour)
    expected = HistogramEqualizer(method).fit_transform(grey)
    for channel in range(3):
        np.testing.assert_array_equal(out[..., channel], expected)


def test_channels_are_equalised_apart():
    colour = np.stack([_films(seed=0), _films(seed=1) // 4], axis=-1)
    out = HistogramEqualizer().fit_transform(colour)
    for channel in range(2):
        expected = exposure.equalize_hist(np.ascontiguousarray(colour[0, ..., channel]))
        np.testing.assert_array_equal(out[0, ..., channel], np.rint(expected * 255))


def test_default_tile_of_small_images_keeps_their_contrast():
    # An eighth of 16 pixels would be a tile of 2x2, whose histogram says nothing.
    ramp = np.tile(np.arange(16, dtype=np.uint8) * 8, (1, 16, 1))
    out = HistogramEqualizer("adaptive", clip_limit=1.0).fit_transform(ramp)
    expected = exposure.equalize_adapthist(ramp[0], kernel_size=(8, 8), clip_limit=1.0)
    np.testing.assert_array_equal(out[0], np.rint(expected * 255))


@pytest.mark.parametrize("shape", [(1, 10), (10, 1), (1, 2), (2, 2), (3, 50)])
@pytest.mark.parametrize("method", ["global", "adaptive"])
def test_tiny_images(shape, method):
    images = _films(n=2, shape=shape)
    out = HistogramEqualizer(method).fit_transform(images)
    assert out.shape == images.shape
    assert (out.max(axis=(1, 2)) == 255).all()


def test_kernel_size():
    images = _films(n=1, shape=(48, 60))
    for kernel_size, tile in [(12, (12, 12)), ((6, 20), (6, 20)), (np.int64(9), (9, 9))]:
        out = HistogramEqualizer("adaptive", kernel_size=kernel_size).fit_transform(images)
        expected = exposure.equalize_adapthist(images[0], kernel_size=tile)
        np.testing.assert_array_equal(out[0], np.rint(expected * 255))
    for kernel_size in [(4,), (4, 0), (2.5, 3), (3, 3, 3)]:
        with pytest.raises(ValueError, match="kernel_size must be a positive int"):
            HistogramEqualizer("adaptive", kernel_size=kernel_size).fit(images)


def test_levels_that_nobody_told_raise():
    images = _films()
    with pytest.raises(ValueError, match=r"HistogramEqualizer expected values in \[0, 1\]"):
        HistogramEqualizer().fit(images.astype(np.float32))
    with pytest.raises(ValueError, match="int64 does not tell"):
        HistogramEqualizer().fit(images.astype(np.int64))
    with pytest.raises(ValueError, match=r"expected values in \[0, 100\]"):
        HistogramEqualizer(value_range=(0, 100)).fit(images)
    with pytest.raises(ValueError, match="low < high"):
        HistogramEqualizer(value_range=(5, 5)).fit(images)
    fitted = HistogramEqualizer(value_range=(0, 4095)).fit(images.astype(np.uint16))
    with pytest.raises(ValueError, match=r"expected values in \[0, 4095\]"):
        fitted.transform(np.full((1, 40, 56), 5000, dtype=np.uint16))


@pytest.mark.parametrize("method", ["global", "adaptive"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_threads_agree_with_one(method, dtype):
    images = _films(n=5, shape=(32, 32))
    images = images if dtype == np.uint8 else (images / 255).astype(dtype)
    one = HistogramEqualizer(method, n_jobs=1).fit_transform(images)
    two = HistogramEqualizer(method, n_jobs=2).fit_transform(images)
    np.testing.assert_array_equal(one, two)
