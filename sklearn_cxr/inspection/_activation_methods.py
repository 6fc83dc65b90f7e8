"""The methods that make maps, through captum where it has them.

Imports torch, so it is itself imported at first use.
"""

import numpy as np
import torch
from tqdm import tqdm

from sklearn_cxr.inspection._activation_layers import find_place, probe
from sklearn_cxr.neural_network._inference import batches_in_order
from sklearn_cxr.utils._optional import import_optional

OF_LAYERS = ("cam", "gradcam", "gradcam++")
# Largest relative difference that rounding makes.
_EQUAL = 1e-3


class _Picked:
    """Score of one class of each film; remembers which, and what it was."""

    def __init__(self, model, wanted):
        self.model, self.wanted = model, wanted
        self.indices = self.scores = None

    def __call__(self, unit):
        scores = self.model(unit)
        self.indices = scores.argmax(dim=1) if self.wanted is None else self.wanted
        chosen = scores.gather(1, self.indices[:, None])[:, 0]
        self.scores = chosen.detach()
        return chosen


def attribute(model, method, wanted, *, layer, baseline, n_steps, window, stride, verbose, caller):
    """Make a map of each film.

    Parameters
    ----------
    model : Model or AnyModel
        The function of the films.

    method : str
        See `class_activation_map`.

    wanted : ndarray of shape (n,) or None
        Position of the class of each film; None takes that of the highest score.

    layer : str or None
        Layer whose map is taken.

    baseline : float or None
        Grey level for what is absent; None is each film's mean.

    n_steps : int
        Steps of the integral.

    window, stride : int or None
        Side and step of the occluding square.

    verbose : int
        With 1, a progress bar.

    caller : str
        What the user called.

    Returns
    -------
    maps : ndarray of shape (n, rows, columns), dtype float32
        Maps.

    indices : ndarray of shape (n,), dtype int64
        Positions of the classes.

    scores : ndarray of shape (n,), dtype float64
        Scores of these classes.

    place : Place or None
        The layer.
    """
    captum = import_optional("captum.attr", extra="inspection", caller=caller)
    place = find_place(model, layer, caller=caller) if method in OF_LAYERS else None
    parts = []
    with tqdm(total=len(model.rows), unit="img", desc=method, disable=not verbose) as bar:
        for positions in batches_in_order(len(model.rows), model.batch_size):
            unit = model.unit(positions)
            picked = _Picked(model, _part(wanted, positions, model.device))
            if method in OF_LAYERS:
                with probe(model, place) as behind:
                    maps = _OF_A_LAYER[method](captum, picked, unit, behind, caller)
            elif method == "saliency":
                maps = _saliency(captum, picked, unit)
            else:
                with torch.no_grad():
                    picked(unit)
                absent = unit.mean(dim=(1, 2, 3), keepdim=True).expand_as(unit)
                if baseline is not None:
                    absent = torch.full_like(unit, model.grey(baseline))
                if method == "occlusion":
                    maps = _occlusion(captum, picked, unit, absent, window, stride, caller)
                else:
                    maps = _integrated(captum, picked, unit, absent, n_steps)
            parts.append([_to_host(values) for values in (maps, picked.indices, picked.scores)])
            bar.update(len(positions))
    maps, indices, scores = (np.concatenate(column) for column in zip(*parts, strict=True))
    return maps.astype(np.float32, copy=False), indices, scores.astype(np.float64), place


def _part(wanted, positions, device):
    return None if wanted is None else torch.from_numpy(wanted[positions]).to(device)


def _to_host(values):
    return values.detach().cpu().numpy()


def _gradcam(captum, picked, unit, behind, caller):
    method = captum.LayerGradCam(picked, behind)
    return method.attribute(unit, relu_attributions=True)[:, 0]


def _maps_and_gradients(picked, unit, behind):
    kept = []

    def take(_, inputs, output):
        # A leaf, so that nothing before the layer takes part in the gradient.
        kept.append(output.detach().requires_grad_(True))
        return kept[-1].clone()

    handle = behind.register_forward_hook(take)
    try:
        with torch.enable_grad():
            (gradients,) = torch.autograd.grad(picked(unit).sum(), kept[-1:])
    finally:
        handle.remove()
    return kept[-1].detach(), gradients


def _gradcam_plus_plus(captum, picked, unit, behind, caller):
    # Weights of the exponential of the score, whose factor common to all places is left out.
    maps, gradients = _maps_and_gradients(picked, unit, behind)
    second, third = gradients.square(), gradients**3
    below = 2 * second + maps.sum(dim=(2, 3), keepdim=True) * third
    share = torch.where(below != 0, second / torch.where(below != 0, below, 1.0), 0.0)
    weights = (share * gradients.clamp_min(0)).sum(dim=(2, 3), keepdim=True)
    return (weights * maps).sum(dim=1).clamp_min(0)


def _cam(captum, picked, unit, behind, caller):
    # Behind an average and one linear layer, all places of a channel have the same gradient (the
    # layer's weight divided by the number of places), and with the score of a black map they make
    # up the score.
    maps, gradients = _maps_and_gradients(picked, unit, behind)
    handle = behind.register_forward_hook(lambda _, inputs, output: torch.zeros_like(output))
    try:
        with torch.no_grad():
            offset = picked.model(unit[:1])[0][picked.indices]
    finally:
        handle.remove()
    parts = (gradients * maps).flatten(1)
    spread = (gradients.amax(dim=(2, 3)) - gradients.amin(dim=(2, 3))).max()
    rest = (picked.scores - offset - parts.sum(dim=1)).abs()
    scale = picked.scores.abs() + parts.abs().sum(dim=1) + offset.abs()
    if (spread > _EQUAL * gradients.abs().max()).item() or (rest > _EQUAL * scale).any().item():
        raise ValueError(
            f"{caller} got method='cam' for a network whose last map is not just averaged and "
            "weighted by one linear layer, which is what CAM is defined for. Use "
            "method='gradcam'."
        )
    weights = gradients.mean(dim=(2, 3), keepdim=True) * gradients[0, 0].numel()
    return (weights * maps).sum(dim=1)


_OF_A_LAYER = {"cam": _cam, "gradcam": _gradcam, "gradcam++": _gradcam_plus_plus}


def _saliency(captum, picked, unit):
    gradients = captum.Saliency(picked).attribute(unit.requires_grad_(True), abs=True)
    return gradients.amax(dim=1)


def _integrated(captum, picked, unit, absent, n_steps):
    method = captum.IntegratedGradients(picked.model)
    attributions = method.attribute(
        unit.requires_grad_(True),
        baselines=absent,
        target=picked.indices,
        n_steps=n_steps,
        internal_batch_size=len(unit),
    )
    return attributions.sum(dim=1)


def _occlusion(captum, picked, unit, absent, window, stride, caller):
    sides = tuple(unit.shape[2:])
    window = max(1, round(min(sides) / 8)) if window is None else window
    stride = max(1, window // 2) if stride is None else stride
    if window > min(sides) or stride > window:
        raise ValueError(
            f"{caller} got window={window} and stride={stride} for images of {sides[0]} x "
            f"{sides[1]} pixels; expected stride <= window <= {min(sides)}."
        )
    channels = unit.shape[1]
    with torch.no_grad():
        maps = captum.Occlusion(picked.model).attribute(
            unit,
            sliding_window_shapes=(channels, window, window),
            strides=(channels, stride, stride),
            baselines=absent,
            target=picked.indices,
        )
    return maps[:, 0]
