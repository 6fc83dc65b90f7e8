"""Every public estimator, in the configuration that the common tests run it in."""

import importlib

from imblearn.over_sampling import RandomOverSampler
from sklearn.base import BaseEstimator
from tiny_networks import TinyBackbone, TinyConvNet

import sklearn_cxr
from sklearn_cxr.linear_model import PixelLogisticRegression
from sklearn_cxr.preprocessing import HistogramEqualizer, IntensityScaler

# scikit-learn's checks use values such as 3 * normal; what depends on the absolute grey level
# needs to be told their range.
LEVELS = {"value_range": (-1000, 1000)}

# scikit-learn holds a repeated row to a doubled weight to 1e-7: a step has to see all rows, and
# single precision is not enough. What a GPU answers differs in the last digits.
EXACT = {"precision": "float64", "batch_size": 1000, "device": "cpu"}

# Parameters other than the defaults, and why they are needed.
TINY = {
    "CropBorders": LEVELS,
    "HistogramEqualizer": LEVELS,
    "IntensityScaler": LEVELS,
    "LungCrop": LEVELS,
    # The checks' images are rows of a few pixels: 224 of them would only cost time.
    "Resize": {"size": (1, 5)},
    # Weights that are downloaded say nothing of a contract, and published networks pool images
    # that are larger than a row of a few pixels.
    "BackboneFeatures": {"backbone": TinyBackbone, "weights": None, "device": "cpu", **LEVELS},
    # The same of published layers; a higher rate, because an epoch is a single step.
    "CNNClassifier": {"architecture": TinyConvNet, "max_epochs": 40, "lr": 0.05, **EXACT},
    "DenseHeadClassifier": {"hidden": (8,), "max_epochs": 40, "lr": 0.05, **EXACT},
    # The same; and random changes of images and features say nothing of a contract either. With
    # fewer steps than are averaged over, the average would still be the start.
    "TransferClassifier": {
        "backbone": TinyBackbone,
        "weights": None,
        "head": (8,),
        "augment": None,
        "dropout": 0.0,
        "lr_schedule": None,
        "weight_decay": 0.0,
        "weight_averaging": None,
        "max_epochs": 60,
        "lr": 0.03,
        **LEVELS,
        **EXACT,
    },
    # A few penalties and folds say as much as ten and five.
    "PixelLogisticRegressionCV": {"Cs": [1e-2, 1.0], "cv": 2},
    # A meta-estimator has no default for what it wraps. Over-sampling keeps every row, so that
    # the classifier inside meets the one bad value that a check has planted.
    "ResampledClassifier": {
        "estimator": PixelLogisticRegression(),
        "sampler": RandomOverSampler(),
    },
}

# Modes that compute something else than the default does.
MODES = [
    HistogramEqualizer("adaptive", **LEVELS),
    IntensityScaler("standard"),
    IntensityScaler("percentile"),
    IntensityScaler("standard", per="dataset"),
    IntensityScaler("percentile", per="dataset"),
]

PATH_ESTIMATORS = ("ImageReader",)
# These take rows of features and no images.
FEATURE_ESTIMATORS = ("DenseHeadClassifier",)


def public_estimator_classes():
    """All estimator classes that a room lists in its ``__all__``."""
    found = {}
    for room in sklearn_cxr._ROOMS:
        module = importlib.import_module(f"sklearn_cxr.{room}")
        for name in module.__all__:
            value = getattr(module, name)
            if isinstance(value, type) and issubclass(value, BaseEstimator):
                found[name] = value
    return [found[name] for name in sorted(found)]


def tiny(cls):
    """Instance of an estimator class in the configuration of the common tests."""
    return cls(**TINY.get(cls.__name__, {}))


def array_estimators():
    """Instances of all estimators but those that take paths."""
    classes = [c for c in public_estimator_classes() if c.__name__ not in PATH_ESTIMATORS]
    return [tiny(cls) for cls in classes] + MODES


def name_of(estimator):
    """Name of the class, for test ids."""
    return type(estimator).__name__
