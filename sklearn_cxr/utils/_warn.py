"""Warnings that point to the user's line, however deep they are issued."""

import sys
import warnings

# A fit goes through scikit-learn's decorators, pipelines and searches before it gets to our code.
_INSIDE = {"sklearn_cxr", "sklearn", "imblearn", "joblib", "contextlib", "functools"}


def warn(message, category):
    """Issue a warning that names the first line outside of this library and scikit-learn.

    Parameters
    ----------
    message : str
        What happened.

    category : type
        The warning's class.
    """
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _INSIDE:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
