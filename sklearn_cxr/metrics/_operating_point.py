"""A threshold, what it does, and where it moves at another prevalence."""

import math
from dataclasses import dataclass, field, fields
from numbers import Real

import numpy as np

from sklearn_cxr.metrics._checks import (
    check_patients,
    check_positive,
    check_score,
    check_share,
)
from sklearn_cxr.metrics._interval import Interval, share_deviations, share_interval
from sklearn_cxr.metrics._predictive_value import (
    correlation_over_patients,
    predictive_value,
)
from sklearn_cxr.metrics._thresholds import reaches, roc_points
from sklearn_cxr.utils._sklearn import Interval as Range
from sklearn_cxr.utils._sklearn import validate_params

_TARGETS = ("sensitivity", "specificity", "threshold")
_KEEPS = ("risk", "ppv", "npv")


@dataclass(frozen=True)
class _Sample:
    """What a point was computed from."""

    positive: np.ndarray
    score: np.ndarray
    codes: np.ndarray | None
    n_patients: int
    confidence: float


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold with what it does to images of both classes.

    Parameters
    ----------
    threshold : float
        Images with ``score >= threshold`` are called positive.

    sensitivity : Interval
        Share of the positive images that is called positive.

    specificity : Interval
        Share of the negative images that is called negative.

    ppv : Interval
        Positive predictive value: share of positive images among those that are called
        positive, at `prevalence`. NaN if none is called positive.

    npv : Interval
        Negative predictive value: share of negative images among those that are called
        negative, at `prevalence`. NaN if none is called negative.

    prevalence : float
        Share of positive images that the predictive values are for, in (0, 1).

    n_positive : int
        Number of positive images behind the intervals.

    n_negative : int
        Number of negative images behind the intervals.

    n_patients : int
        Number of patients behind the intervals.

    See Also
    --------
    operating_point : Chooses the threshold.

    Examples
    --------
    >>> from sklearn_cxr.metrics import OperatingPoint, operating_point
    >>> y = [0] * 10 + [1] * 10
    >>> score = [0.04 * i for i in range(10)] + [0.3 + 0.05 * i for i in range(10)]
    >>> point = operating_point(y, score, target=("sensitivity", 0.9))
    >>> isinstance(point, OperatingPoint), point.threshold
    (True, 0.35)
    """

    threshold: float
    sensitivity: Interval
    specificity: Interval
    ppv: Interval
    npv: Interval
    prevalence: float
    n_positive: int
    n_negative: int
    n_patients: int
    _sample: _Sample = field(init=False, repr=False, compare=False, default=None)

    def __str__(self):
        """Return the point as lines of text."""

        def line(name, note):
            value = getattr(self, name)
            return f"{name:12}{value.estimate:.3f} ({value.low:.3f} to {value.high:.3f}), {note}"

        at = f"at a prevalence of {self.prevalence:.3g}"
        confidence = self.sensitivity.confidence
        return "\n".join(
            [
                f"score >= {self.threshold:.4g}",
                line("sensitivity", f"{self.n_positive} images"),
                line("specificity", f"{self.n_negative} images"),
                line("ppv", at),
                line("npv", at),
                f"{self.n_patients} patients, intervals at {100 * confidence:.4g} %",
            ]
        )

    def to_dict(self):
        """Return the point as plain numbers, for JSON and tables.

        Returns
        -------
        dict
            Numbers by name; intervals as dicts with ``estimate``, ``low``, ``high`` and
            ``confidence``.
        """
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        return {
            name: value._asdict() if isinstance(value, Interval) else value
            for name, value in values.items()
        }

    def at_prevalence(self, prevalence):
        """Return the same threshold with the predictive values of another prevalence.

        Sensitivity and specificity are those of the images at hand: they do not depend on the
        prevalence as long as the sick, and the healthy, are alike at both sites.

        Parameters
        ----------
        prevalence : float
            Share of positive images there, in (0, 1).

        Returns
        -------
        OperatingPoint
            The point there.

        Raises
        ------
        ValueError
            If `prevalence` is not in (0, 1).
        """
        return _judged(self._own_sample(), self.threshold, check_share(prevalence, "prevalence"))

    def rethreshold(self, prevalence, *, keep="risk"):
        """Return the point that does the same at a site with another prevalence.

        Parameters
        ----------
        prevalence : float
            Share of positive images there, in (0, 1).

        keep : {"risk", "ppv", "npv"}, default="risk"
            What stays as it is. "risk": how many false alarms a miss is worth. Scores have to
            be probabilities, right for some prevalence; the odds of the threshold are divided
            by the factor that the odds of the disease are multiplied by [1]_. "ppv": at least
            the positive predictive value of this point, by the lowest threshold that has it.
            "npv": at least its negative predictive value, by the highest.

        Returns
        -------
        OperatingPoint
            The point there, with its predictive values. The threshold is for scores of the
            unchanged model.

        Raises
        ------
        ValueError
            If `prevalence` is not in (0, 1), scores are not probabilities, or no threshold
            keeps the predictive value.

        Notes
        -----
        To keep the sensitivity, keep the threshold: see :meth:`at_prevalence`.

        References
        ----------
        .. [1] C. Elkan, "The Foundations of Cost-Sensitive Learning", IJCAI 2001.
        """
        sample, prevalence = self._own_sample(), check_share(prevalence, "prevalence")
        if keep not in _KEEPS:
            raise ValueError(f"rethreshold got keep={keep!r}; expected one of {_KEEPS}.")
        if keep == "risk":
            threshold = self._threshold_of_same_risk(sample.score, prevalence)
        else:
            threshold = self._threshold_of_same_value(sample, prevalence, keep)
        return _judged(sample, threshold, prevalence)

    def _own_sample(self):
        if self._sample is None:
            raise ValueError(
                "This OperatingPoint was not made by operating_point and has no scores to judge "
                "another point on; call operating_point(y, score)."
            )
        return self._sample

    def _threshold_of_same_risk(self, score, prevalence):
        if score.min() < 0 or score.max() > 1 or not 0 < self.threshold < 1:
            raise ValueError(
                f"rethreshold(keep='risk') got scores from {score.min():g} to {score.max():g} and "
                f"the threshold {self.threshold:g}; expected probabilities and a threshold in "
                "(0, 1). Calibrate the scores first, or use keep='ppv' or keep='npv'."
            )
        odds = self.threshold / (1 - self.threshold)
        odds *= self.prevalence / (1 - self.prevalence) * (1 - prevalence) / prevalence
        return odds / (1 + odds)

    def _threshold_of_same_value(self, sample, prevalence, keep):
        wanted = getattr(self, keep).estimate
        thresholds, sensitivity, specificity = roc_points(sample.positive, sample.score)
        with np.errstate(invalid="ignore"):
            if keep == "ppv":
                right, wrong = prevalence * sensitivity, (1 - prevalence) * (1 - specificity)
            else:
                right, wrong = (1 - prevalence) * specificity, prevalence * (1 - sensitivity)
            possible = np.flatnonzero(reaches(right / (right + wrong), wanted))
        if not len(possible):
            raise ValueError(
                f"rethreshold(keep={keep!r}): no threshold has a {keep} of {wanted:.3f} or more "
                f"at a prevalence of {prevalence:g}; choose another value to keep."
            )
        # Thresholds descend: the last one is the lowest.
        return float(thresholds[possible[-1 if keep == "ppv" else 0]])


@validate_params(
    {
        "y": ["array-like"],
        "score": ["array-like"],
        "target": [tuple, list],
        "groups": ["array-like", None],
        "prevalence": [Range(Real, 0, 1, closed="neither"), None],
        "confidence": [Range(Real, 0, 1, closed="neither")],
        "pos_label": "no_validation",
    },
    prefer_skip_nested_validation=True,
)
def operating_point(
    y,
    score,
    *,
    target=("sensitivity", 0.95),
    groups=None,
    prevalence=None,
    confidence=0.95,
    pos_label=None,
):
    """Choose a threshold by what it has to keep, or judge a given one.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Two classes; more of them together with `pos_label`.

    score : array-like of shape (n_samples,)
        Greater for images that are more likely positive. Those with ``score >= threshold`` are
        called positive.

    target : tuple of (str, float), default=("sensitivity", 0.95)
        ``("sensitivity", share)`` is the highest threshold with at least that sensitivity,
        ``("specificity", share)`` the lowest with at least that specificity, and
        ``("threshold", value)`` that very threshold, as chosen on other images.

    groups : array-like of shape (n_samples,), default=None
        Patient id of each image. None stands for one patient per image.

    prevalence : float or None, default=None
        Share of positive images that the predictive values are for, in (0, 1). None stands for
        that of `y`, which is rarely that of a clinic.

    confidence : float, default=0.95
        Level of the intervals, in (0, 1).

    pos_label : object, default=None
        The positive class. None stands for the greater of two labels.

    Returns
    -------
    OperatingPoint
        Threshold, sensitivity, specificity and predictive values with intervals. Its method
        ``rethreshold(prevalence=...)`` moves it to another site.

    Raises
    ------
    ValueError
        If one class is absent, labels or scores are missing, lengths differ, `target` is
        another, or there are fewer than two patients.

    See Also
    --------
    specificity_at_sensitivity : The specificity alone, as a metric.
    sklearn.model_selection.TunedThresholdClassifierCV : Chooses a threshold inside a fit.

    Notes
    -----
    Intervals of sensitivity and specificity are Wilson's [1]_, with `groups` at the effective
    number of images [2]_. They are for the threshold that is answered, whatever it is. Choose
    it on images that the model was not fitted on.

    Intervals of the predictive values combine those two [3]_, for a prevalence that is known.

    References
    ----------
    .. [1] E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference",
       Journal of the American Statistical Association 22(158), 1927,
       https://doi.org/10.1080/01621459.1927.10502953
    .. [2] J. N. K. Rao, A. J. Scott, "A Simple Method for the Analysis of Clustered Binary
       Data", Biometrics 48(2), 1992, https://doi.org/10.2307/2532311
    .. [3] G. Y. Zou, A. Donner, "Construction of Confidence Limits about Effect Measures: A
       General Approach", Statistics in Medicine 27(10), 2008, https://doi.org/10.1002/sim.3095

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_cxr.metrics import operating_point
    >>> rng = np.random.RandomState(0)
    >>> y = np.arange(600) % 2
    >>> probability = 1 / (1 + np.exp(-rng.normal(loc=4 * y - 2, scale=2)))
    >>> point = operating_point(y, probability, target=("sensitivity", 0.95))
    >>> print(point)
    score >= 0.2255
    sensitivity 0.950 (0.919 to 0.969), 300 images
    specificity 0.673 (0.618 to 0.724), 300 images
    ppv         0.744 (0.713 to 0.775), at a prevalence of 0.5
    npv         0.931 (0.892 to 0.957), at a prevalence of 0.5
    600 patients, intervals at 95 %
    >>> round(point.at_prevalence(0.05).ppv.estimate, 3)
    0.133
    >>> round(point.rethreshold(prevalence=0.05).threshold, 3)
    0.847
    """
    caller = "operating_point"
    kind, value = _checked_target(target)
    positive, _ = check_positive(y, caller=caller, pos_label=pos_label)
    score = check_score(score, len(positive), caller=caller)
    codes, n_patients = check_patients(groups, len(positive), caller=caller)
    sample = _Sample(positive, score, codes, n_patients, confidence)
    if kind == "threshold":
        threshold = value
    else:
        thresholds, sensitivity, specificity = roc_points(positive, score)
        # Thresholds descend: the first that is sensitive enough, the last that is specific enough.
        if kind == "sensitivity":
            threshold = thresholds[np.flatnonzero(reaches(sensitivity, value))[0]]
        else:
            threshold = thresholds[np.flatnonzero(reaches(specificity, value))[-1]]
    return _judged(sample, threshold, positive.mean() if prevalence is None else prevalence)


def _checked_target(target):
    if len(target) != 2 or target[0] not in _TARGETS:
        raise ValueError(
            f"operating_point got target={target!r}; expected a pair of one of {_TARGETS} and a "
            "number, as ('sensitivity', 0.95)."
        )
    kind, value = target
    if kind != "threshold":
        return kind, check_share(value, f"target {kind}", closed=True)
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"operating_point got the threshold {value!r}; expected a finite number.")
    return kind, float(value)


def _judged(sample, threshold, prevalence):
    """Return the operating point of a threshold on a sample."""
    called = sample.score >= threshold
    parts, deviations = [], []
    for rows, hits in ((sample.positive, called), (~sample.positive, ~called)):
        codes = None if sample.codes is None else sample.codes[rows]
        parts.append(share_interval(hits[rows], codes, sample.n_patients, sample.confidence))
        if codes is not None:
            deviations.append(share_deviations(hits[rows], codes, sample.n_patients))
    sensitivity, specificity = parts
    correlation = correlation_over_patients(*deviations) if deviations else 0.0
    odds = prevalence / (1 - prevalence)
    point = OperatingPoint(
        threshold=float(threshold),
        sensitivity=sensitivity,
        specificity=specificity,
        ppv=predictive_value(sensitivity, specificity, odds, correlation),
        npv=predictive_value(specificity, sensitivity, 1 / odds, correlation),
        prevalence=float(prevalence),
        n_positive=int(sample.positive.sum()),
        n_negative=int((~sample.positive).sum()),
        n_patients=sample.n_patients,
    )
    object.__setattr__(point, "_sample", sample)
    return point
