"""Grey levels as they are stored, to what a network takes."""

import numpy as np
import pytest
import torch

from sklearn_cxr.neural_network._prepare import Prepare, to_host_tensor, unit_levels

MEAN, STD = np.array([0.4, 0.5, 0.6]), np.array([0.2, 0.25, 0.3])


def films(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_grey_is_repeated_and_normalised_by_channel():
    X = films(4, 5, 6)
    out = Prepare(0, 255, MEAN, STD)(torch.as_tensor(X))
    assert out.dtype == torch.float32
    assert out.shape == (4, 3, 5, 6)
    for channel in range(3):
        expected = (X / 255 - MEAN[channel]) / STD[channel]
        np.testing.assert_allclose(out[:, channel], expected, atol=1e-5)


def test_colours_go_first():
    X = films(4, 5, 6, 3)
    out = Prepare(0, 255, MEAN, STD, channels=3)(torch.as_tensor(X), torch.float64)
    assert out.dtype == torch.float64
    expected = ((X / 255 - MEAN) / STD).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(out, expected, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_two_steps_are_the_one(dtype):
    prepare = Prepare(-1000, 3000, MEAN, STD)
    X = torch.as_tensor(np.random.default_rng(0).normal(500, 300, (3, 4, 4)))
    unit = prepare.unit(X, dtype)
    np.testing.assert_allclose(unit[:, 0], (X + 1000) / 4000, rtol=1e-6)
    torch.testing.assert_close(prepare.normalise(unit), prepare(X, dtype))


def test_unit_levels_are_only_cast():
    X = torch.rand(2, 3, 3, dtype=torch.float64)
    assert (Prepare(0, 1, 0.0, 1.0).unit(X, torch.float64)[:, 0] == X).all()


def test_half_precision_is_rounded_to_last():
    X = torch.as_tensor(films(2, 8, 8))
    prepare = Prepare(0, 255, 0.5, 0.01)
    out = prepare(X, torch.bfloat16)
    assert out.dtype == torch.bfloat16
    assert (out == prepare(X, torch.float64).to(torch.bfloat16)).float().mean() > 0.99


def test_constants_outlive_a_cast_of_the_network():
    prepare = Prepare(0, 255, 0.123456789, 0.3)
    prepare.to(torch.bfloat16)
    X = torch.as_tensor(films(2, 3, 3))
    expected = (X.numpy() / 255 - 0.123456789) / 0.3
    np.testing.assert_allclose(prepare(X, torch.float64)[:, 0], expected)


@pytest.mark.parametrize("channels", [2, 4])
def test_channels_that_the_network_does_not_take_raise(channels):
    with pytest.raises(ValueError, match=f"Got images of {channels} channels, but .* takes 3"):
        Prepare(0, 255, MEAN, STD, channels=channels)


@pytest.mark.parametrize(
    ("dtype", "tensor"),
    [
        (np.uint8, torch.uint8),
        (np.int16, torch.int16),
        (np.uint16, torch.int32),
        (np.uint32, torch.float64),
        (np.float16, torch.float32),
        (np.float32, torch.float32),
        (np.float64, torch.float64),
        (np.longdouble, torch.float64),
        (">f4", torch.float32),
        (">u2", torch.int32),
    ],
)
def test_every_dtype_gets_to_the_device(dtype, tensor):
    X = np.array([[0, 3, 200], [1, 2, 7]], dtype=dtype)
    out = to_host_tensor(X)
    assert out.dtype == tensor
    np.testing.assert_array_equal(out.numpy(), X)


def test_truth_values_are_grey_levels():
    out = to_host_tensor(np.array([[True, False]]))
    assert out.dtype == torch.uint8
    assert out.tolist() == [[1, 0]]


def test_large_levels_of_uint16_are_kept():
    assert to_host_tensor(np.array([65535], np.uint16)).item() == 65535


def test_a_plain_batch_is_not_copied_and_a_read_only_one_is():
    X = films(2, 3, 3)
    assert to_host_tensor(X).data_ptr() == X.ctypes.data
    X.flags.writeable = False
    assert to_host_tensor(X).data_ptr() != X.ctypes.data
    strided = films(4, 6, 6)[:, ::2, ::-1]
    np.testing.assert_array_equal(to_host_tensor(strided), strided)


def test_levels_by_kind():
    assert unit_levels("uint8") == (0, 255)
    assert unit_levels("uint16") == (0, 65535)
    assert unit_levels("unit float") == (0, 1)
