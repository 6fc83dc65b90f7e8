"""Parameters that are built into a network, held to those of now where a fit goes on."""

import functools

import numpy as np
from torch import nn

from sklearn_cxr.neural_network._state import to_arrays


def check_same_structure(estimator, rows):
    """Raise where a parameter of the network has changed since the fit that is gone on from.

    Parameters
    ----------
    estimator : BaseNetworkClassifier
        Fitted.

    rows : ndarray or row-indexed view
        Validated images or features of the present fit.

    Raises
    ------
    ValueError
        If one has, since it would change nothing.
    """
    now = estimator._structure()
    for name, was in estimator._spec.items():
        # Branches that are there already may well count for nothing.
        if name == "auxiliary" and was:
            continue
        if name in now and not _same(was, now[name]):
            called = "auxiliary_weight" if name == "auxiliary" else name
            _refuse(estimator, called, _in_words(was), _in_words(now[name]))
    levels = estimator._levels_of_now(rows)
    if levels is not None and not _same(levels, estimator.levels_):
        _refuse(estimator, "value_range", tuple(estimator.levels_), tuple(levels))


def _refuse(estimator, name, was, now):
    raise ValueError(
        f"{type(estimator).__name__} goes on from a fit with another {name} ({was}, now {now}), "
        "which is built into the network. Set it back, or start anew: clone the estimator, or "
        "call fit with warm_start=False."
    )


def _same(one, other):
    if one is other:
        return True
    if isinstance(one, functools.partial) and isinstance(other, functools.partial):
        # They are not equal to their own copies.
        return _same(*((part.func, part.args, part.keywords) for part in (one, other)))
    if isinstance(one, nn.Module) or callable(one) or callable(other):
        return one == other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return np.array_equal(to_arrays(one), to_arrays(other))


def _in_words(value):
    # A whole network printed would hide what is said of it.
    return f"a {type(value).__name__}" if isinstance(value, nn.Module) else repr(value)
