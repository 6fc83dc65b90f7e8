"""Which dimensions of a layer's maps are places, and which one is the channels."""

import torch
from torch import nn

CHANNELS_FIRST, CHANNELS_LAST = (2, 3), (1, 2)


def find_places(module, layer, image_size):
    """Find out by trying over which dimensions the maps of a layer are averaged.

    Places become more with the pixels, and channels do not.

    Parameters
    ----------
    module : LayerOutput
        On the CPU, in evaluation mode; its `shape_of` tells the shape of what the layer answers.

    layer : str
        Name of the layer.

    image_size : tuple of (int, int)
        Height and width of the images.

    Returns
    -------
    tuple of (int, int)
        The dimensions.

    Raises
    ------
    ValueError
        If channels are neither the second nor the last dimension.
    """
    height, width = image_size
    shape = _shape(module, (height, width))
    if shape is None or len(shape) != 4:
        return CHANNELS_FIRST
    # Half the size is soon computed, but may be too small for the network.
    for size in ((height // 2, width // 2), (2 * height, 2 * width)):
        other = _shape(module, size)
        if other is None or len(other) != 4:
            continue
        grown = [axis for axis in (1, 2, 3) if shape[axis] != other[axis]]
        if grown and 1 not in grown:
            return CHANNELS_FIRST
        if grown and 3 not in grown:
            return CHANNELS_LAST
        if grown:
            raise ValueError(
                f"layer={layer!r} answers with {shape} for images of {height} x {width} pixels "
                f"and with {other} for {size[0]} x {size[1]}: no dimension is that of channels. "
                "Expected (n, width, rows, columns) or (n, rows, columns, width). Name another "
                "layer."
            )
    return _by_kind(module.backbone.body, layer)


def _shape(module, size):
    """Shape of what the layer answers to a black image; None where it refuses the size."""
    if min(size) < 1:
        return None
    backbone = module.backbone
    dtype = next((p.dtype for p in backbone.parameters()), torch.float32)
    try:
        with torch.inference_mode():
            return module.shape_of(torch.zeros((1, backbone.in_channels, *size), dtype=dtype))
    except Exception:  # whatever the user's network raises at a size that it was not made for
        # What is wrong with images of the right size is told by the fit itself.
        return None


def _by_kind(body, layer):
    """Take the word of the layer's class, or of timm, where no other size goes through."""
    part = body.get_submodule(layer)
    # So are those of torch, torchvision and timm called that take channels first.
    if type(part).__name__.endswith("2d") or isinstance(part, nn.Conv2d | nn.GroupNorm):
        return CHANNELS_FIRST
    if getattr(body, "output_fmt", None) == "NHWC" or type(part) in (nn.LayerNorm, nn.Linear):
        return CHANNELS_LAST
    return CHANNELS_FIRST
