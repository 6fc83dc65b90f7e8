"""What a film would have to look like for a classifier to call it something else."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils import Bunch

from sklearn_cxr.inspection._activation_front import (
    Front,
    describe,
    fitted_steps,
    look_in_front,
    split_steps,
    tail_scores,
    target_indices,
)
from sklearn_cxr.inspection._display_base import generator
from sklearn_cxr.preprocessing._base import BaseImageTransformer
from sklearn_cxr.preprocessing._geometry import identity_affines
from sklearn_cxr.utils._images import resolve_image_shape
from sklearn_cxr.utils._sklearn import Interval, validate_params

_CALLER = "counterfactual_images"
PARAMETERS = {
    "steps": [Interval(Integral, 1, None, closed="left")],
    "lr": [Interval(Real, 0, 1, closed="right")],
    "tv": [Interval(Real, 0, None, closed="left")],
    "distance": [Interval(Real, 0, None, closed="left")],
    "n_images": [Interval(Integral, 1, None, closed="left")],
    "n_snapshots": [Interval(Integral, 2, None, closed="left")],
    "image_shape": ["array-like", None],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}


@validate_params(PARAMETERS, prefer_skip_nested_validation=True)
def counterfactual_images(
    estimator,
    X,
    target=None,
    *,
    steps=200,
    lr=0.01,
    tv=0.3,
    distance=1.0,
    n_images=1,
    n_snapshots=6,
    image_shape=None,
    random_state=None,
    verbose=0,
):
    """Change the pixels of films until a classifier calls them another class.

    The loss of the wanted class goes back to the pixels instead of the weights [1]_ [2]_, with
    two penalties on the change: on its total variation, which keeps grain out, and on its size.
    What changes is what the classifier goes by, not what an illness looks like.

    Parameters
    ----------
    estimator : estimator
        Fitted classifier with gradients, a pipeline that ends in one, or a search over these:
        networks, and linear classifiers of pixels, of principal components or of
        :class:`~sklearn_cxr.feature_extraction.BackboneFeatures`.

    X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features), or of n paths; or "noise"
        Films in the form that `estimator` takes; ``"noise"`` begins with even noise between black
        and white.

    target : label, array-like of shape (n,) or None, default=None
        Class, or label of several, to be reached: one for all films, or one for each. None is,
        of two classes, the other one; with ``"noise"`` and with more classes it is needed.

    steps : int, default=200
        Steps of the optimiser (Adam).

    lr : float, default=0.01
        About how far a pixel moves in a step, black to white being 1; in (0, 1].

    tv : float, default=0.3
        Weight of the total variation of the change, or of the image that began as noise: the
        mean difference of neighbouring pixels in percent of black to white.

    distance : float, default=1.0
        Weight of the size of the change: the mean square over the pixels, in tenths of black to
        white. It plays no part with ``"noise"``.

    n_images : int, default=1
        Number of images that are made of ``"noise"``.

    n_snapshots : int, default=6
        Pictures kept of each film: the first, the last and some between.

    image_shape : tuple of int or None, default=None
        ``(h, w)`` or ``(h, w, c)`` of flat rows, where no step of the pipeline knows it. None
        then means a square.

    random_state : int, RandomState instance or None, default=None
        Governs the noise.

    verbose : int, default=0
        With 1, a progress bar.

    Returns
    -------
    result : :class:`~sklearn.utils.Bunch`
        Dictionary-like object with these attributes.

        images : ndarray of shape (n, n_snapshots, h, w[, c]), dtype float32
            The pictures, in the pixels and grey levels that enter the model.
        steps : ndarray of shape (n_snapshots,), dtype int64
            Steps before each picture, 0 first.
        probability : ndarray of shape (n, steps + 1), dtype float64
            Probability of the wanted class before each step, and in the end.
        target : ndarray of shape (n,)
            The class that each film goes to.
        levels : tuple of (float, float)
            Grey levels of black and white.
        affines : ndarray of shape (n, 2, 3)
            From the pixels that the model sees to those of the films in `X`.

    Raises
    ------
    TypeError
        If `estimator` is no classifier, or has no gradients.
    ValueError
        If the target is not known, or needed and not given, or noise of its grey levels cannot be
        made.

    See Also
    --------
    CounterfactualDisplay : The pictures and the curve.
    class_activation_map : What speaks for a class, the film left as it is.

    Notes
    -----
    Pictures are kept as floats: rounded to 8 bits, a change of less than half a grey level in
    each pixel is lost, though it may have been all that was needed.

    References
    ----------
    .. [1] K. Simonyan, A. Vedaldi and A. Zisserman, "Deep Inside Convolutional Networks:
       Visualising Image Classification Models and Saliency Maps", ICLR workshop, 2014.
    .. [2] A. Mahendran and A. Vedaldi, "Understanding Deep Image Representations by Inverting
       Them", CVPR 2015.

    Examples
    --------
    >>> from sklearn_cxr.datasets import make_chest_xrays
    >>> from sklearn_cxr.inspection import counterfactual_images
    >>> from sklearn_cxr.linear_model import PixelLogisticRegression
    >>> X, y = make_chest_xrays(
    ...     60, image_size=32, classes=("normal", "viral"), random_state=0, return_X_y=True
    ... )
    >>> model = PixelLogisticRegression(C=1e-3).fit(X, y)
    >>> changed = counterfactual_images(model, X[:2], target=1, steps=20, n_snapshots=3)
    >>> changed.images.shape, changed.steps.tolist()
    ((2, 3, 32, 32), [0, 10, 20])
    >>> bool((changed.probability[:, -1] > changed.probability[:, 0]).all())
    True
    """
    noise = isinstance(X, str)
    if noise and X != "noise":
        raise ValueError(f"{_CALLER} got X={X!r}; expected films, or 'noise'.")
    if noise:
        front = _front_of_noise(estimator, n_images, image_shape, generator(random_state))
    else:
        front = look_in_front(estimator, X, image_shape=image_shape, caller=_CALLER)
    indices = target_indices(target, front.classes, len(front), _CALLER)
    if indices is None:
        indices = _others(front, noise)
    # torch is imported only now.
    from sklearn_cxr.inspection._activation_network import build_model
    from sklearn_cxr.inspection._counterfactual_steps import optimise

    model = build_model(front)
    if model is None:
        raise TypeError(
            f"{_CALLER} got {describe(front.tail)}, which has no gradients; expected a network, "
            "or a linear classifier, of the pixels or of BackboneFeatures."
        )
    kept = np.unique(np.linspace(0, steps, n_snapshots).round().astype(np.int64))
    images, probability = optimise(
        model,
        indices,
        kept,
        steps=steps,
        lr=lr,
        tv=tv,
        distance=distance,
        from_films=not noise,
        verbose=verbose,
    )
    low, high = model.prepare.low, model.prepare.high
    return Bunch(
        images=(images * np.float32(high - low) + np.float32(low)).astype(np.float32),
        steps=kept,
        probability=probability,
        target=front.classes[indices],
        levels=(low, high),
        affines=front.affines,
    )


def _others(front, noise):
    """Take the class that the classifier does not say, of two."""
    if noise or len(front.classes) != 2:
        reason = "noise" if noise else f"{len(front.classes)} classes"
        raise ValueError(
            f"{_CALLER} got target=None with {reason}; expected the class to be reached, one of "
            f"{front.classes.tolist()[:20]}."
        )
    return 1 - tail_scores(front, front.images).argmax(axis=1)


def _front_of_noise(estimator, n_images, image_shape, rng):
    """Noise in the form that enters the model."""
    before, tail = split_steps(fitted_steps(estimator, _CALLER))
    shape = _shape_of(before, tail, image_shape)
    levels = rng.uniform(size=(n_images, *shape)).astype(np.float32)
    kind = getattr(tail[0], "input_kind_", None)
    if kind in ("uint8", "uint16"):
        images = np.rint(levels * np.iinfo(kind).max).astype(kind)
    elif kind == "unit float":
        images = levels
    elif hasattr(tail[0], "levels_"):
        low, high = tail[0].levels_
        images = np.clip(levels * np.float32(high - low) + np.float32(low), low, high)
    else:
        raise ValueError(
            f"{_CALLER} got 'noise' for {type(tail[0]).__name__}, which does not tell the grey "
            "levels of black and white. Begin with films instead."
        )
    affines, size = identity_affines(n_images), tuple(shape[:2])
    return Front(images, tuple(shape), affines, [size] * n_images, tail)


def _shape_of(before, tail, image_shape):
    """Shape of one image that enters the model."""
    if hasattr(tail[0], "image_shape_"):
        return tail[0].image_shape_
    for step in reversed(before):
        if isinstance(step, BaseImageTransformer):
            return step._shape_out()
        if hasattr(step, "image_shape_"):
            return step.image_shape_
    return resolve_image_shape(tail[0].n_features_in_, image_shape)
