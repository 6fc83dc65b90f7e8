"""Films in a grid, with a title each."""

from numbers import Integral

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklearn_cxr.inspection._display_base import (
    axes_grid,
    class_codes,
    generator,
    grey_levels,
    n_rows,
    name_of,
    preprocess,
    show_image,
    take_images,
)
from sklearn_cxr.inspection._evaluate_scores import predict_scores
from sklearn_cxr.utils._sklearn import Interval, validate_params


def _choose(codes, n_images, random_state):
    """Rows to draw: the same number of each class as far as there are, drawn at random."""
    rng = generator(random_state)
    shuffled = rng.permutation(len(codes))
    within = np.empty(len(codes), dtype=np.int64)
    for code in np.unique(codes):
        rows = shuffled[codes[shuffled] == code]
        within[rows] = np.arange(len(rows))
    chosen = np.lexsort((codes, within))[:n_images]
    return chosen[np.lexsort((within[chosen], codes[chosen]))]


class ImageGridDisplay:
    """Films in a grid.

    Made by :meth:`from_images`, :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    images : ndarray of shape (n, h, w) or (n, h, w, c)
        The films.

    titles : list of str, default=None
        One for each film.

    rows : ndarray of shape (n,), dtype int, default=None
        Row number of each film in the data.

    levels : tuple of (float, float), default=(0.0, 255.0)
        Grey levels that are drawn black and white.

    Attributes
    ----------
    axes_ : ndarray of Axes of shape (n_rows, n_columns)
        The axes, after :meth:`plot`.

    figure_ : Figure
        The figure, after :meth:`plot`.

    See Also
    --------
    ErrorGalleryDisplay : The films that a classifier is most wrong about.

    Examples
    --------
    >>> from sklearn_cxr.datasets import make_chest_xrays
    >>> from sklearn_cxr.inspection import ImageGridDisplay
    >>> films = make_chest_xrays(30, image_size=32, random_state=0)
    >>> display = ImageGridDisplay.from_images(
    ...     films.images, films.target, target_names=films.target_names, n_images=6,
    ...     n_columns=3, random_state=0,
    ... )
    >>> display.axes_.shape, films.target[display.rows].tolist()
    ((2, 3), [0, 0, 1, 1, 2, 2])

    .. Close the figure.
       >>> import matplotlib.pyplot as plt
       >>> plt.close(display.figure_)
    """

    def __init__(self, images, *, titles=None, rows=None, levels=(0.0, 255.0)):
        self.images = images
        self.titles = titles
        self.rows = rows
        self.levels = levels

    @classmethod
    @validate_params(
        {
            "titles": ["array-like", None],
            "target_names": ["array-like", None],
            "n_images": [Interval(Integral, 1, 400, closed="both")],
            "n_columns": [Interval(Integral, 1, 40, closed="both")],
            "size": [Interval(Integral, 1, None, closed="left"), None],
            "image_shape": ["array-like", None],
            "random_state": ["random_state"],
        },
        prefer_skip_nested_validation=True,
    )
    def from_images(
        cls,
        X,
        y=None,
        *,
        titles=None,
        target_names=None,
        n_images=12,
        n_columns=6,
        size=None,
        image_shape=None,
        random_state=None,
        ax=None,
    ):
        """Draw films, as many of each class.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features), or of n paths
            Films; only those that are drawn are read.

        y : array-like of shape (n,), default=None
            Class of each film; None takes all films as one class.

        titles : array-like of shape (n,), default=None
            Title of each film in `X`; None writes its class.

        target_names : list of str, default=None
            Names of the classes 0, 1, ...; None names them as `y` does.

        n_images : int, default=12
            Films to draw, at random.

        n_columns : int, default=6
            Films in a row.

        size : int, default=None
            Height and width that the films are brought to; None leaves them as they are (paths
            are then read at 224).

        image_shape : tuple of int, default=None
            Shape of one image behind flat rows; None means a square.

        random_state : int, RandomState instance or None, default=None
            Governs the draw.

        ax : Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : ImageGridDisplay
            What was drawn.

        Raises
        ------
        ValueError
            If `y` or `titles` do not fit the films.
        """
        caller, n = "ImageGridDisplay", n_rows(X)
        codes, names = class_codes(y, n, target_names=target_names, caller=caller)
        if titles is not None and len(titles) != n:
            raise ValueError(
                f"{caller} got {len(titles)} titles for {n} films; expected one per film."
            )
        rows = _choose(codes, n_images, random_state)
        if titles is not None:
            texts = [str(np.asarray(titles, dtype=object)[row]) for row in rows]
        else:
            texts = [names[codes[row]] if y is not None else "" for row in rows]
        images = take_images(X, rows, size=size, image_shape=image_shape, caller=caller)
        display = cls(images, titles=texts, rows=rows, levels=grey_levels(images))
        return display.plot(n_columns=n_columns, ax=ax)

    @classmethod
    def from_predictions(cls, y_true, y_pred, *, X, **kwargs):
        """Draw films with what they are and what was predicted.

        Parameters
        ----------
        y_true : array-like of shape (n,)
            Class of each film.

        y_pred : array-like of shape (n,)
            Predicted class of each film.

        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features), or of n paths
            Films.

        **kwargs : dict
            Further parameters of :meth:`from_images`.

        Returns
        -------
        display : ImageGridDisplay
            What was drawn.
        """
        names = kwargs.get("target_names")
        caller, n = "ImageGridDisplay.from_predictions", n_rows(X)
        texts = []
        for y in (y_true, y_pred):
            codes, known = class_codes(y, n, target_names=names, caller=caller)
            texts.append([known[code] for code in codes])
        titles = [f"{true}\nseen as {seen}" for true, seen in zip(*texts, strict=True)]
        return cls.from_images(X, y_true, titles=titles, **kwargs)

    @classmethod
    def from_estimator(cls, estimator, X, y=None, *, images=None, **kwargs):
        """Draw films with the probability of a classifier, or as a transformer makes them.

        Parameters
        ----------
        estimator : fitted classifier or transformer
            A classifier's most probable class stands in the title; a transformer is applied
            to the films, and they are drawn after it.

        X : array-like
            Films in the form that `estimator` takes.

        y : array-like of shape (n,), default=None
            Class of each film.

        images : array-like of n films, default=None
            What is drawn for a classifier; None takes `X`.

        **kwargs : dict
            Further parameters of :meth:`from_images`.

        Returns
        -------
        display : ImageGridDisplay
            What was drawn.
        """
        check_is_fitted(estimator)
        if not hasattr(estimator, "predict"):
            return cls.from_images(preprocess(estimator, X), y, **kwargs)
        scores = predict_scores(estimator, X, caller="ImageGridDisplay.from_estimator")
        names = kwargs.get("target_names")
        known = [name_of(label, names) for label in scores.classes]
        titles = scores.describe(known)
        if y is not None:
            codes, classes = class_codes(
                y, len(titles), target_names=names, caller="ImageGridDisplay.from_estimator"
            )
            titles = [
                f"{classes[code]}:\n{title}" for code, title in zip(codes, titles, strict=True)
            ]
        return cls.from_images(X if images is None else images, y, titles=titles, **kwargs)

    def plot(self, *, n_columns=6, ax=None):
        """Draw the films.

        Parameters
        ----------
        n_columns : int, default=6
            Films in a row.

        ax : Axes, default=None
            The axes whose place the grid takes; None makes a figure.

        Returns
        -------
        self : ImageGridDisplay
            The display, with `axes_` and `figure_`.
        """
        columns = min(n_columns, len(self.images))
        shape = (-(-len(self.images) // columns), columns)
        self.figure_, self.axes_ = axes_grid(
            ax, shape, cell=(2.2, 2.8), caller="ImageGridDisplay.plot"
        )
        for number, axis in enumerate(self.axes_.ravel()):
            if number >= len(self.images):
                axis.set_axis_off()
                continue
            show_image(axis, self.images[number], self.levels)
            if self.titles is not None:
                axis.set_title(self.titles[number], fontsize=14)
        return self
