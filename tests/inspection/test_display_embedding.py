import matplotlib
import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn

from sklearn_cxr.feature_extraction import BackboneFeatures
from sklearn_cxr.inspection import EmbeddingDisplay
from sklearn_cxr.preprocessing import Flatten

matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is the extra 'plot'")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def clouds():
    rng = np.random.RandomState(0)
    y = np.repeat(["a", "b", "c"], 20)
    X = rng.normal(size=(60, 16))
    X[:, 0] += 20 * (y == "b")
    X[:, 1] += 20 * (y == "c")
    return X, y


def test_principal_components(clouds):
    X, y = clouds
    display = EmbeddingDisplay.from_features(X, y)
    expected = PCA(2, svd_solver="full").fit(X)
    np.testing.assert_allclose(np.abs(display.embedding), np.abs(expected.transform(X)), atol=1e-8)
    np.testing.assert_allclose(
        display.explained_variance_ratio, expected.explained_variance_ratio_
    )
    assert display.contingency is None
    assert len(display.ax_.collections) == 3
    share = f"{expected.explained_variance_ratio_[0]:.0%}"
    assert display.ax_.get_xlabel() == f"component 1 ({share} of the variance)"


def test_shaped_films_equal_flat_ones(clouds):
    X, y = clouds
    flat = EmbeddingDisplay.from_features(X, y).embedding
    shaped = EmbeddingDisplay.from_features(X.reshape(60, 4, 4), y).embedding
    assert np.array_equal(flat, shaped)


def test_clusters_find_clouds_and_are_counted_by_class(clouds):
    X, y = clouds
    display = EmbeddingDisplay.from_features(X, y, method="kmeans", random_state=0)
    counts = display.contingency.to_numpy()
    assert sorted(counts.max(axis=1).tolist()) == [20, 20, 20]
    assert counts.sum() == 60
    assert display.contingency.columns.tolist() == ["a", "b", "c"]
    assert display.ax_.get_title() == "3 clusters (colour)\nagreement with the classes 1.00"
    two = EmbeddingDisplay.from_features(X, method="kmeans", random_state=0)
    assert two.contingency.shape == (2, 1)


def test_tsne_keeps_clouds_apart_and_is_governed(clouds):
    X, y = clouds
    first, second = (
        EmbeddingDisplay.from_features(X, y, method="tsne", random_state=0).embedding
        for _ in range(2)
    )
    assert np.array_equal(first, second)
    distances = np.linalg.norm(first[:, None] - first[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (y[distances.argmin(axis=1)] == y).mean() > 0.95


def test_through_a_transformer(clouds):
    X, y = clouds
    images = X.reshape(60, 4, 4)
    display = EmbeddingDisplay.from_estimator(Flatten().fit(images), images, y)
    assert np.array_equal(display.embedding, EmbeddingDisplay.from_features(X, y).embedding)


@pytest.mark.parametrize("method", ["pca", "kmeans"])
def test_features_of_a_layer_of_a_network(method):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    y = np.repeat(["dark", "bright"], 6)
    images = np.random.RandomState(0).randint(0, 60, size=(12, 32, 32)).astype(np.uint8)
    images[6:] += 180
    extractor = BackboneFeatures(
        backbone=network, weights=None, layer="0", precision="float32", random_state=0
    ).fit(images)
    display = EmbeddingDisplay.from_estimator(extractor, images, y, method=method, random_state=0)
    features = extractor.transform(images)
    assert features.shape == (12, 4)
    expected = PCA(2, svd_solver="full").fit_transform(features.astype(np.float64))
    np.testing.assert_allclose(np.abs(display.embedding), np.abs(expected), atol=1e-3)
    # The first component of a layer that only filters is the brightness.
    signs = np.sign(display.embedding[:, 0])
    assert len(set(signs[:6])) == len(set(signs[6:])) == 1 and signs[0] != signs[-1]


def test_one_feature_is_drawn_on_a_line(clouds):
    display = EmbeddingDisplay.from_features(clouds[0][:, :1])
    assert (display.embedding[:, 1] == 0).all()


def test_errors(clouds):
    X, y = clouds
    with pytest.raises(ValueError, match="NaN"):
        EmbeddingDisplay.from_features(np.where(X == X[0, 0], np.nan, X), y)
    with pytest.raises(ValueError, match="row of pixels or of features"):
        EmbeddingDisplay.from_features(["a.png", "b.png", "c.png"])
    with pytest.raises(ValueError, match="minimum of 3"):
        EmbeddingDisplay.from_features(X[:2])
    with pytest.raises(ValueError, match="n_clusters=61 for 60 films"):
        EmbeddingDisplay.from_features(X, method="kmeans", n_clusters=61)
    with pytest.raises(ValueError, match="method"):
        EmbeddingDisplay.from_features(X, method="umap")
