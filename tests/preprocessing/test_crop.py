import pickle
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from sklearn_cxr.exceptions import FallbackWarning
from sklearn_cxr.preprocessing import PixelScaler
from sklearn_cxr.preprocessing._crop import CropBorders

BOXES = [(10, 6, 70, 60), (0, 0, 100, 80), (25, 0, 60, 80)]  # x, y, w, h in 80 x 100


@pytest.fixture
def films():
    rng = np.random.RandomState(0)
    images = rng.randint(0, 12, (3, 80, 100))
    for image, (x, y, w, h) in zip(images, BOXES, strict=True):
        image[y : y + h, x : x + w] = rng.randint(60, 250, (h, w))
    return images.astype(np.uint8)


def found_boxes(crop, images):
    affines = crop.geometry(images)
    h, w = crop.size_
    corner = affines[:, :, 2]
    side = np.stack([affines[:, 0, 0] * w, affines[:, 1, 1] * h], axis=1)
    return np.hstack([corner, side])


def test_borders_are_found(films):
    assert_allclose(found_boxes(CropBorders().fit(films), films), BOXES, atol=1e-9)


def test_output_is_the_crop(films):
    out = CropBorders(size=(60, 70)).fit_transform(films[:1])
    assert_array_equal(out[0], films[0, 6:66, 10:80])
    assert CropBorders().fit_transform(films).shape == films.shape


def test_a_marker_in_the_border_does_not_stop_the_crop(films):
    films[0, 20:28, 88:95] = 255  # right border: 8 of 80 rows, fewer of those that remain
    films[0, 72:77, 30:36] = 255  # lower border: 6 of 100 columns
    crop = CropBorders(min_share=0.15).fit(films)
    assert_allclose(found_boxes(crop, films)[0], BOXES[0], atol=1e-9)


def test_noise_below_the_threshold_is_black(films):
    films[0][films[0] < 12] = 15
    assert_allclose(found_boxes(CropBorders().fit(films), films)[0], BOXES[0], atol=1e-9)
    strict = CropBorders(threshold=0.01).fit(films)
    assert_allclose(found_boxes(strict, films)[0], (0, 0, 100, 80), atol=1e-9)


@pytest.mark.parametrize("value", [0, 255])
def test_constant_images(value):
    images = np.full((2, 9, 9), value, dtype=np.uint8)
    crop = CropBorders().fit(images)
    if value:
        out = crop.transform(images)
    else:
        with pytest.warns(FallbackWarning, match="2 of 2 images are kept whole"):
            out = crop.transform(images)
    assert_array_equal(out, images)


def test_too_large_a_crop_is_not_made(films):
    with pytest.warns(FallbackWarning, match="1 of 3 images"):
        out = CropBorders(max_fraction=0.35).fit_transform(films)
    assert_array_equal(out[2], films[2])
    crop = CropBorders(max_fraction=0)
    by_ways = [
        lambda: crop.fit_transform(films),
        lambda: crop.fit(films).transform(films),
        lambda: make_pipeline(crop, PixelScaler()).fit(films),
    ]
    for way in by_ways:
        with pytest.warns(FallbackWarning, match="2 of 3 images") as caught:
            way()
        assert len(caught) == 1 and caught[0].filename == __file__


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1)])
def test_thin_images(shape):
    images = np.full((2, *shape), 100, dtype=np.uint8)
    assert_array_equal(CropBorders().fit_transform(images), images)


def test_one_row_is_cropped_at_its_ends():
    row = np.array([[[0, 0, 90, 100, 110, 0]]], dtype=np.uint8)
    assert_array_equal(CropBorders(size=(1, 3)).fit_transform(row), [[[90, 100, 110]]])


def test_levels_of_other_kinds(films):
    as_float = CropBorders().fit(films / 255)
    assert_allclose(found_boxes(as_float, films / 255), BOXES, atol=1e-9)
    deep = films.astype(np.uint16) * 257
    assert_allclose(found_boxes(CropBorders().fit(deep), deep), BOXES, atol=1e-9)
    shifted = films.astype(np.int64) - 1000
    crop = CropBorders(value_range=(-1000, -745)).fit(shifted)
    assert_allclose(found_boxes(crop, shifted), BOXES, atol=1e-9)


def test_levels_that_cannot_be_told_raise(films):
    with pytest.raises(ValueError, match="value_range"):
        CropBorders().fit(films.astype(np.int64))
    with pytest.raises(ValueError, match=r"expected values in \[0, 1\]"):
        CropBorders().fit(films.astype(float))
    with pytest.raises(ValueError, match=r"expected values in \[0, 200\]"):
        CropBorders(value_range=(0, 200)).fit(films)
    with pytest.raises(ValueError, match="NaN"):
        CropBorders().fit(np.full((1, 4, 4), np.nan))


def test_colour_is_judged_by_its_mean(films):
    colour = np.stack([films, films, films], axis=-1)
    crop = CropBorders(size=20).fit(colour)
    assert_allclose(found_boxes(crop, colour), BOXES, atol=1e-9)
    assert crop.transform(colour).shape == (3, 20, 20, 3)


def test_flat_and_memmap_agree(films, tmp_path):
    expected = CropBorders(size=32).fit_transform(films)
    flat = CropBorders(size=32, image_shape=(80, 100)).fit_transform(films.reshape(3, -1))
    assert_array_equal(flat, expected.reshape(3, -1))
    path = tmp_path / "films.npy"
    np.save(path, films)
    before = path.read_bytes()
    mapped = np.load(path, mmap_mode="r")
    assert_array_equal(CropBorders(size=32).fit_transform(mapped), expected)
    assert path.read_bytes() == before


def test_refit_clone_pickle_and_other_shape(films):
    fitted = CropBorders().fit(films[:, :60, :60]).fit(films)
    fresh = CropBorders().fit(films)
    assert vars(fitted).keys() == vars(fresh).keys()
    copy = pickle.loads(pickle.dumps(fitted))
    assert_array_equal(copy.transform(films), fresh.transform(films))
    assert not hasattr(clone(fitted), "size_")
    with pytest.raises(ValueError, match="was fitted on"):
        fitted.transform(films[:, :60])


def test_geometry_does_not_warn():
    black = np.zeros((1, 5, 5), dtype=np.uint8)
    crop = CropBorders().fit(black)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_allclose(crop.geometry(black), [[[1, 0, 0], [0, 1, 0]]])
