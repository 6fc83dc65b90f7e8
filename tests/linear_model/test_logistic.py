import warnings

import numpy as np
import pytest
from PIL import Image
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_cxr.linear_model import PixelLogisticRegression, PixelLogisticRegressionCV
from sklearn_cxr.preprocessing import ImageReader, ImageRows
from sklearn_cxr.utils import _design


def films(n=80, side=6, n_classes=2, dtype=np.uint8, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    X = rng.normal(100, 25, (n, side, side))
    for label in range(n_classes):
        X[y == label, label : label + 3, label : label + 3] += 25
    X[:, -1, -1] = 17  # a pixel that never changes
    return X.clip(0, 255).astype(dtype), np.array(["bacterial", "normal", "viral"])[y]


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("standardize", [True, False])
def test_equals_scikit_learn_on_the_same_pixels(n_classes, dtype, class_weight, standardize):
    X, y = films(n_classes=n_classes, dtype=dtype)
    params = {"C": 0.3, "class_weight": class_weight, "tol": 1e-8, "max_iter": 10_000}
    if not standardize:
        # Raw grey levels are badly conditioned: a weak penalty would take lbfgs for ever.
        params["C"] = 1e-6
    ours = PixelLogisticRegression(**params, standardize=standardize).fit(X, y)
    plain = LogisticRegression(**params)
    peer = make_pipeline(StandardScaler(), plain) if standardize else plain
    flat = X.reshape(len(X), -1).astype(float)
    peer.fit(flat, y)
    np.testing.assert_allclose(ours.predict_proba(X), peer.predict_proba(flat), atol=1e-4)
    np.testing.assert_array_equal(ours.predict(X), peer.predict(flat))
    np.testing.assert_allclose(ours.decision_function(X), peer.decision_function(flat), atol=1e-3)


def test_probabilities_follow_from_the_coefficients():
    X, y = films()
    model = PixelLogisticRegression(C=0.1).fit(X, y)
    odds = X.reshape(len(X), -1).astype(float) @ model.coef_[0] + model.intercept_[0]
    np.testing.assert_allclose(model.predict_proba(X)[:, 1], 1 / (1 + np.exp(-odds)))
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), model.predict_proba(X))


def test_the_coefficient_image_is_per_standard_deviation():
    X, y = films(n_classes=3)
    model = PixelLogisticRegression(C=0.1).fit(X, y)
    assert model.coef_image_.shape == (3, 6, 6)
    deviation = X.reshape(len(X), -1).std(axis=0)
    deviation[-1] = 1
    np.testing.assert_allclose(
        model.coef_image_.reshape(3, -1), model.coef_ * deviation, rtol=1e-10, atol=1e-15
    )
    # The planted square of class 0 pulls toward class 0.
    assert model.coef_image_[0, :2, :2].mean() > 0
    assert (model.coef_image_[:, -1, -1] == 0).all()


def test_a_weight_of_two_is_an_image_given_twice():
    X, y = films()
    weight = np.where(np.arange(len(X)) % 3 == 0, 2, 1)
    params = {"C": 0.1, "tol": 1e-9, "max_iter": 10_000}
    weighted = PixelLogisticRegression(**params).fit(X, y, sample_weight=weight)
    repeated = PixelLogisticRegression(**params).fit(np.repeat(X, weight, 0), np.repeat(y, weight))
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, atol=1e-6)
    np.testing.assert_allclose(weighted.mean_, repeated.mean_)


def test_float32_stays_close_to_float64():
    X, y = films(dtype=np.float64)
    double = PixelLogisticRegression(C=0.1).fit(X, y).predict_proba(X)
    single = PixelLogisticRegression(C=0.1).fit(X.astype(np.float32), y)
    assert np.abs(single.predict_proba(X.astype(np.float32)) - double).max() < 1e-3


def test_warm_start_goes_on_from_the_previous_fit():
    X, y = films(n=200, side=12)
    model = PixelLogisticRegression(C=1.0, warm_start=True, tol=1e-6).fit(X, y)
    cold = int(model.n_iter_[0])
    assert model.fit(X, y).n_iter_[0] < cold / 2
    with pytest.raises(ValueError, match="warm_start=True, but the previous fit was on 144"):
        model.fit(X[:, :6], y)


@pytest.mark.parametrize("solver", ["passes", "gram"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_a_warm_start_on_other_images_ends_where_a_cold_one_does(solver, fit_intercept):
    X, y = films()
    other = (X * 0.5).astype(np.uint8)
    other[:, 1, 1] = 60  # had a coefficient, and tells nothing any more
    params = {"C": 0.1, "tol": 1e-9, "max_iter": 10_000, "solver": solver}
    warm = PixelLogisticRegression(**params, warm_start=True).fit(X, y)
    assert warm.coef_image_[0, 1, 1] != 0
    warm.set_params(fit_intercept=fit_intercept).fit(other, y)
    cold = PixelLogisticRegression(**params, fit_intercept=fit_intercept).fit(other, y)
    assert warm.objective_ == pytest.approx(cold.objective_, rel=1e-9)
    np.testing.assert_allclose(warm.coef_, cold.coef_, atol=1e-7)
    np.testing.assert_allclose(warm.intercept_, cold.intercept_, atol=1e-5)
    assert warm.coef_image_[0, 1, 1] == 0


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda X, y: (X, np.arange(len(X)) % 3), "this one needs 36 and 3"),
        (lambda X, y: (X[:, :4], y), "this one needs 24 and 1"),
        (lambda X, y: (X / 255, np.arange(len(X)) % 3), "this one needs 36 and 3"),
        (lambda X, y: (X, np.zeros(len(X))), "y holds one class only"),
        (lambda X, y: (X, y == "normal", -np.ones(len(X))), "Negative values"),
    ],
)
def test_a_fit_that_is_refused_leaves_the_model_as_it_was(change, match):
    X, y = films()
    model = PixelLogisticRegression(warm_start=True).fit(X, y)
    expected, known = model.predict(X), vars(model).copy()
    with pytest.raises(ValueError, match=match):
        model.fit(*change(X, y))
    assert vars(model).keys() == known.keys()
    assert all(vars(model)[name] is value for name, value in known.items())
    np.testing.assert_array_equal(model.predict(X), expected)


def test_a_fit_that_is_interrupted_leaves_the_model_as_it_was(monkeypatch):
    X, y = films()
    model = PixelLogisticRegressionCV(Cs=[0.1], cv=2).fit(X, y, groups=np.arange(len(X)))
    known = vars(model).copy()

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(PixelLogisticRegression, "_solve", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X[:, :4], y == "normal", groups=np.arange(len(X)))
    assert all(vars(model)[name] is value for name, value in known.items())
    assert model.predict(X).tolist() == y.tolist()


@pytest.mark.parametrize("unit", ["as given", "sum is one"])
def test_equals_scikit_learn_with_weights_of_any_unit(unit):
    X, y = films(n=40)
    X[:, 0, 0], X[:, 0, 1] = 200, 255  # a marker that every film has
    weight = np.random.default_rng(0).uniform(0.5, 2, len(X))
    weight /= 1 if unit == "as given" else weight.sum()
    flat = X.reshape(len(X), -1).astype(float)
    # scikit-learn's scaler takes weights of any unit for whole rows, so that one has it given.
    mean = np.average(flat, axis=0, weights=weight)
    deviation = np.sqrt(np.average((flat - mean) ** 2, axis=0, weights=weight))
    Z = (flat - mean) / np.where(np.ptp(flat, axis=0) > 0, deviation, 1)
    params = {"C": 0.3, "tol": 1e-10, "max_iter": 10_000}
    peer = LogisticRegression(**params).fit(Z, y, sample_weight=weight)
    ours = PixelLogisticRegression(**params).fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(ours.coef_image_.reshape(1, -1), peer.coef_, atol=1e-6)
    np.testing.assert_allclose(ours.predict_proba(X), peer.predict_proba(Z), atol=1e-6)
    assert (ours.coef_image_[0, 0, :2] == 0).all()


def test_a_fit_that_stops_early_says_what_to_change():
    X, y = films(n=200, side=12)
    with pytest.warns(ConvergenceWarning, match=r"max_iter=2 .*Raise max_iter, loosen tol"):
        PixelLogisticRegression(C=100.0, max_iter=2).fit(X, y)


def test_the_objective_is_the_one_that_the_documentation_states():
    X, y = films(n_classes=3)
    model = PixelLogisticRegression(C=0.2, class_weight="balanced", tol=1e-7).fit(X, y)
    labels = list(model.classes_)
    likelihood = model.predict_proba(X)[np.arange(len(y)), [labels.index(label) for label in y]]
    counts = np.array([np.sum(y == label) for label in y])
    weight = len(y) / (3 * counts)
    expected = (model.coef_image_**2).sum() / 2 - 0.2 * (weight * np.log(likelihood)).sum()
    assert model.objective_ == pytest.approx(expected, rel=1e-9)


def test_rows_of_the_decode_store_are_read_where_they_lie(tmp_path, monkeypatch):
    X, y = films()
    for i, film in enumerate(X):
        Image.fromarray(film).save(tmp_path / f"{i:03d}.png")
    rows = ImageReader(6, cache_dir=tmp_path / "store").fit_transform(
        sorted(tmp_path.glob("*.png"))
    )
    expected = PixelLogisticRegression().fit(X, y)

    def refuse(self, dtype=None, copy=None):
        raise AssertionError("the rows were made into an array")

    monkeypatch.setattr(_design, "_VALUES_FOR_NUMPY", 0)
    monkeypatch.setattr(ImageRows, "_gather", refuse)
    model = PixelLogisticRegression().fit(rows, y)
    np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(model.predict_proba(rows[::3]), expected.predict_proba(X[::3]))


def test_class_weight_of_a_stranger():
    X, y = films()
    with pytest.raises(ValueError, match=r"class_weight names \['viral'\], but the classes are"):
        PixelLogisticRegression(class_weight={"viral": 2}).fit(X, y)
    # A fold may lack a rare class; scikit-learn takes that as it is, too.
    weights = {"normal": 2, "bacterial": 1}
    spare = PixelLogisticRegression(class_weight={**weights, "viral": 3}).fit(X, y)
    plain = PixelLogisticRegression(class_weight=weights).fit(X, y)
    np.testing.assert_array_equal(spare.coef_, plain.coef_)


def test_class_weight_by_name_multiplies_the_rows():
    X, y = films()
    named = PixelLogisticRegression(class_weight={"normal": 3.0}, tol=1e-8).fit(X, y)
    peer = LogisticRegression(class_weight={"normal": 3.0}, tol=1e-8, max_iter=10_000)
    peer = make_pipeline(StandardScaler(), peer).fit(X.reshape(len(X), -1).astype(float), y)
    np.testing.assert_allclose(
        named.predict_proba(X), peer.predict_proba(X.reshape(len(X), -1)), atol=1e-4
    )


def test_progress_is_drawn_only_on_request(capfd):
    X, y = films()
    PixelLogisticRegression().fit(X, y)
    assert capfd.readouterr() == ("", "")
    PixelLogisticRegression(verbose=1).fit(X, y)
    assert "objective=" in capfd.readouterr().err


def test_one_class_only():
    X, y = films()
    with pytest.raises(ValueError, match=r"one class only.*bacterial"):
        PixelLogisticRegression().fit(X[y == "bacterial"], y[y == "bacterial"])
    with pytest.raises(ValueError, match=r"one class only \(0\)"):
        PixelLogisticRegression().fit(X, np.zeros(len(y), int))


@pytest.mark.parametrize(
    ("X", "match"),
    [
        (np.full((4, 3, 3), np.nan), "NaN"),
        (np.zeros((4, 0, 3)), "0 pixels"),
        (np.zeros((4, 2, 2, 2, 2)), r"got shape \(4, 2, 2, 2, 2\)"),
        (np.zeros(4), "Expected 2D array"),
    ],
)
def test_what_is_no_batch_of_images_raises(X, match):
    with pytest.raises(ValueError, match=match):
        PixelLogisticRegression().fit(X, [0, 1, 0, 1])


def test_image_shape_of_flat_input():
    X, y = films()
    model = PixelLogisticRegression(image_shape=(4, 9)).fit(X.reshape(80, 36), y)
    assert model.coef_image_.shape == (1, 4, 9)
    with pytest.raises(ValueError, match=r"image_shape=\(4, 8\) holds 32 values"):
        PixelLogisticRegression(image_shape=(4, 8)).fit(X.reshape(80, 36), y)
    with pytest.raises(ValueError, match=r"shape \(6, 6\), but image_shape says \(4, 9\)"):
        PixelLogisticRegression(image_shape=(4, 9)).fit(X, y)


def test_callbacks_reach_the_solver():
    callback = pytest.importorskip("sklearn.callback", reason="new in scikit-learn 1.9")
    seen = []

    class Recorder:
        def setup(self, estimator, context):
            seen.append("setup")

        def on_fit_task_begin(self, estimator, context):
            seen.append(context.task_name)

        def on_fit_task_end(self, estimator, context):
            seen.append("end")

        def teardown(self, estimator, context):
            seen.append("teardown")

    assert isinstance(Recorder(), callback.FitCallback)
    X, y = films()
    PixelLogisticRegression().set_callbacks(Recorder()).fit(X, y)
    assert seen[:2] == ["setup", "fit"]
    assert seen[-2:] == ["end", "teardown"]


def test_coefficients_at_32_pixels_match_scikit_learn_on_real_films(data_root):
    root = data_root / "chest_xray" / "train"
    normal = sorted((root / "NORMAL").glob("*"))[:150]
    pneumonia = sorted((root / "PNEUMONIA").glob("*"))[:150]
    X = ImageReader(size=32, n_jobs=2).fit_transform(normal + pneumonia)
    y = np.repeat([0, 1], 150)
    params = {"C": 1e-3, "tol": 1e-8, "max_iter": 10_000}
    ours = PixelLogisticRegression(**params).fit(X, y)
    peer = make_pipeline(StandardScaler(), LogisticRegression(**params))
    peer.fit(X.reshape(300, -1).astype(float), y)
    np.testing.assert_allclose(
        ours.predict_proba(X), peer.predict_proba(X.reshape(300, -1)), atol=1e-4
    )
    assert roc_auc_score(y, ours.predict_proba(X)[:, 1]) > 0.95


def test_32_pixels_on_the_official_test_split(data_root):
    """0.916 was measured before this library existed; 0.91 is held here."""
    root = data_root / "chest_xray"

    def load(split):
        parts = [sorted((root / split / name).glob("*")) for name in ("NORMAL", "PNEUMONIA")]
        paths = parts[0] + parts[1]
        y = np.repeat([0, 1], [len(part) for part in parts])
        return ImageReader(size=32, n_jobs=2).fit_transform(paths), y

    X, y = load("train")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model = PixelLogisticRegression(C=1e-3).fit(X, y)
    X_test, y_test = load("test")
    assert len(y_test) == 624
    assert roc_auc_score(y_test, model.predict_proba(X_test)[:, 1]) >= 0.91
