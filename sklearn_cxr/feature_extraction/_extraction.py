"""Images to features: the loop over a frozen backbone."""

from contextlib import nullcontext

import numpy as np
import torch
from tqdm import tqdm

from sklearn_cxr.neural_network._device import gpu_turn, resolve_precision
from sklearn_cxr.neural_network._inference import iterate_batches


class Extraction:
    """One call of ``transform``: batches of positions in, their features out.

    Parameters
    ----------
    estimator : BackboneFeatures
        Fitted.

    X : ndarray or row view
        Images, validated.

    prepare : Prepare
        Brings them to the form that the backbone takes.

    device : torch.device
        Where to compute.

    Attributes
    ----------
    out_dtype : dtype
        Of the features.
    """

    def __init__(self, estimator, X, prepare, device):
        self._X, self._prepare, self._device = X, prepare, device
        self._estimator, self._network = estimator, estimator._network
        self._dtype = resolve_precision(estimator.precision, device)
        self.out_dtype = np.float64 if self._dtype == torch.float64 else np.float32

    def description(self):
        """All that decides the features of an image, as JSON can write it."""
        prepare, given = self._prepare, self._estimator.value_range
        return {
            **self._network.description(),
            "precision": str(self._dtype),
            "value_range": None if given is None else [prepare.low, prepare.high],
            "mean": prepare.mean.tolist(),
            "std": prepare.std.tolist(),
        }

    def __call__(self, batches):
        """Yield positions and features of each batch."""
        estimator, n = self._estimator, len(self._X)
        total = len(batches) if hasattr(batches, "__len__") else n
        # One batch needs no turn: someone may be waiting for it.
        turn = gpu_turn(self._device) if total > estimator.batch_size else nullcontext()
        bar = tqdm(total=total, unit="img", desc=self._network.name, disable=not estimator.verbose)
        with turn, bar:
            for positions, rows in iterate_batches(
                self._network.on(self._device, self._dtype),
                self._X,
                batches,
                device=self._device,
                dtype=self._dtype,
                prepare=self._prepare,
                image_shape=estimator.image_shape_,
            ):
                self._check_finite(rows)
                yield positions, rows
                bar.update(len(positions))

    def _check_finite(self, rows):
        bad = int((~np.isfinite(rows)).any(axis=1).sum())
        if bad:
            raise ValueError(
                f"{self._network.name} gives features that are not finite for {bad} of "
                f"{len(rows)} images of a batch, in {self._dtype}. Check the weights, or say "
                "precision='float32'."
            )
