"""Backbones of torchvision without their classifiers, and their ImageNet weights."""

import dataclasses
import re
from functools import partial

import torch.nn.functional as F
import torchvision
from torch import nn
from torchvision.models.googlenet import BasicConv2d as GoogLeNetConv
from torchvision.models.googlenet import GoogLeNet, Inception
from torchvision.models.googlenet import InceptionAux as GoogLeNetAux
from torchvision.models.inception import BasicConv2d as InceptionConv
from torchvision.models.inception import (
    Inception3,
    InceptionA,
    InceptionAux,
    InceptionB,
    InceptionC,
    InceptionD,
    InceptionE,
)

from sklearn_cxr.neural_network._checkpoints import fetch, read_state
from sklearn_cxr.neural_network._spec import (
    RunStages,
    Spec,
    run_densenet,
    run_plain,
    run_vit,
)
from sklearn_cxr.neural_network._weights import WeightsInfo

_RESNET = ("fc", ("layer4.",))
_EFFICIENTNET = ("classifier", ("features.6.", "features.7.", "features.8."))
_CONVNEXT = ("classifier.2", ("features.6.", "features.7.", "classifier.0."))
_DENSENET = ("classifier", ("features.denseblock4.", "features.norm5."))

# The classifier, and the last stage: the blocks at the resolution of the last feature map. A
# vision transformer has but one resolution; its last quarter of blocks stands for a stage.
_NETWORKS = {
    **dict.fromkeys(("convnext_tiny", "convnext_small", "convnext_base"), _CONVNEXT),
    **dict.fromkeys(("densenet121", "densenet161", "densenet169", "densenet201"), _DENSENET),
    **{f"efficientnet_b{i}": _EFFICIENTNET for i in range(8)},
    "efficientnet_v2_s": ("classifier", ("features.6.", "features.7.")),
    "googlenet": ("fc", ("inception5a.", "inception5b.")),
    "inception_v3": ("fc", ("Mixed_7a.", "Mixed_7b.", "Mixed_7c.")),
    "mobilenet_v2": ("classifier", tuple(f"features.{i}." for i in range(14, 19))),
    "mobilenet_v3_large": ("classifier", tuple(f"features.{i}." for i in range(13, 17))),
    "mobilenet_v3_small": ("classifier", tuple(f"features.{i}." for i in range(9, 13))),
    **{f"resnet{i}": _RESNET for i in (18, 34, 50, 101, 152)},
    "resnext50_32x4d": _RESNET,
    "wide_resnet50_2": _RESNET,
    **dict.fromkeys(
        ("vit_b_16", "vit_b_32"),
        ("heads", (*(f"encoder.layers.encoder_layer_{i}." for i in (9, 10, 11)), "encoder.ln.")),
    ),
}
NAMES = tuple(_NETWORKS)

_GOOGLENET_STAGES = (
    "conv1 maxpool1 conv2 conv3 maxpool2 inception3a inception3b maxpool3 inception4a inception4b "
    "inception4c inception4d inception4e maxpool4 inception5a inception5b"
)
_INCEPTION_STAGES = (
    "Conv2d_1a_3x3 Conv2d_2a_3x3 Conv2d_2b_3x3 maxpool1 Conv2d_3b_1x1 Conv2d_4a_3x3 maxpool2 "
    "Mixed_5b Mixed_5c Mixed_5d Mixed_6a Mixed_6b Mixed_6c Mixed_6d Mixed_6e Mixed_7a Mixed_7b "
    "Mixed_7c"
)
# Side of the feature map from which the published pooling leaves inception_v3's branch enough.
_BRANCH_SIDE = 17


class _GoogLeNetConv(GoogLeNetConv):
    """A convolution whose ReLU does not write into what a hook has seen."""

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class _InceptionConv(InceptionConv):
    """A convolution whose ReLU does not write into what a hook has seen."""

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class _GoogLeNetAux(GoogLeNetAux):
    """The auxiliary branch, again without a ReLU in place."""

    def forward(self, x):
        x = self.conv(F.adaptive_avg_pool2d(x, (4, 4))).flatten(1)
        return self.fc2(self.dropout(F.relu(self.fc1(x))))


class _InceptionAux(InceptionAux):
    """The auxiliary branch, for images of less than 299 pixels too."""

    def forward(self, x):
        if min(x.shape[2:]) >= _BRANCH_SIDE:
            x = F.avg_pool2d(x, kernel_size=5, stride=3)
        else:
            x = F.adaptive_avg_pool2d(x, (5, 5))
        x = F.adaptive_avg_pool2d(self.conv1(self.conv0(x)), (1, 1))
        return self.fc(x.flatten(1))


def _googlenet(auxiliary):
    conv = _GoogLeNetConv
    body = GoogLeNet(
        num_classes=1,
        aux_logits=auxiliary,
        init_weights=True,
        blocks=[
            conv,
            partial(Inception, conv_block=conv),
            partial(_GoogLeNetAux, conv_block=conv),
        ],
    )
    if not auxiliary:
        return body, RunStages(_GOOGLENET_STAGES), ("aux1.", "aux2."), ()
    body.aux1.fc2, body.aux2.fc2 = nn.Identity(), nn.Identity()
    run = RunStages(_GOOGLENET_STAGES, {"inception4a": "aux1", "inception4d": "aux2"})
    return body, run, ("aux1.fc2.", "aux2.fc2."), (1024, 1024)


def _inception_v3(auxiliary):
    conv = _InceptionConv
    blocks = (InceptionA, InceptionB, InceptionC, InceptionD, InceptionE, _InceptionAux)
    body = Inception3(
        num_classes=1,
        aux_logits=auxiliary,
        init_weights=True,
        inception_blocks=[conv, *(partial(block, conv_block=conv) for block in blocks)],
    )
    if not auxiliary:
        return body, RunStages(_INCEPTION_STAGES), ("AuxLogits.",), ()
    body.AuxLogits.fc = nn.Identity()
    run = RunStages(_INCEPTION_STAGES, {"Mixed_6e": "AuxLogits"})
    return body, run, ("AuxLogits.fc.",), (768,)


_RUNS = {"densenet": run_densenet, "vit": run_vit}
WITH_BRANCHES = {"googlenet": _googlenet, "inception_v3": _inception_v3}


def build(name, *, auxiliary=False):
    """Build one of torchvision's networks without its classifier.

    Parameters
    ----------
    name : str
        One of `NAMES`.

    auxiliary : bool, default=False
        Whether auxiliary branches are kept.

    Returns
    -------
    Spec
        The network.
    """
    head, last_stage = _NETWORKS[name]
    heads, widths = (), ()
    if name in WITH_BRANCHES:
        body, run, heads, widths = WITH_BRANCHES[name](auxiliary)
    else:
        body = torchvision.models.get_model(name, weights=None, num_classes=1)
        run = _RUNS.get(name.partition("_")[0].rstrip("0123456789"), run_plain)
    classifier = body.get_submodule(head)
    n_features = next(m for m in classifier.modules() if isinstance(m, nn.Linear)).in_features
    parent, _, child = head.rpartition(".")
    setattr(body.get_submodule(parent), child, nn.Identity())
    # torchvision's own vision transformer takes one size only, this one any (see run_vit).
    vit = name.startswith("vit")
    min_size = body.patch_size if vit else min(_entry(name).meta["min_size"])
    return Spec(
        body=body,
        n_features=n_features,
        last_stage=last_stage,
        run=run,
        heads=(f"{head}.", *heads),
        auxiliary_widths=widths,
        min_size=min_size,
    )


def _entry(name, version="IMAGENET1K_V1"):
    """Entry of torchvision's list of weights; always the first version, whatever its default."""
    return torchvision.models.get_model_weights(name)[version]


def versions(name):
    """Names of the weights that torchvision publishes for a network."""
    return [entry.name for entry in torchvision.models.get_model_weights(name)]


def usual_info(name, version="IMAGENET1K_V1"):
    """Mean, deviation, size and licence that a network's published weights go with."""
    entry = _entry(name, version)
    preset = entry.transforms()
    mean, std = tuple(preset.mean), tuple(preset.std)
    if name in WITH_BRANCHES:
        # torchvision brings ImageNet's normalisation to this one inside of these networks.
        mean = std = (0.5, 0.5, 0.5)
    return WeightsInfo(
        "imagenet" if version == "IMAGENET1K_V1" else version,
        mean=mean,
        std=std,
        size=preset.crop_size[0],
        interpolation="bicubic" if "bicubic" in str(preset.interpolation).lower() else "bilinear",
        licence=entry.meta.get("license", "BSD-3-Clause"),
        trained_on=("imagenet", "swag") if "SWAG" in version else ("imagenet",),
        url=entry.url,
    )


def imagenet(name, spec, *, version="IMAGENET1K_V1", sha256=None):
    """Get published weights, downloaded where they are not in torch's folder.

    Parameters
    ----------
    name : str
        One of `NAMES`.

    spec : Spec
        What `build` gave for it.

    version : str, default="IMAGENET1K_V1"
        One of `versions(name)`.

    sha256 : str or None, default=None
        Checksum that the file must have.

    Returns
    -------
    state : dict of str to Tensor
        The tensors by torchvision's names.

    info : WeightsInfo
        What is known of them.
    """
    info = usual_info(name, version)
    path = fetch(info.url, sha256=re.search(r"-([0-9a-f]{8,})\.pth$", info.url)[1])
    return read_state(path, sha256=sha256), dataclasses.replace(info, file=str(path))


def rename_old(name, state):
    """Bring names of DenseNet's layers from before torchvision 0.3 to today's.

    Parameters
    ----------
    name : str
        One of `NAMES`.

    state : dict of str to Tensor
        Tensors by name.

    Returns
    -------
    dict of str to Tensor
        The same tensors. The published files and those of CheXNet have the old names.
    """
    if not name.startswith("densenet"):
        return state
    old = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.\w+)$")
    return {old.sub(r"\1\2", key): value for key, value in state.items()}
