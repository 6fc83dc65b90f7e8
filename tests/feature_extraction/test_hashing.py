"""Keys that tell images apart, and nothing else."""

import numpy as np
import pytest

from sklearn_cxr.feature_extraction._hashing import description_key, image_keys
from sklearn_cxr.preprocessing import ImageRows


@pytest.fixture
def films():
    return np.random.default_rng(0).integers(0, 256, (9, 4, 3), dtype=np.uint8)


def test_equal_images_have_equal_keys_whatever_their_form(films, tmp_path):
    keys = image_keys(films, (4, 3))
    assert keys.shape == (9, 2)
    assert keys.dtype == np.uint64
    np.save(tmp_path / "films.npy", films)
    forms = [
        (films.reshape(9, -1), (4, 3)),
        (films[..., None], (4, 3, 1)),
        (np.load(tmp_path / "films.npy", mmap_mode="r"), (4, 3)),
        (np.asfortranarray(films), (4, 3)),
        (ImageRows([films], np.zeros(9, int), np.arange(9)), (4, 3)),
    ]
    for X, shape in forms:
        np.testing.assert_array_equal(image_keys(X, shape), keys)


def test_byte_order_does_not_count(films):
    wide = films.astype(np.float32)
    big = wide.astype(wide.dtype.newbyteorder(">"))
    np.testing.assert_array_equal(image_keys(big, (4, 3)), image_keys(wide, (4, 3)))


def test_pixels_shape_and_dtype_count(films):
    keys = image_keys(films, (4, 3))
    assert len(np.unique(keys, axis=0)) == 9
    changed = films.copy()
    changed[4, 3, 2] ^= 1
    assert (image_keys(changed, (4, 3)) != keys).any(axis=1).tolist() == [i == 4 for i in range(9)]
    flat = films.reshape(9, -1)
    for other in (image_keys(flat, (3, 4)), image_keys(films.view(np.int8), (4, 3))):
        assert (other != keys).any(axis=1).all()


def test_many_chunks_keep_their_order():
    large = np.random.default_rng(0).integers(0, 256, (40, 300, 300), dtype=np.uint8)
    keys = image_keys(large, (300, 300))
    for i in (0, 11, 39):
        np.testing.assert_array_equal(image_keys(large[i : i + 1], (300, 300))[0], keys[i])


def test_descriptions_are_told_apart_but_not_by_the_order_of_their_names():
    assert description_key({"a": 1, "b": None}) == description_key({"b": None, "a": 1})
    assert description_key({"a": 1}) != description_key({"a": 2})
    assert len(description_key({})) == 16
