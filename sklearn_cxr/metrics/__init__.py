"""How good is it, and how sure is that: metrics with intervals by patient."""

from sklearn_cxr.metrics._bootstrap import bootstrap_interval
from sklearn_cxr.metrics._calibration import calibration_error, calibration_error_interval
from sklearn_cxr.metrics._interval import Interval
from sklearn_cxr.metrics._multilabel import (
    multilabel_report,
    nan_average_precision_score,
    nan_roc_auc_score,
)
from sklearn_cxr.metrics._operating_point import OperatingPoint, operating_point
from sklearn_cxr.metrics._roc_auc import RocAucTestResult, roc_auc_interval, roc_auc_test
from sklearn_cxr.metrics._scorers import (
    constrained_sensitivity_scorer,
    constrained_specificity_scorer,
    nan_average_precision_scorer,
    nan_roc_auc_scorer,
    sensitivity_at_specificity_scorer,
    specificity_at_sensitivity_scorer,
)
from sklearn_cxr.metrics._thresholds import (
    constrained_sensitivity_score,
    constrained_specificity_score,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
)

__all__ = [
    "Interval",
    "OperatingPoint",
    "RocAucTestResult",
    "bootstrap_interval",
    "calibration_error",
    "calibration_error_interval",
    "constrained_sensitivity_score",
    "constrained_sensitivity_scorer",
    "constrained_specificity_score",
    "constrained_specificity_scorer",
    "multilabel_report",
    "nan_average_precision_score",
    "nan_average_precision_scorer",
    "nan_roc_auc_score",
    "nan_roc_auc_scorer",
    "operating_point",
    "roc_auc_interval",
    "roc_auc_test",
    "sensitivity_at_specificity",
    "sensitivity_at_specificity_scorer",
    "specificity_at_sensitivity",
    "specificity_at_sensitivity_scorer",
]
