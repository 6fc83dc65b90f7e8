"""A frozen backbone cut at a layer, which travels as arrays and is rebuilt where it arrives."""

import difflib

import torch
from torch import nn

from sklearn_cxr.feature_extraction._code import code_hash
from sklearn_cxr.feature_extraction._places import CHANNELS_FIRST, find_places
from sklearn_cxr.neural_network._backbones import build_backbone
from sklearn_cxr.neural_network._network import inference_copy
from sklearn_cxr.neural_network._seeds import seeded
from sklearn_cxr.neural_network._state import (
    given,
    load_module_state,
    module_state,
    on_host,
    rebuilding,
    taken,
    without_given,
)
from sklearn_cxr.neural_network._weights import state_hash


class FrozenBackbone:
    """A backbone that does not learn.

    Its state is arrays, numbers and text, and the user's `backbone`: nothing is downloaded when
    it is unpickled, and nothing lies on a GPU.

    Parameters
    ----------
    backbone : str, nn.Module or callable
        As `build_backbone` takes it.

    weights : str, path-like or None
        As `build_backbone` takes it.

    channels : {"repeat", "sum"}
        As `build_backbone` takes it.

    layer : str
        "pool", or the name of the submodule whose output is taken.

    sha256 : str or None
        Of the file of weights.

    image_size : tuple of (height, width)
        Size of the images.

    seed : int
        Of random weights.
    """

    def __init__(self, backbone, *, weights, channels, layer, sha256, image_size, seed):
        self.backbone, self.channels, self.layer = backbone, channels, layer
        self.image_size = tuple(image_size)
        with seeded(seed):
            built = build_backbone(
                backbone,
                weights=weights,
                channels=channels,
                sha256=sha256,
                image_size=self.image_size,
            )
        self.weights_info = built.weights_info
        self._take(built)
        if layer != "pool":
            self.module.places = find_places(self.module, layer, self.image_size)
        self.weights_hash = state_hash(built)

    def _take(self, built, places=CHANNELS_FIRST):
        built.eval().requires_grad_(False)
        self.module = LayerOutput(built, self.layer, places)
        self._copies = {}

    @property
    def name(self):
        """What the features are named by: the backbone, and the layer where it is not the end."""
        return self.title if self.layer == "pool" else f"{self.title}_{self.layer}"

    @property
    def title(self):
        """Name of the backbone."""
        if isinstance(self.backbone, str):
            return self.backbone
        named = type(self.backbone) if isinstance(self.backbone, nn.Module) else self.backbone
        return getattr(named, "__name__", type(named).__name__).lower()

    def on(self, device, dtype):
        """Copy for inference on a device and in a precision; kept until another is asked for."""
        place = (str(device), dtype)
        if place not in self._copies:
            self._copies = {place: inference_copy(self.module, dtype, device)}
        return self._copies[place]

    def description(self):
        """All of the network that decides its features, as JSON can write it."""
        own = not isinstance(self.backbone, str)
        return {
            "backbone": self.title,
            "weights": self.weights_hash,
            "code": code_hash(self.module.backbone) if own else None,
            "layer": self.layer,
            "channels": self.channels,
        }

    def __getstate__(self):
        state = {k: v for k, v in vars(self).items() if k not in ("module", "_copies")}
        host = on_host(self.backbone)
        arrays = without_given(module_state(self.module.backbone), host, "body.")
        places = list(self.module.places)
        return {**state, "backbone": given(host), "arrays": arrays, "places": places}

    def __setstate__(self, state):
        arrays, places = state["arrays"], tuple(state.get("places", CHANNELS_FIRST))
        own = {k: v for k, v in state.items() if k not in ("arrays", "places")}
        vars(self).update({k: taken(v) for k, v in own.items()})
        with rebuilding():
            built = build_backbone(
                self.backbone,
                channels=self.channels,
                random_init=False,
                image_size=self.image_size,
            )
            self._take(load_module_state(built, arrays), places)


class _Reached(Exception):
    def __init__(self, output):
        super().__init__()
        self.output = output


class LayerOutput(nn.Module):
    """A backbone that stops at a layer and answers with its output, pooled.

    Parameters
    ----------
    backbone : Backbone
        The whole network.

    layer : str
        "pool" for the backbone's own answer, or the name of a submodule.

    places : tuple of (int, int), default=(2, 3)
        Dimensions of maps that are averaged over.

    Raises
    ------
    ValueError
        If there is no such submodule.
    """

    def __init__(self, backbone, layer, places=CHANNELS_FIRST):
        super().__init__()
        self.backbone = backbone
        self.layer, self.places = layer, places
        # A hook that stops one thread would stop another, which is in the same layer.
        self.reentrant = layer == "pool"
        if layer != "pool":
            _check_layer(backbone, layer)

    def forward(self, images):
        """Features of prepared images.

        Parameters
        ----------
        images : Tensor of shape (n, c, h, w)
            What the backbone takes.

        Returns
        -------
        Tensor of shape (n, n_features)
            One row for each image.
        """
        if self.layer == "pool":
            return self.backbone(images)
        rows = _pooled(self._output(images), self.layer, self.places)
        if len(rows) != len(images):
            raise ValueError(
                f"layer={self.layer!r} answers with {len(rows)} rows for {len(images)} image(s), "
                "as layers within windows of an image do; expected one for each. Name another "
                "layer."
            )
        return rows

    def shape_of(self, images):
        """Shape of what the layer answers to images, before it is pooled."""
        return tuple(_tensor(self._output(images), self.layer).shape)

    def _output(self, images):
        part = self.backbone.body.get_submodule(self.layer)
        handle = part.register_forward_hook(_stop)
        try:
            self.backbone(images)
        except _Reached as reached:
            return reached.output
        finally:
            handle.remove()
        raise ValueError(
            f"layer={self.layer!r} is a part of the backbone that does not run when features are "
            "computed. Name a layer that every image passes."
        )


def _stop(module, inputs, output):
    raise _Reached(output)


def _check_layer(backbone, layer):
    """Raise, with the nearest names, where the backbone has no such layer."""
    names = list(backbone.layers())
    if layer in names:
        return
    near = difflib.get_close_matches(layer, names, n=5, cutoff=0.5)
    top = [name for name in names if "." not in name]
    raise ValueError(
        f"layer={layer!r} is no part of this backbone. "
        + (f"Near it are {', '.join(near)}. " if near else "")
        + f"Say 'pool' for the pooled features, or one of {len(names)} names; at the top are "
        f"{', '.join(top)}."
    )


def _tensor(output, layer):
    """Tensor that a layer answers with; of several the first."""
    if isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, torch.Tensor) or output.ndim not in (2, 3, 4):
        what = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise ValueError(
            f"layer={layer!r} answers with {what}; features are made of (n, width), (n, tokens, "
            "width), (n, width, rows, columns) or (n, rows, columns, width) tensors. Name "
            "another layer."
        )
    return output


def _pooled(output, layer, places):
    """One row for each image: maps are averaged over places, and sequences over tokens."""
    output = _tensor(output, layer)
    if output.ndim == 2:
        return output
    return output.mean(dim=1) if output.ndim == 3 else output.mean(dim=places)
