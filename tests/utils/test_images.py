import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator

from sklearn_cxr.decomposition import PixelPCA
from sklearn_cxr.linear_model import PixelLogisticRegression
from sklearn_cxr.neural_network import CNNClassifier, DenseHeadClassifier
from sklearn_cxr.preprocessing import Resize
from sklearn_cxr.utils._images import (
    check_kind,
    flatten_batch,
    input_kind,
    is_shaped,
    level_range,
    pixel_names,
    resolve_image_shape,
    validate_images,
)


class _Model(BaseEstimator):
    """An estimator to validate for."""


UINT8 = np.array([[0, 255], [7, 8]], dtype=np.uint8)


@pytest.mark.parametrize(
    ("X", "expected"),
    [
        (np.zeros((2, 3, 4)), True),
        (np.zeros((2, 3, 4, 3)), True),
        (np.zeros((2, 12)), False),
        (np.zeros(2), False),
        ([[[1, 2], [3, 4]]], True),
        ([[1, 2], [3, 4]], False),
        (["a.png", "b.png"], False),
        ([], False),
        (pd.DataFrame({"a": [1.0]}), False),
    ],
)
def test_is_shaped(X, expected):
    assert is_shaped(X) is expected


def test_is_shaped_asks_for_the_shape_only():
    class View:
        shape = (5, 2, 3)

    assert is_shaped(View())


@pytest.mark.parametrize(
    ("n_features", "image_shape", "expected"),
    [
        (784, None, (28, 28)),
        (1, None, (1, 1)),
        (783, None, (1, 783)),
        (12, (3, 4), (3, 4)),
        (12, [4, 3], (4, 3)),
        (24, (2, 4, 3), (2, 4, 3)),
        (12, np.array([2, 6]), (2, 6)),
    ],
)
def test_resolve_image_shape(n_features, image_shape, expected):
    assert resolve_image_shape(n_features, image_shape) == expected


def test_resolve_image_shape_refuses():
    with pytest.raises(ValueError, match=r"\(3, 5\) holds 15 values, but X has 12 features"):
        resolve_image_shape(12, (3, 5))
    for wrong in [(12,), (0, 12), (-3, -4), (1, 2, 2, 3)]:
        with pytest.raises(ValueError, match="image_shape must be"):
            resolve_image_shape(12, wrong)


@pytest.mark.parametrize(
    ("X", "expected"),
    [
        (UINT8, "uint8"),
        (UINT8.astype(np.uint16), "uint16"),
        (UINT8 / 255, "unit float"),
        (np.array([0.0, 1.0], dtype=np.float32), "unit float"),
        (np.array([0.0, 1.001]), "other"),
        (np.array([-0.001, 0.5]), "other"),
        (UINT8.astype(np.float32), "other"),
        (np.array([0, 1]), "other"),
        (np.array([True, False]), "other"),
        (UINT8.astype(">u2"), "uint16"),
        (UINT8.astype("<u2"), "uint16"),
        (UINT8.astype(">i2"), "other"),
        (UINT8.astype(">u4"), "other"),
        ((UINT8 / 255).astype(">f4"), "unit float"),
    ],
)
def test_input_kind(X, expected):
    assert input_kind(X) == expected


LEVELS_AS_FLOAT = UINT8.astype(np.float64)
STANDARDISED = np.array([[-1.3, 0.2], [0.8, 2.1]])
UNIT = UINT8 / 255


@pytest.mark.parametrize(
    ("fitted", "later"),
    [
        (UINT8, UINT8 // 2),
        (UNIT, UNIT.astype(np.float32)),
        (STANDARDISED, STANDARDISED * 2),
        (LEVELS_AS_FLOAT, LEVELS_AS_FLOAT / 2),
        # A few standardised pixels may lie in [0, 1] by chance.
        (STANDARDISED, np.array([[0.2, 0.8]])),
    ],
)
def test_later_batches_of_the_same_kind(fitted, later):
    model = _Model()
    check_kind(model, fitted, reset=True)
    kind = model.input_kind_
    check_kind(model, later, reset=False)
    assert model.input_kind_ == kind


@pytest.mark.parametrize(
    ("fitted", "later", "message"),
    [
        (UINT8, UNIT, r"fitted on uint8 .* \(float64, 0 to 1\) is floating point .* in \[0, 1\]"),
        (UINT8, UINT8.astype(np.uint16), "fitted on uint8 .* is uint16"),
        (UINT8, LEVELS_AS_FLOAT, "fitted on uint8 .* is real numbers"),
        (UNIT, UINT8, r"fitted on floating point .* \(uint8, 0 to 255\) is uint8"),
        (UNIT, UNIT * 255, "fitted on floating point .* is real numbers"),
        (LEVELS_AS_FLOAT, UNIT, "fitted on real numbers .* is floating point"),
    ],
)
def test_later_batches_of_another_kind(fitted, later, message):
    model = _Model()
    check_kind(model, fitted, reset=True)
    with pytest.raises(ValueError, match=message):
        check_kind(model, later, reset=False)


def test_flatten_batch():
    model = _Model()
    images = np.arange(24).reshape(2, 3, 4)
    flat, shaped = flatten_batch(model, images, reset=True)
    assert shaped and model.image_shape_ == (3, 4)
    assert np.shares_memory(flat, images)
    np.testing.assert_array_equal(flat, [range(12), range(12, 24)])
    rows = np.zeros((2, 12))
    assert flatten_batch(model, rows, reset=False) == (rows, False)
    nested, shaped = flatten_batch(_Model(), images.tolist(), reset=True)
    assert shaped
    np.testing.assert_array_equal(nested, flat)


def test_flatten_batch_refuses():
    images = np.zeros((2, 3, 4))
    with pytest.raises(ValueError, match=r"\(3, 4\), but image_shape says \(4, 3\)"):
        flatten_batch(_Model(), images, reset=True, image_shape=(4, 3))
    model = _Model()
    flatten_batch(model, images, reset=True, image_shape=[3, 4])
    with pytest.raises(ValueError, match=r"\(4, 3\), but _Model was fitted on \(3, 4\)"):
        flatten_batch(model, images.reshape(2, 4, 3), reset=False)
    with pytest.raises(ValueError, match=r"got shape \(1, 1, 2, 3, 4\)"):
        flatten_batch(_Model(), images.reshape(1, 1, 2, 3, 4), reset=True)
    with pytest.raises(ValueError, match=r"0 pixels an image \(shape=\(2, 0, 4\)\)"):
        flatten_batch(_Model(), images[:, :0], reset=True)


def test_validate_images_records_what_it_saw():
    model = _Model()
    flat, shaped = validate_images(model, np.zeros((5, 2, 3), dtype=np.uint8), reset=True)
    assert shaped and flat.shape == (5, 6)
    assert (model.n_features_in_, model.image_shape_, model.input_kind_) == (6, (2, 3), "uint8")

    frame = pd.DataFrame(np.ones((5, 9)), columns=list("abcdefghi"))
    flat, shaped = validate_images(model, frame, reset=True)
    assert not shaped
    assert (model.n_features_in_, model.image_shape_) == (9, (3, 3))
    assert model.input_kind_ == "unit float"
    assert model.feature_names_in_.tolist() == list("abcdefghi")


def test_validate_images_with_y():
    model = _Model()
    flat, y, shaped = validate_images(model, np.zeros((3, 2, 2)), ["a", "b", "a"], reset=True)
    assert shaped and flat.shape == (3, 4) and y.tolist() == ["a", "b", "a"]
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        validate_images(model, np.zeros((3, 2, 2)), ["a", "b"], reset=True)


def test_validate_images_does_not_copy():
    for dtype in (np.uint8, np.float32, np.float64):
        images = np.zeros((3, 2, 2), dtype=dtype)
        flat, _ = validate_images(_Model(), images, reset=True)
        assert np.shares_memory(flat, images)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_finiteness_comes_first(bad):
    # Not the message about the kind: a batch with NaN is of no kind.
    model = _Model()
    validate_images(model, UINT8[:, None], reset=True)
    images = np.full((2, 1, 2), bad)
    with pytest.raises(ValueError, match=r"contains (NaN|infinity)"):
        validate_images(model, images, reset=False)


@pytest.mark.parametrize(
    ("X", "value_range", "expected"),
    [
        (UINT8, None, (0, 255)),
        (UINT8.astype(np.uint16), None, (0, 65535)),
        (UINT8.astype(">u2"), None, (0, 65535)),
        (UINT8.astype(">u2"), (0, 4095), (0, 4095)),
        (UINT8, (0, 255), (0, 255)),
        (UINT8.astype(np.int32), (-1000, 1000), (-1000, 1000)),
        (UINT8.astype(np.int64), (-1000, 1000), (-1000, 1000)),
        (np.array([[True, False]]), (0, 1), (0, 1)),
        (UNIT, None, (0, 1)),
        (UNIT.astype(np.float32), None, (0, 1)),
        (UINT8.astype(np.uint16), (0, 4095), (0, 4095)),
        (UINT8.astype(np.int64) - 1000, (-1024, 3071), (-1024, 3071)),
        (STANDARDISED, [-3, 3], (-3, 3)),
        (np.array([[-1.0, 1.0]]), (-1, 1), (-1, 1)),
    ],
)
def test_level_range(X, value_range, expected):
    assert level_range(X, value_range, "Caller") == expected


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int16, np.int8, np.uint32, bool])
def test_level_range_of_an_unknown_dtype(dtype):
    with pytest.raises(ValueError, match=f"Caller depends .* {np.dtype(dtype)} does not tell"):
        level_range(np.zeros((2, 2), dtype=dtype), None, "Caller")


def test_values_outside_the_range():
    with pytest.raises(ValueError, match=r"\[0, 1\], got 0 to 255 \(float64\). Floats are taken"):
        level_range(LEVELS_AS_FLOAT, None, "Caller")
    with pytest.raises(ValueError, match=r"\[0, 1\], got -1.3 to 2.1"):
        level_range(STANDARDISED, None, "Caller")
    with pytest.raises(ValueError, match=r"\[0, 200\], got 0 to 255 \(uint8\). Clip or rescale"):
        level_range(UINT8, (0, 200), "Caller")


@pytest.mark.parametrize(
    "wrong",
    [
        (1, 1),
        (2, 1),
        (0,),
        (0, 1, 2),
        (0, np.inf),
        (-np.inf, 0),
        (0, np.nan),
        ("a", "b"),
        (False, True),
        (None, 1),
        [[0, 1], [2, 3]],
        np.array([[0, 1]]),
    ],
)
@pytest.mark.parametrize("X", [UINT8, UINT8 / 255])
def test_ranges_that_are_none(X, wrong):
    with pytest.raises(ValueError, match=r"two finite numbers \(low, high\) with low < high, got"):
        level_range(X, wrong, "Caller")


@pytest.mark.parametrize(
    ("dtype", "value_range", "expected"),
    [
        (np.uint8, (0, 1000), "0 to 255 for uint8"),
        (np.uint8, (-1, 255), "0 to 255 for uint8"),
        (np.int8, (-1000, 1000), "-128 to 127 for int8"),
        (np.uint16, (-1000, 1000), "0 to 65535 for uint16"),
        (">u2", (0, 65536), "0 to 65535 for >u2"),
        (np.int64, (0, 1e19), "for int64"),
    ],
)
def test_ranges_that_the_dtype_cannot_hold(dtype, value_range, expected):
    with pytest.raises(ValueError, match=f"value_range must lie within .*{expected}") as caught:
        level_range(np.zeros((2, 2), dtype=dtype), value_range, "Caller")
    assert repr(value_range) in str(caught.value)
    assert "Give the grey levels of black and white" in str(caught.value)


def test_pixel_names():
    expected = ["pixel_0_0", "pixel_0_1", "pixel_0_2", "pixel_1_0", "pixel_1_1", "pixel_1_2"]
    assert pixel_names((2, 3)).tolist() == expected
    assert pixel_names((1, 1, 2)).tolist() == ["pixel_0_0_0", "pixel_0_0_1"]


def test_messages_name_the_likely_slip():
    films = np.random.default_rng(0).integers(0, 255, (6, 4, 4), dtype=np.uint8)
    model = PixelLogisticRegression().fit(films, [0, 1] * 3)
    with pytest.raises(ValueError, match=r"one image of shape \(4, 4\).*X\[None\]"):
        model.predict(films[0])
    assert model.predict(films[0][None]).shape == (1,)
    with pytest.raises(ValueError, match=r"channels differ: read the images with the same color="):
        model.predict(np.repeat(films[..., None], 3, axis=3))
    with pytest.raises(
        ValueError, match=r"same grey levels, convert them with \.astype\('uint8'\)"
    ):
        model.predict(films.astype(int))
    with pytest.raises(ValueError, match="same scale as the training images"):
        model.predict(films / 255)


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_first_are_refused(channels):
    X = np.random.default_rng(0).integers(0, 256, (6, channels, 9, 8), dtype=np.uint8)
    for estimator in (PixelLogisticRegression(), PixelPCA(2), CNNClassifier(max_epochs=1)):
        with pytest.raises(ValueError, match=r"channels first; .*X\.transpose\(0, 2, 3, 1\)"):
            estimator.fit(X, np.arange(6) % 2)
    model = PixelPCA(2).fit(X.transpose(0, 2, 3, 1))
    assert model.image_shape_ == (9, 8, channels)
    assert PixelPCA(2, image_shape=X.shape[1:]).fit(X).image_shape_ == X.shape[1:]


@pytest.mark.parametrize(
    "form", [list, np.array, pd.Series, lambda paths: pd.DataFrame({"path": paths})]
)
@pytest.mark.parametrize("kind", [str, Path])
def test_paths_are_no_pixels(form, kind):
    X, y = form([kind(f"{i}.png") for i in range(4)]), [0, 1, 0, 1]
    for estimator in (PixelLogisticRegression(), PixelPCA(2), Resize(8), DenseHeadClassifier()):
        flat = ", output='flat'" if isinstance(estimator, DenseHeadClassifier) else ""
        words = f"X holds '0.png'. Put ImageReader(size=...{flat}) in front of it"
        with pytest.raises(TypeError, match=re.escape(words)):
            estimator.fit(X, y)
