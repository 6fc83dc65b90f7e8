"""Optimisers, schedules of the learning rate and the average of the weights, by name."""

import contextlib
import hashlib
import inspect

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
    check_optimizer(optimizer, weight_decay)
    cls, options = OPTIMIZERS[optimizer] if isinstance(optimizer, str) else (optimizer, {})
    if weight_decay or isinstance(optimizer, str):
        options = {**options, "weight_decay": weight_decay}
    if isinstance(optimizer, str) and cls in _FUSED and device.type in ("cpu", "cuda"):
        options["fused"] = True  # one pass over all weights instead of one for each tensor
    return cls([group for group in groups if group["params"]], **options)


def check_optimizer(optimizer, weight_decay):
    """Refuse a class that a fit cannot use.

    Parameters
    ----------
    optimizer : str or type
        See `make_optimizer`.

    weight_decay : float
        See `make_optimizer`.

    Raises
    ------
    ValueError
        If the class is no optimiser, needs a closure, or takes no decay where there is one.
    """
    if isinstance(optimizer, str):
        return
    name = optimizer.__name__
    if not issubclass(optimizer, torch.optim.Optimizer):
        raise ValueError(
            f"optimizer={name} is no subclass of torch.optim.Optimizer. Give one, or one of "
            f"{', '.join(map(repr, OPTIMIZERS))}."
        )
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ValueError(
            f"optimizer={name} evaluates the loss several times in a step, through a closure; "
            "the networks are trained with one evaluation for each batch. Give an optimiser "
            "whose step needs no closure, such as 'adam'."
        )
    taken = inspect.signature(optimizer).parameters.values()
    takes_decay = any(p.name == "weight_decay" or p.kind is p.VAR_KEYWORD for p in taken)
    if weight_decay and not takes_decay:
        raise ValueError(
            f"optimizer={name} takes no weight decay, got weight_decay={weight_decay:g}. Set "
            "weight_decay=0, or give another optimiser."
        )


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
    parameters = dict(module.named_parameters())
    known = {
        numbers[name]: {k: _laid_out_like(parameters[name], v) for k, v in values.items()}
        for name, values in state.items()
        if name in numbers
    }
    optimizer.load_state_dict({**optimizer.state_dict(), "state": known})


def _laid_out_like(parameter, value):
    """Order a moment in memory as its parameter is: fused steps walk both as they lie."""
    if not isinstance(value, torch.Tensor) or value.shape != parameter.shape:
        return value
    laid = torch.empty_like(parameter, dtype=value.dtype, memory_format=torch.preserve_format)
    return laid.copy_(value)


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
            self._by_epoch = lr_scheduler.ReduceLROnPlateau(
                optimizer, factor=0.1, patience=0, threshold=0
            )
        elif name == "onecycle":
            highest = [group["lr"] for group in optimizer.param_groups]
            self._by_step = lr_scheduler.OneCycleLR(
                optimizer,
                highest,
                # Of fewer than ten steps torch cannot take a fifth.
                total_steps=max(n_steps + 1, 10),
                pct_start=0.2,
                # As the policy was published, against the rate; but only Adam's first moment, on
                # which the defaults were measured. A momentum stays what it was set to.
                cycle_momentum="betas" in optimizer.defaults,
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
        self._decay, self._steps, self._left = decay, 0, None
        # What is infinite from the start, such as a mask, has no average.
        left_alone = not_finite(module)
        named = {n: p for n, p in _float_places(module).items() if n not in left_alone}
        self._names, self._places = list(named), list(named.values())
        self._average = [value.clone() for value in self._floats()]

    def _floats(self):
        return [table[name].detach() for table, name in self._places]

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

    def leave_in_place(self):
        """Give the module the average for good, at the end of a fit."""
        self.swap()
        self._left = self._digest()

    def _digest(self):
        """Hash the module's weights, the same in single and in double precision."""
        digest = hashlib.blake2b(digest_size=16)
        for value in self._floats():
            plain = value.to("cpu", torch.float32).contiguous().reshape(-1)
            digest.update(plain.view(torch.uint8).numpy())
        return digest.hexdigest()

    def raw(self):
        """Give what is needed to go on, once the average was left in the module.

        Returns
        -------
        dict
            ``steps``; ``left``, which tells the average; and ``weights``: those of the last step
            by name.
        """
        return {
            "steps": self._steps,
            "left": self._left,
            "weights": dict(zip(self._names, self._average, strict=True)),
        }

    @torch.no_grad()
    def go_on(self, kept):
        """Train on from the last step of a fit before, whose average the module has.

        Parameters
        ----------
        kept : dict
            What `raw` gave; nothing happens where other parts were trained then, or where the
            module was given other weights since, as by a checkpoint.
        """
        if kept["weights"].keys() != set(self._names) or kept.get("left") != self._digest():
            return
        self._steps = kept["steps"]
        for name, own in zip(self._names, self._floats(), strict=True):
            own.copy_(kept["weights"][name])


def not_finite(module):
    """Names of the tensors of a module's state that are not finite all through."""
    flags = {
        name: torch.isfinite(table[key].detach()).all()
        for name, (table, key) in _float_places(module).items()
    }
    # One wait for the device, and not one for each tensor.
    finite = torch.stack(list(flags.values())).tolist() if flags else []
    return {name for name, fine in zip(flags, finite, strict=True) if not fine}


def diverged(what, epoch):
    """Build the error of a fit that has diverged, seen by something in, or after, an epoch."""
    return ValueError(
        f"The {what} epoch {epoch}: the fit has diverged. Lower lr, or set clip_norm."
    )


def _float_places(module):
    """Where the floating tensors of a module's state stand, by name, each of them once.

    The module is walked over once only; a buffer that is put in place of another is met.
    """
    places = {}
    for prefix, part in module.named_modules():
        kept = [name for name in part._buffers if name not in part._non_persistent_buffers_set]
        for table, names in ((part._parameters, part._parameters), (part._buffers, kept)):
            for name in names:
                value = table[name]
                if value is not None and value.is_floating_point():
                    full = f"{prefix}.{name}" if prefix else name
                    places.setdefault(id(value), (full, (table, name)))
    return dict(places.values())
