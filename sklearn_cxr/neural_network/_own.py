"""Modules of the user's as backbones: what they give is found out by trying."""

import copy
import os
from pathlib import Path

import torch
from torch import nn

from sklearn_cxr.neural_network._checkpoints import load_state, read_state
from sklearn_cxr.neural_network._spec import Spec, pool, run_plain
from sklearn_cxr.neural_network._stem import find_stem, sum_stem

_PROBE_SIZES = (224, 64, 32, 16, 8, 96, 128, 150, 256, 299, 512)


def own_spec(backbone, weights, channels, sha256, image_size):
    """Describe a module of the user's, or what makes one.

    Parameters
    ----------
    backbone : nn.Module or callable
        A module, which is copied, or what makes one without arguments.

    weights : path-like or None
        File of the weights.

    channels : {"repeat", "sum"}
        Whether the kernels of a first layer for three channels are summed.

    sha256 : str or None
        Checksum of the file.

    image_size : tuple of (height, width) or None
        Size on which features are counted.

    Returns
    -------
    spec : Spec
        The network.

    in_channels : int
        Channels that it takes.
    """
    if isinstance(backbone, nn.Module):
        body = copy.deepcopy(backbone)
    elif callable(backbone):
        body = backbone()
    else:
        body = None
    # One that lies on a GPU would not meet the images, which go there when it is its turn.
    body = body.to("cpu") if isinstance(body, nn.Module) else body
    if not isinstance(body, nn.Module):
        raise ValueError(
            f"backbone={backbone!r} is, or makes, no torch.nn.Module; expected a name, a module, "
            "or a class or function that makes one without arguments."
        )
    if weights is not None:
        path = Path(weights)
        if isinstance(weights, str) and not path.suffix and not path.exists():
            raise ValueError(
                f"weights={weights!r} got a backbone of your own; expected None, to take it as "
                "it is, or the path of a file."
            )
        state = read_state(path, sha256=sha256)
        stem = find_stem(body)[0]
        load_state(body, state, source=f"weights={os.fspath(weights)!r}", stem=stem)
    stem = find_stem(body)[1]
    if channels == "sum" and not (stem is not None and stem.in_channels == 1):
        sum_stem(body, None, bias=False)
    sizes = [tuple(image_size)] if image_size else [(side, side) for side in _PROBE_SIZES]
    in_channels = [stem.in_channels] if stem is not None else [3, 1]
    n_features, n_channels = _probe(body, in_channels, sizes)
    children = [
        name for name, child in body.named_children() if any(True for _ in child.parameters())
    ]
    last = (f"{children[-1]}.",) if children else ("",)
    spec = Spec(body=body, n_features=n_features, last_stage=last, run=run_plain)
    return spec, n_channels


def _probe(body, in_channels, sizes):
    """Width of what a module gives for one image, and the channels it takes."""
    modes = {module: module.training for module in body.modules()}
    like = next(body.parameters(), torch.zeros(()))
    failure = None
    body.eval()
    try:
        for size in sizes:
            for channels in in_channels:
                try:
                    with torch.no_grad():
                        output = body(like.new_zeros((1, channels, *size)))
                except (RuntimeError, ValueError, TypeError, AssertionError, IndexError) as error:
                    failure = error
                    continue
                return _width(output), channels
    finally:
        for module, mode in modes.items():
            module.training = mode
    raise ValueError(
        f"The backbone failed on a batch of one black image of {sizes[-1]} pixels and "
        f"{in_channels[-1]} channels: {failure}. Expected a module that takes (n, channels, h, w)."
    ) from failure


def _width(output):
    if not torch.is_tensor(output) or output.ndim not in (2, 3, 4):
        got = tuple(output.shape) if torch.is_tensor(output) else type(output).__name__
        raise ValueError(
            f"The backbone gave {got} for a batch of one image; expected features (n, width), "
            "tokens (n, tokens, width) or maps (n, width, h, w)."
        )
    return pool(output).shape[1]
