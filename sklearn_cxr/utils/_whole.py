"""Fits that leave no half-fitted estimator behind."""

from contextlib import contextmanager


@contextmanager
def whole_or_not_at_all(estimator):
    """Leave the estimator as it was where the fit inside raises: an old model stays whole.

    Parameters
    ----------
    estimator : estimator
        Its attributes may be replaced inside, not changed in place.
    """
    before = vars(estimator).copy()
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise
