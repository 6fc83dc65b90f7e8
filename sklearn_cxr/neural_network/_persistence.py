"""A fitted network as arrays for a pickle, and the network again from them."""

import numpy as np
import torch

from sklearn_cxr import __version__
from sklearn_cxr.exceptions import VersionMismatchWarning
from sklearn_cxr.neural_network._device import device_or_cpu, resolve_device
from sklearn_cxr.neural_network._loss import CrossEntropy
from sklearn_cxr.neural_network._skorch import Net
from sklearn_cxr.neural_network._state import (
    given,
    load_module_state,
    module_state,
    on_host,
    rebuilding,
    taken,
    to_arrays,
    to_tensors,
    without_given,
)
from sklearn_cxr.utils._warn import warn

_OWN = ("_weights", "_optimizer", "_versions")
# Parameters that may hold a module of the user's, and what its weights are called in the network.
_GIVEN = {"architecture": "body.", "backbone": "body.backbone.body."}


def versions():
    """Versions that a stored network depends on."""
    # torch's own version is text of a class of torch's.
    return {"sklearn-cxr": __version__, "torch": str(torch.__version__)}


def pack(estimator, state):
    """Replace the net in an estimator's state by arrays.

    Parameters
    ----------
    estimator : BaseNetworkClassifier
        Fitted or not.

    state : dict
        Its attributes.

    Returns
    -------
    dict
        The attributes without the net, but with its weights; with the optimiser's state where
        ``warm_start`` says that the fit will go on.
    """
    state = dict(state)
    net = state.pop("net_", None)
    parameters = {name: prefix for name, prefix in _GIVEN.items() if name in state}
    if net is None:
        return state | {name: given(on_host(state[name])) for name in parameters}
    state["_weights"] = module_state(net.module_)
    for name, prefix in parameters.items():
        host = on_host(state["_spec"][name])
        fitted = given(host)
        # One object, which is stored once, unless the parameter was set anew after the fit.
        same = state[name] is state["_spec"][name]
        state[name] = fitted if same else given(on_host(state[name]))
        state["_spec"] = {**state["_spec"], name: fitted}
        state["_weights"] = without_given(state["_weights"], host, prefix)
    state["_versions"] = versions()
    if estimator.warm_start and net.stored_optimizer is not None:
        state["_optimizer"] = to_arrays(net.stored_optimizer)
    return state


def unpack(state):
    """Attributes of an estimator, less what only stands in its stored form."""
    state = {name: taken(value) for name, value in state.items() if name not in _OWN}
    if "_spec" in state:
        state["_spec"] = {name: taken(value) for name, value in state["_spec"].items()}
    return state


def restore(estimator, state):
    """Build the net anew and give it the stored weights.

    Parameters
    ----------
    estimator : BaseNetworkClassifier
        Has its attributes already; gets ``net_`` where `state` holds weights.

    state : dict
        What `pack` returned.

    Warns
    -----
    VersionMismatchWarning
        If the versions of this library or of torch are others than those of the fit.

    Raises
    ------
    WeightsError
        If the weights are not those of the network that is built.
    """
    if "_weights" not in state:
        return
    _compare_versions(estimator, state["_versions"])
    with rebuilding():
        module = estimator._build().to(memory_format=torch.channels_last)
        load_module_state(module, state["_weights"])
        net = Net(
            module,
            CrossEntropy(estimator._exclusive, estimator.label_smoothing),
            callbacks=estimator.callbacks,
        ).initialize()
    # Not to the GPU yet: a server may load a model before it forks its workers.
    net.waits = True
    net.stored_optimizer = to_tensors(state.get("_optimizer"))
    for row in range(estimator.n_iter_):
        net.history.new_epoch()
        for name, values in estimator._history.items():
            # An epoch without images held out has no such entry.
            if not np.isnan(values[row]):
                net.history.record(name, float(values[row]))
    estimator.net_ = net


def settle(estimator):
    """Bring a net that was loaded to its device when it is first needed there.

    Parameters
    ----------
    estimator : BaseNetworkClassifier
        Fitted.

    Returns
    -------
    torch.device
        Where the net is.

    Warns
    -----
    FallbackWarning
        If the device of the fit is not there.
    """
    net, asked = estimator.net_, str(estimator.device)
    if getattr(net, "waits", False):
        device = device_or_cpu(estimator)
    elif getattr(net, "asked", asked) != asked:
        # Another was set since the fit, or since the last prediction.
        device = resolve_device(estimator.device)
    else:
        return torch.device(net.device)
    net.module_.to(device)
    net.device, net.waits, net.asked = str(device), False, asked
    net.forget_predictor()
    return device


def _compare_versions(estimator, then):
    now = versions()
    # The build ("+cpu", "+cu128") says where torch runs, not what it computes.
    changed = [
        f"{name} {then[name]} (now {now[name]})"
        for name in now
        if then[name].partition("+")[0] != now[name].partition("+")[0]
    ]
    if changed:
        warn(
            f"This {type(estimator).__name__} was fitted with {' and '.join(changed)}. Its "
            "answers may differ; fit it again, or install the versions of the fit.",
            VersionMismatchWarning,
        )
