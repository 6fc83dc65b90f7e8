"""One fit of a network: batches, plan, epochs, and what is left on the estimator."""

import numpy as np
import torch

from sklearn_cxr.neural_network._augmentation import make_augmentation, tta_views
from sklearn_cxr.neural_network._callbacks import check_callbacks
from sklearn_cxr.neural_network._device import gpu_turn, resolve_device
from sklearn_cxr.neural_network._loss import CrossEntropy, class_weights, encode_targets
from sklearn_cxr.neural_network._memory import (
    batch_that_fits,
    is_out_of_memory,
    network_fits,
    out_of_memory,
    retried,
)
from sklearn_cxr.neural_network._optim import check_optimizer
from sklearn_cxr.neural_network._plan import Plan
from sklearn_cxr.neural_network._seeds import seeded
from sklearn_cxr.neural_network._skorch import Net
from sklearn_cxr.neural_network._sources import Batches, RowSource
from sklearn_cxr.utils._sklearn import fit_step

HISTORY = ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "lr")
# torch's own words for it do not say what to do.
_ONE_ROW = (
    "Batch normalisation has no variance over a batch of one row. Train on two rows or more at a "
    "time, with batch_size=2 or more, or without batch normalisation."
)


class Run:
    """One fit.

    Parameters
    ----------
    estimator : BaseNetworkClassifier
        Its parameters say how; it gets the fitted attributes.

    rows : ndarray or row-indexed view
        Validated images or features.

    labels : Labels
        Their labels.

    weight : ndarray of shape (n,)
        Their weights.

    sides : tuple of (ndarray, ndarray or None)
        Row numbers that train and that judge.

    rng : RandomState
        Governs the weights, the order of the batches and the augmentation.

    previous : Net or None
        The net to go on from.
    """

    def __init__(self, estimator, rows, labels, weight, sides, rng, previous):
        self.estimator, self.rows, self.sides, self.previous = estimator, rows, sides, previous
        self.exclusive = labels.exclusive
        self.device = resolve_device(estimator.device)
        self.dtype = estimator._dtype(self.device)
        check_optimizer(estimator.optimizer, estimator.weight_decay)
        check_callbacks(estimator.callbacks, type(estimator).__name__)
        self._check_batches()
        self.seed = rng.randint(2**31)
        self.shuffle = np.random.RandomState(rng.randint(2**31))
        self.mixing = np.random.RandomState(rng.randint(2**31))
        self.augment = make_augmentation(estimator.augment, bounded=estimator._bounded())
        # A misspelt view is met now and not after the fit.
        next(tta_views(torch.zeros(1, 1, 1, 1), estimator.tta))
        factors = class_weights(estimator.class_weight, labels.codes, weight, labels.classes)
        exact = torch.float64 if self.dtype == torch.float64 else torch.float32
        self.targets = {
            "labels": torch.as_tensor(
                encode_targets(labels.codes, len(labels.classes)), dtype=exact
            ),
            "weights": torch.as_tensor(factors * weight[:, None], dtype=exact),
        }

    def _check_batches(self):
        """Meet batches of one row before anything is changed, where they cannot be learnt from."""
        estimator = self.estimator
        normalised = len(estimator._row_shape()) == 1 and estimator._spec["batch_norm"]
        if normalised and min(estimator.batch_size, len(self.sides[0])) == 1:
            raise ValueError(_ONE_ROW)

    def train(self, epochs, *, task, given):
        """Train and leave the fitted net on the estimator.

        Parameters
        ----------
        epochs : int
            Largest number of epochs.

        task : CallbackContext or None
            The fit's, for scikit-learn's callbacks.

        given : tuple of array-like
            X and y as the user gave them, for scikit-learn's callbacks.
        """
        estimator = self.estimator
        patience = estimator.patience if estimator.early_stopping else None
        watch = None if task is None else (task, given)
        self._train(epochs, estimator.lr_schedule, patience, watch, estimator.warm_start)

    def train_part(self):
        """Train for one epoch, with what it takes to go on."""
        self._train(1, None, None, None, True)

    def _train(self, epochs, schedule, patience, watch, goes_on):
        with gpu_turn(self.device), seeded(self.seed, self.device):
            with network_fits(self.device):
                module = self._module()
                module.to(self.device)
                # Not before: until its turn has come a fit takes nothing of the GPU.
                self.targets = {k: v.to(self.device) for k, v in self.targets.items()}
            source, entry = self._source(module)
            try:
                self._train_on(
                    source, module, self._plan(schedule, patience, entry), epochs, watch
                )
            finally:
                # At the end of the turn all of it goes back.
                source.leave_device()
            self._keep(goes_on)

    def _train_on(self, source, module, plan, epochs, watch):
        plan.relieve = source.leave_device
        with network_fits(self.device):
            self.net = net = retried(lambda: self._net(module, plan), source.leave_device)
        if watch is not None:
            self._watch(net, *watch)
        batches = self._batches(source)
        if not self._went_through(net, batches, epochs):
            raise self._explain(net, batches[0])

    @staticmethod
    def _went_through(net, batches, epochs):
        """Train; False where a batch did not fit into the memory."""
        try:
            net.partial_fit(batches, epochs=epochs)
        except ValueError as error:
            if "more than 1 value per channel" in str(error):
                raise ValueError(_ONE_ROW) from error
            raise
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            # Not explained here, because the traceback holds what took the memory.
            return False
        return True

    def _source(self, module):
        """Where the batches come from, and the part of the network that they go into."""
        estimator = self.estimator
        frozen = estimator._features(module, self.rows, self.device, self.dtype)
        if frozen is None:
            return RowSource(self.rows, estimator._row_shape(), self.device), None
        features, entry = frozen
        return RowSource(features, features.shape[1:], self.device), entry

    def _net(self, module, plan):
        estimator = self.estimator
        net = Net(
            module,
            CrossEntropy(self.exclusive, estimator.label_smoothing),
            plan=plan,
            callbacks=estimator.callbacks,
            device=self.device,
        ).initialize()
        if self.previous is not None:
            net.follow(self.previous)
        return net

    def _module(self):
        module = self.estimator._initial() if self.previous is None else self.previous.module_
        exact = torch.float64 if self.dtype == torch.float64 else torch.float32
        if torch.float64 in (exact, module.dtype):
            module = module.to(exact)
        return module.to(memory_format=torch.channels_last)

    def _batches(self, source):
        train, valid = self.sides
        size = self.estimator.batch_size
        batches = Batches(source, self.targets, train, size, shuffle=self.shuffle)
        if valid is None:
            return batches, None
        return batches, Batches(source, self.targets, valid, size)

    def _plan(self, schedule, patience, entry):
        estimator = self.estimator
        return Plan(
            dtype=self.dtype,
            groups=estimator._groups,
            optimizer=estimator.optimizer,
            weight_decay=estimator.weight_decay,
            lr_schedule=schedule,
            augment=self.augment,
            mixup=estimator.mixup,
            clip_norm=estimator.clip_norm,
            weight_averaging=estimator.weight_averaging,
            auxiliary_weight=estimator._auxiliary_weight(),
            patience=patience,
            compile=estimator.compile,
            entry=entry,
            rng=self.mixing,
            verbose=bool(estimator.verbose),
        )

    def _watch(self, net, task, given):
        """Announce each epoch to scikit-learn's callbacks."""
        estimator, steps = self.estimator, []

        def before():
            steps.append(fit_step(task, estimator, *given, name="epoch"))

        def after(net):
            net.forget_predictor()
            return steps[-1](net_=net, **self._attributes(net))

        net.plan.before_epoch, net.plan.after_epoch = before, after

    def _explain(self, net, batches):
        # This fit is over: nobody is told of steps that only look for a size.
        net.callbacks_ = []

        def attempt(n_rows):
            index = batches.rows[:n_rows]
            here = torch.as_tensor(index, device=self.device)
            target = {name: values[here] for name, values in self.targets.items()}
            net.step_weights((batches.source.take(index), target))

        fits = batch_that_fits(attempt, min(self.estimator.batch_size, len(batches.rows)))
        return out_of_memory(self.device, self.estimator.batch_size, fits, "training")

    @staticmethod
    def _attributes(net):
        history = net.history
        # Where a fit went on from another, images may have been held out in one of them only.
        columns = [name for name in HISTORY if any(name in row for row in history)]
        table = {name: np.array([row.get(name, np.nan) for row in history]) for name in columns}
        best = net.plan.best.get("epoch", len(history))
        return {"n_iter_": len(history), "best_epoch_": best, "_history": table}

    def _keep(self, optimizer):
        for name, value in self._attributes(self.net).items():
            setattr(self.estimator, name, value)
        self.net.close(keep_optimizer=optimizer)
        self.net.asked = str(self.estimator.device)
        self.estimator.net_ = self.net
