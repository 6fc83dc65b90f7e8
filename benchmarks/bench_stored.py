"""Passes over the same films in several kinds of files.

Usage: ``python benchmarks/bench_stored.py [DATA]``, where DATA has the folder ``chest_xray``. A
fit that reads its rows where they lie pays for how they lie in every pass.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import zarr
from machine import describe

from sklearn_cxr.datasets import load_kermany
from sklearn_cxr.decomposition import PixelPCA
from sklearn_cxr.linear_model import PixelLogisticRegression
from sklearn_cxr.preprocessing import ImageReader

N, SIDE, REPEATS = 1500, 224, 3


def kinds(rows, folder):
    """Yield a name, the rows in a kind of file, and its bytes on disk."""
    films = np.asarray(rows)
    yield "decode store", rows, None
    np.save(folder / "films.npy", films)
    yield ".npy, mapped", np.load(folder / "films.npy", mmap_mode="r"), folder / "films.npy"
    whole = (64, SIDE, SIDE)
    for name, options in (
        ("HDF5, contiguous", {}),
        ("HDF5, chunks of 64 films", {"chunks": whole}),
        (
            "HDF5, the same, gzip 1",
            {"chunks": whole, "compression": "gzip", "compression_opts": 1},
        ),
    ):
        path = folder / f"{len(options)}.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("films", data=films, **options)
        with h5py.File(path) as file:
            yield name, file["films"], path
    for name, chunks in (
        ("zarr, chunks of 256 films", (256, SIDE, SIDE)),
        ("zarr, tiles of 188 x 56 x 56", (188, 56, 56)),
        ("zarr, chunks of one film", (1, SIDE, SIDE)),
    ):
        path = folder / f"{chunks[0]}.zarr"
        stored = zarr.open(str(path), mode="w", shape=films.shape, chunks=chunks, dtype="u1")
        stored[:] = films
        yield name, stored, path


def size(path):
    """Bytes of a file or of a folder's files."""
    parts = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(part.stat().st_size for part in parts)


def seconds(job, repeats):
    """Median time of a job."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        job()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main():
    """Run from the command line."""
    parser = argparse.ArgumentParser()
    default = os.environ.get("SKLEARN_CXR_DATA", Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("data", nargs="?", type=Path, default=default)
    films = load_kermany(parser.parse_args().data / "chest_xray", subset="train")
    chosen = np.random.default_rng(0).permutation(len(films.target))[:N]
    y = films.target[chosen]
    print(describe("sklearn-cxr", "scikit-learn", "numba", "numpy", "h5py", "zarr"))
    print(f"\n{N:,} films of {SIDE} px, median of {REPEATS}, seconds; MB on disk")
    print(f"{'':30}{'MB':>6}{'PixelPCA(10)':>14}{'transform':>11}{'a fit':>8}{'iterations':>12}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        reader = ImageReader(SIDE, cache_dir=folder / "store", n_jobs=2)
        rows = reader.fit_transform(films.images[chosen])
        pca = PixelPCA(10).fit(rows)
        model = PixelLogisticRegression(C=1e-4, solver="passes").fit(rows, y)
        for kind, X, path in kinds(rows, folder):
            found = [
                seconds(job, REPEATS)
                for job in (
                    lambda X=X: PixelPCA(10).fit(X),
                    lambda X=X: pca.transform(X),
                    lambda X=X: model.fit(X, y),
                )
            ]
            disk = f"{size(path) / 1e6:.0f}" if path else ""
            print(
                f"{kind:30}{disk:>6}{found[0]:14.2f}{found[1]:11.2f}{found[2]:8.2f}"
                f"{model.n_iter_[0]:12}",
                flush=True,
            )


if __name__ == "__main__":
    main()
