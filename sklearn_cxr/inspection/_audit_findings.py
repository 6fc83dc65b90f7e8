"""What the checks of an audit work on, and where they write what they find."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

SEVERITIES = ("error", "warning", "info")
FINDING_COLUMNS = ["severity", "check", "n_images", "n_sets", "message", "advice"]
IMAGE_COLUMNS = ["finding", "check", "set", "row", "file", "patient", "label", "split", "detail"]


@dataclass
class Evidence:
    """All that is known about the films when the checks run.

    Parameters
    ----------
    n : int
        Number of films.

    paths : list of str or None
        Their files.

    measures : dict of ndarray
        What `measure` returned, and ``upright`` and ``turned``.

    usable : ndarray of shape (n,), dtype bool
        Films with pixels that can be looked at.

    problems : dict of int to tuple of (str, str)
        What is the matter with the others.

    files : DataFrame or None
        What the headers say.

    labels : Labels or None
        The labels.

    patients : ndarray of shape (n,), dtype int64, or None
        Number of the patient.

    patient_ids : ndarray of object or None
        Their ids.

    splits : list of tuple
        What `read_splits` returned.

    frame : DataFrame or None
        Table beside the films.

    identical : ndarray of shape (n,), dtype int64
        Number of the set of identical films, -1 for none.

    near : ndarray of shape (n,), dtype int64
        Number of the set of nearly identical films, -1 for none.

    similarity : ndarray of shape (n,)
        Greatest correlation within that set.
    """

    n: int
    paths: list | None
    measures: dict
    usable: np.ndarray
    problems: dict
    files: pd.DataFrame | None
    labels: object
    patients: np.ndarray | None
    patient_ids: np.ndarray | None
    splits: list
    frame: pd.DataFrame | None
    identical: np.ndarray
    near: np.ndarray
    similarity: np.ndarray

    def column(self, name):
        """Values of a column of the frame, or None where there is none with any value."""
        if self.frame is None or name not in self.frame.columns:
            return None
        values = self.frame[name].reset_index(drop=True)
        return None if values.isna().all() else values

    def units(self):
        """Return the patient of each film as a number; a film of an unknown one is alone."""
        alone = np.arange(self.n)
        if self.patients is None:
            return alone
        return np.where(self.patients >= 0, self.patients, len(self.patient_ids) + alone)

    def label_text(self):
        """Label of each film in words."""
        return self._absent() if self.labels is None else self.labels.text

    def patient_text(self):
        """Patient of each film."""
        if self.patients is None:
            return self._absent()
        ids = np.append(self.patient_ids.astype(object), "unknown")
        return ids[self.patients]

    def split_text(self):
        """Part of the first split that each film is in."""
        if not self.splits:
            return self._absent()
        codes, names, _ = self.splits[0]
        return np.array([*names, ""], dtype=object)[codes]

    def _absent(self):
        return np.full(self.n, None, dtype=object)


@dataclass
class Findings:
    """Findings in the order in which they are made.

    Parameters
    ----------
    evidence : Evidence
        What the checks see.
    """

    evidence: Evidence
    rows: list = field(default_factory=list)
    images: list = field(default_factory=list)
    not_checked: list = field(default_factory=list)

    def add(self, severity, check, message, advice, *, films=None, sets=None, detail=None):
        """Write down a finding.

        Parameters
        ----------
        severity : {"error", "warning", "info"}
            How bad it is.

        check : str
            Name of the check.

        message : str
            What was found.

        advice : str
            What can be done.

        films : ndarray of int or bool, or None, default=None
            Films concerned; None where a finding is about the whole set.

        sets : ndarray of shape (n,) or None, default=None
            Number of the set of films that belong together.

        detail : sequence of shape (n,) or None, default=None
            What is to be said about each film.
        """
        evidence = self.evidence
        rows = np.empty(0, np.intp)
        if films is not None:
            films = np.asarray(films)
            rows = np.flatnonzero(films) if films.dtype == bool else films
        number = None
        if sets is not None:
            rows = rows[np.argsort(sets[rows], kind="stable")]
            number = len(np.unique(sets[rows]))
        finding = len(self.rows)
        self.rows.append((severity, check, len(rows), number, message, advice))
        texts = (evidence.patient_text(), evidence.label_text(), evidence.split_text())
        for row in rows:
            self.images.append(
                (
                    finding,
                    check,
                    -1 if sets is None else int(sets[row]),
                    int(row),
                    None if evidence.paths is None else str(evidence.paths[row]),
                    *(text[row] for text in texts),
                    "" if detail is None else str(detail[row]),
                )
            )

    def tables(self):
        """Return the findings, worst first, and the films concerned.

        Returns
        -------
        findings, images : DataFrame
            The tables.
        """
        findings = pd.DataFrame(self.rows, columns=FINDING_COLUMNS)
        findings["n_sets"] = findings["n_sets"].astype("Int64")
        rank = findings["severity"].map(SEVERITIES.index)
        order = np.argsort(rank.to_numpy(int), kind="stable")
        findings = findings.iloc[order]
        images = pd.DataFrame(self.images, columns=IMAGE_COLUMNS)
        images["finding"] = np.argsort(order)[images["finding"].to_numpy(np.intp)]
        return findings.reset_index(drop=True), images


def plural(count, word):
    """Return a count with its noun."""
    return f"{count} {word}{'' if count == 1 else 's'}"
