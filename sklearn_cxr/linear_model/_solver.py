"""The optimiser of penalised logistic regression over a design that is only passed over."""

import dataclasses

import numpy as np
import scipy.optimize
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from sklearn_cxr.utils._warn import warn

# Pairs of steps and gradients that L-BFGS remembers; each costs two vectors of an image's size.
_MEMORY = 20
_LINE_SEARCH = 50


@dataclasses.dataclass(frozen=True)
class Solution:
    """Where the optimiser ended.

    Parameters
    ----------
    coef : ndarray of shape (n_outputs, n_features)
        Coefficients per standard deviation.

    intercept : ndarray of shape (n_outputs,)
        Intercepts for the standardised pixels.

    n_iter : int
        Iterations taken.

    objective : float
        ``||w||^2 / 2 + C * sum(weight * log loss)``.

    gradient : float
        Largest component of the gradient of the mean objective.
    """

    coef: np.ndarray
    intercept: np.ndarray
    n_iter: int
    objective: float
    gradient: float


def minimize(
    design,
    target,
    weight,
    *,
    mean,
    scale,
    C,
    fit_intercept,
    start,
    max_iter,
    tol,
    verbose=0,
):
    """Minimise ``||w||^2 / 2 + C * sum(weight * log loss)`` over standardised coefficients.

    The standardisation ``(x - mean) / scale`` is folded into the coefficients before each pass
    and into the gradient after it.

    Parameters
    ----------
    design : Design
        The rows.

    target : ndarray of shape (n,), dtype=intp
        Number of the class of each row.

    weight : ndarray of shape (n,)
        Weights of the rows.

    mean, scale : ndarray of shape (n_features,)
        Standardisation of the columns.

    C : float
        Inverse strength of the penalty.

    fit_intercept : bool
        Whether there are intercepts; they are not penalised.

    start : tuple of ndarray
        Standardised coefficients (n_outputs, n_features) and intercepts (n_outputs,).

    max_iter : int
        Largest number of iterations.

    tol : float
        Largest component of the gradient of the mean objective at which to stop.

    verbose : int, default=0
        With 1, a progress bar.

    Returns
    -------
    Solution
        Where it ended; with a ConvergenceWarning where that is no minimum.
    """
    split = start[0].size
    objective = _Objective(
        design, target, weight, mean, scale, C=C, fit_intercept=fit_intercept, shape=start[0].shape
    )
    # Threads of BLAS gain nothing on vectors of this size, and would contend with the passes'.
    quiet = threadpool_limits(limits=1, user_api="blas")
    with quiet, tqdm(desc="L-BFGS", unit="it", disable=not verbose) as bar:

        def report(intermediate_result):
            bar.update()
            bar.set_postfix(objective=f"{intermediate_result.fun * objective.unit:.6g}")

        result = scipy.optimize.minimize(
            objective,
            np.concatenate([start[0].ravel(), start[1]]),
            jac=True,
            method="L-BFGS-B",
            callback=report if verbose else None,
            options={
                "maxiter": max_iter,
                "maxfun": 20 * max_iter,
                "maxls": _LINE_SEARCH,
                "maxcor": _MEMORY,
                "gtol": tol,
                # The gradient decides; this only ends a fit at the precision of float64.
                "ftol": 0.0,
            },
        )
    largest = float(np.abs(result.jac).max())
    # Status 0 is a minimum: by the gradient, or because the objective can fall no further.
    if result.status != 0 and largest > tol:
        _warn(result, largest, tol, max_iter)
    return Solution(
        coef=result.x[:split].reshape(start[0].shape),
        intercept=result.x[split:].copy(),
        n_iter=int(result.nit),
        objective=float(result.fun * objective.unit),
        gradient=largest,
    )


class _Objective:
    # Value and gradient of the mean objective at a vector of coefficients and intercepts.
    def __init__(self, design, target, weight, mean, scale, *, C, fit_intercept, shape):
        self._design, self._target, self._weight = design, target, weight
        self._mean, self._scale, self._shape = mean, scale, shape
        self._fit_intercept = fit_intercept
        self._total = weight.sum()
        self.unit = C * self._total

    def __call__(self, x):
        split = len(x) - self._shape[0]
        coef, intercept = x[:split].reshape(self._shape), x[split:]
        folded = coef / self._scale
        loss, by_coef, by_intercept = self._design.loss_gradient(
            folded, intercept - folded @ self._mean, self._target, self._weight
        )
        by_coef = (by_coef - np.outer(by_intercept, self._mean)) / (self._scale * self._total)
        by_coef += coef / self.unit
        gradient = np.concatenate([by_coef.ravel(), by_intercept / self._total])
        if not self._fit_intercept:
            gradient[split:] = 0.0
        return loss / self._total + 0.5 / self.unit * np.dot(x[:split], x[:split]), gradient


def _warn(result, largest, tol, max_iter):
    if result.nit >= max_iter:
        why = f"it stopped after max_iter={max_iter} iterations"
        what = "Raise max_iter, loosen tol, or lower C"
    else:
        why = "the line search found no better point"
        what = "Standardize the pixels, loosen tol, or lower C"
    warn(
        f"The fit has not converged: {why}, and the largest component of the gradient is "
        f"{largest:.2g} (tol={tol:g}). {what}.",
        ConvergenceWarning,
    )
