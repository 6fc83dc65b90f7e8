"""Look at a data set before anything is fitted on it."""

import os
from numbers import Integral

import numpy as np
import pandas as pd

from sklearn_cxr.inspection import _html
from sklearn_cxr.inspection._audit_associations import ONE_VALUE, associate
from sklearn_cxr.inspection._audit_checks_films import check_films, is_blank
from sklearn_cxr.inspection._audit_checks_relations import add_associations, check_relations
from sklearn_cxr.inspection._audit_duplicates import identical_groups, near_groups
from sklearn_cxr.inspection._audit_films import Films, file_facts
from sklearn_cxr.inspection._audit_findings import Evidence, Findings
from sklearn_cxr.inspection._audit_measures import compare_with_typical, measure
from sklearn_cxr.inspection._audit_report import AuditReport, chosen_films
from sklearn_cxr.inspection._audit_tables import read_groups, read_labels, read_splits
from sklearn_cxr.utils._sklearn import Interval, StrOptions, validate_params

_MEASURED = (
    "mean_intensity",
    "contrast",
    "used_range",
    "border_share",
    "marker_score",
    "spine_contrast",
)


@validate_params(
    {
        "frame": [pd.DataFrame, None],
        "metadata": ["array-like"],
        "raise_on": [StrOptions({"error", "warning"}), None],
        "value_range": [tuple, list, None],
        "image_shape": [tuple, list, None],
        "cache_dir": [str, os.PathLike, None],
        "n_jobs": [Integral, None],
        "n_thumbnails": [Interval(Integral, 0, None, closed="left")],
        "verbose": ["verbose"],
    },
    prefer_skip_nested_validation=True,
)
def audit_dataset(
    images,
    y=None,
    groups=None,
    *,
    frame=None,
    splits=None,
    metadata=("view", "age", "sex"),
    raise_on=None,
    value_range=None,
    image_shape=None,
    cache_dir=None,
    n_jobs=None,
    n_thumbnails=12,
    verbose=0,
):
    """Look for what would make a study of these films invalid, or easier than it should be.

    Finds unreadable and blank films, and levels that are not used; copies, exact and near, and
    whether they cross patients, splits or labels; patients in several splits; mixed sizes, modes
    and bit depths; inverted and turned films and films unlike the others; borders and burned-in
    markers; clusters of brightness; and what goes along with the label. Nothing is changed or
    left out.

    Parameters
    ----------
    images : array-like of shape (n,), (n, 1), (n, h, w), (n, h, w, c) or (n, h*w)
        Paths of image files, or pixels. Paths also give what the files tell: size, mode, depth.

    y : array-like of shape (n,) or (n, n_labels) or None, default=None
        Classes, or a matrix of 0, 1 and NaN (unknown), whose columns a DataFrame names. Without
        labels what concerns them is not checked; the report says so.

    groups : array-like of shape (n,) or None, default=None
        Patient of each film.

    frame : DataFrame of shape (n, ...) or None, default=None
        Table beside the films, in their order.

    splits : array-like of shape (n,), dict, list of tuple or None, default=None
        The name of the part that each film is in; or row numbers or masks by name; or folds,
        each a tuple of parts, such as ``list(cv.split(X, y, groups))``. None takes the column
        ``split`` of `frame` where there is one.

    metadata : array-like of str, default=("view", "age", "sex")
        Columns of `frame` that are tested for an association with the label. Add the hospital,
        the device, the date. Columns that `frame` lacks, and those that cannot be tested, are
        listed as not checked.

    raise_on : {"error", "warning"} or None, default=None
        Raise if there is a finding of this severity, or of a worse one: for use in front of a
        fit.

    value_range : tuple of (float, float) or None, default=None
        Grey levels of black and white of pixels. None means 0..255 for uint8, 0..65535 for
        uint16 and [0, 1] for floats.

    image_shape : tuple of int or None, default=None
        ``(h, w)`` or ``(h, w, c)`` behind flat rows. None means a square.

    cache_dir : path-like or None, default=None
        Decode store of :class:`~sklearn_cxr.preprocessing.ImageReader`, for paths: a second
        audit, or a reader of size 224, then decodes nothing.

    n_jobs : int or None, default=None
        Number of threads that decode and measure films. None means 1 unless in a
        :obj:`joblib.parallel_config` context; -1 means all processors.

    n_thumbnails : int, default=12
        How many films of each finding the HTML report shows at most.

    verbose : int, default=0
        With 1, a progress bar while files are decoded.

    Returns
    -------
    AuditReport
        The findings, as text, tables and HTML.

    Raises
    ------
    AuditError
        If there is a finding of the severity `raise_on`; it holds the report.

    ValueError
        If there are no films, or `y`, `groups`, `frame` or `splits` do not fit them.

    See Also
    --------
    shortcut_probes : How far a model gets without looking at the lungs.
    sklearn_cxr.model_selection.check_patient_leakage : Checks a split only.

    Notes
    -----
    Copies are films with equal pixels after decoding. Near copies are found by a perceptual hash
    of 256 bits [1]_, of which at most 40 may differ, and confirmed by the correlation of their
    details; re-encoded, resized or brightened films are found, films that were cropped or turned
    by more than 1 % mostly not.

    Films of one patient and class count once in the tests of association, since they are no
    independent evidence. Numbers are compared by rank (Mann-Whitney, Kruskal-Wallis) with the
    rank-biserial correlation or the root of epsilon squared as the size of the effect, categories
    by chi-squared with Cramér's V, corrected for bias [2]_. Dates and ages in words are numbers;
    of more than 30 categories the 30 largest are compared with the rest; whole numbers of at most
    30 values may be codes and are tested both ways. An effect of 0.3 with an adjusted p-value
    below 0.001 is a warning; for brightness and contrast, which disease itself changes, one of
    0.5.

    Inverted films are known by a spine that is darker than the lungs. Laterals are not
    recognised as such: those that differ from the mean film come out as unlike the others.

    References
    ----------
    .. [1] C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions",
       Upper Austria University of Applied Sciences, 2010.
    .. [2] W. Bergsma, "A bias-correction for Cramér's V and Tschuprow's T", Journal of the
       Korean Statistical Society 42(3), 2013.

    Examples
    --------
    >>> from sklearn_cxr.datasets import make_chest_xrays
    >>> from sklearn_cxr.inspection import audit_dataset
    >>> films = make_chest_xrays(40, image_size=64, random_state=0)
    >>> films.images[5] = films.images[3]
    >>> report = audit_dataset(films.images, films.target, films.groups)
    >>> found = report.findings.set_index("check")
    >>> print(found.loc["identical_across_patients", "message"])
    1 set of films with the same pixels (2 films) under different patients: one person may bear
    several ids, and a split by patient then leaks.
    >>> report.images.query("check == 'identical_across_patients'")["row"].tolist()
    [3, 5]
    """
    caller = "audit_dataset"
    films = Films(
        images,
        caller=caller,
        image_shape=image_shape,
        value_range=value_range,
        cache_dir=cache_dir,
        n_jobs=n_jobs,
        verbose=verbose,
    )
    n = len(films)
    if n == 0:
        raise ValueError(f"{caller} got no films; at least one is needed.")
    if frame is not None and len(frame) != n:
        raise ValueError(f"{caller} got a frame of {len(frame)} rows for {n} films.")
    labels = read_labels(y, n, caller=caller)
    patients, ids = read_groups(groups, n, caller=caller)
    parts = read_splits(splits, frame, n, caller=caller)
    evidence = _gather(films, labels, patients, ids, parts, frame, n_jobs)
    report = _report(films, evidence, list(metadata), n_thumbnails)
    return report if raise_on is None else report.raise_for(raise_on)


def _gather(films, labels, patients, ids, parts, frame, n_jobs):
    """Read every film once and bring together what the checks need."""
    measures, keys, problems = {}, [], {}
    for rows, images, digests, troubles in films.batches():
        for name, values in measure(images, n_jobs).items():
            measures.setdefault(name, []).append(values)
        keys += digests
        problems.update({int(rows[i]): trouble for i, trouble in troubles.items()})
    measures = {name: np.concatenate(values) for name, values in measures.items()}
    readable = np.ones(len(films), dtype=bool)
    readable[list(problems)] = False
    files = None if films.paths is None else file_facts(films.paths, n_jobs=n_jobs)
    n_levels = _original_levels(films, files, measures)
    usable = readable & ~is_blank(measures["used_range"], n_levels)
    measures["upright"], measures["turned"] = compare_with_typical(
        measures["thumb"], measures["spine_contrast"], usable
    )
    near, similarity = near_groups(measures["fingerprint"], measures["thumb"], keys, usable)
    return Evidence(
        n=len(films),
        paths=films.paths,
        measures=measures,
        usable=usable,
        problems=problems,
        files=files,
        labels=labels,
        patients=patients,
        patient_ids=ids,
        splits=parts,
        frame=frame,
        identical=identical_groups(keys, usable),
        near=near,
        similarity=similarity,
    )


def _original_levels(films, files, measures):
    """Put the used range before the reduction to 8 bits in place; return the number of levels."""
    if files is None:
        measures["used_range"] = films.used_range
        return np.full(len(films), films.n_levels)
    deep = files["used_range"].notna().to_numpy()
    measures["used_range"][deep] = files["used_range"].to_numpy()[deep]
    return np.where(deep, 2.0 ** files["bit_depth"].fillna(8).to_numpy(float), 256)


def _report(films, evidence, metadata, n_thumbnails):
    findings = Findings(evidence)
    cluster = check_films(findings)
    check_relations(findings)
    facts = _facts(evidence, cluster)
    variables = _variables(evidence, facts, metadata, findings)
    associations = _associations(variables, evidence, metadata, findings)
    add_associations(findings, associations)
    found, shown = findings.tables()
    return AuditReport(
        findings=found,
        images=shown,
        facts=facts,
        associations=associations,
        not_checked=findings.not_checked,
        n_images=evidence.n,
        n_patients=None if evidence.patients is None else len(evidence.patient_ids),
        thumbnails=_thumbnails(films, shown, n_thumbnails),
        n_thumbnails=n_thumbnails,
    )


def _facts(evidence, cluster):
    """Table of what was measured on each film; missing where there is no film."""
    facts = pd.DataFrame(
        {
            name: np.where(evidence.usable, evidence.measures[name], np.nan)
            for name in (*_MEASURED, "upright")
        }
    ).rename(columns={"upright": "correlation_with_mean"})
    if cluster is not None:
        facts["brightness_cluster"] = cluster
    facts["identical_set"] = evidence.identical
    facts["near_identical_set"] = evidence.near
    if evidence.files is not None:
        facts = pd.concat([facts, evidence.files.drop(columns=["content", "used_range"])], axis=1)
        facts.insert(0, "file", [str(path) for path in evidence.paths])
    return facts


def _variables(evidence, facts, metadata, findings):
    """Columns that are tested against the label."""
    names = ["mean_intensity", "contrast", "border_share", "marker_score", "brightness_cluster"]
    if evidence.files is not None:
        names += ["file_size", "width", "height", "format", "mode", "bit_depth", "photometric"]
    variables = facts[[name for name in names if name in facts]].copy()
    if evidence.files is not None:
        variables["aspect_ratio"] = facts["width"] / facts["height"]
    absent = [name for name in metadata if evidence.column(name) is None]
    for name in metadata:
        if name not in absent:
            variables[name] = evidence.column(name)
    if absent:
        findings.not_checked.append(f"{', '.join(absent)}: not in the frame, or empty")
    return variables


def _associations(variables, evidence, metadata, findings):
    """Test the variables, and say which of them could not be tested."""
    left_out = {}
    table = associate(variables, evidence.labels, evidence.patients, left_out)
    why = {}
    for name, reason in left_out.items():
        # What was measured and is the same in all films cannot go along with anything.
        if name in metadata or reason != ONE_VALUE:
            why.setdefault(reason, []).append(name)
    for reason, names in why.items():
        findings.not_checked.append(f"association with the label of {', '.join(names)}: {reason}")
    return table


def _thumbnails(films, shown, n_thumbnails):
    """JPEG files by row number, of the films that the report shows."""
    rows = np.unique(chosen_films(shown, n_thumbnails)["row"].to_numpy(np.intp))
    if not len(rows):
        return {}
    images, _, problems = films.read(rows)
    return {
        int(row): _html.jpeg(image)
        for i, (row, image) in enumerate(zip(rows, images, strict=True))
        if i not in problems
    }
