import numpy as np
import pytest
from imblearn.pipeline import make_pipeline as make_sampling_pipeline
from imblearn.under_sampling import RandomUnderSampler
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_cxr.preprocessing._crop import CropBorders
from sklearn_cxr.preprocessing._flatten import Flatten
from sklearn_cxr.preprocessing._geometry import map_boxes, pipeline_geometry
from sklearn_cxr.preprocessing._resize import Resize, SquarePad

# x, y, w, h of a bright mark in a film of 240 x 200 whose black borders are 20 px left,
# 12 px right, 16 px at the top.
MARKS = np.array([[60, 70, 24, 30], [100, 40, 30, 16], [130, 150, 20, 40]])


@pytest.fixture
def films():
    images = np.zeros((len(MARKS), 240, 200), dtype=np.uint8)
    images[:, 16:, 20:188] = 90
    for image, (x, y, w, h) in zip(images, MARKS, strict=True):
        image[y : y + h, x : x + w] = 250
    return images


def bright_boxes(images, level=170):
    boxes = []
    for image in images:
        rows, columns = np.nonzero(image > level)
        boxes.append(
            [
                columns.min(),
                rows.min(),
                np.ptp(columns) + 1,
                np.ptp(rows) + 1,
            ]
        )
    return np.array(boxes, dtype=float)


def crop_pipeline():
    return make_pipeline(SquarePad(), CropBorders(), Resize((330, 410)))


def test_boxes_come_back_within_a_pixel(films):
    pipeline = crop_pipeline()
    found = bright_boxes(pipeline.fit_transform(films))
    affines = pipeline_geometry(pipeline, films)
    assert affines.shape == (3, 2, 3) and affines.dtype == np.float64
    back = map_boxes(found, affines)
    np.testing.assert_allclose(back[:, :2], MARKS[:, :2], atol=1)
    np.testing.assert_allclose(back[:, :2] + back[:, 2:], MARKS[:, :2] + MARKS[:, 2:], atol=1)


def test_boxes_go_forward_within_a_pixel(films):
    pipeline = crop_pipeline()
    found = bright_boxes(pipeline.fit_transform(films))
    there = map_boxes(MARKS, pipeline_geometry(pipeline, films), inverse=True)
    # One pixel of the input is up to two of the output here.
    np.testing.assert_allclose(there, found, atol=2)


def test_composition_equals_the_hand_computed_affine(films):
    # Pad: 20 columns left and right of 200. Crop: x from 40 to 208, y from 16 to 240, brought
    # to 240 x 240. Resize to 330 x 410.
    affines = pipeline_geometry(crop_pipeline().fit(films), films)
    expected = np.array([[168 / 410, 0, 20], [0, 224 / 330, 16]])
    np.testing.assert_allclose(affines, np.broadcast_to(expected, affines.shape), atol=1e-12)


def test_flat_input_gives_the_same_geometry(films):
    shaped = pipeline_geometry(crop_pipeline().fit(films), films)
    flat = films.reshape(len(films), -1)
    first = SquarePad(image_shape=(240, 200))
    pipeline = make_pipeline(first, CropBorders(), Resize((330, 410))).fit(flat)
    np.testing.assert_array_equal(pipeline_geometry(pipeline, flat), shaped)


def test_walk_ends_where_the_pixels_end(films):
    y = [0, 1, 0]
    pipeline = Pipeline(
        [
            ("skip", "passthrough"),
            ("pad", SquarePad()),
            ("inner", make_pipeline(Resize(60), FunctionTransformer())),
            ("flat", Flatten()),
            ("scale", StandardScaler()),
            ("pca", PCA(2)),
            ("classify", LogisticRegression()),
        ]
    ).fit(films, y)
    expected = [[4, 0, -20], [0, 4, 0]]
    np.testing.assert_allclose(pipeline_geometry(pipeline, films)[1], expected)


def test_samplers_are_skipped(films):
    flat = films.reshape(len(films), -1)
    pipeline = make_sampling_pipeline(
        SquarePad(image_shape=(240, 200)),
        RandomUnderSampler(random_state=0),
        Resize(60),
        LogisticRegression(),
    ).fit(flat, [0, 1, 1])
    affines = pipeline_geometry(pipeline, flat)
    np.testing.assert_allclose(affines, [[[4, 0, -20], [0, 4, 0]]] * 3)


def test_pipeline_without_geometry_is_identity(films):
    pipeline = make_pipeline(Flatten(), StandardScaler()).fit(films)
    np.testing.assert_array_equal(pipeline_geometry(pipeline, films), [[[1, 0, 0], [0, 1, 0]]] * 3)


class Reader(TransformerMixin, BaseEstimator):
    """Reads by number, halved, as ImageReader reads by path."""

    def __init__(self, images):
        self.images = images

    def fit(self, X, y=None):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def transform(self, X):
        return self.images[np.asarray(X), ::2, ::2]

    def geometry(self, X):
        return np.array([[[2, 0, 0], [0, 2, 0]]] * len(X))


def test_a_reader_counts_as_a_step(films):
    numbers = np.array([2, 0])
    pipeline = make_pipeline(Reader(films), SquarePad()).fit(numbers)
    expected = [[[2, 0, -20], [0, 2, 0]]] * 2
    np.testing.assert_allclose(pipeline_geometry(pipeline, numbers), expected)


@pytest.mark.parametrize("step", [PCA(2), FunctionTransformer(np.fliplr)])
def test_geometry_after_a_step_that_loses_it_raises(films, step):
    flat = films[:, :100, :100].reshape(len(films), -1)
    pipeline = make_pipeline(step, Resize((1, 2))).fit(flat)
    with pytest.raises(ValueError, match="cannot be followed through step"):
        pipeline_geometry(pipeline, flat)


def test_one_to_one_function_keeps_the_geometry(films):
    log = FunctionTransformer(np.log1p, feature_names_out="one-to-one")
    pipeline = make_pipeline(log, Resize(100)).fit(films.astype(float))
    affines = pipeline_geometry(pipeline, films.astype(float))
    np.testing.assert_allclose(affines[0], [[2, 0, 0], [0, 2.4, 0]])


def test_map_boxes_single_affine_nan_and_rotation():
    quarter_turn = np.array([[0.0, -1, 10], [1, 0, 0]])  # (x, y) -> (10 - y, x)
    boxes = [[1, 2, 3, 5], [np.nan] * 4]
    out = map_boxes(boxes, quarter_turn)
    np.testing.assert_allclose(out[0], [3, 1, 5, 3])
    assert np.isnan(out[1]).all()
    np.testing.assert_allclose(map_boxes(out, quarter_turn, inverse=True)[0], boxes[0])


def test_map_boxes_of_nothing():
    assert map_boxes([], np.eye(2, 3)).shape == (0, 4)


def test_map_boxes_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="affines\\[image_of_box\\]"):
        map_boxes([[0, 0, 1, 1]] * 2, np.tile(np.eye(2, 3), (3, 1, 1)))
    with pytest.raises(ValueError, match="boxes of shape"):
        map_boxes([[0, 0, 1]], np.eye(2, 3))
    with pytest.raises(ValueError, match="no inverse"):
        map_boxes([[0, 0, 1, 1]], np.zeros((2, 3)), inverse=True)


def test_pipeline_geometry_refuses_a_bare_estimator(films):
    with pytest.raises(ValueError, match="pipeline"):
        pipeline_geometry(Resize(5).fit(films), films)
