"""Chest-trained weights of torchxrayvision, for torchvision's DenseNet-121 and ResNet-50."""

import pickle
import warnings

import torch

from sklearn_cxr.exceptions import WeightsError
from sklearn_cxr.neural_network._checkpoints import check_sha256, fetch, unwrap
from sklearn_cxr.neural_network._weights import WeightsInfo
from sklearn_cxr.utils._optional import import_optional

_URL = "https://github.com/mlmed/torchxrayvision/releases/download/v1/"
_DENSENET = "densenet121-d121-tw-lr001-rot45-tr15-sc15-seed0-best.pt"

# Backbone, file, and data sets that the weights were trained on.
WEIGHTS = {
    "densenet121-res224-all": (
        "densenet121",
        f"nih-pc-chex-mimic_ch-google-openi-kaggle-{_DENSENET}",
        ("nih", "padchest", "chexpert", "mimic", "google", "openi", "rsna"),
    ),
    "densenet121-res224-nih": ("densenet121", f"nih-{_DENSENET}", ("nih",)),
    "densenet121-res224-pc": ("densenet121", f"pc-{_DENSENET}", ("padchest",)),
    "densenet121-res224-chex": ("densenet121", f"chex-{_DENSENET}", ("chexpert",)),
    "densenet121-res224-rsna": ("densenet121", f"kaggle-{_DENSENET}", ("rsna",)),
    "densenet121-res224-mimic_nb": ("densenet121", f"mimic_nb-{_DENSENET}", ("mimic",)),
    "densenet121-res224-mimic_ch": ("densenet121", f"mimic_ch-{_DENSENET}", ("mimic",)),
    "resnet50-res512-all": (
        "resnet50",
        "pc-nih-rsna-siim-vin-resnet50-test512-e400-state.pt",
        ("padchest", "nih", "rsna", "siim", "vindr"),
    ),
}


def names_for(backbone):
    """Names of the weights that fit a backbone."""
    return [name for name, (fits, *_) in WEIGHTS.items() if fits == backbone]


def chest(weights, *, sha256=None):
    """Weights of torchxrayvision.

    Parameters
    ----------
    weights : str
        One of `WEIGHTS`.

    sha256 : str or None, default=None
        Checksum that the file must have.

    Returns
    -------
    state : dict of str to Tensor
        The tensors by torchvision's names, the first layer for one channel.

    info : WeightsInfo
        What is known of them: grey levels from -1024 to 1024, as they were trained on.
    """
    backbone, filename, trained_on = WEIGHTS[weights]
    url = f"{_URL}{filename}"
    path = fetch(url)
    check_sha256(path, sha256)
    state = _read(path, weights)
    info = WeightsInfo(
        weights,
        mean=(0.5, 0.5, 0.5),
        std=(1 / 2048,) * 3,
        size=512 if backbone == "resnet50" else 224,
        licence="Apache-2.0",
        trained_on=trained_on,
        url=url,
        file=str(path),
    )
    return {k: v for k, v in state.items() if k != "op_threshs"}, info


def _read(path, weights):
    """Tensors of a file that holds a whole network, of which only known classes are built."""
    if "-state" in path.name:
        classes = []
    else:
        with warnings.catch_warnings():
            # torchxrayvision silences all warnings of the process when it is imported; what it
            # silences for good is silenced for its import only.
            warnings.simplefilter("ignore")
            models = import_optional(
                "torchxrayvision.models", extra="xrv", caller=f"weights={weights!r}"
            )
        classes = [
            *(getattr(models, name) for name in ("DenseNet", "_DenseLayer", "_DenseBlock")),
            models._Transition,
            *(getattr(torch.nn, name) for name in ("Sequential", "Conv2d", "BatchNorm2d")),
            *(getattr(torch.nn, name) for name in ("ReLU", "MaxPool2d", "AvgPool2d", "Linear")),
            set,
        ]
    try:
        with torch.serialization.safe_globals(classes):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise WeightsError(
            f"{path} could not be read: {str(error).splitlines()[0]}. Delete it, so that it is "
            "downloaded again; or save its state_dict with torchxrayvision and pass that file."
        ) from error
    if not isinstance(content, torch.nn.Module):
        return unwrap(content, path)
    # Networks of old versions lack attributes that state_dict() asks for.
    return {
        f"{prefix}.{name}" if prefix else name: tensor.detach()
        for prefix, module in _modules(content)
        for name, tensor in (*module._parameters.items(), *module._buffers.items())
        if tensor is not None
    }


def _modules(module, prefix=""):
    yield prefix, module
    for name, child in module._modules.items():
        yield from _modules(child, f"{prefix}.{name}" if prefix else name)
