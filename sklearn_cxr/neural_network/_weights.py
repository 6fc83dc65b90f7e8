"""What pretrained weights carry beside numbers, and whether they have seen a data set before."""

import hashlib
import re
from dataclasses import KW_ONLY, dataclass

import torch

from sklearn_cxr.exceptions import ContaminationWarning
from sklearn_cxr.utils._sklearn import validate_params
from sklearn_cxr.utils._warn import warn

# Spellings of a data set, without case and punctuation, under the name that `trained_on` uses.
_ALIASES = {
    "nih": ("chestxray14", "chestxray8", "nihchestxray14", "nihchestxray", "nihcxr14", "cxr14"),
    "padchest": ("pc",),
    "chexpert": ("chex", "stanford"),
    "mimic": ("mimiccxr", "mimicch", "mimicnb", "mimiccxrjpg"),
    "rsna": ("rsnapneumonia", "rsnapneumoniachallenge", "kaggle"),
    "siim": ("siimacr", "siimacrpneumothorax", "siimpneumothorax"),
    "openi": ("indiana", "iuxray", "indianauniversity"),
    "vindr": ("vin", "vindrcxr", "vinbigdata"),
    "kermany": ("chestxraypneumonia", "pneumoniamnist", "guangzhou", "kermany2018"),
    "imagenet": ("imagenet1k", "ilsvrc2012", "ilsvrc", "in1k"),
    "chestmnist": (),
    "google": (),
}
_CANONICAL = {alias: name for name, aliases in _ALIASES.items() for alias in (name, *aliases)}

# Of networks whose makers say nothing of grey levels: subtracted from 0..1, and divided by.
NEUTRAL_MEAN, NEUTRAL_STD = 0.5, 0.25

# Data sets whose films were taken from another one's.
_FILMS_OF = {"rsna": "nih", "siim": "nih", "google": "nih", "chestmnist": "nih"}


@dataclass(frozen=True)
class WeightsInfo:
    """What one has to know of weights to use them, and to judge a result that they gave.

    Parameters
    ----------
    name : str
        Name of the weights, such as ``"imagenet"``, or of their file.

    mean, std : tuple of float
        What is subtracted from grey levels that go from 0 to 1, and what they are divided by
        after that; one value for each channel that the network takes.

    size : int
        Side in pixels of the images that the weights were trained or are usually used on.

    interpolation : {"bilinear", "bicubic"}, default="bilinear"
        How those were resized.

    channels : int, default=3
        Channels that the network takes, the length of `mean` and `std`.

    licence : str, default="unknown"
        Licence under which the weights are published. That of the images that they were
        trained on may ask for more.

    trained_on : tuple of str, default=()
        Names of the data sets that they were trained on, such as ``("imagenet",)``. Empty
        where nobody has said.

    url : str or None, default=None
        Where the weights can be downloaded.

    file : str or None, default=None
        The file that they were read from.

    See Also
    --------
    check_contamination : Warn where weights have been trained on a data set.

    Examples
    --------
    >>> from sklearn_cxr.neural_network import WeightsInfo
    >>> info = WeightsInfo("mine", mean=(0.5,), std=(0.25,), size=224, channels=1)
    >>> info.trained_on
    ()
    """

    name: str
    _: KW_ONLY
    mean: tuple
    std: tuple
    size: int
    interpolation: str = "bilinear"
    channels: int = 3
    licence: str = "unknown"
    trained_on: tuple = ()
    url: str | None = None
    file: str | None = None


def _films(dataset):
    """Name of the data set that the films are from, whatever the spelling."""
    plain = re.sub(r"[^a-z0-9]", "", dataset.lower())
    name = _CANONICAL.get(plain, plain)
    return _FILMS_OF.get(name, name)


@validate_params(
    {"weights_info": [WeightsInfo, None], "dataset": [str, None]},
    prefer_skip_nested_validation=True,
)
def check_contamination(weights_info, dataset):
    """Warn where weights were trained on the films that a network is evaluated on.

    What a network answers for images that it was trained on says nothing of what it will
    answer for others. Films that were published again under another name count as the same:
    those of the RSNA pneumonia and the SIIM-ACR pneumothorax challenges are from NIH's
    ChestX-ray14, for instance.

    Parameters
    ----------
    weights_info : WeightsInfo or None
        Description of the weights. With None nothing is known and nothing is checked.

    dataset : str or None
        Name of the data set, such as ``"nih"``, ``"ChestX-ray14"``, ``"CheXpert"`` or
        ``"kermany"``; case and punctuation do not matter. With None nothing is checked.

    Returns
    -------
    contaminated : bool
        Whether the data set is among those that the weights were trained on.

    Warns
    -----
    ContaminationWarning
        If it is.

    References
    ----------
    .. [1] Cohen JP, Hashir M, Brooks R, Bertrand H. On the limits of cross-domain
       generalization in automated X-ray prediction. MIDL, PMLR 121:136-155, 2020.

    Examples
    --------
    >>> import warnings
    >>> from sklearn_cxr.neural_network import WeightsInfo, check_contamination
    >>> info = WeightsInfo("rsna", mean=(0.5,), std=(0.5,), size=224, trained_on=("rsna",))
    >>> check_contamination(info, "kermany")
    False
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     check_contamination(info, "ChestX-ray14")
    True
    >>> print(caught[0].message)  # doctest: +ELLIPSIS
    The weights 'rsna' were trained on rsna, which shares its films with 'ChestX-ray14'...
    """
    if weights_info is None or dataset is None:
        return False
    shared = [name for name in weights_info.trained_on if _films(name) == _films(dataset)]
    if not shared:
        return False
    warn(
        f"The weights {weights_info.name!r} were trained on {', '.join(shared)}, which shares "
        f"its films with {dataset!r}: figures found on it are too good. Evaluate on other "
        "films, or take weights that have not seen these.",
        ContaminationWarning,
    )
    return True


def state_hash(module):
    """Hash of all parameters and buffers of a module, with their names.

    Parameters
    ----------
    module : nn.Module
        On any device, in any memory format.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in module.state_dict().items():
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        plain = tensor.detach().to("cpu").contiguous().reshape(-1)
        digest.update(plain.view(torch.uint8).numpy())
    return digest.hexdigest()
