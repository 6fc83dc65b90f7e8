"""Linear models seen as images: their coefficients, carried back to the pixels."""

import numpy as np
from scipy.sparse import issparse
from sklearn.decomposition import PCA, IncrementalPCA, TruncatedSVD
from sklearn.feature_selection import SelectorMixin
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import SVC, NuSVC

from sklearn_cxr.decomposition import PixelPCA
from sklearn_cxr.preprocessing import Flatten, PixelScaler, RandomPixelSampler


def linear_weights(classifier):
    """Coefficients and intercepts of a linear classifier, one row for each class.

    Parameters
    ----------
    classifier : estimator
        Fitted.

    Returns
    -------
    (coef, intercept) : tuple of ndarray, or None
        Of shapes (n_classes, n_features) and (n_classes,); of two classes the first has the
        second's with the other sign. None where it is no linear classifier.
    """
    coef = getattr(classifier, "coef_", None)
    classes = getattr(classifier, "classes_", None)
    if coef is None or classes is None or isinstance(classes, list):
        return None
    if isinstance(classifier, SVC | NuSVC) and len(classes) > 2:
        return None  # one row for each pair of classes
    coef = np.atleast_2d(coef.toarray() if issparse(coef) else np.asarray(coef, dtype=np.float64))
    intercept = np.asarray(getattr(classifier, "intercept_", 0.0), dtype=np.float64)
    intercept = np.broadcast_to(intercept, len(coef))
    if len(coef) == 1 and len(classes) == 2:
        return np.vstack([-coef, coef]), np.concatenate([-intercept, intercept])
    return (coef, intercept) if len(coef) == len(classes) else None


def pull_back(steps, coef):
    """Carry linear functions of the output of affine steps back to their input.

    Parameters
    ----------
    steps : list of transformer
        Fitted, in the order that they are applied in.

    coef : ndarray of shape (k, n_features_out)
        The functions.

    Returns
    -------
    (coef, constant) : tuple of ndarray, or None
        Of shapes (k, n_features_in) and (k,): what to multiply the input by and what to add.
        None where a step is not known to be affine.
    """
    constant = np.zeros(len(coef))
    for step in reversed(steps):
        carried = _one_back(step, coef)
        if carried is None:
            return None
        coef, more = carried
        constant = constant + more
    return coef, constant


def _one_back(step, coef):
    if isinstance(step, Flatten) or (isinstance(step, FunctionTransformer) and step.func is None):
        return coef, 0.0
    if isinstance(step, SelectorMixin | RandomPixelSampler):
        chosen = (
            step.pixel_indices_ if isinstance(step, RandomPixelSampler) else step.get_support()
        )
        back = np.zeros((len(coef), step.n_features_in_))
        back[:, chosen] = coef
        return back, 0.0
    if isinstance(step, PCA | IncrementalPCA | TruncatedSVD | PixelPCA):
        axes = np.asarray(step.components_, dtype=np.float64)
        if getattr(step, "whiten", False):
            spread = np.sqrt(np.maximum(step.explained_variance_, np.finfo(axes.dtype).eps))
            axes = axes / spread[:, None]
        back = coef @ axes
        mean = getattr(step, "mean_", None)
        return back, 0.0 if mean is None else -back @ np.asarray(mean, dtype=np.float64)
    scaling = _scaling(step)
    if scaling is None:
        return None
    factor, offset = scaling
    return coef * factor, coef @ (offset * np.ones(coef.shape[1]))


def _scaling(step):
    """Factor and offset of a transformer that works column by column, or None."""
    if getattr(step, "clip", False):
        return None
    if isinstance(step, MinMaxScaler):
        return step.scale_, step.min_
    if isinstance(step, MaxAbsScaler):
        return 1 / step.scale_, 0.0
    if isinstance(step, RobustScaler):
        centre = step.center_ if step.with_centering else 0.0
        factor = 1 / step.scale_ if step.with_scaling else 1.0
    elif isinstance(step, StandardScaler | PixelScaler):
        centre = step.mean_ if step.with_mean else 0.0
        factor = 1 / step.scale_ if step.with_std else 1.0
    else:
        return None
    return factor, -centre * factor


def linear_tail(tail):
    """Fold a tail of affine steps and a linear classifier into one linear function.

    Parameters
    ----------
    tail : list of estimator
        The steps, the classifier last.

    Returns
    -------
    (coef, intercept) : tuple of ndarray, or None
        Of shapes (n_classes, n_values) and (n_classes,); None where the tail is not linear.
    """
    weights = linear_weights(tail[-1])
    if weights is None:
        return None
    carried = pull_back(tail[:-1], weights[0])
    return None if carried is None else (carried[0], carried[1] + weights[1])


def coefficient_images(tail, shape):
    """Coefficients of a linear tail as images, one for each class.

    Those of the pixel classifiers of this library are given for standardised pixels, as their
    ``coef_image_`` is.

    Parameters
    ----------
    tail : list of estimator
        The steps, the classifier last.

    shape : tuple of int
        Shape of one image that enters it.

    Returns
    -------
    ndarray of shape (n_classes, *shape), or None
        The images; None where the tail is not linear.
    """
    images = getattr(tail[-1], "coef_image_", None)
    if len(tail) == 1 and images is not None:
        images = np.asarray(images, dtype=np.float64)
        both = len(images) == 1
        return np.concatenate([-images, images]) if both else images
    folded = linear_tail(tail)
    return None if folded is None else folded[0].reshape(-1, *shape)
