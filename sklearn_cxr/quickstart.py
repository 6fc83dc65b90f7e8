"""The main job from end to end: ``python -m sklearn_cxr.quickstart [--data FOLDER]``.

Films are read from files, split by patient, classified by a pipeline that a small grid search
tunes under patient-grouped folds, judged on patients it has never seen, saved, and loaded by
another process. Without ``--data`` the films are phantoms that are made on the spot.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from PIL import Image
from sklearn.base import clone
from sklearn.metrics import RocCurveDisplay, accuracy_score, recall_score, roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import Pipeline
from tqdm.auto import tqdm

from sklearn_cxr.datasets import load_kermany, make_chest_xrays
from sklearn_cxr.linear_model import PixelLogisticRegression
from sklearn_cxr.model_selection import check_patient_leakage, patient_train_test_split
from sklearn_cxr.preprocessing import HistogramEqualizer, ImageReader
from sklearn_cxr.utils._atomic import replacing
from sklearn_cxr.utils._optional import import_optional

THRESHOLD = 0.5
GRID = {
    "equalize": ["passthrough", HistogramEqualizer()],
    "classify__C": [1e-4, 1e-3, 1e-2],
}

# What another application does with the saved file: it needs nothing but the file.
APPLICATION = """
import sys
import joblib
model = joblib.load(sys.argv[1])
probability = model.predict_proba([sys.argv[2]])[0, 1]
print(f"P(pneumonia) = {probability:.3f}")
"""


def write_phantoms(folder, *, n_samples=400, random_state=0):
    """Write phantom films as PNG files, as if somebody had exported them from an archive.

    Parameters
    ----------
    folder : Path
        Where the files go; made where it does not exist.

    n_samples : int, default=400
        Number of films.

    random_state : int, default=0
        Seed of the phantoms.

    Returns
    -------
    paths, y, groups : ndarray of shape (n_samples,)
        File names, 1 for pneumonia and 0 for normal, and patients.
    """
    phantoms = make_chest_xrays(n_samples, random_state=random_state)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i, film in enumerate(tqdm(phantoms.images, desc="Writing phantom films", unit="img")):
        paths.append(str(folder / f"film{i:04d}.png"))
        with replacing(paths[-1]) as temporary:
            Image.fromarray(film).save(temporary)
    normal = list(phantoms.target_names).index("normal")
    y = (np.asarray(phantoms.target) != normal).astype(int)
    return np.array(paths, dtype=object), y, np.asarray(phantoms.groups)


def make_search(*, cache_dir, n_jobs):
    """Grid search over a pipeline from paths to classes, by patient.

    Parameters
    ----------
    cache_dir : path-like
        Folder of the decode store that folds and processes share.

    n_jobs : int
        Number of processes.

    Returns
    -------
    GridSearchCV
        Not fitted.
    """
    pipeline = Pipeline(
        [
            ("read", ImageReader(size=32, cache_dir=cache_dir)),
            ("equalize", HistogramEqualizer()),
            ("classify", PixelLogisticRegression()),
        ]
    )
    cv = StratifiedGroupKFold(n_splits=3)
    return GridSearchCV(pipeline, GRID, cv=cv, scoring="roc_auc", n_jobs=n_jobs, verbose=2)


def load_films(data, output):
    """Films with labels and patients, and the official test split where there is one.

    Parameters
    ----------
    data : path-like or None
        Folder in the layout of Kermany et al., or None for phantoms.

    output : Path
        Where phantoms are written.

    Returns
    -------
    labelled, official : tuple of (paths, y, groups), or None
        What a model may learn from, and what it is judged on at the very end.
    """
    if data is None:
        return write_phantoms(output / "phantoms"), None
    parts = [load_kermany(data, subset=subset) for subset in ("train", "test")]
    return tuple((part.images, part.target, part.groups) for part in parts)


def probabilities(model, paths, y, groups):
    """Labels, predicted probabilities of pneumonia, and patients.

    Parameters
    ----------
    model : estimator
        Fitted classifier of paths.

    paths, y, groups : ndarray of shape (n,)
        Films, 0/1 labels and patients.

    Returns
    -------
    DataFrame with columns "y", "probability" and "patient"
        One row a film.
    """
    probability = model.predict_proba(paths)[:, 1]
    return pd.DataFrame({"y": y, "probability": probability, "patient": groups})


def judge(result):
    """Figures of one set of films.

    Parameters
    ----------
    result : DataFrame
        As `probabilities` returns it.

    Returns
    -------
    dict
        Counts, AUC, and accuracy, sensitivity and specificity at a threshold of 0.5.
    """
    y, predicted = result["y"], result["probability"] >= THRESHOLD
    return {
        "images": len(result),
        "patients": result["patient"].nunique(),
        "pneumonia": f"{y.mean():.0%}",
        "AUC": roc_auc_score(y, result["probability"]),
        "accuracy": accuracy_score(y, predicted),
        "sensitivity": recall_score(y, predicted),
        "specificity": recall_score(y, predicted, pos_label=0),
    }


def plot_roc(results, file):
    """Draw the ROC curves of several sets of films.

    Parameters
    ----------
    results : dict of str to DataFrame
        Name of the set to what `probabilities` returned for it.

    file : Path
        Where the picture goes.
    """
    matplotlib = import_optional("matplotlib.figure", extra="plot", caller="The quickstart")
    figure = matplotlib.Figure(figsize=(5.5, 5), layout="constrained")
    ax = figure.add_subplot()
    for number, (name, result) in enumerate(results.items()):
        RocCurveDisplay.from_predictions(
            result["y"],
            result["probability"],
            name=name,
            ax=ax,
            plot_chance_level=number == len(results) - 1,
        )
    ax.set(xlabel="1 - specificity", ylabel="Sensitivity", title="Pneumonia, patients never seen")
    with replacing(file) as temporary:
        figure.savefig(temporary, dpi=110)


def classify_elsewhere(model_file, film):
    """Load the saved model in a new process, in another folder, and classify one file.

    Parameters
    ----------
    model_file, film : path-like
        The saved model and an image file.

    Returns
    -------
    str
        What that process printed.
    """
    with tempfile.TemporaryDirectory() as elsewhere:
        command = [sys.executable, "-c", APPLICATION]
        command += [str(Path(model_file).resolve()), str(Path(film).resolve())]
        done = subprocess.run(command, cwd=elsewhere, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def run(*, data=None, output="quickstart_output", n_jobs=2):
    """Do the main job.

    Parameters
    ----------
    data : path-like or None, default=None
        Folder in the layout of Kermany et al. (``train/NORMAL``, ``train/PNEUMONIA`` and the
        same below ``test``); None makes phantoms.

    output : path-like, default="quickstart_output"
        Folder of the results, made where it does not exist.

    n_jobs : int, default=2
        Number of processes of the grid search.

    Returns
    -------
    DataFrame
        The table that is printed, one row for each set of patients.
    """
    start = time.perf_counter()
    # Better missed now than after the search.
    import_optional("matplotlib", extra="plot", caller="The quickstart")
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    labelled, official = load_films(data, output)
    paths, y, groups = labelled
    print(f"{len(paths)} films of {len(np.unique(groups))} patients")
    parts = patient_train_test_split(
        *labelled, groups=groups, stratify=y, test_size=0.2, random_state=0
    )
    train, held_out = parts[::2], parts[1::2]

    # Decoding first, in threads: the folds then read from the store.
    reader = ImageReader(size=32, cache_dir=output / "store", n_jobs=n_jobs, verbose=1)
    reader.fit(paths)
    search = make_search(cache_dir=output / "store", n_jobs=n_jobs)
    check_patient_leakage(train[2], search.cv.split(*train))
    print("The first fit of a fresh installation compiles for some seconds.")
    search.fit(train[0], train[1], groups=train[2])
    print(f"\nBest of the grid: {search.best_params_}")
    print(f"AUC in patient-grouped cross-validation: {search.best_score_:.3f}")

    model = search.best_estimator_
    results = {"held-out patients": probabilities(model, *held_out)}
    if official is not None:
        # The held-out patients have done their work: the last model learns from them too.
        model = clone(model).fit(paths, y)
        results["official test split"] = probabilities(model, *official)
    table = pd.DataFrame({name: judge(result) for name, result in results.items()}).T
    print(f"\n{table.to_string(float_format='{:.3f}'.format)}")
    print(f"(accuracy, sensitivity and specificity at a threshold of {THRESHOLD})\n")

    plot_roc(results, output / "roc.png")
    # An application has a few files at a time and no need of the store.
    with replacing(output / "model.joblib") as temporary:
        joblib.dump(model.set_params(read__cache_dir=None), temporary)
    film = held_out[0][int(np.argmax(held_out[1]))]
    print(f"ROC curves: {output / 'roc.png'}")
    print(f"Model:      {output / 'model.joblib'}")
    print(f"Another process loads it and classifies {Path(film).name}:")
    print(f"            {classify_elsewhere(output / 'model.joblib', film)}")
    print(f"\nDone in {time.perf_counter() - start:.0f} s.")
    return table


def main(arguments=None):
    """Run from the command line.

    Parameters
    ----------
    arguments : list of str or None, default=None
        Command line; None takes that of the process.
    """
    parser = argparse.ArgumentParser(
        prog="python -m sklearn_cxr.quickstart", description=__doc__.partition("\n\n")[2]
    )
    parser.add_argument("--data", help="folder with train/ and test/ as in Kermany et al.")
    parser.add_argument("--output", default="quickstart_output", help="folder of the results")
    parser.add_argument("--n-jobs", type=int, default=2, help="processes of the grid search")
    options = parser.parse_args(arguments)
    run(data=options.data, output=options.output, n_jobs=options.n_jobs)


if __name__ == "__main__":
    main()
