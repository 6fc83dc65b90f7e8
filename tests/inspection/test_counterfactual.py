import matplotlib
import numpy as np
import pytest
import zarr
from PIL import Image
from sklearn.exceptions import NotFittedError
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from torch import nn

from sklearn_cxr.feature_extraction import BackboneFeatures
from sklearn_cxr.inspection import (
    ActivationMapDisplay,
    CounterfactualDisplay,
    class_activation_map,
    counterfactual_images,
)
from sklearn_cxr.linear_model import PixelLogisticRegression
from sklearn_cxr.neural_network import CNNClassifier
from sklearn_cxr.preprocessing import Flatten, ImageReader, PixelScaler

matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is the extra 'plot'")
pytest.importorskip("captum", reason="captum is the extra 'inspection'")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def films():
    # Class "ill" has a bright square in the upper left quarter.
    rng = np.random.default_rng(0)
    y = np.repeat(["ill", "well"], 30)
    X = rng.integers(0, 90, (60, 16, 16), dtype=np.uint8)
    X[:30, 2:7, 2:7] += 120
    return X, y


def averaging(image_shape, n_outputs):
    return nn.Sequential(
        nn.Conv2d(image_shape[2], 6, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, n_outputs),
    )


@pytest.fixture(scope="module")
def model(films):
    return CNNClassifier(averaging, max_epochs=15, lr=0.02, random_state=0).fit(*films)


def test_films_go_to_the_other_class(films, model):
    X = films[0][[0, 1, 40]]
    found = counterfactual_images(model, X, steps=60, lr=0.02, n_snapshots=4)
    assert found.target.tolist() == ["well", "well", "ill"]
    assert found.images.shape == (3, 4, 16, 16) and found.probability.shape == (3, 61)
    assert found.steps.tolist() == [0, 20, 40, 60]
    assert found.images[:, 0] == pytest.approx(X.astype(float), abs=1e-4)
    # What is told of the first and last step is what the classifier says itself.
    columns = [list(model.classes_).index(label) for label in found.target]
    before = model.predict_proba(X)[np.arange(3), columns]
    assert found.probability[:, 0] == pytest.approx(before, abs=2e-3)
    last = np.rint(found.images[:, -1]).astype(np.uint8)
    after = model.predict_proba(last)[np.arange(3), columns]
    assert found.probability[:, -1] == pytest.approx(after, abs=0.1)
    assert (found.probability[:, 0] < 0.5).all() and (found.probability[:, -1] > 0.5).all()
    assert found.images.min() >= 0 and found.images.max() <= 255


def test_the_square_is_what_changes(films, model):
    X = films[0][40:44]
    found = counterfactual_images(model, X, "ill", steps=40, distance=3.0, n_snapshots=2)
    change = np.abs(found.images[:, -1] - found.images[:, 0])
    assert change[:, :8, :8].mean() > 1.5 * change[:, 8:, 8:].mean()


def test_penalties_do_what_they_say(films, model):
    X = films[0][40:44]

    def last(**weights):
        return counterfactual_images(model, X, "ill", steps=30, **weights).images[:, -1] / 255

    free = last(tv=0, distance=0)
    near, smooth = last(tv=0, distance=30), last(tv=5, distance=0)
    assert np.square(near - X / 255).mean() < 0.5 * np.square(free - X / 255).mean()
    grain = [np.abs(np.diff(images - X / 255)).mean() for images in (smooth, free)]
    assert grain[0] < 0.5 * grain[1]


def test_from_noise(model):
    options = {"steps": 40, "lr": 0.02, "n_images": 2, "n_snapshots": 2}
    found, again = (
        counterfactual_images(model, "noise", "well", random_state=0, **options) for _ in range(2)
    )
    assert found.images.shape == (2, 2, 16, 16)
    assert np.array_equal(found.images, again.images)
    assert found.images[:, 0].std() == pytest.approx(255 / 12**0.5, rel=0.1)
    assert (found.probability[:, -1] > 0.9).all()
    other = counterfactual_images(model, "noise", "well", random_state=1, **options)
    assert not np.array_equal(found.images, other.images)


def test_through_a_pipeline_from_paths(films, tmp_path):
    X, y = films
    paths = []
    for number, film in enumerate(X):
        paths.append(str(tmp_path / f"{number:02d}.png"))
        Image.fromarray(film).resize((32, 24)).save(paths[-1])
    net = CNNClassifier(averaging, max_epochs=10, lr=0.02, random_state=0)
    model = make_pipeline(ImageReader(size=16), net).fit(paths, y)
    found = counterfactual_images(model, paths[:2], "well", steps=5)
    assert found.images.shape[2:] == (16, 16)
    assert found.affines[0].tolist() == [[2, 0, 0], [0, 1.5, 0]]
    made = counterfactual_images(model, "noise", "ill", steps=5, random_state=0)
    assert made.images.shape[2:] == (16, 16)


def test_linear_models_and_features(films):
    X, y = films
    linear = PixelLogisticRegression(C=0.01).fit(X, y)
    found = counterfactual_images(linear, X[:2], steps=20, tv=0, distance=0, n_snapshots=2)
    change = (found.images[:, -1] - found.images[:, 0]).reshape(2, -1)
    # Adam's steps have the gradient's sign, and the gradient is the coefficients'.
    free = (found.images[:, -1] > 0) & (found.images[:, -1] < 255)
    large = free.reshape(2, -1) & (np.abs(linear.coef_) > 1e-4)
    agree = np.sign(change) == np.sign(linear.coef_)
    assert agree[large].mean() > 0.99
    scaled = make_pipeline(PixelScaler(), PixelLogisticRegression(C=0.01)).fit(X, y)
    found = counterfactual_images(scaled, X[:2], steps=20)
    assert (found.probability[:, -1] > found.probability[:, 0]).all()
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    features = BackboneFeatures(network, weights=None, precision="float32")
    model = make_pipeline(features, PixelLogisticRegression()).fit(X, y)
    found = counterfactual_images(model, X[:2], steps=20, tv=0)
    assert (found.probability[:, -1] > found.probability[:, 0]).all()
    with pytest.raises(ValueError, match="does not tell the grey"):
        counterfactual_images(scaled, "noise", "ill")


def test_bad_input(films, model):
    X, y = films
    with pytest.raises(NotFittedError):
        counterfactual_images(CNNClassifier(), X)
    with pytest.raises(TypeError, match="no gradients"):
        counterfactual_images(make_pipeline(Flatten(), GaussianNB()).fit(X, y), X)
    with pytest.raises(ValueError, match="target=None with noise"):
        counterfactual_images(model, "noise")
    with pytest.raises(ValueError, match="expected films, or 'noise'"):
        counterfactual_images(model, "nosie", "ill")
    with pytest.raises(ValueError, match="target 'sick'"):
        counterfactual_images(model, X, "sick")
    three = PixelLogisticRegression().fit(X, np.arange(60) % 3)
    with pytest.raises(ValueError, match="target=None with 3 classes"):
        counterfactual_images(three, X)
    with pytest.raises(ValueError, match="'steps' parameter"):
        counterfactual_images(model, X, steps=0)


# displays


def test_maps_on_films(films, model):
    X, y = films
    boxes = np.tile([2.0, 2, 5, 5], (60, 1))
    boxes[30:] = np.nan
    display = ActivationMapDisplay.from_estimator(
        model, X, y, method="saliency", target="ill", boxes=boxes, n_images=3, n_columns=2
    )
    expected = class_activation_map(model, X[:3], method="saliency", target="ill").maps
    assert display.axes_.shape == (2, 2)
    first = display.axes_[0, 0]
    assert (np.asarray(first.images[0].get_array()) == X[0]).all()
    drawn = np.asarray(first.images[1].get_array())
    assert drawn == pytest.approx(expected[0] / expected[0].max(), rel=1e-4)
    assert first.get_title() == "ill\nfor ill"
    assert first.patches[0].get_bbox().bounds == (1.5, 1.5, 5, 5)


def test_maps_on_films_of_zarr_rows(films, tmp_path):
    X, y = films
    model = PixelLogisticRegression(C=0.01).fit(X, y)
    rows = zarr.open(str(tmp_path / "z"), mode="w", shape=X.shape, dtype=X.dtype)
    rows[:] = X
    display = ActivationMapDisplay.from_estimator(model, rows, y, target="ill", n_images=3)
    expected = class_activation_map(model, X[:3], target="ill").maps
    np.testing.assert_array_equal(display.maps, expected)
    for axis, film in zip(display.axes_.ravel(), X, strict=False):
        if axis.images:
            np.testing.assert_array_equal(axis.images[0].get_array(), film)


def test_maps_of_paths_and_signed_maps(films, tmp_path):
    X, _ = films
    paths = []
    for number in range(2):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(X[number]).resize((16, 16 + 8 * number)).save(paths[-1])
    maps = [np.full((16, 16), -1.0), np.ones((24, 16))]
    display = ActivationMapDisplay.from_maps(maps, paths, titles=["a", "b"])
    assert [image.shape for image in display.images] == [(16, 16), (24, 16)]
    assert display.axes_[0, 0].images[1].get_clim() == (-1, 1)
    one = ActivationMapDisplay.from_maps(
        np.ones((4, 16, 16)), X[:4], boxes=[[1, 1, 3, 3], [5, 5, 2, 2]], rows=[3, 3]
    )
    assert [len(axis.patches) for axis in one.axes_.ravel()] == [0, 0, 0, 2]


def test_display_errors(films, model):
    X, _ = films
    with pytest.raises(ValueError, match="2 maps and 3 titles"):
        ActivationMapDisplay.from_maps(np.ones((2, 16, 16)), X[:3])
    with pytest.raises(ValueError, match="its map of"):
        ActivationMapDisplay.from_maps(np.ones((3, 8, 8)), X[:3])
    with pytest.raises(ValueError, match="outside of its"):
        ActivationMapDisplay.from_maps(np.ones((1, 16, 16)), X[:1], boxes=[[9, 9, 20, 2]])


def test_counterfactuals_drawn(films, model):
    X, _ = films
    display = CounterfactualDisplay.from_estimator(
        model, X[[0, 40]], steps=10, n_snapshots=3, tv=0.5
    )
    assert display.axes_.shape == (2, 5)
    result = display.result
    line = display.axes_[1, -1].lines[0]
    assert line.get_ydata() == pytest.approx(result.probability[1])
    assert [axis.get_title() for axis in display.axes_[0]][:3] == ["step 0", "step 5", "step 10"]
    assert display.axes_[0, -1].get_title() == "p(well)"
    change = np.asarray(display.axes_[0, -2].images[0].get_array())
    assert change == pytest.approx(result.images[0, -1] - result.images[0, 0])


def test_films_without_a_box_are_drawn_without_one():
    maps, X = np.ones((3, 16, 16)), np.zeros((3, 16, 16), dtype=np.uint8)
    boxes = np.full((3, 4), np.nan)
    display = ActivationMapDisplay.from_maps(maps, X, boxes=boxes)
    assert [len(film) for film in display.boxes] == [0, 0, 0]
    boxes[2] = 1, 1, 4, 4
    display = ActivationMapDisplay.from_maps(maps, X, boxes=boxes, n_images=2)
    assert [len(film) for film in display.boxes] == [0, 0]
