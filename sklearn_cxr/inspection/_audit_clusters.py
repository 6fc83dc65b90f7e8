"""Whether films fall into two clusters of one measured quantity."""

from typing import NamedTuple

import numpy as np

_BINS = 1024
_LEAST_VARIANCE = 1e-6
_ITERATIONS = 300
_STARTS = (0.1, 0.25, 0.5, 0.75, 0.9)


class TwoClusters(NamedTuple):
    """Two normal distributions beside one.

    Parameters
    ----------
    shares : ndarray of shape (2,)
        Weight of each.

    means : ndarray of shape (2,)
        Their means, the lower first.

    variances : ndarray of shape (2,)
        Their variances.

    gain : float
        By how much the Bayesian information criterion of two is better than that of one.
    """

    shares: np.ndarray
    means: np.ndarray
    variances: np.ndarray
    gain: float

    def apart(self):
        """Distance of the means, Ashman's D: above 2, two peaks show."""
        return float(np.sqrt(2) * np.ptp(self.means) / np.sqrt(self.variances.sum()))

    def is_lower(self, values):
        """Tell which values belong to the lower cluster."""
        # Far out the wider of two distributions wins on both sides; only the order counts there.
        inner = np.clip(values, *self.means)
        lower, upper = _log_densities(inner, self.shares, self.means, self.variances)
        return lower > upper


def two_clusters(values, units):
    """Fit one and two normal distributions, each unit with the weight 1 in all.

    Films of one patient resemble each other: ten of them tell as much as one, but those of a
    patient who is in both clusters tell of both.

    Parameters
    ----------
    values : ndarray of shape (n,)
        In [0, 1].

    units : ndarray of shape (n,), dtype int64
        Number of the patient.

    Returns
    -------
    TwoClusters
        The two, and how much better they are.
    """
    _, member, counts = np.unique(units, return_inverse=True, return_counts=True)
    weights, edges = np.histogram(values, _BINS, (0, 1), weights=1 / counts[member])
    held = weights > 0
    weights, values = weights[held], ((edges[1:] + edges[:-1]) / 2)[held]
    n = len(counts)
    mean = np.average(values, weights=weights)
    variance = np.average((values - mean) ** 2, weights=weights) + _LEAST_VARIANCE
    one = weights @ _log_densities(values, np.ones(1), mean[None], variance[None])[0]
    order = np.cumsum(weights) / n
    fits = [_maximise(values, weights, order > start) for start in _STARTS]
    two, parameters = max(
        (fit for fit in fits if fit is not None), key=lambda fit: fit[0], default=(-np.inf, None)
    )
    if parameters is None:
        shares = np.array([1.0, 0.0])
        return TwoClusters(shares, np.repeat(mean, 2), np.repeat(variance, 2), -np.inf)
    ranked = np.argsort(parameters[1])
    # Two have three parameters more than one.
    return TwoClusters(*(part[ranked] for part in parameters), 2 * (two - one) - 3 * np.log(n))


def _maximise(values, weights, upper):
    """Log likelihood and parameters of two distributions, from a first cut on."""
    if upper.all() or not upper.any():
        return None
    resp = np.stack([~upper, upper]).astype(float)
    last = -np.inf
    for _ in range(_ITERATIONS):
        mass = resp * weights
        total = np.maximum(mass.sum(axis=1), 1e-12)
        means = mass @ values / total
        variances = (mass * (values - means[:, None]) ** 2).sum(axis=1) / total + _LEAST_VARIANCE
        shares = total / total.sum()
        log = _log_densities(values, shares, means, variances)
        both = np.logaddexp(*log)
        resp = np.exp(log - both)
        likelihood = weights @ both
        if likelihood - last < 1e-6 * abs(likelihood):
            break
        last = likelihood
    return likelihood, (shares, means, variances)


def _log_densities(values, shares, means, variances):
    shares, means, variances = (part[:, None] for part in (shares, means, variances))
    squared = (np.asarray(values) - means) ** 2 / variances
    return np.log(shares) - 0.5 * (np.log(2 * np.pi * variances) + squared)
