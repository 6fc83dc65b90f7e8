import numpy as np
import pytest

from sklearn_cxr.preprocessing._intensity import IntensityScaler


def _films(n=5, shape=(12, 9), seed=0):
    return np.random.default_rng(seed).integers(10, 240, (n, *shape)).astype(np.uint8)


def _as(images, dtype):
    if np.dtype(dtype).kind == "f":
        return (images / 255).astype(dtype)
    return images.astype(dtype) * (257 if dtype == np.uint16 else 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_unit(dtype):
    images = _films()
    out = IntensityScaler().fit_transform(_as(images, dtype))
    assert out.dtype == (np.float64 if dtype == np.float64 else np.float32)
    np.testing.assert_allclose(out, images / 255, atol=1e-7)


def test_unit_with_value_range():
    hounsfield = np.array([[-1000, 0, 1000]])
    scaler = IntensityScaler(value_range=(-1000, 1000)).fit(hounsfield)
    np.testing.assert_array_equal(scaler.transform(hounsfield), [[0, 0.5, 1]])
    assert (scaler.offset_, scaler.scale_) == (-1000, 2000)
    with pytest.raises(ValueError, match=r"expected values in \[-1000, 1000\]"):
        scaler.transform(hounsfield - 1)


def test_unit_refuses_levels_that_nobody_told():
    images = _films()
    with pytest.raises(ValueError, match=r"IntensityScaler expected values in \[0, 1\]"):
        IntensityScaler().fit(images.astype(np.float32))
    with pytest.raises(ValueError, match=r"IntensityScaler expected values in \[0, 1\]"):
        IntensityScaler().fit(images / 255 - 0.5)
    with pytest.raises(ValueError, match="int64 does not tell"):
        IntensityScaler().fit(images.astype(np.int64))


@pytest.mark.parametrize("mode", ["standard", "percentile"])
def test_other_modes_take_any_levels(mode):
    images = _films().astype(np.int64) * 1000 - 70_000
    for values in (images, images.astype(np.float32)):
        out = IntensityScaler(mode).fit_transform(values)
        expected = IntensityScaler(mode).fit_transform(_films())
        np.testing.assert_allclose(out, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_standard_per_image(dtype):
    images = _as(_films(), dtype)
    scaler = IntensityScaler("standard").fit(images)
    out = scaler.transform(images)
    exact = images.astype(np.float64)
    expected = [(image - image.mean()) / image.std() for image in exact]
    np.testing.assert_allclose(out, expected, atol=1e-6)
    assert scaler.offset_ is None and scaler.scale_ is None


@pytest.mark.parametrize("percentiles", [(1, 99), (0, 100), (2.5, 60)])
def test_percentile_per_image(percentiles):
    images = _films()
    out = IntensityScaler("percentile", percentiles=percentiles).fit_transform(images)
    for image, got in zip(images, out, strict=True):
        low, high = np.percentile(image, percentiles)
        np.testing.assert_allclose(got, np.clip((image - low) / (high - low), 0, 1), atol=1e-6)
    assert out.min() == 0 and out.max() == 1


def test_percentile_ignores_a_burned_in_marker():
    images = _films(n=1, shape=(50, 50)) // 3
    marked = images.copy()
    marked[0, :4, :5] = 255
    plain = IntensityScaler("percentile").fit_transform(images)
    with_marker = IntensityScaler("percentile").fit_transform(marked)
    assert np.abs(plain - with_marker)[0, 10:].max() < 0.03


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64, np.int32])
def test_standard_per_dataset(dtype):
    images = _as(_films(), dtype)
    scaler = IntensityScaler("standard", per="dataset").fit(images)
    exact = images.astype(np.float64)
    assert scaler.offset_ == pytest.approx(exact.mean(), rel=1e-12)
    assert scaler.scale_ == pytest.approx(exact.std(), rel=1e-12)
    dark = images[:2] // 2 if np.dtype(dtype).kind != "f" else images[:2] / 2
    out = scaler.transform(dark.astype(dtype))
    np.testing.assert_allclose(
        out, (dark.astype(np.float64) - exact.mean()) / exact.std(), atol=1e-6
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64, np.int32])
def test_percentile_per_dataset(dtype):
    images = _as(_films(), dtype)
    scaler = IntensityScaler("percentile", per="dataset", percentiles=(3, 97.3)).fit(images)
    low, high = np.percentile(images.astype(np.float64), (3, 97.3))
    assert scaler.offset_ == pytest.approx(low, rel=1e-12)
    assert scaler.scale_ == pytest.approx(high - low, rel=1e-12)
    out = scaler.transform(images)
    expected = np.clip((images.astype(np.float64) - low) / (high - low), 0, 1)
    np.testing.assert_allclose(out, expected, atol=1e-6)


def test_per_dataset_keeps_exposure_and_per_image_removes_it():
    films = _films(n=1)
    pair = np.concatenate([films, films // 2])
    per_image = IntensityScaler("standard").fit_transform(pair).mean(axis=(1, 2))
    per_dataset = IntensityScaler("standard", per="dataset").fit_transform(pair).mean(axis=(1, 2))
    np.testing.assert_allclose(per_image, 0, atol=1e-6)
    assert per_dataset[0] - per_dataset[1] > 0.5


@pytest.mark.parametrize("mode", ["standard", "percentile"])
@pytest.mark.parametrize("per", ["image", "dataset"])
@pytest.mark.parametrize("value", [np.uint8(0), np.uint8(77), np.float32(0.1), 0.1, -1e6 / 3])
def test_constant_images_give_zeros(mode, per, value):
    images = np.full((3, 7, 11), value)
    out = IntensityScaler(mode, per=per).fit_transform(images)
    np.testing.assert_array_equal(out, 0)


def test_equal_percentiles_give_zeros():
    images = np.zeros((1, 20, 20), dtype=np.uint8)
    images[0, 0, 0] = 200
    np.testing.assert_array_equal(IntensityScaler("percentile").fit_transform(images), 0)


def test_colour_channels_share_one_scale():
    images = _films(shape=(6, 6, 3))
    out = IntensityScaler("standard").fit_transform(images)
    exact = images[0].astype(np.float64)
    np.testing.assert_allclose(out[0], (exact - exact.mean()) / exact.std(), atol=1e-6)


@pytest.mark.parametrize(
    "percentiles", [(99, 1), (5, 5), (-1, 50), (1, 101), (1, 2, 3), (1, np.nan)]
)
def test_wrong_percentiles(percentiles):
    with pytest.raises(ValueError, match="0 <= low < high <= 100"):
        IntensityScaler("percentile", percentiles=percentiles).fit(_films())


@pytest.mark.parametrize("per", ["image", "dataset"])
def test_percentiles_of_booleans(per):
    images = np.zeros((2, 10, 10), dtype=bool)
    images[:, :5] = True
    out = IntensityScaler("percentile", per=per).fit_transform(images)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, images)


@pytest.mark.parametrize("wrong", [("a", "b"), (False, True), (1,), (99, 1), (0, 101)])
def test_percentiles_that_are_none(wrong):
    with pytest.raises(ValueError, match="percentiles must be"):
        IntensityScaler("percentile", percentiles=wrong).fit(_films())
