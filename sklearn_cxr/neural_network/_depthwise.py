"""Depthwise convolutions that oneDNN differentiates slowly in bfloat16, kept in float32."""

import contextlib

import torch
from torch.overrides import TorchFunctionMode


class Float32Depthwise(TorchFunctionMode):
    """Within it, depthwise convolutions of 5 x 5 or of stride 2 are computed in float32.

    On the CPU their gradient in bfloat16 takes three to eight times as long as in float32, while
    all other convolutions take half: a training step of EfficientNet-Lite0 is more than twice as
    fast with this than without (``benchmarks/bench_cnn.py``).
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Compute a convolution, or whatever else is called."""
        kwargs = kwargs or {}
        if func is not torch.conv2d or not _is_slow(*args, **kwargs):
            return func(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            args = [a.float() if isinstance(a, torch.Tensor) else a for a in args]
            return func(*args, **kwargs)


def _is_slow(images, weight, bias=None, stride=1, *args, **kwargs):
    if weight.shape[1] != 1 or weight.shape[0] == 1:
        return False
    strides = stride if isinstance(stride, tuple | list) else (stride,)
    return max(weight.shape[2:]) > 3 or max(strides) > 1


def training_precision(device, dtype, *, compiled=False):
    """Context of a forward pass that will be differentiated.

    Parameters
    ----------
    device : torch.device
        Where it is computed.

    dtype : torch.dtype
        Precision of convolutions and products.

    compiled : bool, default=False
        Whether the network is compiled, so that its calls cannot be looked at one by one.

    Returns
    -------
    context manager
        Automatic casting to `dtype` where that is bfloat16.
    """
    stack = contextlib.ExitStack()
    if dtype == torch.bfloat16:
        stack.enter_context(torch.autocast(device.type, dtype=dtype))
        if device.type == "cpu" and not compiled:
            stack.enter_context(Float32Depthwise())
    return stack
