"""In which ways the films of a class differ: principal components as images."""

from numbers import Integral, Real

import numpy as np

from sklearn_cxr.decomposition import PixelPCA
from sklearn_cxr.inspection._display_base import (
    DIVERGING,
    axes_grid,
    class_codes,
    grey_levels,
    n_rows,
    show_image,
    take_images,
)
from sklearn_cxr.utils._sklearn import Interval, validate_params


class EigenimageDisplay:
    """Mean film and first principal components of each class, as images.

    Made by :meth:`from_images` or :meth:`from_estimator`.

    Parameters
    ----------
    models : list of PixelPCA
        Fitted, one for each class.

    names : list of str
        Names of the classes.

    levels : tuple of (float, float), default=(0.0, 255.0)
        Grey levels that are drawn black and white in the means.

    Attributes
    ----------
    n_components : list of int
        Components that each model keeps.

    figure_ : Figure
        The figure, after :meth:`plot`.

    axes_ : ndarray of Axes of shape (n_classes, 1 + n_shown)
        The axes, after :meth:`plot`.

    See Also
    --------
    sklearn_cxr.decomposition.PixelPCA : The decomposition.

    References
    ----------
    .. [1] M. Turk and A. Pentland, "Eigenfaces for recognition", Journal of Cognitive
       Neuroscience 3, 71-86, 1991.

    Examples
    --------
    >>> from sklearn_cxr.datasets import make_chest_xrays
    >>> from sklearn_cxr.inspection import EigenimageDisplay
    >>> films = make_chest_xrays(60, image_size=32, random_state=0)
    >>> display = EigenimageDisplay.from_images(
    ...     films.images, films.target, n_components=5, size=16
    ... )
    >>> display.n_components, display.axes_.shape
    ([5, 5, 5], (3, 5))

    .. Close the figure.
       >>> import matplotlib.pyplot as plt
       >>> plt.close(display.figure_)
    """

    def __init__(self, models, *, names, levels=(0.0, 255.0)):
        self.models = models
        self.names = names
        self.levels = levels

    @property
    def n_components(self):
        """Components that each model keeps."""
        return [int(model.n_components_) for model in self.models]

    @classmethod
    @validate_params(
        {
            "n_components": [
                Interval(Integral, 1, None, closed="left"),
                Interval(Real, 0, 1, closed="neither"),
            ],
            "n_shown": [Interval(Integral, 1, 20, closed="both")],
            "target_names": ["array-like", None],
            "size": [Interval(Integral, 1, None, closed="left"), None],
            "image_shape": ["array-like", None],
        },
        prefer_skip_nested_validation=True,
    )
    def from_images(
        cls,
        X,
        y=None,
        *,
        n_components=0.7,
        n_shown=4,
        target_names=None,
        size=64,
        image_shape=None,
        ax=None,
    ):
        """Fit a decomposition to the films of each class and draw it.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features), or of n paths
            Films; held in memory at `size`.

        y : array-like of shape (n,), default=None
            Class of each film; None takes all films as one class.

        n_components : int or float, default=0.7
            Components to keep, or the share of the variance that they explain.

        n_shown : int, default=4
            Components to draw, from 1 to 20.

        target_names : list of str, default=None
            Names of the classes 0, 1, ...; None names them as `y` does.

        size : int, default=64
            Height and width that the films are brought to; None leaves them as they are (paths
            are then read at 224).

        image_shape : tuple of int, default=None
            Shape of one image behind flat rows; None means a square.

        ax : Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : EigenimageDisplay
            What was drawn.

        Raises
        ------
        ValueError
            If `y` does not fit the films, or a class has too few of them.
        """
        caller = "EigenimageDisplay"
        codes, names = class_codes(y, n_rows(X), target_names=target_names, caller=caller)
        images = take_images(X, size=size, image_shape=image_shape, caller=caller)
        levels = grey_levels(images)
        models = []
        for code, name in enumerate(names):
            chosen = images[codes == code]
            if len(chosen) < 2:
                raise ValueError(
                    f"{caller} got {len(chosen)} film of the class {name!r}; expected at least "
                    "two, since components are differences between films."
                )
            models.append(PixelPCA(n_components).fit(chosen))
        return cls(models, names=names, levels=levels).plot(n_shown=n_shown, ax=ax)

    @classmethod
    def from_estimator(cls, estimator, *, name="all", n_shown=4, levels=(0.0, 255.0), ax=None):
        """Draw the components of a fitted decomposition.

        Parameters
        ----------
        estimator : PixelPCA
            Fitted.

        name : str, default="all"
            What the films are called.

        n_shown : int, default=4
            Components to draw.

        levels : tuple of (float, float), default=(0.0, 255.0)
            Grey levels that are drawn black and white in the mean.

        ax : Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : EigenimageDisplay
            What was drawn.
        """
        return cls([estimator], names=[name], levels=levels).plot(n_shown=n_shown, ax=ax)

    def plot(self, *, n_shown=4, ax=None):
        """Draw a row for each class: the mean film, then its components.

        Parameters
        ----------
        n_shown : int, default=4
            Components to draw; a class that has fewer leaves cells empty.

        ax : Axes, default=None
            The axes whose place the grid takes; None makes a figure.

        Returns
        -------
        self : EigenimageDisplay
            The display, with `figure_` and `axes_`.
        """
        self.figure_, self.axes_ = axes_grid(
            ax,
            (len(self.models), 1 + n_shown),
            cell=(2.5, 2.7),
            caller="EigenimageDisplay.plot",
        )
        for axes, model, name in zip(self.axes_, self.models, self.names, strict=True):
            show_image(axes[0], model.mean_image_, self.levels)
            axes[0].set_ylabel(f"{name}\n{model.n_components_} components", fontsize=15)
            for number, axis in enumerate(axes[1:]):
                if number >= model.n_components_:
                    axis.set_axis_off()
                    continue
                eigenimage = model.eigenimages_[number]
                if eigenimage.ndim == 3:
                    eigenimage = eigenimage.mean(axis=2)
                limit = np.abs(eigenimage).max()
                axis.imshow(eigenimage, cmap=DIVERGING, vmin=-limit, vmax=limit)
                axis.set(xticks=[], yticks=[])
                share = model.explained_variance_ratio_[number]
                axis.set_title(f"{number + 1}: {share:.0%}", fontsize=15)
        self.axes_[0, 0].set_title("mean", fontsize=15)
        return self
