"""How far a model gets that cannot see the disease."""

import os
from numbers import Integral, Real

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, check_cv
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder, StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.metadata_routing import get_routing_for_object
from sklearn.utils.validation import has_fit_parameter

from sklearn_cxr.inspection._audit_films import Films
from sklearn_cxr.inspection._audit_tables import read_groups, read_labels
from sklearn_cxr.inspection._display_base import refuse_pairwise, take_rows
from sklearn_cxr.inspection._evaluate_scores import scoring_estimator
from sklearn_cxr.inspection._probe_features import metadata_table, pixel_features
from sklearn_cxr.inspection._probe_report import ShortcutProbes
from sklearn_cxr.inspection._probe_table import probe_table
from sklearn_cxr.metrics._scorers import _column_of_one
from sklearn_cxr.model_selection import MultilabelStratifiedGroupKFold, check_patient_leakage
from sklearn_cxr.utils._sklearn import (
    HasMethods,
    Interval,
    _check_method_params,
    _routing_enabled,
    _safe_indexing,
    validate_params,
)

PROBES = ("border", "outside_lungs", "thumbnail", "histogram", "metadata")
# Weak enough not to drown in a few hundred features, strong enough to see one bright letter.
_PENALTY = 0.01


@validate_params(
    {
        "estimator": [HasMethods(["fit"]), None],
        "frame": [pd.DataFrame, None],
        "metadata": ["array-like"],
        "probes": ["array-like"],
        "cv": ["cv_object"],
        "threshold": [Interval(Real, 0.5, 1, closed="both")],
        "confidence": [Interval(Real, 0, 1, closed="neither")],
        "fit_params": [dict, None],
        "value_range": [tuple, list, None],
        "image_shape": [tuple, list, None],
        "cache_dir": [str, os.PathLike, None],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def shortcut_probes(
    X,
    y,
    groups,
    *,
    estimator=None,
    frame=None,
    metadata=("view", "age", "sex"),
    probes=PROBES,
    cv=5,
    threshold=0.6,
    confidence=0.95,
    fit_params=None,
    value_range=None,
    image_shape=None,
    cache_dir=None,
    n_jobs=None,
    random_state=0,
):
    """Cross-validate models that see only what has nothing, or little, to do with disease.

    A probe that tells the classes apart without looking at the lungs has found a shortcut, and
    so may a network: hospital, view, a letter in the corner [1]_. Every probe is a small linear
    model, or boosted trees for metadata, judged by patient.

    Parameters
    ----------
    X : array-like of shape (n,), (n, 1), (n, h, w), (n, h, w, c) or (n, h*w)
        Paths of image files, or pixels.

    y : array-like of shape (n,) or (n, n_labels)
        Classes, or a matrix of 0, 1 and NaN (unknown).

    groups : array-like of shape (n,)
        Patient of each film.

    estimator : classifier or None, default=None
        Your model, unfitted: it is cross-validated on the same folds and shown beside the probes.
        `X` goes to it as it is.

    frame : DataFrame of shape (n, ...) or None, default=None
        Table beside the films.

    metadata : array-like of str, default=("view", "age", "sex")
        Columns of `frame` that the probe "metadata" sees, beside what the files tell. Columns
        that `frame` lacks are left out.

    probes : array-like of str, default=("border", "outside_lungs", "thumbnail", "histogram", \
            "metadata")
        Which. "border": the outer 15 % of each side. "outside_lungs": what lies outside of the
        region where the films have lungs, one region for all of them. "thumbnail": 8 by 8 pixels.
        "histogram": 32 bins of grey levels. "metadata": age, view, file size and the like; left
        out where nothing is known.

    cv : int, cross-validation generator or iterable, default=5
        Number of folds by patient, or a splitter that takes `groups`, or the folds themselves;
        every film has to be on one test side.

    threshold : float, default=0.6
        A probe lights up if the lower end of its interval is above this AUC.

    confidence : float, default=0.95
        Level of the intervals, in (0, 1).

    fit_params : dict or None, default=None
        Further arguments for ``estimator.fit``; those with one entry per film are cut to the
        fold. `groups` need not be given to an estimator that takes them itself.

    value_range : tuple of (float, float) or None, default=None
        Grey levels of black and white of pixels. None means 0..255 for uint8, 0..65535 for
        uint16 and [0, 1] for floats.

    image_shape : tuple of int or None, default=None
        ``(h, w)`` or ``(h, w, c)`` behind flat rows. None means a square.

    cache_dir : path-like or None, default=None
        Decode store of :class:`~sklearn_cxr.preprocessing.ImageReader`, for paths.

    n_jobs : int or None, default=None
        Number of threads that decode files. None means 1 unless in a
        :obj:`joblib.parallel_config` context; -1 means all processors.

    random_state : int, RandomState instance or None, default=0
        Governs the folds and the films in which lungs are looked for.

    Returns
    -------
    ShortcutProbes
        The AUC of each probe with its interval, as table, text and plot.

    Raises
    ------
    ValueError
        If there is one class or one patient only, lengths differ, or films have no pixels.

    PatientLeakageError
        If the folds given put a patient on both sides.

    See Also
    --------
    audit_dataset : Single variables, duplicates and much else.

    Notes
    -----
    Scores are ranked within each test fold before they are put together, because models of
    different folds are not on one scale. The intervals count patients, not films, and are made
    on the logit scale, which covers better where there are few of them. With fewer than ten
    patients of a class, or outside of it, no verdict is given: "unknown". So it is where nothing
    is known of the films beside their pixels.

    "thumbnail" and "histogram" see the lungs, coarsely: disease that whitens a lung lights them
    up, and rightly so. They are cues, not shortcuts; what matters is how much better the model
    is than they are. The border of tightly cropped films, as of Kermany's children, may hold
    parts of the lungs too; "outside_lungs" is then the stricter one. A probe that stays dark
    proves nothing: a network may find what a linear model does not.

    References
    ----------
    .. [1] J. R. Zech et al., "Variable generalization performance of a deep learning model to
       detect pneumonia in chest radiographs", PLOS Medicine 15(11), 2018,
       https://doi.org/10.1371/journal.pmed.1002683

    Examples
    --------
    >>> from sklearn_cxr.datasets import make_chest_xrays
    >>> from sklearn_cxr.inspection import shortcut_probes
    >>> films = make_chest_xrays(
    ...     240, image_size=64, classes=("normal", "viral"), marker="box",
    ...     marker_confounding=1.0, random_state=0,
    ... )
    >>> found = shortcut_probes(
    ...     films.images, films.target, films.groups, probes=["border"], cv=3
    ... )
    >>> found.table[["probe", "verdict"]]
        probe   verdict
    0  border  shortcut
    """
    caller = "shortcut_probes"
    rng = check_random_state(np.random.RandomState() if random_state is None else random_state)
    wanted = _check_probes(probes, caller)
    films = Films(
        X,
        caller=caller,
        image_shape=image_shape,
        value_range=value_range,
        cache_dir=cache_dir,
        n_jobs=n_jobs,
    )
    labels, patients = _check_target(films, y, groups, frame, caller)
    folds = _make_folds(cv, labels, patients, rng, caller)
    features, region = pixel_features(films, wanted, rng)
    inputs = {name: (features[name], _linear()) for name in wanted if name in features}
    beside = None
    if "metadata" in wanted:
        beside = metadata_table(films, frame, list(metadata), n_jobs)
    if beside is not None:
        inputs["metadata"] = (beside, _boosted(beside))
    scores = {name: _probe(*pair, labels, folds) for name, pair in inputs.items()}
    if "metadata" in wanted and beside is None:
        # Nothing is known: no score, and a row that says so.
        width = len(labels.classes[0]) if len(labels.names) == 1 else len(labels.names)
        scores["metadata"] = np.full((len(films), width), np.nan)
    if estimator is not None:
        params = {} if fit_params is None else dict(fit_params)
        scores["your model"] = _judge(estimator, X, y, groups, labels, folds, params)
    table = probe_table(scores, labels, patients, threshold=threshold, confidence=confidence)
    return ShortcutProbes(table, threshold=threshold, scores=scores, lung_region=region)


def _check_probes(probes, caller):
    names = list(probes)
    unknown = [name for name in names if name not in PROBES]
    if unknown or not names:
        raise ValueError(f"{caller} got probes={names!r}; expected some of {PROBES}.")
    return names


def _check_target(films, y, groups, frame, caller):
    n = len(films)
    if y is None or groups is None:
        raise ValueError(f"{caller} needs y and groups: one class and one patient per film.")
    if frame is not None and len(frame) != n:
        raise ValueError(f"{caller} got a frame of {len(frame)} rows for {n} films.")
    labels = read_labels(y, n, caller=caller)
    patients, ids = read_groups(groups, n, caller=caller)
    if (patients < 0).any():
        raise ValueError(
            f"{caller} got {(patients < 0).sum()} films without a patient id; give every film "
            "one, one of its own where the patient is not known."
        )
    if len(ids) < 2:
        raise ValueError(f"{caller} got {len(ids)} patient; at least two are needed.")
    if len(labels.names) == 1:
        if (labels.codes < 0).any():
            raise ValueError(
                f"{caller} got {(labels.codes < 0).sum()} films without a class; leave them out."
            )
        if len(labels.classes[0]) < 2:
            raise ValueError(
                f"{caller} got one class only ({labels.classes[0][0]!r}); at least two are needed."
            )
    return labels, patients


def _make_folds(cv, labels, patients, rng, caller):
    single = len(labels.names) == 1
    if isinstance(cv, Integral):
        if single:
            held = [
                len(np.unique(patients[labels.codes[:, 0] == c]))
                for c in range(len(labels.classes[0]))
            ]
            if min(held) < cv:
                raise ValueError(
                    f"{caller} got cv={cv}, but a class of {min(held)} patients only. Take fewer "
                    "folds, or more patients."
                )
        seed = rng.randint(2**31 - 1)
        kind = StratifiedGroupKFold if single else MultilabelStratifiedGroupKFold
        cv = kind(cv, shuffle=True, random_state=seed)
    target = labels.codes[:, 0]
    if not single:
        ones = np.array([c.index(1) if 1 in c else -2 for c in labels.classes])
        target = np.where(labels.codes < 0, np.nan, labels.codes == ones)
    folds = list(check_cv(cv).split(np.zeros((len(patients), 1)), target, patients))
    check_patient_leakage(patients, folds)
    every = np.arange(len(patients))
    judged = np.bincount(np.concatenate([every[test] for _, test in folds]), minlength=len(every))
    if (judged != 1).any():
        raise ValueError(
            f"{caller} got folds that judge {(judged == 0).sum()} films never and "
            f"{(judged > 1).sum()} more than once; expected every film on one test side. Give a "
            "number of folds, or a splitter such as StratifiedGroupKFold."
        )
    return folds


def _linear():
    return make_pipeline(StandardScaler(), LogisticRegression(C=_PENALTY, max_iter=2000))


def _boosted(table):
    words = [c for c in table.columns if not pd.api.types.is_numeric_dtype(table[c])]
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = ColumnTransformer([("words", encoder, words)], remainder="passthrough")
    # No early stopping: its inner split would not be by patient.
    trees = HistGradientBoostingClassifier(
        max_iter=60, max_leaf_nodes=8, early_stopping=False, random_state=0
    )
    return make_pipeline(columns, trees)


def _probe(features, model, labels, folds):
    """Scores of each film by a model that did not see its patient; NaN where there is none."""
    n, single = len(labels.codes), len(labels.names) == 1
    width = len(labels.classes[0]) if single else len(labels.names)
    scores = np.full((n, width), np.nan)
    for train, test in folds:
        for column, codes in enumerate(labels.codes.T):
            known = train[codes[train] >= 0]
            if len(np.unique(codes[known])) < 2:
                continue
            fitted = clone(model).fit(_safe_indexing(features, known), codes[known])
            proba = fitted.predict_proba(_safe_indexing(features, test))
            if single:
                scores[np.ix_(test, fitted.classes_)] = proba
            else:
                one = labels.classes[column].index(1)
                scores[test, column] = proba[:, list(fitted.classes_).index(one)]
    return rank_in_folds(scores, folds)


def rank_in_folds(scores, folds):
    """Bring the scores of each test fold to ranks in (0, 1)."""
    ranked = np.full(scores.shape, np.nan)
    for _, test in folds:
        ranked[test] = rankdata(scores[test], axis=0, nan_policy="propagate") / (len(test) + 1)
    return ranked


def _judge(estimator, X, y, groups, labels, folds, params):
    """Scores of the user's model on the same folds."""
    n, single = len(labels.codes), len(labels.names) == 1
    width = len(labels.classes[0]) if single else len(labels.names)
    scores = np.full((n, width), np.nan)
    if _takes_groups(estimator):
        params.setdefault("groups", groups)
    params = {name: np.asarray(v) if np.ndim(v) else v for name, v in params.items()}
    target = y if hasattr(y, "shape") else np.asarray(y)
    for train, test in folds:
        fitted = clone(estimator).fit(
            take_rows(X, train),
            _safe_indexing(target, train),
            **_check_method_params(X, params, indices=train),
        )
        scores[test] = _predict(fitted, take_rows(X, test), labels, width)
        if not np.isfinite(scores[test]).all():
            raise ValueError(
                f"shortcut_probes got scores that are NaN or infinite from "
                f"{type(fitted).__name__}; expected finite ones."
            )
    return rank_in_folds(scores, folds)


def _takes_groups(estimator):
    if _routing_enabled():
        return bool(get_routing_for_object(estimator).consumes("fit", ["groups"]))
    return has_fit_parameter(estimator, "groups")


def _predict(fitted, X, labels, width):
    if not hasattr(fitted, "predict_proba"):
        refuse_pairwise(scoring_estimator(fitted), width, "shortcut_probes")
        values = np.asarray(fitted.decision_function(X))
        return np.stack([-values, values], axis=1) if values.ndim == 1 else values
    proba = fitted.predict_proba(X)
    if isinstance(proba, list):
        # A label that had one class in training has one column, be it of 0 or of 1.
        pairs = zip(proba, fitted.classes_, strict=True)
        return np.stack([_column_of_one(part, classes) for part, classes in pairs], axis=1)
    if len(labels.names) > 1:
        return proba
    out = np.zeros((len(proba), width))
    classes = [c.item() if hasattr(c, "item") else c for c in fitted.classes_]
    out[:, [labels.classes[0].index(c) for c in classes]] = proba
    return out
