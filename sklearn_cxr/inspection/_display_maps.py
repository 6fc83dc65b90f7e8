"""Maps on the films they belong to."""

from numbers import Integral

import numpy as np

from sklearn_cxr.inspection._activation import class_activation_map
from sklearn_cxr.inspection._display_base import (
    COLORS,
    DIVERGING,
    _paths_of,
    axes_grid,
    grey_levels,
    n_rows,
    name_of,
    show_image,
    take_images,
    take_rows,
)
from sklearn_cxr.inspection._localization import check_boxes
from sklearn_cxr.preprocessing import ImageReader
from sklearn_cxr.utils._optional import import_optional
from sklearn_cxr.utils._sklearn import Interval, _safe_indexing, validate_params

# From transparent over orange to yellow: light on a dark film, and one hue for every reader.
_HEAT = ("#B2182B", "#F46D43", "#FEE08B")
_OPACITY = 0.65


class ActivationMapDisplay:
    """Maps laid over their films.

    Made by :meth:`from_estimator` or :meth:`from_maps`. Each map is drawn in shares of its own
    maximum; where it is near 0 the film shines through.

    Parameters
    ----------
    images : list of n ndarray of shape (h, w) or (h, w, c)
        The films.

    maps : sequence of n ndarray of shape (h, w)
        Their maps, in the same pixels.

    titles : list of str or None, default=None
        One for each film.

    boxes : list of n ndarray of shape (n_boxes, 4) or None, default=None
        Boxes of each film as x, y, width and height.

    Attributes
    ----------
    axes_ : ndarray of Axes of shape (n_rows, n_columns)
        The axes, after :meth:`plot`.

    figure_ : Figure
        The figure, after :meth:`plot`.

    See Also
    --------
    class_activation_map : Makes the maps.
    localization_report : Measures how well they meet boxes.

    Examples
    --------
    >>> from sklearn_cxr.datasets import make_chest_xrays
    >>> from sklearn_cxr.inspection import ActivationMapDisplay
    >>> from sklearn_cxr.linear_model import PixelLogisticRegression
    >>> films = make_chest_xrays(40, image_size=32, random_state=0)
    >>> model = PixelLogisticRegression(C=1e-3).fit(films.images, films.target)
    >>> display = ActivationMapDisplay.from_estimator(
    ...     model, films.images[:2], films.target[:2], target=1, target_names=films.target_names
    ... )
    >>> display.axes_.shape, display.maps.shape
    ((1, 2), (2, 32, 32))

    .. Close the figure.
       >>> import matplotlib.pyplot as plt
       >>> plt.close(display.figure_)
    """

    def __init__(self, images, maps, *, titles=None, boxes=None):
        self.images = images
        self.maps = maps
        self.titles = titles
        self.boxes = boxes

    @classmethod
    @validate_params(
        {
            "maps": ["array-like"],
            "titles": ["array-like", None],
            "boxes": ["array-like", None],
            "rows": ["array-like", None],
            "n_images": [Interval(Integral, 1, 400, closed="both")],
            "n_columns": [Interval(Integral, 1, 40, closed="both")],
        },
        prefer_skip_nested_validation=True,
    )
    def from_maps(
        cls, maps, X, *, titles=None, boxes=None, rows=None, n_images=12, n_columns=4, ax=None
    ):
        """Draw maps that are there already.

        Parameters
        ----------
        maps : sequence of n ndarray of shape (h, w)
            Maps in the pixels of the films.

        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features), or of n paths
            The films.

        titles : array-like of n str, default=None
            Title of each film.

        boxes : array-like of shape (n_boxes, 4) or DataFrame, default=None
            Boxes as in :func:`localization_report`.

        rows : array-like of shape (n_boxes,), default=None
            Number of the film that each box belongs to; None means one box for each film.

        n_images : int, default=12
            Films to draw, the first ones.

        n_columns : int, default=4
            Films in a row.

        ax : Axes, default=None
            The axes whose place the grid takes; None makes a figure.

        Returns
        -------
        display : ActivationMapDisplay
            What was drawn.

        Raises
        ------
        ValueError
            If maps, films, titles and boxes do not fit together.
        """
        caller, n = "ActivationMapDisplay", n_rows(X)
        if len(maps) != n or (titles is not None and len(titles) != n):
            raise ValueError(
                f"{caller} got {len(maps)} maps and {n if titles is None else len(titles)} titles "
                f"for {n} films; expected one of each for each film."
            )
        drawn = min(n, n_images)
        by_film = None
        if boxes is not None:
            found, rows = check_boxes(boxes, rows, maps, caller=caller)
            by_film = [found[rows == film] for film in range(drawn)]
        images = _films(X, maps[:drawn], caller)
        titles = None if titles is None else [str(title) for title in titles[:drawn]]
        return cls(images, maps[:drawn], titles=titles, boxes=by_film).plot(
            n_columns=n_columns, ax=ax
        )

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y=None,
        *,
        method="gradcam",
        target=None,
        layer=None,
        target_names=None,
        boxes=None,
        rows=None,
        n_images=12,
        n_columns=4,
        ax=None,
        **kwargs,
    ):
        """Make maps of films and draw them.

        Parameters
        ----------
        estimator : estimator
            As in :func:`class_activation_map`.

        X : array-like of shape (n, h, w), (n, h, w, c) or (n, n_features), or of n paths
            Films in the form that `estimator` takes; the first `n_images` are looked at.

        y : array-like of shape (n,), default=None
            Class of each film, for its title.

        method : str, default="gradcam"
            As in :func:`class_activation_map`.

        target : label, array-like of shape (n,) or None, default=None
            As in :func:`class_activation_map`.

        layer : str or None, default=None
            As in :func:`class_activation_map`.

        target_names : list of str, default=None
            Names of the classes 0, 1, ...; None names them as the estimator does.

        boxes : array-like of shape (n_boxes, 4) or DataFrame, default=None
            Boxes as in :func:`localization_report`.

        rows : array-like of shape (n_boxes,), default=None
            Number of the film that each box belongs to; None means one box for each film.

        n_images : int, default=12
            Films to draw, the first ones.

        n_columns : int, default=4
            Films in a row.

        ax : Axes, default=None
            The axes whose place the grid takes; None makes a figure.

        **kwargs : dict
            Further parameters of :func:`class_activation_map`.

        Returns
        -------
        display : ActivationMapDisplay
            What was drawn.
        """
        import_optional("matplotlib", extra="plot", caller="ActivationMapDisplay")
        chosen = np.arange(min(n_rows(X), n_images))
        if boxes is not None:
            boxes, rows = _boxes_of(boxes, rows, len(chosen))
        X = take_rows(X, chosen)
        if np.ndim(target):
            target = np.asarray(target)[chosen]
        found = class_activation_map(
            estimator, X, method=method, target=target, layer=layer, **kwargs
        )
        shown = [f"for {name_of(label, target_names)}" for label in found.target]
        if y is not None:
            known = [name_of(label, target_names) for label in np.asarray(y)[chosen]]
            shown = [f"{name}\n{title}" for name, title in zip(known, shown, strict=True)]
        return cls.from_maps(
            found.maps,
            X,
            titles=shown,
            boxes=boxes,
            rows=rows,
            n_images=n_images,
            n_columns=n_columns,
            ax=ax,
        )

    def plot(self, *, n_columns=4, ax=None):
        """Draw films and maps.

        Parameters
        ----------
        n_columns : int, default=4
            Films in a row.

        ax : Axes, default=None
            The axes whose place the grid takes; None makes a figure.

        Returns
        -------
        self : ActivationMapDisplay
            The display, with `axes_` and `figure_`.
        """
        caller = "ActivationMapDisplay.plot"
        patches = import_optional("matplotlib.patches", extra="plot", caller=caller)
        columns = min(n_columns, len(self.images))
        shape = (-(-len(self.images) // columns), columns)
        self.figure_, self.axes_ = axes_grid(ax, shape, cell=(2.6, 2.9), caller=caller)
        signed = any(values.min() < 0 for values in self.maps)
        drawn = None
        for number, axis in enumerate(self.axes_.ravel()):
            if number >= len(self.images):
                axis.set_axis_off()
                continue
            image = self.images[number]
            show_image(axis, image, grey_levels(image))
            drawn = _lay_over(axis, self.maps[number], signed, caller)
            for x, y, w, h in () if self.boxes is None else self.boxes[number]:
                frame = patches.Rectangle(
                    (x - 0.5, y - 0.5), w, h, fill=False, edgecolor=COLORS[5], linewidth=2
                )
                axis.add_patch(frame)
            if self.titles is not None:
                axis.set_title(self.titles[number], fontsize=14)
        bar = self.figure_.colorbar(drawn, ax=list(self.axes_.ravel()), shrink=0.7, aspect=30)
        bar.set_label("share of each\nfilm's maximum", fontsize=11)
        return self


def _lay_over(axis, values, signed, caller):
    """Draw a map whose small values are transparent."""
    colors = import_optional("matplotlib.colors", extra="plot", caller=caller)
    share = values / max(np.abs(values).max(), 1e-12)
    heat = DIVERGING if signed else colors.LinearSegmentedColormap.from_list("heat", _HEAT)
    return axis.imshow(
        share,
        cmap=heat,
        vmin=-1 if signed else 0,
        vmax=1,
        alpha=np.clip(np.abs(share) * 1.3, 0, 1) * _OPACITY,
    )


def _boxes_of(boxes, rows, n):
    """Boxes of the first films only."""
    if rows is None:
        return boxes[:n], None
    kept = np.flatnonzero(np.asarray(rows) < n)
    return _safe_indexing(boxes, kept), np.asarray(rows)[kept]


def _films(X, maps, caller):
    """Films in their own pixels, each as large as its map."""
    paths = _paths_of(X)
    if paths is not None:
        return [
            np.asarray(ImageReader(size=values.shape).fit_transform([path]))[0]
            for path, values in zip(paths, maps, strict=False)
        ]
    shape = np.shape(maps[0]) if np.ndim(X) == 2 else None
    images = list(take_images(X, np.arange(len(maps)), image_shape=shape, caller=caller))
    for number, (image, values) in enumerate(zip(images, maps, strict=True)):
        if image.shape[:2] != np.shape(values):
            raise ValueError(
                f"{caller} got film {number} of {image.shape[:2]} pixels and its map of "
                f"{np.shape(values)}; expected maps in the pixels of the films."
            )
    return images
