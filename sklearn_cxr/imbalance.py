"""Balance the classes of a training set without losing patients and weights on the way."""

from copy import deepcopy

import numpy as np
from imblearn.under_sampling import RandomUnderSampler
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.utils import check_array, check_consistent_length, column_or_1d, get_tags, indexable
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from sklearn_cxr.model_selection._groups import encode_groups
from sklearn_cxr.utils._sklearn import (
    BaseSearchCV,
    CallbackSupportMixin,
    HasMethods,
    StrOptions,
    _check_method_params,
    _fit_context,
    _num_samples,
    _routing_enabled,
    _safe_indexing,
    fit_task,
)

__all__ = ["ResampledClassifier"]

_PER_IMAGE = ("groups", "sample_weight")


def _estimator_has(name):
    def check(self):
        # getattr raises the inner estimator's own AttributeError, which says more than False.
        getattr(getattr(self, "estimator_", self.estimator), name)
        return True

    return check


def _takes_groups(estimator):
    # Without metadata routing, a search takes groups among its **params; a Pipeline does not.
    return has_fit_parameter(estimator, "groups") or isinstance(estimator, BaseSearchCV)


class ResampledClassifier(
    CallbackSupportMixin, ClassifierMixin, MetaEstimatorMixin, BaseEstimator
):
    """Fit a classifier on a resampled training set, with patients and weights resampled along.

    The samplers of imbalanced-learn return the chosen rows of ``X`` and ``y``; in
    ``imblearn.pipeline.Pipeline`` the `groups` and `sample_weight` of the next step keep their
    old length. Here the sampler chooses row numbers, and ``X``, ``y``, `groups` and all other
    metadata with one entry per image are indexed by them. Prediction does not resample.

    Parameters
    ----------
    estimator : classifier
        Classifier, Pipeline or search that is fitted on the chosen rows. It is cloned.

    sampler : sampler of imbalanced-learn or None, default=None
        Chooses among the rows by their labels alone: ``RandomUnderSampler`` or
        ``RandomOverSampler``, or a sampler that has ``sample_indices_`` and the tag
        ``input_tags.string``, which says that it computes nothing from the rows. None stands
        for ``RandomUnderSampler()``. It is cloned.

    unit : {"image", "patient"}, default="image"
        What is drawn. "image": single images. "patient": all images that a patient has of one
        class, together and as often as they are drawn, so that a patient with many images
        counts once; the classes then have equal numbers of patients, not of images. Needs
        `groups`.

    random_state : int, RandomState instance or None, default=None
        Governs the draw; if not None, it replaces that of the sampler (not of `estimator`).

    Attributes
    ----------
    estimator_ : classifier
        The fitted classifier.

    sampler_ : sampler
        The fitted sampler.

    sample_indices_ : ndarray of shape (n_resampled,), dtype=int64
        Row numbers that `estimator_` was fitted on, ascending, with repetitions.

    classes_ : ndarray of shape (n_classes,)
        The class labels.

    n_features_in_ : int
        Number of features seen during fit, if `estimator_` has it.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during fit, if `estimator_` has them.

    See Also
    --------
    sklearn_cxr.model_selection.patient_train_test_split : Split by patient before resampling.
    imblearn.pipeline.Pipeline : Takes any sampler, for classifiers without groups and weights.

    Notes
    -----
    `groups` are requested by default, both to draw patients and to hand them on to a
    classifier that requests them. Copies of an image keep their patient's id, so an inner
    split by groups never parts them. Samplers that make new rows, such as ``SMOTE``, are
    refused, since a new row has no patient and no weight.

    Weights do not influence the draw. A weight of 2 is hence not the same as having the image
    twice, and `sample_weight` is one of the `fit_params`, which `estimator` accepts or refuses.

    Without metadata routing, `groups` are handed on if ``estimator.fit`` has that parameter or
    `estimator` is a search; for a step of a Pipeline, pass ``<step>__groups`` as well.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn_cxr.imbalance import ResampledClassifier
    >>> rng = np.random.RandomState(0)
    >>> y = np.array(["normal"] * 10 + ["pneumonia"] * 50)
    >>> X = rng.normal(size=(60, 4)) + 3 * (y == "pneumonia")[:, None]
    >>> patients = np.arange(60) // 2
    >>> classifier = ResampledClassifier(LogisticRegression(), random_state=0)
    >>> classifier.fit(X, y, groups=patients, sample_weight=np.ones(60)).predict(X[:1])
    array(['normal'], dtype='<U9')
    >>> np.unique(y[classifier.sample_indices_], return_counts=True)[1]
    array([10, 10])
    """

    __metadata_request__fit = {"groups": True}

    _parameter_constraints: dict = {
        "estimator": [HasMethods(["fit", "predict"])],
        "sampler": [HasMethods(["fit_resample"]), None],
        "unit": [StrOptions({"image", "patient"})],
        "random_state": ["random_state"],
    }

    def __init__(self, estimator, *, sampler=None, unit="image", random_state=None):
        self.estimator = estimator
        self.sampler = sampler
        self.unit = unit
        self.random_state = random_state

    # The estimator and the sampler validate their own parameters.
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, *, groups=None, **fit_params):
        """Draw rows by their labels and fit the classifier on them.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            The images in any form that `estimator` takes: arrays of any number of dimensions,
            paths, a DataFrame, or rows with a ``shape``, as the reader returns them.

        y : array-like of shape (n_samples,)
            One class per image.

        groups : array-like of shape (n_samples,), default=None
            Patient id of each image. Needed for ``unit="patient"``; handed on to `estimator`
            if it takes them.

        **fit_params : dict
            Further metadata for `estimator`, such as `sample_weight`. What has one entry per
            image is resampled along.

        Returns
        -------
        self : object
            The fitted classifier.

        Raises
        ------
        ValueError
            If the sampler makes rows or needs features, patients are absent, or lengths differ.
        """
        y, labels = self._check_y(X, y)
        X, y = indexable(X, y)
        params = {**fit_params, "groups": groups}
        params = {name: value for name, value in params.items() if value is not None}
        self._check_lengths(params, len(labels))
        if _routing_enabled():
            routed = process_routing(self, "fit", **params)["estimator"]["fit"]
        else:
            routed = dict(params)
            if not _takes_groups(self.estimator):
                routed.pop("groups", None)

        sampler = self._make_sampler()
        if self.unit == "patient":
            indices = self._draw_patients(sampler, labels, groups)
        else:
            indices = self._draw(sampler, labels)
        # Ascending rows are read faster from a file, and the order is that of the data.
        indices = np.sort(indices)

        estimator = clone(self.estimator)
        resampled = _safe_indexing(X, indices), _safe_indexing(y, indices)
        with fit_task(self, X, y, sub_estimator=estimator):
            estimator.fit(*resampled, **_check_method_params(X, routed, indices=indices))
        self.sampler_ = sampler
        self.sample_indices_ = indices
        self.estimator_ = estimator
        return self

    def _check_y(self, X, y):
        """Return y as it goes to the estimator, and as an array of one label per image."""
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None."
            )
        labels = check_array(y, ensure_2d=False, dtype=None, input_name="y")
        if labels.ndim > 1:
            if labels.shape[1] > 1:
                raise ValueError(
                    f"{type(self).__name__} got y of shape {labels.shape}; expected one class "
                    "per image. Rows of several labels cannot be balanced by drawing them."
                )
            y = labels = column_or_1d(labels, warn=True)
        check_classification_targets(labels)
        check_consistent_length(X, labels)
        if len(np.unique(labels)) < 2:
            raise ValueError(
                f"{type(self).__name__} got 1 class in y ({labels[0]}); expected at least two "
                "classes to balance."
            )
        return y, labels

    def _check_lengths(self, params, n_samples):
        for name, value in params.items():
            per_image = name.rpartition("__")[2] in _PER_IMAGE and np.ndim(value)
            if per_image and _num_samples(value) != n_samples:
                raise ValueError(
                    f"{type(self).__name__} got {_num_samples(value)} entries in {name} for "
                    f"{n_samples} images; expected one per image."
                )

    def _make_sampler(self):
        sampler = RandomUnderSampler() if self.sampler is None else clone(self.sampler)
        if self.random_state is not None and "random_state" in sampler.get_params():
            sampler.set_params(random_state=self.random_state)
        return sampler

    def _refuse(self, sampler, why):
        name = type(sampler).__name__
        raise ValueError(
            f"{type(self).__name__} got the sampler {name}, which {why}. Use RandomUnderSampler "
            f"or RandomOverSampler (without shrinkage) here, or put {name} into an "
            "imblearn.pipeline.Pipeline before a classifier without groups and weights."
        )

    def _draw(self, sampler, labels):
        """Let the sampler choose among rows of which it sees the labels only."""
        if not get_tags(sampler).input_tags.string:
            self._refuse(sampler, "computes with the rows and cannot carry groups and weights")
        rows = np.arange(len(labels)).reshape(-1, 1)
        drawn, drawn_labels = sampler.fit_resample(rows, labels)
        indices = getattr(sampler, "sample_indices_", None)
        # A smoothed bootstrap has indices too, but its rows are new ones.
        if (
            indices is None
            or not np.array_equal(drawn, rows[indices])
            or not np.array_equal(drawn_labels, labels[indices])
        ):
            self._refuse(sampler, "makes new rows; these have no patient and no weight")
        return np.asarray(indices, dtype=np.int64)

    def _draw_patients(self, sampler, labels, groups):
        """Let the sampler choose among pairs of patient and label; return all their rows."""
        if groups is None:
            raise ValueError(
                f'{type(self).__name__} got unit="patient" and no groups; pass groups=<one '
                "patient id per image> to fit (inside a Pipeline without metadata routing: "
                '<step>__groups), or use unit="image".'
            )
        codes, _ = encode_groups(groups, len(labels), caller=type(self).__name__)
        classes, classes_of_rows = np.unique(labels, return_inverse=True)
        pairs, unit_of_row = np.unique(codes * len(classes) + classes_of_rows, return_inverse=True)
        drawn = self._draw(sampler, classes[pairs % len(classes)])
        rows = np.argsort(unit_of_row, kind="stable")
        rows_of_unit = np.split(rows, np.cumsum(np.bincount(unit_of_row))[:-1])
        return np.concatenate([rows_of_unit[unit] for unit in drawn])

    @available_if(_estimator_has("predict"))
    def predict(self, X):
        """Predict the class of each image.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            The images, in the form of fit.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            What the fitted classifier predicts.
        """
        check_is_fitted(self)
        return self.estimator_.predict(X)

    @available_if(_estimator_has("predict_proba"))
    def predict_proba(self, X):
        """Predict the probability of each class; it refers to the balanced training set.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            The images, in the form of fit.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            Probabilities in the order of `classes_`, in [0, 1].
        """
        check_is_fitted(self)
        return self.estimator_.predict_proba(X)

    @available_if(_estimator_has("predict_log_proba"))
    def predict_log_proba(self, X):
        """Predict the logarithm of the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            The images, in the form of fit.

        Returns
        -------
        log_probabilities : ndarray of shape (n_samples, n_classes)
            Natural logarithms in the order of `classes_`, at most 0.
        """
        check_is_fitted(self)
        return self.estimator_.predict_log_proba(X)

    @available_if(_estimator_has("decision_function"))
    def decision_function(self, X):
        """Return the decision function of the fitted classifier.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            The images, in the form of fit.

        Returns
        -------
        scores : ndarray of shape (n_samples,) or (n_samples, n_classes)
            Its scores, in its own unit.
        """
        check_is_fitted(self)
        return self.estimator_.decision_function(X)

    @property
    def classes_(self):
        """Class labels of the fitted classifier."""
        return self._fitted_attribute("classes_")

    @property
    def n_features_in_(self):
        """Number of features seen during fit."""
        return self._fitted_attribute("n_features_in_")

    @property
    def feature_names_in_(self):
        """Names of the features seen during fit."""
        return self._fitted_attribute("feature_names_in_")

    def _fitted_attribute(self, name):
        if "estimator_" not in vars(self):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r} before fit.")
        return getattr(self.estimator_, name)

    def get_metadata_routing(self):
        """Return which metadata this classifier consumes and which it hands on.

        Returns
        -------
        routing : MetadataRouter
            The groups that `fit` requests itself, and all that `estimator` requests.
        """
        return (
            MetadataRouter(owner=type(self).__name__)
            .add_self_request(self)
            .add(
                estimator=self.estimator,
                method_mapping=MethodMapping().add(caller="fit", callee="fit"),
            )
        )

    def __sklearn_tags__(self):
        """Return the inner estimator's tags, less several outputs."""
        tags = super().__sklearn_tags__()
        inner = get_tags(self.estimator)
        tags.input_tags = deepcopy(inner.input_tags)
        # Rows are drawn, columns are not: a kernel matrix would no longer be square.
        tags.input_tags.pairwise = False
        if inner.classifier_tags is not None:
            tags.classifier_tags = deepcopy(inner.classifier_tags)
            tags.classifier_tags.multi_label = False
        return tags
