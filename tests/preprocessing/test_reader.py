import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_param_validation

from sklearn_cxr.exceptions import ImageFormatError, UnreadableImageWarning
from sklearn_cxr.linear_model import PixelLogisticRegression
from sklearn_cxr.preprocessing import ImageReader, ImageRows


@pytest.fixture
def films(tmp_path):
    """24 films of 12 patients; the pneumonia ones are brighter."""
    rng = np.random.default_rng(0)
    paths = []
    for i in range(24):
        pixels = rng.integers(0, 120, (20, 16)) + 60 * (i // 2 % 2)
        paths.append(str(tmp_path / f"film{i:02d}.png"))
        Image.fromarray(pixels.astype(np.uint8)).save(paths[-1])
    y = np.where(np.arange(24) // 2 % 2, "pneumonia", "normal")
    return paths, y, np.arange(24) // 2


@pytest.mark.parametrize(
    "form",
    [
        list, lambda p: list(map(Path, p)), np.array, lambda p: np.array(p, dtype=object),
        lambda p: np.array(p, dtype=object)[:, None], pd.Series,
        lambda p: pd.Series(p, index=range(100, 124)), lambda p: pd.DataFrame({"path": p}),
        lambda p: [[q] for q in p],
    ],
    ids=["list", "Path", "str array", "object array", "column", "Series", "index", "frame", "2-D"],
)  # fmt: skip
def test_every_form_of_paths(films, form):
    paths = films[0]
    expected = ImageReader(size=8).fit_transform(paths)
    np.testing.assert_array_equal(ImageReader(size=8).fit_transform(form(paths)), expected)
    assert ImageReader(size=8).fit(form(paths)).n_features_in_ == 1


@pytest.mark.parametrize(
    ("X", "error", "match"),
    [
        ("one.png", TypeError, r"\['one.png'\]"),
        ([], ValueError, "0 sample"),
        ([1, 2], TypeError, r"X\[0\] is 1 \(int\)"),
        (["a.png", None], TypeError, r"X\[1\] is None"),
        ([b"\x89PNG" * 999], TypeError, r"^X\[0\] is .{,60} \(bytes\), not a path.*left out\.$"),
        (["a.png", np.nan], TypeError, r"X\[1\] is nan"),
        ([["a.png", "b.png"]], ValueError, r"got shape \(1, 2\)"),
        (np.zeros((4, 8, 8)), ValueError, r"got shape \(4, 8, 8\).* steps after it, model\[1:\]"),
        (pd.DataFrame({"path": ["a"], "age": [3]}), ValueError, r"got shape \(1, 2\)"),
        (["a\0.png"], ImageFormatError, "null"),
    ],
)
def test_what_is_no_column_of_paths_raises(X, error, match):
    with pytest.raises(error, match=match):
        ImageReader().fit(X)


@pytest.mark.parametrize(
    ("params", "shape"),
    [
        ({"size": 8}, (24, 8, 8)),
        ({"size": (8, 5)}, (24, 8, 5)),
        ({"size": 8, "color": "rgb"}, (24, 8, 8, 3)),
        ({"size": 8, "output": "flat"}, (24, 64)),
        ({"size": 4, "color": "rgb", "output": "flat"}, (24, 48)),
    ],
)
@pytest.mark.parametrize("cached", [False, True])
def test_forms_of_the_result(films, params, shape, cached, tmp_path):
    reader = ImageReader(**params, cache_dir=tmp_path / "store" if cached else None)
    out = reader.fit_transform(films[0])
    assert out.shape == shape
    assert isinstance(out, ImageRows if cached else np.ndarray)
    assert len(reader.get_feature_names_out()) == np.prod(shape[1:])
    np.testing.assert_array_equal(np.asarray(out), np.asarray(reader.transform(films[0])))


def test_flat_is_the_shaped_row_by_row(films):
    flat = ImageReader(size=8, output="flat").fit_transform(films[0])
    shaped = ImageReader(size=8).fit_transform(films[0])
    np.testing.assert_array_equal(flat, shaped.reshape(24, -1))


@pytest.mark.parametrize("cached", [False, True])
def test_n_jobs_changes_nothing(films, cached, tmp_path):
    one, two = (
        ImageReader(size=8, n_jobs=n, cache_dir=tmp_path / f"store{n}" if cached else None)
        for n in (1, 2)
    )
    np.testing.assert_array_equal(
        np.asarray(one.fit_transform(films[0])), np.asarray(two.fit_transform(films[0]))
    )


@pytest.mark.parametrize("cached", [False, True])
def test_report_keeps_the_row_and_says_so(films, tmp_path, cached):
    paths = films[0][:3] + [str(tmp_path / "gone.png")] + films[0][3:]
    (tmp_path / "text.png").write_text("no picture")
    paths.append(str(tmp_path / "text.png"))
    cache_dir = tmp_path / "store" if cached else None
    reader = ImageReader(size=8, on_error="report", fill_value=5, cache_dir=cache_dir)
    with pytest.warns(UnreadableImageWarning, match="2 of 26 images") as caught:
        images = reader.fit_transform(paths)
    assert len(caught) == 1
    assert (np.asarray(images)[[3, 25]] == 5).all()
    assert list(reader.errors_.index) == [3, 25]
    assert list(reader.errors_["file"]) == [paths[3], paths[25]]
    assert reader.errors_["reason"].str.contains("no such file|no image").all()
    pd.testing.assert_frame_equal(reader.report(paths), reader.errors_)
    before = joblib.hash(vars(reader))
    assert reader.report(films[0]).empty
    with pytest.warns(UnreadableImageWarning):
        reader.transform(paths)
    assert joblib.hash(vars(reader)) == before


def test_drop_unreadable_keeps_the_three_together(films, tmp_path):
    paths, y, groups = films
    paths = list(paths)
    paths[4] = str(tmp_path / "gone.png")
    frame = pd.DataFrame({"path": paths, "age": np.arange(24)}, index=range(50, 74))
    kept, y_kept, groups_kept = ImageReader(size=8).drop_unreadable(frame, y, pd.Series(groups))
    assert list(kept.index) == [i for i in range(50, 74) if i != 54]
    np.testing.assert_array_equal(y_kept, np.delete(y, 4))
    np.testing.assert_array_equal(groups_kept, np.delete(groups, 4))
    assert ImageReader(size=8).drop_unreadable(paths[4:6]) == (paths[5:6], None, None)
    rows = pd.DataFrame({"age": range(len(frame))})
    *_, ages = ImageReader(size=8).drop_unreadable(frame, y, groups, rows)
    assert ages["age"].tolist() == [0, 1, 2, 3, *range(5, 24)]


def test_a_column_transformer_joins_pixels_and_age(films):
    paths, y, _ = films
    frame = pd.DataFrame({"path": paths, "age": np.arange(24.0)})
    columns = ColumnTransformer(
        [
            ("pixels", ImageReader(size=4, output="flat"), ["path"]),
            ("age", StandardScaler(), ["age"]),
        ]
    )
    joined = columns.set_output(transform="pandas").fit_transform(frame)
    assert joined.shape == (24, 17)
    assert list(joined.columns[[0, 15, 16]]) == [
        "pixels__pixel_0_0",
        "pixels__pixel_3_3",
        "age__age",
    ]
    assert columns.fit(frame, y).transform(frame).index.equals(frame.index)


def test_set_output_leaves_shaped_images_alone(films, tmp_path):
    with config_context(transform_output="pandas"):
        assert isinstance(ImageReader(size=4).fit_transform(films[0]), np.ndarray)
        frame = ImageReader(size=4, output="flat").fit_transform(
            pd.DataFrame({"path": films[0]}, index=range(7, 31))
        )
        cached = ImageReader(size=4, output="flat", cache_dir=tmp_path / "s").fit_transform(
            films[0]
        )
    assert list(frame.index) == list(range(7, 31))
    assert isinstance(cached, pd.DataFrame)
    np.testing.assert_array_equal(cached.to_numpy(), frame.to_numpy())


def test_grid_search_over_paths_by_patient(films, tmp_path):
    paths, y, groups = films
    pipeline = Pipeline(
        [
            ("read", ImageReader(size=8, cache_dir=tmp_path / "store")),
            ("classify", PixelLogisticRegression(C=0.01)),
        ]
    )
    search = GridSearchCV(
        pipeline,
        {"read__size": [4, 8], "classify__C": [0.01, 1.0]},
        cv=StratifiedGroupKFold(3),
        scoring="roc_auc",
        n_jobs=2,
    )
    search.fit(paths, y, groups=groups)
    assert search.best_score_ > 0.95
    assert set(search.predict(paths[:4])) <= {"normal", "pneumonia"}
    joblib.dump(search.best_estimator_, tmp_path / "model.joblib")
    again = joblib.load(tmp_path / "model.joblib")
    np.testing.assert_array_equal(again.predict_proba(paths), search.predict_proba(paths))


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"size": (10, 8)}, [[2, 0, 0], [0, 2, 0]]),
        ({"size": 8, "aspect": "pad"}, [[16 / 6, 0, -16 / 6], [0, 2.5, 0]]),
        ({"size": 8, "aspect": "crop"}, [[2, 0, 0], [0, 2, 2]]),
    ],
)
def test_geometry_leads_back_to_the_file(films, params, expected):
    np.testing.assert_allclose(ImageReader(**params).geometry(films[0])[0], expected, atol=1e-12)


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"size": 0}, "size"),
        ({"size": (8, 0)}, "positive"),
        ({"size": (2.7, 3.2)}, "positive int"),
        ({"size": (224,) * 3}, "positive int"),
        ({"aspect": "zoom"}, "aspect"),
        ({"fill_value": 300}, "does not fit into uint8"),
        ({"on_error": "ignore"}, "on_error"),
    ],
)
def test_bad_parameters(films, params, match):
    with pytest.raises(ValueError, match=match):
        ImageReader(**params).fit(films[0])


def test_a_column_of_another_name_raises(films):
    reader = ImageReader(size=4).fit(pd.DataFrame({"path": films[0]}))
    assert list(reader.feature_names_in_) == ["path"]
    with pytest.raises(ValueError, match="'path', got column 'file'"):
        reader.transform(pd.DataFrame({"file": films[0]}))
    assert not hasattr(reader.fit(films[0]), "feature_names_in_")


def test_memory_stays_near_the_size_of_the_result(tmp_path):
    """60 films of 9 MB would take 540 MB, were they kept; measured on a process of its own."""
    Image.fromarray(np.zeros((3000, 3000), dtype=np.uint8)).save(tmp_path / "film.png")
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from sklearn_cxr.preprocessing import ImageReader\n"
        "def peak():\n"
        "    lines = Path('/proc/self/status').read_text().splitlines()\n"
        "    return next(int(l.split()[1]) for l in lines if l.startswith('VmHWM')) * 1024\n"
        "reader = ImageReader(size=128, n_jobs=2).fit([sys.argv[1]])\n"
        "before = peak()\n"
        "images = reader.transform([sys.argv[1]] * 60)\n"
        "print(peak() - before - images.nbytes)\n"
    )
    film = str(tmp_path / "film.png")
    growth = subprocess.check_output([sys.executable, "-c", program, film], text=True)
    assert int(growth) < 200e6


def test_progress_is_drawn_only_on_request(films, capfd):
    ImageReader(size=4).fit(films[0])
    assert capfd.readouterr() == ("", "")
    ImageReader(size=4, verbose=1).fit(films[0])
    assert "Reading images: 100%" in capfd.readouterr().err


@pytest.mark.parametrize("method", ["report", "geometry", "drop_unreadable", "fit", "transform"])
@pytest.mark.parametrize("params", [{"aspect": "zoom"}, {"dtype": "float32"}, {"size": (8, 8, 3)}])
def test_every_method_checks_the_parameters(films, method, params):
    reader = ImageReader().fit(films[0]).set_params(**params)
    with pytest.raises(ValueError, match=next(iter(params))):
        getattr(reader, method)(films[0])


def test_a_missing_file_raises_alone_with_several_workers(films, tmp_path):
    # joblib's own remark on tasks that were dropped would be an error here.
    with pytest.raises(ImageFormatError, match="no such file"):
        ImageReader(size=8, n_jobs=2).fit([str(tmp_path / "gone.png"), *films[0]])


def test_the_warning_names_the_callers_line(films, tmp_path):
    paths = [*films[0], str(tmp_path / "gone.png")]
    reader = ImageReader(size=8, on_error="report")
    for method in (reader.fit, reader.transform, reader.fit_transform):
        with pytest.warns(UnreadableImageWarning) as caught:
            method(paths)
        assert caught[0].filename == __file__


def test_conventions():
    check_param_validation("ImageReader", ImageReader())
    tags = get_tags(ImageReader())
    assert tags.input_tags.string and not tags.input_tags.two_d_array
    assert not tags._skip_test and not tags.no_validation
    assert clone(ImageReader(size=7)).get_params()["size"] == 7
    with pytest.raises(Exception, match="not fitted"):
        ImageReader().transform(["a.png"])


def test_real_films_of_every_mode(data_root):
    paths = sorted((data_root / "nih" / "images").glob("*.png"))
    images = ImageReader(size=64, n_jobs=2).fit_transform(paths)
    modes = []
    for path in paths:
        with Image.open(path) as image:
            modes.append(image.mode)
    assert images.shape == (106, 64, 64)
    assert "RGBA" in modes
    assert images.reshape(106, -1).std(axis=1).min() > 20
