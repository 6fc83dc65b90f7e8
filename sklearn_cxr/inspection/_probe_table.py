"""Areas under the curve of the shortcut probes, and the verdicts on them."""

import numpy as np
import pandas as pd

from sklearn_cxr.metrics import roc_auc_interval

MODEL = "your model"
_BLIND = {"border", "outside_lungs", "metadata"}
_SEEN = {
    "border": "outer 15 % of each side",
    "outside_lungs": "all but lungs and mediastinum",
    "thumbnail": "8 x 8 pixels",
    "histogram": "grey levels without places",
    "metadata": "files and metadata",
    MODEL: "what you give it",
}
# Below, even the better intervals are not to be relied upon.
_FEWEST = 10
COLUMNS = ["probe", "sees", "label", "auc", "low", "high", "share_of_model", "verdict"]


def probe_table(scores, labels, patients, *, threshold, confidence):
    """Area under the curve of each probe, with its interval by patient.

    Parameters
    ----------
    scores : dict of ndarray of shape (n, k)
        Score of each film for each class, or for each label, by probe.

    labels : Labels
        The labels.

    patients : ndarray of shape (n,), dtype int64
        Number of the patient.

    threshold : float
        AUC from which on a probe lights up.

    confidence : float
        Level of the intervals.

    Returns
    -------
    DataFrame
        A row for each probe and class (the second one of two), or label.
    """
    rows = []
    for label, positive, column in _questions(labels):
        areas = {}
        for name, values in scores.items():
            areas[name] = _area(positive, values[:, column], patients, confidence)
        enough = enough_patients(positive, patients)
        model = areas.get(MODEL, (np.nan,) * 3)[0]
        for name, (auc, low, high) in areas.items():
            share = (auc - 0.5) / (model - 0.5) if model > 0.5 else np.nan
            verdict = _verdict(name, auc, low, threshold) if enough else undecided(name)
            rows.append((name, _SEEN.get(name, ""), label, auc, low, high, share, verdict))
    return pd.DataFrame(rows, columns=COLUMNS)


def _questions(labels):
    """Yield the name of each class or label, what is positive (NaN: unknown), and its column."""
    if len(labels.names) > 1:
        for column, (name, classes) in enumerate(zip(labels.names, labels.classes, strict=True)):
            codes = labels.codes[:, column]
            one = classes.index(1) if 1 in classes else -2
            yield name, np.where(codes < 0, np.nan, codes == one), column
        return
    codes, classes = labels.codes[:, 0], labels.classes[0]
    for column in range(1 if len(classes) == 2 else 0, len(classes)):
        yield str(classes[column]), (codes == column).astype(float), column


def _area(positive, score, patients, confidence):
    known = ~np.isnan(positive) & ~np.isnan(score)
    for value in (0, 1):
        # An interval takes two patients on each side.
        if len(np.unique(patients[known & (positive == value)])) < 2:
            return np.nan, np.nan, np.nan
    found = roc_auc_interval(
        positive[known].astype(int),
        score[known],
        groups=patients[known],
        confidence=confidence,
        transform="logit",
    )
    return found.estimate, found.low, found.high


def enough_patients(positive, patients):
    """Tell whether each side has patients enough for a verdict.

    Parameters
    ----------
    positive : ndarray of shape (n,)
        1, 0 and, where unknown, NaN.

    patients : ndarray of shape (n,)
        Patient of each film.

    Returns
    -------
    bool
        Whether.
    """
    return all(len(np.unique(patients[positive == value])) >= _FEWEST for value in (0, 1))


def undecided(name):
    """Return the verdict on a probe with too few patients; a model gets none anyway."""
    return "" if name == MODEL else "unknown"


def _verdict(name, auc, low, threshold):
    if name == MODEL:
        return ""
    if np.isnan(auc) or np.isnan(low):
        return "unknown"
    if low <= threshold:
        return "quiet"
    return "shortcut" if name in _BLIND else "coarse cue"
