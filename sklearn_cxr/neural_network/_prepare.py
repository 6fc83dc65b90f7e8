"""From grey levels as they are stored to the normalised tensor that a network takes."""

import numpy as np
import torch
from torch import nn


def to_host_tensor(batch, device=None):
    """Turn an ndarray into a tensor that torch can hold; not copied where that can be avoided.

    Parameters
    ----------
    batch : ndarray
        Numbers.

    device : torch.device or None, default=None
        Where the tensor will go. Apple's GPU has no float64, so float32 goes there.

    Returns
    -------
    Tensor
        On the host.
    """
    batch = np.ascontiguousarray(batch)
    batch = batch.astype(batch.dtype.newbyteorder("="), copy=False)
    if batch.dtype == np.uint16:
        # torch has few operations on uint16; its levels are exact in int32.
        batch = batch.astype(np.int32)
    elif batch.dtype == bool:
        batch = batch.view(np.uint8)
    elif batch.dtype.kind == "u" and batch.dtype.itemsize > 2:
        batch = batch.astype(np.float64)
    elif batch.dtype == np.float16 or batch.dtype.itemsize > 8:
        batch = batch.astype(np.float32 if batch.dtype == np.float16 else np.float64)
    if not batch.flags.writeable:
        # torch warns of memory that it must not write to, though nothing here writes.
        batch = batch.copy()
    tensor = torch.from_numpy(batch)
    if device is not None and device.type == "mps" and tensor.dtype == torch.float64:
        return tensor.float()
    return tensor


def send(tensor, device):
    """Copy a tensor from the host to a device; on a CUDA GPU without waiting for the copy.

    Parameters
    ----------
    tensor : Tensor
        On the host.

    device : torch.device
        Where it goes.

    Returns
    -------
    Tensor
        There.
    """
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


class Prepare(nn.Module):
    """Grey levels to a normalised channels-first tensor; constants are kept for each device.

    Parameters
    ----------
    low, high : float
        Grey levels that become 0 and 1.

    mean, std : sequence of float
        Subtracted and divided by after that, one value for each channel of the output.

    channels : int, default=1
        Channels of the images as stored. One channel is repeated to as many as `mean` has.

    Raises
    ------
    ValueError
        If the images have several channels, and not as many as `mean`.
    """

    def __init__(self, low, high, mean, std, *, channels=1):
        super().__init__()
        mean, std = np.atleast_1d(mean).astype(float), np.atleast_1d(std).astype(float)
        if channels not in (1, len(mean)):
            raise ValueError(
                f"Got images of {channels} channels, but the network takes {len(mean)}. Read the "
                "images with color='gray' (one channel is repeated), or take weights for as many "
                "channels."
            )
        self.channels = channels
        # No buffers: a network cast to bfloat16 must not round them.
        self.low, self.high = float(low), float(high)
        self.mean, self.std = mean, std
        self._constants = {}

    def __getstate__(self):
        # What lies on a device is made anew where the module arrives.
        return {**super().__getstate__(), "_constants": {}}

    def unit(self, batch, dtype=torch.float32):
        """Bring a batch as stored to (n, channels, h, w) with black 0 and white 1.

        Parameters
        ----------
        batch : Tensor of shape (n, h, w) or (n, h, w, c)
            Grey levels of any dtype.

        dtype : torch.dtype, default=torch.float32
            That of the output.

        Returns
        -------
        Tensor of shape (n, c, h, w)
            The images.
        """
        images = self._channels_first(batch).to(dtype)
        if self.low == 0 and self.high == 1:
            return images
        return (images - self.low) / (self.high - self.low)

    def normalise(self, images):
        """Repeat the channel where needed, subtract the mean, divide by the deviation.

        Parameters
        ----------
        images : Tensor of shape (n, c, h, w)
            Black 0 and white 1.

        Returns
        -------
        Tensor of shape (n, len(mean), h, w)
            What the network takes.
        """
        return self._affine(images, "unit", -self.mean / self.std, 1 / self.std)

    def forward(self, batch, dtype=torch.float32):
        """Both steps in one pass over the pixels.

        Parameters
        ----------
        batch : Tensor of shape (n, h, w) or (n, h, w, c)
            Grey levels of any dtype.

        dtype : torch.dtype, default=torch.float32
            That of the output; bfloat16 is rounded to only at the end.

        Returns
        -------
        Tensor of shape (n, len(mean), h, w)
            What the network takes.
        """
        exact = torch.float64 if dtype == torch.float64 else torch.float32
        images = self._channels_first(batch).to(exact)
        factor = 1 / (self.std * (self.high - self.low))
        offset = -(self.low * factor + self.mean / self.std)
        return self._affine(images, "stored", offset, factor).to(dtype)

    def _affine(self, images, levels, offset, factor):
        key = levels, images.dtype, images.device
        if key not in self._constants:
            # Copied once: a GPU that waits for a copy at every batch stands still meanwhile.
            # Gradients may be asked for later, so these are ordinary tensors in any case.
            with torch.inference_mode(False):
                self._constants[key] = [
                    torch.as_tensor(values, dtype=images.dtype).reshape(-1, 1, 1).to(images.device)
                    for values in (offset, factor)
                ]
        offset, factor = self._constants[key]
        return torch.addcmul(offset, images, factor)

    def _channels_first(self, batch):
        if batch.ndim == 3:
            return batch.unsqueeze(1)
        return batch.permute(0, 3, 1, 2)


def unit_levels(kind):
    """Levels of black and white of a kind of grey level (see `utils._images.KINDS`)."""
    return {"uint8": (0.0, 255.0), "uint16": (0.0, 65535.0)}.get(kind, (0.0, 1.0))
