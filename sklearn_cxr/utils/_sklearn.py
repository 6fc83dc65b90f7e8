"""The one file that touches scikit-learn's private modules, so that a change there is met once."""

from contextlib import contextmanager, nullcontext

from sklearn.base import _fit_context
from sklearn.metrics._scorer import _BaseScorer
from sklearn.model_selection._search import BaseSearchCV
from sklearn.model_selection._split import GroupsConsumerMixin, _BaseKFold
from sklearn.utils import _safe_indexing
from sklearn.utils._metadata_requests import _routing_enabled
from sklearn.utils._param_validation import (
    HasMethods,
    InvalidParameterError,
    Options,
    RealNotInt,
    StrOptions,
    validate_params,
)
from sklearn.utils._param_validation import (
    Interval as _SklearnInterval,
)
from sklearn.utils._set_output import _get_output_config, _wrap_data_with_container
from sklearn.utils.validation import (
    _check_feature_names_in,
    _check_method_params,
    _check_sample_weight,
    _num_samples,
)

try:  # scikit-learn 1.9 and later
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:

    class CallbackSupportMixin:
        """Stands in for scikit-learn's mixin of the same name where it does not exist."""

    def with_callbacks(method):
        """Return the method as it is: there are no callbacks to manage."""
        return method


class Interval(_SklearnInterval):
    """scikit-learn's constraint of the same name, but True is no number: a size is not 1 by it."""

    def is_satisfied_by(self, val):
        """Tell whether a parameter is a number within the interval."""
        return not isinstance(val, bool) and super().is_satisfied_by(val)


@contextmanager
def fit_task(estimator, X, y=None, *, sub_estimator=None, n_steps=0):
    """Tell the estimator's callbacks that a fit begins and ends.

    The method that uses it is decorated with `with_callbacks`. Before scikit-learn 1.9, where
    there are no callbacks, nothing happens.

    Parameters
    ----------
    estimator : estimator
        The estimator being fitted.

    X : array-like
        What it is fitted on.

    y : array-like or None, default=None
        The target.

    sub_estimator : estimator or None, default=None
        An estimator that is fitted inside, which the callbacks are handed on to.

    n_steps : int, default=0
        Largest number of steps, each to be announced with `fit_step`.

    Yields
    ------
    CallbackContext or None
        The task, for `fit_step`.
    """
    if not hasattr(estimator, "_init_callback_context"):
        yield None
        return
    n_subtasks = n_steps if sub_estimator is None else 1
    task = estimator._init_callback_context(max_subtasks=n_subtasks)
    task.call_on_fit_task_begin(estimator=estimator, X=X, y=y)
    inner = nullcontext()
    if sub_estimator is not None:
        subtask = task.subcontext(task_name=f"fit-{type(sub_estimator).__name__}")
        inner = subtask.propagate_callback_context(sub_estimator)
    with inner:
        yield task
    task.call_on_fit_task_end(estimator=estimator, X=X, y=y, reconstruction_attributes={})


def fit_step(task, estimator, X, y, *, name):
    """Tell the callbacks that a step of a fit begins.

    Parameters
    ----------
    task : CallbackContext or None
        What `fit_task` yielded.

    estimator : estimator
        The estimator being fitted.

    X : array-like
        What it is fitted on.

    y : array-like
        The target.

    name : str
        What a step is called.

    Returns
    -------
    callable
        To be called at the end of the step with the attributes that would make the estimator a
        fitted one; returns whether a callback asks for the fit to end.
    """
    if task is None:
        return lambda **attributes: False
    step = task.subcontext(task_name=name)
    step.call_on_fit_task_begin(estimator=estimator, X=X, y=y)

    def end(**attributes):
        return step.call_on_fit_task_end(
            estimator=estimator, X=X, y=y, reconstruction_attributes=attributes
        )

    return end


__all__ = [
    "BaseSearchCV",
    "CallbackSupportMixin",
    "GroupsConsumerMixin",
    "HasMethods",
    "Interval",
    "InvalidParameterError",
    "Options",
    "RealNotInt",
    "StrOptions",
    "_BaseKFold",
    "_BaseScorer",
    "_check_feature_names_in",
    "_check_method_params",
    "_check_sample_weight",
    "_fit_context",
    "_get_output_config",
    "_num_samples",
    "_routing_enabled",
    "_safe_indexing",
    "_wrap_data_with_container",
    "fit_step",
    "fit_task",
    "validate_params",
    "with_callbacks",
]
