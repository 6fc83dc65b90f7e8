import pickle
import warnings

import numpy as np
import pytest
from joblib import parallel_config
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.base import clone

from sklearn_cxr.exceptions import FallbackWarning
from sklearn_cxr.preprocessing._lungs import LungCrop

# Shares of the film: centre (row, column) and radii of the two lungs; the box around both.
LUNGS = [((0.5, 0.32), (0.3, 0.12)), ((0.48, 0.7), (0.28, 0.11))]
BOX = (0.2, 0.2, 0.61, 0.6)  # x, y, w, h


def ellipse(shape, centre, radii):
    row, column = ((np.arange(n) + 0.5) / n for n in shape)
    return ((row[:, None] - centre[0]) / radii[0]) ** 2 + (
        (column - centre[1]) / radii[1]
    ) ** 2 < 1


def lungs_of(shape):
    return ellipse(shape, *LUNGS[0]) | ellipse(shape, *LUNGS[1])


def make_film(shape, seed=0):
    """Air, a body with a bright spine, two dark lungs with ribs, and noise."""
    rng = np.random.RandomState(seed)
    column = (np.arange(shape[1]) + 0.5) / shape[1]
    row = (np.arange(shape[0]) + 0.5)[:, None] / shape[0]
    film = np.where(ellipse(shape, (0.6, 0.5), (0.75, 0.46)), 170.0, 8.0)
    film += 45 * np.exp(-(((column - 0.51) / 0.06) ** 2)) * (film > 100)
    ribs = 12 * np.sin(row * 60)
    film = np.where(lungs_of(shape), 75 + ribs, film)
    film = gaussian_filter(film, 0.006 * max(shape)) + rng.normal(0, 3, shape)
    return np.clip(film, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def films():
    return np.stack([make_film((160, 150), seed) for seed in range(4)])


def found_boxes(crop, images):
    """Boxes in shares of the film, told by the geometry."""
    affines = crop.geometry(images)
    h, w = images.shape[1:3]
    scale = np.array([crop.size_[1] / w, crop.size_[0] / h])
    sides = np.stack([affines[:, 0, 0], affines[:, 1, 1]], axis=1) * scale
    return np.hstack([affines[:, :, 2] / (w, h), sides])


@pytest.mark.parametrize("shape", [(224, 224), (96, 120), (500, 400), (60, 60)])
def test_box_around_both_lungs(shape):
    film = make_film(shape)[None]
    crop = LungCrop(margin=0).fit(film)
    assert crop.n_fallbacks_ == 0
    assert_allclose(found_boxes(crop, film)[0], BOX, atol=0.06)


def test_margin_is_a_share_of_the_box(films):
    tight = found_boxes(LungCrop(margin=0).fit(films), films)
    wide = found_boxes(LungCrop(margin=0.1).fit(films), films)
    assert_allclose(wide[:, 2:], tight[:, 2:] * 1.2, atol=2 / 150)
    assert_allclose(wide[:, :2], tight[:, :2] - 0.1 * tight[:, 2:], atol=1.01 / 150)
    everything = found_boxes(LungCrop(margin=1).fit(films), films)
    assert_allclose(everything, [(0, 0, 1, 1)] * 4, atol=1e-12)


def test_masks_cover_the_lungs(films):
    truth = lungs_of(films.shape[1:])
    masks = LungCrop().fit(films).segment(films)
    assert masks.shape == films.shape and masks.dtype == bool
    for mask in masks:
        dice = 2 * (mask & truth).sum() / (mask.sum() + truth.sum())
        assert dice > 0.9


def test_size_and_form(films):
    assert LungCrop().fit_transform(films).shape == films.shape
    assert LungCrop(size=(40, 30)).fit_transform(films).shape == (4, 40, 30)
    flat = LungCrop(size=32, image_shape=(160, 150)).fit_transform(films.reshape(4, -1))
    assert_array_equal(flat, LungCrop(size=32).fit_transform(films).reshape(4, -1))


def test_fit_transform_equals_fit_then_transform(films):
    crop = LungCrop(size=64)
    assert_array_equal(crop.fit_transform(films), LungCrop(size=64).fit(films).transform(films))
    assert crop.n_fallbacks_ == 0


def test_fallback_keeps_the_whole_image_and_counts(films):
    mixed = films.copy()
    mixed[1] = 120
    mixed[3] = np.linspace(0, 255, 150).astype(np.uint8)
    with pytest.warns(FallbackWarning, match="2 of 4 images are kept whole") as record:
        crop = LungCrop()
        out = crop.fit_transform(mixed)
    assert len(record) == 1 and record[0].filename == __file__
    assert crop.n_fallbacks_ == 2
    assert_array_equal(out[[1, 3]], mixed[[1, 3]])
    assert not crop.segment(mixed)[[1, 3]].any()
    with pytest.warns(FallbackWarning, match="1 of 1 images") as record:
        crop.transform(mixed[1:2])
    assert record[0].filename == __file__
    assert crop.n_fallbacks_ == 2  # transform sets nothing


def test_geometry_is_silent_about_fallbacks(films):
    crop = LungCrop().fit(films)
    blank = np.full((1, 160, 150), 120, dtype=np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_allclose(crop.geometry(blank), [[[1, 0, 0], [0, 1, 0]]])


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (20, 20)])
def test_small_images_fall_back(shape):
    images = np.full((2, *shape), 90, dtype=np.uint8)
    with pytest.warns(FallbackWarning, match="2 of 2"):
        out = LungCrop().fit_transform(images)
    assert_array_equal(out, images)


def test_levels_of_other_kinds_give_the_same_boxes(films):
    expected = found_boxes(LungCrop().fit(films), films)
    scaled = films / 255
    assert_allclose(found_boxes(LungCrop().fit(scaled), scaled), expected, atol=2 / 128)
    shifted = films.astype(np.int64) - 1000
    crop = LungCrop(value_range=(-1000, -745)).fit(shifted)
    assert_allclose(found_boxes(crop, shifted), expected, atol=2 / 128)
    colour = np.repeat(films[..., None], 3, axis=-1)
    assert_allclose(found_boxes(LungCrop().fit(colour), colour), expected, atol=2 / 128)


def test_levels_that_cannot_be_told_raise(films):
    with pytest.raises(ValueError, match="value_range"):
        LungCrop().fit(films.astype(np.int64))
    with pytest.raises(ValueError, match=r"expected values in \[0, 1\]"):
        LungCrop().fit(films.astype(float))
    with pytest.raises(ValueError, match="NaN"):
        LungCrop().fit(np.full((1, 4, 4), np.nan))


def test_memmap_and_jobs_agree(films, tmp_path):
    expected = LungCrop(size=48).fit_transform(films)
    path = tmp_path / "films.npy"
    np.save(path, films)
    before = path.read_bytes()
    mapped = np.load(path, mmap_mode="r")
    two = LungCrop(size=48, n_jobs=2)
    with parallel_config(backend="threading"):  # starting processes takes seconds
        assert_array_equal(two.fit_transform(mapped), expected)
        assert_array_equal(two.segment(films), LungCrop().fit(films).segment(films))
    assert path.read_bytes() == before


def test_refit_clone_pickle_and_other_shape(films):
    fitted = LungCrop().fit(films[:, 10:150]).fit(films)
    fresh = LungCrop().fit(films)
    assert vars(fitted).keys() == vars(fresh).keys()
    copy = pickle.loads(pickle.dumps(fitted))
    assert_array_equal(copy.transform(films), fresh.transform(films))
    assert not hasattr(clone(fitted), "n_fallbacks_")
    with pytest.raises(ValueError, match="was fitted on"):
        fitted.transform(films[:, :100])


@pytest.mark.parametrize(
    ("pattern", "step", "most"),
    [("chest_xray/train/*/*.jpeg", 131, 0.2), ("nih/images/*.png", 4, 0.1)],
)
def test_most_real_films_get_a_plausible_box(data_root, pattern, step, most):
    paths = sorted(data_root.glob(pattern))[::step]
    images = []
    for path in paths:
        with Image.open(path) as image:
            images.append(np.asarray(image.convert("RGB").convert("L").resize((224, 224))))
    images = np.stack(images)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FallbackWarning)
        crop = LungCrop(margin=0).fit(images)
    assert crop.n_fallbacks_ <= most * len(images)
    x, y, w, h = np.median(found_boxes(crop, images), axis=0)
    assert 0.55 < w < 0.9 and 0.5 < h < 0.9
    assert abs(x + w / 2 - 0.5) < 0.06 and abs(y + h / 2 - 0.5) < 0.1
