"""Where an output pixel came from: affines, their composition, and boxes carried through them.

A pixel in row r and column c covers ``[c, c + 1) x [r, r + 1)``, and points are (x, y) = (column,
row). An affine of shape (2, 3) maps points of the output to points of the input, so that a
resize is a pure scaling.
"""

import numpy as np
from sklearn.base import OneToOneFeatureMixin
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.validation import check_array, check_is_fitted

from sklearn_cxr.preprocessing._base import BaseImageTransformer
from sklearn_cxr.utils._sklearn import _num_samples, validate_params


class BaseGeometricTransformer(BaseImageTransformer):
    """Base of the transformers that move pixels.

    The output of each is a rectangle of the input brought to ``size_``. A subclass sets
    ``size_`` in ``_fit_images`` and finds the rectangles in ``_source_boxes(images)``.
    """

    def _keeps_pixels(self):
        return False

    def _shape_out(self):
        return (*self.size_, *self.image_shape_[2:])

    def geometry(self, X):
        """Compute the affines that map output pixel coordinates to input pixel coordinates.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
            Images of the shape seen in ``fit``.

        Returns
        -------
        ndarray of shape (n, 2, 3), dtype float64
            One affine an image: ``affine @ (x, y, 1)`` is the point of the input that lies at
            (x, y) in the output. The pixel in row r and column c covers [c, c + 1) x [r, r + 1).
        """
        check_is_fitted(self)
        flat, _ = self._validate(X, reset=False)
        boxes = self._source_boxes(flat.reshape(len(flat), *self.image_shape_))
        return box_affines(boxes, self.size_)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def box_affines(boxes, size):
    """Affines of outputs of `size` (h, w) that show the `boxes` (n, 4) of x, y, w, h."""
    boxes = np.asarray(boxes, dtype=np.float64)
    affines = np.zeros((len(boxes), 2, 3))
    affines[:, 0, 0] = boxes[:, 2] / size[1]
    affines[:, 1, 1] = boxes[:, 3] / size[0]
    affines[:, :, 2] = boxes[:, :2]
    return affines


def identity_affines(n):
    """Return the affines of `n` images whose pixels stay where they are."""
    return np.tile(np.eye(2, 3), (n, 1, 1))


def compose_affines(first, second):
    """Affines of two steps in a row: `first` is the earlier step, both map output to input."""
    composed = first[:, :, :2] @ second
    composed[:, :, 2] += first[:, :, 2]
    return composed


def resolve_size(size, caller):
    """Bring a size, an int or (h, w), to a tuple of two positive ints."""
    sides = np.atleast_1d(np.asarray(size))
    if sides.shape == (1,):
        sides = np.repeat(sides, 2)
    if sides.shape != (2,) or sides.dtype.kind not in "iu" or sides.min() < 1:
        raise ValueError(
            f"{caller}: size must be a positive int or (height, width) of two, got {size!r}."
        )
    return tuple(int(side) for side in sides)


def _keeps_places(step):
    # Whether column i (or pixel i) of the step's output lies where that of its input lay.
    if isinstance(step, BaseImageTransformer):
        return step._keeps_pixels()
    if isinstance(step, FunctionTransformer):
        return step.func is None or step.feature_names_out == "one-to-one"
    return isinstance(step, OneToOneFeatureMixin)


def _walk(pipeline):
    # The leaves of a pipeline, nested ones opened: (name, step), skipping what does nothing in
    # transform.
    for name, step in pipeline.steps:
        if isinstance(step, Pipeline):
            for inner, leaf in _walk(step):
                yield f"{name}__{inner}", leaf
        elif step is not None and step != "passthrough" and not hasattr(step, "fit_resample"):
            yield name, step


def _geometric_steps(pipeline):
    # Steps up to the last geometric one; an error if a step before it loses the geometry.
    steps = list(_walk(pipeline))
    moving = [i for i, (_, step) in enumerate(steps) if hasattr(step, "geometry")]
    followed = steps[: moving[-1] + 1] if moving else []
    for name, step in followed:
        if not hasattr(step, "geometry") and not _keeps_places(step):
            raise ValueError(
                f"The geometry cannot be followed through step {name!r} "
                f"({type(step).__name__}), which has no method geometry(X) and does not keep "
                f"pixels in place, to the later step {followed[-1][0]!r}. Put the geometric "
                "steps first, or give a FunctionTransformer that works pixel by pixel "
                "feature_names_out='one-to-one'."
            )
    return followed


@validate_params({"pipeline": [Pipeline]}, prefer_skip_nested_validation=True)
def pipeline_geometry(pipeline, X):
    """Compute the affines from the images at the end of a pipeline back to what came in.

    The walk goes over the fitted steps. A step with a method ``geometry(X)`` contributes its
    affines. The intensity transformers of this library, Flatten, and scikit-learn's
    column-by-column transformers (such as StandardScaler) leave pixels in place. Samplers
    and passthrough steps do nothing in ``transform``, and nested pipelines are opened. The
    first step from which on there are no pixels any more, such as RandomPixelSampler,
    PixelPCA or a classifier, ends the walk: the affines then belong to the images that
    enter it, which are the images that a map or a box drawn for that step refers to.

    Parameters
    ----------
    pipeline : sklearn.pipeline.Pipeline
        A fitted pipeline.

    X : array-like
        Input of the pipeline: images, or paths where its first step reads them.

    Returns
    -------
    ndarray of shape (n, 2, 3), dtype float64
        One affine an image, from output pixel coordinates (x, y) to those of the input.

    Raises
    ------
    ValueError
        If a geometric step comes after one that loses the geometry.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_cxr.preprocessing import Resize, SquarePad, map_boxes, pipeline_geometry
    >>> images = np.zeros((1, 40, 80), dtype=np.uint8)
    >>> pipeline = make_pipeline(SquarePad(), Resize(20)).fit(images)
    >>> affines = pipeline_geometry(pipeline, images)
    >>> affines[0]
    array([[  4.,   0.,   0.],
           [  0.,   4., -20.]])
    >>> map_boxes([[5, 10, 2, 3]], affines)
    array([[20., 20.,  8., 12.]])
    """
    affines = identity_affines(_num_samples(X))
    steps = _geometric_steps(pipeline)
    for i, (_, step) in enumerate(steps):
        if hasattr(step, "geometry"):
            affines = compose_affines(affines, np.asarray(step.geometry(X), dtype=np.float64))
        if i + 1 < len(steps):
            X = step.transform(X)
    return affines


@validate_params(
    {"boxes": ["array-like"], "affines": ["array-like"], "inverse": ["boolean"]},
    prefer_skip_nested_validation=True,
)
def map_boxes(boxes, affines, *, inverse=False):
    """Carry boxes from the output of a geometric step to its input, or the other way.

    Parameters
    ----------
    boxes : array-like of shape (n, 4)
        Boxes as x, y, width, height in pixels; (x, y) is the upper left corner. A row with
        NaN (no box) stays NaN.

    affines : array-like of shape (n, 2, 3) or (2, 3)
        The affine of each box's image, as ``geometry(X)`` or :func:`pipeline_geometry` gives
        them. For several boxes an image index them: ``affines[image_of_box]``. A single
        affine serves all boxes.

    inverse : bool, default=False
        False maps boxes of the output to the input; True maps boxes of the input to the
        output.

    Returns
    -------
    ndarray of shape (n, 4), dtype float64
        The boxes as x, y, width, height. They may reach beyond the image, where a crop cut
        them; nothing is clipped. Under an affine that rotates, the box around the result.

    Raises
    ------
    ValueError
        If the shapes do not fit, or an affine cannot be inverted.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_cxr.preprocessing import Resize, map_boxes
    >>> images = np.zeros((1, 100, 100), dtype=np.uint8)
    >>> affines = Resize(50).fit(images).geometry(images)
    >>> map_boxes([[10, 20, 5, 5]], affines)
    array([[20., 40., 10., 10.]])
    >>> map_boxes([[20, 40, 10, 10]], affines, inverse=True)
    array([[10., 20.,  5.,  5.]])
    """
    boxes = np.asarray(boxes)
    boxes = boxes.reshape(-1, 4) if boxes.size == 0 else boxes
    boxes = check_array(
        boxes, dtype=np.float64, ensure_all_finite="allow-nan", ensure_min_samples=0
    )
    affines = np.asarray(affines, dtype=np.float64)
    if boxes.shape[1] != 4 or affines.shape not in ((2, 3), (len(boxes), 2, 3)):
        raise ValueError(
            f"Expected boxes of shape (n, 4) and affines of shape (n, 2, 3) or (2, 3), got "
            f"{boxes.shape} and {affines.shape}. Give one affine a box: affines[image_of_box]."
        )
    affines = np.broadcast_to(affines, (len(boxes), 2, 3))
    linear, offset = affines[:, :, :2], affines[:, :, 2]
    if inverse:
        if np.any(np.linalg.det(linear) == 0):
            raise ValueError(
                "An affine has no inverse (its determinant is 0). Use the affines that "
                "geometry(X) or pipeline_geometry gives."
            )
        linear = np.linalg.inv(linear)
        offset = -np.einsum("nij,nj->ni", linear, offset)
    upper_left, size = boxes[:, :2], boxes[:, 2:]
    corners = np.stack(
        [upper_left + size * corner for corner in ((0, 0), (0, 1), (1, 0), (1, 1))], axis=1
    )
    corners = np.einsum("nij,nkj->nki", linear, corners) + offset[:, None, :]
    low, high = corners.min(axis=1), corners.max(axis=1)
    return np.hstack([low, high - low])
