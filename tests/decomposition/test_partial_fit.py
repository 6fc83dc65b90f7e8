"""PixelPCA on images that come in parts."""

import numpy as np
import pytest
from sklearn.decomposition import PCA, IncrementalPCA

from sklearn_cxr.decomposition import PixelPCA, _merge


def films(n=160, side=8, seed=0):
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(side * side, 10)))[0].T
    X = 120 + 90 * (rng.normal(size=(n, 10)) * 0.8 ** np.arange(10)) @ basis
    return (X + rng.normal(size=X.shape)).clip(0, 255).astype(np.uint8).reshape(n, side, side)


def in_parts(pca, X, *edges):
    for part in np.split(X, edges):
        pca.partial_fit(part)
    return pca


def angle(ours, theirs):
    """Sine of the largest principal angle between two sets of axes."""
    cosine = np.linalg.svd(ours @ theirs.T, compute_uv=False).min()
    return np.sqrt(max(0, 1 - cosine**2))


def test_all_components_are_exact():
    X = films(50)
    flat = X.reshape(50, -1).astype(float)
    ours, peer = in_parts(PixelPCA(None), X, 7, 8, 31), PCA().fit(flat)
    np.testing.assert_allclose(
        ours.explained_variance_, peer.explained_variance_, rtol=1e-8, atol=1e-6
    )
    np.testing.assert_allclose(ours.mean_, flat.mean(axis=0))
    np.testing.assert_allclose(ours.inverse_transform(ours.transform(X)), X, atol=1e-5)
    assert ours.n_samples_seen_ == 50


@pytest.mark.parametrize("n_components", [4, 0.8])
def test_close_to_the_fit_of_the_whole(n_components):
    X = films()
    ours, whole = in_parts(PixelPCA(n_components), X, 40, 60, 110), PixelPCA(n_components).fit(X)
    assert ours.n_components_ == whole.n_components_
    np.testing.assert_allclose(ours.explained_variance_, whole.explained_variance_, rtol=1e-3)
    np.testing.assert_allclose(
        ours.explained_variance_ratio_, whole.explained_variance_ratio_, rtol=1e-3
    )
    assert angle(ours.components_, whole.components_) < 1e-2
    assert ours.eigenimages_.shape == (whole.n_components_, 8, 8)
    np.testing.assert_allclose(ours.transform(X), whole.transform(X), atol=1.0)


def test_closer_than_scikit_learn_s_incremental_pca():
    X = films()
    whole = PixelPCA(4).fit(X)
    ours = in_parts(PixelPCA(4), X, 40, 80, 120)
    peer = IncrementalPCA(4)
    for part in np.split(X.reshape(len(X), -1).astype(float), 4):
        peer.partial_fit(part)
    assert angle(ours.components_, whole.components_) < angle(peer.components_, whole.components_)


def test_goes_on_from_a_fit():
    X = films()
    ours = in_parts(PixelPCA(12).fit(X[:100]), X[100:], 20)
    whole = PixelPCA(12).fit(X)
    assert ours.n_samples_seen_ == 160
    np.testing.assert_allclose(
        ours.explained_variance_[:5], whole.explained_variance_[:5], rtol=1e-2
    )
    total = X.reshape(160, -1).var(axis=0).sum()
    share = ours.explained_variance_ * 159 / 160 / total
    np.testing.assert_allclose(ours.explained_variance_ratio_, share, rtol=1e-9)


def test_a_fit_forgets_the_parts():
    X = films()
    again = in_parts(PixelPCA(3), X, 80).fit(X[:90])
    np.testing.assert_array_equal(again.components_, PixelPCA(3).fit(X[:90]).components_)
    assert again.n_samples_seen_ == 90


def test_a_large_part_is_taken_in_pieces(monkeypatch):
    monkeypatch.setattr(_merge, "_CHUNK_BYTES", 8 * 64 * 30)
    most = []
    add = _merge.Sketch.add

    def watched(self, rows):
        most.append(len(rows))
        add(self, rows)

    monkeypatch.setattr(_merge.Sketch, "add", watched)
    pca = PixelPCA(3).partial_fit(films(400))
    assert max(most) <= 30 and sum(most) == 400
    np.testing.assert_allclose(
        pca.explained_variance_, PixelPCA(3).fit(films(400)).explained_variance_, rtol=1e-3
    )


def test_parts_that_do_not_fit():
    X = films()
    with pytest.raises(ValueError, match="n_components=5, but 4 images"):
        PixelPCA(5).partial_fit(X[:4])
    with pytest.raises(ValueError, match=r"1 sample\(s\)"):
        PixelPCA(1).partial_fit(X[:1])
    pca = PixelPCA(2).partial_fit(X[:30]).partial_fit(X[30:31])
    assert pca.n_samples_seen_ == 31
    with pytest.raises(ValueError, match=r"fitted on \(8, 8\)"):
        pca.partial_fit(X[:9, :5])
    with pytest.raises(ValueError, match="was fitted on uint8"):
        pca.partial_fit(X / 255)


def test_flat_and_shaped_parts_agree_and_whitening_holds():
    X = films()
    shaped = in_parts(PixelPCA(3, whiten=True), X, 50)
    flat = in_parts(PixelPCA(3, whiten=True), X.reshape(160, -1), 50)
    np.testing.assert_array_equal(shaped.transform(X), flat.transform(X.reshape(160, -1)))
    np.testing.assert_allclose(shaped.transform(X).std(axis=0, ddof=1), 1, rtol=1e-3)


def test_films_that_are_all_the_same():
    X = np.full((20, 4, 4), 90, np.uint8)
    pca = in_parts(PixelPCA(2), X, 10)
    np.testing.assert_allclose(pca.explained_variance_, 0, atol=1e-9)
    np.testing.assert_allclose(pca.components_ @ pca.components_.T, np.eye(2), atol=1e-9)


def test_a_part_that_is_refused_leaves_the_model_as_it_was():
    X = films()
    pca = PixelPCA(3).partial_fit(X[:80])
    before = pca.transform(X)
    with pytest.raises(ValueError, match="NaN"):
        pca.partial_fit(np.full((5, 8, 8), np.nan))
    np.testing.assert_array_equal(pca.transform(X), before)
    assert pca.n_samples_seen_ == 80


def test_a_share_of_the_variance_that_is_out_of_reach_is_told_of():
    X = films()
    pca = PixelPCA(0.5).fit(X[:100])
    with pytest.warns(UserWarning, match="n_components=0.99 of the variance is not reached"):
        pca.set_params(n_components=0.99).partial_fit(X[100:110])
    assert pca.explained_variance_ratio_.sum() < 0.99


def test_every_chunk_of_a_dask_array_is_computed_once():
    da = pytest.importorskip("dask.array", reason="dask comes with the extra 'distributed'")
    X, loaded = films(), []

    def load(block, block_info=None):
        if block.size:
            loaded.append(len(block))
        return block

    lazy = da.from_array(X, chunks=(70, 8, 8)).map_blocks(load, dtype=X.dtype, meta=X[:0])
    pca = PixelPCA(3).partial_fit(lazy)
    assert sorted(loaded) == [20, 70, 70]
    whole = PixelPCA(3).partial_fit(X)
    np.testing.assert_allclose(pca.explained_variance_, whole.explained_variance_, rtol=1e-12)
    loaded.clear()
    np.testing.assert_allclose(pca.transform(lazy), pca.transform(X), atol=1e-9)
    assert sorted(loaded) == [20, 70, 70]
