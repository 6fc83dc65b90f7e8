import math
import pickle

import numpy as np
import pytest
import torch
from augmentation_common import OPERATIONS, apply, smooth_images
from scipy import ndimage

from sklearn_cxr.neural_network._augmentation import make_augmentation


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def sampled(image, matrix, shift, mode="nearest", cval=0.0):
    """Output at p is the input at matrix @ (p - shift), in (row, column) from the centre."""
    centre = (np.array(image.shape) - 1) / 2
    offset = centre - matrix @ (centre + shift)
    return ndimage.affine_transform(image, matrix, offset, order=1, mode=mode, cval=cval)


# What holds for all operations


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("name", [*OPERATIONS, "light", "strong"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_shape_dtype_input_and_seed(name, bounded, dtype):
    images = smooth_images(6, 16, 16, c=3, dtype=dtype)
    before = images.clone()
    augment = make_augmentation(name, bounded=bounded)
    torch.manual_seed(3)
    first = augment(images)
    second = augment(images)
    torch.manual_seed(3)
    again = pickle.loads(pickle.dumps(augment))(images)
    assert first.shape == images.shape and first.dtype == dtype
    assert torch.equal(images, before)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    if bounded:
        assert first.min() >= 0 and first.max() <= 1


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_image_has_its_own_draw(name):
    images = smooth_images(1, 16, 16).repeat(32, 1, 1, 1)
    changed = apply(name, images)
    assert len(torch.unique(changed.flatten(1), dim=0)) >= (2 if "flip" in name else 4)


@pytest.mark.parametrize("name", OPERATIONS)
def test_channels_are_changed_alike(name):
    images = smooth_images(8, 16, 16).repeat(1, 3, 1, 1)
    changed = apply(name, images)
    assert torch.equal(changed[:, 0], changed[:, 1]) and torch.equal(changed[:, 0], changed[:, 2])


@pytest.mark.parametrize("spec", ["strong", "quarter_turns"])
@pytest.mark.parametrize("size", [(0, 8), (2, 1)])
def test_smallest_batches_and_images(spec, size):
    n, side = size
    assert apply(spec, torch.rand(n, 1, side, side)).shape == (n, 1, side, side)


@pytest.mark.parametrize("fill", ["edge", "reflect", 0.3])
@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("spec", [*OPERATIONS, "strong", OPERATIONS])
def test_nothing_stays_on_the_cpu_or_waits_for_the_device(spec, bounded, fill):
    # Tensors on "meta" hold no values: reading one raises, and so does mixing devices.
    images = torch.empty(8, 3, 16, 16, device="meta")
    changed = apply(spec, images, bounded=bounded, fill=fill)
    assert changed.device.type == "meta" and changed.shape == images.shape


def test_half_precision_is_computed_in_single():
    images = smooth_images(4, dtype=torch.bfloat16)
    torch.manual_seed(5)
    coarse = apply("strong", images)
    torch.manual_seed(5)
    fine = apply("strong", images.float())
    assert torch.equal(coarse, fine.bfloat16())


def test_the_dtype_of_unbounded_levels_does_not_move_images():
    images = smooth_images(3, 20, 20, dtype=torch.float64)
    spec = {"rotate": 20, "contrast": 0.4, "gamma": 0.4, "brightness": 0.2}
    torch.manual_seed(5)
    unit = apply(spec, images, bounded=False)
    torch.manual_seed(5)
    hounsfield = apply(spec, images * 4000 - 1000, bounded=False)
    np.testing.assert_allclose((hounsfield + 1000) / 4000, unit, atol=1e-9)


@pytest.mark.parametrize("name", ["gamma", "contrast", "brightness", "erase", "noise"])
@pytest.mark.parametrize("level", [0.0, 1.0, 350.0])
def test_a_constant_unbounded_image_has_no_range_to_change(name, level):
    images = torch.full((8, 1, 6, 6), level)
    assert torch.equal(apply(name, images, bounded=False), images)


# Geometry


@pytest.mark.parametrize("extra", [{}, {"shift": 1e-12}])
@pytest.mark.parametrize(("name", "dim"), [("flip", 3), ("vertical_flip", 2)])
def test_flips_at_their_probability(name, dim, extra):
    images = torch.arange(6.0).reshape(1, 1, 2, 3).repeat(2000, 1, 1, 1)
    changed = apply({name: 0.3, **extra}, images, bounded=False)
    flipped = torch.isclose(changed, images.flip(dim), atol=1e-4).flatten(1).all(dim=1)
    kept = torch.isclose(changed, images, atol=1e-4).flatten(1).all(dim=1)
    assert (flipped ^ kept).all()
    assert abs(flipped.float().mean() - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 2000)


@pytest.mark.parametrize("extra", [{}, {"shift": 1e-12}])
def test_quarter_turns_are_those_of_rot90(extra):
    images = torch.arange(9.0).reshape(1, 1, 3, 3).repeat(2000, 1, 1, 1)
    changed = apply({"quarter_turns": 0.6, **extra}, images, bounded=False)
    counts = [
        int(
            torch.isclose(changed, torch.rot90(images, k, (2, 3)), atol=1e-4)
            .flatten(1)
            .all(1)
            .sum()
        )
        for k in range(4)
    ]
    assert sum(counts) == 2000
    for count, share in zip(counts, [0.4, 0.2, 0.2, 0.2], strict=True):
        assert abs(count / 2000 - share) < 4 * math.sqrt(share * (1 - share) / 2000)


def test_pixels_moved_and_resampled_agree():
    images = smooth_images(64, 12, 12, dtype=torch.float64)
    spec = {"flip": 0.5, "vertical_flip": 0.5, "quarter_turns": 0.75}
    torch.manual_seed(2)
    moved = apply(spec, images)
    torch.manual_seed(2)
    resampled = apply({**spec, "rotate": 1e-12}, images)
    np.testing.assert_allclose(resampled, moved, atol=1e-9)


def test_quarter_turns_need_squares():
    with pytest.raises(ValueError, match=r"4 x 6 pixels; expected square"):
        apply("quarter_turns", torch.rand(2, 1, 4, 6))


def rotation(degrees):
    # Counterclockwise on the screen, where rows run downwards, from output to input.
    a = math.radians(degrees)
    return np.array([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]])


@pytest.mark.parametrize(
    ("spec", "matrix", "shift"),
    [
        ({"rotate": (15, 15)}, rotation(15), (0, 0)),
        ({"rotate": (-50, -50)}, rotation(-50), (0, 0)),
        ({"zoom": (0.25, 0.25)}, np.eye(2) / 1.25, (0, 0)),
        ({"shift": (0.1, 0.1)}, np.eye(2), (2, 3)),
        (
            {"shear": (10, 10)},
            np.array([[1, 0], [-math.tan(math.radians(10)), 1]]),
            (0, 0),
        ),
        (
            {"rotate": (15, 15), "zoom": (0.25, 0.25), "shift": (0.1, 0.1)},
            rotation(15) / 1.25,
            (2, 3),
        ),
    ],
)
def test_geometry_is_that_of_scipy(spec, matrix, shift):
    images = smooth_images(2, 20, 30, dtype=torch.float64)
    # SciPy samples at matrix @ p + offset; the shift moves the output.
    expected = [sampled(image, matrix, np.array(shift)) for image in images[:, 0].numpy()]
    np.testing.assert_allclose(apply(spec, images)[:, 0], expected, atol=1e-9)


def test_rotation_is_counterclockwise():
    images = torch.zeros(1, 1, 41, 41)
    images[0, 0, 20, 40] = 1
    row, column = divmod(int(apply({"rotate": (45, 45)}, images, fill=0.0).argmax()), 41)
    assert (row, column) == (round(20 - 20 * math.sqrt(0.5)), round(20 + 20 * math.sqrt(0.5)))


@pytest.mark.parametrize(
    ("fill", "columns"),
    [
        ("edge", [[0.1, 0.1, 0.1, 0.3], [0.5, 0.7, 0.7, 0.7]]),
        ("reflect", [[0.3, 0.1, 0.1, 0.3], [0.5, 0.7, 0.7, 0.5]]),
        (0, [[0, 0, 0.1, 0.3], [0.5, 0.7, 0, 0]]),
        (0.9, [[0.9, 0.9, 0.1, 0.3], [0.5, 0.7, 0.9, 0.9]]),
    ],
)
def test_what_comes_into_view(fill, columns):
    images = torch.tensor([0.1, 0.3, 0.5, 0.7]).repeat(1, 1, 4, 1)
    right = apply({"shift": (0.5, 0.5)}, images, fill=fill)[0, 0, 3]
    left = apply({"shift": (-0.5, -0.5)}, images, fill=fill)[0, 0, 0]
    np.testing.assert_allclose(torch.stack([right, left]), columns, atol=1e-6)


def test_draws_fill_their_range():
    ramp = torch.arange(200.0).repeat(500, 1, 1, 1) * torch.ones(1, 1, 4, 1)
    moved = apply({"shift": 0.1}, ramp, bounded=False)[:, 0, 2, 100] - 100
    assert moved.min() < -19 and moved.max() > 19 and moved.abs().max() <= 20.001
    assert abs(moved.mean()) < 4 * 20 / math.sqrt(3 * 500)


def test_blur_is_gaussian():
    images = smooth_images(2, 20, 20, dtype=torch.float64)
    expected = [
        ndimage.gaussian_filter(image, 2, mode="nearest", radius=6)
        for image in images[:, 0].numpy()
    ]
    np.testing.assert_allclose(apply({"blur": (2, 2)}, images)[:, 0], expected, atol=1e-9)


# Grey levels


@pytest.mark.parametrize("bounded", [True, False])
def test_brightness_adds_a_level(bounded):
    images = smooth_images(400, 6, 6)
    images[:, :, 0, 0], images[:, :, 0, 1] = 0.3, 0.7
    images = images.clamp(0.3, 0.7)
    changed = apply({"brightness": 0.2}, images, bounded=bounded)
    added = (changed - images).flatten(1)
    largest = 0.2 if bounded else 0.2 * 0.4
    assert (added - added[:, :1]).abs().max() < 1e-6
    assert added.abs().max() <= largest + 1e-6 and added.abs().max() > 0.97 * largest
    assert abs(added[:, 0].mean()) < 4 * largest / math.sqrt(3 * 400)


def test_brightness_upwards_only():
    added = apply({"brightness": (0, 0.2)}, torch.full((50, 1, 3, 3), 0.5)) - 0.5
    assert added.min() >= -1e-6 and added.max() > 0.15


def test_contrast_is_about_the_mean():
    images = smooth_images(3)
    changed = apply({"contrast": (-0.25, -0.25)}, images)
    means = images.numpy().mean(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(changed, means + 0.75 * (images.numpy() - means), atol=1e-6)


def test_contrast_and_brightness_in_one():
    images = smooth_images(3)
    changed = apply({"contrast": (0.1, 0.1), "brightness": (-0.05, -0.05)}, images)
    means = images.numpy().mean(axis=(1, 2, 3), keepdims=True)
    expected = np.clip(means + 1.1 * (images.numpy() - means) - 0.05, 0, 1)
    np.testing.assert_allclose(changed, expected, atol=1e-6)


def test_gamma_is_a_power():
    images = smooth_images(3)
    changed = apply({"gamma": (0.5, 0.5)}, images)
    np.testing.assert_allclose(changed, images.numpy() ** math.exp(0.5), atol=1e-6)


@pytest.mark.parametrize("fill", [0.0, 0.3, 1.0])
def test_gamma_after_a_fill_has_no_nan(fill):
    images = torch.rand(16, 1, 32, 32).round()
    assert apply({"rotate": 20, "gamma": 0.7}, images, fill=fill).isfinite().all()


def test_noise_has_its_standard_deviation():
    images = torch.full((40, 1, 50, 50), 0.5)
    noise = apply({"noise": (0.04, 0.04)}, images) - 0.5
    assert abs(noise.std() / 0.04 - 1) < 0.02
    assert abs(noise.mean()) < 4 * 0.04 / math.sqrt(noise.numel())
    ranged = apply({"noise": 0.04}, images).flatten(1).std(dim=1)
    assert ranged.min() < 0.008 and 0.032 < ranged.max() < 0.0425


def test_erased_rectangles():
    images = smooth_images(1, 40, 40).repeat(600, 1, 1, 1)
    changed = apply({"erase": 0.25}, images, fill=0.0)
    erased = (changed == 0)[:, 0]
    share = erased.flatten(1).float().mean(dim=1)
    hit = share > 0
    assert torch.equal(changed[~erased[:, None]], images[~erased[:, None]])
    assert abs(hit.float().mean() - 0.5) < 4 * 0.5 / math.sqrt(600)
    # Sides are whole pixels, hence the slack.
    assert 0.01 < share[hit].min() < 0.04 and 0.2 < share.max() < 0.28
    heights, widths = erased.any(dim=2).sum(dim=1)[hit], erased.any(dim=1).sum(dim=1)[hit]
    assert torch.equal(heights * widths, erased[hit].sum(dim=(1, 2)))
    assert 0.2 < (heights / widths).min() < 0.45 and 2.2 < (heights / widths).max() < 5


def test_the_mean_is_what_is_left_of_an_erased_rectangle():
    images = smooth_images(1, 20, 20).repeat(50, 1, 1, 1)
    changed = apply({"erase": (0.1, 0.1)}, images)
    different = changed != images
    np.testing.assert_allclose(changed[different], images[0].mean(), atol=1e-6)
    assert different.any()


def test_a_fill_below_an_unbounded_image_stays_what_it_is():
    images = 5 + smooth_images(8, 20, 20)
    spec = {"shift": (0.5, 0.5), "erase": (0.3, 0.3), "gamma": (0.4, 0.4)}
    changed = apply(spec, images, bounded=False, fill=-3.0)
    assert torch.allclose(changed[:, :, :10], torch.tensor(-3.0), atol=1e-5)
    assert changed.min() > -3.0001 and changed.max() < 6
