"""Penalised logistic regression in as many dimensions as there are rows.

With an L2 penalty the coefficients are a combination of the rows, so fewer rows than columns
make the problem one of n dimensions: in the basis of the eigenvectors of the Gram matrix it is a
logistic regression with the same penalty on a small matrix, and every penalty of a sweep is
fitted on that one.
"""

import numpy as np
from scipy.linalg import eigh
from scipy.special import expit, log_softmax, softmax
from threadpoolctl import threadpool_limits

from sklearn_cxr.linear_model._solver import Solution, descend

# Done in a second on two busy cores, measured on 150 to 5,216 films of 64 and 224 pixels:
# multiplications for a Gram matrix, n^3 of an eigendecomposition, values of a step in n
# dimensions, and values of rows passed over.
_MULTIPLICATIONS, _EIGEN, _STEP, _VALUES = 22e9, 4e9, 2e9, 5e9
# Passes that one fit takes from nothing, and from the solution of a neighbouring penalty; and
# steps in n dimensions, which are fewer because the eigenvalues precondition them.
_PASSES_COLD, _PASSES_WARM, _STEPS = 100, 45, 16
# Below so many seconds there is nothing to gain, and small problems are left to the passes.
_WORTH_IT = 0.02


def gram_pays(shape, n_fits=1):
    """Tell whether `n_fits` penalties are fitted sooner with a Gram matrix than by passes.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns.

    n_fits : int, default=1
        Penalties that share the Gram matrix.

    Returns
    -------
    bool
        Always False where there are not fewer rows than columns.
    """
    n, n_features = shape
    if n >= n_features:
        return False
    passes = _PASSES_COLD + (n_fits - 1) * _PASSES_WARM
    one_pass = n * n_features / _VALUES
    gram = n * n * n_features / _MULTIPLICATIONS + n**3 / _EIGEN
    # Every fit reads the rows twice, to bring coefficients in and out.
    fits = n_fits * (_STEPS * 2 * n * n / _STEP + 2 * one_pass)
    return gram + fits + _WORTH_IT < passes * one_pass


class Reduced:
    """The rows in the basis of the eigenvectors of their weighted Gram matrix.

    Parameters
    ----------
    design : Design
        The rows.

    weight : ndarray of shape (n,)
        Weights of the rows; a row without weight plays no part.

    mean, scale : ndarray of shape (n_features,)
        Standardisation of the columns.

    Attributes
    ----------
    rows : ndarray of shape (k, rank)
        The rows with a weight, in the new basis.
    """

    def __init__(self, design, weight, mean, scale):
        self._design, self._mean, self._scale = design, mean, scale
        self._counted = weight > 0
        gram = design.gram(weight, mean, scale)[np.ix_(self._counted, self._counted)]
        with threadpool_limits(limits=1, user_api="blas"):
            values, vectors = eigh(gram, overwrite_a=True, check_finite=False, driver="evd")
        kept = values > len(values) * np.finfo(np.float64).eps * max(values[-1], 0.0)
        self._values, self._vectors = values[kept], vectors[:, kept]
        self._root = np.sqrt(weight[self._counted])[:, None]
        self.rows = self._vectors * np.sqrt(self._values) / self._root

    def _inward(self, coef):
        """Bring standardised coefficients into the basis, less what no row can tell."""
        folded = coef / self._scale
        scores = self._design.scores(folded, -folded @ self._mean)[self._counted]
        return (scores * self._root).T @ self._vectors / np.sqrt(self._values)

    def _outward(self, coef):
        """Bring coefficients of the basis back to standardised ones of the columns."""
        combination = np.zeros((len(coef), self._design.shape[0]))
        combination[:, self._counted] = (
            (coef / np.sqrt(self._values)) @ self._vectors.T * self._root[:, 0]
        )
        sums = self._design.weighted_sums(combination)
        return (sums - combination.sum(axis=1)[:, None] * self._mean) / self._scale

    def minimize(self, target, weight, *, C, fit_intercept, start, max_iter, tol, verbose=0):
        """Minimise the objective; see `sklearn_cxr.linear_model._solver.minimize`.

        Parameters
        ----------
        target : ndarray of shape (n,), dtype=intp
            Number of the class of each row.

        weight : ndarray of shape (n,)
            Weights of the rows, as they were given.

        C : float
            Inverse strength of the penalty.

        fit_intercept : bool
            Whether there are intercepts; they are not penalised.

        start : tuple of ndarray
            Standardised coefficients (n_outputs, n_features) and intercepts (n_outputs,).

        max_iter : int
            Largest number of iterations.

        tol : float
            Largest length of the gradient of the mean objective at which to stop; no component
            of it by the coefficients of the columns is larger then.

        verbose : int, default=0
            With 1, a progress bar.

        Returns
        -------
        Solution
            Where it ended; with a ConvergenceWarning where that is no minimum.
        """
        coef = self._inward(start[0]) if start[0].any() else np.zeros((len(start[0]), self._rank))
        with threadpool_limits(limits=1, user_api="blas"):
            objective = _Objective(
                self.rows,
                self._values,
                target[self._counted],
                weight[self._counted],
                C=C,
                fit_intercept=fit_intercept,
            )
            objective.precondition(coef, start[1])
            result, largest = descend(
                objective, coef, start[1], max_iter=max_iter, tol=tol, verbose=verbose
            )
        found, intercept = objective.unpack(result.x)
        if len(intercept) > 1:
            # What all classes share says nothing; it stays where it was.
            intercept = intercept - intercept.mean() + start[1].mean()
        return Solution(
            coef=self._outward(found),
            intercept=intercept.copy(),
            n_iter=int(result.nit),
            objective=float(result.fun * objective.unit),
            gradient=largest,
        )

    @property
    def _rank(self):
        return len(self._values)


class _Objective:
    # Mean objective over coefficients that are scaled by the root of the curvature at the start.
    def __init__(self, rows, values, target, weight, *, C, fit_intercept):
        self._rows, self._values, self._weight = rows, values, weight
        self._fit_intercept, self._target = fit_intercept, target
        self._total = weight.sum()
        self.unit = C * self._total

    def precondition(self, coef, intercept):
        scores = self._rows @ coef.T + intercept
        p = expit(scores) if scores.shape[1] == 1 else softmax(scores, axis=1)
        slope = np.maximum(self._weight @ (p * (1 - p)) / self._total, 1e-6)
        curvature = slope[:, None] * self._values / self._total + 1 / self.unit
        self._by = np.sqrt(np.column_stack([curvature, slope]))

    def pack(self, coef, intercept):
        return (np.column_stack([coef, intercept]) * self._by).ravel()

    def unpack(self, x):
        both = x.reshape(self._by.shape) / self._by
        return both[:, :-1], both[:, -1]

    measured = "length"

    def length(self, gradient):
        """Length of the gradient by the coefficients as they are."""
        return float(np.linalg.norm(gradient.reshape(self._by.shape) * self._by))

    def largest_component(self, tol):
        return tol / (self._by.max() * np.sqrt(self._by.size))

    def __call__(self, x):
        coef, intercept = self.unpack(x)
        scores = self._rows @ coef.T + intercept
        if scores.shape[1] == 1:
            z, positive = scores[:, 0], self._target == 1
            loss = self._weight @ (np.logaddexp(0, z) - positive * z)
            residual = (self._weight * (expit(z) - positive))[:, None]
        else:
            likelihood = log_softmax(scores, axis=1)
            at = np.arange(len(scores)), self._target
            loss = -(self._weight @ likelihood[at])
            residual = np.exp(likelihood)
            residual[at] -= 1
            residual *= self._weight[:, None]
        by_coef = residual.T @ self._rows / self._total + coef / self.unit
        by_intercept = residual.sum(axis=0) / self._total * self._fit_intercept
        self.latest = (np.column_stack([by_coef, by_intercept]) / self._by).ravel()
        return loss / self._total + 0.5 / self.unit * (coef**2).sum(), self.latest
