"""What the displays share: matplotlib at first use, films of any form, axes in a grid."""

import os

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from sklearn_cxr.preprocessing import ImageReader, Resize
from sklearn_cxr.utils._chunks import as_rows, is_row_view
from sklearn_cxr.utils._images import input_kind, resolve_image_shape
from sklearn_cxr.utils._optional import import_optional
from sklearn_cxr.utils._sklearn import _num_samples, _safe_indexing
from sklearn_cxr.utils._subset import RowSubset

# Okabe and Ito's colours, which colour-blind readers tell apart; line styles and markers go along.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))
MARKERS = "os^DvPX*"
DIVERGING = "PuOr_r"
_READ_SIZE = 224


def generator(random_state):
    """Return a RandomState; None is fresh entropy, not NumPy's global generator."""
    return check_random_state(np.random.RandomState() if random_state is None else random_state)


def cycle(values, number):
    """Take an entry of a palette, from the start again behind its end."""
    return values[number % len(values)]


def pyplot(caller):
    """Import pyplot, or say how to install it.

    Parameters
    ----------
    caller : str
        What the user called.

    Returns
    -------
    module
        ``matplotlib.pyplot``.
    """
    return import_optional("matplotlib.pyplot", extra="plot", caller=caller)


def axes_grid(ax, shape, *, cell, caller):
    """Make a grid of axes in a figure of its own, or in the place of one axes.

    Parameters
    ----------
    ax : Axes or None
        The axes whose place the grid takes.

    shape : tuple of (int, int)
        Rows and columns.

    cell : tuple of (float, float)
        Width and height of a cell of a new figure, in inches.

    caller : str
        What the user called.

    Returns
    -------
    figure : Figure
        The figure.

    axes : ndarray of shape `shape`, of Axes
        The grid.
    """
    plt = pyplot(caller)
    rows, columns = shape
    if ax is None:
        size = (cell[0] * columns, cell[1] * rows)
        return plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    ax.set_axis_off()
    axes = np.empty(shape, dtype=object)
    spec = ax.get_subplotspec()
    grid = None if spec is None else spec.subgridspec(rows, columns)
    for row, column in np.ndindex(rows, columns):
        if grid is None:
            place = [column / columns, 1 - (row + 1) / rows, 0.94 / columns, 0.84 / rows]
            axes[row, column] = ax.inset_axes(place)
        else:
            axes[row, column] = ax.figure.add_subplot(grid[row, column])
    return ax.figure, axes


def one_axes(ax, *, size, caller):
    """Return a figure and one axes, new ones where `ax` is None."""
    plt = pyplot(caller)
    if ax is None:
        return plt.subplots(figsize=size, layout="constrained")
    return ax.figure, ax


def _paths_of(X):
    """Return the column of paths in X, or None where it holds something else."""
    if isinstance(X, pd.DataFrame):
        if "path" in X.columns:
            return X["path"].to_numpy(dtype=object)
        if X.shape[1] > 1:
            return None
    X = as_rows(X)
    if is_row_view(X) or (isinstance(X, np.ndarray) and X.dtype.kind in "biufc"):
        return None
    values = np.asarray(X, dtype=object)
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    if values.ndim == 1 and len(values) and isinstance(values[0], str | os.PathLike):
        return values
    return None


def file_names(X):
    """Names of the files behind X, without their folders, or None where X holds pixels."""
    paths = _paths_of(X)
    return None if paths is None else np.array([os.path.basename(p) for p in paths], object)


def take_images(X, rows=None, *, size=None, image_shape=None, caller):
    """Bring rows of X, in any form, to images of one size.

    Parameters
    ----------
    X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features), or of n paths
        Films: pixels, a row-indexed view, paths, or a DataFrame with a ``path`` column. Only the
        chosen rows are read.

    rows : ndarray of int or None, default=None
        Which rows; None means all.

    size : int or None, default=None
        Height and width of the result; None leaves pixels as they are and reads paths at 224.

    image_shape : tuple of int or None, default=None
        Shape of an image behind flat rows.

    caller : str
        What the user called.

    Returns
    -------
    ndarray of shape (n, h, w) or (n, h, w, c)
        The images, in their dtype.
    """
    paths = _paths_of(X)
    if paths is not None:
        return np.asarray(ImageReader(size=size or _READ_SIZE).fit_transform(paths[_all(rows)]))
    X = as_rows(X)
    images = X if is_row_view(X) or isinstance(X, np.ndarray) else np.asarray(X)
    if images.dtype.kind not in "biuf" or images.ndim not in (2, 3, 4):
        raise ValueError(
            f"{caller} got an array of dtype {images.dtype} and shape {images.shape} for films; "
            "expected (n, h, w), (n, h, w, c) or (n, h*w) of real numbers, or paths."
        )
    # A subset, since HDF5 itself takes rows in rising order only.
    images = np.asarray(images if rows is None else RowSubset(images, rows))
    if images.ndim == 2:
        shape = resolve_image_shape(images.shape[1], image_shape)
        if shape[0] == 1:
            raise ValueError(
                f"{caller} got flat rows of {images.shape[1]} pixels, which is no square; give "
                "image_shape=(h, w)."
            )
        images = images.reshape(len(images), *shape)
    if size is not None and images.shape[1:3] != (size, size):
        images = Resize(size).fit_transform(images)
    return images


def _all(rows):
    return slice(None) if rows is None else np.asarray(rows)


def grey_levels(images):
    """Grey levels shown as black and white: the whole range of 8 bits and of [0, 1]."""
    kind = input_kind(images)
    if kind == "uint8":
        return 0.0, 255.0
    if kind == "unit float":
        return 0.0, 1.0
    return float(images.min()), float(images.max())


def show_image(ax, image, levels):
    """Draw one film without ticks, in the given grey levels."""
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.ndim == 3:
        low, high = levels
        image = np.clip((image[:, :, :3] - low) / max(high - low, 1e-12), 0, 1)
    ax.imshow(image, cmap="gray", vmin=levels[0], vmax=levels[1])
    ax.set(xticks=[], yticks=[])


def class_codes(y, n, *, target_names=None, caller):
    """Give each class of y a number.

    Parameters
    ----------
    y : array-like of shape (n,) or None
        Class of each film; None puts all into one class.

    n : int
        Number of films.

    target_names : list of str or None, default=None
        Names of the classes 0, 1, ... where y holds such numbers.

    caller : str
        What the user called.

    Returns
    -------
    codes : ndarray of shape (n,), dtype int
        Number of the class of each film.

    names : list of str
        Names of the classes.
    """
    if y is None:
        return np.zeros(n, dtype=np.int64), ["all"]
    values = np.asarray(y)
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    if values.ndim != 1 or len(values) != n:
        raise ValueError(
            f"{caller} got labels of shape {values.shape} for {n} films; expected one class per "
            "film."
        )
    if pd.isna(values).any():
        raise ValueError(
            f"{caller} got {int(pd.isna(values).sum())} films without a class (NaN or None). "
            "Leave them out, or give them a class of their own."
        )
    classes, codes = np.unique(values, return_inverse=True)
    if target_names is None:
        return codes, [str(name) for name in classes]
    whole = classes.dtype.kind in "biu" and classes.min() >= 0
    if not whole or classes.max() >= len(target_names):
        raise ValueError(
            f"{caller} got target_names for the classes 0 to {len(target_names) - 1}, and y with "
            f"{classes[:5].tolist()}. Leave target_names out to name the classes as y does."
        )
    return codes, [str(target_names[int(code)]) for code in classes]


def name_of(label, target_names):
    """Name a class as the user does."""
    if target_names is None:
        return str(label)
    known = range(len(target_names))
    if isinstance(label, str) or label not in known:
        raise ValueError(
            f"target_names names the classes 0 to {len(target_names) - 1}, and there is a class "
            f"{label!r}. Leave target_names out to name the classes as y does."
        )
    return str(target_names[int(label)])


def refuse_pairwise(classifier, n_classes, caller):
    """Raise where decision values are of pairs of classes: three of them look like classes."""
    if n_classes > 2 and getattr(classifier, "decision_function_shape", None) == "ovo":
        raise ValueError(
            f"{caller} got {type(classifier).__name__} with decision_function_shape='ovo', whose "
            "scores are of pairs of classes; expected a score for each class. Set "
            "decision_function_shape='ovr'."
        )


def preprocess(estimator, X):
    """Apply what stands before a classifier: all steps of a Pipeline but its last, if it predicts.

    Parameters
    ----------
    estimator : fitted transformer or Pipeline
        A transformer is applied itself.

    X : array-like
        Films in the form that it takes.

    Returns
    -------
    array-like
        What the classifier, or the user of the transformer, sees.
    """
    best = getattr(estimator, "best_estimator_", estimator)
    check_is_fitted(best)
    if isinstance(best, Pipeline) and not hasattr(best, "transform"):
        return best[:-1].transform(X) if len(best) > 1 else X
    if not hasattr(best, "transform"):
        raise TypeError(
            f"{type(best).__name__} transforms nothing; expected a fitted transformer, or a "
            "fitted Pipeline with a preprocessing step."
        )
    return best.transform(X)


def take_rows(X, rows):
    """Take rows of films in any form; those of HDF5 and zarr become an array."""
    X = as_rows(X)
    # scikit-learn asks for X[rows, ...], which zarr refuses.
    stored = is_row_view(X) and not hasattr(X, "pieces")
    return np.asarray(RowSubset(X, rows)) if stored else _safe_indexing(X, rows)


def n_rows(X):
    """Count the films in X."""
    return _num_samples(X)
