"""Predictive values and their intervals, from sensitivity and specificity."""

import math

import numpy as np

from sklearn_cxr.metrics._interval import Interval


def correlation_over_patients(a, b):
    """Return the correlation of two shares from what each patient adds to their errors."""
    size = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / size if size else 0.0


def predictive_value(own, other, odds, correlation):
    """Return the predictive value of a call from its share in either class.

    Its odds are those of the class times the likelihood ratio ``own / (1 - other)``, whose
    limits are recovered from those of the two shares on the logarithmic scale.

    Parameters
    ----------
    own : Interval
        Share of the class that is called so.

    other : Interval
        Share of the other class that is not.

    odds : float
        Odds of the class.

    correlation : float
        Correlation of both estimates over patients.

    Returns
    -------
    Interval
        The predictive value.
    """
    top, bottom = own[:3], (1 - other.estimate, 1 - other.high, 1 - other.low)
    if top[0] == bottom[0] == 0:
        return Interval(math.nan, math.nan, math.nan, own.confidence)
    if top[0] == 0 or bottom[0] <= 0:
        # A ratio of 0 or infinity has no logarithm: the limits of both are put together.
        ratios = [top[0], top[1], top[2]], [bottom[0], bottom[2], bottom[1]]
        values = [_probability(odds * a, b) for a, b in zip(*ratios, strict=True)]
        return Interval(*values, own.confidence)
    (a, a_low, a_high), (b, b_low, b_high) = np.log(top), np.log(bottom)
    # Where both shares rise together, the ratio's two parts go apart.
    down = _third_side(a - a_low, b_high - b, correlation)
    up = _third_side(a_high - a, b - b_low, correlation)
    values = [_probability(odds * math.exp(a - b + step), 1.0) for step in (0.0, -down, up)]
    return Interval(*values, own.confidence)


def _third_side(a, b, correlation):
    return math.sqrt(max(0.0, a**2 + b**2 + 2 * correlation * a * b))


def _probability(right, wrong):
    return float(right / (right + wrong))
