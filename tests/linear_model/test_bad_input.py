"""What comes wrong, from files above all: a clear error or a correct answer."""

import os

import h5py
import numpy as np
import pytest

from sklearn_cxr.decomposition import PixelPCA
from sklearn_cxr.exceptions import LeakageRiskWarning
from sklearn_cxr.linear_model import PixelLogisticRegression, PixelLogisticRegressionCV
from sklearn_cxr.preprocessing import ImageRows
from sklearn_cxr.utils import _design

N, SIDE = 60, 7
GROUPS = np.arange(N) // 2


def films(dtype=np.uint8):
    rng = np.random.default_rng(0)
    y = GROUPS % 2
    X = rng.normal(110, 30, (N, SIDE, SIDE))
    X[y == 1, 2:5, 2:5] += 20
    return X.clip(0, 255).astype(dtype), y


def mapped(X, path):
    X.tofile(path)
    return np.memmap(path, mode="r", dtype=X.dtype, shape=X.shape)


def models():
    """Every estimator that passes over rows, each as a function of X that fits it."""
    y = films()[1]
    return {
        "passes": lambda X: PixelLogisticRegression(C=0.1, solver="passes").fit(X, y),
        "gram": lambda X: PixelLogisticRegression(C=0.1, solver="gram").fit(X, y),
        "path": lambda X: PixelLogisticRegressionCV([0.1, 1], cv=2).fit(X, y, groups=GROUPS),
        "PCA": lambda X: PixelPCA(3).fit(X),
        "PCA in parts": lambda X: PixelPCA(3).partial_fit(X),
    }


@pytest.fixture(params=models())
def fit(request):
    return models()[request.param]


def answer(model):
    return model.components_ if isinstance(model, PixelPCA) else model.coef_


@pytest.mark.parametrize("form", ["map", "view of a map", "HDF5"])
def test_nan_in_a_file(form, fit, tmp_path):
    X = films(np.float32)[0] / 255
    X[41, 3, 3] = np.nan
    with h5py.File(tmp_path / "films.h5", "w") as file:
        rows = {
            "map": lambda: mapped(X, tmp_path / "raw"),
            "view of a map": lambda: ImageRows(
                [mapped(X, tmp_path / "raw")], np.zeros(N, int), np.arange(N)
            ),
            "HDF5": lambda: file.create_dataset("films", data=X),
        }
        with pytest.raises(ValueError, match="Input X contains NaN"):
            fit(rows[form]())


def test_a_pixel_that_never_changes(fit):
    X, _ = films()
    X[:, 0, 0], X[:, 3, 3] = 0, 77
    found = answer(fit(X)).reshape(-1, SIDE, SIDE)
    np.testing.assert_allclose(found[:, [0, 3], [0, 3]], 0, atol=1e-12)
    assert np.isfinite(found).all() and np.abs(found).max() > 0


def test_a_fold_that_lacks_a_class():
    X, y = films()
    ones, zeros = np.flatnonzero(y == 1), np.flatnonzero(y == 0)
    half = np.arange(N) < N // 2
    rest = np.flatnonzero(half)
    good = (np.flatnonzero(~half), rest)
    for bad, what in (
        ((zeros, rest), r"Fold 1 of 2 has no image of \[1\] .* trained on"),
        ((rest, ones), r"Fold 1 of 2 has no image of \[0\] .* scored on"),
    ):
        with pytest.raises(ValueError, match=what):
            PixelLogisticRegressionCV([0.1], cv=[good, bad]).fit(X, y, groups=GROUPS)
    # The accuracy is defined on one class too.
    by_accuracy = PixelLogisticRegressionCV([0.1], cv=[good, (rest, ones)], scoring="accuracy")
    with pytest.warns(LeakageRiskWarning, match="Fold 1 of cv trains and scores on images of"):
        assert by_accuracy.fit(X, y, groups=GROUPS).scores_.shape == (2, 1)
    # Others are not, and say no word of the fold by themselves.
    undefined = PixelLogisticRegressionCV([0.1], cv=[good, (rest, ones)], scoring="neg_log_loss")
    with (
        pytest.warns(LeakageRiskWarning),
        pytest.raises(ValueError, match=r"'neg_log_loss' fails where no image of \[0\] is scored"),
    ):
        undefined.fit(X, y, groups=GROUPS)


@pytest.mark.parametrize("solver", ["passes", "gram"])
@pytest.mark.parametrize(
    ("weights", "match"),
    [
        ({"class_weight": {0: 0, 1: 0}}, "With class_weight .* from 0 to 0"),
        ({"class_weight": {0: -1, 1: 3}}, "With class_weight .* from -1 to 3"),
        ({"class_weight": {0: np.nan, 1: 3}}, "With class_weight .* from nan to nan"),
        ({"sample_weight": np.zeros(N)}, "(?i)sample.weight"),
    ],
)
def test_weights_that_fit_nothing(weights, match, solver):
    X, y = films()
    model = PixelLogisticRegression(solver=solver, class_weight=weights.get("class_weight"))
    with pytest.raises(ValueError, match=match):
        model.fit(X, y, sample_weight=weights.get("sample_weight"))


def test_a_score_that_is_no_number():
    X, y = films()
    search = PixelLogisticRegressionCV([0.1], cv=2, scoring=lambda model, X, y: np.nan)
    with pytest.raises(ValueError, match=r"fold 0 at C=0.1 is nan, so no penalty can be chosen"):
        search.fit(X, y, groups=GROUPS)


@pytest.mark.parametrize("C", [0, -1.0, np.nan, "strong"])
def test_penalties_that_are_none(C):
    X, y = films()
    with pytest.raises(ValueError, match="'C' parameter of PixelLogisticRegression"):
        PixelLogisticRegression(C=C).fit(X, y)


@pytest.mark.parametrize(
    ("dtype", "error", "match"),
    [
        (complex, ValueError, "Complex data not supported"),
        ("U3", ValueError, "numeric"),
        ("M8[s]", TypeError, r"X holds datetime64\[s\], which is no grey level"),
    ],
)
def test_dtypes_that_are_no_grey_level(dtype, error, match, fit):
    with pytest.raises(error, match=match):
        fit(films()[0].astype(dtype))


@pytest.mark.parametrize("dtype", [bool, np.int16, np.uint32, np.float16, object])
def test_dtypes_that_are_converted(dtype):
    X, y = films()
    X = X // 128 if dtype is bool else X
    found = PixelLogisticRegression(C=0.1, tol=1e-8).fit(X.astype(dtype), y)
    expected = PixelLogisticRegression(C=0.1, tol=1e-8).fit(X.astype(float), y)
    np.testing.assert_allclose(found.coef_, expected.coef_, rtol=0, atol=1e-9)


def test_layouts_give_the_same_answer(fit, tmp_path):
    X = films()[0]
    expected = answer(fit(X))
    wide = np.zeros((N, SIDE, 2 * SIDE), np.uint8)
    wide[..., ::2] = X
    scattered = np.zeros((2 * N, SIDE, SIDE), np.uint8)
    scattered[::2] = X
    forms = {
        "every other column": wide[..., ::2],
        "every other row": scattered[::2],
        "backwards": X[::-1].copy()[::-1],
        "Fortran": np.asfortranarray(X),
        "big endian": X.astype(">u2").astype(">f8"),
        "map": mapped(X, tmp_path / "raw"),
    }
    for name, form in forms.items():
        np.testing.assert_allclose(answer(fit(form)), expected, rtol=1e-6, atol=1e-9, err_msg=name)


def test_rows_from_a_generator(fit):
    with pytest.raises(TypeError, match=r"X is a generator, .* can be read once only"):
        fit(film for film in films()[0])
    fitted = fit(films()[0])
    method = fitted.transform if isinstance(fitted, PixelPCA) else fitted.predict_proba
    with pytest.raises(TypeError, match="Give an array, a list"):
        method(iter(films()[0]))


def test_a_closed_hdf5_file(fit, tmp_path):
    with h5py.File(tmp_path / "films.h5", "w") as file:
        rows = file.create_dataset("films", data=films()[0])
        fitted = fit(rows)
    with pytest.raises(ValueError, match=r"HDF5 file that is closed. Keep the file open"):
        fit(rows)
    method = fitted.transform if isinstance(fitted, PixelPCA) else fitted.predict
    with pytest.raises(ValueError, match="HDF5 file that is closed"):
        method(rows)


def test_an_hdf5_file_that_is_closed_during_the_fit(tmp_path, monkeypatch):
    X, y = films()
    file = h5py.File(tmp_path / "films.h5", "w")
    rows = file.create_dataset("films", data=X)
    passed = []
    once = _design.Design.loss_gradient

    def closing(self, *arguments):
        passed.append(1)
        if len(passed) == 3:
            file.close()
        return once(self, *arguments)

    monkeypatch.setattr(_design.Design, "loss_gradient", closing)
    with pytest.raises(ValueError, match="HDF5 file that is closed"):
        PixelLogisticRegression(solver="passes").fit(rows, y)
    assert len(passed) == 3


@pytest.mark.parametrize("view", [False, True])
def test_a_mapped_file_that_is_cut_during_the_fit(view, tmp_path, monkeypatch):
    """Reading on would end the process by SIGBUS."""
    X, y = films()
    rows = mapped(X, tmp_path / "raw")
    rows = ImageRows([rows], np.zeros(N, int), np.arange(N)) if view else rows
    passed = []
    once = _design.Design.loss_gradient

    def cutting(self, *arguments):
        passed.append(1)
        if len(passed) == 3:
            os.truncate(tmp_path / "raw", 0)
        return once(self, *arguments)

    monkeypatch.setattr(_design.Design, "loss_gradient", cutting)
    with pytest.raises(ValueError, match=r"raw: the file has 0 bytes, but 2940 .* it was cut"):
        PixelLogisticRegression(solver="passes").fit(rows, y)
    assert len(passed) == 3
    monkeypatch.undo()
    fitted = PixelLogisticRegression().fit(X, y)
    with pytest.raises(ValueError, match="Write it again and open it anew"):
        fitted.predict(rows)


def test_a_mapped_file_that_is_deleted_lives_on(fit, tmp_path):
    X = films()[0]
    rows = mapped(X, tmp_path / "raw")
    os.remove(tmp_path / "raw")
    np.testing.assert_allclose(answer(fit(rows)), answer(fit(X)), rtol=1e-9, atol=1e-12)


def test_rows_that_become_fewer_during_the_fit(tmp_path, monkeypatch):
    X, y = films()
    passed = []
    once = _design.Design.loss_gradient
    with h5py.File(tmp_path / "films.h5", "w") as file:
        rows = file.create_dataset("films", data=X, maxshape=(None, SIDE, SIDE))

        def shrinking(self, *arguments):
            passed.append(1)
            if len(passed) == 3:
                rows.resize(N - 5, axis=0)
            return once(self, *arguments)

        monkeypatch.setattr(_design.Design, "loss_gradient", shrinking)
        with pytest.raises(ValueError, match=r"X had 60 rows .* gave 55 .* it has shrunk"):
            PixelLogisticRegression(solver="passes").fit(rows, y)
    assert len(passed) == 3
