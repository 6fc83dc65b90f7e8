"""PixelLogisticRegression beside scikit-learn's, in one run on the same films.

Usage: ``python benchmarks/bench_linear.py [DATA] [--parts PART ...]``, where DATA has the folder
``chest_xray``. Every measured fit runs in a process of its own, so that its peak memory is its
own; the parts are

- correct: coefficients and AUC against scikit-learn at a tight tolerance in float64,
- fit: one fit at 224 px, scikit-learn's lbfgs on a standardised float32 matrix beside it,
- sweep: 20 penalties on 3 folds by patient, scikit-learn's grid search beside it,
- whole: 112,120 generated films of 224 px with a planted signal, from a file,
- pca: 50 components of 20,000 films, scikit-learn's two ways beside it,
- pca-exact: 50 components of the training films beside scikit-learn's full decomposition,
- scale: time against the number of films and of pixels,
- gram: the n-dimensional form beside the passes, for one penalty and for 20,
- choice: the sweep with all 20 penalties on both sides, at 64 px,
- choice-224: the same at 224 px, where scikit-learn takes twenty minutes,
- correct-224: the rows of `correct` at 224 px, where scikit-learn takes half an hour and 15 GB.

What the engines of a cluster cost is in ``bench_distributed.py``.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy.linalg
import scipy.ndimage
from machine import describe
from sklearn.decomposition import PCA, IncrementalPCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_cxr.datasets import load_kermany
from sklearn_cxr.decomposition import PixelPCA
from sklearn_cxr.linear_model import PixelLogisticRegression, PixelLogisticRegressionCV
from sklearn_cxr.preprocessing import ImageReader

N_WHOLE, N_HELD_OUT, SIDE = 112_120, 2000, 224


def peak_memory():
    """Return the peak of resident memory of this process and its mapped files, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def own_memory():
    """Return resident memory that is not a mapped file, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def in_process(task, **arguments):
    """Run one of the tasks below in a fresh process and return what it reports."""
    command = [sys.executable, __file__, "--task", task, json.dumps(arguments)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(out.splitlines()[-1])


def films(root, side=SIDE, task="binary"):
    """Training films as uint8 rows of a store, labels, and the official test split."""
    parts = [load_kermany(root, subset=name, task=task) for name in ("train", "test")]
    reader = ImageReader(side, cache_dir=Path(tempfile.gettempdir()) / "bench_linear", n_jobs=2)
    return [(reader.fit_transform(part.images), part.target) for part in parts]


def objective(coef, intercept, Z, y, C):
    """Return ``||w||^2 / 2 + C * sum(log loss)`` of two classes on a standardised matrix."""
    signed = np.where(y == 1, 1, -1) * (Z @ coef.ravel() + intercept[0])
    return float((coef**2).sum() / 2 + C * np.logaddexp(0, -signed).sum())


def fit_ours(root, C, tol):
    """Task: one fit on the rows of the store."""
    (X, y), _ = films(root, SIDE)
    PixelLogisticRegression(C=C, max_iter=1).fit(
        np.asarray(X[:64]), y[-64:] * 0 + np.arange(64) % 2
    )
    before, start = peak_memory(), time.perf_counter()
    model = PixelLogisticRegression(C=C, tol=tol).fit(X, y)
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "iterations": int(model.n_iter_[0]),
        "objective": model.objective_,
        "MB": peak_memory() - before,
        "own MB": own_memory(),
    }


def fit_peer(root, C, tol):
    """Task: scikit-learn on a standardised float32 matrix; standardising is not timed."""
    (X, y), _ = films(root, SIDE)
    before = peak_memory()
    Z = np.asarray(X).reshape(len(X), -1).astype(np.float32)
    mean = Z.mean(axis=0, dtype=np.float64)
    scale = np.sqrt(
        np.maximum(np.einsum("ij,ij->j", Z, Z, dtype=np.float64) / len(Z) - mean**2, 0)
    )
    Z -= mean.astype(np.float32)
    Z /= np.where(scale > 1e-6, scale, 1).astype(np.float32)
    start = time.perf_counter()
    model = LogisticRegression(C=C, tol=tol, max_iter=2000).fit(Z, y)
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "iterations": int(model.n_iter_[0]),
        "objective": objective(model.coef_, model.intercept_, Z, y, C),
        "MB": peak_memory() - before,
        "own MB": own_memory(),
    }


def write_rows(path, n, n_features, seed=0):
    """Write smooth random films with a planted signal, by chunks.

    Returns the labels, and the coefficients of standardised pixels that tell them apart best.
    """
    rng = np.random.default_rng(seed)
    side = math.isqrt(n_features)
    # Neighbouring pixels of films go together; independent noise would make the fit too easy.
    coarse = rng.standard_normal((40, 12, 12))
    smooth = np.stack([scipy.ndimage.zoom(field, side / 12, order=1) for field in coarse])
    smooth = smooth.reshape(40, -1)[:, :n_features] * (60 / np.arange(2, 42))[:, None]
    smooth = smooth.astype(np.float32)
    signal = scipy.ndimage.zoom(rng.standard_normal((9, 9)), side / 9, order=1).ravel()
    y = rng.integers(0, 2, n)
    with open(path, "wb") as stream:
        for first in range(0, n, 2000):
            part = y[first : first + 2000]
            film = rng.standard_normal((len(part), 40), dtype=np.float32) @ smooth
            film += rng.standard_normal((len(part), n_features), dtype=np.float32) * 12 + 128
            film += ((part - 0.5)[:, None] * signal).astype(np.float32)
            stream.write(film.clip(0, 255).astype(np.uint8).tobytes())
    # Covariance within a class: smooth' smooth + 144; its inverse by Woodbury's identity.
    inner = np.linalg.solve(144 * np.eye(40) + smooth @ smooth.T, smooth @ signal)
    best = (signal - smooth.T @ inner) / 144
    return y, best * np.sqrt((smooth**2).sum(axis=0) + 144 + signal**2 / 4)


def fit_file(path, y, n, n_features, C):
    """Task: one fit on a memory map."""
    X = np.memmap(path, mode="r", dtype=np.uint8).reshape(-1, n_features)
    y = np.load(y)
    PixelLogisticRegression(max_iter=1).fit(np.asarray(X[:64]), np.arange(64) % 2)
    before, start = own_memory(), time.perf_counter()
    model = PixelLogisticRegression(C=C, verbose=0).fit(X[:n], y[:n])
    seconds = time.perf_counter() - start
    own = peak_own_memory() - before
    np.save(f"{path}.coef.npy", model.coef_image_.ravel())
    return {
        "seconds": seconds,
        "iterations": int(model.n_iter_[0]),
        "own MB": own,
        "AUC": roc_auc_score(y[n:], model.decision_function(X[n:])),
    }


def correct(root, sides=(32, 64), tasks=("binary", "subtype"), weightings=(None, "balanced")):
    """Print how far coefficients and AUC are from scikit-learn's."""
    tol = 1e-8 if max(sides) < SIDE else 1e-7
    print(f"\ncorrectness, 5,216 films, tol {tol:g} on both sides, scikit-learn in float64")
    print(f"{'side':>5}{'task':>9}{'weights':>10}{'coef, relative':>16}{'AUC, difference':>17}")
    for side in sides:
        for task in tasks:
            (X, y), (X_test, y_test) = films(root, side, task)
            X, X_test = (
                np.asarray(X).reshape(len(X), -1),
                np.asarray(X_test).reshape(len(X_test), -1),
            )
            scaler = StandardScaler().fit(X)
            Z, Z_test = scaler.transform(X), scaler.transform(X_test)
            for weights in weightings:
                params = {"C": 1e-3, "tol": tol, "class_weight": weights, "max_iter": 10_000}
                ours = PixelLogisticRegression(**params).fit(X, y)
                peer = LogisticRegression(**params).fit(Z, y)
                mine, theirs = ours.coef_image_.reshape(peer.coef_.shape), peer.coef_
                relative = np.linalg.norm(mine - theirs) / np.linalg.norm(theirs)
                scores = [ours.predict_proba(X_test), peer.predict_proba(Z_test)]
                if task == "binary":
                    scores = [score[:, 1] for score in scores]
                auc = [roc_auc_score(y_test, score, multi_class="ovr") for score in scores]
                print(
                    f"{side:5}{task:>9}{weights or 'none':>10}{relative:16.1e}"
                    f"{abs(auc[0] - auc[1]):17.1e}",
                    flush=True,
                )


def one_fit(root):
    """Print one fit at 224 px beside scikit-learn's."""
    print(f"\none fit, 5,216 films of {SIDE} px, C = 1e-3")
    print(f"{'':34}{'seconds':>9}{'iterations':>12}{'objective':>12}{'peak MB':>9}")
    rows = {
        "scikit-learn lbfgs, float32, 1e-4": in_process("fit_peer", root=root, C=1e-3, tol=1e-4)
    }
    for tol in (1e-4, 5e-5, 2e-5, 1e-5, 1e-6):
        rows[f"PixelLogisticRegression, {tol:g}"] = in_process(
            "fit_ours", root=root, C=1e-3, tol=tol
        )
    for name, row in rows.items():
        print(
            f"{name:34}{row['seconds']:9.2f}{row['iterations']:12}{row['objective']:12.6f}"
            f"{row['MB']:9.0f}"
        )
    peer, *ours = rows.values()
    first = next(row for row in ours if row["objective"] <= peer["objective"])
    print(
        f"at an objective no higher: faster {peer['seconds'] / first['seconds']:.1f} x, "
        f"memory {first['MB'] / peer['MB']:.2f} x"
    )


def on_file(n, n_features, C=1e-4):
    """Generate a file, fit on all but its last rows, and return the report and the recovery."""
    with tempfile.TemporaryDirectory() as folder:
        path, labels = os.path.join(folder, "rows.raw"), os.path.join(folder, "y.npy")
        y, best = write_rows(path, n + N_HELD_OUT, n_features)
        np.save(labels, y)
        report = in_process("fit_file", path=path, y=labels, n=n, n_features=n_features, C=C)
        coef = np.load(f"{path}.coef.npy")
    return report, float(np.corrcoef(coef, best)[0, 1])


def whole():
    """Print the fit on as many films as ChestX-ray14 has."""
    report, recovered = on_file(N_WHOLE, SIDE * SIDE)
    size = N_WHOLE * SIDE * SIDE / 1e9
    print(
        f"\nthe whole, {N_WHOLE:,} films of {SIDE} px, a file of {size:.1f} GB in the page cache"
    )
    print(
        f"{report['seconds']:.1f} s, {report['iterations']} iterations, "
        f"at most {report['own MB']:.0f} MB beyond the mapped file, AUC {report['AUC']:.4f} on "
        f"{N_HELD_OUT:,} more films, correlation with the best coefficients {recovered:.3f}"
    )


def scale():
    """Print time against size."""
    print(f"\n{'films':>8}{'pixels':>9}{'seconds':>9}{'iterations':>12}{'ms an iteration':>17}")
    sizes = [(n, SIDE * SIDE) for n in (20_000, 40_000, 80_000)]
    sizes += [(20_000, side * side) for side in (56, 112)]
    for n, n_features in sizes:
        report, _ = on_file(n, n_features)
        each = 1000 * report["seconds"] / report["iterations"]
        print(f"{n:8}{n_features:9}{report['seconds']:9.2f}{report['iterations']:12}{each:17.1f}")


def sweep_ours(root, Cs, side=SIDE):
    """Task: the penalty path by patient."""
    (X, y), _ = films(root, side)
    groups = load_kermany(root, subset="train").groups
    start = time.perf_counter()
    search = PixelLogisticRegressionCV(Cs, cv=3).fit(X, y, groups=groups)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "C": search.C_, "scores": search.scores_.mean(axis=0).tolist()}


def sweep_peer(root, Cs, side=SIDE):
    """Task: scikit-learn's grid search on the same folds, without the final refit."""
    (X, y), _ = films(root, side)
    groups = load_kermany(root, subset="train").groups
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        {"logisticregression__C": Cs},
        scoring="roc_auc",
        cv=StratifiedGroupKFold(3),
        n_jobs=2,
        refit=False,
    )
    start = time.perf_counter()
    search.fit(np.asarray(X).reshape(len(X), -1), y, groups=groups)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "scores": search.cv_results_["mean_test_score"].tolist()}


def choice(root, side):
    """Print which of the 20 penalties both choose, with all fits on both sides."""
    Cs = np.logspace(-6, 1, 20).tolist()
    ours = in_process("sweep_ours", root=root, Cs=Cs, side=side)
    peer = in_process("sweep_peer", root=root, Cs=Cs, side=side)
    print(
        f"\nsweep with all fits on both sides, 20 values of C, 3 folds, 5,216 films of {side} px"
    )
    print(f"PixelLogisticRegressionCV {ours['seconds']:.1f} s, C = {ours['C']:.3g}")
    best = Cs[int(np.argmax(peer["scores"]))]
    print(f"GridSearchCV of scikit-learn, n_jobs=2 {peer['seconds']:.1f} s, C = {best:.3g}")
    print(f"{peer['seconds'] / ours['seconds']:.1f} x; mean AUC, ours / scikit-learn's:")
    for C, mine, theirs in zip(Cs, ours["scores"], peer["scores"], strict=True):
        print(f"{C:10.2g}{mine:10.5f}{theirs:10.5f}")


def fit_form(root, side, n, solver):
    """Task: one penalty, and 20 of them as in a fold of a sweep, by one of the solvers."""
    (X, y), _ = films(root, side)
    rows = np.sort(np.random.default_rng(0).permutation(len(X))[:n])
    X, y = X[rows], y[rows]
    PixelLogisticRegression(max_iter=1, solver=solver).fit(np.asarray(X[:64]), np.arange(64) % 2)
    start = time.perf_counter()
    PixelLogisticRegression(C=1e-3, solver=solver).fit(X, y)
    one = time.perf_counter() - start
    # All rows are trained on and ten of them scored: it is the fits that are timed.
    splits = [(np.arange(n), np.r_[np.flatnonzero(y == 0)[:5], np.flatnonzero(y == 1)[:5]])]
    search = PixelLogisticRegressionCV(np.logspace(-6, 1, 20), cv=splits, solver=solver)
    start = time.perf_counter()
    for _ in search._path(*_path_arguments(search, X, y, splits)):
        pass
    return {"one": one, "path": time.perf_counter() - start}


def _path_arguments(search, X, y, splits):
    # What fit settles before it walks the path; the last fit on all rows is left out.
    search.image_shape_, search.input_kind_, search._fitted_on_levels = X.shape[1:], "uint8", False
    return X, y, *splits[0], search.Cs


def gram(root):
    """Print both forms by size."""
    print("\nthe n-dimensional form beside the passes; seconds, the faster marked")
    print(f"{'px':>5}{'films':>7}{'one: gram':>15}{'passes':>9}{'20: gram':>14}{'passes':>9}")
    sizes = [(SIDE, n) for n in (150, 300, 600, 1200, 2400, 5216)]
    for side, n in sizes + [(64, n) for n in (300, 600, 1200, 2400)]:
        found = [
            in_process("fit_form", root=root, side=side, n=n, solver=solver)
            for solver in ("gram", "passes")
        ]
        one, path = ([report[key] for report in found] for key in ("one", "path"))
        print(
            f"{side:5}{n:7}{'':4}{one[0]:11.2f}{one[1]:9.2f}{'gp'[one[0] > one[1]]:>3} "
            f"{path[0]:10.2f}{path[1]:9.2f}{'gp'[path[0] > path[1]]:>3}",
            flush=True,
        )


def sweep(root):
    """Print the sweep of 20 penalties; scikit-learn's is extrapolated from three of them."""
    Cs = np.logspace(-6, 1, 20).tolist()
    few = [Cs[2], Cs[9], Cs[16]]
    ours, peer = (
        in_process("sweep_ours", root=root, Cs=Cs),
        in_process("sweep_peer", root=root, Cs=few),
    )
    per_fit = peer["seconds"] / 9
    print(f"\nsweep, 20 values of C, 3 folds by patient, 5,216 films of {SIDE} px")
    print(f"PixelLogisticRegressionCV, last fit included: {ours['seconds']:.1f} s")
    print(f"its choice: C = {ours['C']:.2g}")
    print(
        f"GridSearchCV of scikit-learn, n_jobs=2: {peer['seconds']:.1f} s for C = "
        f"{', '.join(f'{C:.2g}' for C in few)}; {60 * per_fit:.0f} s for 60 fits, extrapolated: "
        f"{60 * per_fit / ours['seconds']:.1f} x"
    )
    mine = [ours["scores"][i] for i in (2, 9, 16)]
    pairs = ", ".join(f"{a:.5f} / {b:.5f}" for a, b in zip(mine, peer["scores"], strict=True))
    print(f"mean AUC of those three, ours / scikit-learn's: {pairs}")


def fit_pca(path, n, n_features, how, k=50):
    """Task: one PCA of a memory map."""
    X = np.memmap(path, mode="r", dtype=np.uint8, shape=(n, n_features))
    PixelPCA(2).fit(np.asarray(X[:64]))
    before, start = own_memory(), time.perf_counter()
    if how == "PixelPCA":
        pca = PixelPCA(k).fit(X)
    elif how == "IncrementalPCA":
        # By parts: `fit` would turn the whole into a float64 matrix first.
        pca = IncrementalPCA(k)
        for first in range(0, n, 1000):
            pca.partial_fit(X[first : first + 1000])
    else:
        pca = PCA(k, svd_solver="randomized", random_state=0).fit(X.astype(np.float32))
    seconds = time.perf_counter() - start
    np.save(f"{path}.{how}.npy", pca.components_)
    return {
        "seconds": seconds,
        "variance": pca.explained_variance_.tolist(),
        "own MB": peak_own_memory() - before,
    }


def peak_own_memory():
    """Return the peak of memory less the mapped files of now, in MB: an estimate from above."""
    lines = Path("/proc/self/status").read_text().splitlines()
    mapped = next(int(line.split()[1]) for line in lines if line.startswith("RssFile")) / 1024
    return peak_memory() - mapped


def pca_table():
    """Print PCA with 50 components of 20,000 films."""
    n, n_features = 20_000, SIDE * SIDE
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "rows.raw")
        write_rows(path, n, n_features)
        hows = ("PixelPCA", "randomized PCA, float32", "IncrementalPCA")
        rows = {
            how: in_process("fit_pca", path=path, n=n, n_features=n_features, how=how)
            for how in hows
        }
        axes = {how: np.load(f"{path}.{how}.npy") for how in hows}
    print(f"\nPCA, 50 components of {n:,} x {n_features:,} uint8")
    print(f"{'':26}{'seconds':>9}{'own MB':>9}{'variance, first 30':>20}{'axes, first 30':>16}")
    exact, own = np.array(rows["PixelPCA"]["variance"][:30]), axes["PixelPCA"][:30]
    for how, row in rows.items():
        worst = np.abs(np.array(row["variance"][:30]) / exact - 1).max()
        cosine = np.linalg.svd(own @ axes[how][:30].T, compute_uv=False).min()
        print(f"{how:26}{row['seconds']:9.1f}{row['own MB']:9.0f}{worst:20.1e}{1 - cosine:16.1e}")
    print("(largest relative difference to PixelPCA; 1 - cosine of the largest principal angle)")


def pca_exact(root, k=50):
    """Print how far components are from scikit-learn's full decomposition."""
    print(f"\nPCA, {k} components of 5,216 films, beside PCA(svd_solver='full') in float64")
    print(f"{'side':>5}{'variance, relative':>20}{'sine of the largest angle':>27}")
    for side in (32, 64):
        (X, _), _ = films(root, side)
        ours = PixelPCA(k).fit(X)
        peer = PCA(k, svd_solver="full").fit(np.asarray(X).reshape(len(X), -1))
        variance = np.abs(ours.explained_variance_ / peer.explained_variance_ - 1).max()
        angle = scipy.linalg.subspace_angles(ours.components_.T, peer.components_.T).max()
        print(f"{side:5}{variance:20.1e}{np.sin(angle):27.1e}", flush=True)


TASKS = {
    "fit_pca": fit_pca,
    "sweep_ours": sweep_ours,
    "sweep_peer": sweep_peer,
    "fit_ours": fit_ours,
    "fit_peer": fit_peer,
    "fit_file": fit_file,
    "fit_form": fit_form,
}


def main():
    """Run from the command line."""
    parser = argparse.ArgumentParser()
    default = os.environ.get("SKLEARN_CXR_DATA", Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("data", nargs="?", type=Path, default=default)
    parser.add_argument(
        "--parts", nargs="+", default=["correct", "fit", "sweep", "whole", "pca", "scale"]
    )
    parser.add_argument("--task", nargs=2)
    options = parser.parse_args()
    if options.task:
        name, arguments = options.task
        print(json.dumps(TASKS[name](**json.loads(arguments))))
        return
    print(describe("sklearn-cxr", "scikit-learn", "numba", "scipy", "numpy"))
    root = str(options.data / "chest_xray")
    parts = {
        "correct": lambda: correct(root),
        "fit": lambda: one_fit(root),
        "sweep": lambda: sweep(root),
        "whole": whole,
        "pca": pca_table,
        "pca-exact": lambda: pca_exact(root),
        "scale": scale,
        "gram": lambda: gram(root),
        "choice": lambda: choice(root, 64),
        "choice-224": lambda: choice(root, SIDE),
        "correct-224": lambda: correct(root, (SIDE,)),
    }
    for part in options.parts:
        parts[part]()


if __name__ == "__main__":
    main()
