import numpy as np
import pytest

from sklearn_cxr.datasets._anatomy import POSE_RANGES, draw, draw_patient
from sklearn_cxr.datasets._phantoms import make_chest_xrays
from sklearn_cxr.datasets._projection import render


@pytest.fixture(scope="module")
def healthy():
    """Films of 20 healthy patients without noise."""
    return make_chest_xrays(
        20, n_patients=20, classes=["normal"], noise=0, image_size=160, random_state=3
    )


def _of_class(name, severity, size=128, **more):
    return make_chest_xrays(
        8,
        n_patients=8,
        classes=[name],
        severity=severity,
        noise=0,
        image_size=size,
        random_state=11,
        **more,
    )


def test_anatomy_is_where_it_belongs(healthy):
    mean = healthy.images.astype(float).mean(axis=0)
    n = mean.shape[0]

    def level(x0, x1, y0, y1):
        return mean[int(y0 * n) : int(y1 * n), int(x0 * n) : int(x1 * n)].mean()

    air = level(0.0, 0.04, 0.75, 0.9)
    right_lung, left_lung = level(0.24, 0.36, 0.35, 0.6), level(0.66, 0.76, 0.35, 0.5)
    assert air < 12
    assert air < right_lung < 90 and air < left_lung < 90
    assert level(0.46, 0.54, 0.5, 0.65) > 180
    # The liver side is brighter than the side of the gastric bubble.
    assert level(0.25, 0.4, 0.85, 0.95) > level(0.6, 0.75, 0.8, 0.9) > 120
    # The heart lies on the patient's left, the right edge of the film.
    assert level(0.60, 0.66, 0.56, 0.66) > level(0.34, 0.40, 0.56, 0.66) + 50
    # Chest wall beside the lung.
    assert level(0.06, 0.10, 0.5, 0.6) > 30


def _dome(image, column):
    """Row of the steepest rise in brightness in the lower half of a column."""
    half = len(image) // 2
    profile = np.convolve(image[half:, column].astype(float), np.ones(5) / 5, mode="valid")
    return half + int(np.argmax(profile[4:] - profile[:-4]))


def test_right_dome_is_higher(healthy):
    n = healthy.images.shape[1]
    right = [_dome(image, int(0.3 * n)) for image in healthy.images]
    left = [_dome(image, int(0.72 * n)) for image in healthy.images]
    assert np.median(np.subtract(left, right)) >= 2


def _ripple(profile):
    """What is left of a profile when its running mean over a rib and a gap is taken off."""
    profile = profile.astype(float)
    return profile - np.convolve(np.pad(profile, 10, "edge"), np.ones(21) / 21, "valid")


def test_ribs_cross_the_lungs(healthy):
    n = healthy.images.shape[1]
    # Beside the spine only the back ribs are seen, further out the front ribs as well.
    inner = [
        _ripple(image[int(0.25 * n) : int(0.42 * n), int(0.36 * n)]) for image in healthy.images
    ]
    outer = [
        _ripple(image[int(0.25 * n) : int(0.62 * n), int(0.25 * n)]) for image in healthy.images
    ]
    assert np.median([ripple.std() for ripple in inner]) > 6
    assert np.median([ripple.std() for ripple in outer]) > 9
    for ripple in outer:
        crossings = np.flatnonzero(np.diff(np.sign(ripple)) > 0)
        assert 3 <= len(crossings) <= 12


def test_vessels_taper_to_the_periphery():
    patient = draw_patient("normal", 0.0, np.random.default_rng(0))
    for tree in patient.vessels:
        radius = [generation[:, 5].mean() for generation in tree]
        distance = [np.abs(generation[:, 0]).mean() for generation in tree]
        assert np.all(np.diff(radius) < 0)
        assert np.all(np.diff(distance) > 0)


def test_ap_geometry():
    pa, ap = (
        make_chest_xrays(12, n_patients=12, classes=["normal"], view=view, noise=0, random_state=4)
        for view in ("PA", "AP")
    )
    assert set(ap.frame["view"]) == {"AP"}
    np.testing.assert_array_equal(pa.frame["age"], ap.frame["age"])
    n = pa.images.shape[1]

    def heart_width(image):
        profile = image[int(0.55 * n) : int(0.62 * n)].mean(axis=0)[int(0.2 * n) : int(0.85 * n)]
        return (profile > 150).sum()

    wider = [heart_width(b) > heart_width(a) for a, b in zip(pa.images, ap.images, strict=True)]
    higher = [
        _dome(b, int(0.3 * n)) < _dome(a, int(0.3 * n))
        for a, b in zip(pa.images, ap.images, strict=True)
    ]
    assert np.mean(wider) >= 0.9
    assert np.mean(higher) >= 0.9
    # The shoulder blades lie over the upper outer lungs.
    outer = (slice(int(0.28 * n), int(0.45 * n)), slice(int(0.20 * n), int(0.25 * n)))
    assert ap.images[:, *outer].mean() > pa.images[:, *outer].mean() + 5


@pytest.mark.parametrize("name", ["bacterial", "viral"])
def test_severity_zero_is_the_healthy_film_and_more_is_denser(name):
    healthy_films = _of_class("normal", 0.0)
    films = [_of_class(name, s) for s in (0.0, 0.3, 1.0)]
    np.testing.assert_array_equal(films[0].images, healthy_films.images)
    gain = [(f.images.astype(float) - healthy_films.images).mean() for f in films]
    assert 0 == gain[0] < gain[1] < gain[2]
    # Nearly invisible where it is slight.
    faint = _of_class(name, 0.1).images.astype(float) - healthy_films.images
    strong = films[2].images.astype(float) - healthy_films.images
    assert faint.max() < 60 < strong.max()


def test_consolidation_is_one_sided_and_inside_its_box():
    healthy_films, films = _of_class("normal", 0.0), _of_class("bacterial", 1.0)
    for image, base, box in zip(
        films.images.astype(float),
        healthy_films.images,
        films.frame[["x", "y", "w", "h"]].to_numpy(),
        strict=True,
    ):
        gain = image - base
        x, y, w, h = box.round().astype(int)
        inside = np.zeros(gain.shape, bool)
        inside[y : y + h, x : x + w] = True
        assert gain[inside].sum() > 0.7 * gain.clip(0).sum()
        assert gain[inside].mean() > 5 * gain[~inside].mean()
        halves = sorted([gain[:, :64].sum(), gain[:, 64:].sum()])
        assert halves[1] > 4 * halves[0]


def test_interstitial_pattern_is_on_both_sides_and_finer():
    normal, viral = _of_class("normal", 0.0), _of_class("viral", 1.0)
    bacterial = _of_class("bacterial", 1.0)

    def roughness(films):
        gain = films.images.astype(float) - normal.images
        return np.abs(np.diff(gain, axis=2)).sum() / np.abs(gain).sum()

    gain = viral.images.astype(float) - normal.images
    left, right = gain[:, :, :64].sum(axis=(1, 2)), gain[:, :, 64:].sum(axis=(1, 2))
    assert (np.minimum(left, right) > 0.25 * np.maximum(left, right)).all()
    assert roughness(viral) > 1.5 * roughness(bacterial)


def test_films_are_drawn_in_single_precision():
    rng = np.random.default_rng(0)
    patient = draw_patient("bacterial", 0.5, rng)
    film, box = render(patient, draw(POSE_RANGES, rng), "AP", 64)
    assert film.dtype == np.float32
    assert box.shape == (4,)
