"""What an audit found, to be read, filtered, shown and kept."""

import textwrap

import numpy as np
import pandas as pd

from sklearn_cxr.exceptions import AuditError
from sklearn_cxr.inspection import _html
from sklearn_cxr.inspection._audit_findings import SEVERITIES

_WIDTH = 99
_PLURALS = {"error": "errors", "warning": "warnings", "info": "notes"}
_SHOWN_ASSOCIATIONS = 25


def chosen_films(images, n_thumbnails):
    """Choose the films that stand for each finding.

    Parameters
    ----------
    images : DataFrame
        The films behind the findings.

    n_thumbnails : int
        How many at most.

    Returns
    -------
    DataFrame
        Rows of `images`: whole sets from the first on, or films evenly spread over the rows.
    """
    chosen = [images.iloc[:0]]
    for _, part in images.groupby("finding", sort=False):
        if (part["set"] < 0).all():
            places = np.linspace(0, len(part) - 1, min(n_thumbnails, len(part)))
            chosen.append(part.iloc[np.unique(places.round().astype(int))])
            continue
        ends = np.cumsum(part.groupby("set", sort=False).size())
        fitting = ends[ends <= n_thumbnails].max() if (ends <= n_thumbnails).any() else 0
        chosen.append(part.iloc[: fitting or n_thumbnails])
    return pd.concat(chosen)


class AuditReport:
    """Findings of an audit.

    Made by :func:`audit_dataset`. ``print`` shows it as text, a notebook as HTML.

    Parameters
    ----------
    findings : DataFrame
        One row for each finding, worst first: severity ("error": an evaluation on these films is
        not valid; "warning": a likely fault or risk; "info": worth knowing), check, n_images,
        n_sets, message, advice.

    images : DataFrame
        The films behind the findings, a row for each finding and film: finding (its row in
        `findings`), check, set (number of the set of copies, -1 for none), row, file, patient,
        label, split, detail.

    facts : DataFrame of shape (n, ...)
        What was measured on each film.

    associations : DataFrame
        What goes along with the label: a row for each variable and label, strongest first.

    not_checked : list of str
        What could not be looked at, and why.

    n_images : int
        Number of films.

    n_patients : int or None, default=None
        Number of patients; None where they are not known.

    thumbnails : dict or None, default=None
        JPEG files by row number.

    n_thumbnails : int, default=12
        How many films of each finding are shown at most.

    See Also
    --------
    audit_dataset : Makes it.

    Examples
    --------
    >>> from sklearn_cxr.datasets import make_chest_xrays
    >>> from sklearn_cxr.inspection import AuditReport, audit_dataset
    >>> films = make_chest_xrays(20, image_size=64, random_state=0)
    >>> report = audit_dataset(films.images, films.target, films.groups)
    >>> isinstance(report, AuditReport), report.counts["error"]
    (True, 0)
    """

    def __init__(
        self,
        findings,
        images,
        facts,
        associations,
        not_checked,
        n_images,
        n_patients=None,
        thumbnails=None,
        n_thumbnails=12,
    ):
        self.findings = findings
        self.images = images
        self.facts = facts
        self.associations = associations
        self.not_checked = not_checked
        self.n_images = n_images
        self.n_patients = n_patients
        self.thumbnails = thumbnails
        self.n_thumbnails = n_thumbnails

    @property
    def counts(self):
        """Number of findings by severity."""
        found = self.findings["severity"].value_counts()
        return {severity: int(found.get(severity, 0)) for severity in SEVERITIES}

    @property
    def title(self):
        """One line that says how it stands."""
        who = "" if self.n_patients is None else f" of {self.n_patients} patients"
        counts = ", ".join(
            f"{n} {s if n == 1 and s != 'info' else 'note' if n == 1 else _PLURALS[s]}"
            for s, n in self.counts.items()
        )
        return f"Audit of {self.n_images} films{who}: {counts}"

    def __repr__(self):
        return f"<AuditReport: {self.title[9:]}>"

    def __str__(self):
        lines = [self.title]
        for row in self.findings.itertuples():
            indent = " " * 10
            lines.append("")
            lines.append(f"{row.severity.upper():<10}{row.check}")
            for text in (row.message, f"-> {row.advice}"):
                lines += textwrap.wrap(
                    text, _WIDTH, initial_indent=indent, subsequent_indent=indent
                )
        if self.not_checked:
            lines += ["", "Not checked"]
            lines += [f"          {text}" for text in self.not_checked]
        return "\n".join(lines)

    def raise_for(self, severity="error"):
        """Raise if there are findings of a severity, or of a worse one.

        Parameters
        ----------
        severity : {"error", "warning"}, default="error"
            From which severity on.

        Returns
        -------
        self : AuditReport
            The report, if it is good enough.

        Raises
        ------
        AuditError
            Names the findings; its attribute ``report`` holds the report.
        """
        if severity not in SEVERITIES[:2]:
            raise ValueError(f"Got severity={severity!r}; expected 'error' or 'warning'.")
        bad = SEVERITIES[: SEVERITIES.index(severity) + 1]
        found = self.findings[self.findings["severity"].isin(bad)]
        if len(found):
            listed = "\n".join(
                f"- {row.severity}, {row.check}: {row.message} {row.advice}"
                for row in found.itertuples()
            )
            error = AuditError(
                f"The audit of {self.n_images} films has {len(found)} finding"
                f"{'' if len(found) == 1 else 's'} of severity {' or '.join(bad)}:\n{listed}"
            )
            error.report = self
            raise error
        return self

    def to_html(self, path):
        """Write the report as one file of HTML that needs no other.

        Parameters
        ----------
        path : path-like
            The file; an older one is replaced.

        Returns
        -------
        self : AuditReport
            The report.
        """
        _html.write_page(path, self.title, self._body(pictures=True))
        return self

    def _repr_html_(self):
        return _html.fragment(self._body(pictures=False))

    def _body(self, *, pictures):
        parts = [f"<h1>{_html.escape(self.title)}</h1>", self._overview()]
        if pictures:
            shown = chosen_films(self.images, self.n_thumbnails)
            parts += [self._films(row, shown) for row in self.findings.itertuples()]
        parts += [self._association_table(), self._fact_table()]
        if self.not_checked:
            items = "".join(f"<li>{_html.escape(text)}</li>" for text in self.not_checked)
            parts.append(f"<h2>Not checked</h2><ul>{items}</ul>")
        return "\n".join(part for part in parts if part)

    def _overview(self):
        if not len(self.findings):
            return "<p>Nothing was found.</p>"
        shown = pd.DataFrame(
            {
                "severity": [_html.badge(s) for s in self.findings["severity"]],
                "check": self.findings["check"].str.replace("_", " "),
                "films": pd.array([n or None for n in self.findings["n_images"]], dtype="Int64"),
                "finding": [
                    f"{_html.escape(row.message)}<br><span class='muted'>"
                    f"{_html.escape(row.advice)}</span>"
                    for row in self.findings.itertuples()
                ],
            }
        )
        return _html.table(shown, raw=("severity", "finding"))

    def _films(self, finding, shown):
        """Thumbnails of one finding, copies side by side."""
        rows = shown[shown["finding"] == finding.Index]
        rows = rows[rows["row"].isin(list(self.thumbnails or {}))]
        if not len(rows) or finding.check == "association":
            return ""
        sets = []
        alone = rows["set"] < 0
        for number, part in [*rows[~alone].groupby("set"), *rows[alone].groupby("row")]:
            figures = "".join(self._figure(row) for row in part.itertuples())
            sets.append(f'<div class="set" data-set="{number}">{figures}</div>')
        shown = len(rows)
        more = f" ({shown} of {finding.n_images} shown)" if shown < finding.n_images else ""
        name = _html.escape(finding.check.replace("_", " "))
        return (
            f"<h2>{_html.badge(finding.severity)} {name}{more}</h2>"
            f'<div class="films">{"".join(sets)}</div>'
        )

    def _figure(self, row):
        name = f"row {row.row}" if row.file is None else row.file.replace("\\", "/")
        name = name.rpartition("/")[2]
        lines = [f"<b>{_html.escape(name)}</b>"]
        for label, value in (
            ("row", None if row.file is None else row.row),
            ("patient", row.patient),
            ("label", row.label),
            ("split", row.split),
            ("", row.detail),
        ):
            if value is not None and value != "":
                lines.append(f"{label} {_html.escape(value)}".strip())
        image = _html.picture(self.thumbnails[row.row], alt=name)
        return f"<figure>{image}<figcaption>{'<br>'.join(lines)}</figcaption></figure>"

    def _association_table(self):
        if not len(self.associations):
            return ""
        columns = ["variable", "label", "effect", "effect_size", "p_adjusted", "n", "by_class"]
        shown = self.associations[columns].head(_SHOWN_ASSOCIATIONS)
        formats = {"effect_size": "{:.2f}", "p_adjusted": "{:.1g}"}
        names = {"effect_size": "size", "p_adjusted": "adjusted p", "by_class": "by class"}
        formats = {names[c]: f for c, f in formats.items()}
        more = len(self.associations) - len(shown)
        rest = f"<p class='muted'>{more} weaker ones are not shown.</p>" if more else ""
        return (
            "<h2>What goes along with the label</h2><p class='muted'>Films of one patient and "
            "class count once. P-values are adjusted after Benjamini and Hochberg. Sizes run from "
            "0 to 1.</p>" + _html.table(shown.rename(columns=names), formats=formats) + rest
        )

    def _fact_table(self):
        numbers = self.facts.select_dtypes("number").drop(
            columns=["identical_set", "near_identical_set"]
        )
        if not len(numbers.columns) or not len(numbers):
            return ""
        table = numbers.quantile([0, 0.05, 0.5, 0.95, 1]).T
        table.columns = ["least", "5 %", "median", "95 %", "most"]
        table.insert(0, "measured", [name.replace("_", " ") for name in numbers.columns])
        for column in table.columns[1:]:
            table[column] = table[column].astype(float)
        formats = dict.fromkeys(table.columns[1:], "{:,.5g}")
        return "<h2>What was measured</h2>" + _html.table(table, formats=formats)
