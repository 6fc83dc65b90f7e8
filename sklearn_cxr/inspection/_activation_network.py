"""A fitted model as one differentiable function of the grey levels that enter it.

Imports torch, so it is itself imported at first use.
"""

import numpy as np
import torch
from torch import nn

from sklearn_cxr.inspection._activation_front import tail_scores
from sklearn_cxr.inspection._activation_linear import linear_tail, pull_back
from sklearn_cxr.neural_network._device import resolve_device
from sklearn_cxr.neural_network._inference import gather
from sklearn_cxr.neural_network._network import channels_last, inference_copy
from sklearn_cxr.neural_network._persistence import settle
from sklearn_cxr.neural_network._prepare import Prepare, to_host_tensor, unit_levels
from sklearn_cxr.neural_network._spec import pool, run_densenet
from sklearn_cxr.utils._chunks import validate_rows
from sklearn_cxr.utils._images import input_kind

_BATCH = 32


class Model(nn.Module):
    """Scores of films whose black is 0 and white is 1.

    Parameters
    ----------
    prepare : Prepare
        From stored grey levels to these, and on to what `network` takes.

    network : nn.Module
        From there to logits.

    front : Front
        The films and the classifier.

    rows : ndarray or row view
        Validated films.

    batch_size : int, default=32
        Films in a batch.

    device : torch.device, default=torch.device("cpu")
        Where the network is.

    dtype : torch.dtype, default=torch.float32
        Its precision.

    exclusive : bool, default=True
        Whether the classes exclude each other.

    root : nn.Module or None, default=None
        Whose submodules a layer is named by; None where there are no maps.
    """

    def __init__(
        self,
        prepare,
        network,
        front,
        rows,
        *,
        batch_size=_BATCH,
        device=torch.device("cpu"),  # noqa: B008 - a device is never changed
        dtype=torch.float32,
        exclusive=True,
        root=None,
    ):
        super().__init__()
        self.prepare, self.network, self.root = prepare, network, root
        self.rows, self.shape, self.n_classes = rows, front.shape, len(front.classes)
        self.batch_size, self.device, self.dtype = batch_size, device, dtype
        self.exclusive = exclusive

    def unit(self, positions):
        """Films at some positions, black 0 and white 1, channels first."""
        batch = to_host_tensor(gather(self.rows, positions, self.shape)).to(self.device)
        return self.prepare.unit(batch, self.dtype)

    def logits(self, unit):
        """Logits as the network gives them: one of two classes."""
        return self.network(channels_last(self.prepare.normalise(unit)))

    def forward(self, unit):
        """Score of each class or label: its logit."""
        logits = self.logits(unit)
        if logits.shape[1] == 1 and self.n_classes == 2:
            return torch.cat([-logits, logits], dim=1)
        return logits

    def log_probability(self, unit, indices):
        """Logarithm of the probability of one class or label of each film."""
        scores = self(unit)
        if not self.exclusive:
            return nn.functional.logsigmoid(scores).gather(1, indices[:, None])[:, 0]
        if self.n_classes == 2:
            # The scores of two classes are one log odds with both signs.
            return nn.functional.logsigmoid(scores.gather(1, indices[:, None])[:, 0])
        return scores.log_softmax(dim=1).gather(1, indices[:, None])[:, 0]

    def grey(self, level):
        """Bring a grey level to the scale from black 0 to white 1."""
        low, high = self.prepare.low, self.prepare.high
        return (level - low) / (high - low)


class AnyModel:
    """A model that can only be asked: films as they are stored, scores of each class.

    Parameters
    ----------
    front : Front
        The films and the classifier.
    """

    batch_size, device, dtype = 256, torch.device("cpu"), torch.float64
    root = None

    def __init__(self, front):
        self.front, self.rows, self.shape = front, front.images, front.shape
        self.stored = np.dtype(self.rows.dtype)
        self.form = tuple(self.rows.shape[1:])

    def unit(self, positions):
        """Films at some positions as floats, channels first."""
        batch = to_host_tensor(gather(self.rows, positions, self.shape)).to(self.dtype)
        return batch[:, None] if batch.ndim == 3 else batch.permute(0, 3, 1, 2)

    def __call__(self, unit):
        """Score of each class."""
        batch = unit.permute(0, 2, 3, 1).numpy()
        if self.stored.kind in "iu":
            batch = np.rint(batch)
        images = batch.reshape(-1, *self.form).astype(self.stored)
        return torch.from_numpy(tail_scores(self.front, images))

    def grey(self, level):
        """Grey levels stay as they are."""
        return level


class _Flat(nn.Module):
    """Pixels in the order of rows, columns and channels, as grey levels again."""

    def __init__(self, low, high):
        super().__init__()
        self.low, self.high = low, high

    def forward(self, images):
        flat = images.permute(0, 2, 3, 1).flatten(1)
        return flat * (self.high - self.low) + self.low


def build_model(front):
    """Build the differentiable function, from copies of what the estimator holds.

    Parameters
    ----------
    front : Front
        The films and the classifier.

    Returns
    -------
    Model or None
        None where the classifier has no gradients.
    """
    first, last = front.tail[0], front.tail[-1]
    if len(front.tail) == 1 and hasattr(last, "net_") and hasattr(last, "image_shape_"):
        model = _of_network(front, last)
    elif len(front.tail) > 1 and hasattr(first, "backbone_"):
        model = _of_features(front, first)
    else:
        model = _of_pixels(front, last)
    if model is None:
        return None
    for module in model.modules():
        # What was made while predicting cannot take part in a gradient.
        if isinstance(getattr(module, "_constants", None), dict):
            module._constants = {}
    return model.eval().requires_grad_(False)


def _of_network(front, classifier):
    # One that was loaded goes to its device only now.
    device = settle(classifier)
    module = classifier.net_.module_
    dtype = torch.float64 if module.dtype == torch.float64 else torch.float32
    copied = inference_copy(module, dtype, device)
    backbone = getattr(copied.body, "backbone", None)
    return Model(
        copied.prepare,
        copied.body,
        front,
        classifier._validate_predict(front.images),
        batch_size=classifier.batch_size,
        device=device,
        dtype=dtype,
        exclusive=classifier._exclusive,
        root=copied.body if backbone is None else _open(backbone),
    )


def _of_features(front, features):
    rows = validate_rows(features, front.images, reset=False)
    dtype = torch.float64 if features.precision == "float64" else torch.float32
    device = resolve_device(features.device)
    after = _after_features(front.tail[1:], dtype, device)
    if after is None:
        return None
    copied = inference_copy(features._network.module, dtype, device)
    root = _open(copied.backbone)
    return Model(
        features._prepare(features._levels(rows)),
        nn.Sequential(copied, after),
        front,
        rows,
        batch_size=features.batch_size,
        device=device,
        dtype=dtype,
        exclusive=getattr(front.classifier, "_exclusive", True),
        root=root,
    )


def _of_pixels(front, classifier):
    rows = np.asarray(front.images)
    after = _after_features(front.tail, torch.float32, torch.device("cpu"))
    if after is None:
        return None
    kind = input_kind(rows)
    low, high = unit_levels(kind)
    if kind == "other":
        low, high = float(rows.min()), max(float(rows.max()), float(rows.min()) + 1e-6)
    channels = front.shape[2] if len(front.shape) == 3 else 1
    prepare = Prepare(low, high, np.zeros(channels), np.ones(channels), channels=channels)
    return Model(
        prepare,
        nn.Sequential(_Flat(low, high), after),
        front,
        rows,
        exclusive=getattr(classifier, "_exclusive", True),
    )


def _after_features(steps, dtype, device):
    """Turn affine steps and a linear or dense classifier into a module, or None."""
    folded = linear_tail(steps)
    if folded is not None:
        return _linear(*folded, dtype, device)
    classifier = steps[-1]
    if not hasattr(classifier, "net_") or hasattr(classifier, "image_shape_"):
        return None
    dense = inference_copy(classifier.net_.module_, dtype, device)
    if len(steps) == 1:
        return dense
    carried = pull_back(steps[:-1], np.eye(classifier.n_features_in_))
    return None if carried is None else nn.Sequential(_linear(*carried, dtype, device), dense)


def _linear(coef, constant, dtype, device):
    layer = nn.Linear(coef.shape[1], coef.shape[0], device=device, dtype=dtype)
    with torch.no_grad():
        layer.weight.copy_(torch.as_tensor(coef))
        layer.bias.copy_(torch.as_tensor(constant))
    return layer


def _open(backbone):
    """Give DenseNet's last ReLU, which is a function only, a layer; return the network."""
    body = backbone.body
    if backbone._run is run_densenet:
        body.features.add_module("relu5", nn.ReLU())
        backbone._run = _run_opened_densenet
    return body


def _run_opened_densenet(body, images, branches=False):
    return pool(body.features(images)), []
