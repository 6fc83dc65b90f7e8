import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from imblearn.over_sampling import SMOTE, RandomOverSampler
from imblearn.pipeline import Pipeline as ImblearnPipeline
from imblearn.pipeline import make_pipeline as make_imblearn_pipeline
from imblearn.under_sampling import ClusterCentroids, NearMiss, RandomUnderSampler
from PIL import Image
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import check_estimator

from sklearn_cxr.exceptions import PatientLeakageError
from sklearn_cxr.imbalance import ResampledClassifier
from sklearn_cxr.model_selection import check_patient_leakage
from sklearn_cxr.preprocessing import ImageReader

FITS = []


class Recorder(ClassifierMixin, BaseEstimator):
    """Records what its fit gets."""

    __metadata_request__fit = {"groups": True}

    def __init__(self, tag=0):
        self.tag = tag

    def fit(self, X, y, groups=None, sample_weight=None):
        FITS.append({"X": X, "y": y, "groups": groups, "sample_weight": sample_weight})
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.repeat(self.classes_[:1], len(X))


@pytest.fixture(autouse=True)
def forget_fits():
    FITS.clear()


@pytest.fixture
def films():
    """60 images of 25 patients; 15 are normal. Pixel (0, 0) holds the row number."""
    rng = np.random.RandomState(0)
    patients = np.sort(rng.randint(0, 25, 60))
    y = np.where(np.isin(patients, [0, 3, 7, 8, 12, 20]), "normal", "pneumonia")
    X = rng.randint(0, 255, size=(60, 4, 4)).astype(np.uint8)
    X[:, 0, 0] = np.arange(60)
    return X, y, patients, np.arange(60) + 0.5


def lengths(fit):
    return {name: None if v is None else len(v) for name, v in fit.items()}


# scikit-learn's contracts


@pytest.mark.parametrize(
    "estimator",
    [
        ResampledClassifier(LogisticRegression()),
        ResampledClassifier(LogisticRegression(), sampler=RandomOverSampler()),
        ResampledClassifier(make_pipeline(StandardScaler(), KNeighborsClassifier())),
    ],
    ids=["under", "over", "pipeline"],
)
def test_check_estimator(estimator):
    results = check_estimator(estimator, on_fail="raise", on_skip=None)
    skipped = {r["check_name"] for r in results if r["status"] == "skipped"}
    assert skipped <= {"check_array_api_input"}
    assert sum(r["status"] == "passed" for r in results) >= 45


# inside the pipeline


def test_plain_imbalanced_learn_loses_the_lengths(films):
    X, y, patients, weights = films
    pipeline = ImblearnPipeline([("sampler", RandomUnderSampler()), ("clf", Recorder())])
    pipeline.fit(X.reshape(60, -1), y, clf__groups=patients, clf__sample_weight=weights)
    n = 2 * np.sum(y == "normal")
    # The fault that ResampledClassifier is there for.
    assert lengths(FITS[0]) == {"X": n, "y": n, "groups": 60, "sample_weight": 60}


@pytest.mark.parametrize("sampler", [None, RandomUnderSampler(), RandomOverSampler()])
@pytest.mark.parametrize("unit", ["image", "patient"])
@pytest.mark.parametrize("routing", [False, True])
def test_equal_lengths_and_rows_that_belong_together(films, sampler, unit, routing):
    X, y, patients, weights = films
    with sklearn.config_context(enable_metadata_routing=routing):
        inner = Recorder().set_fit_request(sample_weight=True) if routing else Recorder()
        classifier = ResampledClassifier(inner, sampler=sampler, unit=unit, random_state=0)
        pipeline = make_pipeline(FunctionTransformer(), classifier)
        prefix = "" if routing else "resampledclassifier__"
        pipeline.fit(X, y, **{f"{prefix}groups": patients, f"{prefix}sample_weight": weights})
    (fit,) = FITS
    assert len(set(lengths(fit).values())) == 1
    rows = fit["X"][:, 0, 0]
    assert fit["X"].shape[1:] == (4, 4) and fit["X"].dtype == np.uint8
    np.testing.assert_array_equal(fit["y"], y[rows])
    np.testing.assert_array_equal(fit["groups"], patients[rows])
    np.testing.assert_array_equal(fit["sample_weight"], rows + 0.5)
    np.testing.assert_array_equal(pipeline[-1].sample_indices_, rows)
    assert (np.diff(rows) >= 0).all()
    if unit == "image":
        assert np.sum(fit["y"] == "normal") == np.sum(fit["y"] == "pneumonia")


@pytest.mark.parametrize("routing", [False, True])
def test_grid_search_with_patient_folds(films, routing):
    X, y, patients, weights = films
    cv = StratifiedGroupKFold(3)
    with sklearn.config_context(enable_metadata_routing=routing):
        inner = Recorder().set_fit_request(sample_weight=True) if routing else Recorder()
        pipeline = make_pipeline(
            FunctionTransformer(), ResampledClassifier(inner, unit="patient", random_state=0)
        )
        if routing:
            metadata = {"groups": patients, "sample_weight": weights}
            scorer = make_scorer(accuracy_score).set_score_request(sample_weight=True)
        else:
            scorer = make_scorer(accuracy_score)
            metadata = {
                "groups": patients,
                "resampledclassifier__groups": patients,
                "resampledclassifier__sample_weight": weights,
            }
        search = GridSearchCV(
            pipeline,
            {"resampledclassifier__estimator__tag": [0, 1]},
            cv=cv,
            scoring=scorer,
            error_score="raise",
        ).fit(X, y, **metadata)
    assert len(FITS) == 3 * 2 + 1
    folds = [train for train, _ in cv.split(X, y, patients)] * 2 + [np.arange(60)]
    for fit, train in zip(FITS, folds, strict=True):
        assert len(set(lengths(fit).values())) == 1
        rows = fit["X"][:, 0, 0]
        assert set(rows) <= set(train)
        np.testing.assert_array_equal(fit["groups"], patients[rows])
        np.testing.assert_array_equal(fit["sample_weight"], weights[rows])
    assert search.best_estimator_.predict(X).shape == (60,)


def test_inner_search_splits_copies_by_patient(films):
    X, y, patients, _ = films
    search = GridSearchCV(
        LogisticRegression(), {"C": [0.1, 1.0]}, cv=StratifiedGroupKFold(3), error_score="raise"
    )
    flat = X.reshape(60, -1) / 255
    over = ResampledClassifier(search, sampler=RandomOverSampler(), random_state=0)
    over.fit(flat, y, groups=patients)
    drawn = over.sample_indices_
    assert len(np.unique(drawn)) < len(drawn)
    splits = list(search.cv.split(drawn, y[drawn], patients[drawn]))
    assert check_patient_leakage(drawn, splits) == 3
    # Without the groups, copies of one image stand on both sides.
    with pytest.raises(PatientLeakageError):
        half = np.arange(len(drawn)) % 2 == 0
        check_patient_leakage(drawn, [half, ~half])
    with sklearn.config_context(enable_metadata_routing=True):
        routed = clone(over).fit(flat, y, groups=patients)
    np.testing.assert_allclose(routed.predict_proba(flat), over.predict_proba(flat))


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


# forms of X


class Rows:
    """Row-indexed view with a shape, as the reader returns it."""

    def __init__(self, values):
        self.values = values
        self.shape = values.shape
        self.dtype = values.dtype

    def __len__(self):
        return len(self.values)

    def __getitem__(self, key):
        return self.values[key]


@pytest.mark.parametrize(
    "convert",
    [
        lambda X: X.reshape(60, -1),
        lambda X: X,
        lambda X: np.array([f"{i}.png" for i in range(60)]),
        lambda X: np.array([f"{i}.png" for i in range(60)], dtype=object),
        lambda X: [f"{i}.png" for i in range(60)],
        lambda X: pd.DataFrame({"path": [f"{i}.png" for i in range(60)], "age": 50}),
        lambda X: pd.Series([f"{i}.png" for i in range(60)], index=range(60, 0, -1)),
        Rows,
    ],
    ids=["flat", "shaped", "strings", "objects", "list", "frame", "series", "view"],
)
def test_forms_of_x(films, convert):
    X, y, patients, _ = films
    given = convert(X)
    classifier = ResampledClassifier(Recorder(), random_state=0)
    classifier.fit(given, pd.Series(y), groups=list(patients))
    got, rows = FITS[0]["X"], classifier.sample_indices_
    if isinstance(given, pd.DataFrame):
        assert list(got["path"]) == [f"{i}.png" for i in rows] and "age" in got
    elif np.ndim(X[0]) and isinstance(given, np.ndarray | Rows) and given.dtype == np.uint8:
        np.testing.assert_array_equal(got, given[rows])
    else:
        assert list(got) == [f"{i}.png" for i in rows]
    assert isinstance(FITS[0]["y"], pd.Series)
    assert list(FITS[0]["y"]) == list(y[rows])


@pytest.fixture
def image_files(tmp_path, films):
    X, y, patients, _ = films
    X = np.where((y == "normal")[:, None, None], X // 3, X).astype(np.uint8)
    paths = [str(tmp_path / f"{i}.png") for i in range(60)]
    for path, image in zip(paths, X, strict=True):
        Image.fromarray(image).save(path)
    return pd.DataFrame({"path": paths, "age": np.arange(60) % 7}), y, patients


@pytest.mark.parametrize("sampler", [RandomUnderSampler, RandomOverSampler])
def test_samplers_in_imblearn_pipeline_on_flat_images(films, sampler):
    X, y, _, _ = films
    flatten = FunctionTransformer(lambda X: X.reshape(len(X), -1))
    pipeline = make_imblearn_pipeline(flatten, sampler(random_state=0), Recorder()).fit(X, y)
    counts = np.unique(FITS[0]["y"], return_counts=True)[1]
    n = (min if sampler is RandomUnderSampler else max)(np.unique(y, return_counts=True)[1])
    assert list(counts) == [n, n] and FITS[0]["X"].shape == (2 * n, 16)
    assert FITS[0]["X"].dtype == np.uint8
    assert pipeline.predict(X).shape == (60,)


@pytest.mark.parametrize("sampler", [RandomUnderSampler, RandomOverSampler])
def test_samplers_in_imblearn_pipeline_on_a_frame_with_paths(image_files, sampler):
    frame, y, _ = image_files
    reader = ColumnTransformer(
        [("image", ImageReader(size=4, output="flat"), ["path"]), ("age", "passthrough", ["age"])]
    )
    # The sampler comes first: only the drawn files are read.
    pipeline = make_imblearn_pipeline(
        sampler(random_state=0), reader, StandardScaler(), LogisticRegression()
    )
    pipeline.fit(frame, y)
    assert pipeline.score(frame, y) > 0.9
    assert pipeline[2].n_features_in_ == 17
    n = (min if sampler is RandomUnderSampler else max)(np.unique(y, return_counts=True)[1])
    assert pipeline[2].n_samples_seen_ == 2 * n


def test_wrapper_on_a_frame_with_paths(image_files):
    frame, y, patients = image_files
    inner = make_pipeline(
        ColumnTransformer([("image", ImageReader(size=4, output="flat"), ["path"])]),
        StandardScaler(),
        LogisticRegression(),
    )
    classifier = ResampledClassifier(inner, unit="patient", random_state=0)
    weights = np.ones(60)
    classifier.fit(frame, y, groups=patients, logisticregression__sample_weight=weights)
    assert classifier.score(frame, y) > 0.8
    assert list(classifier.feature_names_in_) == ["path", "age"]


# metadata


def test_groups_are_requested_by_default_and_routed_on(films):
    X, y, patients, weights = films
    with sklearn.config_context(enable_metadata_routing=True):
        classifier = ResampledClassifier(Recorder())
        routing = classifier.get_metadata_routing()
        assert routing.consumes("fit", ["groups", "sample_weight"]) == {"groups"}
        assert classifier.fit(X, y, groups=patients)
        assert len(FITS[-1]["groups"]) == len(FITS[-1]["y"])
        # An estimator without groups does not get any.
        flat = X.reshape(60, -1) / 255
        ResampledClassifier(LogisticRegression()).fit(flat, y, groups=patients)
        with pytest.raises(sklearn.exceptions.UnsetMetadataPassedError, match="sample_weight"):
            classifier.fit(X, y, groups=patients, sample_weight=weights)


def test_metadata_that_the_estimator_does_not_take(films):
    X, y, patients, weights = films
    flat = X.reshape(60, -1)
    knn = ResampledClassifier(KNeighborsClassifier())
    knn.fit(flat, y, groups=patients, sample_weight=None)
    with pytest.raises(TypeError, match="sample_weight"):
        knn.fit(flat, y, sample_weight=weights)


def test_weights_reach_the_estimator(films):
    X, y, _, _ = films
    flat = X.reshape(60, -1) / 255
    weights = np.where(np.arange(60) % 2, 1.0, 0.01)
    classifier = ResampledClassifier(LogisticRegression(), random_state=0)
    classifier.fit(flat, y, sample_weight=weights)
    rows = classifier.sample_indices_
    expected = LogisticRegression().fit(flat[rows], y[rows], sample_weight=weights[rows])
    np.testing.assert_allclose(classifier.estimator_.coef_, expected.coef_)


@pytest.mark.parametrize("metadata", [{"groups": np.zeros(30)}, {"sample_weight": np.ones(30)}])
def test_wrong_lengths(films, metadata):
    X, y, _, _ = films
    # 30 rows are drawn: entries of that number would pass unnoticed.
    with pytest.raises(ValueError, match=r"30 entries in \w+ for 60 images"):
        ResampledClassifier(Recorder()).fit(X, y, **metadata)


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
