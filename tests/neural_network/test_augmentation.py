import copy
import math
import pickle

import numpy as np
import pytest
import torch
from augmentation_common import apply, smooth_images
from torchvision import transforms
from torchvision.transforms import v2

from sklearn_cxr.neural_network._augmentation import make_augmentation, tta_views


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


# What is asked for


@pytest.mark.parametrize("spec", [None, (), {}, {"rotate": 0, "flip": False, "noise": None}])
def test_nothing_to_do(spec):
    assert make_augmentation(spec) is None


def test_a_sequence_is_a_dict_of_defaults():
    first = make_augmentation(("noise", "flip", "rotate"))
    second = make_augmentation({"flip": 0.5, "rotate": True, "noise": (0, 0.03)})
    assert first.ranges == second.ranges
    assert list(first.ranges) == ["flip", "rotate", "noise"]
    assert first.ranges["rotate"] == (-20, 20)


def test_a_preset_and_a_name():
    ranges = make_augmentation(("light", "erase")).ranges
    assert ranges == {
        "flip": (0, 0.5),
        "rotate": (-10, 10),
        "zoom": (-0.05, 0.05),
        "shift": (-0.05, 0.05),
        "contrast": (-0.1, 0.1),
        "brightness": (-0.1, 0.1),
        "erase": (0, 0.2),
    }


@pytest.mark.parametrize("spec", ["rotat", ("flip", "rotat"), {"rotat": 3}])
def test_a_typo_is_answered_with_the_nearest_name(spec):
    with pytest.raises(ValueError, match=r"'rotat'.*Did you mean 'rotate'"):
        make_augmentation(spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"flip": 1.5}, r"flip=1\.5.*from 0 to 1\.5"),
        ({"flip": (0.1, 0.2)}, "one number"),
        ({"rotate": -3}, "0 or more"),
        ({"rotate": (3, -3)}, "low <= high"),
        ({"rotate": (1, 2, 3)}, "low <= high"),
        ({"rotate": "much"}, "a number or a pair"),
        ({"noise": math.nan}, "a number or a pair"),
        ({"zoom": 1}, r"zoom=1.*-0\.95"),
        ({"light": 0.5}, "'light'"),
        (("flip", 3), "in a sequence"),
        (7, "expected a name"),
    ],
)
def test_bad_magnitudes(spec, message):
    with pytest.raises(ValueError, match=message):
        make_augmentation(spec)


@pytest.mark.parametrize("fill", ["black", None, math.inf])
def test_bad_fill(fill):
    with pytest.raises(ValueError, match="fill="):
        make_augmentation("rotate", fill=fill)


def test_integers_are_refused():
    with pytest.raises(ValueError, match=r"torch\.uint8; expected floating"):
        apply("flip", torch.zeros(2, 1, 4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"shape \(4, 4\)"):
        apply("flip", torch.zeros(4, 4))


# Transforms of others


def draw_column(image):
    return image * 0 + torch.rand(())


@pytest.mark.parametrize(
    "spec",
    [
        v2.RandomHorizontalFlip(0.5),
        v2.Compose([v2.RandomHorizontalFlip(0.5)]),
        transforms.Compose([transforms.RandomHorizontalFlip(0.5)]),
    ],
)
def test_torchvision_draws_for_each_image(spec):
    images = smooth_images(1, 8, 8).repeat(200, 1, 1, 1)
    changed = apply(spec, images)
    flipped = (changed == images.flip(3)).flatten(1).all(dim=1)
    assert changed.dtype == images.dtype
    assert 60 < int(flipped.sum()) < 140


def test_a_callable_gets_the_batch():
    seen = []
    images = smooth_images(3)

    def record(batch):
        seen.append(batch.shape)
        return batch + 1

    assert torch.equal(apply(record, images), images + 1)
    assert seen == [(3, 1, 24, 24)]


def test_an_own_augmentation_can_be_copied_and_pickled():
    augment = make_augmentation(draw_column)
    assert "draw_column" in repr(augment)
    for other in (copy.deepcopy(augment), pickle.loads(pickle.dumps(augment))):
        assert other(torch.zeros(2, 1, 3, 3)).shape == (2, 1, 3, 3)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            v2.RandomCrop(8),
            r"shape \(1, 8, 8\).*expected a floating tensor of shape \(1, 24, 24\)",
        ),
        (v2.ToDtype(torch.uint8), r"torch\.uint8.*expected a floating"),
        (lambda batch: batch[:1], r"shape \(1, 1, 24, 24\).*shape \(3, 1, 24, 24\)"),
        (lambda batch: None, "returned NoneType"),
        (v2.ToPILImage(), "returned Image"),
    ],
)
def test_a_result_of_another_kind_is_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        apply(spec, smooth_images(3))


def test_repr_names_the_operations():
    assert "rotate=(-20.0, 20.0)" in repr(make_augmentation("rotate"))


# Views at prediction


def test_no_views_but_the_images():
    images = smooth_images(2)
    (view,) = tta_views(images, None)
    assert view is images


def test_a_flip():
    images = smooth_images(2)
    first, second = tta_views(images, "flip")
    assert first is images
    np.testing.assert_array_equal(second, images.numpy()[..., ::-1])


def test_shifts_by_a_32nd_of_each_side():
    images = torch.arange(64.0 * 96).reshape(1, 1, 64, 96)
    image = images.numpy()[0, 0]
    first, left, right, up, down = (view.numpy()[0, 0] for view in tta_views(images, "shift"))
    np.testing.assert_array_equal(first, image)
    np.testing.assert_array_equal(left, np.pad(image[:, 3:], ((0, 0), (0, 3)), mode="edge"))
    np.testing.assert_array_equal(right, np.pad(image[:, :-3], ((0, 0), (3, 0)), mode="edge"))
    np.testing.assert_array_equal(up, np.pad(image[2:], ((0, 2), (0, 0)), mode="edge"))
    np.testing.assert_array_equal(down, np.pad(image[:-2], ((2, 0), (0, 0)), mode="edge"))


def test_small_images_are_shifted_by_one_pixel():
    views = list(tta_views(torch.arange(4.0).reshape(1, 1, 1, 4), "shift"))
    assert [view.flatten().tolist() for view in views] == [
        [0, 1, 2, 3],
        [1, 2, 3, 3],
        [0, 0, 1, 2],
        [0, 1, 2, 3],
        [0, 1, 2, 3],
    ]


def test_all_views_of_a_flipped_image_are_those_of_the_image():
    images = smooth_images(1, 32, 32)

    def as_set(views):
        return {view.numpy().tobytes() for view in views}

    views = as_set(tta_views(images, ("flip", "shift")))
    assert len(views) == 10
    assert views == as_set(tta_views(images.flip(-1).contiguous(), ("shift", "flip")))


def test_views_stay_on_the_device():
    images = torch.empty(2, 1, 8, 8, device="meta")
    views = list(tta_views(images, ("flip", "shift")))
    assert {(view.device.type, view.shape) for view in views} == {("meta", images.shape)}


def test_unknown_views():
    with pytest.raises(ValueError, match=r"tta got 'flips'.*Did you mean 'flip'"):
        list(tta_views(smooth_images(1), "flips"))
