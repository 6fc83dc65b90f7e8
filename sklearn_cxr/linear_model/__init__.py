"""Linear classifiers on pixels."""

from sklearn_cxr.linear_model._logistic import PixelLogisticRegression
from sklearn_cxr.linear_model._logistic_cv import PixelLogisticRegressionCV

__all__ = ["PixelLogisticRegression", "PixelLogisticRegressionCV"]
