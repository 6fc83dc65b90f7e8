"""Checks of single films: can they be read, and do they look like the others."""

import os

import numpy as np

from sklearn_cxr.inspection._audit_clusters import two_clusters
from sklearn_cxr.inspection._audit_findings import plural
from sklearn_cxr.inspection._audit_measures import MARKER_LIMIT

_BLANK_SPREAD = 8  # grey levels of 256; even the flattest of 5,322 real films spans 100
_INVERTED_CONTRAST = -0.02
_TURNED_MARGIN, _TURNED_LEAST = 0.15, 0.4
_UNLIKE = 0.15
_WIDE_BORDER = 0.05
_COARSE = 64
_NARROW = 0.25
_NAMED = 3
_MANY_FILMS, _MANY_PATIENTS = 50, 3
_CLUSTERS_APART, _CLUSTER_SHARE, _CLUSTER_EVIDENCE = 2.0, 0.05, 10.0
_CLUSTER_LEVELS = 0.08


def check_films(findings):
    """Run the checks of single films; return the brightness cluster of each, or None."""
    _check_content(findings)
    if findings.evidence.files is None:
        findings.not_checked.append("file size, format, mode and bit depth: films are arrays")
    else:
        _check_headers(findings)
    _check_appearance(findings)
    _check_surroundings(findings)
    return _check_brightness(findings)


def _check_content(findings):
    evidence = findings.evidence
    reasons = np.full(evidence.n, "", dtype=object)
    kinds = np.full(evidence.n, "", dtype=object)
    for row, (kind, reason) in evidence.problems.items():
        kinds[row], reasons[row] = kind, reason
    for kind, words in (("unreadable", "cannot be read"), ("not_finite", "hold NaN or infinity")):
        films = kinds == kind
        if films.any():
            findings.add(
                "error",
                kind,
                f"{plural(films.sum(), 'film')} {words}: {_few_names(evidence, films)}.",
                "Leave them out with their labels and patients, or replace the files.",
                films=films,
                detail=reasons,
            )
    readable = np.array([not kind for kind in kinds], dtype=bool)
    blank = readable & ~evidence.usable
    if blank.any():
        findings.add(
            "error",
            "blank",
            f"{plural(blank.sum(), 'film')} of one grey level throughout: no film at all.",
            "Leave them out with their labels and patients.",
            films=blank,
        )
    _check_range(findings)


def _few_names(evidence, films):
    """Names of the first few films, or their rows where there are no files."""
    rows = np.flatnonzero(films)
    shown = [
        f"row {row}" if evidence.paths is None else os.path.basename(str(evidence.paths[row]))
        for row in rows[:_NAMED]
    ]
    more = len(rows) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _check_range(findings):
    evidence = findings.evidence
    used = evidence.measures["used_range"]
    # 14 bits in a file of 16 use exactly a quarter.
    narrow = evidence.usable & (used <= _NARROW)
    if narrow.any():
        findings.add(
            "warning",
            "unused_range",
            f"{plural(narrow.sum(), 'film')} whose grey levels span at most a quarter of the "
            f"range, {np.median(used[narrow]):.1%} in the middle: too dark or flat, or fewer bits "
            "than the file says, such as 12 in 16.",
            "Write files that fill their range, or say what white is: BitsPerSample of a TIFF, "
            "BitsStored of a DICOM file, value_range for arrays.",
            films=narrow,
            detail=[f"{share:.1%} of the range" for share in used],
        )


def is_blank(used_range, n_levels):
    """Tell films that hold one grey level only.

    Parameters
    ----------
    used_range : ndarray of shape (n,)
        From the least to the greatest level, as a share of the range.

    n_levels : ndarray of shape (n,)
        How many levels the range has. 10 bits in a file of 16 use little of it and are no blanks.

    Returns
    -------
    ndarray of shape (n,), dtype bool
        Which.
    """
    with np.errstate(invalid="ignore"):
        return used_range < _BLANK_SPREAD / np.maximum(n_levels, 256)


def _check_headers(findings):
    files = findings.evidence.files
    what = {
        "format": ("mixed_formats", "file formats"),
        "mode": ("mixed_modes", "colour modes"),
        "bit_depth": ("mixed_bit_depths", "bit depths"),
    }
    for column, (check, words) in what.items():
        counts = files[column].value_counts()
        if len(counts) > 1:
            listed = ", ".join(f"{_short(v)}: {c}" for v, c in counts.items())
            rare = files[column].notna() & (files[column] != counts.index[0])
            findings.add(
                "warning" if column == "bit_depth" else "info",
                check,
                f"Several {words}: {listed}.",
                "ImageReader brings them to one form. See whether they go along with the label.",
                films=rare.to_numpy(),
                detail=files[column].map(_short).to_numpy(),
            )
    sizes = files[["height", "width"]].dropna().astype(int)
    if len(sizes) and len(sizes.drop_duplicates()) > 1:
        low, high = sizes.min(), sizes.max()
        findings.add(
            "info",
            "mixed_sizes",
            f"{len(sizes.drop_duplicates())} different sizes, {low['height']} to "
            f"{high['height']} pixels high and {low['width']} to {high['width']} wide.",
            "Resizing hides the sizes but not all traces of them; see the associations.",
        )
    coarse = (files[["height", "width"]].min(axis=1) < _COARSE).to_numpy()
    if coarse.any():
        findings.add(
            "warning",
            "coarse",
            f"{plural(coarse.sum(), 'film')} with a side below {_COARSE} pixels.",
            "Look whether these are thumbnails.",
            films=coarse,
        )
    inverted = (files["photometric"] == "inverted").to_numpy()
    if inverted.any():
        findings.add(
            "info",
            "inverted_by_header",
            f"{plural(inverted.sum(), 'file')} stored with white as zero (MONOCHROME1).",
            "ImageReader inverts them. Other readers may not.",
            films=inverted,
        )


def _short(value):
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _check_appearance(findings):
    evidence = findings.evidence
    spine, upright = evidence.measures["spine_contrast"], evidence.measures["upright"]
    turned = evidence.measures["turned"]
    with np.errstate(invalid="ignore"):
        is_turned = (turned - upright > _TURNED_MARGIN) & (turned > _TURNED_LEAST)
        inverted = (spine < _INVERTED_CONTRAST) & ~is_turned & ~(upright > _UNLIKE)
        inverted &= np.isnan(upright) | (upright < -_UNLIKE)
        unlike = (upright < _UNLIKE) & ~is_turned & ~inverted
    several = np.isfinite(upright).sum() >= 3
    numbers = np.array([f"correlation {value:.2f}" for value in upright], dtype=object)
    contrast = np.array([f"middle minus sides {value:+.2f}" for value in spine], dtype=object)
    found = (
        (
            inverted & evidence.usable,
            "inverted",
            "Spine darker than the lungs in {}: the polarity is inverted.",
            "Invert them, or read DICOM files with ImageReader, which minds MONOCHROME1.",
            contrast,
        ),
        (
            is_turned & several,
            "turned",
            "Like the others only after a quarter or half turn: {}.",
            "Look at them; turn them back.",
            numbers,
        ),
        (
            unlike & several,
            "unlike_others",
            "Hardly like the mean film: {}. Laterals, other body parts, bad crops?",
            "Look at them. Frontal films rarely come out here, laterals often but not always.",
            numbers,
        ),
    )
    for films, check, message, advice, detail in found:
        if films.any():
            count = plural(films.sum(), "film")
            findings.add(
                "warning", check, message.format(count), advice, films=films, detail=detail
            )


def _check_surroundings(findings):
    evidence = findings.evidence
    n = evidence.usable.sum()
    if not n:
        return
    border = evidence.measures["border_share"]
    wide = evidence.usable & (border > _WIDE_BORDER)
    if wide.any():
        findings.add(
            "info",
            "borders",
            f"{plural(wide.sum(), 'film')} ({wide.sum() / n:.0%}) with black or flat borders of "
            f"more than {_WIDE_BORDER:.0%} of the area, at most {border[wide].max():.0%}.",
            "CropBorders takes them off.",
            films=wide,
            detail=[f"border {share:.0%}" for share in border],
        )
    score = evidence.measures["marker_score"]
    if np.isnan(score).all():
        findings.not_checked.append("burned-in markers: films have fewer than 112 pixels a side")
        return
    marked = evidence.usable & (score > MARKER_LIMIT)
    if marked.any():
        findings.add(
            "info",
            "markers",
            f"{plural(marked.sum(), 'film')} ({marked.sum() / n:.0%}) with something small and "
            "bright near an upper edge: letters, wires, clips.",
            "Harmless unless they go along with the label; shortcut_probes measures that.",
            films=marked,
            detail=[f"score {value:.2f}" for value in score],
        )


def _check_brightness(findings):
    evidence = findings.evidence
    rows = np.flatnonzero(evidence.usable)
    if len(rows) < _MANY_FILMS:
        findings.not_checked.append(f"brightness clusters: fewer than {_MANY_FILMS} films")
        return None
    values = evidence.measures["mean_intensity"][rows]
    units = evidence.units()[rows]
    if len(np.unique(units)) < _MANY_PATIENTS:
        findings.not_checked.append(f"brightness clusters: fewer than {_MANY_PATIENTS} patients")
        return None
    if np.ptp(values) < _CLUSTER_LEVELS:
        return None
    two = two_clusters(values, units)
    levels, apart = two.means, two.apart()
    evident = two.gain > _CLUSTER_EVIDENCE and np.ptp(levels) > _CLUSTER_LEVELS
    if not evident or apart < _CLUSTERS_APART or two.shares.min() < _CLUSTER_SHARE:
        return None
    member = two.is_lower(values)
    cluster = np.full(evidence.n, None, dtype=object)
    cluster[rows] = np.where(member, "dark", "bright")
    findings.add(
        "warning",
        "brightness_clusters",
        f"Films fall into two clusters of brightness: {member.sum()} dark (mean level "
        f"{levels[0]:.2f} of 1) and {(~member).sum()} bright ones ({levels[1]:.2f}), "
        f"{apart:.1f} pooled deviations apart.",
        "Perhaps two devices or two ways of export. See the associations; HistogramEqualizer "
        "or IntensityScaler evens them out.",
        films=rows[member],
    )
    return cluster
