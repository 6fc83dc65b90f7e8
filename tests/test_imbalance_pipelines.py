"""Resampling inside pipelines and searches, on every form of X, with groups and weights."""

import numpy as np
import pandas as pd
import pytest
import sklearn
from imbalance_common import FITS, Recorder, lengths, make_films
from imblearn.over_sampling import RandomOverSampler
from imblearn.pipeline import Pipeline as ImblearnPipeline
from imblearn.pipeline import make_pipeline as make_imblearn_pipeline
from imblearn.under_sampling import RandomUnderSampler
from PIL import Image
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_cxr.exceptions import PatientLeakageError
from sklearn_cxr.imbalance import ResampledClassifier
from sklearn_cxr.model_selection import check_patient_leakage
from sklearn_cxr.preprocessing import ImageReader


@pytest.fixture(autouse=True)
def forget_fits():
    FITS.clear()


@pytest.fixture
def films():
    return make_films()


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
