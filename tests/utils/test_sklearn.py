from numbers import Integral, Real

import numpy as np
import pytest

from sklearn_cxr.utils._sklearn import Interval, InvalidParameterError, RealNotInt, validate_params

NUMBERS = [
    Interval(Integral, 0, None, closed="left"),
    Interval(Real, 0, 1, closed="both"),
    Interval(RealNotInt, 0, 1, closed="right"),
]


@pytest.mark.parametrize("constraint", NUMBERS, ids=str)
@pytest.mark.parametrize("value", [True, False, np.True_, np.False_])
def test_a_truth_value_is_no_number(constraint, value):
    assert not constraint.is_satisfied_by(value)


def test_numbers_are_what_they_were():
    counts, shares, fractions = NUMBERS
    assert [counts.is_satisfied_by(v) for v in (0, np.int64(3), -1, 1.0)] == [
        True,
        True,
        False,
        False,
    ]
    assert [shares.is_satisfied_by(v) for v in (0, 1, 0.5, 1.5)] == [True, True, True, False]
    assert [fractions.is_satisfied_by(v) for v in (0.5, 1.0, 1, 0.0)] == [True, True, False, False]


def test_the_message_says_what_is_expected():
    @validate_params({"size": [NUMBERS[0]]}, prefer_skip_nested_validation=True)
    def draw(size):
        return size

    assert draw(2) == 2
    with pytest.raises(
        InvalidParameterError, match=r"must be an int in the range \[0, inf\).*True"
    ):
        draw(True)
