"""The optimiser of pixels. Imports torch, so it is itself imported at first use."""

import numpy as np
import torch
from tqdm import tqdm

from sklearn_cxr.neural_network._inference import batches_in_order


def optimise(model, indices, kept, *, steps, lr, tv, distance, from_films, verbose):
    """Move pixels toward a class.

    Parameters
    ----------
    model : Model
        The function of the films.

    indices : ndarray of shape (n,), dtype int64
        Position of the class that each film goes to.

    kept : ndarray of int
        Steps before which a picture is kept, ascending, `steps` for the last.

    steps : int
        Number of steps.

    lr : float
        Learning rate.

    tv, distance : float
        Weights of the penalties.

    from_films : bool
        Whether the penalties are on the change, or, from noise, on the image itself.

    verbose : int
        With 1, a progress bar.

    Returns
    -------
    images : ndarray of shape (n, n_kept, h, w[, c]), dtype float32
        Pictures, black 0 and white 1.

    probability : ndarray of shape (n, steps + 1), dtype float64
        Of the class.
    """
    pictures, curves = [], []
    with tqdm(total=len(model.rows) * steps, unit="step", disable=not verbose) as bar:
        for positions in batches_in_order(len(model.rows), model.batch_size):
            wanted = torch.from_numpy(indices[positions]).to(model.device)
            start = model.unit(positions)
            penalty = _Penalty(start if from_films else None, tv, distance)
            found = _of_batch(model, start, wanted, kept, steps, lr, penalty, bar)
            pictures.append(found[0])
            curves.append(found[1])
    images = np.concatenate(pictures)
    images = images[:, :, 0] if len(model.shape) == 2 else np.moveaxis(images, 2, -1)
    return images, np.concatenate(curves)


class _Penalty:
    """Total variation and size of the change; from noise, total variation of the image."""

    def __init__(self, start, tv, distance):
        self.start, self.tv, self.distance = start, tv, distance

    def __call__(self, images):
        if self.start is None:
            return 100 * self.tv * _variation(images)
        change = images - self.start
        size = change.square().mean(dim=(1, 2, 3))
        return 100 * (self.tv * _variation(change) + self.distance * size)


def _of_batch(model, start, wanted, kept, steps, lr, penalty, bar):
    images = start.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([images], lr=lr)
    pictures, curve = [], []
    for step in range(steps + 1):
        if step in kept:
            # A copy, because the optimiser goes on in the same memory.
            pictures.append(images.detach().to(torch.float32).cpu().numpy().copy())
        with torch.set_grad_enabled(step < steps):
            likelihood = model.log_probability(images, wanted)
            curve.append(likelihood.detach().to(torch.float32).cpu().double().exp().numpy())
            if step == steps:
                break
            loss = penalty(images) - likelihood
        (images.grad,) = torch.autograd.grad(loss.sum(), images)
        optimizer.step()
        with torch.no_grad():
            images.clamp_(0, 1)
        bar.update(len(images))
    return np.stack(pictures, axis=1), np.stack(curve, axis=1)


def _variation(images):
    """Mean difference of neighbours, of each image."""
    differences = torch.zeros(len(images), dtype=images.dtype, device=images.device)
    for axis in (2, 3):
        if images.shape[axis] > 1:
            differences = differences + images.diff(dim=axis).abs().mean(dim=(1, 2, 3))
    return differences
