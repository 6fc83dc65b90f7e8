"""What goes along with the label: tests between patients, with the size of the effect."""

import numpy as np
import pandas as pd
from scipy import stats

COLUMNS = [
    "variable",
    "label",
    "test",
    "n",
    "statistic",
    "p_value",
    "p_adjusted",
    "effect",
    "effect_size",
    "by_class",
]
ONE_VALUE = "one value only"
_MIN_UNITS = 8
_MAX_CATEGORIES = 30
_OTHER, _DATE = "all others", "date"
_SHOWN_CATEGORIES = 6


def associate(variables, labels, patients, left_out=None):
    """Test every variable against every label.

    Films of one patient are no independent evidence: they count once for each class, with the
    mean of a number and the commonest of several categories.

    Parameters
    ----------
    variables : DataFrame of shape (n, n_variables)
        Numbers, dates or categories; missing values are left out, and tested as such where
        there are some. Of more than 30 categories the largest 30 are compared with the rest.
        Whole numbers of at most 30 values may be codes: they are tested both ways, and the
        greater effect is kept with twice its p-value.

    labels : Labels or None
        The labels; without them the table is empty.

    patients : ndarray of shape (n,), dtype int64, or None
        Number of the patient, -1 where unknown.

    left_out : dict or None, default=None
        Gets the reason for each variable that could not be tested against any label.

    Returns
    -------
    DataFrame
        One row for each variable and label; p-values are adjusted after Benjamini and Hochberg.
    """
    if labels is None:
        return pd.DataFrame(columns=COLUMNS)
    rows = []
    unit = np.arange(len(variables))
    if patients is not None:
        unit = np.where(patients >= 0, patients, patients.max(initial=0) + 1 + unit)
    readings = {name: readings_of(variables[name]) for name in variables.columns}
    given = {name: _givenness(found[0]) for name, found in readings.items()}
    for variable, found in readings.items():
        reasons = []
        for column, label in enumerate(labels.names):
            target = labels.codes[:, column], unit, labels.classes[column]
            row = _strongest(found, *target)
            if isinstance(row, str):
                reasons.append(row)
            else:
                rows.append({"variable": str(variable), "label": label, **row})
            if given[variable] is not None:
                row = _test(given[variable], *target)
                if not isinstance(row, str):
                    rows.append({"variable": f"{variable} given", "label": label, **row})
        if left_out is not None and len(reasons) == len(labels.names):
            left_out[variable] = reasons[0]
    table = pd.DataFrame(rows, columns=COLUMNS)
    if len(table):
        table["p_adjusted"] = stats.false_discovery_control(table["p_value"].to_numpy(float))
    return table.sort_values("effect_size", ascending=False, kind="stable").reset_index(drop=True)


def readings_of(values):
    """Read a column as numbers, as words, or as both where its numbers may be codes.

    Parameters
    ----------
    values : Series of shape (n,)
        Numbers, dates, lengths of time, truth values or anything that can be written as words;
        ages such as "045Y" and dates in words are numbers where they have many values.

    Returns
    -------
    list of Series of shape (n,)
        float64, of dates the days since 1970; or object, of str. Missing is NaN or None.
    """
    values = pd.Series(values).reset_index(drop=True)
    if values.dtype == object or isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(object)
        values = values.where(values.notna(), np.nan).infer_objects()
    words = values.astype(object).where(values.notna(), None)
    words = words.map(_word, na_action="ignore").astype(object).where(values.notna(), None)
    numbers = _as_numbers(values, words)
    if numbers is None:
        return [words]
    numbers = numbers.where(np.isfinite(numbers))
    whole = numbers.dropna()
    if not pd.api.types.is_numeric_dtype(values) or (whole != whole.round()).any():
        return [numbers]
    return [numbers, words] if 2 < whole.nunique() <= _MAX_CATEGORIES else [numbers]


def _word(value):
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _as_numbers(values, words):
    if pd.api.types.is_bool_dtype(values):
        return None
    if pd.api.types.is_numeric_dtype(values):
        return pd.Series(values.to_numpy(dtype=float, na_value=np.nan))
    if isinstance(values.dtype, pd.PeriodDtype):
        values = values.dt.to_timestamp()
    if pd.api.types.is_datetime64_any_dtype(values):
        return _days(values)
    if pd.api.types.is_timedelta64_dtype(values):
        return pd.Series(values / pd.Timedelta(days=1))
    if words.nunique() <= _MAX_CATEGORIES:
        return None
    known = words.dropna()
    if known.str.fullmatch(r"\d{3}[DWMY]").all():
        years = known.str[3].map({"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1})
        return (known.str[:3].astype(float) * years).reindex(words.index)
    found = pd.to_numeric(known, errors="coerce")
    if not found.isna().any():
        return found.astype(float).reindex(words.index)
    found = pd.to_datetime(known, errors="coerce", format="ISO8601", utc=True)
    return None if found.isna().any() else _days(found).reindex(words.index)


def _days(dates):
    dates = dates.dt.tz_convert(None) if dates.dt.tz is not None else dates
    return ((dates - pd.Timestamp(0)) / pd.Timedelta(days=1)).rename(_DATE)


def _givenness(values):
    missing = values.isna().to_numpy()
    if not 0 < missing.sum() < len(missing):
        return None
    return pd.Series(np.where(missing, "missing", "given"), dtype=object)


def _strongest(readings, codes, unit, classes):
    """Test a column in each of its readings; the row of the greater effect, or the reason."""
    found = [_test(values, codes, unit, classes) for values in readings]
    rows = [row for row in found if not isinstance(row, str)]
    if not rows:
        return found[0]
    best = max(rows, key=lambda row: row["effect_size"])
    # The better of several tests is right by chance that much more often.
    return {**best, "p_value": min(1.0, best["p_value"] * len(rows))}


def _test(values, codes, unit, classes):
    """Row of the table, or in words why there is none."""
    numeric = values.dtype.kind == "f"
    table = pd.DataFrame({"value": values.to_numpy(), "code": codes, "unit": unit})
    table = table[(table["code"] >= 0) & table["value"].notna()]
    if numeric:
        units = table.groupby(["unit", "code"])["value"].mean().reset_index()
    else:
        units = _commonest(table)
    if len(units) < _MIN_UNITS:
        return f"known of {len(units)} patients only, fewer than {_MIN_UNITS}"
    if units["code"].nunique() < 2:
        return "known in one class only"
    if units["value"].nunique() < 2:
        return ONE_VALUE
    if not numeric and units["value"].nunique() > _MAX_CATEGORIES:
        counts = units["value"].value_counts()
        if counts.iloc[0] < 2:
            return f"{len(counts)} different values, each of one patient: an id, not a category"
        largest = counts[counts > 1].index[:_MAX_CATEGORIES]
        units["value"] = units["value"].where(units["value"].isin(largest), _OTHER)
    names = [str(name) for name in classes]
    if not numeric:
        return {"n": len(units), **_compare_categories(units, names)}
    write = _write_date if values.name == _DATE else "{:.4g}".format
    return {"n": len(units), **_compare_numbers(units, names, write)}


def _write_date(days):
    return str(np.datetime64(0, "D") + np.timedelta64(round(days), "D"))


def _commonest(table):
    counts = table.groupby(["unit", "code", "value"]).size().reset_index(name="films")
    counts = counts.sort_values(["unit", "code", "films", "value"], ascending=[1, 1, 0, 1])
    return counts.drop_duplicates(["unit", "code"]).reset_index(drop=True)


def _compare_numbers(units, names, write):
    samples = {names[code]: part["value"].to_numpy() for code, part in units.groupby("code")}
    medians = ", ".join(f"{name}: {write(np.median(part))}" for name, part in samples.items())
    parts = list(samples.values())
    if len(parts) == 2:
        statistic, p_value = stats.mannwhitneyu(*parts, method="asymptotic")
        effect = abs(2 * statistic / (len(parts[0]) * len(parts[1])) - 1)
        test, kind = "Mann-Whitney U", "rank-biserial correlation"
    else:
        statistic, p_value = stats.kruskal(*parts)
        effect = np.sqrt(min(1.0, statistic / (len(units) - 1)))
        test, kind = "Kruskal-Wallis H", "epsilon (root of epsilon squared)"
    return {
        "test": test,
        "statistic": float(statistic),
        "p_value": float(p_value),
        "effect": kind,
        "effect_size": float(effect),
        "by_class": f"median {medians}",
    }


def _compare_categories(units, names):
    counts = pd.crosstab(units["code"], units["value"])
    statistic, p_value, *_ = stats.chi2_contingency(counts.to_numpy(), correction=False)
    n, (r, c) = counts.to_numpy().sum(), counts.shape
    # Bergsma's correction: without it, chance alone gives rare categories an effect.
    phi = max(0.0, statistic / n - (r - 1) * (c - 1) / (n - 1))
    least = min(r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)) - 1
    shares = counts.div(counts.sum(axis=1), axis=0)
    spread = np.ptp(shares.to_numpy(), axis=0)
    shown = np.sort(np.argsort(-spread, kind="stable")[:_SHOWN_CATEGORIES])
    more = f" (and {c - len(shown)} more values)" if c > len(shown) else ""
    by_class = "; ".join(
        f"{names[code]}: " + ", ".join(f"{value} {share:.0%}" for value, share in row.items())
        for code, row in shares.iloc[:, shown].iterrows()
    )
    return {
        "test": "chi-squared",
        "statistic": float(statistic),
        "p_value": float(p_value),
        "effect": "Cramér's V",
        "effect_size": float(np.sqrt(phi / least)) if least > 0 else 0.0,
        "by_class": by_class + more,
    }
