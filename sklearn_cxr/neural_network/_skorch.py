"""The one file that imports skorch: its net, trained on batches that are already on the device."""

import contextlib
from dataclasses import dataclass, field

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import EpochTimer
from tqdm import tqdm

from sklearn_cxr.neural_network._loss import hits, mix
from sklearn_cxr.neural_network._network import autocast, channels_last, inference_copy
from sklearn_cxr.neural_network._optim import Schedule, WeightAverage, make_optimizer


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
    verbose: bool = False
    step: object = None
    best: dict = field(default_factory=dict)


class Net(NeuralNet):
    """skorch's net over `Batches`; Ctrl-C raises and nothing is printed.

    Parameters
    ----------
    module : Network
        An instance.

    criterion : CrossEntropy
        An instance.

    plan : Plan or None, default=None
        How it is trained; None for a net that only predicts.

    callbacks : list of skorch callbacks or None, default=None
        Further callbacks.

    device : torch.device or str, default="cpu"
        Where it computes.
    """

    def __init__(self, module, criterion, *, plan=None, callbacks=None, device="cpu"):
        self.plan = plan
        super().__init__(
            module,
            criterion,
            callbacks=callbacks,
            device=str(device),
            train_split=None,
            verbose=0,
        )

    @property
    def _default_callbacks(self):
        return [("epoch_timer", EpochTimer())]

    def initialize_optimizer(self, triggered_directly=None):
        """Build the optimiser of the plan; a net without a plan has none."""
        plan = self.plan
        if plan is None:
            return self
        groups = plan.groups(self.module_)
        self.optimizer_ = make_optimizer(
            plan.optimizer, groups, weight_decay=plan.weight_decay, device=self._torch_device()
        )
        self._average = None
        if plan.weight_averaging is not None:
            self._average = WeightAverage(self._trained(), plan.weight_averaging)
        return self

    def go_on(self, plan):
        """Take a further plan; the optimiser's state goes on with the rates of the new one.

        Parameters
        ----------
        plan : Plan
            How to train from here.

        Returns
        -------
        self : Net
            The net.
        """
        kept = getattr(self, "stored_optimizer", None)
        if kept is None and hasattr(self, "optimizer_"):
            kept = self.optimizer_.state_dict()
        self.plan, self.stored_optimizer = plan, None
        self._initialize_optimizer()
        if kept is not None:
            fresh = self.optimizer_.state_dict()
            self.optimizer_.load_state_dict({**fresh, "state": kept["state"]})
        self.forget_predictor()
        return self

    def close(self, *, keep_optimizer):
        """Let go of what only a fit needs.

        Parameters
        ----------
        keep_optimizer : bool
            Whether the state of the optimiser stays, to go on later.
        """
        self.stored_optimizer = self.optimizer_.state_dict() if keep_optimizer else None
        self.plan = self._average = self._schedule = self._progress = None
        self.module_.zero_grad(set_to_none=True)
        self._set_training(False)
        self.forget_predictor()
        if hasattr(self, "optimizer_"):
            del self.optimizer_

    def _torch_device(self):
        return torch.device(self.device)

    def _trained(self):
        return self.module_ if self.plan.entry is None else self.plan.entry

    def get_split_datasets(self, X, y=None, **fit_params):
        """Take ``(training batches, validation batches or None)`` as they are."""
        return X

    def get_iterator(self, dataset, training=False):
        """Take batches as they are: they are an iterable already."""
        return dataset

    def partial_fit(self, X, y=None, classes=None, epochs=1, **fit_params):
        """Train for some epochs; an interrupt goes through.

        Parameters
        ----------
        X : tuple of (Batches, Batches or None)
            Training and validation batches.

        y : None
            Ignored.

        classes : None
            Ignored.

        epochs : int, default=1
            Passes over the training batches.

        **fit_params : dict
            Ignored.

        Returns
        -------
        self : Net
            The net.
        """
        self.notify("on_train_begin", X=X, y=y)
        self.fit_loop(X, epochs=epochs)
        self.notify("on_train_end", X=X, y=y)
        return self

    def fit_loop(self, X, y=None, epochs=1, **fit_params):
        """Train, validate, keep the best; one pass of the loop is an epoch."""
        train, valid = X
        plan = self.plan
        self._schedule = Schedule(plan.lr_schedule, self.optimizer_, len(train) * epochs)
        plan.step = torch.compile(self._body()) if plan.compile else self._body()
        given = {"dataset_train": train, "dataset_valid": valid}
        with self._bar(len(train) * epochs) as self._progress:
            for _ in range(epochs):
                self.notify("on_epoch_begin", **given)
                if plan.before_epoch is not None:
                    plan.before_epoch()
                lr = self.optimizer_.param_groups[0]["lr"]
                self.run_single_epoch(train, True, "train", self.train_step)
                self.history.record("lr", lr)
                with self.averaged():
                    if valid is not None:
                        self.run_single_epoch(valid, False, "valid", self.validation_step)
                    self.notify("on_epoch_end", **given)
                    stop = self._after_epoch(valid is not None)
                if stop:
                    break
        self._finish()
        return self

    def averaged(self):
        """Context in which the module has the averaged weights, where there are any."""
        return contextlib.nullcontext() if self._average is None else self._average.in_place()

    def _bar(self, total):
        return tqdm(total=total, unit="batch", disable=not self.plan.verbose, leave=True)

    def _after_epoch(self, has_valid):
        plan, row = self.plan, self.history[-1]
        if not np.isfinite(row["train_loss"]):
            raise ValueError(
                f"The training loss is {row['train_loss']} in epoch {len(self.history)}: the fit "
                "has diverged. Lower lr, or set clip_norm."
            )
        if has_valid:
            self._schedule.after_epoch(row["valid_loss"])
        stop = False
        if plan.patience is not None:
            if not plan.best or row["valid_loss"] < plan.best["loss"]:
                state = self._trained().state_dict()
                plan.best = {
                    "state": {name: value.clone() for name, value in state.items()},
                    "epoch": len(self.history),
                    "loss": row["valid_loss"],
                }
            stop = len(self.history) - plan.best["epoch"] >= plan.patience
        if plan.after_epoch is not None:
            stop = bool(plan.after_epoch(self)) or stop
        return stop

    def _finish(self):
        if self.plan.best:
            self._trained().load_state_dict(self.plan.best["state"])
        elif self._average is not None:
            self._average.swap()

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        """Go over the batches once; sums stay on the device until the end of the epoch."""
        sums, losses = 0, []
        for batch in iterator:
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch)
            losses.append(step["loss"].detach())
            self.history.record_batch(f"{prefix}_loss", losses[-1])
            self.history.record_batch(f"{prefix}_batch_size", len(batch[0]))
            sums = sums + step["sums"]
            self.notify("on_batch_end", batch=batch, training=training, **step)
            self._progress.update(int(training))
        # Waiting for the device at every batch would leave it idle in between.
        for row, loss in zip(
            self.history[-1]["batches"], torch.stack(losses).tolist(), strict=False
        ):
            row[f"{prefix}_loss"] = loss
        loss, weight, right, known = sums.tolist()
        self.history.record(f"{prefix}_batch_count", len(losses))
        self.history.record(f"{prefix}_loss", loss / weight if weight else 0.0)
        self.history.record(f"{prefix}_accuracy", right / known if known else float("nan"))
        earlier = self.history[:-1, f"{prefix}_loss"] if len(self.history) > 1 else []
        best = self.history[-1][f"{prefix}_loss"] < min(earlier, default=float("inf"))
        self.history.record(f"{prefix}_loss_best", best)
        self._progress.set_postfix({f"{prefix}_loss": f"{loss / max(weight, 1e-300):.4f}"})

    def train_step_single(self, batch, **fit_params):
        """Forward and backward pass of a batch.

        Parameters
        ----------
        batch : tuple of (Tensor, dict of str to Tensor)
            Rows and target.

        **fit_params : dict
            Ignored.

        Returns
        -------
        dict
            ``loss``, ``y_pred`` and ``sums``, which the epoch adds up.
        """
        self._set_training(True)
        plan, (rows, given) = self.plan, batch
        rows, target = self._prepared(rows, given)
        with autocast(self._torch_device(), plan.dtype):
            logits = plan.step(rows)
        extra = []
        if isinstance(logits, tuple):
            logits, extra = logits
        total, weight = self.criterion_.sums(logits, target)
        loss = objective = total / weight.clamp_min(torch.finfo(weight.dtype).tiny)
        for branch in extra:
            objective = objective + plan.auxiliary_weight * self.criterion_(branch, target)
        objective.backward()
        self.notify(
            "on_grad_computed",
            named_parameters=self._trained().named_parameters(),
            X=batch[0],
            y=batch[1],
            training=True,
        )
        if plan.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._trained().parameters(), plan.clip_norm)
        return self._step(loss, logits, given, total, weight)

    def train_step(self, batch, **fit_params):
        """Train on a batch and let the schedule and the average follow."""
        self.optimizer_.zero_grad(set_to_none=True)
        step = self.train_step_single(batch)
        self.optimizer_.step()
        self._schedule.after_step()
        if self._average is not None:
            self._average.update()
        return step

    def validation_step(self, batch, **fit_params):
        """Compute the loss of a batch without learning from it."""
        self._set_training(False)
        rows, target = batch
        with torch.no_grad():
            logits = self.infer(rows)
            total, weight = self.criterion_.sums(logits, target)
            loss = total / weight.clamp_min(torch.finfo(weight.dtype).tiny)
            return self._step(loss, logits, target, total, weight)

    def _step(self, loss, logits, target, total, weight):
        right, known = hits(logits.detach(), target, self.criterion_.exclusive)
        exact = torch.float32 if total.device.type == "mps" else torch.float64
        sums = torch.stack([total.detach(), weight, right, known]).to(exact)
        return {"loss": loss.detach(), "y_pred": logits.detach(), "sums": sums}

    def _body(self):
        return self.module_.body if self.plan.entry is None else self.plan.entry

    def _prepared(self, rows, target):
        """Rows as the trained part takes them: augmented, mixed and normalised."""
        plan = self.plan
        if plan.entry is not None:
            return rows, target
        dtype = torch.float64 if plan.dtype == torch.float64 else torch.float32
        if plan.augment is None and not plan.mixup:
            return channels_last(self.module_.prepare(rows, dtype)), target
        with torch.no_grad():
            images = self.module_.prepare.unit(rows, dtype)
            if plan.augment is not None:
                images = plan.augment(images)
            if plan.mixup:
                images, target = mix(images, target, plan.mixup, plan.rng)
            return channels_last(self.module_.prepare.normalise(images)), target

    def infer(self, x, **fit_params):
        """Logits of rows on the device, in the precision of the plan."""
        dtype = torch.float32 if self.plan is None else self.plan.dtype
        with autocast(self._torch_device(), dtype):
            if self.plan is not None and self.plan.entry is not None:
                return self.plan.entry(x)
            return self.module_(x)

    def predictor(self, dtype):
        """Module to predict with: cast once and kept, since casting takes as long as an image.

        Parameters
        ----------
        dtype : torch.dtype
            Precision.

        Returns
        -------
        Network
            A copy of the module in evaluation mode.
        """
        kept = getattr(self, "_predictor", None)
        if kept is None or kept[0] != dtype:
            kept = dtype, inference_copy(self.module_, dtype, self._torch_device())
            self._predictor = kept
        return kept[1]

    def forget_predictor(self):
        """Drop the copy that predicts: the weights have changed."""
        self._predictor = None
