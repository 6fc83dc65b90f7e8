"""The page of an evaluation."""

import io

import numpy as np

from sklearn_cxr.inspection import _html as html
from sklearn_cxr.inspection._display_base import grey_levels
from sklearn_cxr.inspection._display_subgroups import draw_forest
from sklearn_cxr.inspection._evaluate_text import TITLES, short_table
from sklearn_cxr.utils._optional import import_optional

_DPI = 80


def _png(figure):
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=_DPI)
    return stream.getvalue()


def _new_figure(size):
    # A figure of its own, not pyplot's: a report must not open windows or be forgotten there.
    module = import_optional("matplotlib.figure", extra="plot", caller="EvaluationReport.to_html")
    return module.Figure(figsize=size, layout="constrained")


def _wide(content, alt):
    picture = html.picture(content, kind="png", alt=alt)
    return picture.replace("<img ", '<img style="max-width:100%;height:auto" ', 1)


def _plots(report, note):
    if note is not None:
        return f"<p class='muted'>Without pictures: {html.escape(note)}</p>"
    size = (11, 9.4)
    if report.kind != "binary":
        size = (12.5, max(5.2, 1.6 + 0.42 * len(report.names)))
    figure = report.plot(figure=_new_figure(size))
    return "<h2>Curves</h2>" + _wide(_png(figure), "ROC, precision-recall and calibration curves")


def _head(report):
    patients = "" if report.n_patients is None else f" of {report.n_patients} patients"
    text = f"<h1>{html.escape(report.name)}</h1><p>Judged on {report.n_images} films{patients}"
    text += f": {html.escape(report.split)}" if report.split else ""
    text += f". Intervals cover {report.confidence:.0%}.</p>"
    if report.kind == "binary":
        text += (
            f"<p>Positive is <b>{html.escape(report.names[1])}</b>, {report.prevalence:.1%} of "
            f"the films. Films with a score of {report.threshold:.4g} or more count as positive "
            f"(threshold: {html.escape(report.threshold_origin)}).</p>"
        )
    for note in report.notes:
        text += f"<p>{html.badge('warning')} {html.escape(note)}</p>"
    return text


def _metrics(report):
    table = report.metrics.reset_index()
    table["metric"] = [TITLES.get(name, name) for name in table["metric"]]
    formats = dict.fromkeys(("estimate", "low", "high"), "{:.3f}")
    return "<h2>Figures</h2>" + html.table(table, formats=formats)


def _confusion(report):
    if report.confusion is None:
        return ""
    table = report.confusion.reset_index()
    table.columns = ["films of", *(f"called {name}" for name in report.names)]
    return "<h2>Films by class and prediction</h2>" + html.table(table)


def _labels(report):
    if report.labels is None:
        return ""
    table = report.labels.reset_index()
    formats = {name: "{:.3f}" for name in table.columns if table[name].dtype.kind == "f"}
    formats |= {name: "{:.0f}" for name in table.columns if name.startswith("n_") or name == "n"}
    return "<h2>Labels</h2>" + html.table(table, formats=formats)


def _subgroups(report, pictures):
    if report.subgroups is None:
        return ""
    table = short_table(report.subgroups, digits=2).reset_index()
    formats = {"n_patients": "{:.0f}"}
    text = "<h2>Subgroups</h2><p class='muted'>Small parts have wide intervals, and among twenty "
    text += "parts one misses by chance.</p>"
    drawn = ("sensitivity", "specificity", "accuracy", "roc_auc", "mean_roc_auc")
    metrics = [m for m in drawn if m in report.subgroups]
    metrics = [m for m in metrics if report.kind != "binary" or m != "accuracy"]
    if metrics and pictures:
        figure = _new_figure((1.4 + 3.5 * len(metrics), 1.4 + 0.42 * len(report.subgroups)))
        axes = figure.subplots(1, len(metrics), squeeze=False)[0]
        draw_forest(axes, report.subgroups, metrics)
        text += _wide(_png(figure), "Figures of each part with their intervals")
    words = [name for name in table.columns if table[name].dtype.kind not in "iuf"]
    for name in words:
        table[name] = [f"<span class='cell'>{html.escape(value)}</span>" for value in table[name]]
    # Limits stay on the line of their estimate; a narrow window scrolls the table.
    style = "<style>.cxr .cell { white-space: nowrap; }</style>"
    return text + style + html.table(table, formats=formats, raw=words)


def _grey(image, levels):
    """Bring a film to 8 bits for a thumbnail."""
    image = image.mean(axis=2) if image.ndim == 3 else image
    low, high = levels
    return np.clip((image - low) * (255 / max(high - low, 1e-12)), 0, 255).astype(np.uint8)


def _errors(report):
    if report.errors is None or not len(report.errors):
        return ""
    levels = grey_levels(report.error_images)
    text = "<h2>Most confident errors</h2>"
    for kind in dict.fromkeys(report.errors["kind"]):
        text += f"<h3>{html.escape(kind)}s</h3><div class='films'>"
        for number in report.errors.index[report.errors["kind"] == kind]:
            error = report.errors.loc[number]
            lines = [f"score {error['score']:.3f}"]
            lines += [str(error[name]) for name in ("patient", "file") if name in error.index]
            thumbnail = html.jpeg(_grey(report.error_images[number], levels), side=192)
            picture = html.picture(thumbnail, alt=f"{kind}, row {error['row']}")
            caption = "<br>".join(html.escape(line) for line in lines)
            text += f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"
        text += "</div>"
    return text


def _provenance(report):
    versions = ", ".join(f"{name} {number}" for name, number in (report.versions or {}).items())
    text = "<h2>Where this comes from</h2><p class='muted'>"
    text += f"Made {html.escape(report.created)}. Fingerprint of labels, patients "
    text += "and films: "
    text += f"<code>{report.fingerprint}</code>. {html.escape(versions)}.</p>"
    if report.model:
        text += f"<pre style='white-space:pre-wrap'>{html.escape(report.model)}</pre>"
    return text


def report_body(report, *, pictures=True, note=None):
    """Write the page of a report.

    Parameters
    ----------
    report : EvaluationReport
        What is shown.

    pictures : bool, default=True
        Whether curves are drawn.

    note : str or None, default=None
        Why not.

    Returns
    -------
    str
        HTML that needs nothing from elsewhere.
    """
    return "".join(
        (
            _head(report),
            _metrics(report),
            _confusion(report),
            _plots(report, None if pictures else note),
            _labels(report),
            _subgroups(report, pictures),
            _errors(report),
            _provenance(report),
        )
    )
