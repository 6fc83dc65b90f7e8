"""Changes to a batch of images in one pass: geometry as one map, then grey levels."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from sklearn_cxr.neural_network._prepare import send

EXACT = ("flip", "vertical_flip", "quarter_turns")
GEOMETRY = (*EXACT, "rotate", "shear", "zoom", "shift")
GREY_LEVELS = ("gamma", "contrast", "brightness", "erase", "noise")
FILLS = ("edge", "reflect")
_ERASE_PROBABILITY = 0.5
_SMALLEST_ERASED = 0.02
_LOG_ASPECT = math.log(10 / 3)


class Augmentation(nn.Module):
    """Random changes to a batch of images, drawn for each image on its own.

    All geometry is composed into one affine map, so that an image is resampled once, however
    many operations there are; flips and quarter turns alone move pixels and resample nothing.
    Then come, in this order, blur, gamma, contrast, brightness, erasing and noise.

    Parameters
    ----------
    ranges : dict of str to (float, float)
        Lowest and highest draw of each operation, as `make_augmentation` makes them.

    bounded : bool, default=True
        Whether grey levels are within [0, 1]; the result is then cut to that range. Otherwise
        brightness, contrast, gamma and noise are relative to each image's own range.

    fill : {"edge", "reflect"} or float, default="edge"
        What comes into view beyond the border.

    Notes
    -----
    The draws come from torch's global generators: one set for the batch from that of the CPU,
    whatever the device of the images, the noise from that of their device.
    """

    def __init__(self, ranges, *, bounded=True, fill="edge"):
        super().__init__()
        self.ranges = dict(ranges)
        self.bounded = bounded
        self.fill = fill

    def extra_repr(self):
        """Describe the operations."""
        drawn = ", ".join(f"{name}={pair}" for name, pair in self.ranges.items())
        return f"{drawn}, bounded={self.bounded}, fill={self.fill!r}"

    @torch.no_grad()
    def forward(self, images):
        """Return changed images; those given are left as they are.

        Parameters
        ----------
        images : Tensor of shape (n, c, h, w), floating
            A batch.

        Returns
        -------
        Tensor of shape (n, c, h, w)
            Of the dtype and on the device of `images`.
        """
        if images.ndim != 4 or not images.is_floating_point():
            raise ValueError(
                f"augmentation got a tensor of shape {tuple(images.shape)} and {images.dtype}; "
                "expected floating images of shape (n, c, h, w)."
            )
        if not len(images):
            return images
        # Half precision is too coarse for coordinates, and not all kernels have it.
        x = images.float() if images.dtype in (torch.bfloat16, torch.float16) else images
        span = self._span(x)
        x = self._move(x)
        if "blur" in self.ranges:
            x = self._blur(x)
        if any(name in self.ranges for name in GREY_LEVELS):
            x = self._change_levels(x, span)
        return x.to(images.dtype)

    def _draw(self, name, n):
        low, high = self.ranges.get(name, (0.0, 0.0))
        return low + (high - low) * torch.rand(n, dtype=torch.float64)

    def _happens(self, name, n):
        return torch.rand(n, dtype=torch.float64) < self.ranges.get(name, (0, 0.0))[1]

    def _move(self, x):
        asked = [name for name in GEOMETRY if name in self.ranges]
        if not asked:
            return x
        n, _, h, w = x.shape
        if "quarter_turns" in asked and h != w:
            raise ValueError(
                f"augmentation got quarter_turns for images of {h} x {w} pixels; expected square "
                "ones. Resize or pad them to a square, or leave quarter_turns out."
            )
        flips = self._happens("flip", n), self._happens("vertical_flip", n)
        turns = self._happens("quarter_turns", n) * torch.randint(1, 4, (n,))
        if all(name in EXACT for name in asked):
            return _permute_pixels(x, flips, turns)
        inverse, shift = self._inverse_map(n, flips, turns, h, w)
        return _resample(x, inverse, shift, self.fill)

    def _inverse_map(self, n, flips, turns, h, w):
        """Draw the maps from output to input, in pixels from the centre, x to the right."""
        angle = torch.deg2rad(self._draw("rotate", n))
        shear = torch.tan(torch.deg2rad(self._draw("shear", n)))
        zoom = 1 + self._draw("zoom", n)
        shift = torch.stack([self._draw("shift", n) * w, self._draw("shift", n) * h], dim=-1)
        one, zero = torch.ones_like(zoom), torch.zeros_like(zoom)
        quarter = turns.double() * (math.pi / 2)
        # Rounding makes the quarter turns exact.
        cosine, sine = quarter.cos().round(), quarter.sin().round()
        mirror_x, mirror_y = (1 - 2 * happens.double() for happens in flips)
        forward = (
            zoom[:, None, None]
            * _matrix(angle.cos(), angle.sin(), -angle.sin(), angle.cos())
            @ _matrix(one, shear, zero, one)
            @ _matrix(cosine, sine, -sine, cosine)
            @ _matrix(mirror_x, zero, zero, mirror_y)
        )
        return torch.linalg.inv(forward), shift

    def _blur(self, x):
        n, c, h, w = x.shape
        reach = max(1, math.ceil(3 * self.ranges["blur"][1]))
        sigma = self._draw("blur", n).clamp_(min=1e-3)[:, None]
        taps = torch.arange(-reach, reach + 1, dtype=torch.float64)
        kernel = torch.softmax(-0.5 * (taps / sigma) ** 2, dim=1).repeat_interleave(c, dim=0)
        kernel = _like(kernel, x)[:, None, None]
        x = F.pad(x, (reach,) * 4, mode="replicate").reshape(1, n * c, h + 2 * reach, -1)
        x = F.conv2d(F.conv2d(x, kernel, groups=n * c), kernel.mT, groups=n * c)
        return x.reshape(n, c, h, w)

    def _span(self, x):
        """Return lowest level and range of each image, or None where both are known."""
        if self.bounded or not any(name in self.ranges for name in GREY_LEVELS):
            return None
        low, high = x.flatten(1).amin(dim=1), x.flatten(1).amax(dim=1)
        if not isinstance(self.fill, str):
            low, high = low.clamp(max=self.fill), high.clamp(min=self.fill)
        return low[:, None, None, None], (high - low)[:, None, None, None]

    def _change_levels(self, x, span):
        n = len(x)
        if span is not None:
            low, width = span
            x = (x - low) / torch.where(width > 0, width, 1)
        if "gamma" in self.ranges:
            # Resampling may leave an ulp below 0, which has no power.
            x = x.clamp(min=0).pow(_per_image(torch.exp(self._draw("gamma", n)), x))
        if "contrast" in self.ranges or "brightness" in self.ranges:
            gain = _per_image(1 + self._draw("contrast", n), x)
            offset = _per_image(self._draw("brightness", n), x)
            x = torch.addcmul(offset + _mean(x) * (1 - gain), x, gain)
        if "erase" in self.ranges:
            x = self._erase(x, span)
        if "noise" in self.ranges:
            # The same in all channels: a radiograph is grey, however many channels hold it.
            noise = torch.randn(n, 1, *x.shape[2:], dtype=x.dtype, device=x.device)
            x = torch.addcmul(x, noise, _per_image(self._draw("noise", n), x))
        if self.bounded:
            return x.clamp(0, 1)
        return torch.addcmul(low, x, width)

    def _erase(self, x, span):
        n, _, h, w = x.shape
        low, high = self.ranges["erase"]
        low = min(max(low, _SMALLEST_ERASED), high)
        area = low + (high - low) * torch.rand(n, dtype=torch.float64)
        aspect = torch.exp(_LOG_ASPECT * (2 * torch.rand(n, dtype=torch.float64) - 1))
        sides = (h * w * area * aspect).sqrt(), (h * w * area / aspect).sqrt()
        erased = send(torch.rand(n) < _ERASE_PROBABILITY, x.device)[:, None, None, None]
        for length, side, dim in zip((h, w), sides, (2, 3), strict=True):
            side = side.round().clamp(max=length)
            start = torch.floor(torch.rand(n, dtype=torch.float64) * (length - side + 1))
            place = torch.arange(length, dtype=torch.float64)
            inside = (place >= start[:, None]) & (place < (start + side)[:, None])
            erased = erased & send(inside, x.device).unsqueeze(1).unsqueeze(5 - dim)
        if isinstance(self.fill, str):
            level = _mean(x)
        elif span is None:
            level = torch.full((), self.fill, dtype=x.dtype, device=x.device)
        else:
            level = (self.fill - span[0]) / torch.where(span[1] > 0, span[1], 1)
        return torch.where(erased, level, x)


def _like(values, x):
    # In two steps, for devices that have no float64.
    return send(values.to(x.dtype), x.device)


def _per_image(values, x):
    return _like(values, x)[:, None, None, None]


def _mean(x):
    return x.mean(dim=(1, 2, 3), keepdim=True)


def _matrix(a, b, c, d):
    return torch.stack([a, b, c, d], dim=-1).reshape(-1, 2, 2)


def _permute_pixels(x, flips, turns):
    for happens, dim in zip(flips, (3, 2), strict=True):
        if happens.any():
            x = torch.where(send(happens, x.device)[:, None, None, None], x.flip(dim), x)
    if turns.any():
        x = x.clone()
        for k in range(1, 4):
            rows = send(torch.nonzero(turns == k).flatten(), x.device)
            x[rows] = torch.rot90(x[rows], k, (2, 3))
    return x


def _resample(x, inverse, shift, fill):
    """Sample the images bilinearly at inverse @ (output - shift), in pixels from the centre."""
    n, _, h, w = x.shape
    sides = torch.tensor([w, h], dtype=torch.float64)
    start = -(inverse @ shift[:, :, None])[:, :, 0]
    # grid_sample counts from -1 to 1 across each side.
    columns = (torch.arange(w, dtype=torch.float64) - (w - 1) / 2)[None, :]
    rows = (torch.arange(h, dtype=torch.float64) - (h - 1) / 2)[None, :]
    grid = torch.empty(n, h, w, 2, dtype=x.dtype, device=x.device)
    for axis in range(2):
        scale = 2 / sides[axis]
        along_x = _like(scale * inverse[:, axis, :1] * columns, x)
        along_y = _like(scale * (inverse[:, axis, 1:] * rows + start[:, axis, None]), x)
        torch.add(along_y[:, :, None], along_x[:, None, :], out=grid[..., axis])
        if fill == "edge":
            # The border of grid_sample is not there on every device; this is the same.
            limit = 1 - 1 / float(sides[axis])
            grid[..., axis].clamp_(-limit, limit)
    if isinstance(fill, str):
        mode = "zeros" if fill == "edge" else "reflection"
        return F.grid_sample(x, grid, padding_mode=mode, align_corners=False)
    moved = F.grid_sample(x - fill if fill else x, grid, align_corners=False)
    return moved + fill if fill else moved
