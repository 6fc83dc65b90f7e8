"""How far probabilities are from the shares of positive images that they promise."""

import math
from numbers import Integral, Real

import numpy as np
from scipy.sparse import csr_array
from sklearn.utils import check_random_state

from sklearn_cxr.metrics._bootstrap import bootstrap_values
from sklearn_cxr.metrics._checks import check_patients, check_positive, check_score
from sklearn_cxr.metrics._interval import Interval
from sklearn_cxr.utils._sklearn import Interval as Range
from sklearn_cxr.utils._sklearn import StrOptions, _check_sample_weight, validate_params

_PARAMETERS = {
    "y": ["array-like"],
    "probability": ["array-like"],
    "n_bins": [Range(Integral, 1, None, closed="left")],
    "strategy": [StrOptions({"uniform", "quantile"})],
    "pos_label": "no_validation",
}


def binned(
    y,
    probability,
    n_bins,
    strategy,
    pos_label=None,
    caller="calibration_error_interval",
    sample_weight=None,
):
    """Return label less probability of each image, and its bin."""
    positive, _ = check_positive(y, caller=caller, pos_label=pos_label)
    probability = check_score(probability, len(positive), caller=caller, name="probability")
    outside = (probability < 0) | (probability > 1)
    if outside.any():
        raise ValueError(
            f"{caller} got {int(outside.sum())} values in probability outside of [0, 1], such as "
            f"{probability[outside][0]:g}; expected probabilities of the positive class. "
            "Calibrate scores first, as with sklearn.calibration.CalibratedClassifierCV."
        )
    levels = np.linspace(0, 1, n_bins + 1)
    edges = levels if strategy == "uniform" else _quantiles(probability, levels, sample_weight)
    return positive - probability, np.searchsorted(edges[1:-1], probability)


def _quantiles(values, levels, sample_weight):
    """Least value that so great a share of the weight does not exceed: weights are copies."""
    order = np.argsort(values, kind="stable")
    weight = np.ones(len(values)) if sample_weight is None else sample_weight[order]
    below = np.cumsum(weight)
    # Rounding in the sum must not push an edge on to the next value.
    reached = np.searchsorted(below, levels * below[-1] * (1 - 1e-9))
    return values[order][np.minimum(reached, len(values) - 1)]


@validate_params(
    {**_PARAMETERS, "sample_weight": ["array-like", None]}, prefer_skip_nested_validation=True
)
def calibration_error(
    y, probability, *, n_bins=10, strategy="uniform", pos_label=None, sample_weight=None
):
    """Return the expected calibration error: how far probabilities are from what happens.

    Images are put into bins by their probability. The distance of a bin is that of the mean
    probability in it from the share of positive images in it; the error is the mean of the
    distances, weighted by the images in the bins.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Two classes; more of them together with `pos_label`.

    probability : array-like of shape (n_samples,)
        Probabilities of the positive class, in [0, 1].

    n_bins : int, default=10
        Number of bins, at least 1. With one bin, the error is the distance of the mean
        probability from the prevalence.

    strategy : {"uniform", "quantile"}, default="uniform"
        Bins of equal width, or of equally many images (of equal weight, with `sample_weight`).

    pos_label : object, default=None
        The positive class. None stands for the greater of two labels.

    sample_weight : array-like of shape (n_samples,), default=None
        Weight of each image.

    Returns
    -------
    float
        The error, in [0, 1].

    Raises
    ------
    ValueError
        If one class is absent, labels are missing, lengths differ, or values are not
        probabilities.

    See Also
    --------
    calibration_error_interval : The same with an interval.
    sklearn.calibration.calibration_curve : The bins themselves.

    Notes
    -----
    The error of few images is too large even if the probabilities are right: chance moves
    every bin, and a distance cannot be negative.

    References
    ----------
    .. [1] M. P. Naeini, G. F. Cooper, M. Hauskrecht, "Obtaining Well Calibrated Probabilities
       Using Bayesian Binning", AAAI 2015, https://doi.org/10.1609/aaai.v29i1.9602

    Examples
    --------
    >>> from sklearn_cxr.metrics import calibration_error
    >>> y = [0, 0, 0, 1, 1, 1, 1, 0]
    >>> probability = [0.2, 0.2, 0.2, 0.2, 0.9, 0.9, 0.9, 0.9]
    >>> round(calibration_error(y, probability), 3)
    0.1
    """
    if sample_weight is not None:
        sample_weight = _check_sample_weight(sample_weight, y, dtype=np.float64)
    distance, bins = binned(
        y, probability, n_bins, strategy, pos_label, "calibration_error", sample_weight
    )
    weights = np.ones(len(distance)) if sample_weight is None else sample_weight
    sums = np.bincount(bins, weights=weights * distance, minlength=n_bins)
    return float(np.abs(sums).sum() / weights.sum())


@validate_params(
    {
        **_PARAMETERS,
        "groups": ["array-like", None],
        "confidence": [Range(Real, 0, 1, closed="neither")],
        "n_resamples": [Range(Integral, 2, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def calibration_error_interval(
    y,
    probability,
    *,
    groups=None,
    n_bins=10,
    strategy="uniform",
    confidence=0.95,
    n_resamples=1000,
    pos_label=None,
    random_state=None,
):
    """Return the expected calibration error with an interval.

    The percentiles of a bootstrap lie above the truth where probabilities are right, since
    resampling adds chance to chance. Here the resamples say how far the bins are moved by
    chance, and the interval reaches that far to both sides of the estimate.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Two classes; more of them together with `pos_label`.

    probability : array-like of shape (n_samples,)
        Probabilities of the positive class, in [0, 1].

    groups : array-like of shape (n_samples,), default=None
        Patient id of each image. None stands for one patient per image.

    n_bins : int, default=10
        Number of bins, at least 1.

    strategy : {"uniform", "quantile"}, default="uniform"
        Bins of equal width, or of equally many images. The interval is that of the error in
        these bins, whose edges are not resampled.

    confidence : float, default=0.95
        Level of the interval, in (0, 1), which it has at least.

    n_resamples : int, default=1000
        Number of resamples of patients, at least 2.

    pos_label : object, default=None
        The positive class. None stands for the greater of two labels.

    random_state : int, RandomState instance or None, default=None
        Governs the resamples. Pass an int for the same interval at every call.

    Returns
    -------
    Interval
        The error of :func:`calibration_error` with its interval. A `low` of 0 says that the
        probabilities may be right.

    Raises
    ------
    ValueError
        If one class is absent, labels are missing, lengths differ, values are not
        probabilities, or there are fewer than two patients.

    See Also
    --------
    calibration_error : The estimate alone.

    Notes
    -----
    The error is a sum of absolute values, one per bin. It cannot move further than the sum of
    the moves of its bins, where the moves of bins whose sign is sure add up with that sign and
    may cancel out; sure is, as in [1]_, a distance of more than ``sqrt(log(n_patients))``
    standard errors. The interval reaches as far as that sum does in `confidence` of the
    resamples. It is too wide rather than too narrow.

    References
    ----------
    .. [1] Z. Fang, A. Santos, "Inference on Directionally Differentiable Functions", Review of
       Economic Studies 86(1), 2019, https://doi.org/10.1093/restud/rdy049

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_cxr.metrics import calibration_error_interval
    >>> rng = np.random.RandomState(0)
    >>> probability = rng.uniform(size=500)
    >>> y = rng.uniform(size=500) < probability
    >>> right = calibration_error_interval(y, probability, random_state=0)
    >>> print(f"{right.estimate:.3f} ({right.low:.3f} to {right.high:.3f})")
    0.054 (0.000 to 0.117)
    >>> wrong = calibration_error_interval(y, probability**3, random_state=0)
    >>> print(f"{wrong.estimate:.3f} ({wrong.low:.3f} to {wrong.high:.3f})")
    0.263 (0.223 to 0.304)
    """
    caller = "calibration_error_interval"
    distance, bins = binned(y, probability, n_bins, strategy, pos_label, caller)
    codes, n_patients = check_patients(groups, len(distance), caller=caller)
    codes = np.arange(len(distance)) if codes is None else codes
    cells = codes * n_bins + bins
    sums = np.bincount(cells, weights=distance, minlength=n_patients * n_bins)
    sums = sums.reshape(n_patients, n_bins).T
    sizes = np.bincount(codes, minlength=n_patients).astype(np.float64)
    means = sums.sum(axis=1) / len(distance)
    errors = np.sqrt((((sums - sizes * means[:, None]) / len(distance)) ** 2).sum(axis=1))
    # Few images of a patient fall into more than one or two bins.
    filled = csr_array(sums)
    sure = np.abs(means) > math.sqrt(math.log(n_patients)) * errors

    def reach(gather):
        counts = gather(np.arange(n_patients))
        moved = (filled @ counts) / np.einsum("i,ij->j", sizes, counts) - means[:, None]
        together = (np.sign(means)[sure, None] * moved[sure]).sum(axis=0)
        return np.abs(together) + np.abs(moved[~sure]).sum(axis=0)

    reaches = bootstrap_values(
        reach,
        None,
        n_patients,
        strata=None,
        n_resamples=n_resamples,
        random_state=check_random_state(random_state),
    )
    estimate, half = float(np.abs(means).sum()), float(np.quantile(reaches, confidence))
    return Interval(estimate, max(0.0, estimate - half), min(1.0, estimate + half), confidence)
