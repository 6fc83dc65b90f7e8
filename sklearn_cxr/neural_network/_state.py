"""Weights as arrays, which joblib and skops can store, and back."""

import contextlib
import copy
import threading
from itertools import chain

import numpy as np
import torch
from torch import nn

from sklearn_cxr.exceptions import WeightsError
from sklearn_cxr.neural_network._seeds import OwnDraws

_NAMED = 5
# Of the number of threads, which belongs to the process; nobody holds it for long.
_LOCK = threading.RLock()


@contextlib.contextmanager
def rebuilding():
    """Build a network within the block, for weights that are stored.

    Whatever it draws is overwritten, so torch's generators are left alone, and a fit in another
    thread, which needs them for itself, is not waited for. It computes in one thread: a process
    in which torch has begun others cannot be forked, and a server may load a model before it
    forks its workers.
    """
    with _LOCK, OwnDraws():
        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(1)
            yield
        finally:
            torch.set_num_threads(threads)


def on_host(backbone):
    """Backbone of the user's as it can be stored: a module on a GPU is copied to the host.

    Parameters
    ----------
    backbone : nn.Module or object
        What is no module stays as it is.

    Returns
    -------
    nn.Module or object
        `backbone` itself where it is on the host.
    """
    if not isinstance(backbone, nn.Module):
        return backbone
    tensors = chain(backbone.parameters(), backbone.buffers())
    if all(tensor.device.type == "cpu" for tensor in tensors):
        return backbone
    return copy.deepcopy(backbone).to("cpu")


class Given:
    """A module of the user's as part of a stored state: pickled as it is, refused to skops.

    Parameters
    ----------
    module : nn.Module
        The module, on the host.
    """

    def __init__(self, module):
        self.module = module

    def __reduce__(self):
        return _as_it_is, (self.module,)

    def __getstate__(self):
        # Only skops asks for it. It would write a file that it cannot read.
        raise TypeError(
            f"A module of class {type(self.module).__name__} was given, which skops cannot "
            "store. Give its class or a function that makes it, with weights=PATH where it takes "
            "them from a file, or store with joblib."
        )


def _as_it_is(module):
    return module


def given(value):
    """Wrap a module for a stored state; anything else stays as it is."""
    return Given(value) if isinstance(value, nn.Module) else value


def taken(value):
    """Unwrap what `given` gave."""
    return value.module if isinstance(value, Given) else value


def module_state(module):
    """Parameters and buffers of a module as arrays on the host.

    Parameters
    ----------
    module : nn.Module
        The module, on any device.

    Returns
    -------
    dict of str to ndarray
        By name, in the order of ``state_dict``. bfloat16 and float16 become float32.
    """
    return to_arrays(dict(module.state_dict()))


def without_given(state, given, prefix):
    """Leave out of a network's arrays those that the user's module in it has itself.

    The module is stored as well, and what was not trained need not be there twice.

    Parameters
    ----------
    state : dict of str to ndarray
        What `module_state` gave for the network.

    given : nn.Module or object
        The user's module, on the host; what is no module has nothing.

    prefix : str
        What stands before the module's own names in those of the network.

    Returns
    -------
    dict of str to ndarray or None
        None stands for what the module has.
    """
    if not isinstance(given, nn.Module):
        return state
    kept = {prefix + name: array for name, array in module_state(given).items()}
    same = {
        name
        for name in kept.keys() & state.keys()
        if kept[name].dtype == state[name].dtype and np.array_equal(kept[name], state[name])
    }
    return {name: None if name in same else array for name, array in state.items()}


def load_module_state(module, state):
    """Put arrays that `module_state` gave back into a module of the same structure.

    Parameters
    ----------
    module : nn.Module
        Changed in place, all of it or nothing. What is stored in float64 becomes float64.

    state : dict of str to ndarray or None
        All of its parameters and buffers; None for what it has already (see `without_given`).

    Returns
    -------
    nn.Module
        `module`.

    Raises
    ------
    WeightsError
        If a name is missing or unknown, or a shape differs.
    """
    own = module.state_dict()
    state = {n: own.get(n) if array is None else array for n, array in state.items()}
    _check_fits(own, state)
    for name, tensor in module.state_dict(keep_vars=True).items():
        if tensor.dtype == torch.float32 and np.asarray(state[name]).dtype == np.float64:
            tensor.data = tensor.data.to(torch.float64)
    module.load_state_dict(to_tensors(state), strict=True)
    return module


def _check_fits(own, state):
    differ = [
        f"{name} (stored {np.shape(state[name])}, network {tuple(own[name].shape)})"
        for name in own
        if name in state and np.shape(state[name]) != tuple(own[name].shape)
    ]
    found = {
        "missing": [name for name in own if name not in state],
        "unknown to the network": [name for name in state if name not in own],
        "of another shape": differ,
    }
    if any(found.values()):
        report = "; ".join(f"{what}: {_some(names)}" for what, names in found.items() if names)
        raise WeightsError(
            f"The stored weights are not those of the network that is built here: {len(state)} "
            f"tensors are stored, the network has {len(own)}. {report}. Nothing was loaded. "
            "Install the versions that it was fitted with, or, where the network is one of your "
            "own, use its code as it was then."
        )


def _some(names):
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def to_arrays(value):
    """Turn the tensors of nested dicts and lists into arrays on the host.

    Parameters
    ----------
    value : Tensor, dict, list, tuple or object
        What is none of the first four stays as it is.

    Returns
    -------
    object
        Of the same structure, with lists for tuples.
    """
    if isinstance(value, torch.Tensor):
        tensor = value.detach().to("cpu")
        if tensor.dtype in (torch.bfloat16, torch.float16):
            tensor = tensor.float()
        # A copy in the usual order: the module may go on training, and lies channels-last.
        return tensor.numpy().copy(order="C")
    if isinstance(value, dict):
        return {key: to_arrays(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [to_arrays(part) for part in value]
    return value


def to_tensors(value):
    """Turn the arrays of nested dicts and lists into tensors.

    Parameters
    ----------
    value : ndarray, dict, list or object
        What `to_arrays` gave.

    Returns
    -------
    object
        Of the same structure.
    """
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.array(value))
    if isinstance(value, dict):
        return {key: to_tensors(part) for key, part in value.items()}
    if isinstance(value, list):
        return [to_tensors(part) for part in value]
    return value
