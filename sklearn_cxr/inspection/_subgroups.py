"""How a classifier does in parts of the films: by age, sex, view, or any other column."""

from itertools import pairwise
from numbers import Real

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from sklearn_cxr.inspection._evaluate_scores import check_binary, check_scores, ordered_classes
from sklearn_cxr.metrics import roc_auc_interval
from sklearn_cxr.metrics._interval import share_interval
from sklearn_cxr.model_selection._groups import encode_groups
from sklearn_cxr.utils._sklearn import Interval, StrOptions, validate_params

COLUMNS = ("age", "sex", "view")
UNKNOWN = "unknown"
_AGE_EDGES = (0, 18, 40, 60, 80)
# A column of numbers with more values than this is cut into quarters.
_MOST_VALUES = 8
# More parts than this are no parts but ids or dates.
_MOST_PARTS = 30
_CALLER = "subgroup_report"


def share_or_nan(hits, codes, confidence):
    """Share of hits with its interval by patient; NaN where there is nothing to count."""
    if not len(hits):
        return np.nan, np.nan, np.nan
    n_patients = len(hits)
    if codes is not None:
        patients, codes = np.unique(codes, return_inverse=True)
        n_patients = len(patients)
    return tuple(share_interval(hits, codes, n_patients, confidence)[:3])


def auc_or_nan(y, score, codes, confidence, transform):
    """AUC with its interval: none without two patients of each class, no AUC without a class."""
    if len(np.unique(y)) < 2:
        return np.nan, np.nan, np.nan
    patients = np.arange(len(y)) if codes is None else codes
    if min(len(np.unique(patients[y == label])) for label in (0, 1)) < 2:
        return float(roc_auc_score(y, score)), np.nan, np.nan
    limits = roc_auc_interval(y, score, groups=codes, transform=transform, confidence=confidence)
    return tuple(limits[:3])


def _bin(values, edges):
    """Name the bin of each number: from an edge up to the next one, which is left out."""
    edges = np.asarray(edges, dtype=float)
    if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise ValueError(
            f"{_CALLER} got bins with the edges {edges.tolist()}; expected at least two numbers "
            "that ascend."
        )
    whole = (edges == np.floor(edges)).all()
    # Whole edges whole; else as few digits as tell them apart: dates and ids have many.
    digits = (n for n in range(6, 18) if len({f"{e:.{n}g}" for e in edges}) == len(edges))
    form = ".17g" if whole else f".{next(digits)}g"
    whole = whole and (values == np.floor(values)).all()
    names = []
    for low, high in pairwise(edges):
        last = f"-{high - 1:{form}}" if whole else f" to < {high:{form}}"
        names.append(f"{low:{form}}{last}")
    names = [f"< {edges[0]:{form}}", *names, f">= {edges[-1]:{form}}"]
    return np.searchsorted(edges, values, side="right"), names


def _refuse_many_values(known):
    """Raise on a column that names nearly every film for itself, such as ids or dates."""
    values = known.unique()
    if len(values) > _MOST_PARTS:
        raise ValueError(
            f"{_CALLER} got the column {known.name!r} with {len(values)} different values, such "
            f"as {values[0]!s}; expected at most {_MOST_PARTS} parts. Turn it into numbers and "
            "pass bins, or cut it beforehand, as with pandas.cut."
        )


def split_column(column, edges=None):
    """Cut the films by a column.

    Parameters
    ----------
    column : Series of shape (n,)
        Its values; missing ones make a part of their own.

    edges : array-like of float or None, default=None
        Edges of the bins of a column of numbers.

    Returns
    -------
    list of (str, ndarray of shape (n,), dtype bool)
        Name and films of each part that has films.
    """
    missing = column.isna().to_numpy()
    known = column[~missing]
    is_number = pd.api.types.is_numeric_dtype(known) and not pd.api.types.is_bool_dtype(known)
    if edges is None and is_number and column.name == "age":
        edges = _AGE_EDGES
    if edges is None and is_number and known.nunique() > _MOST_VALUES:
        edges = np.unique(np.quantile(known.to_numpy(dtype=float), [0.25, 0.5, 0.75]))
        edges = edges if len(edges) > 1 else None
    codes = np.full(len(column), -1)
    if edges is not None:
        if not is_number:
            raise ValueError(
                f"{_CALLER} got bins for the column {column.name!r}, which holds no numbers."
            )
        codes[~missing], names = _bin(known.to_numpy(dtype=float), edges)
    else:
        _refuse_many_values(known)
        names = sorted(known.unique(), key=lambda v: (isinstance(v, str), v))
        at = {value: code for code, value in enumerate(names)}
        codes[~missing] = [at[value] for value in known]
    parts = {}
    # Values that read alike are one part: 1 and "1", or a missing one and the word for it.
    for code, name in enumerate(names):
        parts[str(name)] = parts.get(str(name), False) | (codes == code)
    parts[UNKNOWN] = parts.pop(UNKNOWN, False) | missing
    return [(name, chosen) for name, chosen in parts.items() if chosen.any()]


def choose_columns(frame, columns, n, caller):
    """Check the frame and return the columns to cut by: those asked for, or the usual ones."""
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"{caller} got frame={type(frame).__name__}; expected a DataFrame.")
    if len(frame) != n:
        raise ValueError(
            f"{caller} got a frame of {len(frame)} rows for {n} films; expected a row per film."
        )
    if columns is None:
        return [name for name in COLUMNS if name in frame and frame[name].notna().any()]
    absent = [name for name in columns if name not in frame]
    if absent:
        raise ValueError(
            f"{caller} got columns={list(columns)}, of which the frame lacks {absent}; it has "
            f"{list(frame.columns)}."
        )
    return list(columns)


def _measure(y, score, called, codes, confidence, transform):
    """Count and measure some films: a row of the table."""
    rates = {
        "accuracy": (called == (y == 1), np.ones(len(y), dtype=bool)),
        "sensitivity": (called, y == 1),
        "specificity": (~called, y == 0),
    }
    row = {
        "n_images": len(y),
        "n_patients": np.nan if codes is None else len(np.unique(codes)),
        "n_positive": int(y.sum()),
    }
    for name, (hits, among) in rates.items():
        part = None if codes is None else codes[among]
        limits = share_or_nan(hits[among], part, confidence)
        row.update(zip((name, f"{name}_low", f"{name}_high"), limits, strict=True))
    limits = auc_or_nan(y, score, codes, confidence, transform)
    row.update(zip(("roc_auc", "roc_auc_low", "roc_auc_high"), limits, strict=True))
    return row


@validate_params(
    {
        "frame": [object],
        "columns": ["array-like", None],
        "threshold": [Interval(Real, None, None, closed="neither")],
        "bins": [dict, None],
        "confidence": [Interval(Real, 0, 1, closed="neither")],
        "transform": [StrOptions({"logit"}), None],
    },
    prefer_skip_nested_validation=True,
)
def subgroup_report(
    y,
    score,
    *,
    frame,
    columns=None,
    groups=None,
    threshold=0.5,
    pos_label=None,
    bins=None,
    confidence=0.95,
    transform="logit",
):
    """Count films and measure a classifier of two classes in parts of them.

    A model that is good on the whole can fail where it matters: in children, in women, in
    portable films. Small parts have wide intervals, which is why these stand beside every figure.

    Parameters
    ----------
    y : array-like of shape (n,)
        Class of each film, of two.

    score : array-like of shape (n,)
        Score or probability of the positive class.

    frame : DataFrame of shape (n, n_columns)
        What is known of the films, in their order.

    columns : array-like of str, default=None
        Columns to cut by; None takes "age", "sex" and "view" where the frame has them.

    groups : array-like of shape (n,), default=None
        Patient of each film. None takes every film as a patient of its own.

    threshold : float, default=0.5
        Films at or above it count as positive.

    pos_label : object, default=None
        Positive class; None takes the last of the two in order.

    bins : dict of str to array-like of float, default=None
        Edges of the bins of columns of numbers. None cuts age at 0, 18, 40, 60 and 80 years, and
        other numbers with more than eight values into quarters.

    confidence : float, default=0.95
        Coverage of the intervals, in (0, 1).

    transform : {"logit"} or None, default="logit"
        Scale of the intervals of the AUC, as in :func:`sklearn_cxr.metrics.roc_auc_interval`:
        small parts need the logit.

    Returns
    -------
    DataFrame
        A row for each part, indexed by column and value, all films first: n_images, n_patients,
        n_positive, and accuracy, sensitivity, specificity and roc_auc with `_low` and `_high`.
        Missing values make a part "unknown". NaN where a figure does not exist, such as the AUC
        of one class.

    Raises
    ------
    ValueError
        If lengths differ, a column is absent or has more than 30 different values that are no
        numbers, scores are not finite or one class is absent.

    Notes
    -----
    Intervals of shares are Wilson's [1]_ at the effective sample size, which the variance between
    patients leaves [2]_; those of the AUC are of :func:`sklearn_cxr.metrics.roc_auc_interval`.
    They are not corrected for the number of parts: among twenty, one misses by chance.

    References
    ----------
    .. [1] E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
       Journal of the American Statistical Association 22, 209-212, 1927.
    .. [2] J. N. K. Rao and A. J. Scott, "A simple method for the analysis of clustered binary
       data", Biometrics 48, 577-585, 1992.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from sklearn_cxr.inspection import subgroup_report
    >>> y = np.tile([0, 1], 50)
    >>> score = np.where(np.arange(100) < 80, 0.2 + 0.6 * y, 0.7)
    >>> frame = pd.DataFrame({"view": ["PA"] * 80 + ["AP"] * 20})
    >>> report = subgroup_report(y, score, frame=frame)
    >>> report[["n_images", "accuracy", "specificity"]]
                  n_images  accuracy  specificity
    column value
    all    all         100       0.9          0.8
    view   AP           20       0.5          0.0
           PA           80       1.0          1.0
    """
    y, score = check_classes_and_scores(y, score, pos_label, _CALLER)
    return parts_of_calls(
        y,
        score,
        score >= threshold,
        frame=frame,
        columns=columns,
        codes=None if groups is None else encode_groups(groups, len(y), caller=_CALLER)[0],
        bins=bins,
        confidence=confidence,
        transform=transform,
    )


def check_classes_and_scores(y, score, pos_label, caller):
    """Return 0/1 labels of two classes, and a finite score for each."""
    classes = ordered_classes(y, pos_label, caller)
    if len(classes) > 2:
        raise ValueError(
            f"{caller} got the classes {classes[:5]}; expected two. For one class against the "
            "others pass y == that class and its probability."
        )
    y = check_binary(y, classes if len(classes) == 2 else classes * 2, caller)
    score = check_scores(score, caller)
    if score.shape != y.shape:
        raise ValueError(
            f"{caller} got scores of shape {score.shape} for {len(y)} films; expected one score "
            "of the positive class per film."
        )
    return y, score


def parts_of_calls(
    y,
    score,
    called,
    *,
    frame,
    columns=None,
    codes=None,
    bins=None,
    confidence=0.95,
    transform="logit",
):
    """Make the table of films that are called positive by whatever rule.

    Parameters
    ----------
    y : ndarray of shape (n,), 0 or 1
        What the films show.

    score : ndarray of shape (n,)
        Score of the positive class.

    called : ndarray of shape (n,), dtype bool
        Which films are called positive.

    frame, columns, bins, confidence, transform
        As in `subgroup_report`.

    codes : ndarray of shape (n,), dtype int, or None
        Number of each film's patient.

    Returns
    -------
    DataFrame
        As `subgroup_report` returns it.
    """
    columns = choose_columns(frame, columns, len(y), _CALLER)

    def measure(chosen):
        part = None if codes is None else codes[chosen]
        return _measure(y[chosen], score[chosen], called[chosen], part, confidence, transform)

    return measure_parts(frame, columns, bins, measure)


def measure_parts(frame, columns, bins, measure):
    """Make the table of a figure for each part.

    Parameters
    ----------
    frame : DataFrame of shape (n, n_columns)
        What is known of the films.

    columns : list of str
        Columns to cut by.

    bins : dict or None
        Edges by column.

    measure : callable
        Takes a mask of films, returns a dict: a row of the table.

    Returns
    -------
    DataFrame
        Indexed by column and value.
    """
    unused = set(bins or {}) - set(columns)
    if unused:
        raise ValueError(
            f"{_CALLER} got bins for {sorted(unused)}, which it does not cut by; the columns are "
            f"{columns}."
        )
    parts = [("all", "all", np.ones(len(frame), dtype=bool))]
    for column in columns:
        edges = (bins or {}).get(column)
        series = frame[column].reset_index(drop=True).rename(column)
        parts += [(column, name, chosen) for name, chosen in split_column(series, edges)]
    index = pd.MultiIndex.from_tuples([part[:2] for part in parts], names=["column", "value"])
    return pd.DataFrame([measure(chosen) for *_, chosen in parts], index=index)
