"""The module that an estimator trains: grey levels in, logits out."""

import copy
import itertools

import torch
from torch import nn

from sklearn_cxr.neural_network._augmentation import tta_views


class Network(nn.Module):
    """Preparation of the grey levels, then the body; constants are inside.

    Parameters
    ----------
    prepare : nn.Module
        Has ``forward(batch, dtype)``, and ``unit`` and ``normalise``, its two halves.

    body : nn.Module
        From prepared images, or features, to logits.
    """

    def __init__(self, prepare, body):
        super().__init__()
        self.prepare, self.body = prepare, body

    @property
    def dtype(self):
        """Precision of the weights."""
        # Of a copy that predicts in bfloat16, some layers are in float32 all the same.
        cast = (part for part in self.modules() if not isinstance(part, _EXACT))
        first = itertools.chain.from_iterable(part.parameters(recurse=False) for part in cast)
        return next((p.dtype for p in itertools.chain(first, self.parameters())), torch.float32)

    def forward(self, batch):
        """Logits of a batch as it is stored.

        Parameters
        ----------
        batch : Tensor of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Grey levels or features.

        Returns
        -------
        Tensor of shape (n, n_outputs)
            Logits.
        """
        return self.body(channels_last(self.prepare(batch, self.dtype)))


class Probabilities(nn.Module):
    """What a network answers, as probabilities; averaged over views where wanted.

    Parameters
    ----------
    network : Network
        Gives logits.

    exclusive : bool
        Whether the classes exclude each other.

    tta : str, sequence of str or None, default=None
        See `tta_views`.
    """

    def __init__(self, network, *, exclusive, tta=None):
        super().__init__()
        self.network, self.exclusive, self.tta = network, exclusive, tta

    def forward(self, batch):
        """Probabilities of a batch as it is stored."""
        if self.tta is None:
            return self._squash(self.network(batch))
        images = self.network.prepare(batch, self.network.dtype)
        answers = [
            self._squash(self.network.body(channels_last(view)))
            for view in tta_views(images, self.tta)
        ]
        return torch.stack(answers).mean(dim=0)

    def _squash(self, logits):
        logits = logits.to(torch.float32 if logits.device.type == "mps" else torch.float64)
        return logits.softmax(dim=1) if self.exclusive else logits.sigmoid()


class BackboneBody(nn.Module):
    """A backbone and a head; what is frozen stays in evaluation mode.

    Parameters
    ----------
    backbone : Backbone
        To pooled features.

    head : nn.Module
        From pooled features to logits.

    auxiliary : nn.ModuleList or None, default=None
        Heads of the backbone's auxiliary branches.
    """

    def __init__(self, backbone, head, auxiliary=None):
        super().__init__()
        self.backbone, self.head, self.auxiliary = backbone, head, auxiliary
        self._learning = ("",)

    def freeze(self, trained):
        """Let only those parameters of the backbone learn whose names begin with a prefix.

        Parameters
        ----------
        trained : tuple of str
            Prefixes of parameter names within the backbone; ``("",)`` is all.
        """
        self._learning = tuple(trained)
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad_(name.startswith(self._learning))

    def train(self, mode=True):
        """Set the mode; a module none of whose parameters learn keeps its statistics."""
        super().train(mode)
        if mode:
            for name, module in self.backbone.named_modules():
                if not self._learns(name, module):
                    module.eval()
        return self

    def _learns(self, name, module):
        learning = [p.requires_grad for p in module.parameters()]
        if learning:
            return any(learning)
        # What has no parameters, such as dropout, goes with what it is in, if that is all of a
        # kind; else its place tells.
        within = name
        while within and not learning:
            within = within.rpartition(".")[0]
            outer = self.backbone.get_submodule(within)
            learning = [p.requires_grad for p in outer.parameters()]
        if len(set(learning)) == 1:
            return learning[0]
        return f"{name}.".startswith(self._learning)

    def forward(self, images):
        """Logits of prepared images; in training with those of the auxiliary branches."""
        if self.auxiliary is None or not self.training:
            return self.head(self.backbone(images))
        features, branches = self.backbone.forward_auxiliary(images)
        extra = [head(branch) for head, branch in zip(self.auxiliary, branches, strict=True)]
        return self.head(features), extra


class OutputLinear(nn.Linear):
    """Dense layer in the precision of its own weights, whatever it is given.

    Copies that predict keep it in float32: bfloat16 would leave logits two or three digits.
    """

    def forward(self, features):
        """Product of the features, cast where need be, and the weights."""
        return super().forward(features.to(self.weight.dtype))


_EXACT = (nn.modules.batchnorm._BatchNorm, OutputLinear)


def channels_last(images):
    """Memory format that convolutions are fastest in; anything but 4-D stays as it is."""
    if images.ndim != 4:
        return images
    return images.contiguous(memory_format=torch.channels_last)


def make_head(n_in, n_outputs, hidden=(), dropout=0.0, *, activation="relu", batch_norm=False):
    """Dense layers from features to logits.

    Parameters
    ----------
    n_in : int
        Number of features.

    n_outputs : int
        Number of logits.

    hidden : tuple of int, default=()
        Widths of the layers between.

    dropout : float, default=0.0
        Share of values dropped after each hidden layer; of the features where there is none.

    activation : {"relu", "gelu", "tanh"}, default="relu"
        After each hidden layer.

    batch_norm : bool, default=False
        Whether each hidden layer is followed by batch normalisation.

    Returns
    -------
    nn.Sequential
        The head.
    """
    activations = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}
    layers, width = [], n_in
    for following in hidden:
        layers.append(OutputLinear(width, following))
        if batch_norm:
            layers.append(nn.BatchNorm1d(following))
        layers.append(activations[activation]())
        if dropout:
            layers.append(nn.Dropout(dropout))
        width = following
    if dropout and not hidden:
        layers.append(nn.Dropout(dropout))
    layers.append(OutputLinear(width, n_outputs))
    return nn.Sequential(*layers)


def inference_copy(module, dtype, device):
    """Copy a module for prediction: cast once, in evaluation mode, channels last.

    In bfloat16 what is cheap and would lose most stays in float32: batch normalisation, whose
    statistics would be rounded, and the dense layers of the head.

    Parameters
    ----------
    module : nn.Module
        Stays as it is.

    dtype : torch.dtype
        Precision of the copy.

    device : torch.device
        Where the copy goes.

    Returns
    -------
    nn.Module
        The copy.
    """
    copied = copy.deepcopy(module).eval().requires_grad_(False)
    # Only there batch normalisation takes bfloat16 images and float32 statistics.
    if dtype != torch.bfloat16 or device.type not in ("cpu", "cuda"):
        return copied.to(device=device, dtype=dtype, memory_format=torch.channels_last)
    copied.to(device=device, memory_format=torch.channels_last)
    for part in copied.modules():
        exact = torch.float32 if isinstance(part, _EXACT) else dtype
        part._apply(lambda t, to=exact: t.to(to) if t.is_floating_point() else t, recurse=False)
    return copied
