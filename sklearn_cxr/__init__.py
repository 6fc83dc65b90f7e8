"""Chest radiographs through scikit-learn.

The rooms are imported at first use, so that ``import sklearn_cxr`` costs next to nothing.
"""

import importlib

from sklearn_cxr._version import __version__

_ROOMS = (
    "datasets",
    "decomposition",
    "exceptions",
    "feature_extraction",
    "imbalance",
    "inspection",
    "linear_model",
    "metrics",
    "model_selection",
    "neural_network",
    "preprocessing",
)

__all__ = [*_ROOMS, "__version__"]


def __getattr__(name):
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(set(globals()) | set(_ROOMS))
