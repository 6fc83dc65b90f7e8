"""What every transformer in this room does alike; the geometric ones are tested on their own."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from sklearn_cxr.preprocessing import Flatten
from sklearn_cxr.preprocessing._base import as_float, restore_dtype
from sklearn_cxr.preprocessing._equalize import HistogramEqualizer
from sklearn_cxr.preprocessing._intensity import IntensityScaler
from sklearn_cxr.preprocessing._pixel_scaler import PixelScaler
from sklearn_cxr.preprocessing._sampler import RandomPixelSampler

TRANSFORMERS = [
    Flatten(),
    HistogramEqualizer(),
    HistogramEqualizer("adaptive"),
    IntensityScaler(),
    IntensityScaler("standard"),
    IntensityScaler("percentile"),
    IntensityScaler("standard", per="dataset"),
    IntensityScaler("percentile", per="dataset"),
    PixelScaler(),
    RandomPixelSampler(random_state=0),
]
every_transformer = pytest.mark.parametrize("transformer", TRANSFORMERS, ids=str)
ALWAYS_FLAT = (Flatten, RandomPixelSampler)


def _films(n=6, shape=(10, 14), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape)).astype(np.uint8)


def _state(estimator):
    return {name: value for name, value in vars(estimator).items() if name.endswith("_")}


def _assert_same_state(one, two):
    assert _state(one).keys() == _state(two).keys()
    for name, value in _state(one).items():
        np.testing.assert_array_equal(value, _state(two)[name], err_msg=name)


@every_transformer
@pytest.mark.parametrize("shape", [(9, 9), (10, 14), (8, 6, 3)])
def test_flat_and_shaped_agree(transformer, shape):
    images = _films(shape=shape)
    shaped = clone(transformer).fit(images)
    flat = clone(transformer).set_params(image_shape=shape).fit(images.reshape(6, -1))
    _assert_same_state(shaped, flat)
    from_shaped = shaped.transform(images)
    from_flat = flat.transform(images.reshape(6, -1))
    expected_ndim = 2 if isinstance(transformer, ALWAYS_FLAT) else images.ndim
    assert from_shaped.ndim == expected_ndim
    assert from_flat.ndim == 2
    np.testing.assert_array_equal(from_shaped.reshape(6, -1), from_flat)
    np.testing.assert_array_equal(shaped.transform(images.reshape(6, -1)), from_flat)
    np.testing.assert_array_equal(flat.transform(images), from_shaped)
    assert len(shaped.get_feature_names_out()) == from_flat.shape[1]


@every_transformer
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_memory_map_equals_array_and_is_not_written_to(transformer, dtype, tmp_path):
    images = _films() if dtype == "uint8" else (_films() / 255).astype(dtype)
    path = tmp_path / "films.npy"
    np.save(path, images)
    before = path.read_bytes()
    mapped = np.load(path, mmap_mode="r")
    from_array = clone(transformer).fit(images)
    from_map = clone(transformer).fit(mapped)
    _assert_same_state(from_array, from_map)
    np.testing.assert_array_equal(from_map.transform(mapped), from_array.transform(images))
    assert path.read_bytes() == before


@every_transformer
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_byte_order_is_irrelevant(transformer, dtype):
    images = (_films() / 255 if np.dtype(dtype).kind == "f" else _films()).astype(dtype)
    swapped = images.astype(images.dtype.newbyteorder(">"))
    fitted, other = clone(transformer).fit(images), clone(transformer).fit(swapped)
    assert other.input_kind_ == fitted.input_kind_
    np.testing.assert_array_equal(other.transform(swapped), fitted.transform(images))
    np.testing.assert_array_equal(fitted.transform(swapped), fitted.transform(images))


@every_transformer
def test_input_is_not_changed(transformer):
    images = _films().astype(np.float64) / 255
    before = images.copy()
    clone(transformer).fit(images).transform(images)
    np.testing.assert_array_equal(images, before)


@every_transformer
def test_refit_leaves_nothing_behind(transformer):
    first = pd.DataFrame(_films(shape=(4, 5)).reshape(6, 20) / 255).add_prefix("p")
    second = _films(n=3, shape=(7, 6), seed=1)
    refitted = clone(transformer).fit(first).fit(second)
    assert not hasattr(refitted, "feature_names_in_")
    fresh = clone(transformer).fit(second)
    _assert_same_state(refitted, fresh)
    np.testing.assert_array_equal(refitted.transform(second), fresh.transform(second))


@every_transformer
def test_pickle_and_clone(transformer):
    images = _films()
    fitted = clone(transformer).fit(images)
    loaded = pickle.loads(pickle.dumps(fitted))
    _assert_same_state(loaded, fitted)
    np.testing.assert_array_equal(loaded.transform(images), fitted.transform(images))
    assert clone(fitted).get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        clone(fitted).transform(images)


@every_transformer
def test_transform_sets_nothing(transformer):
    images = _films()
    fitted = clone(transformer).fit(images)
    before = pickle.dumps(fitted)
    fitted.transform(images[:2])
    assert pickle.dumps(fitted) == before


@every_transformer
def test_batches_of_another_kind_or_shape_raise(transformer):
    images = _films()
    fitted = clone(transformer).fit(images)
    with pytest.raises(ValueError, match=r"was fitted on uint8 grey levels"):
        fitted.transform(images / 255)
    with pytest.raises(ValueError, match=r"was fitted on \(10, 14\). Resize the images first"):
        fitted.transform(images[:, :9])
    with pytest.raises(ValueError, match="139 features"):
        fitted.transform(images.reshape(6, -1)[:, :-1])


@every_transformer
def test_bad_values_raise(transformer):
    images = _films() / 255
    images[3, 2, 1] = np.nan
    with pytest.raises(ValueError, match="contains NaN"):
        clone(transformer).fit(images)
    with pytest.raises(ValueError, match=r"got shape \(1, 6, 10, 14, 3\)"):
        clone(transformer).fit(np.zeros((1, 6, 10, 14, 3)))
    with pytest.raises(ValueError, match="0 sample"):
        clone(transformer).fit(np.zeros((0, 5, 5)))
    with pytest.raises(ValueError, match=r"image_shape=.* holds 100 values, but X has 140"):
        clone(transformer).set_params(image_shape=(10, 10)).fit(_films().reshape(6, -1))


@every_transformer
def test_set_output(transformer):
    images = _films()
    flat = images.reshape(6, -1)
    fitted = clone(transformer).set_params(image_shape=(10, 14)).set_output(transform="pandas")
    frame = fitted.fit(flat).transform(flat)
    plain = clone(fitted).set_output(transform="default").fit(flat).transform(flat)
    assert isinstance(frame, pd.DataFrame)
    assert frame.columns.tolist() == fitted.get_feature_names_out().tolist()
    np.testing.assert_array_equal(frame.to_numpy(), plain)
    from_shaped = fitted.transform(images)
    if isinstance(transformer, ALWAYS_FLAT):
        pd.testing.assert_frame_equal(from_shaped, frame)
    else:
        assert type(from_shaped) is np.ndarray
        np.testing.assert_array_equal(from_shaped.reshape(6, -1), plain)


@every_transformer
def test_names(transformer):
    frame = pd.DataFrame(_films(shape=(3, 4)).reshape(6, 12)).add_prefix("column")
    named = clone(transformer).fit(frame)
    assert set(named.get_feature_names_out()) <= set(frame.columns)
    unnamed = clone(transformer).set_params(image_shape=(3, 4)).fit(frame.to_numpy())
    expected = {f"pixel_{r}_{c}" for r in range(3) for c in range(4)}
    assert set(unnamed.get_feature_names_out()) <= expected


def test_as_float():
    for dtype, expected in [(np.uint8, "f4"), (np.int64, "f4"), (np.float32, "f4"), (float, "f8")]:
        values = np.arange(3).astype(dtype)
        assert as_float(values).dtype == expected
    same = np.zeros(3, dtype=np.float32)
    assert as_float(same) is same


def test_restore_dtype():
    values = np.array([-3.0, 0.49, 1.51, 254.6, 300.0])
    out = restore_dtype(values, np.uint8)
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out, [0, 0, 2, 255, 255])
    np.testing.assert_array_equal(restore_dtype(values, np.int16), [-3, 0, 2, 255, 300])
    out = restore_dtype(values, np.float32)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, values.astype(np.float32))
