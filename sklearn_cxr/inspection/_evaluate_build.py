"""The measurements behind an evaluation."""

import platform
import warnings

import numpy as np
import pandas as pd
import sklearn
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import average_precision_score, balanced_accuracy_score, brier_score_loss

from sklearn_cxr._version import __version__
from sklearn_cxr.exceptions import PatientLeakageError
from sklearn_cxr.inspection._display_base import generator
from sklearn_cxr.inspection._display_errors import find_errors
from sklearn_cxr.inspection._evaluate_report import EvaluationReport
from sklearn_cxr.inspection._evaluate_scores import check_binary, check_scores, refuse_strange
from sklearn_cxr.inspection._evaluate_text import calibration_bins
from sklearn_cxr.inspection._subgroups import (
    auc_or_nan,
    choose_columns,
    measure_parts,
    parts_of_calls,
    share_or_nan,
)
from sklearn_cxr.metrics import (
    bootstrap_interval,
    calibration_error_interval,
    multilabel_report,
    nan_roc_auc_score,
    operating_point,
)
from sklearn_cxr.model_selection._groups import encode_groups
from sklearn_cxr.utils._ids import plain_id

CALLER = "evaluate"


def build_report(
    y,
    scores,
    *,
    groups,
    train_groups,
    frame,
    columns,
    name,
    split,
    threshold,
    label_names,
    n_errors,
    pictures,
    files,
    films,
    confidence,
    transform,
    n_resamples,
    random_state,
    model,
):
    """Measure and put a report together; the parameters are those of `evaluate`."""
    check_scores(scores.values, CALLER)
    codes, patients, notes = _check_patients(groups, train_groups, len(y))
    names = _names(scores, label_names)
    sampling = {"groups": codes, "confidence": confidence, "n_resamples": n_resamples}
    sampling["random_state"] = generator(random_state).randint(2**31 - 1)
    if frame is not None:
        columns = choose_columns(frame, columns, len(y), CALLER)
    elif columns is not None:
        raise ValueError(f"{CALLER} got columns={list(columns)} and no frame; pass frame=.")
    report = EvaluationReport(
        name=name,
        split=split,
        kind=scores.kind,
        names=names,
        y=y,
        scores=scores.values,
        is_probability=scores.is_probability,
        groups=codes,
        confidence=confidence,
        notes=notes,
        model=model,
        versions=_versions(),
        films=films,
    )
    report.patients, report.transform = patients, transform
    fill = {"binary": _fill_binary, "multiclass": _fill_classes, "multilabel": _fill_labels}
    fill[scores.kind](report, scores, threshold, sampling)
    if frame is not None and columns:
        report.subgroups = _subgroups(report, scores, frame, columns)
    if n_errors:
        _fill_errors(report, n_errors, pictures, files, groups)
    return report


def _check_patients(groups, train_groups, n):
    """Numbers of the patients, their ids, and what the reader has to know of them."""
    if groups is None:
        if train_groups is not None:
            raise ValueError(
                f"{CALLER} got train_groups and no groups; pass the patients of these films too."
            )
        note = (
            "Patients were not given: every film counts as a patient of its own. Where patients "
            "have several films, the intervals are too narrow."
        )
        return None, None, [note]
    codes, patients = encode_groups(groups, n, caller=CALLER)
    if len(patients) < 2:
        raise ValueError(
            f"{CALLER} got films of {len(patients)} patient; expected at least two, since one "
            "tells nothing about others."
        )
    if train_groups is not None:
        seen = encode_groups(train_groups, len(train_groups), caller=CALLER)[1]
        shared = sorted(set(patients) & set(seen), key=str)
        if shared:
            raise PatientLeakageError(
                f"{CALLER} got {len(shared)} of {len(patients)} patients that the model has "
                f"learned from, such as {shared[0]!r}. Judge it on films of others."
            )
        _refuse_other_spellings(patients, seen)
    return codes, patients, []


def _refuse_other_spellings(patients, seen):
    """Raise if ids differ in type, zeros or spaces only, such as 12, "12" and "00012"."""
    written = {plain_id(patient): patient for patient in seen}
    alike = [patient for patient in patients if plain_id(patient) in written]
    if alike:
        raise PatientLeakageError(
            f"{CALLER} got {len(alike)} patients such as {alike[0]!r} in groups that look like "
            f"ids such as {written[plain_id(alike[0])]!r} in train_groups. Write both in one way, "
            "so that the same patient has the same id; where they are different patients, put a "
            "letter before the ids of one side."
        )


def _names(scores, label_names):
    """Names of classes or labels, positive last where there are two."""
    if label_names is None:
        return [str(name) for name in scores.classes]
    given = [str(name) for name in label_names]
    if len(given) != len(scores.classes):
        raise ValueError(
            f"{CALLER} got {len(given)} label_names for {len(scores.classes)} classes or labels; "
            "expected a name for each."
        )
    return given[::-1] if scores.swapped else given


def _versions():
    return {
        "sklearn_cxr": __version__,
        "scikit-learn": sklearn.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _table(rows):
    """Make the table of figures: estimate, low and high of each."""
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["estimate", "low", "high"])
    return table.rename_axis("metric").astype(float)


def _settle_threshold(report, scores, threshold):
    """Set threshold, where it comes from, and the films it calls; choosing it here is told."""
    origin, called = "given", None
    if threshold is None:
        threshold, origin, called = scores.threshold, scores.threshold_origin, scores.called
    elif isinstance(threshold, tuple) and not hasattr(threshold, "threshold"):
        point = operating_point(report.y, report.scores, target=threshold, groups=report.groups)
        origin = f"chosen on these films for {threshold[0]} {threshold[1]:g}"
        threshold = point.threshold
        report.notes.append(
            f"The threshold was {origin}: sensitivity, specificity and all that depends on it "
            "are flattered. Choose it on other patients to know what to expect."
        )
    elif hasattr(threshold, "threshold"):
        threshold, origin = threshold.threshold, "an operating point found beforehand"
    if threshold is None:
        raise ValueError(
            f"{CALLER} got scores of unknown origin and no threshold; pass threshold=."
        )
    report.threshold, report.threshold_origin = float(threshold), origin
    report.called = by_score = report.scores >= report.threshold
    if called is None:
        return
    report.called, n_other = called, int(np.sum(called != by_score))
    if n_other:
        report.notes.append(
            f"Films count as the estimator's predict calls them, which for {n_other} of them is "
            f"not what a threshold of {threshold:.4g} would call them."
        )


def _fill_binary(report, scores, threshold, sampling):
    """Measure a classifier of two classes."""
    report.y = y = check_binary(report.y, scores.classes, CALLER)
    _settle_threshold(report, scores, threshold)
    score, codes, confidence = report.scores, report.groups, report.confidence
    called = report.called
    rows = {"roc_auc": auc_or_nan(y, score, codes, confidence, report.transform)}
    rows["average_precision"] = _bootstrapped(report, average_precision_score, y, score, sampling)
    for name, hits, among in (
        ("accuracy", called == (y == 1), np.ones(len(y), dtype=bool)),
        ("sensitivity", called, y == 1),
        ("specificity", ~called, y == 0),
        ("ppv", y == 1, called),
        ("npv", y == 0, ~called),
    ):
        part = None if codes is None else codes[among]
        rows[name] = share_or_nan(hits[among], part, confidence)
    if report.is_probability:
        rows["calibration_error"] = calibration_error_interval(
            y, score, n_bins=calibration_bins(len(y)), strategy="quantile", **sampling
        )
        rows["brier"] = _bootstrapped(report, brier_score_loss, y, score, sampling)
    report.metrics = _table({name: tuple(limits)[:3] for name, limits in rows.items()})
    report.confusion = _confusion(y, called.astype(int), report.names, [0, 1])


def _bootstrapped(report, metric, y, score, sampling):
    """Return a metric with its interval, without it where a class has one patient only."""
    patients = np.arange(len(y)) if report.groups is None else report.groups
    few = [code for code in np.unique(y) if len(np.unique(patients[y == code])) < 2]
    if not few:
        return bootstrap_interval(metric, y, score, **sampling)
    names = ", ".join(report.names[code] for code in few)
    note = (
        f"There is one patient (or film of an unknown patient) only of {names}: figures that "
        "depend on how such patients differ have no interval."
    )
    if note not in report.notes:
        report.notes.append(note)
    return float(metric(y, score)), np.nan, np.nan


def _confusion(y, predicted, names, classes):
    counts = [[int(np.sum((y == t) & (predicted == p))) for p in classes] for t in classes]
    rows = pd.Index(names, name="class")
    return pd.DataFrame(counts, index=rows, columns=pd.Index(names, name="predicted"))


def _refuse_threshold(scores, threshold):
    if threshold is not None:
        raise ValueError(
            f"{CALLER} got threshold={threshold!r} for a {scores.kind} classifier; one threshold "
            "is for two classes. Judge one class against the others to use it."
        )


def _fill_classes(report, scores, threshold, sampling):
    """Measure a classifier of several classes: one against the others, and the shares right."""
    _refuse_threshold(scores, threshold)
    classes, y = np.asarray(scores.classes, dtype=object), np.asarray(report.y, dtype=object)
    refuse_strange(y, scores.classes, CALLER)
    codes = np.arange(len(classes))
    report.y = y = (y[:, None] == classes).argmax(axis=1)
    predicted = report.scores.argmax(axis=1) if scores.called is None else scores.called
    report.labels, rows = _label_table(report, (y[:, None] == codes).astype(float))
    rows["accuracy"] = share_or_nan(predicted == y, report.groups, report.confidence)
    rows["balanced_accuracy"] = tuple(
        _bootstrapped(report, balanced_accuracy_score, y, predicted, sampling)
    )[:3]
    report.metrics = _table(rows)
    report.confusion = _confusion(y, predicted, report.names, codes)
    report.hits = predicted == y


def _fill_labels(report, scores, threshold, sampling):
    """Measure a classifier of several labels, some of them unknown."""
    _refuse_threshold(scores, threshold)
    if report.y.shape != report.scores.shape:
        raise ValueError(
            f"{CALLER} got y of shape {report.y.shape} and scores of shape "
            f"{report.scores.shape}; expected a column per label in both."
        )
    report.labels, rows = _label_table(report, report.y.astype(float))
    report.metrics = _table(rows)


def _label_table(report, Y):
    """Return the table of labels, and the means as the first rows of the other table."""
    labels = multilabel_report(
        Y,
        report.scores,
        label_names=report.names,
        groups=report.groups,
        confidence=report.confidence,
        transform=report.transform,
    )
    # By column: a whole row of integers and floats would turn NaN into NA.
    mean = {name: float(labels[name].iloc[-1]) for name in labels.columns[4:]}
    rows = {"mean_roc_auc": (mean["roc_auc"], mean["roc_auc_low"], mean["roc_auc_high"])}
    rows["mean_average_precision"] = (mean["average_precision"], np.nan, np.nan)
    return labels.rename_axis("label"), rows


def _subgroups(report, scores, frame, columns):
    """Make the table of subgroups of whatever the classifier is."""
    codes, confidence = report.groups, report.confidence
    if report.kind == "binary":
        return parts_of_calls(
            report.y,
            report.scores,
            report.called,
            frame=frame,
            columns=columns,
            codes=codes,
            confidence=confidence,
            transform=report.transform,
        )

    def measure(chosen):
        part = None if codes is None else codes[chosen]
        row = {"n_images": int(chosen.sum())}
        row["n_patients"] = np.nan if part is None else len(np.unique(part))
        if report.kind == "multiclass":
            limits = share_or_nan(report.hits[chosen], part, confidence)
            row.update(zip(("accuracy", "accuracy_low", "accuracy_high"), limits, strict=True))
        else:
            limits = _mean_auc(report, chosen, part)
            names = ("mean_roc_auc", "mean_roc_auc_low", "mean_roc_auc_high", "n_labels")
            row.update(zip(names, limits, strict=True))
        return row

    return measure_parts(frame, columns, None, measure)


def _mean_auc(report, chosen, codes):
    """Mean AUC of the labels in a part, its interval, and of how many labels it is."""
    Y, P = report.y[chosen].astype(float), report.scores[chosen]
    with warnings.catch_warnings():
        # Small parts lack labels and patients: the table shows that as NaN and in n_labels.
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        if codes is not None and len(np.unique(codes)) < 2:
            each = nan_roc_auc_score(Y, P, average=None)
            return nan_roc_auc_score(Y, P), np.nan, np.nan, int(np.isfinite(each).sum())
        labels = multilabel_report(
            Y, P, groups=codes, confidence=report.confidence, transform=report.transform
        )
    mean = (labels[f"roc_auc{end}"].iloc[-1] for end in ("", "_low", "_high"))
    return *mean, int(labels["roc_auc"].iloc[:-1].notna().sum())


def _fill_errors(report, n_errors, pictures, files, groups):
    if report.kind != "binary":
        raise ValueError(
            f"{CALLER} got n_errors={n_errors} for a {report.kind} classifier; the gallery of "
            "errors is for two classes."
        )
    report.errors = find_errors(
        report.y,
        report.scores,
        called=report.called,
        n_errors=n_errors,
        groups=None if report.groups is None else report.patients[report.groups],
        files=files,
    )
    rows = report.errors["row"].to_numpy()
    report.error_images = pictures(rows) if len(rows) else None
