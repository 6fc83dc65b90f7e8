"""Look inside a model and at the data: reports, displays, the audit and the shortcut probes."""

from sklearn_cxr.inspection._activation import class_activation_map
from sklearn_cxr.inspection._audit import audit_dataset
from sklearn_cxr.inspection._audit_report import AuditReport
from sklearn_cxr.inspection._counterfactual import counterfactual_images
from sklearn_cxr.inspection._display_classes import ClassImageDisplay
from sklearn_cxr.inspection._display_counterfactual import CounterfactualDisplay
from sklearn_cxr.inspection._display_eigenimages import EigenimageDisplay
from sklearn_cxr.inspection._display_embedding import EmbeddingDisplay
from sklearn_cxr.inspection._display_errors import ErrorGalleryDisplay
from sklearn_cxr.inspection._display_images import ImageGridDisplay
from sklearn_cxr.inspection._display_learning_curve import PatientLearningCurveDisplay
from sklearn_cxr.inspection._display_localization import LocalizationDisplay
from sklearn_cxr.inspection._display_maps import ActivationMapDisplay
from sklearn_cxr.inspection._display_subgroups import SubgroupDisplay
from sklearn_cxr.inspection._evaluate import evaluate
from sklearn_cxr.inspection._evaluate_compare import compare_reports
from sklearn_cxr.inspection._evaluate_report import EvaluationReport
from sklearn_cxr.inspection._localization import localization_report
from sklearn_cxr.inspection._probe_report import ShortcutProbes, ShortcutProbesDisplay
from sklearn_cxr.inspection._probes import shortcut_probes
from sklearn_cxr.inspection._studies import learning_curve_by_patients
from sklearn_cxr.inspection._subgroups import subgroup_report

__all__ = [
    "ActivationMapDisplay",
    "AuditReport",
    "ClassImageDisplay",
    "CounterfactualDisplay",
    "EigenimageDisplay",
    "EmbeddingDisplay",
    "ErrorGalleryDisplay",
    "EvaluationReport",
    "ImageGridDisplay",
    "LocalizationDisplay",
    "PatientLearningCurveDisplay",
    "ShortcutProbes",
    "ShortcutProbesDisplay",
    "SubgroupDisplay",
    "audit_dataset",
    "class_activation_map",
    "compare_reports",
    "counterfactual_images",
    "evaluate",
    "learning_curve_by_patients",
    "localization_report",
    "shortcut_probes",
    "subgroup_report",
]
