"""Films on their way to another class."""

import numpy as np

from sklearn_cxr.inspection._counterfactual import counterfactual_images
from sklearn_cxr.inspection._display_base import (
    COLORS,
    DIVERGING,
    axes_grid,
    name_of,
    show_image,
)
from sklearn_cxr.utils._optional import import_optional


class CounterfactualDisplay:
    """Films on their way to another class, with the probability of that class.

    Made by :meth:`from_estimator` or :meth:`from_result`.

    Parameters
    ----------
    result : Bunch
        What :func:`counterfactual_images` gave.

    target_names : list of str or None, default=None
        Names of the classes 0, 1, ...; None names them as the estimator does.

    Attributes
    ----------
    axes_ : ndarray of Axes of shape (n, n_pictures + 2)
        The axes, after :meth:`plot`: the pictures, the change from the first to the last, and the
        curve.

    figure_ : Figure
        The figure, after :meth:`plot`.

    See Also
    --------
    counterfactual_images : Makes the pictures.

    Examples
    --------
    >>> from sklearn_cxr.datasets import make_chest_xrays
    >>> from sklearn_cxr.inspection import CounterfactualDisplay
    >>> from sklearn_cxr.linear_model import PixelLogisticRegression
    >>> X, y = make_chest_xrays(
    ...     60, image_size=32, classes=("normal", "viral"), random_state=0, return_X_y=True
    ... )
    >>> model = PixelLogisticRegression(C=1e-3).fit(X, y)
    >>> display = CounterfactualDisplay.from_estimator(
    ...     model, "noise", 1, steps=20, n_snapshots=3, random_state=0
    ... )
    >>> display.axes_.shape
    (1, 5)

    .. Close the figure.
       >>> import matplotlib.pyplot as plt
       >>> plt.close(display.figure_)
    """

    def __init__(self, result, *, target_names=None):
        self.result = result
        self.target_names = target_names

    @classmethod
    def from_result(cls, result, *, target_names=None, ax=None):
        """Draw pictures that are there already.

        Parameters
        ----------
        result : Bunch
            What :func:`counterfactual_images` gave.

        target_names : list of str, default=None
            Names of the classes 0, 1, ...

        ax : Axes, default=None
            The axes whose place the grid takes; None makes a figure.

        Returns
        -------
        display : CounterfactualDisplay
            What was drawn.
        """
        return cls(result, target_names=target_names).plot(ax=ax)

    @classmethod
    def from_estimator(cls, estimator, X, target=None, *, target_names=None, ax=None, **kwargs):
        """Change films and draw them.

        Parameters
        ----------
        estimator : estimator
            As in :func:`counterfactual_images`.

        X : array-like of n films, or "noise"
            As in :func:`counterfactual_images`.

        target : label, array-like of shape (n,) or None, default=None
            As in :func:`counterfactual_images`.

        target_names : list of str, default=None
            Names of the classes 0, 1, ...

        ax : Axes, default=None
            The axes whose place the grid takes; None makes a figure.

        **kwargs : dict
            Further parameters of :func:`counterfactual_images`.

        Returns
        -------
        display : CounterfactualDisplay
            What was drawn.
        """
        import_optional("matplotlib", extra="plot", caller="CounterfactualDisplay")
        result = counterfactual_images(estimator, X, target, **kwargs)
        return cls.from_result(result, target_names=target_names, ax=ax)

    def plot(self, *, ax=None):
        """Draw pictures, changes and curves, a row for each film.

        Parameters
        ----------
        ax : Axes, default=None
            The axes whose place the grid takes; None makes a figure.

        Returns
        -------
        self : CounterfactualDisplay
            The display, with `axes_` and `figure_`.
        """
        result = self.result
        n, pictures = result.images.shape[:2]
        self.figure_, self.axes_ = axes_grid(
            ax, (n, pictures + 2), cell=(2.3, 2.5), caller="CounterfactualDisplay.plot"
        )
        for film, axes in enumerate(self.axes_):
            for axis, picture, step in zip(axes, result.images[film], result.steps, strict=False):
                show_image(axis, picture, result.levels)
                axis.set_title(f"step {step}", fontsize=14)
            self._draw_change(axes[-2], result.images[film])
            self._draw_curve(axes[-1], film)
        return self

    def _draw_change(self, axis, images):
        change = images[-1] - images[0]
        change = change.mean(axis=2) if change.ndim == 3 else change
        limit = max(np.abs(change).max(), 1e-12)
        axis.imshow(change, cmap=DIVERGING, vmin=-limit, vmax=limit)
        low, high = self.result.levels
        percent = 100 * limit / max(high - low, 1e-12)
        axis.set(xticks=[], yticks=[])
        axis.set_title(f"change, ±{percent:.2g}%", fontsize=14)

    def _draw_curve(self, axis, film):
        result, name = self.result, name_of(self.result.target[film], self.target_names)
        axis.plot(result.probability[film], color=COLORS[0], linewidth=2)
        axis.set(ylim=(-0.03, 1.03), yticks=[0, 0.5, 1], xlabel="step")
        axis.set_title(f"p({name})", fontsize=14)
        axis.spines[["top", "right"]].set_visible(False)
