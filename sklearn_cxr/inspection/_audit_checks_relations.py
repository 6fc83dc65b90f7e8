"""Checks between films: copies, patients, labels, splits, and what goes along with the label."""

import numpy as np
import pandas as pd

from sklearn_cxr.inspection._audit_duplicates import crossing
from sklearn_cxr.inspection._audit_findings import plural
from sklearn_cxr.utils._ids import plain_id

_FEW_PATIENTS = 5
_IMBALANCE = 10
_OLDEST, _ADULT = 120, 18
_FRONTAL = {"PA", "AP"}
_SIGNIFICANT, _SURE, _NOTABLE, _STRONG = 0.05, 0.001, 0.1, 0.3
# Disease itself changes these; a moderate association is to be expected.
_CHANGED_BY_DISEASE = {"mean_intensity", "contrast", "brightness_cluster"}
_STRONG_FOR_DISEASE = 0.5


def check_relations(findings):
    """Run the checks between films."""
    _check_copies(findings)
    _check_patients(findings)
    _check_labels(findings)
    _check_metadata(findings)


def _cross(evidence, sets):
    """Find the sets of films that are spread over patients, splits and labels."""
    nothing = np.zeros(evidence.n, dtype=bool)
    patients, splits, labels = nothing, nothing.copy(), nothing.copy()
    if evidence.patients is not None:
        patients = crossing(sets, evidence.patients)
    for codes, _, _ in evidence.splits:
        splits |= crossing(sets, codes)
    if evidence.labels is not None:
        for column in evidence.labels.codes.T:
            labels |= crossing(sets, column)
    return patients, splits, labels


def _check_copies(findings):
    evidence = findings.evidence
    if evidence.patients is None:
        findings.not_checked.append(
            "patients in several splits, copies across patients: no groups"
        )
    if not evidence.splits:
        findings.not_checked.append("copies and patients across splits: no splits")
    if evidence.labels is None:
        findings.not_checked.append("labels, and what goes along with them: no y")
    content = None if evidence.files is None else evidence.files["content"].to_numpy(dtype=object)
    for sets, name, words in (
        (evidence.identical, "identical", "the same pixels"),
        (evidence.near, "near_identical", "nearly the same pixels"),
    ):
        if not (sets >= 0).any():
            continue
        exact = name == "identical"
        detail = None
        if not exact:
            detail = [f"correlation {value:.2f}" for value in evidence.similarity]
        elif content is not None:
            detail = np.where(
                _same_bytes(sets, content), "byte-identical file", "other bytes, same pixels"
            )
        patients, splits, labels = _cross(evidence, sets)
        _add_copies(findings, exact, name, words, sets, detail)
        for films, where, harm, advice in (
            (
                splits,
                "splits",
                "a model is tested on films that it was trained on",
                "Keep one film of each set, or put the whole set on one side.",
            ),
            (
                patients,
                "patients",
                "one person may bear several ids, and a split by patient then leaks",
                "Give the patients of a set one id.",
            ),
            (
                labels,
                "labels",
                "one of them must be wrong",
                "Have the films read again, or leave the sets out.",
            ),
        ):
            if films.any():
                count = len(np.unique(sets[films]))
                findings.add(
                    "error" if exact else "warning",
                    f"{name}_across_{where}",
                    f"{plural(count, 'set')} of films with {words} ({films.sum()} films) under "
                    f"different {where}: {harm}.",
                    advice,
                    films=films,
                    sets=sets,
                    detail=detail,
                )


def _add_copies(findings, exact, name, words, sets, detail):
    films = sets >= 0
    findings.add(
        "warning" if exact else "info",
        f"{name}_films",
        f"{plural(sets.max() + 1, 'set')} of films with {words}, {films.sum()} films in all.",
        "Keep one of each, or give all of a set one patient id."
        if exact
        else "Look at them: the same film in another format, or a retake.",
        films=films,
        sets=sets,
        detail=detail,
    )


def _same_bytes(sets, content):
    table = pd.DataFrame({"set": sets, "content": content})
    return (table.groupby("set")["content"].transform("nunique") == 1).to_numpy()


def _check_parts(findings):
    """Look for films and patients in several parts of a split, in all of the splits."""
    evidence = findings.evidence
    twice = [films for _, _, films in evidence.splits]
    shared = [np.empty(0, np.intp)] * len(twice)
    if evidence.patients is not None:
        shared = [
            np.flatnonzero(crossing(evidence.patients, codes)) for codes, *_ in evidence.splits
        ]
    for held, check, words, advice, sets in (
        (twice, "films_in_several_splits", "film", "Make the parts disjoint.", None),
        (
            shared,
            "patients_across_splits",
            "patient",
            "Split by patient: patient_train_test_split, or a cross-validation with groups.",
            evidence.patients,
        ),
    ):
        bad = [number for number, films in enumerate(held) if len(films)]
        if not bad:
            continue
        films = np.unique(np.concatenate(held))
        what = plural(len(films), words)
        if sets is not None:
            what = f"{plural(len(np.unique(sets[films])), words)} ({len(films)} films)"
        several = "" if len(held) == 1 else f" in {len(bad)} of {len(held)} splits"
        names = dict.fromkeys(name for number in bad for name in evidence.splits[number][1])
        findings.add(
            "error",
            check,
            f"{what} in several of the parts {', '.join(names)}{several}.",
            advice,
            films=films,
            sets=sets,
            detail=None if len(held) == 1 else _which_splits(held, evidence.n),
        )


def _which_splits(held, n):
    numbers = [[] for _ in range(n)]
    for number, films in enumerate(held):
        for film in films:
            numbers[film].append(str(number))
    return [f"split {', '.join(found)}" for found in numbers]


def _check_patients(findings):
    evidence = findings.evidence
    patients = evidence.patients
    _check_parts(findings)
    if patients is None:
        return
    missing = patients < 0
    if missing.any():
        findings.add(
            "error",
            "patients_missing",
            f"{plural(missing.sum(), 'film')} without a patient id.",
            "Give every film an id, one of its own where the patient is not known.",
            films=missing,
        )
    if len(evidence.patient_ids) < 2:
        findings.add(
            "error",
            "one_patient",
            f"{len(evidence.patient_ids)} patient: nothing can be split by patient.",
            "Check that groups holds one id for each patient.",
        )
    spellings = pd.Series([plain_id(patient) for patient in evidence.patient_ids], dtype=object)
    alike = np.flatnonzero(spellings.duplicated(keep=False))
    if len(alike):
        films = np.isin(patients, alike)
        findings.add(
            "warning",
            "patients_written_alike",
            f"{len(alike)} patient ids differ from others in zeros, spaces or type only, such as "
            f"{evidence.patient_ids[alike[0]]!r}, and count as different patients.",
            "Write the id of one patient in one way; put a letter before those of different ones.",
            films=films,
            sets=np.where(films, pd.factorize(spellings)[0][patients], -1),
        )
    if evidence.labels is not None and len(evidence.labels.names) == 1:
        films = crossing(patients, evidence.labels.codes[:, 0])
        if films.any():
            findings.add(
                "info",
                "patients_with_several_labels",
                f"{plural(len(np.unique(patients[films])), 'patient')} with films of several "
                "classes.",
                "Expected where films are labelled visit by visit; else a slip.",
                films=films,
                sets=patients,
            )


def _check_labels(findings):
    labels = findings.evidence.labels
    if labels is None:
        return
    single = len(labels.names) == 1
    shown = []
    for column, name in enumerate(labels.names):
        codes, classes = labels.codes[:, column], labels.classes[column]
        counts = np.bincount(codes[codes >= 0], minlength=len(classes))
        unknown = (codes < 0).sum()
        line = ", ".join(f"{c}: {n}" for c, n in zip(classes, counts, strict=True))
        shown.append(f"{name} {{{line}}}" + (f", unknown: {unknown}" if unknown else ""))
        if (counts > 0).sum() < 2:
            findings.add(
                "error" if single else "warning",
                "one_class",
                f"{name} has {(counts > 0).sum()} class: there is nothing to tell apart.",
                "Check y." if single else "Leave this label out.",
            )
        elif single and counts.max() > _IMBALANCE * counts.min():
            findings.add(
                "warning",
                "class_imbalance",
                f"The largest class of {name} has {counts.max() / counts.min():.0f} times as many "
                "films as the smallest.",
                "Judge by AUC or average precision, not by accuracy; see sklearn_cxr.imbalance.",
            )
        if findings.evidence.patients is not None:
            _check_patients_of_class(findings, name, codes, classes)
    findings.add("info", "class_balance", f"Films by class: {'; '.join(shown)}.", "None needed.")


def _check_patients_of_class(findings, name, codes, classes):
    patients = findings.evidence.patients
    for number, label in enumerate(classes):
        held = len(np.unique(patients[(codes == number) & (patients >= 0)]))
        if held < _FEW_PATIENTS:
            findings.add(
                "warning",
                "few_patients",
                f"Class {label} of {name} has {plural(held, 'patient')} only.",
                f"Fewer than {_FEW_PATIENTS} patients give neither folds nor an interval.",
                films=codes == number,
            )


def _check_metadata(findings):
    evidence = findings.evidence
    view = evidence.column("view")
    if view is not None:
        other = view.notna() & ~view.astype(str).str.upper().isin(_FRONTAL)
        if other.any():
            findings.add(
                "warning",
                "other_views",
                f"{plural(other.sum(), 'film')} whose view is neither PA nor AP: "
                f"{', '.join(sorted(view[other].astype(str).unique())[:5])}.",
                "Leave laterals out of a model of frontal films.",
                films=other.to_numpy(),
                detail=view.to_numpy(dtype=object),
            )
    age = evidence.column("age")
    if age is None or not pd.api.types.is_numeric_dtype(age):
        return
    odd = (age < 0) | (age > _OLDEST)
    if odd.any():
        findings.add(
            "warning",
            "implausible_age",
            f"{plural(odd.sum(), 'film')} with an age below 0 or above {_OLDEST} years.",
            "Set these ages to missing, and ask where they come from.",
            films=odd.to_numpy(),
            detail=age.to_numpy(),
        )
    young = (age < _ADULT) & ~odd
    grown = (age >= _ADULT) & ~odd
    if young.any() and grown.any():
        findings.add(
            "info",
            "children_and_adults",
            f"{plural(young.sum(), 'film')} of children and {grown.sum()} of adults.",
            "Look at the association of age with the label, and report both apart.",
        )


def p_text(p):
    """Return a p-value in words; one of 0 is only too small for a float."""
    return f"p = {p:.1g}" if p > 1e-300 else "p < 1e-300"


def add_associations(findings, table):
    """Turn notable associations into findings.

    Parameters
    ----------
    findings : Findings
        Where they go.

    table : DataFrame
        What `associate` returned.
    """
    for row in table.itertuples():
        if row.p_adjusted > _SIGNIFICANT or row.effect_size < _NOTABLE:
            continue
        strong = _STRONG_FOR_DISEASE if row.variable in _CHANGED_BY_DISEASE else _STRONG
        findings.add(
            "warning" if row.effect_size >= strong and row.p_adjusted < _SURE else "info",
            "association",
            f"{row.variable} goes along with {row.label}: {row.effect} {row.effect_size:.2f}, "
            f"{p_text(row.p_adjusted)}; {row.by_class}.",
            "A model may learn it in the place of disease: probe it with shortcut_probes.",
        )
