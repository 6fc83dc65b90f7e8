"""Which of skorch's callbacks a fit takes."""

from sklearn_cxr.neural_network._skorch import ScoringBase


def check_callbacks(callbacks, caller):
    """Refuse what is no callback, and those that need data which a fit does not have.

    Parameters
    ----------
    callbacks : list of skorch callbacks or None
        Instances, classes, or pairs of a name and one of them.

    caller : str
        Name of the estimator, for messages.

    Raises
    ------
    ValueError
        If one cannot be used.
    """
    for given in callbacks or ():
        callback = given[1] if isinstance(given, tuple) and len(given) == 2 else given
        if not all(hasattr(callback, name) for name in ("initialize", "on_epoch_end")):
            raise ValueError(
                f"{caller} takes skorch callbacks, or pairs of a name and a callback, in "
                f"callbacks; got {given!r}."
            )
        kind = callback if isinstance(callback, type) else type(callback)
        if issubclass(kind, ScoringBase):
            raise ValueError(
                f"{caller} cannot use {kind.__name__} in callbacks: it scores NumPy targets by "
                "batch, but here batches and targets stay on the device, with weights and "
                "unknown labels. history_ has the losses and accuracies; for other scores use "
                "set_callbacks(sklearn.callback.ScoringMonitor(scoring=...))."
            )
