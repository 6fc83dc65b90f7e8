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
_MIN_UNITS = 8
_MAX_CATEGORIES = 30


def associate(variables, labels, patients):
    """Test every variable against every label.

    Films of one patient are no independent evidence: they count once for each class, with the
    mean of a number and the commonest of several categories.

    Parameters
    ----------
    variables : DataFrame of shape (n, n_variables)
        Numbers or categories; missing values are left out, and tested as such where there are
        some.

    labels : Labels or None
        The labels; without them the table is empty.

    patients : ndarray of shape (n,), dtype int64, or None
        Number of the patient, -1 where unknown.

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
    for column, name in enumerate(labels.names):
        codes = labels.codes[:, column]
        for variable in variables.columns:
            values = variables[variable]
            missing = values.isna().to_numpy()
            if not missing.all():
                rows.append(_test(variable, values, codes, unit, name, labels.classes[column]))
            if 0 < missing.sum() < len(missing):
                given = pd.Series(np.where(missing, "missing", "given"))
                rows.append(
                    _test(f"{variable} given", given, codes, unit, name, labels.classes[column])
                )
    table = pd.DataFrame([row for row in rows if row is not None], columns=COLUMNS)
    if len(table):
        table["p_adjusted"] = stats.false_discovery_control(table["p_value"].to_numpy(float))
    return table.sort_values("effect_size", ascending=False, kind="stable").reset_index(drop=True)


def _test(variable, values, codes, unit, label, classes):
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    table = pd.DataFrame(
        {"value": values.to_numpy(float if numeric else object), "code": codes, "unit": unit}
    )
    table = table[(table["code"] >= 0) & table["value"].notna()]
    if not numeric:
        table["value"] = table["value"].astype(str)
    by_patient = table.groupby(["unit", "code"], sort=True)["value"]
    units = (by_patient.mean() if numeric else by_patient.agg(_commonest)).reset_index()
    if units["value"].nunique() < 2 or units["code"].nunique() < 2 or len(units) < _MIN_UNITS:
        return None
    if not numeric and units["value"].nunique() > _MAX_CATEGORIES:
        return None
    compare = _compare_numbers if numeric else _compare_categories
    names = [str(name) for name in classes]
    return {"variable": variable, "label": label, "n": len(units), **compare(units, names)}


def _commonest(values):
    return values.value_counts(sort=True).sort_index(kind="stable").idxmax()


def _compare_numbers(units, names):
    samples = {names[code]: part["value"].to_numpy() for code, part in units.groupby("code")}
    medians = ", ".join(f"{name}: {np.median(part):.4g}" for name, part in samples.items())
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
    by_class = "; ".join(
        f"{names[code]}: " + ", ".join(f"{value} {share:.0%}" for value, share in row.items())
        for code, row in shares.iterrows()
    )
    return {
        "test": "chi-squared",
        "statistic": float(statistic),
        "p_value": float(p_value),
        "effect": "Cramér's V",
        "effect_size": float(np.sqrt(phi / least)) if least > 0 else 0.0,
        "by_class": by_class,
    }
