"""Means over several labels, some of them unknown, and a table of all."""

from numbers import Real

import numpy as np
import pandas as pd
from sklearn.exceptions import UndefinedMetricWarning

from sklearn_cxr.metrics._checks import check_multilabel, check_patients, label_columns
from sklearn_cxr.metrics._delong import interval_of_area, patient_sums, placements
from sklearn_cxr.metrics._interval import logit_interval, normal_interval
from sklearn_cxr.metrics._kernels import auc_kernel, average_precision_kernel
from sklearn_cxr.utils._sklearn import Interval as Range
from sklearn_cxr.utils._sklearn import StrOptions, _check_sample_weight, validate_params
from sklearn_cxr.utils._warn import warn

_PARAMETERS = {
    "Y": ["array-like", "sparse matrix"],
    "P": ["array-like", list],
    "average": [StrOptions({"macro", "weighted"}), None],
    "sample_weight": ["array-like", None],
}


@validate_params(_PARAMETERS, prefer_skip_nested_validation=True)
def nan_roc_auc_score(Y, P, *, average="macro", sample_weight=None):
    """Mean area under the ROC curve over labels, of which some are unknown for some images.

    Each label is judged on the images where it is known. A label with one class only has no
    area: it is left out of the mean, with a warning that names it.

    Parameters
    ----------
    Y : array-like of shape (n_samples, n_labels) or (n_samples,)
        0, 1 or NaN (unknown).

    P : array-like of the same shape, or list of arrays of shape (n_samples, 2)
        Scores of the positive class; or the list that ``predict_proba`` of scikit-learn's
        multilabel forests and neighbours answers.

    average : {"macro", "weighted"} or None, default="macro"
        Plain mean over the labels, mean weighted by the number of positive images, or one value
        per label.

    sample_weight : array-like of shape (n_samples,), default=None
        Weight of each image.

    Returns
    -------
    float or ndarray of shape (n_labels,)
        The mean, or the areas, NaN for a label with one class only.

    Raises
    ------
    ValueError
        If shapes differ, labels are others than 0, 1 and NaN, or scores are not finite.

    Warns
    -----
    UndefinedMetricWarning
        If a label has one class only among the images where it is known.

    See Also
    --------
    nan_roc_auc_scorer : The same as a scorer for a search.
    multilabel_report : All labels with intervals.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_cxr.metrics import nan_roc_auc_score
    >>> Y = np.array([[0, 1], [0, np.nan], [1, 0], [1, np.nan]])
    >>> P = np.array([[0.2, 0.6], [0.7, 0.1], [0.4, 0.3], [0.9, 0.9]])
    >>> nan_roc_auc_score(Y, P)
    0.875
    >>> nan_roc_auc_score(Y, P, average=None)
    array([0.75, 1.  ])
    """
    return _over_labels(auc_kernel, Y, P, average, sample_weight, caller="nan_roc_auc_score")


@validate_params(_PARAMETERS, prefer_skip_nested_validation=True)
def nan_average_precision_score(Y, P, *, average="macro", sample_weight=None):
    """Mean average precision over labels, of which some are unknown for some images.

    Each label is judged on the images where it is known. A label with one class only is left
    out of the mean, with a warning that names it. Unlike the area under the ROC curve, the
    average precision of a useless score is the prevalence, not 0.5.

    Parameters
    ----------
    Y : array-like of shape (n_samples, n_labels) or (n_samples,)
        0, 1 or NaN (unknown).

    P : array-like of the same shape, or list of arrays of shape (n_samples, 2)
        Scores of the positive class; or the list that ``predict_proba`` of scikit-learn's
        multilabel forests and neighbours answers.

    average : {"macro", "weighted"} or None, default="macro"
        Plain mean over the labels, mean weighted by the number of positive images, or one value
        per label.

    sample_weight : array-like of shape (n_samples,), default=None
        Weight of each image.

    Returns
    -------
    float or ndarray of shape (n_labels,)
        The mean, or the average precisions, NaN for a label with one class only.

    Raises
    ------
    ValueError
        If shapes differ, labels are others than 0, 1 and NaN, or scores are not finite.

    Warns
    -----
    UndefinedMetricWarning
        If a label has one class only among the images where it is known.

    See Also
    --------
    nan_average_precision_scorer : The same as a scorer for a search.
    multilabel_report : All labels at once.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_cxr.metrics import nan_average_precision_score
    >>> Y = np.array([[0, 1], [0, np.nan], [1, 0], [1, np.nan]])
    >>> P = np.array([[0.2, 0.6], [0.7, 0.1], [0.4, 0.3], [0.9, 0.9]])
    >>> nan_average_precision_score(Y, P, average=None).round(3)
    array([0.833, 1.   ])
    """
    caller = "nan_average_precision_score"
    return _over_labels(average_precision_kernel, Y, P, average, sample_weight, caller=caller)


def _over_labels(make, Y, P, average, sample_weight, *, caller):
    names = label_columns(Y)
    Y, P = check_multilabel(Y, P, caller=caller)
    weights = _check_sample_weight(sample_weight, P, dtype=np.float64)[:, None]
    values = np.array([_of_label(make, *column, weights) for column in zip(Y.T, P.T, strict=True)])
    _warn_about_undefined(np.isnan(values), names, caller)
    if average is None:
        return values
    shares = np.where(np.isnan(values), 0.0, 1.0)
    if average == "weighted":
        shares *= ((Y == 1) * weights).sum(axis=0)
    if not shares.any():
        return np.nan
    return float(np.average(np.nan_to_num(values), weights=shares))


def _of_label(make, label, score, weights):
    """Return the metric of one label, NaN if it has one class only."""
    known = ~np.isnan(label) & (weights[:, 0] > 0)
    if len(np.unique(label[known])) < 2:
        return np.nan
    return make(label == 1, score, known)(lambda rows: weights[rows])[0]


def _warn_about_undefined(undefined, names, caller):
    if undefined.any():
        shown = [repr(names[i]) if names else str(i) for i in np.flatnonzero(undefined)]
        fate = "their values are" if len(shown) > 1 else "its value is"
        warn(
            f"{caller}: among the images where the label is known there is one class only of "
            f"label {', '.join(shown)}; {fate} NaN and left out of the mean.",
            UndefinedMetricWarning,
        )


@validate_params(
    {
        "Y": ["array-like", "sparse matrix"],
        "P": ["array-like", list],
        "label_names": ["array-like", None],
        "groups": ["array-like", None],
        "confidence": [Range(Real, 0, 1, closed="neither")],
        "transform": [StrOptions({"logit"}), None],
    },
    prefer_skip_nested_validation=True,
)
def multilabel_report(Y, P, label_names=None, groups=None, *, confidence=0.95, transform="logit"):
    """Table of all labels: counts, prevalence, area under the ROC curve, average precision.

    Parameters
    ----------
    Y : array-like of shape (n_samples, n_labels) or (n_samples,)
        0, 1 or NaN (unknown).

    P : array-like of the same shape, or list of arrays of shape (n_samples, 2)
        Scores of the positive class; or the list that ``predict_proba`` of scikit-learn's
        multilabel forests and neighbours answers.

    label_names : array-like of shape (n_labels,), default=None
        Names of the labels. None stands for the columns of `Y` or `P` if one is a DataFrame,
        else for ``label 0``, ``label 1``, and so on.

    groups : array-like of shape (n_samples,), default=None
        Patient id of each image. None stands for one patient per image.

    confidence : float, default=0.95
        Level of the intervals, in (0, 1).

    transform : {"logit"} or None, default="logit"
        Scale on which the areas are taken as normally distributed, as in
        :func:`roc_auc_interval`: rare labels need the logit.

    Returns
    -------
    DataFrame of shape (n_labels + 1, 8)
        One row per label and the row ``mean``. The columns are ``n`` (images with a known
        label), ``n_patients`` of these, ``n_positive``, ``prevalence``, ``roc_auc``,
        ``roc_auc_low``, ``roc_auc_high`` and ``average_precision``. The row ``mean`` has the
        plain means over the labels with both classes and no counts. ``attrs["confidence"]`` is
        the level.

    Raises
    ------
    ValueError
        If shapes or lengths differ, labels are others than 0, 1 and NaN, scores are not finite,
        names are not one per label and all different, or there are fewer than two patients.

    Warns
    -----
    UndefinedMetricWarning
        If a label has one class only, or so few patients of a class that an interval is not
        defined. The cells are NaN.

    See Also
    --------
    roc_auc_interval : The interval of one label.
    nan_roc_auc_score : The mean alone.

    Notes
    -----
    The interval of the mean takes into account that the labels are of the same patients: what
    a patient contributes to the area of every label, as in Obuchowski's variance, is summed
    over the labels before it is squared.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_cxr.metrics import multilabel_report
    >>> rng = np.random.RandomState(0)
    >>> patients = np.repeat(np.arange(100), 2)
    >>> Y = np.repeat(rng.uniform(size=(100, 2)) < [0.3, 0.5], 2, axis=0).astype(float)
    >>> P = Y + rng.normal(size=(200, 2))
    >>> Y[:20, 1] = np.nan
    >>> report = multilabel_report(Y, P, label_names=["effusion", "mass"], groups=patients)
    >>> report[["n", "n_patients", "n_positive", "prevalence"]].round(3)
                 n  n_patients  n_positive  prevalence
    effusion   200         100          58       0.290
    mass       180          90          96       0.533
    mean      <NA>        <NA>        <NA>       0.412
    >>> report[["roc_auc", "roc_auc_low", "roc_auc_high"]].round(3)
              roc_auc  roc_auc_low  roc_auc_high
    effusion    0.747        0.672         0.809
    mass        0.749        0.668         0.815
    mean        0.748        0.695         0.794
    """
    caller = "multilabel_report"
    names = label_columns(Y) or label_columns(P)
    Y, P = check_multilabel(Y, P, caller=caller)
    names = _label_names(label_names, names, Y.shape[1], caller)
    codes, n_patients = check_patients(groups, len(Y), caller=caller)
    codes = np.arange(len(Y)) if codes is None else codes
    rows, contributions = [], []
    for label, score in zip(Y.T, P.T, strict=True):
        row, contribution = _report_row(label, score, codes, n_patients, confidence, transform)
        rows.append(row)
        contributions.append(contribution)
    table = pd.DataFrame(rows, index=names)
    _warn_about_undefined(table["roc_auc"].isna().to_numpy(), names, caller)
    _warn_about_intervals(table.index[[part is None for part in contributions]], table, caller)
    table.loc["mean"] = _mean_row(table, contributions, confidence, transform)
    counts = ["n", "n_patients", "n_positive"]
    table[counts] = table[counts].astype("Int64")
    table.attrs["confidence"] = confidence
    return table


def _label_names(given, columns, n_labels, caller):
    names = given if given is not None else columns
    names = [f"label {i}" for i in range(n_labels)] if names is None else [str(n) for n in names]
    if len(names) != n_labels or len({*names, "mean"}) != n_labels + 1:
        raise ValueError(
            f"{caller} got the label names {names} for {n_labels} labels; expected as many, all "
            "different and none of them 'mean', which is the last row's."
        )
    return names


def _report_row(label, score, codes, n_patients, confidence, transform):
    """Return the cells of one label and what each patient contributes to its area."""
    known = ~np.isnan(label)
    positive, score, codes = label[known] == 1, score[known], codes[known]
    row = {
        "n": int(known.sum()),
        "n_patients": len(np.unique(codes)),
        "n_positive": int(positive.sum()),
        "prevalence": positive.mean() if len(positive) else np.nan,
        **dict.fromkeys(["roc_auc", "roc_auc_low", "roc_auc_high", "average_precision"], np.nan),
    }
    if not 0 < positive.sum() < len(positive):
        return row, None
    weights = np.ones((len(positive), 1))
    row["average_precision"] = _of_label(average_precision_kernel, label[known], score, weights)
    row["roc_auc"], deviations = placements(positive, score)
    sums = patient_sums(positive, deviations, codes, n_patients)
    if min(sums[2]) < 2:
        return row, None
    own = np.unique(codes, return_inverse=True)[1]
    interval = interval_of_area(
        row["roc_auc"],
        positive,
        deviations,
        own,
        row["n_patients"],
        confidence,
        transform=transform,
    )
    row["roc_auc_low"], row["roc_auc_high"] = interval.low, interval.high
    # The factors of Obuchowski's two variances, shared out to the patients.
    return row, sum(np.sqrt(n / (n - 1)) * part for n, part in zip(sums[2], sums[:2], strict=True))


def _warn_about_intervals(without, table, caller):
    short = [name for name in without if not np.isnan(table.loc[name, "roc_auc"])]
    if len(short):
        warn(
            f"{caller}: fewer than 2 patients with positive, or with negative, images of label "
            f"{', '.join(map(repr, short))}; the interval, and that of the mean, is NaN.",
            UndefinedMetricWarning,
        )


def _mean_row(table, contributions, confidence, transform):
    row = table.mean()
    row[["n", "n_patients", "n_positive"]] = np.nan
    row["prevalence"] = table.loc[table["roc_auc"].notna(), "prevalence"].mean()
    defined = [part for part in contributions if part is not None]
    row[["roc_auc_low", "roc_auc_high"]] = np.nan
    if defined and len(defined) == table["roc_auc"].notna().sum():
        summed = np.mean(defined, axis=0)
        variance = float(summed @ summed)
        # Sums of patients that cancel out leave rounding: some 1e-17 each, squared.
        if variance < 1e-28:
            # No label has an error: then the mean is no surer than the least sure label.
            known = table[table["roc_auc"].notna()]
            row["roc_auc_low"] = known["roc_auc_low"].min(skipna=False)
            row["roc_auc_high"] = known["roc_auc_high"].max(skipna=False)
        elif transform == "logit":
            interval = logit_interval(row["roc_auc"], variance, confidence)
            row["roc_auc_low"], row["roc_auc_high"] = interval.low, interval.high
        else:
            interval = normal_interval(row["roc_auc"], variance, confidence, bounds=(0.0, 1.0))
            row["roc_auc_low"], row["roc_auc_high"] = interval.low, interval.high
    return row
