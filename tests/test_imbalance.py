import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from imbalance_common import FITS, Recorder, make_films
from imblearn.over_sampling import SMOTE, RandomOverSampler
from imblearn.under_sampling import ClusterCentroids, NearMiss, RandomUnderSampler
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import check_estimator

from sklearn_cxr.imbalance import ResampledClassifier


@pytest.fixture(autouse=True)
def forget_fits():
    FITS.clear()


@pytest.fixture
def films():
    return make_films()


# scikit-learn's contracts


@pytest.mark.parametrize(
    "estimator",
    [
        ResampledClassifier(LogisticRegression(), random_state=0),
        ResampledClassifier(LogisticRegression(), sampler=RandomOverSampler(), random_state=0),
        ResampledClassifier(
            make_pipeline(StandardScaler(), KNeighborsClassifier()), random_state=0
        ),
    ],
    ids=["under", "over", "pipeline"],
)
def test_check_estimator(estimator):
    # A fixed state, since a check spoils one row, and a row that is not drawn is not looked at.
    results = check_estimator(estimator, on_fail="raise", on_skip=None)
    skipped = {r["check_name"] for r in results if r["status"] == "skipped"}
    assert skipped <= {"check_array_api_input"}
    assert sum(r["status"] == "passed" for r in results) >= 45


# what is drawn


def test_under_and_oversampling_reach_balance(films):
    X, y, _, _ = films
    n_rare, n_common = np.sum(y == "normal"), np.sum(y == "pneumonia")
    under = ResampledClassifier(Recorder(), random_state=0).fit(X, y)
    over = ResampledClassifier(Recorder(), sampler=RandomOverSampler(), random_state=0).fit(X, y)
    for classifier, n in ((under, n_rare), (over, n_common)):
        drawn = y[classifier.sample_indices_]
        assert np.sum(drawn == "normal") == np.sum(drawn == "pneumonia") == n
    assert len(np.unique(under.sample_indices_)) == 2 * n_rare
    assert set(over.sample_indices_) == set(range(60))
    ratio = RandomUnderSampler(sampling_strategy={"pneumonia": 20})
    partly = ResampledClassifier(Recorder(), sampler=ratio).fit(X, y)
    assert np.sum(y[partly.sample_indices_] == "pneumonia") == 20


@pytest.mark.parametrize("sampler", [RandomUnderSampler(), RandomOverSampler()])
def test_patient_unit_keeps_whole_patients(films, sampler):
    X, y, patients, _ = films
    classifier = ResampledClassifier(
        Recorder(), sampler=sampler, unit="patient", random_state=0
    ).fit(X, y, groups=patients)
    times = np.bincount(classifier.sample_indices_, minlength=60)
    copies = {}
    for patient in np.unique(patients):
        (n_times,) = np.unique(times[patients == patient])
        copies.setdefault(y[patients == patient][0], []).append(n_times)
    n_rare, n_common = len(copies["normal"]), len(copies["pneumonia"])
    wanted = min(n_rare, n_common) if "Under" in repr(sampler) else max(n_rare, n_common)
    assert sum(copies["normal"]) == sum(copies["pneumonia"]) == wanted
    assert (max(copies["normal"]) > 1) == ("Over" in repr(sampler))


def test_patient_of_two_classes_is_two_units():
    patients = ["a"] * 4 + ["b"] * 3 + ["c", "d"]
    y = np.array([0, 0, 1, 1, 0, 0, 0, 0, 0])
    classifier = ResampledClassifier(Recorder(), unit="patient", random_state=0)
    X = np.arange(9).reshape(-1, 1)
    drawn = classifier.fit(X, y, groups=patients).sample_indices_
    # One unit of class 1 (rows 2 and 3), and one of the four of class 0.
    assert {2, 3} < set(drawn)
    assert set(drawn) - {2, 3} in ({0, 1}, {4, 5, 6}, {7}, {8})


def test_random_state(films):
    X, y, _, _ = films

    def drawn(**kwargs):
        return list(ResampledClassifier(Recorder(), **kwargs).fit(X, y).sample_indices_)

    assert drawn(random_state=0) == drawn(random_state=0) != drawn(random_state=1)
    own = RandomUnderSampler(random_state=0)
    assert drawn(sampler=own) == drawn(random_state=0)
    assert drawn(sampler=own, random_state=1) == drawn(random_state=1)
    assert own.random_state == 0 and not hasattr(own, "sample_indices_")


# refusals


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (SMOTE(), r"SMOTE, which computes with the rows .* imblearn\.pipeline\.Pipeline"),
        (NearMiss(), "NearMiss, which computes with the rows"),
        (ClusterCentroids(), "ClusterCentroids, which computes"),
        (RandomOverSampler(shrinkage=0.5), "RandomOverSampler, which makes new rows"),
    ],
)
def test_samplers_that_cannot_carry_patients(films, sampler, message):
    X, y, patients, _ = films
    with pytest.raises(ValueError, match=message):
        ResampledClassifier(Recorder(), sampler=sampler).fit(X, y, groups=patients)
    assert not FITS


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"groups": None}, 'unit="patient" and no groups'),
        ({"groups": [None] * 60}, "60 images without a patient id"),
        ({"y": np.zeros((60, 3))}, "one class per image"),
        ({"y": ["a"] * 60}, "1 class in y"),
        ({"y": np.linspace(0, 1, 60)}, "Unknown label type"),
        ({"y": None}, "requires y to be passed"),
        ({"y": ["a", "b"]}, "inconsistent numbers"),
    ],
)
def test_errors(films, kwargs, message):
    X, y, patients, _ = films
    given = {"y": y, "groups": patients, **kwargs}
    with pytest.raises(ValueError, match=message):
        ResampledClassifier(Recorder(), unit="patient").fit(X, **given)


def test_parameters_are_validated(films):
    X, y, _, _ = films
    for wrong in ({"unit": "film"}, {"sampler": StandardScaler()}, {"random_state": "x"}):
        with pytest.raises(ValueError, match=f"The '{next(iter(wrong))}' parameter"):
            ResampledClassifier(Recorder(), **wrong).fit(X, y)


# delegation


def test_delegation_and_refit(films):
    X, y, _, _ = films
    frame = pd.DataFrame(X.reshape(60, -1) / 255).add_prefix("pixel")
    classifier = ResampledClassifier(LogisticRegression(), random_state=0)
    assert not hasattr(classifier, "classes_") and not hasattr(classifier, "n_features_in_")
    classifier.fit(frame, y)
    rows = classifier.sample_indices_
    direct = LogisticRegression().fit(frame.iloc[rows], y[rows])
    assert list(classifier.classes_) == ["normal", "pneumonia"]
    assert classifier.n_features_in_ == 16
    assert list(classifier.feature_names_in_) == list(frame)
    np.testing.assert_array_equal(classifier.predict(frame), direct.predict(frame))
    for method in ("predict_proba", "predict_log_proba", "decision_function"):
        np.testing.assert_allclose(
            getattr(classifier, method)(frame), getattr(direct, method)(frame)
        )
    assert classifier.score(frame, y) == direct.score(frame, y)
    again = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(again.predict(frame), direct.predict(frame))
    classifier.fit(frame.to_numpy(), y)
    assert not hasattr(classifier, "feature_names_in_")


def test_methods_are_those_of_the_estimator():
    assert not hasattr(ResampledClassifier(LinearSVC()), "predict_proba")
    assert hasattr(ResampledClassifier(LinearSVC()), "decision_function")
    assert not hasattr(ResampledClassifier(KNeighborsClassifier()), "decision_function")


def test_callbacks_reach_the_estimator(films):
    callback = pytest.importorskip("sklearn.callback", reason="callbacks come with 1.9")
    X, y, _, _ = films
    seen = []

    class Listener:
        max_propagation_depth = None

        def setup(self, estimator, context):
            seen.append(("setup", type(estimator).__name__))

        def teardown(self, estimator, context):
            seen.append(("teardown", type(estimator).__name__))

        def on_fit_task_begin(self, estimator, context, **kwargs):
            seen.append(("begin", type(estimator).__name__))

        def on_fit_task_end(self, estimator, context, **kwargs):
            seen.append(("end", type(estimator).__name__))

    listener = Listener()
    assert isinstance(listener, callback.AutoPropagatedCallback)
    classifier = ResampledClassifier(LogisticRegression()).set_callbacks(listener)
    classifier.fit(X.reshape(60, -1) / 255, y)
    assert seen[0] == ("setup", "ResampledClassifier")
    assert seen[-1] == ("teardown", "ResampledClassifier")
    assert {("begin", "LogisticRegression"), ("end", "LogisticRegression")} < set(seen)
    assert not hasattr(classifier.estimator_, "_parent_callback_ctx")


def test_tags_are_those_of_the_estimator():
    tags = sklearn.utils.get_tags(ResampledClassifier(KNeighborsClassifier()))
    assert tags.estimator_type == "classifier" and tags.input_tags.sparse
    assert not tags.classifier_tags.multi_label
    assert not sklearn.utils.get_tags(ResampledClassifier(Recorder())).input_tags.sparse
