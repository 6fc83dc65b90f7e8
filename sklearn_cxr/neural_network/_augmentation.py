"""Random changes to training images, a batch at a time; and views for test-time augmentation."""

import difflib
import math
from dataclasses import dataclass
from itertools import product
from numbers import Real

import torch

from sklearn_cxr.neural_network._augmentation_ops import FILLS, Augmentation


@dataclass(frozen=True)
class _Magnitude:
    """What one number, or a pair, means for an operation."""

    default: float
    symmetric: bool = False  # m stands for (-m, m), otherwise for (0, m)
    lowest: float = -math.inf
    highest: float = math.inf
    pair: bool = True


_PROBABILITY = {"lowest": 0, "highest": 1, "pair": False}
_MAGNITUDES = {
    "flip": _Magnitude(0.5, **_PROBABILITY),
    "vertical_flip": _Magnitude(0.5, **_PROBABILITY),
    "quarter_turns": _Magnitude(0.75, **_PROBABILITY),
    "rotate": _Magnitude(20.0, symmetric=True, lowest=-180, highest=180),
    "shear": _Magnitude(10.0, symmetric=True, lowest=-80, highest=80),
    "zoom": _Magnitude(0.1, symmetric=True, lowest=-0.95),
    "shift": _Magnitude(0.05, symmetric=True, lowest=-1, highest=1),
    "blur": _Magnitude(1.0, lowest=0),
    "gamma": _Magnitude(0.3, symmetric=True, lowest=-5, highest=5),
    "contrast": _Magnitude(0.3, symmetric=True, lowest=-1),
    "brightness": _Magnitude(0.2, symmetric=True, lowest=-1, highest=1),
    "erase": _Magnitude(0.2, lowest=0, highest=1),
    "noise": _Magnitude(0.03, lowest=0),
}
_PRESETS = {
    "light": {"flip": 0.5, "rotate": 10, "shift": 0.05, "zoom": 0.05, "brightness": 0.1,
              "contrast": 0.1},
    "strong": {"flip": 0.5, "rotate": 20, "shear": 5, "shift": 0.1, "zoom": 0.2,
               "brightness": 0.2, "contrast": 0.5, "gamma": 0.5, "noise": 0.05, "erase": 0.2},
}  # fmt: skip
_TTA = ("flip", "shift")
_TTA_SHARE = 32


def augmentation_names():
    """Return the names that :func:`make_augmentation` takes, presets last."""
    return (*_MAGNITUDES, *_PRESETS)


def _unknown(name, known, what):
    near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return ValueError(f"{what} got {name!r}; expected one of {', '.join(known)}.{hint}")


def _range(name, value):
    """Return (low, high) of an operation's draws, or a probability as (0, p)."""
    rule = _MAGNITUDES[name]
    if value is True:
        value = rule.default
    elif value is None or value is False:
        value = 0.0
    pair = isinstance(value, (tuple, list))
    numbers = list(value) if pair else [value]
    if not all(isinstance(v, Real) and math.isfinite(v) for v in numbers):
        raise ValueError(f"augmentation got {name}={value!r}; expected a number or a pair.")
    if pair and (not rule.pair or len(numbers) != 2 or numbers[0] > numbers[1]):
        expected = "a pair (low, high) with low <= high" if rule.pair else "one number"
        raise ValueError(f"augmentation got {name}={value!r}; expected {expected}.")
    if not pair and value < 0:
        raise ValueError(f"augmentation got {name}={value!r}; expected a magnitude of 0 or more.")
    low, high = map(float, numbers if pair else (-value if rule.symmetric else 0, value))
    if low < rule.lowest or high > rule.highest:
        raise ValueError(
            f"augmentation got {name}={value!r}, hence draws from {low:g} to {high:g}; expected "
            f"them within {rule.lowest:g} and {rule.highest:g}."
        )
    return low, high


def _parse(spec):
    """Turn names, tuples of names and dicts into {name: (low, high)} in the order of work."""
    known = augmentation_names()
    if isinstance(spec, dict):
        values = dict(spec)
        known = tuple(_MAGNITUDES)
    else:
        values = {}
        for name in [spec] if isinstance(spec, str) else spec:
            if not isinstance(name, str):
                raise ValueError(
                    f"augmentation got {name!r} in a sequence; expected names. To combine names "
                    "with transforms of your own, pass one callable that does both."
                )
            values.update(_PRESETS.get(name, {name: True}))
    for name in values:
        if name not in _MAGNITUDES:
            raise _unknown(name, known, "augmentation")
    ranges = {name: _range(name, values[name]) for name in _MAGNITUDES if name in values}
    return {name: pair for name, pair in ranges.items() if pair != (0.0, 0.0)}


class _Applied:
    """A transform or function of the user's, with its result checked."""

    def __init__(self, transform, *, per_image):
        self.transform = transform
        self.per_image = per_image

    def __repr__(self):
        return f"{type(self).__name__}({self.transform!r}, per_image={self.per_image})"

    def __call__(self, images):
        if self.per_image:
            changed = [self.transform(image) for image in images]
            shapes = {getattr(image, "shape", None) for image in changed}
            changed = torch.stack(changed) if shapes == {images.shape[1:]} else changed
        else:
            changed = self.transform(images)
        shape = getattr(changed, "shape", None)
        if shape != images.shape or not torch.is_floating_point(changed):
            got = changed[0] if self.per_image and isinstance(changed, list) else changed
            expected = images.shape[1:] if got is not changed else images.shape
            raise ValueError(
                f"augmentation by {self.transform!r} returned {type(got).__name__} of shape "
                f"{tuple(getattr(got, 'shape', ()))} and {getattr(got, 'dtype', None)}; expected "
                f"a floating tensor of shape {tuple(expected)}, the shape that it was given."
            )
        return changed.to(images)


def make_augmentation(spec, *, bounded=True, fill="edge"):
    """Make the function that changes the images of a training batch.

    Parameters
    ----------
    spec : str, sequence of str, dict, callable or None
        What is done:

        - A name from the table below, a preset, or several in a sequence. The order in which
          they are given does not matter.
        - A dict of names and magnitudes. A magnitude is a number m, a pair (low, high) of the
          draws themselves, True for the default, or 0, None or False to leave it out.
        - A transform of ``torchvision.transforms`` (v1 or v2). It is called for each image of
          shape (c, h, w) on its own, as they draw once per call; that takes several times as
          long as the operations here.
        - Any other callable. It gets the batch of shape (n, c, h, w) and returns one of the
          same shape.
        - None: nothing.

        ================= ======= =======================================================
        Name              Default What is drawn for each image
        ================= ======= =======================================================
        ``flip``          0.5     Left and right exchanged with probability m. The heart is
                                  then on the wrong side: not for findings that depend on it.
        ``vertical_flip`` 0.5     Top and bottom exchanged with probability m.
        ``quarter_turns`` 0.75    With probability m a turn by 90, 180 or 270 degrees, each
                                  equally often. Square images only.
        ``rotate``        20      Rotation by -m to m degrees, counterclockwise.
        ``shear``         10      Horizontal shear by an angle of -m to m degrees.
        ``zoom``          0.1     Magnification by 1 - m to 1 + m.
        ``shift``         0.05    Shift by -m to m times the side, on each axis.
        ``blur``          1       Gaussian blur with a standard deviation of 0 to m pixels.
        ``gamma``         0.3     Grey levels to the power of exp(-m) to exp(m).
        ``contrast``      0.3     Deviations from the image's mean times 1 - m to 1 + m.
        ``brightness``    0.2     -m to m times the range of grey levels is added.
        ``erase``         0.2     In half of the images a rectangle of 0.02 to m times the area,
                                  sides 0.55 to 1.83 times those of a square, gets the mean.
        ``noise``         0.03    Gaussian noise, its standard deviation 0 to m times the range
                                  of grey levels.
        ``light``                 Preset: flip, rotate 10, shift 0.05, zoom 0.05, brightness
                                  0.1, contrast 0.1.
        ``strong``                Preset: flip, rotate 20, shear 5, shift 0.1, zoom 0.2,
                                  brightness 0.2, contrast 0.5, gamma 0.5, noise 0.05,
                                  erase 0.2.
        ================= ======= =======================================================

    bounded : bool, default=True
        Whether grey levels are within [0, 1]. The range of grey levels is then 1 and the result
        is cut to it; otherwise the range is each image's own, and nothing is cut.

    fill : {"edge", "reflect"} or float, default="edge"
        What comes into view beyond the border: the nearest pixel, the mirrored image, or a grey
        level, which then also fills erased rectangles.

    Returns
    -------
    callable or None
        Function of a batch, a Tensor of shape (n, c, h, w), that returns one of the same shape,
        dtype and device; None if there is nothing to do.

    Raises
    ------
    ValueError
        If a name is unknown, with the nearest ones, or a magnitude is out of its range.

    Notes
    -----
    In the literature: random horizontal flips alone [1]_ are ``"flip"``; flips, brightening and
    rotations by 20 degrees are ``{"flip": 0.5, "brightness": (0, 0.2), "rotate": 20}``; quarter
    turns, flips and a little Gaussian noise are ``("quarter_turns", "flip", "noise")``. Random
    erasing follows [2]_, with the mean in place of noise.

    References
    ----------
    .. [1] Rajpurkar, P., et al. (2017). CheXNet: Radiologist-level pneumonia detection on chest
       X-rays with deep learning. arXiv:1711.05225.

    .. [2] Zhong, Z., et al. (2020). Random erasing data augmentation. AAAI 34, 13001-13008.

    Examples
    --------
    >>> import torch
    >>> from sklearn_cxr.neural_network._augmentation import make_augmentation
    >>> augment = make_augmentation({"flip": 0.5, "rotate": 10, "noise": 0.02})
    >>> augment(torch.rand(8, 1, 64, 64)).shape
    torch.Size([8, 1, 64, 64])
    """
    if not (isinstance(fill, str) and fill in FILLS) and not (
        isinstance(fill, Real) and math.isfinite(fill)
    ):
        raise ValueError(
            f"augmentation got fill={fill!r}; expected 'edge', 'reflect' or a grey level."
        )
    if spec is None:
        return None
    if callable(spec):
        module = type(spec).__module__
        return _Applied(spec, per_image=module.startswith("torchvision.transforms"))
    if not isinstance(spec, (str, dict, tuple, list, set, frozenset)):
        raise ValueError(
            f"augmentation got {spec!r}; expected a name, a sequence of names, a dict of names "
            f"and magnitudes, a callable or None. Names: {', '.join(augmentation_names())}."
        )
    ranges = _parse(spec)
    return Augmentation(ranges, bounded=bounded, fill=fill) if ranges else None


def tta_views(images, tta):
    """Yield the views of a batch whose predictions test-time augmentation averages.

    Parameters
    ----------
    images : Tensor of shape (n, c, h, w)
        A batch.

    tta : {"flip", "shift"}, sequence of them or None
        "flip": the images, and left and right exchanged. "shift": the images, and moved left,
        right, up and down by 1/32 of the side (one pixel at least), the edge repeated. Both: the
        five of "shift", each also flipped, hence 10 views. None: the images.

    Yields
    ------
    Tensor of shape (n, c, h, w)
        One view; the first is `images` itself.

    Raises
    ------
    ValueError
        If a name is unknown.

    Examples
    --------
    >>> import torch
    >>> from sklearn_cxr.neural_network._augmentation import tta_views
    >>> [view.flatten().tolist() for view in tta_views(torch.tensor([[[[1., 2.]]]]), "flip")]
    [[1.0, 2.0], [2.0, 1.0]]
    """
    names = [] if tta is None else [tta] if isinstance(tta, str) else list(tta)
    for name in names:
        if name not in _TTA:
            raise _unknown(name, _TTA, "tta")
    flips = (False, True) if "flip" in names else (False,)
    moves = [(0, 0)]
    if "shift" in names:
        dy, dx = (max(1, round(side / _TTA_SHARE)) for side in images.shape[2:])
        moves += [(0, -dx), (0, dx), (-dy, 0), (dy, 0)]
    for flip, move in product(flips, moves):
        view = images.flip(-1) if flip else images
        yield _shift_pixels(view, *move)


def _shift_pixels(x, dy, dx):
    for dim, step in ((2, dy), (3, dx)):
        if step:
            place = torch.arange(x.shape[dim], device=x.device) - step
            x = x.index_select(dim, place.clamp_(0, x.shape[dim] - 1))
    return x
