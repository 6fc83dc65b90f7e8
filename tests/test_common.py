"""scikit-learn's whole battery on every public estimator, and this library's own contracts."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
import sklearn
import skops.io
from common import (
    FEATURE_ESTIMATORS,
    array_estimators,
    name_of,
    public_estimator_classes,
    tiny,
)
from PIL import Image
from sklearn.base import clone, is_classifier
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks as checks
from sklearn.utils import get_tags
from sklearn.utils.fixes import parse_version

from sklearn_cxr.exceptions import UnreadableImageWarning
from sklearn_cxr.linear_model import PixelLogisticRegression
from sklearn_cxr.preprocessing import ImageReader
from sklearn_cxr.utils._sklearn import CallbackSupportMixin

ESTIMATORS = array_estimators()
# No lungs in a few random pixels, and no patients in scikit-learn's checks: both are warned of.
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn_cxr.exceptions.FallbackWarning"),
    pytest.mark.filterwarnings("ignore::sklearn_cxr.exceptions.LeakageRiskWarning"),
]
# scikit-learn 1.9.1 yields 46 checks for the plainest transformer; older ones a few less.
FEWEST_PASSED = 38

# Packages whose classes are told to skops to be trusted; the tiny networks are the tests' own.
OURS = ("sklearn_cxr.", "imblearn.", "tiny_networks.")

EXTRA_CHECKS = [
    checks.check_param_validation,
    checks.check_set_output_transform,
    checks.check_set_output_transform_pandas,
    checks.check_set_output_transform_polars,
    checks.check_global_output_transform_pandas,
    checks.check_global_set_output_transform_polars,
    checks.check_dataframe_column_names_consistency,
    checks.check_transformer_get_feature_names_out,
    checks.check_transformer_get_feature_names_out_pandas,
]


def images_for(estimator, n=24, side=9, seed=0):
    """uint8 films with a label in their brightness, fit for every estimator."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    X = rng.integers(0, 120, size=(n, side, side)) + 60 * y[:, None, None]
    X[:, 0, :] = 0
    if estimator is not None and name_of(estimator) in FEATURE_ESTIMATORS:
        X = X.reshape(n, -1)
    return X.astype(np.uint8), np.array(["normal", "pneumonia"])[y]


def outputs(estimator, X):
    """Whatever a fitted estimator answers, as a flat ndarray."""
    method = "predict_proba" if is_classifier(estimator) else "transform"
    return np.asarray(getattr(estimator, method)(X)).reshape(len(X), -1)


def for_images(estimator):
    """The estimator as a user would set it up for uint8 films."""
    estimator = clone(estimator)
    if "value_range" in estimator.get_params():
        estimator.set_params(value_range=None)
    if type(estimator).__name__ == "Resize":
        estimator.set_params(size=6)
    if "random_state" in estimator.get_params():
        estimator.set_params(random_state=0)
    return estimator


# The one check that is skipped is named below; its warning would be an error here.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)
def test_check_estimator_passes_whole(estimator):
    results = checks.check_estimator(estimator, on_skip=None, on_fail=None)
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}
    assert not failed
    assert not [r["check_name"] for r in results if r["status"] == "xfail"]
    skipped = {r["check_name"] for r in results if r["status"] == "skipped"}
    # The first needs SCIPY_ARRAY_API in the environment before scipy is imported; networks
    # answer with probabilities and have no decision_function.
    assert skipped <= {
        "check_array_api_input",
        "check_classifiers_multilabel_output_format_decision_function",
    }
    assert sum(r["status"] == "passed" for r in results) >= FEWEST_PASSED


# These checks mix frames and arrays between fit and transform on purpose.
@pytest.mark.filterwarnings("ignore:X (does not have valid|has) feature names:UserWarning")
@pytest.mark.parametrize("check", EXTRA_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)
def test_checks_that_check_estimator_leaves_out(estimator, check):
    if "transform" in check.__name__ and not hasattr(estimator, "transform"):
        pytest.skip("is no transformer")
    check(name_of(estimator), clone(estimator))


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)
def test_no_tag_empties_the_checks(estimator):
    tags = get_tags(estimator)
    assert not tags._skip_test
    assert not tags.no_validation
    assert not tags.non_deterministic
    assert tags.input_tags.two_d_array
    assert not (tags.classifier_tags and tags.classifier_tags.poor_score)


@pytest.mark.parametrize("cls", public_estimator_classes(), ids=lambda cls: cls.__name__)
def test_callbacks_are_supported_where_scikit_learn_has_them(cls):
    assert issubclass(cls, CallbackSupportMixin)
    if parse_version(sklearn.__version__) >= parse_version("1.9.0"):
        assert hasattr(cls, "set_callbacks")


class Recorder:
    """A callback that writes down which of its hooks are called."""

    def __init__(self):
        self.seen = []

    def setup(self, estimator, context):
        self.seen.append("setup")

    def on_fit_task_begin(self, estimator, context):
        self.seen.append("begin")

    def on_fit_task_end(self, estimator, context):
        self.seen.append("end")

    def teardown(self, estimator, context):
        self.seen.append("teardown")


@pytest.mark.parametrize("method", ["fit", "fit_transform"])
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)
def test_callbacks_are_called(estimator, method):
    pytest.importorskip("sklearn.callback", reason="callbacks are new in scikit-learn 1.9")
    if not hasattr(estimator, method):
        pytest.skip("is no transformer")
    X, y = images_for(estimator)
    recorder = Recorder()
    getattr(for_images(estimator).set_callbacks(recorder), method)(X, y)
    assert recorder.seen[:2] == ["setup", "begin"]
    assert recorder.seen[-2:] == ["end", "teardown"]
    assert recorder.seen.count("begin") == recorder.seen.count("end")


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)
class TestContracts:
    def test_flat_and_shaped_agree(self, estimator):
        X, y = images_for(estimator)
        shaped = for_images(estimator).fit(X, y)
        flat = for_images(estimator).fit(X.reshape(len(X), -1), y)
        np.testing.assert_array_equal(outputs(shaped, X), outputs(flat, X.reshape(len(X), -1)))

    def test_form_of_the_input_is_kept(self, estimator):
        if not hasattr(estimator, "transform") or not hasattr(estimator, "image_shape"):
            pytest.skip("does not go from images to images")
        X, y = images_for(estimator)
        fitted = for_images(estimator).fit(X, y)
        out = fitted.transform(X)
        assert fitted.transform(X.reshape(len(X), -1)).ndim == 2
        always_flat = {"BackboneFeatures", "Flatten", "PixelPCA", "RandomPixelSampler"}
        assert out.ndim == (2 if name_of(estimator) in always_flat else 3)

    def test_memmap_and_array_agree(self, estimator, tmp_path):
        X, y = images_for(estimator)
        np.save(tmp_path / "X.npy", X)
        mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
        from_map = for_images(estimator).fit(mapped, y)
        np.testing.assert_array_equal(
            outputs(from_map, mapped), outputs(for_images(estimator).fit(X, y), X)
        )
        np.testing.assert_array_equal(np.load(tmp_path / "X.npy"), X)

    def test_refit_leaves_nothing_of_the_first_fit(self, estimator):
        X, y = images_for(estimator)
        other, y_other = images_for(estimator, n=20, side=7, seed=1)
        refitted = for_images(estimator).fit(X, y).fit(other, y_other)
        fresh = for_images(estimator).fit(other, y_other)
        # What is stored, because a network also remembers how long its epochs took.
        assert joblib.hash(refitted.__getstate__()) == joblib.hash(fresh.__getstate__())

    def test_images_of_another_shape_raise(self, estimator):
        X, y = images_for(estimator)
        fitted = for_images(estimator).fit(X, y)
        other, _ = images_for(estimator, side=7)
        with pytest.raises(ValueError, match=r"\(7, 7\)|49 features"):
            outputs(fitted, other)

    def test_grey_levels_of_another_kind_raise(self, estimator):
        X, y = images_for(estimator)
        fitted = for_images(estimator).fit(X, y)
        if not hasattr(fitted, "input_kind_"):
            pytest.skip("leaves the grey levels to the classifier inside")
        assert fitted.input_kind_ == "uint8"
        with pytest.raises(ValueError, match="was fitted on uint8"):
            outputs(fitted, X / 255)

    def test_pickle_answers_the_same(self, estimator):
        X, y = images_for(estimator)
        fitted = for_images(estimator).fit(X, y)
        again = pickle.loads(pickle.dumps(fitted))
        np.testing.assert_array_equal(outputs(again, X), outputs(fitted, X))

    def test_skops_saves_and_loads(self, estimator):
        X, y = images_for(estimator)
        fitted = for_images(estimator).fit(X, y)
        saved = skops.io.dumps(fitted)
        unknown = skops.io.get_untrusted_types(data=saved)
        assert all(name.startswith(OURS) for name in unknown)
        again = skops.io.loads(saved, trusted=unknown)
        np.testing.assert_array_equal(outputs(again, X), outputs(fitted, X))

    def test_n_jobs_changes_nothing(self, estimator):
        if "n_jobs" not in estimator.get_params():
            pytest.skip("has no n_jobs")
        X, y = images_for(estimator)
        one = for_images(estimator).set_params(n_jobs=1).fit(X, y)
        two = for_images(estimator).set_params(n_jobs=2).fit(X, y)
        np.testing.assert_array_equal(outputs(one, X), outputs(two, X))

    def test_global_generators_are_not_touched(self, estimator):
        X, y = images_for(estimator)
        np.random.seed(0)  # noqa: NPY002 - the global generator is what this is about
        before = np.random.get_state()[1].copy()  # noqa: NPY002 - as above
        outputs(for_images(estimator).fit(X, y), X)
        np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002 - as above

    def test_string_labels_come_back(self, estimator):
        if not is_classifier(estimator):
            pytest.skip("is no classifier")
        X, y = images_for(estimator)
        predicted = for_images(estimator).fit(X, y).predict(X)
        assert set(predicted) <= {"normal", "pneumonia"}
        assert np.mean(predicted == y) > 0.9

    def test_output_is_silent(self, estimator, capfd):
        X, y = images_for(estimator)
        outputs(for_images(estimator).fit(X, y), X)
        assert capfd.readouterr() == ("", "")


def test_dumps_load_in_a_fresh_process_started_elsewhere(tmp_path):
    """All estimators at once: starting an interpreter is what takes the time."""
    fitted, images, expected = {}, {}, {}
    for estimator in ESTIMATORS:
        X, y = images_for(estimator)
        name = repr(estimator)
        fitted[name], images[name] = for_images(estimator).fit(X, y), X
        expected[name] = outputs(fitted[name], X)
    joblib.dump((fitted, images), tmp_path / "models.joblib")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    program = (
        "import joblib, numpy as np, pathlib\n"
        "fitted, images = joblib.load('../models.joblib')\n"
        "def answer(e, X):\n"
        "    f = getattr(e, 'predict_proba', None) or e.transform\n"
        "    return np.asarray(f(X)).reshape(len(X), -1)\n"
        "joblib.dump({k: answer(e, images[k]) for k, e in fitted.items()}, 'answers.joblib')\n"
    )
    # A network of a user's own has to be importable where it is loaded.
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    subprocess.run(
        [sys.executable, "-W", "ignore::sklearn_cxr.exceptions.FallbackWarning", "-c", program],
        cwd=elsewhere,
        env=environment,
        check=True,
    )
    answers = joblib.load(elsewhere / "answers.joblib")
    assert answers.keys() == expected.keys()
    for name, answer in answers.items():
        np.testing.assert_array_equal(answer, expected[name], err_msg=name)


def test_skops_saves_a_pipeline_from_paths(tmp_path):
    X, y = images_for(None)
    for i, film in enumerate(X):
        Image.fromarray(film).save(tmp_path / f"{i:02d}.png")
    paths = sorted(map(str, tmp_path.glob("*.png")))
    (tmp_path / "broken.png").write_bytes(b"nothing")
    reader = ImageReader(size=9, on_error="report")
    with pytest.warns(UnreadableImageWarning):
        fitted = make_pipeline(reader, PixelLogisticRegression()).fit(
            [*paths, str(tmp_path / "broken.png")], [*y, "normal"]
        )
    saved = skops.io.dumps(fitted)
    again = skops.io.loads(saved, trusted=skops.io.get_untrusted_types(data=saved))
    np.testing.assert_array_equal(again.predict_proba(paths), fitted.predict_proba(paths))
    assert list(again[0].errors_["file"]) == [str(tmp_path / "broken.png")]


def test_every_estimator_is_met_here():
    names = {name_of(estimator) for estimator in ESTIMATORS}
    assert {"Flatten", "PixelLogisticRegression", "PixelPCA"} <= names
    assert all(isinstance(tiny(cls), cls) for cls in public_estimator_classes())
