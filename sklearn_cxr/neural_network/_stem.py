"""The first convolution of a network, and its form for images of one channel."""

import dataclasses

import numpy as np
import torch
from torch import nn


def find_stem(body):
    """First convolution of a network.

    Parameters
    ----------
    body : nn.Module
        The network.

    Returns
    -------
    name : str or None
        Name of its kernel.

    stem : nn.Conv2d or None
        The convolution.
    """
    for name, module in body.named_modules():
        if isinstance(module, nn.Conv2d):
            return f"{name}.weight" if name else "weight", module
    return None, None


def sum_stem(body, info, *, bias):
    """Let a network for three channels take one, by a sum over its first kernels.

    Parameters
    ----------
    body : nn.Module
        Changed in place.

    info : WeightsInfo or None
        Of its weights. Where channels have a mean and deviation each, they are brought into
        the kernels and the bias, so that one mean and one deviation give the same as three.

    bias : bool
        Whether the first convolution gets a bias, if it has none, for that.

    Returns
    -------
    WeightsInfo or None
        Of the changed network.
    """
    stem = find_stem(body)[1]
    # timm's StdConv2d and its kin centre each kernel, after which a sum is another network.
    if stem is None or stem.in_channels != 3 or stem.groups != 1 or "Std" in type(stem).__name__:
        raise ValueError(
            "channels='sum' got a backbone that does not begin with a plain convolution of three "
            "channels; use channels='repeat'."
        )
    mean = np.array(info.mean if info else (0.0,) * 3)
    std = np.array(info.std if info else (1.0,) * 3)
    kernels = stem.weight.detach()
    scale = torch.tensor(std.mean() / std).to(kernels).reshape(1, 3, 1, 1)
    shift = torch.tensor((mean.mean() - mean) / std).to(kernels).reshape(1, 3, 1, 1)
    stem.weight = nn.Parameter((kernels * scale).sum(dim=1, keepdim=True))
    stem.in_channels = 1
    offset = (kernels * shift).sum(dim=(1, 2, 3))
    if stem.bias is not None:
        stem.bias = nn.Parameter(stem.bias.detach() + offset)
    elif bias:
        stem.bias = nn.Parameter(offset)
    if info is None:
        return None
    return dataclasses.replace(
        info, mean=(float(mean.mean()),), std=(float(std.mean()),), channels=1
    )
