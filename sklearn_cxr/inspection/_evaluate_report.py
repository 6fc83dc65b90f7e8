"""What `evaluate` found: printed, as tables, pictures, HTML and JSON."""

import datetime
import json

import numpy as np
import pandas as pd

from sklearn_cxr.inspection._display_base import pyplot
from sklearn_cxr.inspection._evaluate_films import split_digest
from sklearn_cxr.inspection._evaluate_html import report_body
from sklearn_cxr.inspection._evaluate_plots import draw_binary, draw_labels
from sklearn_cxr.inspection._evaluate_text import TITLES, format_interval, short_table
from sklearn_cxr.inspection._html import fragment, write_page
from sklearn_cxr.utils._atomic import replacing


class EvaluationReport:
    """How good a model is on a set of films, and how sure that is.

    Made by :func:`evaluate`. ``print(report)`` writes it out; a notebook shows it.

    Parameters
    ----------
    name : str
        What the model is called.

    split : str or None
        What the films are called.

    kind : {"binary", "multiclass", "multilabel"}
        What the model answers.

    names : list of str
        Names of the classes (positive last of two) or of the labels.

    y : ndarray of shape (n,) or (n, n_labels)
        Labels; 1 for the positive one of two classes.

    scores : ndarray of shape (n,) or (n, n_outputs)
        Scores of the positive class; or of each class or label.

    is_probability : bool
        Whether the scores are probabilities.

    groups : ndarray of shape (n,), dtype int, or None
        Number of each film's patient.

    confidence : float
        Coverage of the intervals.

    notes : list of str
        What has to be known of the figures.

    model : str, default=""
        The model and its parameters.

    versions : dict of str to str, default=None
        Versions of the packages.

    films : tuple of (str, list of str), default=None
        Form of the films' keys, and the key of each film: a file name, or a digest.

    Attributes
    ----------
    metrics : DataFrame of shape (n_metrics, 3)
        estimate, low and high of each figure, indexed by metric: "roc_auc", "average_precision",
        "accuracy", "sensitivity", "specificity", "ppv", "npv", "calibration_error" and "brier"
        for two classes; "mean_roc_auc" and others otherwise. The calibration error is that of
        the bins that :meth:`plot` draws: of equally many films, up to ten.

    threshold : float or None
        Films at or above it count as positive; None for more than two classes. Where it is the
        estimator's own, its ``predict`` decides, and a note tells of films that it calls
        otherwise.

    threshold_origin : str or None
        Where it comes from.

    confusion : DataFrame of shape (n_classes, n_classes) or None
        Films by class (rows) and predicted class (columns).

    labels : DataFrame or None
        As :func:`sklearn_cxr.metrics.multilabel_report` returns it, for more than two classes.

    subgroups : DataFrame or None
        As :func:`subgroup_report` returns it; of several classes the accuracy of each part, of
        several labels their mean AUC, with intervals; n_labels is the number of labels that the
        part has both classes of, and the mean is of those.

    errors : DataFrame or None
        The most confident errors, where they were asked for.

    n_images, n_patients : int
        Number of films, and of patients (None where they were not given).

    fingerprint : str
        Digest of labels, patients and films (their file names, or else what the model was
        given). Reports of the same films in the same form have the same.

    created : str
        When the report was made, in UTC.

    See Also
    --------
    compare_reports : Several reports in one table.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.dummy import DummyClassifier
    >>> from sklearn_cxr.inspection import EvaluationReport, evaluate
    >>> X, y = np.zeros((60, 16)), np.repeat([0, 1], 30)
    >>> model = DummyClassifier().fit(X, y)
    >>> report = evaluate(model, X, y, groups=np.arange(60), n_resamples=50, random_state=0)
    >>> isinstance(report, EvaluationReport), float(report.metrics.loc["roc_auc", "estimate"])
    (True, 0.5)
    >>> sorted(report.scalars())[:3]
    ['accuracy', 'accuracy_high', 'accuracy_low']
    """

    def __init__(
        self,
        *,
        name,
        split,
        kind,
        names,
        y,
        scores,
        is_probability,
        groups,
        confidence,
        notes,
        model="",
        versions=None,
        films=None,
    ):
        self.name = name
        self.split = split
        self.kind = kind
        self.names = names
        self.y = y
        self.scores = scores
        self.is_probability = is_probability
        self.groups = groups
        self.confidence = confidence
        self.notes = notes
        self.model = model
        self.versions = versions
        self.films = films
        self.patients = self.metrics = self.threshold = self.threshold_origin = None
        self.confusion = self.labels = self.subgroups = self.errors = None
        self.error_images = self.hits = self.called = None
        self.created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")

    @property
    def n_images(self):
        """Number of films."""
        return len(self.y)

    @property
    def n_patients(self):
        """Number of patients, None where they were not given."""
        return None if self.patients is None else len(self.patients)

    @property
    def fingerprint(self):
        """Digest of labels, patients and films."""
        return split_digest(self)

    @property
    def prevalence(self):
        """Share of positive films of two classes, else None."""
        return float(np.mean(self.y)) if self.kind == "binary" else None

    def __repr__(self):
        return f"<EvaluationReport {self.name!r} on {self._where()}: {self._headline()}>"

    def _where(self):
        patients = "" if self.n_patients is None else f" of {self.n_patients} patients"
        return f"{self.split or 'films'} ({self.n_images} films{patients})"

    def _headline(self):
        metric = self.metrics.index[0]
        return f"{TITLES.get(metric, metric)} {format_interval(self.metrics.iloc[0])}"

    def __str__(self):
        lines = [f"{self.name} on {self._where()}"]
        lines.append(f"Intervals: {self.confidence:.0%}. Split fingerprint: {self.fingerprint}")
        if self.kind == "binary":
            lines.append(
                f"Positive: {self.names[1]}, {self.prevalence:.1%} of the films. Threshold "
                f"{self.threshold:.4g} ({self.threshold_origin})."
            )
        lines += [f"Note: {note}" for note in self.notes]
        lines.append("")
        width = max(len(TITLES.get(name, name)) for name in self.metrics.index)
        for name, row in self.metrics.iterrows():
            lines.append(f"  {TITLES.get(name, name):<{width}}  {format_interval(row)}")
        for title, table in (
            ("Films by class (rows) and prediction (columns)", self.confusion),
            ("Labels", self.labels),
            ("Subgroups", None if self.subgroups is None else short_table(self.subgroups)),
        ):
            if table is not None:
                lines += ["", title, table.to_string(float_format="{:.3f}".format)]
        return "\n".join(lines)

    def _repr_html_(self):
        try:
            pyplot("EvaluationReport")
        except ImportError as error:
            return fragment(report_body(self, pictures=False, note=str(error)))
        return fragment(report_body(self))

    def scalars(self):
        """Return the figures as one flat dict, as trackers of experiments take them.

        Returns
        -------
        dict of str to float
            Each metric, with `_low` and `_high`; those that do not exist are left out.
        """
        out = {}
        for name, row in self.metrics.iterrows():
            for end, key in (("estimate", name), ("low", f"{name}_low"), ("high", f"{name}_high")):
                if np.isfinite(row[end]):
                    out[key] = float(row[end])
        return out

    def to_frame(self):
        """Return the report as one row.

        Returns
        -------
        DataFrame of shape (1, n_columns)
            Columns split, fingerprint, counts, threshold, and every metric with `_low` and
            `_high`; indexed by the model's name.
        """
        return pd.DataFrame([self._row()], index=pd.Index([self.name], name="model"))

    def _row(self):
        row = {
            "split": self.split,
            "fingerprint": self.fingerprint,
            "n_images": self.n_images,
            "n_patients": self.n_patients,
            "prevalence": self.prevalence,
            "threshold": self.threshold,
        }
        for name, limits in self.metrics.iterrows():
            row |= {
                name: limits["estimate"],
                f"{name}_low": limits["low"],
                f"{name}_high": limits["high"],
            }
        return row

    def to_dict(self):
        """Return the report as plain Python objects; no film, score or patient is in it.

        Returns
        -------
        dict
            What :meth:`to_json` writes.
        """
        tables = {
            name: None if table is None else _records(table)
            for name, table in (("labels", self.labels), ("subgroups", self.subgroups))
        }
        metrics = {name: _plain(row.to_dict()) for name, row in self.metrics.iterrows()}
        confusion = None if self.confusion is None else self.confusion.to_numpy().tolist()
        return _plain(
            {
                "name": self.name,
                "split": self.split,
                "fingerprint": self.fingerprint,
                "created": self.created,
                "kind": self.kind,
                "names": self.names,
                "n_images": self.n_images,
                "n_patients": self.n_patients,
                "prevalence": self.prevalence,
                "threshold": self.threshold,
                "threshold_origin": self.threshold_origin,
                "confidence": self.confidence,
                "metrics": metrics,
                "confusion": confusion,
                **tables,
                "notes": list(self.notes),
                "model": self.model,
                "versions": self.versions,
            }
        )

    def to_json(self, path=None):
        """Write the report as JSON.

        Parameters
        ----------
        path : path-like, default=None
            The file; None only returns the text.

        Returns
        -------
        str
            Strict JSON; figures that do not exist are null.
        """
        text = json.dumps(self.to_dict(), indent=2, allow_nan=False)
        if path is not None:
            with replacing(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        return text

    def to_html(self, path):
        """Write the report as one HTML file that holds its pictures and needs nothing else.

        Parameters
        ----------
        path : path-like
            The file.
        """
        write_page(path, f"{self.name}: evaluation", report_body(self))

    def plot(self, *, figure=None):
        """Draw the curves.

        For two classes: ROC and precision-recall with the operating point, calibration, and the
        scores of both classes. Otherwise: ROC curves, and the AUC of each class or label with
        its interval.

        Parameters
        ----------
        figure : Figure, default=None
            An empty figure to draw in; None makes one.

        Returns
        -------
        Figure
            The figure.
        """
        draw = draw_binary if self.kind == "binary" else draw_labels
        return draw(self, figure=figure)


def _records(table):
    return [_plain(row) for row in table.reset_index().to_dict(orient="records")]


def _plain(value):
    """Turn NumPy's numbers into Python's and NaN into None."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not np.isfinite(value) else value
