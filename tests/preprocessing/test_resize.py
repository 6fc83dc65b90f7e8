import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from sklearn.base import clone

from sklearn_cxr.preprocessing._resize import Resize, SquarePad


def area_average(image, size):
    """Exact area average by integrating the cumulative sum, in float64."""
    out = np.asarray(image, dtype=np.float64)
    for axis, side in enumerate(size):
        n = out.shape[axis]
        total = np.insert(np.cumsum(out, axis=axis), 0, 0, axis=axis)
        total = np.moveaxis(total, axis, 0)
        edges = np.linspace(0, n, side + 1)
        low = np.minimum(np.floor(edges).astype(int), n - 1)
        share = (edges - low).reshape(-1, *[1] * (total.ndim - 1))
        at_edges = total[low] * (1 - share) + total[low + 1] * share
        out = np.moveaxis(np.diff(at_edges, axis=0) * side / n, 0, axis)
    return out


@pytest.fixture
def images():
    rng = np.random.RandomState(0)
    return rng.randint(0, 256, (4, 51, 38)).astype(np.uint8)


@pytest.mark.parametrize("size", [(17, 19), (20, 31), (51, 7), (1, 1)])
def test_reduction_is_the_area_average(images, size):
    out = Resize(size).fit_transform(images)
    assert out.dtype == np.uint8 and out.shape == (4, *size)
    for got, image in zip(out, images, strict=True):
        assert np.abs(got - area_average(image, size)).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.float64, np.float16, np.int64])
def test_dtype_is_kept(images, dtype):
    given = images.astype(dtype) * (200 if dtype in (np.uint16, np.int64) else 1)
    given = given.astype(dtype)
    out = Resize((20, 20)).fit_transform(given)
    assert out.dtype == dtype
    expected = area_average(given[0], (20, 20))
    rounding = 0.51 if np.dtype(dtype).kind in "iu" else 0
    assert_allclose(out[0], expected, atol=rounding, rtol=1e-3 if dtype == np.float16 else 1e-5)


def test_wide_integers_are_exact():
    given = np.full((1, 4, 4), 2**40 + 3)
    assert_array_equal(Resize(2).fit_transform(given), np.full((1, 2, 2), 2**40 + 3))


def test_booleans_are_cut_at_one_half():
    mask = np.array([[[True, True, True, False], [True, True, False, False]]])
    assert_array_equal(Resize((1, 2)).fit_transform(mask), [[[True, False]]])


def test_enlargement_is_bilinear(images):
    out = Resize((90, 70)).fit_transform(images.astype(np.float32))
    for got, image in zip(out, images, strict=True):
        # Pillow's BILINEAR is the plain interpolation between pixel centres when it enlarges.
        expected = Image.fromarray(image.astype(np.float32)).resize(
            (70, 90), Image.Resampling.BILINEAR
        )
        assert_allclose(got, np.asarray(expected), atol=1e-2)


def test_without_anti_aliasing_samples_between_two_pixels():
    ramp = np.array([[[0, 10, 20, 90, 40, 50]]], dtype=np.float64)
    # Centres of the outputs lie at inputs 1.0 and 4.0 on the pixel grid.
    assert_allclose(Resize((1, 2), anti_aliasing=False).fit_transform(ramp), [[[10, 40]]])
    assert_allclose(Resize((1, 2)).fit_transform(ramp), [[[10, 60]]])


def test_colour_goes_channel_by_channel(images):
    colour = np.stack([images, 255 - images, images // 2], axis=-1)
    out = Resize((13, 21)).fit_transform(colour)
    assert out.shape == (4, 13, 21, 3)
    for channel in range(3):
        alone = Resize((13, 21)).fit_transform(colour[..., channel])
        assert_array_equal(out[..., channel], alone)


def test_constant_stays_constant_and_within_range():
    for value in (1.0, 0.1, 1 / 3):
        out = Resize(7).fit_transform(np.full((2, 23, 23), value, dtype=np.float32))
        assert_array_equal(out, np.full((2, 7, 7), np.float32(value)))


def test_same_size_copies(images):
    out = Resize((51, 38)).fit_transform(images)
    assert_array_equal(out, images)
    assert not np.shares_memory(out, images)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1)])
def test_thin_images(shape):
    given = np.arange(2 * shape[0] * shape[1], dtype=np.uint8).reshape(2, *shape)
    out = Resize(3).fit_transform(given)
    assert out.shape == (2, 3, 3)
    assert_allclose(out.mean(axis=(1, 2)), given.mean(axis=(1, 2)), atol=0.5)
    assert SquarePad().fit_transform(given).shape == (2, max(shape), max(shape))


@pytest.mark.parametrize(
    "make",
    [
        lambda **more: Resize((17, 9), **more),
        lambda **more: SquarePad(fill_value=3, **more),
    ],
)
class TestEveryForm:
    def test_flat_and_shaped_agree(self, make, images):
        shaped = make().fit_transform(images)
        flat = make(image_shape=(51, 38)).fit_transform(images.reshape(4, -1))
        assert flat.shape == (4, shaped[0].size)
        assert_array_equal(flat, shaped.reshape(4, -1))

    def test_memmap_agrees_and_is_not_written_to(self, make, images, tmp_path):
        path = tmp_path / "images.npy"
        np.save(path, images)
        before = path.read_bytes()
        mapped = np.load(path, mmap_mode="r")
        assert_array_equal(make().fit_transform(mapped), make().fit_transform(images))
        assert path.read_bytes() == before

    def test_refit_leaves_nothing_behind(self, make, images):
        other = images[:, :30, :31]
        refitted = make().fit(images).fit(other)
        fresh = make().fit(other)
        assert vars(refitted).keys() == vars(fresh).keys()
        assert_array_equal(refitted.transform(other), fresh.transform(other))
        assert_array_equal(refitted.geometry(other), fresh.geometry(other))

    def test_clone_and_pickle(self, make, images):
        fitted = make().fit(images)
        copy = pickle.loads(pickle.dumps(fitted))
        assert_array_equal(copy.transform(images), fitted.transform(images))
        assert not hasattr(clone(fitted), "size_")

    def test_bad_input_raises(self, make, images):
        fitted = make().fit(images)
        with pytest.raises(ValueError, match="was fitted on"):
            fitted.transform(images[:, :50])
        with pytest.raises(ValueError, match="nothing is rescaled silently"):
            fitted.transform(images / 255)
        with pytest.raises(ValueError, match="NaN"):
            make().fit(np.full((1, 4, 4), np.nan))

    def test_names_are_those_of_the_new_pixels(self, make, images):
        fitted = make().fit(images)
        names = fitted.get_feature_names_out()
        h, w = fitted.transform(images).shape[1:]
        assert len(names) == h * w
        assert names[0] == "pixel_0_0" and names[-1] == f"pixel_{h - 1}_{w - 1}"


def test_geometry_is_a_scaling(images):
    affines = Resize((17, 19)).fit(images).geometry(images)
    assert_allclose(affines, [[[2, 0, 0], [0, 3, 0]]] * 4)


@pytest.mark.parametrize(
    "size", [0, (0, 3), (2, 3, 4), (2.5, 3), "large", None, True, (True, True)]
)
def test_bad_sizes_raise(images, size):
    with pytest.raises(ValueError, match="size"):
        Resize(size).fit(images)


@pytest.mark.parametrize(("position", "first"), [("center", 3), ("start", 0), ("end", 7)])
def test_square_pad_places_the_image(position, first):
    given = np.full((2, 5, 12), 9, dtype=np.uint8)
    pad = SquarePad(fill_value=2, position=position).fit(given)
    expected = np.full((2, 12, 12), 2, dtype=np.uint8)
    expected[:, first : first + 5] = 9
    assert_array_equal(pad.transform(given), expected)
    assert_allclose(pad.geometry(given), [[[1, 0, 0], [0, 1, -first]]] * 2)
    tall = np.swapaxes(given, 1, 2)
    pad = SquarePad(fill_value=2, position=position).fit(tall)
    assert_array_equal(pad.transform(tall), np.swapaxes(expected, 1, 2))
    assert_allclose(pad.geometry(tall), [[[1, 0, -first], [0, 1, 0]]] * 2)


def test_square_pad_of_colour(images):
    colour = np.repeat(images[..., None], 3, axis=-1)
    out = SquarePad().fit_transform(colour)
    assert out.shape == (4, 51, 51, 3)
    assert_array_equal(out[:, :, 6:44], colour)


@pytest.mark.parametrize(
    ("fill_value", "dtype"), [(256, np.uint8), (-1, np.uint16), (0.5, np.uint8), (1e6, np.float16)]
)
def test_fill_value_has_to_exist_in_the_dtype(fill_value, dtype):
    with pytest.raises(ValueError, match="does not exist in images of dtype"):
        SquarePad(fill_value=fill_value).fit(np.ones((1, 2, 3), dtype=dtype))


def test_square_pad_does_not_blow_up_a_flat_image():
    with pytest.raises(ValueError, match="image_shape"):
        SquarePad().fit(np.zeros((1, 100 * 90), dtype=np.uint8))
    assert SquarePad(image_shape=(100, 90)).fit_transform(
        np.zeros((1, 100 * 90), dtype=np.uint8)
    ).shape == (1, 100 * 100)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("size", [(17, 19), (60, 70)])
def test_byte_order_is_irrelevant(images, dtype, size):
    images = (images * 1.37).astype(dtype)
    swapped = images.astype(images.dtype.newbyteorder(">"))
    expected = Resize(size).fit_transform(images)
    assert_array_equal(Resize(size).fit_transform(swapped), expected)
    assert_array_equal(Resize(size).fit(images).transform(swapped), expected)
