"""Patients drawn with replacement."""

import numpy as np
import pandas as pd

# A class of 20 patients is absent from one resample of 5e8; with fewer it may be met.
_SAFE_HOLDERS = 20


def patient_counts(n_patients, strata, n_resamples, random_state, chunk):
    """Yield how often each patient is drawn, a few resamples at a time.

    Parameters
    ----------
    n_patients : int
        Number of patients.

    strata : list of ndarray, or None
        Numbers of the patients that are drawn among each other, as many as there are. None for
        all together.

    n_resamples : int
        Number of resamples.

    random_state : RandomState instance
        The generator; what it draws does not depend on `chunk`.

    chunk : int
        Greatest number of resamples at a time.

    Yields
    ------
    ndarray of shape (n_patients, n), dtype=float64
        Counts, one column per resample.
    """
    strata = [np.arange(n_patients)] if strata is None else strata
    for first in range(0, n_resamples, chunk):
        counts = np.empty((min(chunk, n_resamples - first), n_patients))
        for row in counts:
            drawn = [
                stratum[random_state.randint(len(stratum), size=len(stratum))]
                for stratum in strata
            ]
            row[:] = np.bincount(np.concatenate(drawn), minlength=n_patients)
        yield np.ascontiguousarray(counts.T)


def patient_strata(classes, codes, n_patients, *, stratify, caller):
    """Put each patient into the stratum of the rarest class that it has images of.

    Parameters
    ----------
    classes : array-like of shape (n_samples,)
        Class of each image, without missing ones.

    codes : ndarray of shape (n_samples,), dtype=int64 or None
        Number of each image's patient; None for one patient per image.

    n_patients : int
        Number of patients.

    stratify : {"auto"} or bool
        Whether there are strata; "auto" where a resample might lack a class.

    caller : str
        What the user called, for the error messages.

    Returns
    -------
    list of ndarray, or None
        Numbers of the patients in each stratum.

    Raises
    ------
    ValueError
        If a class has one patient; with ``stratify=True`` also if a stratum has one.
    """
    if stratify is False:
        return None
    numbers, names = pd.factorize(np.asarray(classes))
    codes = np.arange(len(numbers)) if codes is None else codes
    pairs = pd.DataFrame({"patient": codes, "class": numbers}).drop_duplicates()
    holders = np.bincount(pairs["class"], minlength=len(names))
    if stratify == "auto" and holders.min() >= _SAFE_HOLDERS:
        return None
    # Common classes are written first, so that the rarest one stays.
    order = np.argsort(-holders[pairs["class"]], kind="stable")
    stratum = np.empty(n_patients, dtype=np.int64)
    stratum[pairs["patient"].to_numpy()[order]] = pairs["class"].to_numpy()[order]
    strata = [np.flatnonzero(stratum == number) for number in range(len(names))]
    for name, members, held in zip(names, strata, holders, strict=True):
        if held == 1 or (len(members) == 1 and stratify is True):
            shown = getattr(name, "item", lambda name=name: name)()
            others = "" if held == 1 else " and no rarer one"
            raise ValueError(
                f"{caller} got one patient with the class {shown!r}{others}; expected at least 2 "
                "to resample from, since how much they differ cannot be seen in one."
            )
    strata = [members for members in strata if len(members)]
    # One patient alone would never be left out: it is drawn among those of the largest stratum.
    single = [members for members in strata if len(members) == 1]
    strata = sorted((members for members in strata if len(members) > 1), key=len)
    rest = np.sort(np.concatenate([*strata[-1:], *single]))
    return [*strata[:-1], rest]
