"""Figures as people read them."""

import numpy as np
import pandas as pd

# How figures are called where people read them.
TITLES = {
    "roc_auc": "AUC",
    "mean_roc_auc": "mean AUC",
    "mean_average_precision": "mean average precision",
    "average_precision": "average precision",
    "ppv": "positive predictive value",
    "npv": "negative predictive value",
    "calibration_error": "calibration error",
    "brier": "Brier score",
    "balanced_accuracy": "balanced accuracy",
}


def calibration_bins(n):
    """Return how many bins the calibration of n films is judged in."""
    return min(10, max(2, n // 10))


def format_interval(row, digits=3):
    """Write an estimate with its interval, without where there is none; "-" without estimate."""
    if np.isnan(row["estimate"]):
        return "-"
    text = f"{row['estimate']:.{digits}f}"
    if np.isnan(row["low"]):
        return text
    return f"{text} ({row['low']:.{digits}f} to {row['high']:.{digits}f})"


def short_table(table, digits=3):
    """Write estimates and intervals of a table into one column each."""
    out = pd.DataFrame(index=table.index)
    for column in table.columns:
        if column.endswith(("_low", "_high")):
            continue
        if f"{column}_low" in table.columns:
            parts = table[[column, f"{column}_low", f"{column}_high"]]
            parts = parts.set_axis(["estimate", "low", "high"], axis=1)
            texts = [format_interval(row, digits) for _, row in parts.iterrows()]
            out[TITLES.get(column, column)] = texts
        elif table[column].notna().any():
            out[column] = table[column]
    return out
