"""Checks of the parameters that the networks share."""

from numbers import Integral, Real

import torch

from sklearn_cxr.neural_network._optim import OPTIMIZERS
from sklearn_cxr.utils._sklearn import Interval, StrOptions


def is_size(value):
    """Tell whether a value counts something: an integer of 1 or more."""
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= 1


def check_widths(name, value):
    """Check the widths of layers.

    Parameters
    ----------
    name : str
        Parameter, for messages.

    value : int or sequence of int
        What was given.

    Returns
    -------
    tuple of int
        The widths.

    Raises
    ------
    ValueError
        If one is no integer of 1 or more.
    """
    widths = (value,) if isinstance(value, Integral) else value
    try:
        widths = tuple(widths)
    except TypeError:
        widths = None
    if widths is None or not all(is_size(width) for width in widths):
        raise ValueError(f"Got {name}={value!r}; expected a sequence of integers of 1 or more.")
    return tuple(int(width) for width in widths)


TRAINING_CONSTRAINTS = {
    "optimizer": [StrOptions(set(OPTIMIZERS)), type],
    "lr": [Interval(Real, 0, None, closed="neither")],
    "weight_decay": [Interval(Real, 0, None, closed="left")],
    "lr_schedule": [StrOptions({"plateau", "onecycle", "cosine"}), None],
    "max_epochs": [Interval(Integral, 1, None, closed="left")],
    "batch_size": [Interval(Integral, 1, None, closed="left")],
    "class_weight": [dict, list, StrOptions({"balanced"}), None],
    "label_smoothing": [Interval(Real, 0, 1, closed="left")],
    "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
    "weight_averaging": [Interval(Real, 0, 1, closed="left"), None],
    "early_stopping": ["boolean"],
    "patience": [Interval(Integral, 1, None, closed="left")],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither"), None],
    "warm_start": ["boolean"],
    "device": [str, torch.device],
    "precision": [StrOptions({"auto", "float32", "bfloat16", "float64"})],
    "compile": ["boolean"],
    "callbacks": [list, tuple, None],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}
IMAGE_CONSTRAINTS = {
    "augment": [str, tuple, list, dict, callable, None],
    "mixup": [Interval(Real, 0, None, closed="left")],
    "tta": [str, tuple, list, None],
    "image_shape": ["array-like", None],
}
