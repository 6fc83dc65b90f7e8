"""Every public estimator, in the configuration that the common tests run it in."""

import importlib

from imblearn.over_sampling import RandomOverSampler
from sklearn.base import BaseEstimator

import sklearn_cxr
from sklearn_cxr.linear_model import PixelLogisticRegression
from sklearn_cxr.preprocessing import HistogramEqualizer, IntensityScaler

# scikit-learn's checks use values such as 3 * normal; what depends on the absolute grey level
# needs to be told their range.
LEVELS = {"value_range": (-1000, 1000)}

# Parameters other than the defaults, and why they are needed.
TINY = {
    "CropBorders": LEVELS,
    "HistogramEqualizer": LEVELS,
    "IntensityScaler": LEVELS,
    "LungCrop": LEVELS,
    # The checks' images are rows of a few pixels: 224 of them would only cost time.
    "Resize": {"size": (1, 5)},
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
