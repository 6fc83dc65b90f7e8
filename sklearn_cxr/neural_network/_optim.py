"""Optimisers, schedules of the learning rate and the average of the weights, by name."""

import contextlib

import torch

# Names as the field uses them; momentum of SGD is the usual 0.9.
OPTIMIZERS = {
    "adam": (torch.optim.Adam, {}),
    "amsgrad": (torch.optim.Adam, {"amsgrad": True}),
    "adamw": (torch.optim.AdamW, {}),
    "rmsprop": (torch.optim.RMSprop, {}),
    "sgd": (torch.optim.SGD, {"momentum": 0.9}),
}
_FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)


def make_optimizer(optimizer, groups, *, weight_decay, device):
    """Build an optimiser of parameter groups.

    Parameters
    ----------
    optimizer : str or type
        A name of `OPTIMIZERS` or a subclass of :class:`torch.optim.Optimizer`.

    groups : list of dict
        ``params`` and ``lr`` of each group.

    weight_decay : float
        Of the optimiser; a class that takes none gets none where it is 0.

    device : torch.device
        Where the parameters are.

    Returns
    -------
    torch.optim.Optimizer
        The optimiser.
    """
    cls, options = OPTIMIZERS[optimizer] if isinstance(optimizer, str) else (optimizer, {})
    if weight_decay or isinstance(optimizer, str):
        options = {**options, "weight_decay": weight_decay}
    if isinstance(optimizer, str) and cls in _FUSED and device.type in ("cpu", "cuda"):
        options["fused"] = True  # one pass over all weights instead of one for each tensor
    return cls([group for group in groups if group["params"]], **options)


def named_state(optimizer, module):
    """State of an optimiser by the names of the parameters, so that it outlives their order.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Of parameters of `module`.

    module : nn.Module
        Names them.

    Returns
    -------
    dict of str to dict
        State of each parameter that has been stepped.
    """
    state = optimizer.state_dict()["state"]
    return {name: state[i] for i, name in _numbered(optimizer, module) if i in state}


def load_state(optimizer, module, state):
    """Give an optimiser what `named_state` gave; parameters that are not in it begin anew.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Keeps its own rates.

    module : nn.Module
        Names the parameters.

    state : dict of str to dict
        State of parameters.
    """
    numbers = {name: i for i, name in _numbered(optimizer, module)}
    known = {numbers[name]: value for name, value in state.items() if name in numbers}
    optimizer.load_state_dict({**optimizer.state_dict(), "state": known})


def _numbered(optimizer, module):
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    order = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return [(i, names[id(parameter)]) for i, parameter in enumerate(order)]


class Schedule:
    """The learning rate over the steps of a fit.

    Parameters
    ----------
    name : {"plateau", "onecycle", "cosine", None}
        "plateau" divides by ten after an epoch without a lower validation loss, "onecycle" rises
        to the rate over the first fifth and falls to nothing, "cosine" falls to nothing.

    optimizer : torch.optim.Optimizer
        Its rates are the highest.

    n_steps : int
        Optimiser steps in the whole fit.
    """

    def __init__(self, name, optimizer, n_steps):
        lr_scheduler = torch.optim.lr_scheduler
        self._by_step = self._by_epoch = None
        if name == "plateau":
            self._by_epoch = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=0)
        elif name == "onecycle":
            highest = [group["lr"] for group in optimizer.param_groups]
            self._by_step = lr_scheduler.OneCycleLR(
                optimizer, highest, total_steps=n_steps + 1, pct_start=0.2
            )
        elif name == "cosine":
            self._by_step = lr_scheduler.CosineAnnealingLR(optimizer, n_steps)

    def after_step(self):
        """Go on after a step of the optimiser."""
        if self._by_step is not None:
            self._by_step.step()

    def after_epoch(self, loss):
        """Go on after an epoch with that validation loss."""
        if self._by_epoch is not None:
            self._by_epoch.step(loss)


class WeightAverage:
    """Exponential moving average of a module's weights and statistics.

    Parameters
    ----------
    module : nn.Module
        What is trained.

    decay : float
        Share of the average that is kept at each step, in [0, 1). The first steps keep less, so
        that the start is soon forgotten.
    """

    def __init__(self, module, decay):
        self._module, self._decay, self._steps = module, decay, 0
        self._average = [value.clone() for value in self._floats()]

    def _floats(self):
        return [v.detach() for v in self._module.state_dict().values() if v.is_floating_point()]

    @torch.no_grad()
    def update(self):
        """Take the module's present weights in."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        torch._foreach_lerp_(self._average, self._floats(), 1 - decay)

    @contextlib.contextmanager
    def in_place(self):
        """Give the module the average for as long as the block runs."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    @torch.no_grad()
    def swap(self):
        """Exchange the module's weights and the average."""
        for own, average in zip(self._floats(), self._average, strict=True):
            kept = own.clone()
            own.copy_(average)
            average.copy_(kept)
