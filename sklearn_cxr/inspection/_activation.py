"""Where in a film a classifier sees what it sees."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils import Bunch

from sklearn_cxr.inspection._activation_front import (
    describe,
    look_in_front,
    tail_scores,
    target_indices,
)
from sklearn_cxr.inspection._activation_linear import coefficient_images
from sklearn_cxr.inspection._activation_resample import to_original
from sklearn_cxr.preprocessing._geometry import identity_affines
from sklearn_cxr.utils._sklearn import Interval, StrOptions, validate_params

_CALLER = "class_activation_map"
METHODS = ("cam", "gradcam", "gradcam++", "saliency", "integrated_gradients", "occlusion")
PARAMETERS = {
    "method": [StrOptions(set(METHODS))],
    "layer": [str, None],
    "space": [StrOptions({"original", "model"})],
    "image_shape": ["array-like", None],
    "baseline": [Interval(Real, None, None, closed="neither"), None],
    "n_steps": [Interval(Integral, 2, None, closed="left")],
    "window": [Interval(Integral, 1, None, closed="left"), None],
    "stride": [Interval(Integral, 1, None, closed="left"), None],
    "verbose": ["verbose"],
}


@validate_params(PARAMETERS, prefer_skip_nested_validation=True)
def class_activation_map(
    estimator,
    X,
    *,
    method="gradcam",
    target=None,
    layer=None,
    space="original",
    image_shape=None,
    baseline=None,
    n_steps=50,
    window=None,
    stride=None,
    verbose=0,
):
    """Draw a map of each film of what speaks for a class.

    Films go through the pipeline as in a prediction; the map of what the classifier sees is
    carried back through the geometry of every step to the pixels of the film that came in.

    Parameters
    ----------
    estimator : estimator
        Fitted classifier, a pipeline that ends in one, or a search over these: the networks of
        this library; linear classifiers, of pixels, of their principal components or of
        :class:`~sklearn_cxr.feature_extraction.BackboneFeatures`; and with
        ``method="occlusion"`` any other.

    X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features), or of n paths
        Films in the form that `estimator` takes.

    method : {"cam", "gradcam", "gradcam++", "saliency", "integrated_gradients", "occlusion"}, \
default="gradcam"
        ``"cam"`` [1]_, of networks that average their last map and weigh its channels, with its
        sign; Grad-CAM [2]_ and Grad-CAM++ [3]_, 0 or more, of any layer that gives a map;
        the size of the gradient of each pixel [4]_; integrated gradients [5]_, with their sign;
        and by how much the score falls where a square is covered [6]_, with its sign. A model
        that is linear in its pixels answers to the first four with the coefficients of the class
        as an image, signs and all: the same for each film, in the units that its ``coef_`` has.

    target : label, array-like of shape (n,) or None, default=None
        Class, or label of several, that the map speaks for: one for all films, or one for each.
        None takes the class that scores highest in the film.

    layer : str or None, default=None
        Submodule, by its name within the network or backbone, whose map is taken by ``"cam"``,
        ``"gradcam"`` and ``"gradcam++"``. None takes the last one that gives a map; of a vision
        transformer the last tokens that the score depends on.

    space : {"original", "model"}, default="original"
        Pixels that the maps are given in: those of the films in `X`, or those that the model sees.

    image_shape : tuple of int or None, default=None
        ``(h, w)`` or ``(h, w, c)`` of flat rows, where no step of the pipeline knows it. None
        then means a square.

    baseline : float or None, default=None
        Grey level, of the films as they enter the model, that ``"integrated_gradients"`` starts
        from and ``"occlusion"`` covers with. None is the mean of each film.

    n_steps : int, default=50
        Steps of ``"integrated_gradients"``, at least 2.

    window : int or None, default=None
        Side of the square of ``"occlusion"``, in pixels that the model sees. None is an eighth of
        the shorter side.

    stride : int or None, default=None
        Step of the square, in pixels. None is half of `window`.

    verbose : int, default=0
        With 1, a progress bar.

    Returns
    -------
    result : :class:`~sklearn.utils.Bunch`
        Dictionary-like object with these attributes.

        maps : ndarray of shape (n, h, w), dtype float32, or list of n of shape (h, w)
            The maps, as they are: nothing is scaled to 1. A list where films differ in size. 0
            where a crop left out a part of the film.
        target : ndarray of shape (n,)
            The class that each map speaks for.
        score : ndarray of shape (n,), dtype float64
            Its score: the logit; the decision value or, without one, the probability of a
            classifier that is no network. Of two classes the first has the second's with the
            other sign.
        affines : ndarray of shape (n, 2, 3)
            From the pixels that the model sees to those of the film; carry boxes with
            :func:`~sklearn_cxr.preprocessing.map_boxes`.
        method : str
            As given.
        layer : str or None
            The layer that was taken.

    Raises
    ------
    TypeError
        If `estimator` is no classifier, or has no gradients and the method needs them.
    ValueError
        If the target, the layer or the films are not such as the model knows, or CAM is not
        defined for the network.
    ImportError
        If captum is needed and not installed.

    See Also
    --------
    ActivationMapDisplay : The maps on the films.
    localization_report : How well the maps meet boxes.

    Notes
    -----
    Needs the extra ``inspection`` (captum), except for linear models. Networks compute in float32,
    whatever the precision of their predictions, and without test-time augmentation. Grad-CAM
    goes back to its layer only, so it costs little more than a prediction; occlusion takes one
    prediction for each place of the square.

    A map shows what raises the score, not why a patient is ill, and looks convincing on a network
    with random weights too. Hold it against boxes before you believe it.

    References
    ----------
    .. [1] B. Zhou, A. Khosla, A. Lapedriza, A. Oliva and A. Torralba, "Learning Deep Features for
       Discriminative Localization", CVPR 2016.
    .. [2] R. R. Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via
       Gradient-based Localization", ICCV 2017.
    .. [3] A. Chattopadhay, A. Sarkar, P. Howlader and V. N. Balasubramanian, "Grad-CAM++:
       Generalized Gradient-based Visual Explanations for Deep Convolutional Networks", WACV 2018.
    .. [4] K. Simonyan, A. Vedaldi and A. Zisserman, "Deep Inside Convolutional Networks:
       Visualising Image Classification Models and Saliency Maps", ICLR workshop, 2014.
    .. [5] M. Sundararajan, A. Taly and Q. Yan, "Axiomatic Attribution for Deep Networks", ICML
       2017.
    .. [6] M. D. Zeiler and R. Fergus, "Visualizing and Understanding Convolutional Networks",
       ECCV 2014.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_cxr.datasets import make_chest_xrays
    >>> from sklearn_cxr.inspection import class_activation_map
    >>> from sklearn_cxr.neural_network import CNNClassifier
    >>> from sklearn_cxr.preprocessing import Resize
    >>> films = make_chest_xrays(40, image_size=64, random_state=0)
    >>> model = make_pipeline(
    ...     Resize(32), CNNClassifier(channels=(8, 16), dense=(), max_epochs=2, random_state=0)
    ... )
    >>> model = model.fit(films.images, films.target)
    >>> found = class_activation_map(model, films.images[:3], target=1)
    >>> found.maps.shape, found.layer, found.target.tolist()
    ((3, 64, 64), 'features', [1, 1, 1])
    """
    front = look_in_front(estimator, X, image_shape=image_shape, caller=_CALLER)
    wanted = target_indices(target, front.classes, len(front), _CALLER)
    coef = None
    if method != "occlusion":
        coef = coefficient_images(front.tail, front.shape)
    if coef is not None and method != "integrated_gradients":
        maps, indices, scores = _of_linear(front, coef, wanted)
        place = None
    else:
        # torch is imported where a network is looked into, and not by linear models.
        from sklearn_cxr.inspection._activation_methods import attribute
        from sklearn_cxr.inspection._activation_network import AnyModel, build_model

        model = build_model(front)
        if model is None and method != "occlusion":
            raise TypeError(
                f"{_CALLER} got method={method!r} for {describe(front.tail)}, which has no "
                "gradients; expected a network, or a linear classifier, of the pixels or of "
                "BackboneFeatures. method='occlusion' works with any classifier."
            )
        maps, indices, scores, place = attribute(
            AnyModel(front) if model is None else model,
            method,
            wanted,
            layer=layer,
            baseline=baseline,
            n_steps=n_steps,
            window=window,
            stride=stride,
            verbose=verbose,
            caller=_CALLER,
        )
    size = tuple(front.shape[:2])
    if space == "model":
        maps = to_original(maps, size, identity_affines(len(maps)), [size] * len(maps))
    else:
        maps = to_original(maps, size, front.affines, front.sizes)
    return Bunch(
        maps=maps,
        target=front.classes[indices],
        score=scores,
        affines=front.affines,
        method=method,
        layer=None if place is None else place.name,
    )


def _of_linear(front, coef, wanted):
    """Take the coefficients of the class of each film as its map."""
    scores = tail_scores(front, front.images)
    indices = scores.argmax(axis=1) if wanted is None else wanted
    images = coef if coef.ndim == 3 else coef.sum(axis=3)
    return images[indices], indices, scores[np.arange(len(scores)), indices]
