import pytest
import torch
from torch import nn

from sklearn_cxr.neural_network._depthwise import Float32Depthwise, training_precision

CPU = torch.device("cpu")


class Recorder(nn.Module):
    """A convolution that remembers the precision of what it gave."""

    def __init__(self, groups, kernel, stride):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, kernel, stride=stride, padding=kernel // 2, groups=groups)

    def forward(self, images):
        out = self.conv(images)
        self.seen = out.dtype
        return out


@pytest.mark.parametrize(
    ("groups", "kernel", "stride", "precision"),
    [
        (4, 3, 1, torch.bfloat16),
        (4, 5, 1, torch.float32),
        (4, 3, 2, torch.float32),
        (1, 5, 2, torch.bfloat16),
        (2, 5, 2, torch.bfloat16),
    ],
)
def test_only_slow_depthwise_convolutions_stay_in_float32(groups, kernel, stride, precision):
    module = Recorder(groups, kernel, stride)
    images = torch.randn(2, 4, 12, 12)
    with training_precision(CPU, torch.bfloat16):
        out = module(images)
    assert module.seen == precision
    torch.testing.assert_close(out.float(), module.conv(images), rtol=0.02, atol=0.02)


def test_gradients_are_those_of_float32():
    module = Recorder(4, 5, 2)
    images = torch.randn(2, 4, 12, 12)
    with training_precision(CPU, torch.bfloat16):
        module(images).square().sum().backward()
    mixed = module.conv.weight.grad.clone()
    module.zero_grad()
    module(images).square().sum().backward()
    torch.testing.assert_close(mixed, module.conv.weight.grad)


def test_other_precisions_are_left_alone():
    with training_precision(CPU, torch.float64):
        assert Recorder(4, 5, 2).double()(torch.zeros(1, 4, 8, 8).double()).dtype == torch.float64


def test_keyword_arguments_are_understood():
    images, weight = torch.randn(1, 3, 6, 6), torch.randn(3, 1, 3, 3)
    with torch.autocast("cpu", torch.bfloat16), Float32Depthwise():
        assert torch.conv2d(images, weight, stride=2, groups=3).dtype == torch.float32
        assert torch.conv2d(images, weight, groups=3).dtype == torch.bfloat16
