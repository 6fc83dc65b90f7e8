"""The layer of a network whose map is looked at, whatever the form of its output.

Imports torch, so it is itself imported at first use.
"""

import difflib
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

# Class tokens and registers; a sequence with more beside its grid is taken for something else.
_MOST_PREFIX = 16
# Cells by which the sides of a map may be off.
_ROUNDING = 2.0


@dataclass(frozen=True)
class Place:
    """A layer that ran, and the form of what it gave for one film.

    Parameters
    ----------
    name : str
        Name within the network.

    kind : {"channels first", "channels last", "tokens"}
        Order of the dimensions.

    grid : tuple of (int, int)
        Rows and columns of the map.

    prefix : int, default=0
        Tokens before those of the grid.
    """

    name: str
    kind: str
    grid: tuple
    prefix: int = 0

    def split(self, output):
        """Part an output into maps (n, channels, rows, columns) and what puts them back."""
        if self.kind == "channels first":
            return output, lambda maps: maps
        if self.kind == "channels last":
            return output.permute(0, 3, 1, 2), lambda maps: maps.permute(0, 2, 3, 1)
        before, tokens = output[:, : self.prefix], output[:, self.prefix :]
        maps = tokens.transpose(1, 2).unflatten(2, self.grid)

        def join(maps):
            return torch.cat([before, maps.flatten(2).transpose(1, 2)], dim=1)

        return maps, join


def find_place(model, layer, *, caller):
    """Find the layer that a map is made of.

    Parameters
    ----------
    model : Model
        The network.

    layer : str or None
        Name of a submodule; None means the last map that the scores depend on.

    caller : str
        What the user called.

    Returns
    -------
    Place
        The layer.

    Raises
    ------
    ValueError
        If there is no such layer, it does not run, or gives no map.
    """
    root = model.root
    if root is None:
        raise ValueError(
            f"{caller} found no map of activations: the model has dense layers on pixels only. "
            "Use method='saliency', 'integrated_gradients' or 'occlusion'."
        )
    modules = {name: module for name, module in root.named_modules() if name}
    if layer is not None and layer not in modules:
        near = difflib.get_close_matches(layer, modules, n=3, cutoff=0.4)
        top = [name for name in modules if "." not in name]
        raise ValueError(
            f"{caller} got layer={layer!r}, which the network does not have. "
            + (f"Near it are {', '.join(near)}. " if near else "")
            + f"Expected one of {len(modules)} names; at the top are {', '.join(top)}."
        )
    unit = model.unit(torch.zeros(1, dtype=torch.int64).numpy())
    with torch.no_grad():
        outputs = _outputs(model, modules, unit)
    places = _places(root, outputs, unit.shape[2:])
    if layer is not None:
        return _named(layer, places, outputs, caller)
    if not places:
        raise ValueError(
            f"{caller} found no layer that gives a map of activations. Use method='saliency', "
            "'integrated_gradients' or 'occlusion'."
        )
    if places[-1].kind == "tokens":
        return _last_that_counts(model, modules, unit, places)
    # Where later maps have shrunk to one pixel, branches of their blocks are the last in order.
    trunk = (place for place in reversed(places) if _is_trunk(model, modules[place.name], unit))
    return next(trunk, places[-1])


def _is_trunk(model, module, unit):
    """Tell whether all that the scores know of a film has passed a layer."""
    handle = module.register_forward_hook(lambda _, inputs, output: _detached(output))
    try:
        with torch.enable_grad():
            return not model(unit.clone().requires_grad_(True)).requires_grad
    finally:
        handle.remove()


def _detached(output):
    if isinstance(output, torch.Tensor):
        return output.detach()
    return type(output)([part.detach() for part in output])


def _outputs(model, modules, unit):
    """Run one film; return name and output of every layer, in the order they end in."""
    found, handles = {}, []
    for name, module in modules.items():

        def note(_, inputs, output, name=name):
            found.pop(name, None)
            found[name] = _tensor_of(output)

        handles.append(module.register_forward_hook(note))
    try:
        found[""] = model(unit)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _tensor_of(output):
    if isinstance(output, tuple | list) and output:
        output = output[0]
    return output if isinstance(output, torch.Tensor) else None


def _places(root, outputs, size):
    """Tell which outputs are maps, and of which form."""
    places, grid = [], None
    for name, output in outputs.items():
        if not name or output is None or not output.is_floating_point() or len(output) != 1:
            continue
        if output.ndim == 4:
            place = _of_map(name, output.shape, size)
            if place is not None and place.grid[0] * place.grid[1] > 1:
                grid = place.grid
                places.append(place)
        elif output.ndim == 3 and grid is not None:
            prefix = output.shape[1] - grid[0] * grid[1]
            if 0 <= prefix <= _MOST_PREFIX:
                places.append(Place(name, "tokens", grid, prefix))
    return places


def _of_map(name, shape, size):
    """Tell where the channels are: a map has the side ratio of the film, up to rounding."""
    first, last = (
        abs(rows * size[1] - columns * size[0]) / max(size)
        for rows, columns in (shape[2:], shape[1:3])
    )
    if min(first, last) > _ROUNDING:
        return None
    if last < first:
        return Place(name, "channels last", tuple(shape[1:3]))
    return Place(name, "channels first", tuple(shape[2:]))


def _named(layer, places, outputs, caller):
    for place in places:
        if place.name == layer:
            return place
    if layer not in outputs:
        raise ValueError(
            f"{caller} got layer={layer!r}, which does not run when the network predicts. Name "
            "a layer that every film passes."
        )
    output = outputs[layer]
    got = "no tensor" if output is None else f"a tensor of shape {tuple(output.shape)}"
    raise ValueError(
        f"{caller} got layer={layer!r}, which gives {got} for one film: no map. Name a "
        "convolution, a stage, or a block of tokens."
    )


def _last_that_counts(model, modules, unit, places):
    """Return the last layer of tokens that the scores depend on beyond its class token."""
    with torch.enable_grad():
        outputs = _outputs(model, modules, unit.clone().requires_grad_(True))
        named = [place for place in places if outputs[place.name].requires_grad]
        gradients = torch.autograd.grad(
            outputs[""].square().sum(),
            [outputs[place.name] for place in named],
            allow_unused=True,
        )
    for place, gradient in zip(reversed(named), reversed(gradients), strict=True):
        if gradient is not None and place.split(gradient)[0].abs().max() > 0:
            return place
    return places[-1]


class _Probe(nn.Module):
    """Stands behind a layer; its output is the layer's map, channels first."""

    def forward(self, maps):
        return maps


@contextmanager
def probe(model, place):
    """Put a module behind a layer that gives its map as (n, channels, rows, columns).

    Parameters
    ----------
    model : Model
        The network.

    place : Place
        The layer.

    Yields
    ------
    nn.Module
        The module; hooks on it see and may replace the map.
    """
    module = _Probe()

    def pass_through(_, inputs, output):
        tensor = _tensor_of(output)
        maps, join = place.split(tensor)
        tensor = join(module(maps))
        if isinstance(output, torch.Tensor):
            return tensor
        return type(output)([tensor, *output[1:]])

    handle = model.root.get_submodule(place.name).register_forward_hook(pass_through)
    try:
        yield module
    finally:
        handle.remove()
