"""Checks of what `make_chest_xrays` is asked for, and what follows for every class."""

from collections.abc import Mapping

import numpy as np

CLASSES = ("normal", "bacterial", "viral")
MARKERS = ("L", "R", "box")


def check_classes(classes):
    """Return the class names as a list of plain str."""
    names = list(classes)
    unknown = [name for name in names if not isinstance(name, str) or name not in CLASSES]
    if unknown or not names or len(set(names)) < len(names):
        raise ValueError(
            f"classes={classes!r}: expected one or more different names out of {CLASSES}."
        )
    return [str(name) for name in names]


def check_class_weight(class_weight, names):
    """Return the shares of the classes, which sum to 1."""
    if class_weight is None:
        return np.full(len(names), 1 / len(names))
    weights = _per_class(class_weight, names, "class_weight")
    if weights.shape != (len(names),) or (weights < 0).any() or weights.sum() <= 0:
        raise ValueError(
            f"class_weight={class_weight!r}: expected {len(names)} numbers of at least 0, one for "
            f"each of the classes {names}, not all of them 0."
        )
    return weights / weights.sum()


def check_severity(severity):
    """Return the lowest and the highest severity."""
    bounds = _numbers(severity, "severity")
    if bounds.ndim == 0:
        bounds = np.repeat(bounds, 2)
    if bounds.shape != (2,) or not 0 <= bounds[0] <= bounds[1] <= 1:
        raise ValueError(
            f"severity={severity!r}: expected a number in [0, 1] or a range (low, high) "
            "with 0 <= low <= high <= 1."
        )
    return float(bounds[0]), float(bounds[1])


def check_n_patients(n_patients, n_samples):
    """Return the number of patients."""
    if n_patients is None:
        return (n_samples + 1) // 2
    if n_patients > n_samples:
        raise ValueError(
            f"n_patients={n_patients} is more than n_samples={n_samples}: every patient has at "
            "least one image. Make more images or fewer patients."
        )
    return int(n_patients)


def check_marker(marker, confounding, names):
    """Return the probability of a marker for every class."""
    if isinstance(marker, Mapping):
        if confounding:
            raise ValueError(
                "marker as a dict already says how it is associated with the classes: leave "
                f"marker_confounding at 0, got {confounding}."
            )
        rates = _per_class(marker, names, "marker")
        if (rates < 0).any() or (rates > 1).any():
            raise ValueError(
                f"marker={marker!r}: expected a probability in [0, 1] for every class."
            )
        return rates
    if marker is None:
        if confounding:
            raise ValueError(
                f"marker_confounding={confounding} needs a marker: got marker=None, "
                "expected 'random', 'L', 'R' or 'box'."
            )
        return np.zeros(len(names))
    return _confounded_rates(confounding, names, "marker_confounding")


def check_view(view, confounding, names):
    """Return the probability of the AP view for every class."""
    if view == "mixed":
        return _confounded_rates(confounding, names, "view_confounding")
    if confounding:
        raise ValueError(f"view_confounding={confounding} needs view='mixed', got view={view!r}.")
    return np.full(len(names), 1.0 if view == "AP" else 0.0)


def _confounded_rates(confounding, names, what):
    if confounding and len(names) < 2:
        raise ValueError(
            f"{what}={confounding} needs two classes at least, got classes={names}: there is "
            "nothing to associate with."
        )
    healthy = "normal" if "normal" in names else names[0]
    return (
        np.array([1 - confounding if name == healthy else 1 + confounding for name in names]) / 2
    )


def _per_class(values, names, what):
    if isinstance(values, Mapping):
        if set(values) != set(names):
            raise ValueError(
                f"{what} names {sorted(map(str, values))}: "
                f"expected one number for each of the classes {sorted(names)}."
            )
        values = [values[name] for name in names]
    return _numbers(values, what)


def _numbers(values, what):
    try:
        numbers = np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what}={values!r}: expected numbers.") from error
    if not np.isfinite(numbers).all():
        raise ValueError(f"{what}={values!r}: expected finite numbers.")
    return numbers
