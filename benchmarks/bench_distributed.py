"""What joblib's engines cost: to start, for each task, and for a pass over a dask array.

Usage: ``python benchmarks/bench_distributed.py``. Everything is on this machine, so the figures
are what an engine costs, not what a cluster saves.
"""

import os
import pickle
import shutil
import sys
import tempfile
import time
from pathlib import Path

import dask.array as da
import joblib
import numpy as np
from bench_linear import write_rows
from dask import delayed
from distributed import Client, LocalCluster
from joblib._parallel_backends import LokyBackend
from machine import describe
from PIL import Image
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline

from sklearn_cxr.datasets import make_chest_xrays
from sklearn_cxr.linear_model import PixelLogisticRegression
from sklearn_cxr.preprocessing import ImageReader

N, SIDE = 400, 64
CS = [1e-4, 1e-3, 1e-2, 1e-1]


class Weighing(LokyBackend):
    """loky, which notes how many bytes every task has."""

    sizes = []

    def submit(self, func, callback=None):
        """Note the size and hand the task on."""
        self.sizes.append(len(pickle.dumps(func)))
        return super().submit(func, callback)

    def apply_async(self, func, callback=None):
        """Do the same before joblib 1.5."""
        self.sizes.append(len(pickle.dumps(func)))
        return super().apply_async(func, callback)


def write_films(folder):
    """Write phantoms as PNG; return paths, labels and patients."""
    films = make_chest_xrays(N, image_size=SIDE, random_state=0)
    paths = []
    for i, film in enumerate(films.images):
        paths.append(str(folder / f"{i:05d}.png"))
        Image.fromarray(film).save(paths[-1])
    return np.array(paths, dtype=object), films.target > 0, films.groups


def sweep(paths, y, groups, **config):
    """Return the seconds of a grid search of 12 fits, without the last one, and its scores."""
    reader = ImageReader(SIDE, cache_dir=Path(paths[0]).parent / "store")
    search = GridSearchCV(
        make_pipeline(reader, PixelLogisticRegression()),
        {"pixellogisticregression__C": CS},
        cv=StratifiedGroupKFold(3),
        scoring="roc_auc",
        refit=False,
        n_jobs=2,
    )
    start = time.perf_counter()
    with joblib.parallel_config(**config):
        search.fit(paths, y, groups=groups)
    return time.perf_counter() - start, search.cv_results_["mean_test_score"]


def report(engine, started, films, **config):
    """Print the first and the second sweep on an engine."""
    (first, scores), (second, _) = (sweep(*films, **config) for _ in range(2))
    print(f"{engine:12}{started:9.1f}{first:13.1f}{second:14.1f}{scores.max():10.6f}", flush=True)


def engines(films):
    """Print what each engine takes for the same sweep."""
    print(f"\nGridSearchCV from paths, 12 fits on {N} films of {SIDE} px, seconds")
    print(f"{'engine':12}{'to start':>9}{'first sweep':>13}{'second sweep':>14}{'best AUC':>10}")
    report("one process", 0.0, films, backend="sequential")
    joblib.register_parallel_backend("weighing", Weighing)
    report("loky", 0.0, films, backend="weighing", inner_max_num_threads=1)
    start = time.perf_counter()
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        with Client(cluster):
            report("dask", time.perf_counter() - start, films, backend="dask")
            pass_over_dask()
    if not shutil.which("java"):
        print("spark: there is no Java here")
        return
    from joblibspark import register_spark
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    start = time.perf_counter()
    session = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    session = session.getOrCreate()
    register_spark()
    report("spark", time.perf_counter() - start, films, backend="spark")
    session.stop()
    print(f"bytes of a task, {N} paths: {max(Weighing.sizes):,}")


def pass_over_dask(n=10_000, side=112):
    """Print one fit of a dask array that lies on two workers, and of the same file by itself."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "rows.raw")
        y, _ = write_rows(path, n, side * side)
        X = np.memmap(path, mode="r", dtype=np.uint8, shape=(n, side * side))
        spread = da.concatenate([_quarter(path, n, side, i) for i in range(4)]).persist()
        for name, rows in (("dask array", spread), ("memory map", X)):
            model = PixelLogisticRegression(C=1e-4, max_iter=2, tol=1e3).fit(rows, y)
            start = time.perf_counter()
            model = PixelLogisticRegression(C=1e-4).fit(rows, y)
            seconds = time.perf_counter() - start
            each = 1000 * seconds / model.n_iter_[0]
            print(
                f"  one fit of {n:,} films of {side} px, {name}: {seconds:.2f} s, "
                f"{model.n_iter_[0]} iterations, {each:.1f} ms each"
            )


def _quarter(path, n, side, number):
    # Read by the worker: what is shipped is the name of the file.
    def read():
        films = np.memmap(path, mode="r", dtype=np.uint8, shape=(n, side * side))
        return np.array(films[number * (n // 4) : (number + 1) * (n // 4)])

    return da.from_delayed(delayed(read)(), shape=(n // 4, side * side), dtype=np.uint8)


def main():
    """Run from the command line."""
    packages = ("sklearn-cxr", "scikit-learn", "joblib", "distributed", "pyspark", "joblibspark")
    print(describe(*packages))
    with tempfile.TemporaryDirectory() as folder:
        engines(write_films(Path(folder)))


if __name__ == "__main__":
    main()
