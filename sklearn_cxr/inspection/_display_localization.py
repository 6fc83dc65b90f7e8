"""How well maps meet boxes, as a picture beside maps that know nothing."""

import pandas as pd

from sklearn_cxr.inspection._activation import class_activation_map
from sklearn_cxr.inspection._display_base import COLORS, one_axes
from sklearn_cxr.inspection._localization import CONTROLS, localization_report
from sklearn_cxr.utils._optional import import_optional

_NAMES = {
    "pointing_game": "pointing game",
    "energy": "energy in boxes",
    "box_share": "share of boxes",
}
# Lines rather than marks: what the maps have to lie right of.
_STYLES = {
    "random_map": {"color": "black", "linestyle": ":", "label": "random map"},
    "centred_blob": {"color": COLORS[1], "linestyle": "--", "label": "centred blob"},
}
_ROW = 0.37


class LocalizationDisplay:
    """How well maps meet boxes, beside a random map and a blob in the centre.

    Made by :meth:`from_estimator`, :meth:`from_maps` or :meth:`from_report`. A map is worth
    looking at where its whole interval lies right of both lines.

    Parameters
    ----------
    report : DataFrame or dict of str to DataFrame
        What :func:`localization_report` gave; several by the names of what made the maps.

    Attributes
    ----------
    ax_ : Axes
        The axes, after :meth:`plot`.

    figure_ : Figure
        The figure, after :meth:`plot`.

    See Also
    --------
    localization_report : The figures, and what they mean.
    ActivationMapDisplay : The maps themselves, on their films.

    Examples
    --------
    >>> from sklearn_cxr.datasets import make_chest_xrays
    >>> from sklearn_cxr.inspection import LocalizationDisplay
    >>> from sklearn_cxr.linear_model import PixelLogisticRegression
    >>> films = make_chest_xrays(
    ...     60, image_size=32, classes=("normal", "bacterial"), random_state=0
    ... )
    >>> model = PixelLogisticRegression(C=1e-3).fit(films.images, films.target)
    >>> display = LocalizationDisplay.from_estimator(
    ...     model, films.images, films.frame[["x", "y", "w", "h"]], target=1,
    ...     groups=films.groups, random_state=0, metrics=["pointing_game", "energy"],
    ... )
    >>> display.report.columns.tolist()[:5]
    ['maps', 'low', 'high', 'random_map', 'centred_blob']

    .. Close the figure.
       >>> import matplotlib.pyplot as plt
       >>> plt.close(display.figure_)
    """

    def __init__(self, report):
        self.report = report

    @classmethod
    def from_report(cls, report, *, metrics=None, ax=None):
        """Draw figures that are there already.

        Parameters
        ----------
        report : DataFrame or dict of str to DataFrame
            What :func:`localization_report` gave; several by the names of what made the maps.

        metrics : list of str, default=None
            As in :meth:`plot`.

        ax : Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : LocalizationDisplay
            What was drawn.
        """
        return cls(report).plot(metrics=metrics, ax=ax)

    @classmethod
    def from_maps(cls, maps, boxes, *, metrics=None, ax=None, **kwargs):
        """Measure maps and draw how well they meet boxes.

        Parameters
        ----------
        maps : array-like of shape (n, h, w), sequence of n of shape (h, w), or dict of these
            Maps in the pixels of the boxes; several by the names of what made them.

        boxes : array-like of shape (n_boxes, 4) or DataFrame
            As in :func:`localization_report`.

        metrics : list of str, default=None
            As in :meth:`plot`.

        ax : Axes, default=None
            Where to draw; None makes a figure.

        **kwargs : dict
            Further parameters of :func:`localization_report`.

        Returns
        -------
        display : LocalizationDisplay
            What was drawn.
        """
        import_optional("matplotlib", extra="plot", caller="LocalizationDisplay")
        if isinstance(maps, dict):
            report = {
                name: localization_report(own, boxes, **kwargs) for name, own in maps.items()
            }
        else:
            report = localization_report(maps, boxes, **kwargs)
        return cls.from_report(report, metrics=metrics, ax=ax)

    @classmethod
    def from_estimator(
        cls, estimator, X, boxes, *, method="gradcam", target=None, metrics=None, ax=None, **kwargs
    ):
        """Make maps of films, measure and draw them.

        Parameters
        ----------
        estimator : estimator
            As in :func:`class_activation_map`.

        X : array-like of n films
            In the form that `estimator` takes.

        boxes : array-like of shape (n_boxes, 4) or DataFrame
            As in :func:`localization_report`.

        method : str or list of str, default="gradcam"
            As in :func:`class_activation_map`; several are compared.

        target : label, array-like of shape (n,) or None, default=None
            As in :func:`class_activation_map`.

        metrics : list of str, default=None
            As in :meth:`plot`.

        ax : Axes, default=None
            Where to draw; None makes a figure.

        **kwargs : dict
            Further parameters of :func:`localization_report`.

        Returns
        -------
        display : LocalizationDisplay
            What was drawn.
        """
        import_optional("matplotlib", extra="plot", caller="LocalizationDisplay")
        names = [method] if isinstance(method, str) else list(method)
        maps = {
            name: class_activation_map(estimator, X, method=name, target=target).maps
            for name in names
        }
        maps = maps[method] if isinstance(method, str) else maps
        return cls.from_maps(maps, boxes, metrics=metrics, ax=ax, **kwargs)

    def plot(self, *, metrics=None, ax=None):
        """Draw a row for each figure, with its interval and what chance would give.

        Parameters
        ----------
        metrics : list of str, default=None
            Which rows of the report; None draws all but "box_share".

        ax : Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        self : LocalizationDisplay
            The display, with `ax_` and `figure_`.

        Raises
        ------
        ValueError
            If a report holds no means, or lacks one of the metrics.
        """
        reports = self.report if isinstance(self.report, dict) else {None: self.report}
        metrics = _check_reports(reports, metrics)
        rows = _rows(reports, metrics)
        size = (7.2, 1.5 + _ROW * len(rows))
        self.figure_, self.ax_ = one_axes(ax, size=size, caller="LocalizationDisplay.plot")
        for place, (_, name, metric) in enumerate(rows):
            if metric is not None:
                _draw_row(self.ax_, place, reports[name].loc[metric])
        _label(self.ax_, rows, next(iter(reports.values())))
        return self


def _check_reports(reports, metrics):
    """Return the metrics to draw, which all reports have to hold."""
    caller, needed = "LocalizationDisplay", {"maps", "low", "high", *CONTROLS}
    if not reports:
        raise ValueError(f"{caller} got no report; expected at least one.")
    for report in reports.values():
        if not isinstance(report, pd.DataFrame) or not needed <= set(report.columns):
            got = type(report).__name__
            if isinstance(report, pd.DataFrame):
                got = f"a DataFrame with the columns {list(report.columns)}"
            raise ValueError(
                f"{caller} got {got}; expected the means that localization_report gives with "
                "average=True. Maps go through from_maps."
            )
    known = list(next(iter(reports.values())).index)
    metrics = [m for m in known if m != "box_share"] if metrics is None else list(metrics)
    for name, report in reports.items():
        absent = [metric for metric in metrics if metric not in report.index]
        if absent or not metrics:
            of = "" if name is None else f" of {name!r}"
            raise ValueError(
                f"{caller} got metrics={metrics}, but the report{of} has {list(report.index)}."
            )
    return metrics


def _rows(reports, metrics):
    """List text, report and metric of each row; a heading has no metric."""
    if len(reports) == 1:
        return [(_name_of(metric), name, metric) for name in reports for metric in metrics]
    rows = []
    for metric in metrics:
        rows.append((_name_of(metric), None, None))
        rows += [(str(name).replace("_", " "), name, metric) for name in reports]
    return rows


def _name_of(metric):
    if metric.startswith("iou@"):
        return f"IoU above {float(metric[4:]):.0%} of maximum"
    return _NAMES.get(metric, metric)


def _draw_row(ax, place, figures):
    for control, style in _STYLES.items():
        ax.plot([figures[control]] * 2, [place - 0.5, place + 0.5], linewidth=2, **style)
    ax.plot([figures["low"], figures["high"]], [place] * 2, color=COLORS[0], linewidth=3)
    ax.plot(figures["maps"], place, "o", color=COLORS[0], markersize=9, label="maps")


def _label(ax, rows, report):
    """Write axes and legend."""
    ax.set_yticks(range(len(rows)), [text for text, *_ in rows])
    for tick, (*_, metric) in zip(ax.get_yticklabels(), rows, strict=True):
        tick.set_fontweight("bold" if metric is None else "normal")
    ax.set(xlim=(-0.03, 1.03), ylim=(len(rows) - 0.4, -0.6))
    ax.tick_params(labelsize=13)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x", alpha=0.3)
    confidence = report.attrs.get("confidence")
    interval = "interval" if confidence is None else f"{confidence:.0%} interval"
    ax.set_xlabel(f"mean of {int(report['n_films'].iloc[0])} films, {interval}", fontsize=14)
    handles = dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True))
    names = ["maps", *(style["label"] for style in _STYLES.values())]
    ax.legend(
        [handles[name] for name in names],
        names,
        fontsize=13,
        ncols=3,
        frameon=False,
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        borderaxespad=0.2,
        columnspacing=1.4,
    )
