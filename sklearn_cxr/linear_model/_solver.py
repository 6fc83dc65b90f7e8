"""The optimiser of penalised logistic regression over a design that is only passed over."""

import dataclasses

import numpy as np
import scipy.optimize
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from sklearn_cxr.utils._warn import warn

# Pairs of steps and gradients that L-BFGS remembers, if their bytes are not too many: on 5,216
# films of 224 px sixty reach in 88 iterations what twenty reach in 156, at a tenth more for each.
_MEMORY, _LEAST_MEMORY, _MEMORY_BYTES = 60, 10, 2**27
_LINE_SEARCH = 50
# A step that changes the objective by no more of itself is rounding in the sum over the rows.
_ROUNDING = 1e-13


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
    objective = _Objective(
        design, target, weight, mean, scale, C=C, fit_intercept=fit_intercept, shape=start[0].shape
    )
    # Threads of BLAS gain nothing on vectors of this size, and would contend with the passes'.
    with threadpool_limits(limits=1, user_api="blas"):
        result, largest = descend(objective, *start, max_iter=max_iter, tol=tol, verbose=verbose)
    coef, intercept = objective.unpack(result.x)
    return Solution(
        coef=coef,
        intercept=intercept.copy(),
        n_iter=int(result.nit),
        objective=float(result.fun * objective.unit),
        gradient=largest,
    )


def descend(objective, coef, intercept, *, max_iter, tol, verbose):
    """Run L-BFGS until the gradient is small.

    Parameters
    ----------
    objective : callable
        Value and gradient at a vector, with ``pack(coef, intercept)`` that makes the vector,
        ``length(gradient)`` that measures a gradient, ``largest_component(tol)`` that makes any
        gradient shorter than that, ``latest`` that was the last gradient, and ``unit``, by which
        the value is multiplied where it is shown.

    coef, intercept : ndarray
        Where to start.

    max_iter : int
        Largest number of iterations.

    tol : float
        Length of the gradient at which to stop.

    verbose : int
        With 1, a progress bar.

    Returns
    -------
    result : OptimizeResult
        Where it ended; with a ConvergenceWarning where that is no minimum.

    length : float
        Length of the gradient there.

    Notes
    -----
    Where float64 tells no lower objective, that is a minimum, however long the gradient.
    """
    values = []

    def evaluated(x):
        value, gradient = objective(x)
        if not values:
            values.append(value)
        return value, gradient

    start = objective.pack(coef, intercept)
    memory = int(np.clip(_MEMORY_BYTES // (2 * start.nbytes), _LEAST_MEMORY, _MEMORY))
    with tqdm(desc="L-BFGS", unit="it", disable=not verbose) as bar:

        def report(intermediate_result):
            length = objective.length(objective.latest)
            values.append(intermediate_result.fun)
            if verbose:
                bar.update()
                bar.set_postfix(
                    objective=f"{intermediate_result.fun * objective.unit:.6g}",
                    gradient=f"{length:.2g}",
                )
            if length <= tol:
                raise StopIteration

        result = scipy.optimize.minimize(
            evaluated,
            start,
            jac=True,
            method="L-BFGS-B",
            callback=report,
            options={
                "maxiter": max_iter,
                "maxfun": 20 * max_iter,
                "maxls": _LINE_SEARCH,
                "maxcor": memory,
                "gtol": objective.largest_component(tol),
                # The gradient decides; this only ends a fit at the precision of float64.
                "ftol": 0.0,
            },
        )
    length = objective.length(result.jac)
    # No step was lower (0), or the line search found none (2): a minimum if that is rounding.
    flat = len(values) > 1 and abs(values[-2] - values[-1]) <= _ROUNDING * abs(values[-1])
    if length > tol and not (flat and result.status in (0, 2)):
        _warn(result, f"{objective.measured} of the gradient is {length:.2g}", tol, max_iter)
    return result, length


class _Objective:
    # Value and gradient of the mean objective at a vector of coefficients and intercepts.
    def __init__(self, design, target, weight, mean, scale, *, C, fit_intercept, shape):
        self._design, self._target, self._weight = design, target, weight
        self._mean, self._scale, self._shape = mean, scale, shape
        self._fit_intercept = fit_intercept
        self._total = weight.sum()
        self.unit = C * self._total

    def pack(self, coef, intercept):
        return np.concatenate([coef.ravel(), intercept])

    def unpack(self, x):
        split = len(x) - self._shape[0]
        return x[:split].reshape(self._shape), x[split:]

    def length(self, gradient):
        """Largest component of the gradient by the coefficients per standard deviation."""
        return float(np.abs(gradient).max())

    def largest_component(self, tol):
        return tol

    # What `length` is, in words.
    measured = "largest component"

    def __call__(self, x):
        coef, intercept = self.unpack(x)
        folded = coef / self._scale
        loss, by_coef, by_intercept = self._design.loss_gradient(
            folded, intercept - folded @ self._mean, self._target, self._weight
        )
        by_coef = (by_coef - np.outer(by_intercept, self._mean)) / (self._scale * self._total)
        by_coef += coef / self.unit
        by_intercept = by_intercept / self._total * self._fit_intercept
        self.latest = self.pack(by_coef, by_intercept)
        return loss / self._total + 0.5 / self.unit * np.vdot(coef, coef), self.latest


def _warn(result, gradient, tol, max_iter):
    if result.nit >= max_iter:
        why = f"it stopped after max_iter={max_iter} iterations"
        what = "Raise max_iter, loosen tol, or lower C"
    else:
        why = "the line search found no better point"
        what = "Standardize the pixels, loosen tol, or lower C"
    warn(
        f"The fit has not converged: {why}, and the {gradient} (tol={tol:g}). {what}.",
        ConvergenceWarning,
    )
