"""One call that says how good a model is on these films, and how sure that is."""

from numbers import Integral, Real

import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils import check_consistent_length

from sklearn_cxr.inspection._display_base import file_names, n_rows, take_images
from sklearn_cxr.inspection._evaluate_build import CALLER, build_report
from sklearn_cxr.inspection._evaluate_films import film_keys
from sklearn_cxr.inspection._evaluate_scores import (
    check_labels,
    final_estimator,
    predict_scores,
)
from sklearn_cxr.metrics._checks import label_columns
from sklearn_cxr.utils._sklearn import HasMethods, Interval, StrOptions, validate_params

_PARAMETERS = {
    "frame": [pd.DataFrame, None],
    "columns": ["array-like", None],
    "name": [str, None],
    "split": [str, None],
    "dataset": [str, None],
    "threshold": [Real, tuple, HasMethods(["rethreshold"]), None],
    "label_names": ["array-like", None],
    "films": ["array-like", None],
    "transform": [StrOptions({"logit"}), None],
    "n_errors": [Interval(Integral, 0, 50, closed="both")],
    "confidence": [Interval(Real, 0, 1, closed="neither")],
    "n_resamples": [Interval(Integral, 2, None, closed="left")],
    "random_state": ["random_state"],
}


@validate_params(
    {"estimator": [HasMethods(["fit"])], **_PARAMETERS}, prefer_skip_nested_validation=True
)
def evaluate(
    estimator,
    X,
    y,
    *,
    groups=None,
    train_groups=None,
    frame=None,
    columns=None,
    name=None,
    split=None,
    dataset=None,
    threshold=None,
    pos_label=None,
    label_names=None,
    n_errors=0,
    images=None,
    films=None,
    confidence=0.95,
    transform="logit",
    n_resamples=1000,
    random_state=None,
):
    """Judge a fitted classifier on films that it has not seen.

    Parameters
    ----------
    estimator : fitted classifier
        Classifier, Pipeline or search of two classes, several classes or several labels.

    X : array-like
        Films in the form that `estimator` takes.

    y : array-like of shape (n,) or (n, n_labels)
        Class of each film; or 0, 1 and NaN (unknown) for each label.

    groups : array-like of shape (n,), default=None
        Patient of each film. None takes every film as a patient of its own, which makes
        intervals too narrow where patients have several films; the report says so.

    train_groups : array-like, default=None
        Patients that the model has learned from, to be sure that none of them is here.

    frame : DataFrame of shape (n, n_columns), default=None
        What is known of the films, for the table of subgroups. None takes `X` where that is a
        DataFrame.

    columns : array-like of str, default=None
        Columns of `frame` to cut by; None takes "age", "sex" and "view" where they are.

    name : str, default=None
        What the model is called; None takes the name of its class, of a Pipeline that of the
        last step.

    split : str, default=None
        What these films are called, such as "official test split".

    dataset : str, default=None
        Data set that the films are of, such as "nih", where the estimator holds pretrained
        weights that may have been trained on it. None checks nothing.

    threshold : float, tuple, OperatingPoint or None, default=None
        Films at or above it count as positive. A number, or an operating point that was found on
        other films with :func:`sklearn_cxr.metrics.operating_point`. None takes the estimator's
        own: films count as its ``predict`` calls them. A tuple such as ``("sensitivity", 0.95)``
        has it chosen on the very films that are judged, which flatters; the report says so.

    pos_label : object, default=None
        Positive class of two; None takes ``classes_[1]``.

    label_names : array-like of str, default=None
        Names of the classes, in the order of ``classes_``, or of the labels. None takes those of
        the classifier, or the columns of `y` where that is a DataFrame of labels.

    n_errors : int, default=0
        Most confident errors of each kind (two classes only) whose films go into the report. It
        then holds patients' films: mind who gets it.

    images : array-like of n films, default=None
        Films for `n_errors`; None takes `X`.

    films : array-like of shape (n,), default=None
        Name of each film, such as its file name, by which :func:`compare_reports` knows that
        reports are of the same films. None takes the file names of `X` where it holds paths, else
        those of `images`, else digests of what `X` holds. Pass it to compare models that take the
        same films in different forms.

    confidence : float, default=0.95
        Coverage of the intervals, in (0, 1).

    transform : {"logit"} or None, default="logit"
        Scale of the intervals of the AUC, as in :func:`sklearn_cxr.metrics.roc_auc_interval`.

    n_resamples : int, default=1000
        Resamples of patients behind the intervals that have no formula.

    random_state : int, RandomState instance or None, default=None
        Governs the resamples.

    Returns
    -------
    EvaluationReport
        Prints itself; has tables, pictures, HTML and JSON.

    Raises
    ------
    PatientLeakageError
        If a patient of `train_groups` is here.

    ValueError
        If one class is absent, scores are not finite, lengths differ, or there are fewer than
        two patients.

    Warns
    -----
    ContaminationWarning
        If weights within the estimator were trained on films of `dataset`.

    See Also
    --------
    compare_reports : Several models on the same films.
    subgroup_report : The table of subgroups alone.

    Examples
    --------
    >>> from sklearn_cxr.datasets import make_chest_xrays
    >>> from sklearn_cxr.inspection import evaluate
    >>> from sklearn_cxr.linear_model import PixelLogisticRegression
    >>> train, test = (
    ...     make_chest_xrays(
    ...         200, image_size=32, classes=("normal", "viral"), random_state=seed
    ...     ) for seed in (0, 1)
    ... )
    >>> model = PixelLogisticRegression(C=1e-3).fit(train.images, train.target)
    >>> report = evaluate(
    ...     model, test.images, test.target, groups=test.groups, split="phantoms",
    ...     label_names=test.target_names, n_resamples=100, random_state=0,
    ... )
    >>> report.n_images, report.n_patients, report.threshold
    (200, 100, 0.5)
    >>> report.metrics.index[0], bool(report.metrics.loc["roc_auc", "low"] > 0.7)
    ('roc_auc', True)
    """
    if frame is None and isinstance(X, pd.DataFrame) and X.shape[1] > 1:
        frame = X
    y_array = check_labels(y, CALLER)
    check_consistent_length(X, y_array)
    scores = predict_scores(
        estimator,
        X,
        multilabel=y_array.ndim == 2,
        pos_label=pos_label,
        with_calls=threshold is None,
        caller=CALLER,
    )
    if dataset is not None:
        _check_weights(estimator, dataset)
    if label_names is None and y_array.ndim == 2:
        label_names = label_columns(y)
    files, pictures = file_names(X), None
    if n_errors:
        source = X if images is None else images
        if n_rows(source) != len(y_array):
            raise ValueError(
                f"{CALLER} got {n_rows(source)} films in images for {len(y_array)} labels; "
                "expected one per film."
            )
        files = file_names(source) if files is None else files

        def pictures(rows):
            return take_images(source, rows, caller=CALLER)

    return build_report(
        y_array,
        scores,
        groups=groups,
        train_groups=train_groups,
        frame=frame,
        columns=columns,
        name=type(final_estimator(estimator)).__name__ if name is None else name,
        split=split,
        threshold=threshold,
        label_names=label_names,
        n_errors=n_errors,
        pictures=pictures,
        files=files,
        films=film_keys(
            X if images is None or file_names(X) is not None else images,
            films,
            len(y_array),
            CALLER,
        ),
        transform=transform,
        confidence=confidence,
        n_resamples=n_resamples,
        random_state=random_state,
        model=_written(estimator),
    )


def _check_weights(estimator, dataset):
    """Warn where an estimator, or one fitted within it, has weights trained on a data set."""
    info = vars(estimator).get("weights_info_")
    if info is not None:
        # It imports torch, which an estimator without weights does not need.
        from sklearn_cxr.neural_network import check_contamination

        check_contamination(info, dataset)
    for value in vars(estimator).values():
        steps = [part for step in value for part in step] if _are_steps(value) else [value]
        for part in steps:
            if isinstance(part, BaseEstimator):
                _check_weights(part, dataset)


def _are_steps(value):
    return isinstance(value, list) and all(isinstance(step, tuple) for step in value)


def _written(estimator):
    """Write an estimator with all its parameters; its repr leaves the middle of long ones out."""
    if type(estimator).__repr__ is BaseEstimator.__repr__:
        return BaseEstimator.__repr__(estimator, N_CHAR_MAX=float("inf"))
    return repr(estimator)
