"""The pictures of an evaluation."""

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve

from sklearn_cxr.inspection._display_base import COLORS, LINES, MARKERS, cycle, pyplot
from sklearn_cxr.inspection._evaluate_text import calibration_bins
from sklearn_cxr.inspection._subgroups import share_or_nan
from sklearn_cxr.metrics._calibration import binned


def _figure(figure, size, caller="EvaluationReport.plot"):
    plt = pyplot(caller)
    return plt.figure(figsize=size, layout="constrained") if figure is None else figure


def _style(ax, x_label, y_label, title):
    ax.set_xlabel(x_label, fontsize=14)
    ax.set_ylabel(y_label, fontsize=14)
    ax.set_title(title, fontsize=15)
    ax.tick_params(labelsize=12)


def _unit(ax):
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")


def draw_binary(report, *, figure=None):
    """Draw ROC, precision-recall, calibration and scores of two classes.

    Parameters
    ----------
    report : EvaluationReport
        Of two classes.

    figure : Figure or None, default=None
        An empty figure.

    Returns
    -------
    Figure
        The figure.
    """
    figure = _figure(figure, (11, 9.4))
    axes = figure.subplots(2, 2)
    _draw_roc(axes[0, 0], report)
    _draw_precision(axes[0, 1], report)
    if report.is_probability:
        _draw_calibration(axes[1, 0], report)
        _draw_scores(axes[1, 1], report)
    else:
        _draw_scores(axes[1, 0], report)
        axes[1, 1].set_axis_off()
    return figure


def _text(report, metric, title):
    row = report.metrics.loc[metric]
    ends = "" if np.isnan(row["low"]) else f"\n({row['low']:.3f} to {row['high']:.3f})"
    return f"{title} {row['estimate']:.3f}{ends}"


def _bars(report, metric):
    """Lengths of the interval below and above the estimate."""
    row = report.metrics.loc[metric].fillna(report.metrics.loc[metric, "estimate"])
    return [[row["estimate"] - row["low"]], [row["high"] - row["estimate"]]]


def _draw_roc(ax, report):
    false, true, _ = roc_curve(report.y, report.scores)
    ax.plot([0, 1], [0, 1], color="0.6", linestyle=":", linewidth=1.5)
    ax.plot(false, true, color=COLORS[0], linewidth=2.5, label=_text(report, "roc_auc", "AUC"))
    specificity, sensitivity = report.metrics.loc[["specificity", "sensitivity"], "estimate"]
    ax.errorbar(
        1 - specificity,
        sensitivity,
        yerr=_bars(report, "sensitivity"),
        xerr=_bars(report, "specificity")[::-1],
        fmt="o",
        color=COLORS[1],
        markersize=9,
        capsize=4,
        label=f"threshold {report.threshold:.3g}",
    )
    _unit(ax)
    _style(ax, "1 - specificity", "sensitivity", "ROC curve")
    ax.legend(fontsize=12.5, loc="lower right")


def _draw_precision(ax, report):
    precision, recall, _ = precision_recall_curve(report.y, report.scores)
    ax.axhline(report.prevalence, color="0.6", linestyle=":", linewidth=1.5)
    ax.step(
        recall,
        precision,
        where="post",
        color=COLORS[0],
        linewidth=2.5,
        label=_text(report, "average_precision", "average precision"),
    )
    sensitivity, ppv = report.metrics.loc[["sensitivity", "ppv"], "estimate"]
    if np.isfinite(ppv):
        ax.errorbar(
            sensitivity,
            ppv,
            xerr=_bars(report, "sensitivity"),
            yerr=_bars(report, "ppv"),
            fmt="o",
            color=COLORS[1],
            markersize=9,
            capsize=4,
            label=f"threshold {report.threshold:.3g}",
        )
    _unit(ax)
    _style(ax, "sensitivity", "positive predictive value", "Precision and recall")
    ax.legend(fontsize=12.5, loc="lower left")


def _draw_calibration(ax, report):
    # The bins of the calibration error: cut at values, so that films of one value stay together.
    _, bins = binned(report.y, report.scores, calibration_bins(len(report.y)), "quantile")
    parts = [np.flatnonzero(bins == number) for number in np.unique(bins)]
    ax.plot([0, 1], [0, 1], color="0.6", linestyle=":", linewidth=1.5)
    predicted, observed, below, above = [], [], [], []
    for rows in parts:
        codes = None if report.groups is None else report.groups[rows]
        share, low, high = share_or_nan(report.y[rows] == 1, codes, report.confidence)
        predicted.append(float(report.scores[rows].mean()))
        observed.append(share)
        below.append(share - low)
        above.append(high - share)
    ax.errorbar(
        predicted,
        observed,
        yerr=[below, above],
        color=COLORS[0],
        marker="o",
        markersize=8,
        linewidth=2,
        capsize=4,
        label=_text(report, "calibration_error", "calibration error"),
    )
    _unit(ax)
    _style(
        ax,
        f"predicted probability (mean of {len(parts)} bins)",
        f"share of {report.names[1]}",
        "Calibration",
    )
    ax.legend(fontsize=12.5, loc="upper left")


def _draw_scores(ax, report):
    span = (0, 1) if report.is_probability else None
    edges = np.histogram_bin_edges(report.scores, bins=20, range=span)
    for code, name in enumerate(report.names):
        chosen = report.scores[report.y == code]
        ax.hist(
            chosen,
            bins=edges,
            weights=np.full(len(chosen), 1 / len(chosen)),
            color=COLORS[code],
            alpha=0.45,
            edgecolor=COLORS[code],
            hatch=("//", "..")[code],
            label=f"{name} ({len(chosen)})",
        )
    name = f"threshold {report.threshold:.3g}"
    ax.axvline(report.threshold, ymax=0.69, color="black", linewidth=2, label=name)
    what = "predicted probability" if report.is_probability else "score"
    _style(ax, f"{what} of {report.names[1]}", "share of the class", "Scores")
    # Room for the legend above the bars.
    ax.set_ylim(top=1.45 * ax.get_ylim()[1])
    ax.legend(fontsize=12.5, loc="upper left")


def draw_labels(report, *, figure=None):
    """Draw ROC curves and intervals of several classes or labels.

    Parameters
    ----------
    report : EvaluationReport
        Of several classes or labels.

    figure : Figure or None, default=None
        An empty figure.

    Returns
    -------
    Figure
        The figure.
    """
    n = len(report.names)
    figure = _figure(figure, (12.5, max(5.2, 1.6 + 0.42 * n)))
    curves, forest = figure.subplots(1, 2)
    truth = report.y
    if report.kind == "multiclass":
        truth = (report.y[:, None] == np.arange(n)).astype(float)
    curves.plot([0, 1], [0, 1], color="0.6", linestyle=":", linewidth=1.5)
    for column, name in enumerate(report.names):
        y = truth[:, column].astype(float)
        known = ~np.isnan(y)
        if len(np.unique(y[known])) < 2:
            continue
        false, true, _ = roc_curve(y[known], report.scores[known, column])
        style = {"color": cycle(COLORS, column), "linestyle": cycle(LINES, column)}
        curves.plot(false, true, linewidth=2, label=name, **style)
    _unit(curves)
    _style(curves, "1 - specificity", "sensitivity", "ROC curves, one against the others")
    if n <= len(COLORS):
        curves.legend(fontsize=12, loc="lower right")
    _draw_intervals(forest, report, named=n <= len(COLORS))
    return figure


def _draw_intervals(ax, report, *, named):
    labels = report.labels
    at = np.arange(len(labels))[::-1]
    for row, place in enumerate(at):
        is_mean = row == len(report.names)
        color = "black" if is_mean or not named else cycle(COLORS, row)
        low, high = labels["roc_auc_low"].iloc[row], labels["roc_auc_high"].iloc[row]
        ax.plot([low, high], [place] * 2, color=color, linewidth=3, alpha=0.6)
        marker = "D" if is_mean else MARKERS[0]
        ax.plot(labels["roc_auc"].iloc[row], place, marker, color=color, markersize=9)
    ax.axvline(0.5, color="0.6", linestyle=":", linewidth=1.5)
    ax.set_yticks(at, list(labels.index))
    ax.grid(axis="x", alpha=0.3)
    _style(ax, f"AUC with {report.confidence:.0%} interval", "", "Area under the curve")
