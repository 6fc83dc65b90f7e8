"""How a net is trained, as one record."""

from dataclasses import dataclass, field

import torch


@dataclass
class Plan:
    """How a net is trained; the words are those of the estimators' parameters.

    Parameters
    ----------
    dtype : torch.dtype
        Precision of the computation.

    groups : callable
        From the module to the optimiser's parameter groups.

    optimizer : str or type
        See `make_optimizer`.

    weight_decay : float
        See `make_optimizer`.

    lr_schedule : str or None
        See `Schedule`.

    augment : callable or None
        From images within [0, 1] to images.

    mixup : float
        Alpha of `mix`; 0 mixes nothing.

    clip_norm : float or None
        Largest norm of the gradient.

    weight_averaging : float or None
        Decay of `WeightAverage`.

    auxiliary_weight : float
        Weight of the loss of auxiliary branches.

    patience : int or None
        Epochs without a lower validation loss after which the fit ends, and the best weights
        come back. None trains all epochs and keeps the last.

    compile : bool
        Whether the body is compiled.

    entry : nn.Module or None
        Trained part where the batches already are the features before it.

    rng : RandomState
        Draws what mixup needs.

    before_epoch : callable or None
        Called before each epoch.

    after_epoch : callable or None
        Called with the net after each epoch; true ends the fit.

    relieve : callable or None
        Frees memory where a batch did not fit; returns whether there was any to free.

    verbose : bool
        Whether a progress bar is drawn.

    step : nn.Module or None
        What a batch goes through; compiled where that is asked for. Set when training begins.

    best : dict
        Weights, epoch and loss of the best epoch so far. Set during training.
    """

    dtype: torch.dtype
    groups: object
    optimizer: object = "adamw"
    weight_decay: float = 0.0
    lr_schedule: str | None = None
    augment: object = None
    mixup: float = 0.0
    clip_norm: float | None = None
    weight_averaging: float | None = None
    auxiliary_weight: float = 0.0
    patience: int | None = None
    compile: bool = False
    entry: object = None
    rng: object = None
    before_epoch: object = None
    after_epoch: object = None
    relieve: object = None
    verbose: bool = False
    step: object = None
    best: dict = field(default_factory=dict)
