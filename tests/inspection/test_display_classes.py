import matplotlib
import numpy as np
import pytest
from sklearn.pipeline import make_pipeline

from sklearn_cxr.datasets import make_chest_xrays
from sklearn_cxr.decomposition import PixelPCA
from sklearn_cxr.inspection import ClassImageDisplay, EigenimageDisplay
from sklearn_cxr.inspection import _display_classes as module
from sklearn_cxr.linear_model import PixelLogisticRegression
from sklearn_cxr.preprocessing import ImageReader, IntensityScaler, Resize

matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is the extra 'plot'")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def films():
    return make_chest_xrays(60, image_size=32, random_state=0)


def test_means_deviations_and_differences(films, monkeypatch):
    # Several chunks, the last one cut short.
    monkeypatch.setattr(module, "_CHUNK", 16)
    display = ClassImageDisplay.from_images(
        films.images, films.target, target_names=films.target_names, size=None, reference="viral"
    )
    images = films.images.astype(float)
    for code in range(3):
        chosen = images[films.target == code]
        np.testing.assert_allclose(display.mean_images[code], chosen.mean(axis=0))
        np.testing.assert_allclose(display.deviation_images[code], chosen.std(axis=0), atol=1e-9)
    np.testing.assert_allclose(
        display.difference_images[0],
        images[films.target == 0].mean(axis=0) - images[films.target == 2].mean(axis=0),
    )
    assert display.counts.tolist() == np.bincount(films.target).tolist()
    assert display.reference == 2


def test_size_is_by_area(films):
    display = ClassImageDisplay.from_images(films.images, size=16)
    blocks = films.images.reshape(60, 16, 2, 16, 2).mean(axis=(2, 4))
    # The films are rounded to whole levels after they are averaged.
    np.testing.assert_allclose(display.mean_images[0], blocks.mean(axis=0), atol=0.3)
    assert display.names == ["all"]


def test_colours_are_averaged(films):
    colour = np.stack([films.images, films.images // 2, films.images // 4], axis=3)
    display = ClassImageDisplay.from_images(colour, size=None)
    np.testing.assert_allclose(
        display.mean_images[0], colour.astype(float).mean(axis=3).mean(axis=0)
    )


def test_the_picture(films):
    display = ClassImageDisplay.from_images(
        films.images, films.target, target_names=films.target_names
    )
    assert display.axes_.shape == (3, 3)
    assert display.mean_images.shape == (3, 64, 64)
    differences = display.axes_[1, 2].images[0]
    low, high = differences.get_clim()
    assert low == -high == -np.abs(display.difference_images).max()
    assert display.axes_[0, 2].texts[0].get_text() == "reference"
    assert display.axes_[1, 0].get_ylabel() == "bacterial\n20 films"


def test_through_a_pipeline(films):
    y = films.target
    model = make_pipeline(Resize(16), IntensityScaler("unit"), PixelLogisticRegression())
    model.fit(films.images, y)
    display = ClassImageDisplay.from_estimator(model, films.images, y, size=None)
    seen = model[:-1].transform(films.images)
    np.testing.assert_allclose(display.mean_images[0], seen[y == 0].mean(axis=0), rtol=1e-5)


def test_from_the_decode_store(films, tmp_path):
    from PIL import Image

    paths = []
    for row, film in enumerate(films.images):
        paths.append(str(tmp_path / f"{row}.png"))
        Image.fromarray(film).save(paths[-1])
    rows = ImageReader(size=32, cache_dir=tmp_path / "store").fit_transform(paths)
    display = ClassImageDisplay.from_images(rows, films.target, size=None)
    expected = films.images[films.target == 1].mean(axis=0)
    np.testing.assert_allclose(display.mean_images[1], expected)


def test_class_image_errors(films):
    with pytest.raises(ValueError, match="reference='sick'; expected one of the classes"):
        ClassImageDisplay.from_images(films.images, films.target, reference="sick")
    with pytest.raises(ValueError, match="labels of shape"):
        ClassImageDisplay.from_images(films.images, films.target[:5])
    with pytest.raises(TypeError, match="transforms nothing"):
        model = PixelLogisticRegression().fit(films.images, films.target)
        ClassImageDisplay.from_estimator(model, films.images, films.target)


def test_eigenimages_of_each_class(films):
    display = EigenimageDisplay.from_images(
        films.images, films.target, n_components=0.5, n_shown=2, size=None
    )
    for code, model in enumerate(display.models):
        X = films.images[films.target == code].reshape(20, -1).astype(float)
        X -= X.mean(axis=0)
        shares = np.linalg.svd(X, compute_uv=False) ** 2
        shares /= shares.sum()
        assert display.n_components[code] == np.argmax(shares.cumsum() > 0.5) + 1
        np.testing.assert_allclose(model.explained_variance_ratio_[0], shares[0])
    assert display.axes_.shape == (3, 3)
    share = display.models[0].explained_variance_ratio_[0]
    assert display.axes_[0, 1].get_title() == f"1: {share:.0%}"


def test_eigenimages_of_a_fitted_decomposition(films):
    model = PixelPCA(2).fit(films.images)
    display = EigenimageDisplay.from_estimator(model, n_shown=4)
    assert display.models == [model]
    assert [len(axis.images) for axis in display.axes_[0]] == [1, 1, 1, 0, 0]


def test_a_class_of_one_film_has_no_eigenimages(films):
    y = np.r_[np.zeros(59, dtype=int), 1]
    with pytest.raises(ValueError, match="1 film of the class '1'; expected at least two"):
        EigenimageDisplay.from_images(films.images, y)
