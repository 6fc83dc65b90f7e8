import numpy as np
import pytest
from PIL import Image

from sklearn_cxr.datasets import make_chest_xrays
from sklearn_cxr.inspection import _audit_duplicates
from sklearn_cxr.inspection._audit_duplicates import crossing, identical_groups, near_groups
from sklearn_cxr.inspection._audit_measures import measure


def test_sets_of_identical_films_in_the_order_of_their_first():
    keys = [b"a", b"b", b"c", b"b", b"a", b"d", b"c"]
    usable = np.array([True, True, True, True, True, True, False])
    np.testing.assert_array_equal(identical_groups(keys, usable), [0, 1, -1, 1, 0, -1, -1])
    assert (identical_groups(keys, np.zeros(7, bool)) == -1).all()


def test_a_set_crosses_where_its_known_values_differ():
    groups = np.array([0, 0, 1, 1, 2, 2, -1, -1])
    codes = np.array([5, 6, 3, 3, 4, -1, 0, 1])
    expected = [True, True, False, False, False, False, False, False]
    np.testing.assert_array_equal(crossing(groups, codes), expected)
    assert not crossing(np.full(8, -1), codes).any()
    assert not crossing(groups, np.full(8, -1)).any()


@pytest.fixture(scope="module")
def spoiled():
    """Films of as many patients, of which some follow as changed copies of the first ones."""
    films = make_chest_xrays(40, n_patients=40, image_size=112, random_state=0).images
    changed = [
        Image.fromarray(films[0]).resize((80, 80)).resize((112, 112)),
        np.clip(films[1] * 1.25, 0, 255),
        255 * (films[2] / 255) ** 0.7,
        np.clip(films[3] + np.random.RandomState(0).normal(0, 6, (112, 112)), 0, 255),
        films[4],
        films[4],
    ]
    return np.concatenate([films, np.stack([np.asarray(c).astype(np.uint8) for c in changed])])


def find(images, usable=None):
    measured = measure(images)
    usable = np.ones(len(images), bool) if usable is None else usable
    keys = [image.tobytes() for image in images]
    return near_groups(measured["fingerprint"], measured["thumb"], keys, usable)


def test_changed_copies_are_near_and_nothing_else_is(spoiled):
    groups, similarity = find(spoiled)
    expected = np.full(46, -1)
    expected[:4] = expected[40:44] = range(4)
    # Films 44 and 45 equal film 4: identical, not nearly so.
    np.testing.assert_array_equal(groups, expected)
    assert (similarity[expected >= 0] > 0.89).all() and np.isnan(similarity[expected < 0]).all()


def test_an_identical_copy_of_a_near_copy_belongs_to_the_set(spoiled):
    images = np.concatenate([spoiled, spoiled[[40]]])
    groups, _ = find(images)
    assert groups[0] == groups[40] == groups[46] == 0


def test_blocks_of_pairs_change_nothing(spoiled, monkeypatch):
    whole = find(spoiled)
    monkeypatch.setattr(_audit_duplicates, "_BLOCK_VALUES", 150)
    monkeypatch.setattr(_audit_duplicates, "_PAIRS", 3)
    for one, other in zip(whole, find(spoiled), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4)


def test_unusable_films_are_in_no_set(spoiled):
    usable = np.arange(46) != 40
    assert find(spoiled, usable)[0][0] == -1
    assert (find(spoiled, np.zeros(46, bool))[0] == -1).all()


def test_the_two_phantoms_most_alike_are_no_copies():
    # Found among the pairs of some twenty sets, at a correlation of 0.87.
    found = make_chest_xrays(100, image_size=112, view="mixed", random_state=2)
    groups, similarity = find(found.images)
    for number in range(groups.max() + 1):
        assert len(set(found.groups[groups == number])) == 1
    assert np.nanmin(similarity) > 0.89


def test_few_films_have_to_be_more_alike():
    films = make_chest_xrays(12, n_patients=12, image_size=112, random_state=1).images
    assert (find(films)[0] == -1).all()
    again = np.concatenate([films, np.clip(films[:1] * 0.9, 0, 255).astype(np.uint8)])
    np.testing.assert_array_equal(np.flatnonzero(find(again)[0] == 0), [0, 12])
