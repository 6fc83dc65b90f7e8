"""skorch's net, trained on batches that are already on the device; nothing else imports skorch."""

import contextlib
import traceback

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping, EpochTimer
from skorch.callbacks.scoring import ScoringBase as ScoringBase  # for _callbacks
from tqdm import tqdm

from sklearn_cxr.neural_network._depthwise import training_precision
from sklearn_cxr.neural_network._loss import hits, mix
from sklearn_cxr.neural_network._memory import retried
from sklearn_cxr.neural_network._network import channels_last, inference_copy
from sklearn_cxr.neural_network._optim import (
    Schedule,
    WeightAverage,
    diverged,
    load_state,
    make_optimizer,
    named_state,
    not_finite,
)


def is_request(error):
    """Tell skorch's early stopping, which raises what Ctrl-C raises, from Ctrl-C."""
    frame, _ = list(traceback.walk_tb(error.__traceback__))[-1]
    own = frame.f_locals.get("self")
    return (
        isinstance(own, EarlyStopping)
        and frame.f_code is EarlyStopping.on_epoch_end.__code__
        and own.misses_ == own.patience
    )


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
        self.plan, self.stored_optimizer, self._asked_to_stop = plan, None, False
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

    def follow(self, previous):
        """Go on where another net with the same module has ended.

        Parameters
        ----------
        previous : Net
            Its history and average go on, and the state of its optimiser if of the same kind.
        """
        self.history = previous.history
        kept = previous.stored_optimizer or {}
        if kept.get("optimizer") == self._optimizer_name():
            load_state(self.optimizer_, self.module_, kept["state"])
        if self._average is not None and kept.get("average") is not None:
            self._average.go_on(kept["average"])

    def _optimizer_name(self):
        optimizer = self.plan.optimizer
        return optimizer if isinstance(optimizer, str) else optimizer.__qualname__

    def close(self, *, keep_optimizer):
        """Let go of what only a fit needs.

        Parameters
        ----------
        keep_optimizer : bool
            Whether the state of the optimiser and the last step's weights stay, to go on later.
        """
        self.stored_optimizer = None
        if keep_optimizer:
            state = named_state(self.optimizer_, self.module_)
            self.stored_optimizer = {"optimizer": self._optimizer_name(), "state": state}
            # The weights of the best epoch are no average: from them a new one begins.
            if self._average is not None and not self.plan.best:
                self.stored_optimizer["average"] = self._average.raw()
        self.plan = self._average = self._schedule = self._progress = None
        self.module_.zero_grad(set_to_none=True)
        self._set_training(False)
        self.forget_predictor()
        del self.optimizer_

    def notify(self, method_name, **cb_kwargs):
        """Call the callbacks; one of skorch's that interrupts only asks for the end.

        Parameters
        ----------
        method_name : str
            What has happened.

        **cb_kwargs : dict
            What the callbacks get.
        """
        try:
            super().notify(method_name, **cb_kwargs)
        except KeyboardInterrupt as error:
            if not is_request(error):
                raise
            self._asked_to_stop = True

    def _set_training(self, training=True):
        # To walk over a large network takes as long as a small step: only where it changes.
        if self.module_.training is not training:
            super()._set_training(training)

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
        """Train for some epochs on ``(training batches, validation batches or None)``."""
        self.notify("on_train_begin", X=X, y=y)
        self.fit_loop(X, epochs=epochs)
        self.notify("on_train_end", X=X, y=y)
        return self

    def fit_loop(self, X, y=None, epochs=1, **fit_params):
        """Train, validate, keep the best; one pass of the loop is an epoch."""
        train, valid = X
        plan, self._asked_to_stop = self.plan, False
        # A mask of the user's, say, may be infinite from the start.
        before = not_finite(self._trained())
        # Parts of a new network are in modes of their own.
        super()._set_training(True)
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
                    stop = self._after_epoch(valid is not None) or self._asked_to_stop
                if stop:
                    break
        self._finish(before)
        return self

    def averaged(self):
        """Context in which the module has the averaged weights, where there are any."""
        return contextlib.nullcontext() if self._average is None else self._average.in_place()

    def _bar(self, total):
        return tqdm(total=total, unit="batch", disable=not self.plan.verbose, leave=True)

    def _after_epoch(self, has_valid):
        plan, row = self.plan, self.history[-1]
        if has_valid:
            by_loss = plan.patience is not None or plan.lr_schedule == "plateau"
            if by_loss and not np.isfinite(row["valid_loss"]):
                raise ValueError(
                    f"The validation loss is {row['valid_loss']} in epoch {len(self.history)}, "
                    "and early stopping or the plateau schedule go by it. Lower lr, set "
                    "clip_norm, and look whether the weights of the classes held out are 0."
                )
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

    def _finish(self, not_finite_before):
        if self.plan.best:
            self._trained().load_state_dict(self.plan.best["state"])
        elif self._average is not None:
            self._average.leave_in_place()
        # The losses are those before each step: of the last step only the weights tell.
        if not_finite(self._trained()) - not_finite_before:
            raise diverged("weights are not finite after", len(self.history))

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        """Go over the batches once; sums stay on the device until the end of the epoch."""
        sums, losses = 0, []
        if training:
            self.forget_predictor()
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
        # Batches of training and validation stand in one list.
        rows = self.history[-1]["batches"][-len(losses) :]
        for row, loss in zip(rows, torch.stack(losses).tolist(), strict=True):
            row[f"{prefix}_loss"] = loss
        loss, weight, right, known = sums.tolist()
        # Nothing known of any weight is no loss, and not one of 0.
        loss = loss / weight if weight else float("nan")
        if training and weight and not np.isfinite(loss):
            raise diverged(f"training loss is {loss} in", len(self.history))
        self.history.record(f"{prefix}_batch_count", len(losses))
        self.history.record(f"{prefix}_loss", loss)
        self.history.record(f"{prefix}_accuracy", right / known if known else float("nan"))
        name = f"{prefix}_loss"
        earlier = [row[name] for row in self.history[:-1] if np.isfinite(row.get(name, np.nan))]
        best = self.history[-1][name] < min(earlier, default=float("inf"))
        self.history.record(f"{name}_best", best)
        self._progress.set_postfix({f"{prefix}_loss": f"{loss:.4f}"})

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
        with training_precision(self._torch_device(), plan.dtype, compiled=plan.compile):
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
        step = self.step_weights(batch)
        self._schedule.after_step()
        return step

    def step_weights(self, batch):
        """Train on a batch; where it does not fit, once more after other things have left."""

        def attempt():
            self.optimizer_.zero_grad(set_to_none=True)
            return self.train_step_single(batch)

        step = retried(attempt, self.plan.relieve or bool)
        self.optimizer_.step()
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
                if images.untyped_storage().data_ptr() == rows.untyped_storage().data_ptr():
                    # The user's own X, which a function of the user's may write to.
                    images = images.clone()
                images = plan.augment(images)
            if plan.mixup:
                images, target = mix(images, target, plan.mixup, plan.rng)
            return channels_last(self.module_.prepare.normalise(images)), target

    def infer(self, x, **fit_params):
        """Logits of rows on the device, in the precision of the plan."""
        if self.plan is not None and self.plan.entry is not None:
            return self.plan.entry(x)
        if self.plan is not None and self.plan.dtype == torch.bfloat16:
            # What will predict, so that epochs are judged by the answers that users get.
            return self.predictor(torch.bfloat16)(x)
        return self.module_(x)

    def predictor(self, dtype):
        """Give the module to predict with: cast once and kept, since casting takes long.

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
