"""What scikit-learn asks of a display, of every display of the library."""

import importlib

import matplotlib
import numpy as np
import pytest

import sklearn_cxr
from sklearn_cxr.datasets import make_chest_xrays
from sklearn_cxr.decomposition import PixelPCA
from sklearn_cxr.inspection import (
    ActivationMapDisplay,
    ClassImageDisplay,
    CounterfactualDisplay,
    EigenimageDisplay,
    EmbeddingDisplay,
    ErrorGalleryDisplay,
    ImageGridDisplay,
    LocalizationDisplay,
    PatientLearningCurveDisplay,
    ShortcutProbesDisplay,
    SubgroupDisplay,
)
from sklearn_cxr.linear_model import PixelLogisticRegression
from sklearn_cxr.neural_network import DenseHeadClassifier, TrainingHistoryDisplay
from sklearn_cxr.preprocessing import Resize

matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is the extra 'plot'")

DISPLAYS = {
    name: getattr(module, name)
    for module in (importlib.import_module(f"sklearn_cxr.{room}") for room in sklearn_cxr._ROOMS)
    for name in module.__all__
    if name.endswith("Display")
}


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def films():
    return make_chest_xrays(40, image_size=16, classes=("normal", "bacterial"), random_state=0)


@pytest.fixture(scope="module")
def model(films):
    return PixelLogisticRegression(C=1e-3).fit(films.images, films.target)


def of_estimator(cls, films, model, **given):
    """Draw a display from an estimator, and thereby all that its constructor takes."""
    X, y, groups = films.images, films.target, films.groups
    boxes = films.frame[["x", "y", "w", "h"]]
    args, options = {
        ActivationMapDisplay: ((model, X[:3]), {}),
        ClassImageDisplay: ((Resize(8).fit(X), X, y), {"size": None}),
        CounterfactualDisplay: ((model, X[:2]), {"steps": 2, "n_snapshots": 2}),
        EigenimageDisplay: ((PixelPCA(2).fit(X),), {"n_shown": 2}),
        EmbeddingDisplay: ((PixelPCA(2).fit(X), X, y), {}),
        ErrorGalleryDisplay: ((model, X, 1 - y), {"n_errors": 2}),
        ImageGridDisplay: ((model, X, y), {"n_images": 3, "random_state": 0}),
        LocalizationDisplay: ((model, X, boxes), {"n_random": 1, "random_state": 0}),
        PatientLearningCurveDisplay: (
            (model, X, y),
            {"groups": groups, "n_patients": [10], "cv": 2, "random_state": 0},
        ),
        ShortcutProbesDisplay: ((model, X, y, groups), {"probes": ["histogram"], "cv": 2}),
        SubgroupDisplay: ((model, X, y), {"frame": films.frame, "columns": ["sex"]}),
        TrainingHistoryDisplay: (
            (DenseHeadClassifier((2,), max_epochs=2, random_state=0).fit(X.reshape(40, -1), y),),
            {},
        ),
    }[cls]
    return cls.from_estimator(*args, **options, **given)


@pytest.fixture(scope="module")
def undrawn(films, model):
    """One display of each class; several tests draw it again."""
    made = {}

    def get(cls):
        if cls not in made:
            made[cls] = of_estimator(cls, films, model)
        return made[cls]

    return get


def check_place(display, figure, axes):
    """Assert that it was drawn where it was asked to, and nowhere else."""
    left, right = axes
    assert display.figure_ is figure is right.figure
    assert not left.has_data() and not left.child_axes
    if hasattr(display, "ax_"):
        assert display.ax_ is right and right.has_data()
        return
    own = np.ravel(display.axes_)
    place = right.get_position()
    figure.canvas.draw()
    for ax in own:
        assert ax.figure is figure and ax is not left
        inside = ax.get_window_extent().transformed(figure.transFigure.inverted())
        assert inside.x0 >= place.x0 - 0.01 and inside.x1 <= place.x1 + 0.01
    assert any(ax.has_data() for ax in own)


@pytest.mark.parametrize("name", DISPLAYS)
def test_plot_draws_into_the_given_axes(name, undrawn):
    display = undrawn(DISPLAYS[name])
    figure, axes = plt.subplots(1, 2, figsize=(12, 6))
    if DISPLAYS[name] is TrainingHistoryDisplay:
        # Loss and accuracy have an axes each, so it documents `axes`.
        assert display.plot(axes=axes) is display
        assert display.figure_ is figure and list(display.axes_) == list(axes)
        assert all(ax.has_data() for ax in axes)
        return
    assert display.plot(ax=axes[1]) is display
    check_place(display, figure, axes)


@pytest.mark.parametrize("name", DISPLAYS)
def test_plot_makes_a_figure_of_its_own(name, undrawn):
    display = undrawn(DISPLAYS[name])
    before = plt.get_fignums()
    assert display.plot() is display
    assert display.figure_.number not in before


@pytest.mark.parametrize("name", [n for n in DISPLAYS if n != "TrainingHistoryDisplay"])
def test_from_estimator_draws_into_the_given_axes(name, films, model):
    figure, axes = plt.subplots(1, 2, figsize=(12, 6))
    check_place(of_estimator(DISPLAYS[name], films, model, ax=axes[1]), figure, axes)


# Those that are made of labels and what a model says of them; the others show data or maps.
OF_PREDICTIONS = {
    ErrorGalleryDisplay: lambda f, s: ((f.target, s), {"X": f.images}),
    ImageGridDisplay: lambda f, s: ((f.target, (s > 0.5).astype(int)), {"X": f.images}),
    ShortcutProbesDisplay: lambda f, s: ((f.target, {"level": s}), {"groups": f.groups}),
    SubgroupDisplay: lambda f, s: ((f.target, s), {"frame": f.frame, "columns": ["sex"]}),
}


def test_those_of_predictions_are_known():
    found = {cls for cls in DISPLAYS.values() if hasattr(cls, "from_predictions")}
    assert found == set(OF_PREDICTIONS)


@pytest.mark.parametrize("cls", OF_PREDICTIONS)
def test_from_predictions_draws_into_the_given_axes(cls, films):
    score = np.random.RandomState(0).uniform(size=40)
    args, options = OF_PREDICTIONS[cls](films, score)
    figure, axes = plt.subplots(1, 2, figsize=(12, 6))
    check_place(cls.from_predictions(*args, **options, ax=axes[1]), figure, axes)
