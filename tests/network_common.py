"""Films of a few pixels, and networks small enough to be fitted many times in a test."""

import numpy as np
import torch
from tiny_networks import TinyBackbone, TinyConvNet
from torch import nn

from sklearn_cxr.neural_network import CNNClassifier, DenseHeadClassifier, TransferClassifier


def make_films(n=24, side=9, n_classes=2, seed=0, per_patient=2):
    """uint8 films whose brightness tells the class; classes and patients."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) // per_patient % n_classes
    X = rng.integers(0, 120, size=(n, side, side)) + 60 * y[:, None, None] % 180
    X[:, 0, :] = 0
    return X.astype(np.uint8), y, np.arange(n) // per_patient


def make_labels(n=24, n_labels=3, seed=0, unknown=0.2):
    """Several labels with NaN, of which each has both values."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, size=(n, n_labels)).astype(float)
    labels[rng.random(labels.shape) < unknown] = np.nan
    labels[:2] = [[0.0], [1.0]]
    return labels


def cnn(architecture=TinyConvNet, **params):
    """A network from scratch."""
    params = {"max_epochs": 2, "lr": 0.01, "random_state": 0, "device": "cpu"} | params
    return CNNClassifier(architecture, **params)


def transfer(backbone=TinyBackbone, **params):
    """A transferred network, without what only large ones need."""
    defaults = {"weights": None, "augment": None, "lr_schedule": None, "weight_averaging": None}
    params = defaults | {"max_epochs": 2, "random_state": 0, "device": "cpu"} | params
    return TransferClassifier(backbone, **params)


def dense(hidden=(8,), **params):
    """Dense layers on features."""
    return DenseHeadClassifier(
        hidden, **({"max_epochs": 2, "random_state": 0, "device": "cpu"} | params)
    )


def exact(make, **params):
    """An estimator that takes all rows at once, in double precision."""
    return make(**({"precision": "float64", "batch_size": 1000} | params))


class StagedBackbone(nn.Module):
    """Two stages with batch normalisation."""

    def __init__(self):
        super().__init__()
        self.stage1 = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU())
        self.stage2 = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())

    def forward(self, images):
        return self.stage2(self.stage1(images)).mean(dim=(2, 3))


def weights_of(estimator):
    """Weights and statistics of a fitted network by name, as arrays."""
    state = estimator.net_.module_.state_dict()
    return {name: value.numpy().copy() for name, value in state.items()}


def assert_same_weights(one, other, **tolerance):
    """Compare the weights of two fitted networks."""
    one, other = weights_of(one), weights_of(other)
    assert one.keys() == other.keys()
    for name in one:
        if tolerance:
            np.testing.assert_allclose(one[name], other[name], err_msg=name, **tolerance)
        else:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def identity(images):
    """An augmentation that changes nothing, but makes the network see every image anew."""
    return images


class InChunks:
    """A row-indexed view that keeps how many rows were ever asked for at once."""

    def __init__(self, rows):
        self._rows, self.shape, self.dtype = rows, rows.shape, rows.dtype
        self.ndim, self.size, self.largest = rows.ndim, rows.size, 0

    def __len__(self):
        return len(self._rows)

    def __getitem__(self, key):
        out = self._rows[key]
        self.largest = max(self.largest, len(out))
        return out

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("the whole view was asked for")


def global_states():
    """States of the global generators that a fit must leave alone."""
    return np.random.get_state()[1].copy(), torch.get_rng_state().numpy().copy()  # noqa: NPY002 - it is the global one that is meant
