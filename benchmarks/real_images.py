"""Networks on real films: Kermany's official test split, everything chosen on training patients.

    python benchmarks/real_images.py frozen
    python benchmarks/real_images.py finetune --size 224 --seed 0 --save probabilities
    python benchmarks/real_images.py average --save probabilities
    python benchmarks/real_images.py scratch
    python benchmarks/real_images.py three --save probabilities

Minutes to half an hour each on two cores. Thresholds are fixed before the test split is read;
intervals are of 95 % and clustered by patient. ``--save`` keeps the probabilities, so that
``average`` can average fits of several seeds and sizes.
"""

import argparse
import ast
import sys
import time
from pathlib import Path

import numpy as np
from machine import describe
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_cxr.datasets import load_kermany
from sklearn_cxr.feature_extraction import BackboneFeatures
from sklearn_cxr.metrics import bootstrap_interval, roc_auc_interval
from sklearn_cxr.model_selection import patient_train_test_split
from sklearn_cxr.neural_network import CNNClassifier, TransferClassifier
from sklearn_cxr.preprocessing import ImageReader

# Both fixed before the test split is read: the usual one, and the share of pneumonia among the
# training films, above which an unweighted model says "more likely than usual".
CUTS = (0.5, 3875 / 5216)


def percent(interval):
    return f"{interval.estimate:.4f} [{interval.low:.4f}, {interval.high:.4f}]"


def report(name, y, probability, patients):
    """Print a row: AUC, and what thresholds fixed beforehand come to."""
    print(f"{name}: AUC {percent(roc_auc_interval(y, probability, groups=patients))}")
    for cut in CUTS:
        predicted = probability > cut
        accuracy = bootstrap_interval(
            accuracy_score, y, predicted, groups=patients, random_state=0
        )
        specificity = 1 - predicted[y == 0].mean()
        print(
            f"    above {cut:.3f}: accuracy {percent(accuracy)}  sensitivity "
            f"{predicted[y == 1].mean():.4f}  specificity {specificity:.4f}",
            flush=True,
        )


def read(options, size, task="binary"):
    """Return training and test films as views of the decode store, with labels and patients."""
    sides = {}
    for subset in ("train", "test"):
        bunch = load_kermany(options.data / "chest_xray", subset=subset, task=task)
        images = ImageReader(size=size, cache_dir=options.cache).fit_transform(bunch.images)
        sides[subset] = images, np.asarray(bunch.target), np.asarray(bunch.groups)
    return sides["train"], sides["test"]


def frozen(options):
    """Fit logistic regression on frozen features, C by patient-grouped folds."""
    (X, y, patients), (X_test, y_test, patients_test) = read(options, 224)
    for precision in ("float32", "auto"):
        features = BackboneFeatures(
            "efficientnet_lite0", precision=precision, cache_dir=options.cache
        )
        start = time.perf_counter()
        pipe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=3000))
        folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
        search = GridSearchCV(
            pipe, {"logisticregression__C": np.logspace(-5, 0, 6)}, cv=folds, scoring="accuracy"
        )
        F, F_test = features.fit_transform(X), features.transform(X_test)
        extracted = time.perf_counter() - start
        search.fit(F, y, groups=patients)
        C = search.best_params_["logisticregression__C"]
        print(
            f"features in {precision}: {extracted:.0f} s for {len(F) + len(F_test)} images; "
            f"C={C:g}, patient-grouped CV accuracy {search.best_score_:.4f}"
        )
        report(f"frozen, {precision}", y_test, search.predict_proba(F_test)[:, 1], patients_test)


def transferred(options, **changed):
    """Return the estimator with its defaults, but for what the command line changes."""
    given = {"max_epochs": options.epochs, "backbone": options.backbone} | changed | options.set
    return TransferClassifier(
        **{name: value for name, value in given.items() if value is not None},
        tta="flip",
        random_state=options.seed,
        verbose=1,
    )


def finetune(options, task="binary"):
    """Train all layers on all training patients; the number of epochs is fixed beforehand."""
    (X, y, _), (X_test, y_test, patients_test) = read(options, options.size, task)
    start = time.perf_counter()
    clf = transferred(options).fit(X, y)
    took = time.perf_counter() - start
    print(clf.history_.to_string(float_format="%.4f"))
    probability = clf.predict_proba(X_test)
    name = f"{options.backbone} {options.size} px seed {options.seed} {options.tag}".rstrip()
    print(f"{name}: {clf.n_iter_} epochs in {took:.0f} s")
    if options.save:
        options.save.mkdir(parents=True, exist_ok=True)
        file = f"{task}-{options.backbone}-{options.size}-{options.seed}{options.tag}.npy"
        np.save(options.save / file, probability)
    if task == "subtype":
        report_classes(name, y_test, probability, patients_test)
    report(name, y_test > 0, 1 - probability[:, 0], patients_test)


def report_classes(name, y, probability, patients):
    predicted = probability.argmax(axis=1)
    accuracy = bootstrap_interval(accuracy_score, y, predicted, groups=patients, random_state=0)
    print(
        f"{name}: accuracy {percent(accuracy)}  balanced "
        f"{balanced_accuracy_score(y, predicted):.4f}  "
        f"AUC (one against rest) {roc_auc_score(y, probability, multi_class='ovr'):.4f}"
    )


def three(options):
    """Tell normal, bacterial and viral apart."""
    finetune(options, task="subtype")


def average(options):
    """Average the probabilities of pneumonia of several fits, on two classes or three."""
    bunch = load_kermany(options.data / "chest_xray", subset="test")
    y, patients = np.asarray(bunch.target) > 0, np.asarray(bunch.groups)
    files = sorted(options.save.glob("*.npy"))
    # Of two classes and of three the first is "normal".
    every = [1 - np.load(file)[:, 0] for file in files]
    for file, probability in zip(files, every, strict=True):
        report(file.stem, y, probability, patients)
    report(f"average of {len(files)}", y, np.mean(every, axis=0), patients)


def scratch(options):
    """Train the published 32-64-256 network at 150 px, and judge it on a fifth of the patients."""
    (X, y, patients), _ = read(options, 150)
    train, valid = patient_train_test_split(
        np.arange(len(y)), groups=patients, test_size=0.2, stratify=y, random_state=options.seed
    )
    clf = CNNClassifier(
        "conv3-dense1024",
        optimizer="rmsprop" if options.optimizer is None else options.optimizer,
        lr=options.lr,
        augment="light",
        lr_schedule="onecycle",
        max_epochs=options.epochs or 8,
        weight_averaging=0.998,
        random_state=options.seed,
        verbose=1,
    )
    start = time.perf_counter()
    clf.fit(X[train], y[train])
    print(clf.history_.to_string(float_format="%.4f"))
    print(f"{clf.n_iter_} epochs in {time.perf_counter() - start:.0f} s")
    report(
        "32-64-256, held-out patients",
        y[valid],
        clf.predict_proba(X[valid])[:, 1],
        patients[valid],
    )


PARTS = {
    "frozen": frozen,
    "finetune": finetune,
    "three": three,
    "average": average,
    "scratch": scratch,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--optimizer")
    parser.add_argument("--save", type=Path)
    parser.add_argument("--set", type=ast.literal_eval, default={}, help="further parameters")
    parser.add_argument("--tag", default="", help="added to the name of a row and a file")
    options = parser.parse_args()
    print(describe("torch", "timm", "scikit-learn"))
    print(" ".join(sys.argv[1:]))
    PARTS[options.part](options)


if __name__ == "__main__":
    main()
