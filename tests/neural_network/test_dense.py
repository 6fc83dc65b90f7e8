"""Dense layers on features."""

import numpy as np
import pandas as pd
import pytest
import torch
from network_common import assert_same_weights, dense, exact, make_films, make_labels
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from torch import nn

from sklearn_cxr.neural_network._network import OutputLinear

X, Y = make_classification(120, 10, n_informative=6, random_state=0)
X = X * 50 + 1000


def test_without_hidden_layers_it_is_logistic_regression():
    """The same optimum, found by another way."""
    weight = np.random.default_rng(0).uniform(0.2, 2, len(X))
    scaled = (X - np.average(X, axis=0, weights=weight)) / np.sqrt(
        np.average((X - np.average(X, axis=0, weights=weight)) ** 2, axis=0, weights=weight)
    )
    peer = LogisticRegression(C=np.inf, tol=1e-10).fit(scaled, Y, sample_weight=weight)
    clf = exact(dense, hidden=(), max_epochs=250, lr=0.3, lr_schedule="cosine")
    clf.fit(X, Y, sample_weight=weight)
    expected = peer.predict_proba(scaled)
    np.testing.assert_allclose(clf.predict_proba(X), expected, atol=1e-4)


def test_features_are_standardised():
    weight = np.random.default_rng(0).uniform(0, 2, len(X))
    clf = dense().fit(X, Y, sample_weight=weight)
    mean = np.average(X, axis=0, weights=weight)
    np.testing.assert_allclose(clf.mean_, mean)
    np.testing.assert_allclose(
        clf.scale_, np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weight))
    )
    out = clf.net_.module_.prepare(torch.as_tensor(X), torch.float64)
    np.testing.assert_allclose(out, (X - clf.mean_) / clf.scale_, atol=1e-9)


def test_features_as_they_are():
    clf = dense(standardize=False).fit(X / 1000, Y)
    assert (clf.mean_ == 0).all()
    assert (clf.scale_ == 1).all()


@pytest.mark.parametrize(
    ("hidden", "n_layers"), [((1024, 512), 3), ((64,) * 5, 6), ((32,) * 8, 9)]
)
def test_published_depths(hidden, n_layers):
    clf = dense(hidden, max_epochs=1).fit(X, Y)
    layers = [m for m in clf.net_.module_.modules() if isinstance(m, nn.Linear)]
    assert [layer.out_features for layer in layers] == [*hidden, 1]
    assert len(layers) == n_layers


def test_options_of_the_layers():
    clf = dense((6, 4), activation="tanh", dropout=0.2, batch_norm=True).fit(X, Y)
    kinds = [type(module) for module in clf.net_.module_.body]
    block = [OutputLinear, nn.BatchNorm1d, nn.Tanh, nn.Dropout]
    assert kinds == [*block, *block, OutputLinear]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_dtypes_of_features(dtype):
    clf = dense((16,), max_epochs=30, lr=0.02).fit(X.astype(dtype), Y)
    assert clf.score(X.astype(dtype), Y) > 0.85
    assert {p.dtype for p in clf.net_.module_.parameters()} == {torch.float32}


def test_constant_and_large_features():
    features = np.column_stack([X, np.full(len(X), 3.0), X[:, 0] * 1e12])
    clf = dense(max_epochs=5).fit(features, Y)
    assert np.isfinite(clf.predict_proba(features)).all()
    assert clf.scale_[10] == 1


@pytest.mark.parametrize("distance", [1e6, 1e9])
def test_columns_far_from_zero_keep_what_tells_rows_apart(distance):
    near, far = (X - 1000) / 50, (X - 1000) / 50 + distance
    probabilities = [dense().fit(rows, Y).predict_proba(rows) for rows in (near, far)]
    # The distance itself costs some digits: 1e9 has steps of 1e-7.
    np.testing.assert_allclose(*probabilities, atol=1e-4)


def test_names_of_features():
    frame = pd.DataFrame(X, columns=[f"densenet121_{i}" for i in range(10)])
    clf = dense().fit(frame, Y)
    assert clf.feature_names_in_.tolist() == frame.columns.tolist()
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        clf.predict(X)


def test_unknown_labels():
    labels = make_labels(120, 14, unknown=0.3)
    clf = dense(max_epochs=3, class_weight="balanced").fit(X, labels)
    assert clf.predict_proba(X).shape == (120, 14)


def test_patients_stop_it_early():
    groups = np.repeat(np.arange(40), 3)
    clf = dense((64,), early_stopping=True, patience=2, max_epochs=200, lr=0.02)
    clf.fit(X, Y, groups=groups)
    assert clf.n_iter_ == clf.best_epoch_ + 2 < 200


def test_it_learns_as_well_as_a_line():
    scores = cross_val_score(dense((32,), max_epochs=30, lr=0.01), X, Y, cv=3)
    line = cross_val_score(LogisticRegression(), (X - 1000) / 50, Y, cv=3)
    assert scores.mean() > line.mean() - 0.02


def test_other_numbers_of_features_raise():
    clf = dense().fit(X, Y)
    with pytest.raises(ValueError, match="X has 9 features, but DenseHeadClassifier is expecting"):
        clf.predict(X[:, :9])


def test_images_are_no_features():
    films, y, _ = make_films()
    with pytest.raises(ValueError, match=r"Found array with dim 3|dimension"):
        dense().fit(films, y)


def test_equal_fits():
    assert_same_weights(dense(batch_size=16).fit(X, Y), dense(batch_size=16).fit(X, Y))
