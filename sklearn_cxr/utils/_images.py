"""What an image batch is: its shape, its kind of grey level, and the checks on both.

Every estimator takes ``(n, h, w)``, ``(n, h, w, c)`` or the flat ``(n, h*w*c)`` and answers
identically to the shaped and the flat form of the same pixels.
"""

import math
import os
from numbers import Real

import numpy as np
from sklearn.utils.validation import validate_data

# By kind and size of the dtype, since the byte order is a matter of storage.
_LEVEL_DTYPES = {("u", 1): "uint8", ("u", 2): "uint16"}
KINDS = {
    "uint8": "uint8 grey levels in 0..255",
    "uint16": "uint16 grey levels in 0..65535",
    "unit float": "floating point grey levels in [0, 1]",
    "other": "real numbers that are neither uint8, uint16 nor all within [0, 1]",
}


def is_shaped(X):
    """Tell whether X is a shaped batch, ``(n, h, w)`` or ``(n, h, w, c)``."""
    ndim = len(X.shape) if hasattr(X, "shape") else None
    if ndim is None and isinstance(X, list | tuple) and len(X) and not isinstance(X[0], str):
        ndim = np.ndim(X)
    return ndim is not None and ndim > 2


def refuse_paths(estimator, X, *, reader="ImageReader(size=...)"):
    """Raise where paths stand in place of pixels.

    Parameters
    ----------
    estimator : estimator
        For the message.

    X : array-like
        What it was given.

    reader : str, default="ImageReader(size=...)"
        What has to stand in front of it.

    Raises
    ------
    TypeError
        If the first row of a column is text or a path.
    """
    rows = X.iloc[:1].to_numpy() if hasattr(X, "iloc") else X
    rows = np.atleast_1d(rows) if isinstance(rows, np.ndarray) else rows
    if not isinstance(rows, list | tuple | np.ndarray) or not len(rows):
        return
    first = rows[0]
    if isinstance(first, np.ndarray) and first.shape == (1,):
        first = first[0]
    if isinstance(first, str | os.PathLike):
        raise TypeError(
            f"{type(estimator).__name__} takes pixels, and X holds {str(first)!r}. Put "
            f"{reader} in front of it, in a Pipeline."
        )


def resolve_image_shape(n_features, image_shape=None):
    """Shape of one image behind a flat row.

    Parameters
    ----------
    n_features : int
        Number of values in a row.

    image_shape : tuple of int or None, default=None
        ``(h, w)`` or ``(h, w, c)`` as given by the user. With None, a square where
        `n_features` is one, else one row.

    Returns
    -------
    tuple of int
        ``(h, w)`` or ``(h, w, c)``.

    Raises
    ------
    ValueError
        If `image_shape` does not hold `n_features` values.
    """
    if image_shape is not None:
        shape = tuple(int(side) for side in image_shape)
        if len(shape) not in (2, 3) or min(shape) < 1:
            raise ValueError(
                "image_shape must be (h, w) or (h, w, c) with positive sides, got "
                f"{image_shape!r}."
            )
        if math.prod(shape) != n_features:
            raise ValueError(
                f"image_shape={shape} holds {math.prod(shape)} values, but X has {n_features} "
                "features a row. Give the shape of the images that were flattened."
            )
        return shape
    side = math.isqrt(n_features)
    return (side, side) if side * side == n_features else (1, n_features)


def level_dtype(dtype):
    """Return "uint8" or "uint16", whose grey levels are known, in any byte order; else None."""
    return _LEVEL_DTYPES.get((dtype.kind, dtype.itemsize))


def input_kind(X):
    """Name the kind of grey level in `X`: uint8, uint16, unit float or other."""
    known = level_dtype(X.dtype)
    if known is not None:
        return known
    if X.dtype.kind == "f" and X.size and X.min() >= 0 and X.max() <= 1:
        return "unit float"
    return "other"


def check_kind(estimator, X, *, reset):
    """Record the kind of grey level in ``fit``, and hold later batches to it.

    A float batch that happens to lie within [0, 1] is accepted by an estimator fitted on
    "other" values, since a few standardised pixels can do that by chance; but not where
    the fit saw grey levels like 0..255 (see `_looks_like_levels`).
    """
    kind = input_kind(X)
    if reset:
        estimator.input_kind_ = kind
        estimator._fitted_on_levels = kind == "other" and _looks_like_levels(X)
        return
    fitted = estimator.input_kind_
    by_chance = fitted == "other" and kind == "unit float" and not estimator._fitted_on_levels
    if kind == fitted or by_chance:
        return
    top = {"uint8": 255, "uint16": 65535}.get(fitted)
    advice = "Bring it to the same scale as the training images"
    if top is not None and kind == "other" and X.min() >= 0 and 1 < X.max() <= top:
        advice = f"If these are the same grey levels, convert them with .astype({fitted!r})"
    raise ValueError(
        f"{type(estimator).__name__} was fitted on {KINDS[fitted]}, but this batch "
        f"({X.dtype}, {X.min():.6g} to {X.max():.6g}) is {KINDS[kind]}. {advice}; nothing is "
        "rescaled silently."
    )


def _looks_like_levels(X):
    # 0..255 or 0..65535 held in another dtype: no negative value and a maximum far above 1.
    return bool(X.size and X.min() >= 0 and X.max() > 32)


def flatten_batch(estimator, X, *, reset, image_shape=None):
    """Bring a batch to its flat form and settle ``image_shape_``.

    Parameters
    ----------
    estimator : estimator
        Gets ``image_shape_`` when `reset`; is asked for it otherwise.

    X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
        The batch. A 2-D (or invalid) X is handed back as it is, for scikit-learn's own
        validation to judge.

    reset : bool
        True in ``fit``.

    image_shape : tuple of int or None, default=None
        The estimator's parameter of that name.

    Returns
    -------
    flat : array-like
        The flat batch; a view where the memory layout allows it.

    shaped : bool
        Whether `X` came shaped.

    Raises
    ------
    ValueError
        If the images have another shape than `image_shape`, or than those of ``fit``.
    """
    refuse_paths(estimator, X)
    if not is_shaped(X):
        if not reset and getattr(X, "shape", None) == tuple(estimator.image_shape_):
            _refuse_single(estimator, X)
        return X, False
    X = np.asarray(X)
    check_image_shape(estimator, X.shape, reset=reset, image_shape=image_shape)
    return X.reshape(len(X), math.prod(X.shape[1:])), True


def check_image_shape(estimator, shape, *, reset, image_shape=None):
    """Settle ``image_shape_`` by the shape of a shaped batch, or hold the batch to it.

    Parameters
    ----------
    estimator : estimator
        Gets ``image_shape_`` when `reset`; is asked for it otherwise.

    shape : tuple of int
        Shape of the batch.

    reset : bool
        True in ``fit``.

    image_shape : tuple of int or None, default=None
        The estimator's parameter of that name.

    Raises
    ------
    ValueError
        If this is no batch of images, or the images have another shape than `image_shape`, or
        than those of ``fit``.
    """
    if len(shape) not in (3, 4):
        raise ValueError(
            f"An image batch is (n, h, w), (n, h, w, c) or flat (n, h*w), got shape {shape}."
        )
    expected = image_shape if reset else estimator.image_shape_
    if expected is None and len(shape) == 4 and shape[1] in (1, 3) and min(shape[2:]) > 4:
        raise ValueError(
            f"X of shape {shape} looks like images with their channels first; expected "
            "(n, h, w, c). Give X.transpose(0, 2, 3, 1), or image_shape where that is what they "
            "are."
        )
    if expected is not None and shape[1:] != tuple(expected):
        where = "image_shape says" if reset else f"{type(estimator).__name__} was fitted on"
        advice = "Resize the images first, for example with ImageReader(size=...) or Resize."
        if shape[1:3] == tuple(expected)[:2]:
            advice = "The channels differ: read the images with the same color=."
        raise ValueError(
            f"Got images of shape {shape[1:]}, but {where} {tuple(expected)}. {advice}"
        )
    if 0 in shape[1:]:
        raise ValueError(f"Found array with 0 pixels an image (shape={shape}).")
    if reset:
        estimator.image_shape_ = tuple(shape[1:])


def _refuse_single(estimator, X):
    # One image looks like a flat batch of its rows, unless its rows are as long as an image.
    if X.shape[1] != estimator.n_features_in_:
        raise ValueError(
            f"Got one image of shape {X.shape}; {type(estimator).__name__} takes batches. For one "
            "image pass a batch of one, X[None]."
        )


def validate_images(estimator, X, y="no_validation", *, reset, image_shape=None, **check_params):
    """Validate a batch as scikit-learn does, whatever its form.

    Parameters
    ----------
    estimator : estimator
        Gets ``n_features_in_``, ``image_shape_`` and ``input_kind_`` when `reset`.

    X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features)
        The batch.

    y : array-like, None or "no_validation", default="no_validation"
        Target, validated together with `X` where given. None raises for an estimator that
        needs a target.

    reset : bool
        True in ``fit``.

    image_shape : tuple of int or None, default=None
        The estimator's parameter of that name.

    **check_params : dict
        Passed to :func:`sklearn.utils.validation.validate_data`; but `dtype`, a list of accepted
        dtypes of which the first is converted to, applies after ``input_kind_`` is settled.

    Returns
    -------
    flat : ndarray of shape (n, n_features)
        The batch as finite numbers; not copied where that can be avoided.

    y : ndarray
        Only where `y` was given.

    shaped : bool
        Whether `X` came shaped.
    """
    flat, shaped = flatten_batch(estimator, X, reset=reset, image_shape=image_shape)
    dtypes = check_params.pop("dtype", None)
    check_params["dtype"] = "numeric"
    alone = isinstance(y, str) and y == "no_validation"
    if alone:
        flat = validate_data(estimator, flat, reset=reset, **check_params)
    else:
        flat, y = validate_data(estimator, flat, y, reset=reset, **check_params)
    if reset and not shaped:
        estimator.image_shape_ = resolve_image_shape(flat.shape[1], image_shape)
    check_kind(estimator, flat, reset=reset)
    if dtypes is not None:
        native = flat.dtype.newbyteorder("=")
        flat = flat.astype(native if native in dtypes else dtypes[0], copy=False)
    return (flat, shaped) if alone else (flat, y, shaped)


def level_range(X, value_range, caller):
    """Grey levels that stand for black and white in `X`.

    Parameters
    ----------
    X : ndarray
        Finite real numbers.

    value_range : tuple of (float, float) or None
        None means 0..255 for uint8, 0..65535 for uint16 and [0, 1] for floats.

    caller : str
        Name of the estimator, for messages.

    Returns
    -------
    low, high : float
        The range.

    Raises
    ------
    ValueError
        If values lie outside the range, or None was given for a dtype whose range is unknown,
        or the range is none, or one that the dtype cannot hold.
    """
    if value_range is not None:
        low, high = _check_value_range(value_range, X.dtype)
    elif level_dtype(X.dtype) is not None:
        return 0.0, float(np.iinfo(X.dtype).max)
    elif X.dtype.kind == "f":
        low, high = 0.0, 1.0
    else:
        raise ValueError(
            f"{caller} depends on the absolute grey level, which {X.dtype} does not tell. Give "
            "uint8, uint16 or floats in [0, 1], or say value_range=(low, high)."
        )
    if X.size and (X.min() < low or X.max() > high):
        hint = (
            "Clip or rescale the images, or widen value_range."
            if value_range is not None
            else "Floats are taken as [0, 1]; for another scale say value_range=(low, high)."
        )
        raise ValueError(
            f"{caller} expected values in [{low:g}, {high:g}], got {X.min():.6g} to "
            f"{X.max():.6g} ({X.dtype}). {hint}"
        )
    return low, high


def _check_value_range(value_range, dtype):
    bounds = list(value_range)
    numbers = all(isinstance(b, Real) and not isinstance(b, bool) for b in bounds)
    if len(bounds) != 2 or not numbers or not -math.inf < bounds[0] < bounds[1] < math.inf:
        raise ValueError(
            "value_range must be two finite numbers (low, high) with low < high, got "
            f"{value_range!r}."
        )
    low, high = (float(bound) for bound in bounds)
    if dtype.kind in "iu":
        least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
        if low < least or high > most:
            raise ValueError(
                f"value_range must lie within {least} to {most} for {dtype} images, which hold "
                f"nothing else; got {value_range!r}. Give the grey levels of black and white in "
                "these images, or convert the images to a dtype that holds this range."
            )
    return low, high


def pixel_names(image_shape):
    """Names of the flat features: ``pixel_<row>_<column>``, and ``_<channel>`` for colour."""
    indices = np.ndindex(*image_shape)
    return np.array(["pixel_" + "_".join(map(str, index)) for index in indices], dtype=object)
