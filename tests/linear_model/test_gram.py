"""The n-dimensional form against the passes over the rows."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_cxr.linear_model import (
    PixelLogisticRegression,
    PixelLogisticRegressionCV,
    _gram,
    _logistic,
)
from sklearn_cxr.linear_model._gram import gram_pays
from sklearn_cxr.preprocessing import ImageRows
from sklearn_cxr.utils import _design
from sklearn_cxr.utils._design import Design


def films(n=40, side=12, n_classes=2, dtype=np.uint8, seed=0):
    """Fewer films than pixels, one pixel that never changes, two patients alike."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    X = rng.normal(100, 25, (n, side, side))
    for label in range(n_classes):
        X[y == label, label : label + 4, label : label + 4] += 25
    X[:, -1, -1] = 17
    X[1] = X[1 + n_classes]  # the same film twice: the Gram matrix has not full rank
    return X.clip(0, 255).astype(dtype), y


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_equals_the_passes(n_classes, standardize, fit_intercept, weighted):
    X, y = films(n_classes=n_classes)
    weight = np.random.default_rng(1).uniform(0.2, 3, len(y)) if weighted else None
    if weighted:
        weight[:4] = 0
    params = {
        "C": 0.05 if standardize else 1e-5,
        "standardize": standardize,
        "fit_intercept": fit_intercept,
        "class_weight": "balanced" if weighted else None,
        "tol": 1e-9,
        "max_iter": 10_000,
    }
    passes = PixelLogisticRegression(**params, solver="passes").fit(X, y, sample_weight=weight)
    gram = PixelLogisticRegression(**params, solver="gram").fit(X, y, sample_weight=weight)
    distance = np.linalg.norm(gram.coef_ - passes.coef_) / np.linalg.norm(passes.coef_)
    # On raw grey levels both end where float64 tells no lower objective, a little apart.
    assert distance < (1e-5 if standardize else 1e-4)
    np.testing.assert_allclose(
        gram.intercept_, passes.intercept_, atol=1e-5 if standardize else 1e-3
    )
    assert gram.objective_ == pytest.approx(passes.objective_, rel=1e-10)
    assert not np.array_equal(gram.coef_, passes.coef_)  # they did go different ways


def test_equals_scikit_learn():
    X, y = films(n_classes=3)
    params = {"C": 0.1, "tol": 1e-9, "max_iter": 10_000}
    ours = PixelLogisticRegression(**params, solver="gram").fit(X, y)
    flat = X.reshape(len(X), -1).astype(float)
    peer = make_pipeline(StandardScaler(), LogisticRegression(**params)).fit(flat, y)
    np.testing.assert_allclose(
        ours.coef_image_.reshape(3, -1),
        peer[-1].coef_,
        rtol=0,
        atol=1e-5 * np.abs(peer[-1].coef_).max(),
    )


@pytest.mark.parametrize("solver", ["passes", "gram"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_gradient_is_small_where_a_fit_ends(solver, n_classes):
    X, y = films(n_classes=n_classes)
    model = PixelLogisticRegression(C=0.1, solver=solver, tol=1e-6).fit(X, y)
    flat = X.reshape(len(X), -1).astype(float)
    z = (flat - flat.mean(axis=0)) / np.where(np.ptp(flat, axis=0) > 0, flat.std(axis=0), 1)
    coef = model.coef_image_.reshape(-1, z.shape[1])
    residual = (model.predict_proba(X) - np.eye(n_classes)[y])[:, -len(coef) :]
    gradient = residual.T @ z / len(y) + coef / (0.1 * len(y))
    assert np.abs(gradient).max() <= 1e-6
    assert np.abs(residual.mean(axis=0)).max() <= 1e-6
    # What a fit begins with is far from it.
    assert np.abs((np.eye(n_classes)[y] - 1 / n_classes).T @ z / len(y)).max() > 0.1


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_path_equals_the_passes_and_makes_one_matrix_a_fold(n_classes, monkeypatch):
    X, y = films(n=48, n_classes=n_classes)
    groups = np.arange(48)
    params = {"Cs": np.logspace(-4, 0, 5), "cv": 3, "tol": 1e-8, "max_iter": 10_000}
    params["scoring"] = "neg_log_loss"
    made = []
    whole = Design.gram
    monkeypatch.setattr(
        Design, "gram", lambda self, *a: made.append(self.shape) or whole(self, *a)
    )
    gram = PixelLogisticRegressionCV(**params, solver="gram").fit(X, y, groups=groups)
    assert made == [(32, 144)] * 3 + [(48, 144)]
    passes = PixelLogisticRegressionCV(**params, solver="passes").fit(X, y, groups=groups)
    assert len(made) == 4
    np.testing.assert_allclose(gram.scores_, passes.scores_, rtol=1e-5)
    assert gram.C_ == passes.C_


@pytest.mark.parametrize("form", ["view", "Fortran", "big endian", "float32", "threads"])
def test_rows_of_every_form(form, tmp_path, monkeypatch):
    X, y = films()
    expected = PixelLogisticRegression(C=0.1, solver="gram").fit(X.astype(float), y)
    monkeypatch.setattr(_design, "_CHUNK_BYTES", 8 * 40 * 65)  # several blocks of columns
    if form == "view":
        order = np.random.default_rng(0).permutation(40)
        X = ImageRows([X[order][:25], X[order][25:]], *np.divmod(np.argsort(order), 25))
    elif form == "Fortran":
        X = np.asfortranarray(X)
    elif form == "threads":
        monkeypatch.setattr(_design, "_VALUES_FOR_THREADS", 0)
        monkeypatch.setattr(_design, "_thread_count", lambda: 3)
    else:
        X = X.astype(">u2" if form == "big endian" else np.float32)
    found = PixelLogisticRegression(C=0.1, solver="gram").fit(X, y)
    np.testing.assert_allclose(found.coef_, expected.coef_, rtol=1e-6, atol=1e-12)


def test_warm_start_goes_on_from_the_previous_fit():
    X, y = films()
    model = PixelLogisticRegression(C=1.0, warm_start=True, tol=1e-6, solver="gram").fit(X, y)
    assert model.n_iter_[0] > 5
    assert model.fit(X, y).n_iter_[0] <= 1


def test_more_rows_than_columns_are_right_all_the_same():
    X, y = films(n=60, side=4)
    passes = PixelLogisticRegression(C=0.1, tol=1e-9, solver="passes").fit(X, y)
    gram = PixelLogisticRegression(C=0.1, tol=1e-9, solver="gram").fit(X, y)
    np.testing.assert_allclose(gram.coef_, passes.coef_, rtol=0, atol=1e-8)


def test_auto_goes_by_size(monkeypatch):
    # By the table in benchmarks/results: films of 224 pixels, then of 64, then of 32.
    assert gram_pays((300, 50_176)) and not gram_pays((1200, 50_176))
    assert gram_pays((2400, 50_176), 20) and not gram_pays((3477, 50_176), 20)
    assert not gram_pays((5216, 50_176), 20)
    assert gram_pays((600, 4096), 20) and not gram_pays((1200, 4096), 20)
    assert not gram_pays((5216, 1024), 20)
    assert not gram_pays((15, 30)) and not gram_pays((15, 30), 20)
    asked = []
    monkeypatch.setattr(
        _logistic, "gram_pays", lambda *size: asked.append(size) or gram_pays(*size)
    )
    X, y = films()
    PixelLogisticRegressionCV([0.01, 0.1], cv=2).fit(X, y, groups=np.arange(40))
    assert asked == [((20, 144), 2), ((20, 144), 2), ((40, 144), 1)]


def test_the_matrix_is_that_of_the_weighted_standardised_rows():
    flat = films()[0].reshape(40, -1)
    rng = np.random.default_rng(0)
    weight, mean, scale = rng.random(40), rng.random(144) * 50, rng.random(144) + 1
    z = np.sqrt(weight)[:, None] * (flat - mean) / scale
    np.testing.assert_allclose(Design(flat).gram(weight, mean, scale), z @ z.T, rtol=1e-10)
    rows = _gram.Reduced(Design(flat), weight, mean, scale).rows
    assert rows.shape == (40, np.linalg.matrix_rank(z)) == (40, 39)
    products = (z @ z.T) / np.sqrt(np.outer(weight, weight))
    np.testing.assert_allclose(rows @ rows.T, products, rtol=1e-8)
