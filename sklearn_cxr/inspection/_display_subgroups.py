"""A classifier in parts of the films, as a picture of intervals."""

import numpy as np

from sklearn_cxr.inspection._display_base import (
    COLORS,
    MARKERS,
    axes_grid,
    cycle,
)
from sklearn_cxr.inspection._evaluate_scores import check_binary, predict_scores
from sklearn_cxr.inspection._subgroups import parts_of_calls, subgroup_report
from sklearn_cxr.model_selection._groups import encode_groups

_NAMES = {"roc_auc": "AUC", "mean_roc_auc": "mean AUC"}


class SubgroupDisplay:
    """Figures of parts of the films, with their intervals.

    Made by :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    report : DataFrame
        As :func:`subgroup_report` returns it.

    Attributes
    ----------
    axes_ : ndarray of Axes of shape (n_metrics,)
        The axes, after :meth:`plot`.

    figure_ : Figure
        The figure, after :meth:`plot`.

    Examples
    --------
    >>> from sklearn_cxr.datasets import make_chest_xrays
    >>> from sklearn_cxr.inspection import SubgroupDisplay
    >>> from sklearn_cxr.linear_model import PixelLogisticRegression
    >>> train, test = (
    ...     make_chest_xrays(
    ...         100, image_size=16, classes=("normal", "viral"), random_state=seed
    ...     ) for seed in (0, 1)
    ... )
    >>> model = PixelLogisticRegression(C=1e-3).fit(train.images, train.target)
    >>> display = SubgroupDisplay.from_estimator(
    ...     model, test.images, test.target, frame=test.frame, columns=["sex"],
    ...     groups=test.groups,
    ... )
    >>> display.report.index.tolist()
    [('all', 'all'), ('sex', 'F'), ('sex', 'M')]

    .. Close the figure.
       >>> import matplotlib.pyplot as plt
       >>> plt.close(display.figure_)
    """

    def __init__(self, report):
        self.report = report

    @classmethod
    def from_predictions(cls, y_true, score, *, frame, metrics=None, ax=None, **kwargs):
        """Measure and draw.

        Parameters
        ----------
        y_true : array-like of shape (n,)
            Class of each film, of two.

        score : array-like of shape (n,)
            Score or probability of the positive class.

        frame : DataFrame of shape (n, n_columns)
            What is known of the films, in their order.

        metrics : list of str, default=None
            As in :meth:`plot`.

        ax : Axes, default=None
            Where to draw; None makes a figure.

        **kwargs : dict
            Further parameters of :func:`subgroup_report`.

        Returns
        -------
        display : SubgroupDisplay
            What was drawn.
        """
        report = subgroup_report(y_true, score, frame=frame, **kwargs)
        return cls(report).plot(metrics=metrics, ax=ax)

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y,
        *,
        frame,
        pos_label=None,
        threshold=None,
        metrics=None,
        ax=None,
        **kwargs,
    ):
        """Predict, measure and draw.

        Parameters
        ----------
        estimator : fitted classifier
            Of two classes.

        X : array-like
            Films in the form that it takes.

        y : array-like of shape (n,)
            Class of each film.

        frame : DataFrame of shape (n, n_columns)
            What is known of the films, in their order.

        pos_label : object, default=None
            Positive class; None takes ``classes_[1]``.

        threshold : float, default=None
            Films at or above it count as positive; None takes the films
            that its ``predict`` calls positive.

        metrics : list of str, default=None
            As in :meth:`plot`.

        ax : Axes, default=None
            Where to draw; None makes a figure.

        **kwargs : dict
            Further parameters of :func:`subgroup_report`.

        Returns
        -------
        display : SubgroupDisplay
            What was drawn.

        Raises
        ------
        ValueError
            If the classifier knows more than two classes.
        """
        caller = "SubgroupDisplay.from_estimator"
        scores = predict_scores(
            estimator, X, pos_label=pos_label, with_calls=threshold is None, caller=caller
        )
        if scores.kind != "binary":
            raise ValueError(
                f"{caller} got a classifier of {len(scores.classes)} classes; expected two. For "
                "one class against the others pass its probability to from_predictions."
            )
        y = check_binary(y, scores.classes, caller)
        if scores.called is not None:
            # As predict calls them, which no threshold may say.
            groups = kwargs.pop("groups", None)
            codes = None if groups is None else encode_groups(groups, len(y), caller=caller)[0]
            report = parts_of_calls(
                y, scores.values, scores.called, frame=frame, codes=codes, **kwargs
            )
            return cls(report).plot(metrics=metrics, ax=ax)
        threshold = scores.threshold if threshold is None else threshold
        return cls.from_predictions(
            y,
            scores.values,
            frame=frame,
            pos_label=1,
            threshold=threshold,
            metrics=metrics,
            ax=ax,
            **kwargs,
        )

    def plot(self, *, metrics=None, ax=None):
        """Draw a line for each part; the vertical line is the figure of all films.

        Parameters
        ----------
        metrics : list of str, default=None
            Which of "accuracy", "sensitivity", "specificity" and "roc_auc"; None draws the last
            three.

        ax : Axes, default=None
            The axes whose place the grid takes; None makes a figure.

        Returns
        -------
        self : SubgroupDisplay
            The display, with `axes_` and `figure_`.

        Raises
        ------
        ValueError
            If the report has no such figure.
        """
        known = [name for name in self.report.columns if f"{name}_low" in self.report.columns]
        wanted = [name for name in ("sensitivity", "specificity", "roc_auc") if name in known]
        metrics = (wanted or known) if metrics is None else list(metrics)
        absent = [name for name in metrics if name not in known]
        if absent:
            raise ValueError(f"SubgroupDisplay got metrics={metrics}, but the report has {known}.")
        height = 1.4 + 0.42 * len(self.report)
        self.figure_, axes = axes_grid(
            ax, (1, len(metrics)), cell=(3.6, height), caller="SubgroupDisplay.plot"
        )
        self.axes_ = axes[0]
        draw_forest(self.axes_, self.report, metrics)
        return self


def draw_forest(axes, report, metrics):
    """Draw the figures of each part with their intervals, a panel for each metric.

    Parameters
    ----------
    axes : sequence of Axes
        One for each metric.

    report : DataFrame
        As `subgroup_report` returns it, or a table of labels of the same columns.

    metrics : list of str
        Columns that have `_low` and `_high`.
    """
    at = np.arange(len(report))[::-1]
    columns = report.index.get_level_values(0)
    numbers = {name: number for number, name in enumerate(dict.fromkeys(columns))}
    names = [
        "all films" if column == "all" else f"{column} {value}"
        for column, value in zip(columns, report.index.get_level_values(1), strict=True)
    ]
    for axis, metric in zip(axes, metrics, strict=True):
        values = report[metric].to_numpy(dtype=float)
        low, high = (report[f"{metric}_{end}"].to_numpy(dtype=float) for end in ("low", "high"))
        axis.axvline(values[0], color="0.6", linewidth=1.5, zorder=0)
        for row, place in enumerate(at):
            color = cycle(COLORS, numbers[columns[row]])
            axis.plot([low[row], high[row]], [place] * 2, color=color, linewidth=3, alpha=0.6)
            axis.plot(values[row], place, cycle(MARKERS, numbers[columns[row]]), color=color, ms=9)
            if np.isnan(values[row]):
                axis.text(
                    values[0], place, "one class only", fontsize=11, ha="center", va="center"
                )
        axis.set_title(_NAMES.get(metric, metric), fontsize=15)
        axis.set_yticks(at, [""] * len(at))
        axis.set_ylim(-0.7, len(at) - 0.3)
        axis.tick_params(labelsize=12)
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(
        at, [f"{name} ({n})" for name, n in zip(names, report["n_images"], strict=True)]
    )
    axes[0].set_ylabel("part (films)", fontsize=13)
