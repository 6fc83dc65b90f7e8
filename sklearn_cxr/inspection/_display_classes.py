"""What the films of a class have in common: mean, deviation, difference."""

from numbers import Integral

import numpy as np

from sklearn_cxr.inspection._display_base import (
    DIVERGING,
    axes_grid,
    class_codes,
    grey_levels,
    n_rows,
    preprocess,
    show_image,
    take_images,
)
from sklearn_cxr.utils._sklearn import Interval, validate_params

_CHUNK = 512


def _moments(X, codes, n_classes, *, size, image_shape, caller):
    """Mean and standard deviation of each pixel by class, in one pass over the films."""
    sums = squares = levels = None
    for start in range(0, len(codes), _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(codes)))
        images = take_images(X, rows, size=size, image_shape=image_shape, caller=caller)
        low, high = grey_levels(images)
        levels = (low, high) if levels is None else (min(low, levels[0]), max(high, levels[1]))
        images = images.astype(np.float64)
        if images.ndim == 4:
            images = images.mean(axis=3)
        if sums is None:
            sums = np.zeros((n_classes, *images.shape[1:]))
            squares = np.zeros_like(sums)
        for code in range(n_classes):
            chosen = images[codes[rows] == code]
            sums[code] += chosen.sum(axis=0)
            squares[code] += (chosen**2).sum(axis=0)
    counts = np.bincount(codes, minlength=n_classes)
    means = sums / counts[:, None, None]
    variances = squares / counts[:, None, None] - means**2
    return means, np.sqrt(np.clip(variances, 0, None)), counts, levels


class ClassImageDisplay:
    """Mean, deviation and difference of the films of each class.

    Made by :meth:`from_images` or :meth:`from_estimator`.

    Parameters
    ----------
    mean_images : ndarray of shape (n_classes, h, w)
        Mean grey level of each pixel.

    deviation_images : ndarray of shape (n_classes, h, w)
        Standard deviation of each pixel, in grey levels.

    counts : ndarray of shape (n_classes,), dtype int
        Films of each class.

    names : list of str
        Names of the classes.

    reference : int, default=0
        Number of the class that the others are compared with.

    levels : tuple of (float, float), default=(0.0, 255.0)
        Grey levels that are drawn black and white.

    Attributes
    ----------
    difference_images : ndarray of shape (n_classes, h, w)
        Mean of each class minus that of the reference, in grey levels.

    figure_ : Figure
        The figure, after :meth:`plot`.

    axes_ : ndarray of Axes of shape (n_classes, 3)
        The axes, after :meth:`plot`.

    See Also
    --------
    EigenimageDisplay : In which ways the films of a class differ from their mean.

    Examples
    --------
    >>> from sklearn_cxr.datasets import make_chest_xrays
    >>> from sklearn_cxr.inspection import ClassImageDisplay
    >>> films = make_chest_xrays(30, image_size=32, random_state=0)
    >>> display = ClassImageDisplay.from_images(
    ...     films.images, films.target, target_names=films.target_names, size=16
    ... )
    >>> display.names, display.difference_images.shape
    (['normal', 'bacterial', 'viral'], (3, 16, 16))

    .. Close the figure.
       >>> import matplotlib.pyplot as plt
       >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        mean_images,
        *,
        deviation_images,
        counts,
        names,
        reference=0,
        levels=(0.0, 255.0),
    ):
        self.mean_images = mean_images
        self.deviation_images = deviation_images
        self.counts = counts
        self.names = names
        self.reference = reference
        self.levels = levels

    @property
    def difference_images(self):
        """Mean of each class minus that of the reference."""
        return self.mean_images - self.mean_images[self.reference]

    @classmethod
    @validate_params(
        {
            "target_names": ["array-like", None],
            "reference": [object],
            "size": [Interval(Integral, 1, None, closed="left"), None],
            "image_shape": ["array-like", None],
        },
        prefer_skip_nested_validation=True,
    )
    def from_images(
        cls, X, y=None, *, target_names=None, reference=None, size=64, image_shape=None, ax=None
    ):
        """Compute and draw the images of each class.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features), or of n paths
            Films; colours are averaged. They are read piece by piece.

        y : array-like of shape (n,), default=None
            Class of each film; None takes all films as one class.

        target_names : list of str, default=None
            Names of the classes 0, 1, ...; None names them as `y` does.

        reference : str, default=None
            Name of the class that the others are compared with; None means the first.

        size : int, default=64
            Height and width that the films are brought to; None leaves them as they are (paths
            are then read at 224).

        image_shape : tuple of int, default=None
            Shape of one image behind flat rows; None means a square.

        ax : Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : ClassImageDisplay
            What was drawn.

        Raises
        ------
        ValueError
            If `y` does not fit the films, or `reference` is none of the classes.
        """
        caller = "ClassImageDisplay"
        codes, names = class_codes(y, n_rows(X), target_names=target_names, caller=caller)
        if reference is not None and str(reference) not in names:
            raise ValueError(
                f"{caller} got reference={reference!r}; expected one of the classes {names}."
            )
        means, deviations, counts, levels = _moments(
            X, codes, len(names), size=size, image_shape=image_shape, caller=caller
        )
        display = cls(
            means,
            deviation_images=deviations,
            counts=counts,
            names=names,
            reference=0 if reference is None else names.index(str(reference)),
            levels=levels,
        )
        return display.plot(ax=ax)

    @classmethod
    def from_estimator(cls, estimator, X, y=None, **kwargs):
        """Draw the images of each class as a fitted preprocessing makes them.

        Parameters
        ----------
        estimator : fitted transformer or Pipeline
            Applied to `X` first; of a Pipeline that ends in a classifier, all steps but that.

        X : array-like
            Films in the form that `estimator` takes.

        y : array-like of shape (n,), default=None
            Class of each film.

        **kwargs : dict
            Further parameters of :meth:`from_images`.

        Returns
        -------
        display : ClassImageDisplay
            What was drawn.
        """
        return cls.from_images(preprocess(estimator, X), y, **kwargs)

    def plot(self, *, ax=None):
        """Draw a row for each class: mean, deviation, difference from the reference.

        Parameters
        ----------
        ax : Axes, default=None
            The axes whose place the grid takes; None makes a figure.

        Returns
        -------
        self : ClassImageDisplay
            The display, with `figure_` and `axes_`.
        """
        n_classes = len(self.names)
        self.figure_, self.axes_ = axes_grid(
            ax, (n_classes, 3), cell=(3.0, 3.3), caller="ClassImageDisplay.plot"
        )
        limit = max(float(np.abs(self.difference_images).max()), 1e-12)
        top = max(float(self.deviation_images.max()), 1e-12)
        differences = None
        for row, name in enumerate(self.names):
            mean, deviation, difference = self.axes_[row]
            show_image(mean, self.mean_images[row], self.levels)
            mean.set_ylabel(f"{name}\n{self.counts[row]} films", fontsize=15)
            spread = deviation.imshow(self.deviation_images[row], cmap="cividis", vmin=0, vmax=top)
            deviation.set(xticks=[], yticks=[])
            difference.set(xticks=[], yticks=[])
            if row == self.reference:
                # An empty film keeps the cell as tall as the others.
                difference.imshow(np.zeros_like(self.mean_images[row]), cmap="Greys", vmin=0)
                where = {"ha": "center", "va": "center", "transform": difference.transAxes}
                difference.text(0.5, 0.5, "reference", fontsize=15, **where)
                difference.set_frame_on(False)
                continue
            differences = difference.imshow(
                self.difference_images[row], cmap=DIVERGING, vmin=-limit, vmax=limit
            )
        titles = ("mean", "standard deviation", f"mean - {self.names[self.reference]}")
        for axis, title in zip(self.axes_[0], titles, strict=True):
            axis.set_title(title, fontsize=16)
        for column, drawn in ((1, spread), (2, differences)):
            if drawn is not None:
                place = {"location": "bottom", "shrink": 0.9, "aspect": 25}
                bar = self.figure_.colorbar(drawn, ax=list(self.axes_[:, column]), **place)
                bar.set_label("grey levels", fontsize=14)
                bar.ax.tick_params(labelsize=13)
        return self
