"""What a provider of networks tells of one, and how their pooled features are computed."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Spec:
    """A network without its classifier.

    Parameters
    ----------
    body : nn.Module
        The provider's module.

    n_features : int
        Width of the pooled features.

    last_stage : tuple of str
        Beginnings of the names of the last stage's parameters.

    run : callable
        ``run(body, images, branches)``: pooled features, and a list of auxiliary ones, which is
        empty unless `branches` is true.

    heads : tuple of str, default=()
        Beginnings of names in published files that `body` does not have.

    auxiliary_widths : tuple of int, default=()
        Widths of the auxiliary features.

    min_size : int, default=1
        Side of the smallest image.
    """

    body: nn.Module
    n_features: int
    last_stage: tuple
    run: Callable
    heads: tuple = ()
    auxiliary_widths: tuple = ()
    min_size: int = 1


def pool(output):
    """Average of a feature map over its pixels, or of tokens; features stay as they are.

    Parameters
    ----------
    output : Tensor of 2, 3 or 4 dimensions
        Features, tokens ``(n, tokens, width)`` or maps ``(n, width, h, w)``.

    Returns
    -------
    Tensor of shape (n, width)
        Features.
    """
    if output.ndim == 4:
        return output.mean(dim=(2, 3))
    if output.ndim == 3:
        return output.mean(dim=1)
    return output


def run_plain(body, images, branches=False):
    """Call the module and pool what it returns."""
    return pool(body(images)), []


def run_densenet(body, images, branches=False):
    """Do as the provider's forward does, whose last ReLU writes into the layer before."""
    return F.relu(body.features(images)).mean(dim=(2, 3)), []


@dataclass(frozen=True)
class RunStages:
    """Call a module's stages one after the other, and branches where they leave.

    Parameters
    ----------
    stages : str
        Names of the stages in order, with spaces between.

    branches : dict of str to str or None, default=None
        Name of the auxiliary branch after a stage, by the stage.
    """

    stages: str
    branches: dict | None = None

    def __call__(self, body, images, branches=False):
        """Pooled features of the last stage, and those of the branches."""
        auxiliary = []
        for stage in self.stages.split():
            images = getattr(body, stage)(images)
            if branches and self.branches and stage in self.branches:
                auxiliary.append(getattr(body, self.branches[stage])(images))
        return pool(images), auxiliary


def run_vit(body, images, branches=False):
    """Compute the class token; positions are interpolated for images of another size."""
    n, _, height, width = images.shape
    tokens = body.conv_proj(images)
    rows, columns = tokens.shape[2:]
    tokens = tokens.flatten(2).transpose(1, 2)
    tokens = torch.cat([body.class_token.expand(n, -1, -1), tokens], dim=1)
    encoder = body.encoder
    positions = encoder.pos_embedding
    if tokens.shape[1] != positions.shape[1] or height != width:
        positions = _resize_positions(positions, rows, columns)
    return encoder.ln(encoder.layers(encoder.dropout(tokens + positions)))[:, 0], []


def _resize_positions(positions, rows, columns):
    token, grid = positions[:, :1], positions[:, 1:]
    side = round(grid.shape[1] ** 0.5)
    grid = grid.transpose(1, 2).reshape(1, -1, side, side)
    # Computed in single precision: bicubic weights lose too much in bfloat16.
    exact = grid.float() if grid.dtype == torch.bfloat16 else grid
    exact = F.interpolate(exact, size=(rows, columns), mode="bicubic", align_corners=False)
    return torch.cat([token, exact.to(grid.dtype).flatten(2).transpose(1, 2)], dim=1)
