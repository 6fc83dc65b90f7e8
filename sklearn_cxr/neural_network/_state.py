"""Weights as arrays, which joblib and skops can store, and back."""

import numpy as np
import torch


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
    return {name: _to_array(tensor) for name, tensor in module.state_dict().items()}


def load_module_state(module, state):
    """Put arrays that `module_state` gave back into a module of the same structure.

    Parameters
    ----------
    module : nn.Module
        Changed in place.

    state : dict of str to ndarray
        All of its parameters and buffers.

    Returns
    -------
    nn.Module
        `module`.

    Raises
    ------
    RuntimeError
        If a name is missing or unknown, or a shape differs.
    """
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in state.items()}
    own = module.state_dict()
    changed = [name for name, t in tensors.items() if name in own and own[name].dtype != t.dtype]
    for name in changed:
        tensors[name] = tensors[name].to(own[name].dtype)
    module.load_state_dict(tensors, strict=True)
    return module


def _to_array(tensor):
    tensor = tensor.detach().to("cpu")
    if tensor.dtype in (torch.bfloat16, torch.float16):
        tensor = tensor.float()
    # A copy: the module may go on training.
    return tensor.numpy().copy()
