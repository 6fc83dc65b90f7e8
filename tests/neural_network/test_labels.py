"""What y may be, and what is said of what it may not be."""

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array

from sklearn_cxr.neural_network._labels import (
    encode_classes,
    encode_labels,
    encode_part,
    is_multilabel,
    subset_score,
)

NAN = np.nan


@pytest.mark.parametrize(
    ("y", "several"),
    [
        (np.zeros(3), False),
        (np.zeros((3, 1)), False),
        (np.zeros((3, 2)), True),
        (pd.DataFrame({"a": [0], "b": [1]}), True),
        (csr_array(np.eye(3)), True),
        ([0, 1, 1], False),
        (["normal", "viral"], False),
        ([[0], [1]], False),
        ([[0, 1], [1, NAN]], True),
        ([], False),
        (None, False),
    ],
)
def test_several_columns_are_several_labels(y, several):
    assert is_multilabel(y) is several


def test_classes_of_any_kind():
    labels = encode_classes(np.array(["viral", "normal", "viral"], dtype=object), np.ones(3), "X")
    assert labels.codes.tolist() == [1, 0, 1]
    assert labels.classes.tolist() == ["normal", "viral"]
    assert (labels.exclusive, labels.n_outputs, labels.constant) == (False, 1, None)


def test_three_classes_exclude_each_other():
    labels = encode_classes(np.array([5, 7, 9, 7]), np.ones(4), "X")
    assert (labels.exclusive, labels.n_outputs) == (True, 3)


@pytest.mark.parametrize(
    ("y", "weight", "seen"),
    [([3, 3], [1, 1], r"\[3\]"), ([0, 1], [1, 0], r"\[0\]"), ([0, 1], [0, 0], "none with a")],
)
def test_one_class_raises(y, weight, seen):
    with pytest.raises(ValueError, match=rf"one class only \({seen}.*CNN needs at least 2"):
        encode_classes(np.array(y), np.array(weight, float), "CNN")


def test_a_continuous_target_raises():
    with pytest.raises(ValueError, match="Unknown label type"):
        encode_classes(np.array([0.1, 0.7]), np.ones(2), "CNN")


def test_a_part_may_hold_one_class():
    labels = encode_part(np.array(["b", "b"]), ["c", "a", "b"], "CNN")
    assert labels.codes.tolist() == [1, 1]
    assert labels.n_outputs == 3


def test_a_part_needs_to_know_all_classes():
    with pytest.raises(ValueError, match=r"CNN.partial_fit needs classes="):
        encode_part(np.array([0, 1]), None, "CNN")
    with pytest.raises(ValueError, match=r"at least 2 classes, got one class: \[1\]"):
        encode_part(np.array([1, 1]), [1], "CNN")
    with pytest.raises(ValueError, match=r"y holds \[7\], but the classes of the first call"):
        encode_part(np.array([1, 7]), [0, 1], "CNN")


@pytest.mark.parametrize("form", [np.array, pd.DataFrame, lambda y: y])
def test_labels_in_columns(form):
    y = [[0, 1], [1, NAN], [NAN, 0]]
    labels = encode_labels(form(y), 3, np.ones(3), "X")
    np.testing.assert_array_equal(labels.codes, y)
    assert labels.classes.tolist() == [0, 1]
    assert (labels.exclusive, labels.n_outputs) == (False, 2)
    assert np.isnan(labels.constant).all()


def test_sparse_labels():
    y = np.array([[0, 1], [1, 1]])
    labels = encode_labels(csr_array(y), 2, np.array([1, 0]), "X", partial=True)
    np.testing.assert_array_equal(labels.codes, y)


def test_classes_as_columns_are_told():
    y = np.eye(3)[[0, 1, 2, 1]]
    with pytest.warns(UserWarning, match=r"one 1 in each row.*y\.argmax\(axis=1\)"):
        encode_labels(y, 4, np.ones(4), "X")
    y[0] = [1, 1, 0]
    assert encode_labels(y, 4, np.ones(4), "X").n_outputs == 3


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([[0, 1], [-1, 0]], r"got -1\. .* np\.where\(y == -1, np\.nan, y\)"),
        ([["yes", "no"], ["no", "no"]], "got values that are no numbers"),
        ([[0, NAN], [1, NAN]], r"Label\(s\) \[1\] of y are known of no image"),
    ],
)
def test_labels_that_cannot_be_learnt_raise(y, message):
    with pytest.raises(ValueError, match=message):
        encode_labels(np.array(y, dtype=object), 2, np.ones(2), "CNN")


def test_images_of_no_weight_do_not_tell_of_a_label():
    y = np.array([[0, NAN], [1, 1]])
    with pytest.raises(ValueError, match=r"\[1\] of y are known of no image"):
        encode_labels(y, 2, np.array([1.0, 0.0]), "CNN")


def test_numbers_of_rows_are_compared():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        encode_labels(np.eye(2), 3, np.ones(3), "CNN")


def test_a_label_of_one_value_is_constant():
    y = np.array([[0, 1], [1, 1], [0, NAN]])
    with pytest.warns(UserWarning, match=r"Label\(s\) \[1\] of y have one class only \(\[1.0\]\)"):
        labels = encode_labels(y, 3, np.ones(3), "CNN")
    np.testing.assert_array_equal(labels.constant, [NAN, 1])


def test_a_part_says_nothing_of_constant_or_unknown_labels():
    y = np.array([[0, NAN], [0, NAN]])
    labels = encode_labels(y, 2, np.ones(2), "CNN", partial=True)
    assert np.isnan(labels.constant).all()


def test_score_asks_for_all_known_labels():
    y_true = [[1, 0], [1, NAN], [0, 1], [NAN, NAN]]
    y_pred = np.array([[1, 0], [1, 1], [1, 1], [0, 0]])
    assert subset_score(y_true, y_pred) == pytest.approx(2 / 3)
    assert subset_score(y_true, y_pred, [1, 2, 5, 100]) == pytest.approx(3 / 8)
    assert subset_score(csr_array([[1, 0]]), np.array([[1, 0]])) == 1


def test_score_of_nothing_known_raises():
    with pytest.raises(ValueError, match="no known label to score"):
        subset_score([[NAN, NAN]], np.array([[1, 0]]))
