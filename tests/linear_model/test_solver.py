"""Where the optimiser ends, and what it says there."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from sklearn_cxr.linear_model import PixelLogisticRegression
from sklearn_cxr.linear_model._solver import descend


def raw_films():
    """16-bit films whose grey levels are far from zero, and far apart."""
    rng = np.random.default_rng(0)
    y = np.arange(120) % 2
    X = rng.normal(30_000, 6000, (120, 5, 5))
    X[y == 1, 1:4, 1:4] += 5000
    return X.clip(0, 65535).astype(np.uint16), y


# The optimiser says "no reduction" of one of them, and "abnormal line search" of the other.
@pytest.mark.parametrize("C", [1e-4, 1e-2])
def test_an_objective_that_float64_cannot_lower_is_a_minimum(C):
    X, y = raw_films()
    tol = 1e-9
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model = PixelLogisticRegression(
            C=C, tol=tol, standardize=False, solver="passes", max_iter=10_000
        ).fit(X, y)
    assert model.n_iter_[0] < 10_000
    # No component of the gradient is within tol, as computed here.
    flat = X.reshape(len(X), -1).astype(float)
    residual = model.predict_proba(X)[:, 1] - y
    gradient = flat.T @ residual / len(y) + model.coef_[0] / (C * len(y))
    assert np.abs(gradient).max() > tol
    # By Newton's method, on levels of a size that suits it, the objective is the same.
    unit = 6000.0
    peer = LogisticRegression(C=C * unit**2, solver="newton-cholesky", tol=1e-12)
    scaled = (flat - 30_000) / unit
    odds = peer.fit(scaled, y).decision_function(scaled)
    penalty = 0.5 * (peer.coef_**2).sum() / unit**2
    lowest = penalty + C * (np.logaddexp(0, odds) - y * odds).sum()
    assert model.objective_ == pytest.approx(lowest, rel=1e-9)


class Rising:
    """An objective that is larger whenever it is asked for: no step is ever better."""

    unit, value, measured = 1.0, 0.0, "largest component"

    def pack(self, coef, intercept):
        return np.concatenate([coef.ravel(), intercept])

    def length(self, gradient):
        return float(np.abs(gradient).max())

    def largest_component(self, tol):
        return tol

    def __call__(self, x):
        self.latest = 2 * x
        self.value += 1
        return self.value, self.latest


def test_a_line_search_that_fails_is_no_minimum():
    with pytest.warns(ConvergenceWarning, match="the line search found no better point"):
        _, length = descend(
            Rising(), np.ones((1, 3)), np.zeros(1), max_iter=50, tol=1e-4, verbose=0
        )
    assert length == 2
