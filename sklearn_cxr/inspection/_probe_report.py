"""What the shortcut probes found, as table, text and plot."""

import numpy as np
import pandas as pd

from sklearn_cxr.inspection import _html
from sklearn_cxr.inspection._display_base import COLORS, MARKERS, cycle, one_axes
from sklearn_cxr.inspection._probe_table import COLUMNS, MODEL, enough_patients, undecided
from sklearn_cxr.metrics import roc_auc_interval


class ShortcutProbes:
    """How well models tell the classes apart that cannot, or can hardly, see the disease.

    Made by :func:`shortcut_probes`.

    Parameters
    ----------
    table : DataFrame
        A row for each probe and class (the second one of two), or label: probe, sees, label,
        auc, low, high, share_of_model (of the model's AUC above 0.5), verdict. "shortcut": a
        probe that does not see the lungs lights up; "coarse cue": one that sees them coarsely
        does; "quiet": neither; "unknown": fewer than ten patients on a side, or no score.

    threshold : float, default=0.6
        AUC above which the lower end of the interval has to lie.

    scores : dict of ndarray of shape (n, k) or None, default=None
        Score of each film, ranked within its fold, for each class or label, by probe.

    lung_region : ndarray of shape (20, 20), dtype bool, or None, default=None
        Blocks that "outside_lungs" did not see.

    See Also
    --------
    shortcut_probes : Makes it.

    Examples
    --------
    >>> from sklearn_cxr.datasets import make_chest_xrays
    >>> from sklearn_cxr.inspection import ShortcutProbes, shortcut_probes
    >>> films = make_chest_xrays(60, image_size=64, classes=("normal", "viral"), random_state=0)
    >>> found = shortcut_probes(
    ...     films.images, films.target, films.groups, probes=["border"], cv=2
    ... )
    >>> isinstance(found, ShortcutProbes), found.shortcuts
    (True, [])
    """

    def __init__(self, table, threshold=0.6, scores=None, lung_region=None):
        self.table = table
        self.threshold = threshold
        self.scores = scores
        self.lung_region = lung_region

    @property
    def shortcuts(self):
        """Probes that light up without seeing the lungs."""
        lit = self.table[self.table["verdict"] == "shortcut"]
        return list(dict.fromkeys(lit["probe"]))

    @property
    def title(self):
        """One line that says how it stands."""
        judged = self.table[self.table["probe"] != MODEL]
        unknown = judged["verdict"] == "unknown"
        if unknown.all():
            return "Shortcut probes: none could be judged"
        text = "none lights up"
        if self.shortcuts:
            text = f"lit by {', '.join(self.shortcuts).replace('_', ' ')}"
        if unknown.any():
            left = judged[unknown].groupby("probe", sort=False).size()
            every = judged.groupby("probe").size()
            names = [
                f"{name.replace('_', ' ')}{'' if n == every[name] else ' for some labels'}"
                for name, n in left.items()
            ]
            text += f"; not judged: {', '.join(names)}"
        return f"Shortcut probes: {text}"

    def __repr__(self):
        return f"<ShortcutProbes: {self.title[17:]}>"

    def __str__(self):
        several = self.table["label"].nunique() > 1
        lines = [self.title, ""]
        for row in self.table.itertuples():
            name = f"{row.probe}, {row.label}" if several else row.probe
            area = f"{row.auc:.3f} ({row.low:.3f} to {row.high:.3f})"
            lines.append(f"{name:<24}{area:<26}{row.verdict:<12}{row.sees}".rstrip())
        return "\n".join(lines)

    def _repr_html_(self):
        badges = {"shortcut": "error", "coarse cue": "info"}
        shown = self.table.copy()
        shown["verdict"] = [
            f'<span class="badge {badges[v]}">{_html.escape(v)}</span>'
            if v in badges
            else _html.escape(v)
            for v in shown["verdict"]
        ]
        shown["probe"] = shown["probe"].str.replace("_", " ")
        if shown["share_of_model"].isna().all():
            shown = shown.drop(columns="share_of_model")
        formats = dict.fromkeys(("auc", "low", "high"), "{:.3f}")
        formats["share of model"] = "{:.0%}"
        table = _html.table(
            shown.rename(columns={"share_of_model": "share of model"}),
            formats=formats,
            raw=("verdict",),
        )
        return _html.fragment(f"<h1>{_html.escape(self.title)}</h1>{table}")

    def plot(self, *, ax=None):
        """Draw the areas with their intervals.

        Parameters
        ----------
        ax : Axes or None, default=None
            Where; None makes a figure.

        Returns
        -------
        ShortcutProbesDisplay
            The display.
        """
        return ShortcutProbesDisplay(self.table, threshold=self.threshold).plot(ax=ax)


class ShortcutProbesDisplay:
    """Areas under the curve of the probes, beside the model's.

    Made by :meth:`from_estimator` or :meth:`from_predictions`, or by ``ShortcutProbes.plot``.

    Parameters
    ----------
    table : DataFrame
        The table of :class:`ShortcutProbes`.

    threshold : float, default=0.6
        AUC above which the lower end of an interval counts as lit.

    Attributes
    ----------
    figure_ : Figure
        The figure, after :meth:`plot`.

    ax_ : Axes
        The axes, after :meth:`plot`.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_cxr.inspection import ShortcutProbesDisplay
    >>> areas = pd.DataFrame({
    ...     "probe": ["border", "your model"], "label": "viral", "auc": [0.8, 0.9],
    ...     "low": [0.7, 0.85], "high": [0.9, 0.95], "verdict": ["shortcut", ""],
    ... })
    >>> display = ShortcutProbesDisplay(areas).plot()  # doctest: +SKIP
    """

    def __init__(self, table, *, threshold=0.6):
        self.table = table
        self.threshold = threshold

    @classmethod
    def from_estimator(cls, estimator, X, y, groups, *, ax=None, **kwargs):
        """Run the probes beside a model, and draw them.

        Parameters
        ----------
        estimator : classifier
            The model, unfitted.

        X : array-like
            Films, as :func:`shortcut_probes` takes them.

        y : array-like of shape (n,) or (n, n_labels)
            Labels.

        groups : array-like of shape (n,)
            Patient of each film.

        ax : Axes or None, default=None
            Where; None makes a figure.

        **kwargs : dict
            Further arguments of :func:`shortcut_probes`.

        Returns
        -------
        ShortcutProbesDisplay
            The display, drawn.
        """
        from sklearn_cxr.inspection._probes import shortcut_probes

        return shortcut_probes(X, y, groups, estimator=estimator, **kwargs).plot(ax=ax)

    @classmethod
    def from_predictions(cls, y_true, scores, *, groups, threshold=0.6, confidence=0.95, ax=None):
        """Draw probes of your own.

        Parameters
        ----------
        y_true : array-like of shape (n,)
            Two classes; the second in order is positive.

        scores : dict of array-like of shape (n,)
            Scores by the name of the probe, of models that did not see the film's patient. The
            name "your model" stands for the model.

        groups : array-like of shape (n,)
            Patient of each film.

        threshold : float, default=0.6
            AUC above which the lower end of an interval counts as lit.

        confidence : float, default=0.95
            Level of the intervals, in (0, 1).

        ax : Axes or None, default=None
            Where; None makes a figure.

        Returns
        -------
        ShortcutProbesDisplay
            The display, drawn.
        """
        rows = []
        y_true, groups = np.asarray(y_true), np.asarray(groups)
        enough = enough_patients(y_true == np.unique(y_true)[-1], groups)
        for name, values in scores.items():
            found = roc_auc_interval(
                y_true, values, groups=groups, confidence=confidence, transform="logit"
            )
            # Whether it sees the lungs is not known of a probe that was made elsewhere.
            lit = "lit" if found.low > threshold and name != MODEL else ""
            lit = lit if enough else undecided(name)
            area = (found.estimate, found.low, found.high)
            rows.append((name, "", "", *area, np.nan, lit))
        return cls(pd.DataFrame(rows, columns=COLUMNS), threshold=threshold).plot(ax=ax)

    def plot(self, *, ax=None):
        """Draw the areas with their intervals.

        Parameters
        ----------
        ax : Axes or None, default=None
            Where; None makes a figure.

        Returns
        -------
        self : ShortcutProbesDisplay
            The display.
        """
        probes = list(dict.fromkeys(self.table["probe"]))
        labels = list(dict.fromkeys(self.table["label"]))
        height = 1.4 + max(0.42, 0.24 * len(labels)) * len(probes)
        figure, ax = one_axes(ax, size=(7, height), caller="ShortcutProbesDisplay.plot")
        shifts = np.linspace(-0.28, 0.28, len(labels)) if len(labels) > 1 else [0.0]
        for number, (label, shift) in enumerate(zip(labels, shifts, strict=True)):
            part = self.table[self.table["label"] == label].set_index("probe")
            self._draw(ax, part, probes, shift, number, label)
        ax.axvline(0.5, color="0.4", linewidth=1)
        ax.axvline(self.threshold, color="0.4", linewidth=1, linestyle=":")
        ax.text(
            self.threshold,
            1.01,
            "suspicious if the interval begins beyond",
            transform=ax.get_xaxis_transform(),
            fontsize=9,
            ha="center",
            va="bottom",
        )
        ax.set(
            yticks=range(len(probes)),
            yticklabels=[name.replace("_", " ") for name in probes],
            # Room for the words above the first row, however few rows there are.
            ylim=(-0.6, len(probes) - 0.5),
            xlabel="AUC with its interval by patient"
            + ("" if len(labels) == 1 else "; filled: a shortcut, or the model"),
            xlim=(
                min(0.4, np.nanmin(self.table["low"].to_numpy(float), initial=0.4)) - 0.02,
                1.06,
            ),
        )
        ax.invert_yaxis()
        if len(labels) > 1:
            ax.legend(fontsize=9, loc="best")
        self.figure_, self.ax_ = figure, ax
        return self

    def _draw(self, ax, part, probes, shift, number, label):
        one = self.table["label"].nunique() == 1
        named = next((name for name in probes if not np.isnan(part.loc[name, "auc"])), None)
        for place, name in enumerate(probes):
            row = part.loc[name]
            if np.isnan(row["auc"]):
                ax.text(0.5, place + shift, " not judged", fontsize=9, va="center")
                continue
            lit = row["verdict"] == "shortcut"
            color = COLORS[1] if lit and one else COLORS[0] if one else cycle(COLORS, number)
            ax.errorbar(
                row["auc"],
                place + shift,
                xerr=[[row["auc"] - row["low"]], [row["high"] - row["auc"]]],
                marker=cycle(MARKERS, number),
                color=color,
                capsize=3,
                linestyle="none",
                markerfacecolor=color if lit or name == MODEL else "white",
                label=label if name == named else None,
            )
            if one and row["verdict"] not in ("", "quiet"):
                ax.annotate(
                    row["verdict"],
                    (row["auc"], place + shift),
                    xytext=(0, 6),
                    textcoords="offset points",
                    ha="center",
                    fontsize=9,
                    color=color,
                )
