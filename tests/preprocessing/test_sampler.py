import numpy as np
import pandas as pd
import pytest

from sklearn_cxr.preprocessing._sampler import RandomPixelSampler


def _films(n=4, shape=(5, 8), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape)).astype(np.uint8)


def test_takes_the_same_pixels_of_every_image():
    images = _films()
    sampler = RandomPixelSampler(7, random_state=0).fit(images)
    chosen = sampler.pixel_indices_
    assert len(chosen) == 7
    assert (np.diff(chosen) > 0).all()
    out = sampler.transform(images)
    assert out.shape == (4, 7) and out.dtype == np.uint8
    rows, columns = np.unravel_index(chosen, (5, 8))
    np.testing.assert_array_equal(out, images[:, rows, columns])
    np.testing.assert_array_equal(sampler.transform(images[2:]), out[2:])


def test_drawn_uniformly():
    images = _films(n=1, shape=(4, 5))
    counts = np.zeros(20)
    rng = np.random.RandomState(0)
    for _ in range(2000):
        counts[RandomPixelSampler(5, random_state=rng).fit(images).pixel_indices_] += 1
    # Each pixel is drawn with probability 1/4: 500 times, standard deviation 19.4.
    assert np.abs(counts - 500).max() < 80


def test_random_state():
    images = _films()
    drawn = [RandomPixelSampler(10, random_state=s).fit(images).pixel_indices_ for s in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - to prove that it is not touched
    RandomPixelSampler(10, random_state=3).fit(images)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002 - as above


@pytest.mark.parametrize(
    ("size", "expected"), [(1, 1), (40, 40), (1.0, 40), (0.1, 4), (0.26, 10), (0.001, 1)]
)
def test_size(size, expected):
    sampler = RandomPixelSampler(size, random_state=0).fit(_films())
    assert len(sampler.pixel_indices_) == expected


def test_more_pixels_than_there_are():
    with pytest.raises(ValueError, match=r"size=41 pixels .* images have 40 \(shape \(5, 8\)\)"):
        RandomPixelSampler(41).fit(_films())


@pytest.mark.parametrize("size", [0, -1, 1.5, 0.0, "all", None, True])
def test_wrong_size(size):
    with pytest.raises(ValueError, match="'size' parameter"):
        RandomPixelSampler(size).fit(_films())


def test_shaped_input_can_go_into_a_dataframe():
    images = _films()
    sampler = RandomPixelSampler(3, random_state=0).set_output(transform="pandas").fit(images)
    frame = sampler.transform(images)
    rows, columns = np.unravel_index(sampler.pixel_indices_, (5, 8))
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns) == [f"pixel_{r}_{c}" for r, c in zip(rows, columns, strict=True)]
    np.testing.assert_array_equal(frame.to_numpy(), images[:, rows, columns])


def test_names_of_a_dataframe_are_kept():
    frame = pd.DataFrame(_films().reshape(4, 40), columns=[f"p{i}" for i in range(40)])
    sampler = RandomPixelSampler(3, random_state=0).fit(frame)
    expected = [f"p{i}" for i in sampler.pixel_indices_]
    assert sampler.get_feature_names_out().tolist() == expected


def test_colour_channels_count_as_pixels():
    images = _films(shape=(3, 4, 2))
    sampler = RandomPixelSampler(24, random_state=0).fit(images)
    np.testing.assert_array_equal(sampler.transform(images), images.reshape(4, -1))
    assert sampler.get_feature_names_out()[1] == "pixel_0_0_1"
