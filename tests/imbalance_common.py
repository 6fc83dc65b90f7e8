"""What the tests of resampling share: films, and a classifier that records what it gets."""

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

FITS = []


class Recorder(ClassifierMixin, BaseEstimator):
    """Records what its fit gets."""

    __metadata_request__fit = {"groups": True}

    def __init__(self, tag=0):
        self.tag = tag

    def fit(self, X, y, groups=None, sample_weight=None):
        FITS.append({"X": X, "y": y, "groups": groups, "sample_weight": sample_weight})
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.repeat(self.classes_[:1], len(X))


def make_films():
    """60 images of 25 patients; 15 are normal. Pixel (0, 0) holds the row number."""
    rng = np.random.RandomState(0)
    patients = np.sort(rng.randint(0, 25, 60))
    y = np.where(np.isin(patients, [0, 3, 7, 8, 12, 20]), "normal", "pneumonia")
    X = rng.randint(0, 255, size=(60, 4, 4)).astype(np.uint8)
    X[:, 0, 0] = np.arange(60)
    return X, y, patients, np.arange(60) + 0.5


def lengths(fit):
    return {name: None if v is None else len(v) for name, v in fit.items()}
