import numpy as np
import pandas as pd
import pytest

from sklearn_cxr.preprocessing import Flatten


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64, np.float32, np.float64])
def test_rows_are_in_row_column_order_and_keep_their_dtype(dtype):
    images = np.arange(24).reshape(2, 3, 4).astype(dtype)
    out = Flatten().fit_transform(images)
    assert out.dtype == dtype
    expected = [[image[r, c] for r in range(3) for c in range(4)] for image in images]
    np.testing.assert_array_equal(out, expected)


def test_channels_come_last():
    images = np.random.default_rng(0).random((2, 3, 4, 3))
    flatten = Flatten().fit(images)
    names = flatten.get_feature_names_out()
    assert flatten.transform(images)[1, names.tolist().index("pixel_2_1_0")] == images[1, 2, 1, 0]
    assert flatten.image_shape_ == (3, 4, 3)
    assert len(names) == 36


def test_nothing_is_copied():
    images = np.zeros((2, 3, 4), dtype=np.uint8)
    flatten = Flatten().fit(images)
    assert np.shares_memory(flatten.transform(images), images)
    flat = images.reshape(2, 12)
    assert np.shares_memory(flatten.transform(flat), flat)


def test_shaped_input_goes_into_a_dataframe():
    images = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    flatten = Flatten().set_output(transform="pandas")
    frame = flatten.fit_transform(images)
    assert isinstance(frame, pd.DataFrame)
    assert frame.columns.tolist() == [f"pixel_{r}_{c}" for r in range(2) for c in range(3)]
    np.testing.assert_array_equal(frame.to_numpy(), images.reshape(2, 6))


def test_fits_before_what_takes_two_dimensions_only():
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    rng = np.random.default_rng(0)
    y = np.arange(30) % 2
    images = rng.normal(y[:, None, None], 0.1, (30, 4, 4))
    model = make_pipeline(Flatten(), LogisticRegression()).fit(images, y)
    assert model.score(images, y) == 1
