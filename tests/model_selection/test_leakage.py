import re

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GroupKFold, KFold

from sklearn_cxr.exceptions import LeakageRiskWarning, PatientLeakageError
from sklearn_cxr.model_selection import (
    MultilabelStratifiedGroupKFold,
    check_patient_leakage,
    patient_train_test_split,
)

PATIENTS = np.repeat([f"p{i}" for i in range(10)], 3)


def test_grouped_folds_pass_and_are_counted():
    rows = np.zeros(len(PATIENTS))
    assert check_patient_leakage(PATIENTS, GroupKFold(5).split(rows, groups=PATIENTS)) == 5
    assert check_patient_leakage(list(PATIENTS), [(range(3), range(3, 30))]) == 1
    assert check_patient_leakage(pd.Series(PATIENTS), {"train": range(9), "test": [29]}) == 1


def test_leaking_folds_name_fold_and_patients():
    splits = [(np.arange(6), np.arange(6, 30)), (np.arange(0, 30, 2), np.arange(1, 30, 2))]
    with pytest.raises(PatientLeakageError, match="10 patients stand in both train and test") as e:
        check_patient_leakage(PATIENTS, splits)
    assert "of fold 1" in str(e.value)
    assert "'p0', 'p1', 'p2', 'p3', 'p4' and 5 more" in str(e.value)


def test_one_patient_of_two_is_named_alone():
    with pytest.raises(PatientLeakageError, match=r"1 patient stands in both .* 'p1'\. Split by"):
        check_patient_leakage(PATIENTS, [(range(4), range(4, 30))])


def test_shuffled_kfold_leaks():
    splits = KFold(3, shuffle=True, random_state=0).split(PATIENTS)
    with pytest.raises(PatientLeakageError, match="of fold 0"):
        check_patient_leakage(PATIENTS, splits)


@pytest.mark.parametrize("as_dict", [False, True])
def test_parts_of_one_split(as_dict):
    parts = {"train": np.arange(12), "valid": np.arange(12, 18), "test": np.arange(18, 30)}
    leaking = {**parts, "test": np.arange(17, 30)}
    if not as_dict:
        parts, leaking = list(parts.values()), tuple(leaking.values())
    assert check_patient_leakage(PATIENTS, parts) == 1
    names = "part 'valid' and part 'test'" if as_dict else "part 1 and part 2"
    with pytest.raises(PatientLeakageError, match=f"{names} of the split: 'p5'"):
        check_patient_leakage(PATIENTS, leaking)


def test_patients_of_another_pair_are_not_named_with_the_first():
    parts = [np.arange(3), np.arange(3, 6), np.array([0, 3])]
    with pytest.raises(PatientLeakageError, match="1 patient stands in both part 0 and part 2"):
        check_patient_leakage(PATIENTS, parts)


def test_masks():
    first = np.arange(30) < 15
    assert check_patient_leakage(PATIENTS, [first, ~first]) == 1
    with pytest.raises(PatientLeakageError, match="'p4'"):
        check_patient_leakage(PATIENTS, [np.arange(30) < 14, np.arange(30) >= 14])


def test_folds_of_three_parts():
    fold = (np.arange(12), np.arange(12, 18), np.arange(18, 30))
    assert check_patient_leakage(PATIENTS, [fold, fold]) == 2
    with pytest.raises(PatientLeakageError, match="part 0 and part 2 of fold 1"):
        check_patient_leakage(PATIENTS, [fold, (fold[0], fold[1], np.array([0, 29]))])


@pytest.mark.parametrize(
    ("splits", "error", "message"),
    [
        (iter([]), ValueError, "no split at all"),
        ({}, ValueError, "got 0 part"),
        ([np.arange(3)], ValueError, "got 1 part"),
        ([(np.arange(3),)], ValueError, "got 1 part in fold 0"),
        (
            [(np.arange(3), np.array([30]))],
            ValueError,
            "test of fold 0 .* 30 to 30; .* 0 to 29",
        ),
        ([(np.array([-1]), np.arange(3))], ValueError, "train of fold 0 .* from -1"),
        ([(np.arange(3), [])], ValueError, r"test of fold 0 of shape \(0,\)"),
        ([(np.arange(3), np.array([0.5]))], ValueError, "dtype float64"),
        ([np.ones(4, dtype=bool), np.arange(3)], ValueError, "mask of 4 values"),
        ([np.zeros(30, dtype=bool), np.arange(3)], ValueError, "with 0 true"),
        (GroupKFold(2), TypeError, r"list\(cv.split"),
        ("train", TypeError, "the splits themselves"),
    ],
)
def test_what_cannot_be_checked_is_an_error(splits, error, message):
    with pytest.raises(error, match=message):
        check_patient_leakage(PATIENTS, splits)


def test_used_up_iterator():
    splits = GroupKFold(2).split(PATIENTS, groups=PATIENTS)
    list(splits)
    with pytest.raises(ValueError, match="used up"):
        check_patient_leakage(PATIENTS, splits)


def test_missing_patients():
    with pytest.raises(ValueError, match="groups=None"):
        check_patient_leakage(None, [(np.arange(3), np.arange(3))])
    with pytest.raises(ValueError, match="without a patient id"):
        check_patient_leakage(["a", None], [([0], [1])])


@pytest.mark.parametrize(
    ("one", "other"),
    [(5, "00000005"), (5, " 5"), (5, "5.0"), (5, "5"), (1e16, "10000000000000000")],
)
def test_a_patient_who_is_written_in_two_ways(one, other):
    patients = np.array([one, other, "6"], dtype=object)
    pair = re.escape(f"such as {one!r} and {other!r}, and count as different")
    words = rf"1 patients have ids that differ .* {pair}"
    with pytest.warns(LeakageRiskWarning, match=words):
        assert check_patient_leakage(patients, [[0, 2], [1]]) == 1


def test_splits_tell_of_patients_who_are_written_in_two_ways():
    patients = np.repeat([f"{i}" for i in range(9)] + [f"{i:03d}" for i in range(9)], 2)
    words = r"9 patients have ids that differ .* such as '0' and '000'"
    with pytest.warns(LeakageRiskWarning, match=words):
        patient_train_test_split(np.arange(36), groups=patients, random_state=0)
    folds = MultilabelStratifiedGroupKFold(2)
    with pytest.warns(LeakageRiskWarning, match=words):
        next(folds.split(np.zeros(36), np.arange(36) % 2, groups=patients))


@pytest.mark.parametrize("form", [list, np.array])
def test_the_patients_of_both_sides_are_no_splits(form):
    with pytest.raises(ValueError, match=r"single values such as 'p4' .*e\(groups, \{'train'"):
        check_patient_leakage(form(["p1", "p2", "p3"]), form(["p4", "p5"]))
