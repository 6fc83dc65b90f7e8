"""Several evaluations in one table, if they are of the same films."""

import pandas as pd

from sklearn_cxr.inspection._evaluate_films import same_films, same_rows
from sklearn_cxr.metrics import roc_auc_test
from sklearn_cxr.utils._sklearn import validate_params


def _require_one_split(reports):
    """Raise unless all reports are of the same films."""
    first = reports[0]
    for other in reports[1:]:
        if not same_films(first, other):
            raise ValueError(
                f"compare_reports got {first.name!r} on {first._where()} (fingerprint "
                f"{first.fingerprint}) and {other.name!r} on {other._where()} (fingerprint "
                f"{other.fingerprint}; if these are the same films in another form, pass "
                "films=<their file names> to evaluate): figures of different films say nothing "
                "about which model is better. Evaluate both on the same films, or pass "
                "allow_different_splits=True to see them in one table nevertheless."
            )


@validate_params({"allow_different_splits": ["boolean"]}, prefer_skip_nested_validation=True)
def compare_reports(*reports, allow_different_splits=False):
    """Put several models into one table, if they were judged on the same films.

    Parameters
    ----------
    *reports : EvaluationReport
        Reports of :func:`evaluate`.

    allow_different_splits : bool, default=False
        Put figures of different films into one table nevertheless. The columns split and
        fingerprint tell which they are.

    Returns
    -------
    DataFrame
        A row for each report, as :meth:`EvaluationReport.to_frame` gives it. Reports of two
        classes on the same rows as the first have roc_auc_difference (from the first), its `_low`
        and `_high`, and roc_auc_difference_pvalue, by patient where patients were given.

    Raises
    ------
    ValueError
        If the reports are of different films, or of films whose identity cannot be compared (as
        pixels and features) without the same `split` in both.

    See Also
    --------
    sklearn_cxr.metrics.roc_auc_test : The comparison of two scores.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn_cxr.inspection import compare_reports, evaluate
    >>> rng = np.random.RandomState(0)
    >>> y = np.repeat([0, 1], 50)
    >>> X = rng.normal(size=(100, 3)) + y[:, None]
    >>> reports = [
    ...     evaluate(
    ...         LogisticRegression(C=C).fit(X, y), X, y, name=f"C={C:g}", n_resamples=50,
    ...         random_state=0,
    ...     ) for C in (1e-4, 1)
    ... ]
    >>> table = compare_reports(*reports)
    >>> table.index.tolist(), table["n_images"].tolist()
    (['C=0.0001', 'C=1'], [100, 100])
    """
    wrong = [type(report).__name__ for report in reports if not hasattr(report, "fingerprint")]
    if not reports or wrong:
        raise TypeError(f"compare_reports got {wrong or 'nothing'}; expected reports of evaluate.")
    if not allow_different_splits:
        _require_one_split(reports)
    rows = []
    for report in reports:
        row = report._row()
        if report is not reports[0] and same_rows(reports[0], report):
            test = roc_auc_test(
                report.y,
                report.scores,
                reports[0].scores,
                groups=report.groups,
                confidence=report.confidence,
            )
            row["roc_auc_difference"] = test.difference
            row["roc_auc_difference_low"], row["roc_auc_difference_high"] = test.low, test.high
            row["roc_auc_difference_pvalue"] = test.pvalue
        rows.append(row)
    # Made at once: to concatenate rows of None and numbers is deprecated in pandas 2.
    return pd.DataFrame(rows, index=pd.Index([report.name for report in reports], name="model"))
