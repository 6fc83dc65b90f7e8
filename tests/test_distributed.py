"""Sweeps over pipelines from paths on joblib's engines, and one fit over a dask array."""

import logging
import os
import pickle
import shutil
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from joblib._parallel_backends import LokyBackend
from PIL import Image
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import sklearn_cxr
from sklearn_cxr.decomposition import PixelPCA
from sklearn_cxr.linear_model import PixelLogisticRegression, PixelLogisticRegressionCV
from sklearn_cxr.preprocessing import ImageReader
from sklearn_cxr.utils._dask import take_rising

SIDE, N = 12, 60
GRID = {"pixellogisticregression__C": [1e-3, 1e-1]}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Paths of films, labels and patients; their decode store lies beside them."""
    folder = tmp_path_factory.mktemp("films")
    rng = np.random.default_rng(0)
    groups = np.arange(N) // 2
    y = groups % 2
    images = rng.normal(110, 30, (N, SIDE, SIDE))
    images[y == 1, 3:7, 3:7] += 15
    for i, image in enumerate(images.clip(0, 255).astype(np.uint8)):
        Image.fromarray(image).save(folder / f"{i:03d}.png")
    paths = np.array([str(path) for path in sorted(folder.glob("*.png"))], dtype=object)
    return paths, y, groups


def pipeline(paths, *steps):
    """The reader with the store that all processes share, and a classifier."""
    reader = ImageReader(SIDE, cache_dir=Path(paths[0]).parent / "store")
    return make_pipeline(reader, *steps, PixelLogisticRegression())


def search(films, *steps):
    paths, y, groups = films
    grid = GridSearchCV(
        pipeline(paths, *steps), GRID, cv=StratifiedGroupKFold(3), scoring="roc_auc", n_jobs=2
    )
    return grid.fit(paths, y, groups=groups)


def validate(films):
    # Nested functions go to the workers by value; this module could not be imported there.
    def threads(model, X, y):
        from sklearn_cxr.utils._design import _thread_count

        return _thread_count()

    def library_threads(model, X, y):
        from threadpoolctl import threadpool_info

        pools = {pool["user_api"]: pool["num_threads"] for pool in threadpool_info()}
        return max(pools["blas"], pools["openmp"])

    paths, y, groups = films
    return cross_validate(
        pipeline(paths),
        paths,
        y,
        groups=groups,
        cv=StratifiedGroupKFold(3),
        # Beside the score, how many threads a pass has in the process that computes it, and the
        # most that BLAS or OpenMP would take there.
        scoring={"loss": "neg_log_loss", "threads": threads, "libraries": library_threads},
        n_jobs=2,
    )


@pytest.fixture(scope="module")
def expected(films):
    """What one process finds."""
    with joblib.parallel_config("sequential"):
        return search(films), validate(films)


def check_equal(found, expected):
    grid, scores = found
    for name in ("mean_test_score", "split0_test_score", "split1_test_score"):
        np.testing.assert_allclose(
            grid.cv_results_[name], expected[0].cv_results_[name], rtol=1e-12
        )
    assert grid.best_params_ == expected[0].best_params_
    assert 0.6 < grid.best_score_ < 1
    np.testing.assert_allclose(scores["test_loss"], expected[1]["test_loss"], rtol=1e-6)
    # Two processes of one thread each; the machine is not given out twice.
    assert scores["test_threads"].tolist() == [1, 1, 1]
    assert scores["test_libraries"].tolist() == [1, 1, 1]


def test_loky(films, expected, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with joblib.parallel_config("loky", n_jobs=2, inner_max_num_threads=1):
        check_equal((search(films), validate(films)), expected)


@pytest.fixture(scope="module")
def many():
    """Names, labels and two folds of 5,216 films, which are weighed and never opened."""
    folder = "/data/films-of-a-hospital"
    names = np.array([f"{folder}/a-film-of-a-patient-{i:06d}.png" for i in range(5216)], object)
    # Blocks of four, so that either half holds both classes.
    half = np.arange(5216) // 4 % 2
    folds = [(np.flatnonzero(half == i), np.flatnonzero(half != i)) for i in range(2)]
    return names, np.arange(5216) % 2, folds


class Weighing(LokyBackend):
    """loky, which notes how many bytes every task has."""

    sizes = []

    def submit(self, func, callback=None):
        self.sizes.append(len(pickle.dumps(func)))
        return super().submit(func, callback)

    def apply_async(self, func, callback=None):
        """Before joblib 1.5 it was called so."""
        self.sizes.append(len(pickle.dumps(func)))
        return super().apply_async(func, callback)


def test_a_task_of_5216_films_is_under_a_megabyte(films, many):
    names, y, folds = many
    assert len(pickle.dumps(pipeline(films[0]))) < 5000
    joblib.register_parallel_backend("weighing", Weighing)
    Weighing.sizes.clear()
    with joblib.parallel_config("weighing", n_jobs=2):
        cross_validate(DummyClassifier(), names, y, cv=folds)
    assert len(Weighing.sizes) == 2
    assert 5216 * 50 < max(Weighing.sizes) < 1e6


def test_a_dask_task_of_5216_films_holds_neither_names_nor_folds(many, client, monkeypatch):
    import cloudpickle

    names, y, folds = many
    tasks, sent = [], []
    submit, scatter = type(client).submit, type(client).scatter

    def weighed(self, func, *args, **options):
        tasks.append(len(cloudpickle.dumps((func, args, options))))
        return submit(self, func, *args, **options)

    def scattered(self, data, **options):
        sent.extend(len(pickle.dumps(values)) for values in data)
        return scatter(self, data, **options)

    monkeypatch.setattr(type(client), "submit", weighed)
    monkeypatch.setattr(type(client), "scatter", scattered)
    shipped = [names, y, *(rows for fold in folds for rows in fold)]
    with joblib.parallel_config("dask", scatter=shipped):
        cross_validate(DummyClassifier(), names, y, cv=folds)
    assert len(tasks) == 2 and max(tasks) < 20_000
    # Once to each worker, names, labels and the rows of the folds.
    assert len(sent) == 6 and 5216 * 50 < sum(sent) < 1e6


@pytest.fixture(scope="module")
def client():
    """Two worker processes of one thread each."""
    reason = "dask and distributed come with the extra 'distributed'"
    distributed = pytest.importorskip("distributed", reason=reason)
    patch = pytest.MonkeyPatch()
    patch.delenv("OMP_NUM_THREADS", raising=False)
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
    )
    with cluster, distributed.Client(cluster) as client:
        yield client
    patch.undo()


def test_dask(films, expected, client):
    with joblib.parallel_config("dask"):
        check_equal((search(films), validate(films)), expected)


def test_torch_has_one_thread_in_a_dask_worker_too(client):
    def threads():
        import torch

        return torch.get_num_threads()

    assert list(client.run(threads).values()) == [1, 1]


def kill_one_worker(marker):
    """Return a step of a pipeline that kills its process, in the first process that gets there."""

    def passed_on(images):
        import os
        import signal

        try:
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return images
        os.kill(os.getpid(), signal.SIGKILL)

    return FunctionTransformer(passed_on)


def test_a_dask_worker_that_is_killed_is_survived(films, client, tmp_path):
    # joblib puts arrays beyond 1 kB on one worker only, where they die with it: eight times as
    # many rows make all of them so large. `scatter` puts them on every worker, and there they
    # stay unless Dask's memory manager, every two seconds, drops what lies on more than one.
    paths, y, groups = (np.tile(values, 8) for values in films)
    folds = list(StratifiedGroupKFold(3).split(paths, y, groups))
    shipped = [paths, y, *(rows for fold in folds for rows in fold)]
    assert min(rows.nbytes for rows in shipped) > 1000
    client.wait_for_workers(2, timeout=60)
    before = set(client.run(os.getpid).values())
    marker = tmp_path / "killed"
    model = pipeline(paths, kill_one_worker(str(marker)))
    grid = GridSearchCV(model, GRID, cv=folds, scoring="roc_auc", refit=False)
    client.amm.stop()
    try:
        with joblib.parallel_config("dask", scatter=shipped):
            grid.fit(paths, y)
    finally:
        client.amm.start()
    assert marker.exists()
    with joblib.parallel_config("sequential"):
        alone = clone(grid).fit(paths, y)
    np.testing.assert_allclose(
        grid.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"], rtol=1e-12
    )
    client.wait_for_workers(2, timeout=60)
    assert len(before & set(client.run(os.getpid).values())) == 1


@pytest.mark.parametrize(("dtype", "n_classes"), [(np.uint8, 2), (np.float32, 3)])
def test_a_fit_of_a_dask_array_equals_that_of_the_array(client, dtype, n_classes):
    da = pytest.importorskip("dask.array", reason="dask comes with the extra 'distributed'")
    rng = np.random.default_rng(0)
    y = np.arange(130) % n_classes
    images = rng.normal(110, 30, (130, 7, 9)) + 12 * y[:, None, None] * (np.arange(9) < 4)
    images[:, 2, 2] = 40
    images = images.clip(0, 255).astype(dtype)
    weight = rng.uniform(0.5, 2, 130)
    # Every step is a round trip to the workers: few of them are enough here.
    model = PixelLogisticRegression(C=0.01, class_weight="balanced", tol=1e-6)
    local = clone(model).fit(images, y, sample_weight=weight)
    # Chunks of unequal length, and images in two parts.
    chunked = da.from_array(images, chunks=((50, 17, 63), 7, (5, 4)))
    spread = clone(model).fit(chunked, y, sample_weight=weight)
    largest = np.abs(local.coef_).max()
    np.testing.assert_allclose(spread.coef_, local.coef_, rtol=0, atol=1e-6 * largest)
    assert spread.objective_ == pytest.approx(local.objective_, rel=1e-9)
    assert spread.input_kind_ == local.input_kind_
    np.testing.assert_allclose(
        spread.predict_proba(chunked), local.predict_proba(images), atol=1e-6
    )


def test_the_rows_of_a_dask_array_stay_where_they_are(client, monkeypatch):
    da = pytest.importorskip("dask.array", reason="dask comes with the extra 'distributed'")
    rng = np.random.default_rng(0)
    images, y = rng.integers(0, 256, (90, 8, 8), dtype=np.uint8), np.arange(90) % 2
    chunked = da.from_array(images, chunks=(20, 8, 8)).persist()
    fetched = []
    compute = da.Array.compute

    def watched(self, **options):
        fetched.append(self.shape[0])
        return compute(self, **options)

    monkeypatch.setattr(da.Array, "compute", watched)
    groups = np.arange(90) // 2
    search = PixelLogisticRegressionCV([1e-4, 1e-3], cv=2, tol=1e-3).fit(chunked, y, groups=groups)
    pca = PixelPCA(2).fit(chunked)
    assert not fetched
    monkeypatch.undo()
    expected = PixelLogisticRegressionCV([1e-4, 1e-3], cv=2, tol=1e-3, solver="passes")
    expected = expected.fit(images, y, groups=groups)
    np.testing.assert_allclose(search.scores_, expected.scores_, atol=1e-8)
    np.testing.assert_allclose(
        pca.explained_variance_, PixelPCA(2).fit(images).explained_variance_, rtol=1e-9
    )


def test_rows_that_are_taken_from_a_dask_array_stay_in_their_chunks(client):
    da = pytest.importorskip("dask.array", reason="dask comes with the extra 'distributed'")
    from dask.optimization import cull

    images = np.random.default_rng(0).integers(0, 256, (90, 8, 8), dtype=np.uint8)
    chunked = da.from_array(images, chunks=((20, 0, 30, 40), 8, 8)).persist()
    rows = np.flatnonzero(np.arange(90) % 3 > 0)
    rows = rows[(rows < 20) | (rows >= 50)]
    taken = take_rising(chunked, rows)
    np.testing.assert_array_equal(taken.compute(), images[rows])
    assert taken.chunks[0] == (13, 27)
    for part, source in enumerate((0, 3)):
        graph, _ = cull(dict(taken.dask), [(taken.name, part, 0, 0)])
        assert {key for key in graph if key[0] == chunked.name} == {(chunked.name, source, 0, 0)}


def test_splits_in_any_order_on_a_dask_array(client):
    da = pytest.importorskip("dask.array", reason="dask comes with the extra 'distributed'")
    images = np.random.default_rng(0).integers(0, 256, (60, 5, 5), dtype=np.uint8)
    y, order = np.arange(60) % 2, np.random.default_rng(1).permutation(60)
    splits = [(order[:40], order[40:]), (order[20:], order[:20])]
    model = PixelLogisticRegressionCV(Cs=[1e-3, 1e-1], cv=splits)
    given = {"y": y, "groups": np.arange(60)}
    spread = clone(model).fit(da.from_array(images, chunks=(25, 5, 5)), **given)
    np.testing.assert_allclose(spread.scores_, clone(model).fit(images, **given).scores_)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_chunks_without_a_row(client, dtype):
    da = pytest.importorskip("dask.array", reason="dask comes with the extra 'distributed'")
    images = np.random.default_rng(0).integers(0, 256, (40, 5, 5)).astype(dtype)
    y, kept = np.arange(40) % 2, np.arange(40) >= 12
    chunked = da.from_array(images, chunks=(10, 5, 5))[da.from_array(kept, chunks=10)]
    chunked.compute_chunk_sizes()
    assert chunked.chunks[0] == (0, 8, 10, 10)
    model = PixelLogisticRegression(C=1e-3).fit(chunked, y[kept])
    expected = PixelLogisticRegression(C=1e-3).fit(images[kept], y[kept])
    np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-6, atol=1e-12)
    np.testing.assert_array_equal(model.predict(chunked), expected.predict(images[kept]))
    axes, own = PixelPCA(2).fit(chunked), PixelPCA(2).fit(images[kept])
    np.testing.assert_allclose(axes.explained_variance_, own.explained_variance_, rtol=1e-5)
    np.testing.assert_allclose(axes.transform(chunked), own.transform(images[kept]), atol=1e-2)


def test_of_the_decode_store_only_names_are_shipped(films, client):
    da = pytest.importorskip("dask.array", reason="dask comes with the extra 'distributed'")
    paths, y, _ = films
    rows = ImageReader(SIDE, cache_dir=Path(paths[0]).parent / "store").fit_transform(paths)
    chunked = da.from_array(rows, chunks=(25, SIDE, SIDE), name=False)
    assert len(pickle.dumps(dict(chunked.dask))) < 0.5 * rows.nbytes
    model = PixelLogisticRegression(C=0.01, tol=1e-6)
    spread, local = clone(model).fit(chunked, y), clone(model).fit(rows, y)
    np.testing.assert_allclose(
        spread.coef_, local.coef_, rtol=0, atol=1e-6 * np.abs(local.coef_).max()
    )


def test_dask_arrays_that_are_refused(client):
    da = pytest.importorskip("dask.array", reason="dask comes with the extra 'distributed'")
    images, y = np.random.default_rng(0).random((40, 5, 5)), np.arange(40) % 2
    chunked = da.from_array(images, chunks=(10, 5, 5))
    with pytest.raises(ValueError, match=r"X is a dask array. Use 'auto' or 'passes'"):
        PixelLogisticRegression(solver="gram").fit(chunked, y)
    with pytest.raises(ValueError, match=r"unknown length. Call X.compute_chunk_sizes\(\)"):
        PixelLogisticRegression().fit(chunked[da.from_array(y, chunks=10) == 0], y[y == 0])
    images[33, 2, 2] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN"):
        PixelLogisticRegression().fit(da.from_array(images, chunks=(10, 5, 5)), y)


@pytest.fixture(scope="module")
def spark():
    """Spark on this machine, two tasks at a time."""
    reason = "pyspark and joblibspark come with the extra 'distributed'"
    sql = pytest.importorskip("pyspark.sql", reason=reason)
    joblibspark = pytest.importorskip("joblibspark", reason=reason)
    if not (os.environ.get("JAVA_HOME") or shutil.which("java")):
        pytest.skip("Spark needs Java, and there is none on the path")
    root = str(Path(sklearn_cxr.__file__).parents[1])
    patch = pytest.MonkeyPatch()
    patch.delenv("OMP_NUM_THREADS", raising=False)
    patch.setenv("PYSPARK_PYTHON", sys.executable)
    patch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    session = (
        sql.SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("OFF")
    joblibspark.register_spark()
    yield session
    session.stop()
    patch.undo()


# What pyspark and joblibspark do with their sockets and with Python is not judged here.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore:Spark:UserWarning")
def test_spark(films, expected, spark):
    with joblib.parallel_config("spark", n_jobs=2):
        check_equal((search(films), validate(films)), expected)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore:Spark:UserWarning")
def test_a_spark_task_of_5216_films_is_under_a_megabyte(many, spark, monkeypatch):
    from joblibspark.backend import SparkDistributedBackend
    from pyspark import cloudpickle as sparks_own

    names, y, folds = many
    sizes = []
    send = SparkDistributedBackend.apply_async

    def weighed(self, func, callback=None):
        sizes.append(len(sparks_own.dumps(func)))
        return send(self, func, callback)

    monkeypatch.setattr(SparkDistributedBackend, "apply_async", weighed)
    with joblib.parallel_config("spark", n_jobs=2):
        cross_validate(DummyClassifier(), names, y, cv=folds)
    assert len(sizes) == 2
    assert 5216 * 50 < max(sizes) < 1e6
