import numpy as np
import pytest
from scipy import ndimage

from sklearn_cxr.datasets import make_chest_xrays
from sklearn_cxr.inspection._audit_measures import (
    MARKER_LIMIT,
    border_share,
    compare_with_typical,
    marker_score,
    measure,
    normalise,
    spine_contrast,
)


@pytest.fixture(scope="module")
def films():
    return make_chest_xrays(60, image_size=112, view="mixed", marker="random", random_state=0)


def test_markers_are_told_from_bare_films(films):
    marked = (films.frame["marker"] != "none").to_numpy()
    assert 10 < marked.sum() < 50
    found = marker_score(films.images) > MARKER_LIMIT
    assert found[marked].all() and found[~marked].mean() < 0.1


def test_border_share_counts_lines_that_are_dark_or_flat():
    unit = np.random.RandomState(0).uniform(0.3, 0.9, size=(4, 20, 20))
    unit[1, :5] = 0
    unit[1, 2, 3] = 1  # a letter in the border does not make it film
    unit[2, :, 16:] = 1
    unit[3] = 0.5
    np.testing.assert_allclose(border_share(unit), [0, 0.25, 0.2, 1])


def test_spine_contrast_changes_its_sign_with_the_polarity(films):
    thumbs = measure(films.images)["thumb"]
    assert (spine_contrast(thumbs) > 0.1).all()
    np.testing.assert_allclose(spine_contrast(255 - thumbs), -spine_contrast(thumbs))


def test_thumbnails_and_levels_by_hand():
    image = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) // 16
    measured = measure(image[None].astype(np.uint8))
    expected = image.reshape(32, 2, 32, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(measured["thumb"][0], expected, atol=1)
    np.testing.assert_allclose(measured["mean_intensity"], image.mean() / 255, atol=0.002)
    assert measured["used_range"] == [1]
    assert np.isnan(measured["marker_score"]).all()


def test_comparison_with_the_mean_film(films):
    thumbs = measure(films.images)["thumb"]
    spine = spine_contrast(thumbs)
    usable = np.arange(60) > 0
    upright, turned = compare_with_typical(thumbs, spine, usable)
    flat = thumbs.reshape(60, -1).astype(float)
    unit = flat - flat.mean(axis=1, keepdims=True)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    mean = unit[1:].sum(axis=0)
    expected = [np.corrcoef(row, mean)[0, 1] for row in flat]
    np.testing.assert_allclose(upright[1:], expected[1:], atol=1e-5)
    assert np.isnan(upright[0]) and np.isnan(turned[0])
    half_turn = [np.corrcoef(row[::-1], mean)[0, 1] for row in flat[1:]]
    assert (turned[1:] >= np.array(half_turn) - 1e-5).all()
    assert np.isnan(compare_with_typical(thumbs, -spine, usable)[0]).all()


def test_normalised_thumbnails_are_correlated_by_their_product():
    rng = np.random.RandomState(0)
    thumbs = ndimage.gaussian_filter(rng.uniform(0, 255, size=(2, 32, 32)), (0, 3, 3))
    first, second = normalise(thumbs)
    np.testing.assert_allclose(
        (first * second).sum(), np.corrcoef(*thumbs.reshape(2, -1))[0, 1], atol=1e-5
    )
    assert (normalise(np.full((1, 4, 4), 7)) == 0).all()
