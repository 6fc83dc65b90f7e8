"""What a model sees of each film, where that lies in the original, and what comes after."""

from dataclasses import dataclass

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from sklearn_cxr.imbalance import ResampledClassifier
from sklearn_cxr.inspection._display_base import _paths_of, refuse_pairwise
from sklearn_cxr.preprocessing._base import BaseImageTransformer
from sklearn_cxr.preprocessing._decode import image_size
from sklearn_cxr.preprocessing._geometry import (
    _keeps_places,
    compose_affines,
    identity_affines,
)
from sklearn_cxr.utils._chunks import as_rows, is_row_view
from sklearn_cxr.utils._images import is_shaped, resolve_image_shape
from sklearn_cxr.utils._sklearn import _num_samples

_WRAPPERS = (FixedThresholdClassifier, TunedThresholdClassifierCV, ResampledClassifier)


@dataclass(frozen=True)
class Front:
    """Films as they enter the model, which begins where there are no pixels any more.

    Parameters
    ----------
    images : array-like of shape (n, h, w), (n, h, w, c) or (n, n_values)
        What enters the model.

    shape : tuple of int
        Shape of one image of these.

    affines : ndarray of shape (n, 2, 3)
        From their pixels to those of the originals.

    sizes : list of (int, int)
        Height and width of the originals.

    tail : list of estimator
        The model: the steps from the first that does not keep pixels to the classifier.
    """

    images: object
    shape: tuple
    affines: np.ndarray
    sizes: list
    tail: list

    @property
    def classifier(self):
        """The last step."""
        return self.tail[-1]

    @property
    def classes(self):
        """Classes, or numbers of the labels, that a score is given for."""
        return np.asarray(self.classifier.classes_)

    def __len__(self):
        return len(self.affines)


def unwrap(estimator):
    """Return what a search, a tuned threshold or a resampled classifier has fitted."""
    while True:
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif isinstance(estimator, _WRAPPERS):
            check_is_fitted(estimator)
            estimator = estimator.estimator_
        elif isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        else:
            return estimator


def _leaves(estimator):
    """Yield the steps of nested pipelines, without those that do nothing in a prediction."""
    estimator = unwrap(estimator)
    if not isinstance(estimator, Pipeline):
        yield estimator
        return
    for _, step in estimator.steps:
        if step is not None and step != "passthrough" and not hasattr(step, "fit_resample"):
            yield from _leaves(step)


def look_in_front(estimator, X, *, image_shape=None, caller):
    """Send films through all that keeps them films.

    Parameters
    ----------
    estimator : estimator
        Fitted classifier, a pipeline that ends in one, or what wraps these.

    X : array-like
        What it takes: images or paths.

    image_shape : tuple of int or None, default=None
        Shape of one image where `X` is flat and no step tells.

    caller : str
        What the user called.

    Returns
    -------
    Front
        What enters the model.
    """
    before, tail = split_steps(fitted_steps(estimator, caller))
    X = as_rows(X)
    shape, sizes = _originals(X, [*before, *tail], image_shape)
    affines = identity_affines(_num_samples(X))
    for step in before:
        if hasattr(step, "geometry"):
            affines = compose_affines(affines, np.asarray(step.geometry(X), dtype=np.float64))
        X = step.transform(X)
        shape = _shape_after(step, X, shape)
    if not is_row_view(X):
        X = np.asarray(X)
    if X.dtype.kind not in "biuf" or shape is None:
        raise ValueError(
            f"{caller} cannot follow the films to the pixels that {type(tail[0]).__name__} sees: "
            f"it is given {X.dtype} values. Give images, or put ImageReader first in the pipeline."
        )
    return Front(X, tuple(shape), affines, sizes, tail)


def split_steps(steps):
    """Part the steps of a classifier into those that keep films films, and the model."""
    number = 0
    while number < len(steps) - 1 and (
        hasattr(steps[number], "geometry") or _keeps_places(steps[number])
    ):
        number += 1
    return steps[:number], steps[number:]


def fitted_steps(estimator, caller):
    """Return the steps of a fitted classifier, in order.

    Parameters
    ----------
    estimator : estimator
        Fitted classifier, a pipeline that ends in one, or what wraps these.

    caller : str
        What the user called.

    Returns
    -------
    list of estimator
        The steps.

    Raises
    ------
    NotFittedError
        If it is not fitted.

    TypeError
        If it is no classifier.
    """
    check_is_fitted(estimator)
    steps = list(_leaves(estimator))
    if not hasattr(steps[-1], "predict"):
        raise TypeError(
            f"{caller} got {type(steps[-1]).__name__}, which predicts nothing; expected a fitted "
            "classifier, or a Pipeline that ends in one."
        )
    check_is_fitted(steps[-1])
    if not hasattr(steps[-1], "classes_"):
        raise TypeError(
            f"{caller} got {type(steps[-1]).__name__}, which has no classes_; expected a "
            "classifier, since a map is drawn for a class."
        )
    return steps


def _originals(X, steps, image_shape):
    """Return the shape of one image of X, None where it is not known yet, and all sizes."""
    paths = _paths_of(X)
    if paths is not None:
        return None, [image_size(path) for path in paths]
    if is_shaped(X):
        shape = np.shape(X)[1:] if not hasattr(X, "shape") else tuple(X.shape[1:])
    elif image_shape is not None:
        shape = resolve_image_shape(_width(X), image_shape)
    else:
        known = (getattr(step, "image_shape_", None) for step in steps)
        shape = next((shape for shape in known if shape is not None), None)
        shape = resolve_image_shape(_width(X), shape)
    return shape, [tuple(int(side) for side in shape[:2])] * _num_samples(X)


def _width(X):
    return int(np.shape(X)[1]) if np.ndim(X) == 2 else 0


def _shape_after(step, X, shape):
    if is_shaped(X):
        return tuple(X.shape[1:])
    if isinstance(step, BaseImageTransformer):
        return tuple(step._shape_out())
    if not hasattr(step, "geometry"):
        return shape
    return resolve_image_shape(X.shape[1], getattr(step, "image_shape_", None))


def tail_scores(front, images):
    """Ask the model about images in the form that enters it.

    Parameters
    ----------
    front : Front
        The model.

    images : array-like
        Images in the form of ``front.images``.

    Returns
    -------
    ndarray of shape (n, n_classes), dtype float64
        Decision values, or probabilities where the classifier gives no others.
    """
    for step in front.tail[:-1]:
        images = step.transform(images)
    classifier, n_classes = front.classifier, len(front.classes)
    if hasattr(classifier, "decision_function"):
        refuse_pairwise(classifier, n_classes, "class_activation_map")
        scores = np.asarray(classifier.decision_function(images), dtype=np.float64)
    elif hasattr(classifier, "predict_proba"):
        scores = np.asarray(classifier.predict_proba(images), dtype=np.float64)
    else:
        raise TypeError(
            f"{type(classifier).__name__} has neither decision_function nor predict_proba, so "
            "there is no score that a map could explain."
        )
    if scores.ndim == 1:
        scores = np.column_stack([-scores, scores])
    if scores.shape[1:] != (n_classes,):
        raise TypeError(
            f"{type(classifier).__name__} gives scores of shape {scores.shape}; expected one for "
            f"each of its {n_classes} classes."
        )
    return scores


def target_indices(target, classes, n, caller):
    """Find the classes that maps are wanted for.

    Parameters
    ----------
    target : label, array-like of shape (n,) or None
        One class for all films, or one for each.

    classes : ndarray of shape (n_classes,)
        The classes there are.

    n : int
        Number of films.

    caller : str
        What the user called.

    Returns
    -------
    ndarray of shape (n,), dtype int64, or None
        Positions in `classes`; None where `target` is None.
    """
    if target is None:
        return None
    wanted = np.atleast_1d(np.asarray(target))
    if wanted.ndim != 1 or (np.ndim(target) and len(wanted) != n):
        raise ValueError(
            f"{caller} got target of shape {np.shape(target)} for {n} films; expected one class, "
            "or one for each film."
        )
    known = {label: position for position, label in enumerate(classes.tolist())}
    strangers = sorted({repr(label) for label in wanted.tolist() if label not in known})
    if strangers:
        raise ValueError(
            f"{caller} got target {', '.join(strangers[:3])}, which the classifier does not "
            f"know; expected one of {classes.tolist()[:20]}."
        )
    found = np.array([known[label] for label in wanted.tolist()], dtype=np.int64)
    return np.broadcast_to(found, n).copy() if len(found) == 1 else found


def describe(steps):
    """Name a classifier and what stands before it."""
    return " after ".join(type(step).__name__ for step in reversed(steps))
