"""Splits by patient: hold-out, multilabel folds, and a check of any split for leakage."""

from sklearn_cxr.model_selection._leakage import check_patient_leakage
from sklearn_cxr.model_selection._multilabel import MultilabelStratifiedGroupKFold
from sklearn_cxr.model_selection._split import patient_train_test_split

__all__ = ["MultilabelStratifiedGroupKFold", "check_patient_leakage", "patient_train_test_split"]
