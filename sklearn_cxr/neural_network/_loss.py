"""Cross-entropy over weighted, smoothed, mixed or partly unknown labels."""

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax

from sklearn_cxr.neural_network._prepare import send


def encode_targets(codes, n_classes):
    """Labels as the columns that the loss compares with the network's outputs.

    Parameters
    ----------
    codes : ndarray of shape (n,), int, or (n, k), float
        Numbers of the classes; or 0, 1 and NaN for each label.

    n_classes : int
        Number of classes; not asked for where `codes` has columns.

    Returns
    -------
    ndarray of shape (n, n_outputs), dtype=float64
        One column for two classes, one for each of several, the labels themselves otherwise.
    """
    if codes.ndim == 2:
        return codes.astype(np.float64)
    if n_classes == 2:
        return codes.astype(np.float64)[:, None]
    return np.eye(n_classes)[codes]


def class_weights(class_weight, codes, weight, classes):
    """Weight of each label of each image by its class.

    Parameters
    ----------
    class_weight : dict, list of dict, "balanced" or None
        As the estimators take it.

    codes : ndarray of shape (n,), int, or (n, k), float
        Numbers of the classes; or 0, 1 and NaN for each label.

    weight : ndarray of shape (n,)
        Weight of each image, which "balanced" counts with.

    classes : ndarray of shape (n_classes,)
        Labels by number, to look a dict up.

    Returns
    -------
    ndarray of shape (n, 1) or (n, k)
        Factors of the loss.

    Raises
    ------
    ValueError
        If a dict names a class that is not there, or a weight is negative or not finite.
    """
    if codes.ndim == 1:
        if class_weight is None:
            return np.ones((len(codes), 1))
        return _one_label(class_weight, codes, weight, classes.tolist())[codes][:, None]
    return _many_labels(class_weight, codes, weight)


def _checked(weights, class_weight):
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError(
            f"class_weight must hold finite weights of 0 or more, got {class_weight!r}."
        )
    return weights


def _one_label(class_weight, codes, weight, known):
    if isinstance(class_weight, str):
        counts = np.bincount(codes, weights=weight, minlength=len(known))
        return weight.sum() / (len(known) * np.where(counts > 0, counts, 1))
    if not isinstance(class_weight, dict):
        raise ValueError(
            f"class_weight must be a dict by class, 'balanced' or None, got {class_weight!r}."
        )
    strangers = [label for label in class_weight if label not in known]
    if strangers:
        raise ValueError(f"class_weight names {strangers}, but the classes are {known}.")
    weights = np.array([class_weight.get(label, 1.0) for label in known], dtype=float)
    return _checked(weights, class_weight)


def _many_labels(class_weight, codes, weight):
    n_labels = codes.shape[1]
    if class_weight is None:
        return np.ones_like(codes)
    if isinstance(class_weight, str):
        positive = np.nansum(weight[:, None] * codes, axis=0)
        negative = np.nansum(weight[:, None] * (1 - codes), axis=0)
        total = np.maximum(positive + negative, 1e-300)
        # Of the CheXNet study: positives weigh as the share of negatives, and the reverse. Times
        # two, so that a balanced label keeps its weight among the others.
        pairs = 2 * np.column_stack([positive / total, negative / total])
    else:
        dicts = [class_weight] * n_labels if isinstance(class_weight, dict) else class_weight
        if len(dicts) != n_labels or not all(set(d) <= {0, 1} for d in dicts):
            raise ValueError(
                "For several labels class_weight is 'balanced', a dict {0: ..., 1: ...} for all, "
                f"or a list of {n_labels} such dicts, one for each label; got {class_weight!r}."
            )
        pairs = np.array([[d.get(0, 1.0), d.get(1, 1.0)] for d in dicts], dtype=float)
        _checked(pairs, class_weight)
    return np.where(codes == 1, pairs[:, 1], pairs[:, 0])


class CrossEntropy(nn.Module):
    """Weighted mean of the cross-entropy: what is summed is divided by the sum of the weights.

    Parameters
    ----------
    exclusive : bool
        Whether the outputs are classes that exclude each other (softmax), else each is a label
        or the only one (sigmoid).

    label_smoothing : float, default=0.0
        Share of each label that is spread over all classes.
    """

    def __init__(self, exclusive, label_smoothing=0.0):
        super().__init__()
        self.exclusive, self.label_smoothing = exclusive, label_smoothing

    def forward(self, logits, target):
        """Compute the loss of a batch.

        Parameters
        ----------
        logits : Tensor of shape (n, n_outputs)
            The network's outputs.

        target : dict of str to Tensor
            ``labels`` of shape (n, n_outputs), NaN where unknown, and ``weights`` of shape
            (n, 1) or (n, n_outputs).

        Returns
        -------
        Tensor of shape ()
            The loss.
        """
        total, weight = self.sums(logits, target)
        return total / weight.clamp_min(torch.finfo(weight.dtype).tiny)

    def sums(self, logits, target):
        """Weighted sum of the losses, and the sum of the weights."""
        labels, weights = target["labels"], target["weights"]
        exact = torch.float64 if logits.dtype == torch.float64 else torch.float32
        logits, labels, weights = logits.to(exact), labels.to(exact), weights.to(exact)
        if self.exclusive:
            smooth = self.label_smoothing / labels.shape[1]
            labels = labels * (1 - self.label_smoothing) + smooth
            losses = -(labels * log_softmax(logits, dim=1)).sum(dim=1, keepdim=True)
        else:
            known = ~labels.isnan()
            labels = torch.where(known, labels, 0.0)
            labels = labels * (1 - self.label_smoothing) + self.label_smoothing / 2
            losses = binary_cross_entropy_with_logits(logits, labels, reduction="none")
            weights = weights * known
        return (losses * weights).sum(), weights.expand_as(losses).sum()


def hits(logits, target, exclusive):
    """Count the known labels that the outputs have right, and the known labels."""
    labels = target["labels"]
    if exclusive:
        right = logits.argmax(dim=1) == labels.argmax(dim=1)
        return right.sum(), torch.full((), len(labels), device=labels.device)
    known = ~labels.isnan()
    return (((logits > 0) == (labels > 0.5)) & known).sum(), known.sum()


def mix(images, target, alpha, rng):
    """Mix each image and its labels with another of the batch (mixup).

    Parameters
    ----------
    images : Tensor of shape (n, ...)
        A batch.

    target : dict of str to Tensor
        See `CrossEntropy`.

    alpha : float
        Of the Beta distribution that the share of the other image is drawn from.

    rng : RandomState
        Draws shares and partners.

    Returns
    -------
    images : Tensor of shape (n, ...)
        Mixed.

    target : dict of str to Tensor
        Weights mixed by share, labels by share and weight, so that what has no weight is absent.
        A label unknown in either is unknown.
    """
    share = rng.beta(alpha, alpha, size=len(images))
    # The larger part is the image's own, so that its label still describes it best. Cast on the
    # host, since Apple's GPU has no float64.
    share = torch.as_tensor(np.maximum(share, 1 - share)).to(images.dtype)
    share = send(share, images.device)
    other = send(torch.as_tensor(rng.permutation(len(images))), images.device)

    def parts(values):
        own = share.to(values.dtype).reshape(-1, *[1] * (values.ndim - 1))
        return own * values, (1 - own) * values[other]

    labels, (first, second) = target["labels"], parts(target["weights"])
    weights = first + second
    mixed = torch.where(first > 0, first * labels, 0.0)
    mixed = mixed + torch.where(second > 0, second * labels[other], 0.0)
    mixed = torch.where(weights > 0, mixed / weights, labels)
    return torch.add(*parts(images)), {"labels": mixed, "weights": weights}
