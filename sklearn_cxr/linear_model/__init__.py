"""Linear classifiers on pixels."""

from sklearn_cxr.linear_model._logistic import PixelLogisticRegression

__all__ = ["PixelLogisticRegression"]
