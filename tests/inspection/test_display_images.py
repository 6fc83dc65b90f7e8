import h5py
import matplotlib
import numpy as np
import pandas as pd
import pytest
import zarr
from PIL import Image
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from sklearn_cxr.inspection import ErrorGalleryDisplay, ImageGridDisplay
from sklearn_cxr.linear_model import PixelLogisticRegression
from sklearn_cxr.preprocessing import ImageReader, Resize

matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is the extra 'plot'")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def films():
    # The grey level of a film is its row number.
    X = np.repeat(np.arange(40, dtype=np.uint8), 64).reshape(40, 8, 8)
    y = np.repeat(["normal", "viral"], 20)
    return X, y


@pytest.fixture
def written(films, tmp_path):
    paths = []
    for row, film in enumerate(films[0]):
        paths.append(str(tmp_path / f"film{row:02d}.png"))
        Image.fromarray(film).save(paths[-1])
    return np.array(paths, dtype=object)


def rows_of(images):
    return images.reshape(len(images), -1)[:, 0].tolist()


# grid


def test_grid_draws_as_many_of_each_class(films):
    X, y = films
    display = ImageGridDisplay.from_images(X, y, n_images=6, n_columns=4, random_state=0)
    assert y[display.rows].tolist() == ["normal"] * 3 + ["viral"] * 3
    assert rows_of(display.images) == display.rows.tolist()
    assert display.axes_.shape == (2, 4)
    titles = [axis.get_title() for axis in display.axes_.ravel()]
    assert titles == ["normal"] * 3 + ["viral"] * 3 + ["", ""]
    shown = display.axes_[0, 0].images[0]
    assert shown.get_clim() == (0, 255)
    assert (np.asarray(shown.get_array()) == display.rows[0]).all()


def test_grid_fills_up_where_a_class_is_small(films):
    X, _ = films
    y = np.r_[np.zeros(38, dtype=int), 1, 1]
    display = ImageGridDisplay.from_images(X, y, n_images=10, random_state=0)
    assert np.bincount(y[display.rows]).tolist() == [8, 2]


def test_the_draw_is_governed_and_leaves_the_global_generator_alone(films):
    X, y = films
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - that it is not touched is tested
    first, second = (
        ImageGridDisplay.from_images(X, y, n_images=4, random_state=3).rows for _ in range(2)
    )
    ImageGridDisplay.from_images(X, y, n_images=4)
    assert first.tolist() == second.tolist()
    after = np.random.get_state()[1]  # noqa: NPY002 - see above
    assert np.array_equal(after, before)


@pytest.mark.parametrize("form", ["shaped", "flat", "colour", "paths", "frame"])
def test_films_of_any_form(films, written, form):
    X, y = films
    given = {
        "shaped": X,
        "flat": X.reshape(40, 64),
        "colour": np.repeat(X[..., None], 3, axis=3),
        "paths": written,
        "frame": pd.DataFrame({"path": written, "age": 1.0}),
    }[form]
    display = ImageGridDisplay.from_images(given, y, n_images=4, size=8, random_state=0)
    assert rows_of(display.images[..., 0] if form == "colour" else display.images) == (
        display.rows.tolist()
    )


def test_only_chosen_files_are_read(films, written):
    missing = written.copy()
    display = ImageGridDisplay.from_images(written, films[1], n_images=4, random_state=0)
    missing[np.setdiff1d(np.arange(40), display.rows)] = "not/there.png"
    again = ImageGridDisplay.from_images(missing, films[1], n_images=4, random_state=0)
    assert np.array_equal(again.images, display.images)


def test_grid_of_a_classifier_tells_class_and_probability(films):
    X, y = films
    model = PixelLogisticRegression().fit(X, y)
    display = ImageGridDisplay.from_estimator(model, X, y, n_images=2, random_state=0)
    probability = model.predict_proba(X)[:, 1]
    assert display.titles == [
        f"{y[row]}:\np(viral) {probability[row]:.2f}" for row in display.rows
    ]


def test_grid_of_a_classifier_that_knows_some_of_the_classes(films):
    X, y = films
    model = PixelLogisticRegression().fit(X, (y == "viral").astype(int))
    names = ["normal", "bacterial", "viral"]
    display = ImageGridDisplay.from_estimator(
        model, X, (y == "viral").astype(int), n_images=2, target_names=names
    )
    assert all("p(bacterial)" in title for title in display.titles)
    strange = PixelLogisticRegression().fit(X, np.where(y == "viral", 1, -1))
    with pytest.raises(ValueError, match="there is a class -1"):
        ImageGridDisplay.from_estimator(strange, X, n_images=2, target_names=names)


def test_grid_of_a_transformer_shows_what_it_makes(films):
    X, y = films
    display = ImageGridDisplay.from_estimator(Resize(4).fit(X), X, y, n_images=2)
    assert display.images.shape == (2, 4, 4)


def test_grid_of_predictions(films):
    X, _ = films
    display = ImageGridDisplay.from_predictions(
        np.zeros(40, int), np.ones(40, int), X=X, target_names=["well", "ill"], n_images=1
    )
    assert display.titles == ["well\nseen as ill"]


def test_a_grid_takes_the_place_of_axes(films):
    X, y = films
    figure, axes = plt.subplots(1, 2)
    display = ImageGridDisplay.from_images(X, y, n_images=4, n_columns=2, ax=axes[1])
    assert display.figure_ is figure
    assert len(figure.axes) == 2 + 4
    left = axes[1].get_position().x0
    assert all(axis.get_position().x0 >= left - 1e-9 for axis in display.axes_.ravel())
    free = plt.figure().add_axes([0, 0, 1, 1])
    assert ImageGridDisplay.from_images(X, y, n_images=4, ax=free).axes_.size == 4


def test_grid_errors(films):
    X, y = films
    with pytest.raises(ValueError, match="3 titles for 40 films"):
        ImageGridDisplay.from_images(X, y, titles=["a"] * 3)
    with pytest.raises(ValueError, match=r"labels of shape \(3,\) for 40 films"):
        ImageGridDisplay.from_images(X, y[:3])
    with pytest.raises(ValueError, match="20 films without a class"):
        ImageGridDisplay.from_images(X, np.r_[np.zeros(20), np.full(20, np.nan)])
    with pytest.raises(ValueError, match="target_names for the classes 0 to 0"):
        ImageGridDisplay.from_images(X, np.arange(40) % 2, target_names=["one"])
    with pytest.raises(ValueError, match="give image_shape"):
        ImageGridDisplay.from_images(X.reshape(40, 64)[:, :60])
    with pytest.raises(ValueError, match="expected"):
        ImageGridDisplay.from_images(np.zeros((3, 2), dtype=complex))
    with pytest.raises(NotFittedError):
        ImageGridDisplay.from_estimator(PixelLogisticRegression(), X, y)


# errors


def test_gallery_shows_the_most_confident_errors(films):
    X, y = films
    score = np.where(y == "viral", 0.9, 0.1)
    # Rows 3, 7, 11 are falsely positive, 22 and 30 missed.
    score[[3, 7, 11]] = 0.6, 0.8, 0.7
    score[[22, 30]] = 0.4, 0.2
    display = ErrorGalleryDisplay.from_predictions(
        y, score, X=X, groups=[f"p{row}" for row in range(40)], n_errors=2
    )
    expected = pd.DataFrame(
        {
            "kind": ["false negative"] * 2 + ["false positive"] * 2,
            "row": [30, 22, 7, 11],
            "score": [0.2, 0.4, 0.8, 0.7],
            "patient": ["p30", "p22", "p7", "p11"],
        }
    )
    assert display.errors.to_dict(orient="list") == expected.to_dict(orient="list")
    assert rows_of(display.images) == [30, 22, 7, 11]
    assert display.counts == {"false negative": 2, "false positive": 3}
    assert display.axes_[0, 0].get_title() == "score 0.200\np30"
    assert display.axes_[1, 0].get_ylabel() == "false positives\n2 of 3"


@pytest.mark.parametrize("kind", ["hdf5", "zarr"])
def test_of_stored_films_only_those_that_are_shown_are_read(kind, films, tmp_path, monkeypatch):
    X, y = films
    score = np.where(y == "viral", 0.9, 0.1)
    # The order of confidence is not that of the rows, and HDF5 takes no other.
    score[[3, 7, 11]] = 0.6, 0.8, 0.7

    def refuse(self, *args, **kwargs):
        raise AssertionError("the whole was asked for")

    with h5py.File(tmp_path / "films.h5", "w") as file:
        if kind == "hdf5":
            rows = file.create_dataset("films", data=X)
        else:
            rows = zarr.open(str(tmp_path / "z"), mode="w", shape=X.shape, dtype=X.dtype)
            rows[:] = X
        monkeypatch.setattr(type(rows), "__array__", refuse)
        errors = ErrorGalleryDisplay.from_predictions(y, score, X=rows)
        grid = ImageGridDisplay.from_images(rows, y, n_images=6, random_state=0)
    assert rows_of(errors.images) == [7, 11, 3]
    assert rows_of(grid.images) == grid.rows.tolist()


def test_gallery_with_another_positive_class_and_threshold(films):
    X, y = films
    score = np.where(y == "normal", 0.3, 0.1)
    display = ErrorGalleryDisplay.from_predictions(
        y, score, X=X, pos_label="normal", threshold=0.2
    )
    assert display.counts == {"false negative": 0, "false positive": 0}
    assert display.axes_[0, 0].texts[0].get_text() == "none"
    at_threshold = ErrorGalleryDisplay.from_predictions(
        y, score, X=X, pos_label="normal", threshold=0.3
    )
    assert at_threshold.counts["false negative"] == 0


def test_gallery_of_a_pipeline_from_files(written, films):
    _, y = films
    wrong = y.copy()
    wrong[[0, 39]] = "viral", "normal"
    model = make_pipeline(ImageReader(size=8), PixelLogisticRegression(C=10)).fit(written, y)
    display = ErrorGalleryDisplay.from_estimator(model, written, wrong, size=8)
    assert display.errors["file"].tolist() == ["film00.png", "film39.png"]
    assert rows_of(display.images) == [0, 39]
    score = model.predict_proba(written)[:, 1]
    assert display.errors["score"].tolist() == [score[0], score[39]]


def test_gallery_errors(films):
    X, y = films
    score = np.linspace(0, 1, 40)
    with pytest.raises(ValueError, match=r"classes \['normal'\]; expected two"):
        ErrorGalleryDisplay.from_predictions(y[:20], score[:20], X=X[:20])
    with pytest.raises(ValueError, match="1 scores that are NaN"):
        ErrorGalleryDisplay.from_predictions(y, np.r_[np.nan, score[1:]], X=X)
    with pytest.raises(ValueError, match="39 entries in score for 40"):
        ErrorGalleryDisplay.from_predictions(y, score[1:], X=X)
    with pytest.raises(ValueError, match="39 patient ids"):
        ErrorGalleryDisplay.from_predictions(y, score, X=X, groups=range(39))
    several = PixelLogisticRegression().fit(X, np.arange(40) % 3)
    with pytest.raises(ValueError, match="3 classes; expected two"):
        ErrorGalleryDisplay.from_estimator(several, X, y)
    with pytest.raises(NotFittedError):
        ErrorGalleryDisplay.from_estimator(PixelLogisticRegression(), X, y)
