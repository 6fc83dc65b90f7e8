"""Networks: epochs against plain skorch and a bare loop, one prediction, a sweep of heads.

    python benchmarks/bench_cnn.py                       # all parts on the CPU
    python benchmarks/bench_cnn.py --parts epochs --device cuda --images 4096 --batch-size 64

Weights are random, since speed does not depend on them. What is compared runs in turn, several
times, in one process; medians are printed.
"""

import argparse
import tempfile
import time
from pathlib import Path

import joblib
import numpy as np
import torch
import torchvision
from machine import describe
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from skorch import NeuralNet
from torch import nn

from sklearn_cxr.feature_extraction import BackboneFeatures
from sklearn_cxr.neural_network import CNNClassifier, DenseHeadClassifier, TransferClassifier
from sklearn_cxr.neural_network._depthwise import training_precision
from sklearn_cxr.neural_network._device import resolve_device, resolve_precision
from sklearn_cxr.preprocessing import HistogramEqualizer


def films(n, size, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    X = (
        rng.integers(0, 200, size=(n, size, size), dtype=np.uint8)
        + (20 * y).astype(np.uint8)[:, None, None]
    )
    return X, y


def synchronise(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Body(nn.Module):
    """The trained part of a fitted estimator, as a module that takes normalised images."""

    def __init__(self, clf):
        super().__init__()
        self.body = clf.net_.module_.body

    def forward(self, images):
        """Return logits."""
        return self.body(images)


def plain_skorch(clf, X, y, epochs, batch_size, device):
    """Train with skorch as its users do: float32 arrays, three channels, a DataLoader."""
    channels = len(clf.mean_)
    mean, std = np.float32(clf.mean_), np.float32(clf.std_)
    images = (X[:, None].astype(np.float32) / 255 - mean[:, None, None]) / std[:, None, None]
    assert images.shape[1] == channels
    net = NeuralNet(
        Body(clf).to(memory_format=torch.contiguous_format),
        nn.BCEWithLogitsLoss,
        optimizer=torch.optim.AdamW,
        max_epochs=epochs,
        batch_size=batch_size,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        device=str(device),
    ).initialize()
    start = time.perf_counter()
    net.partial_fit(images, y.astype(np.float32)[:, None])
    synchronise(device)
    return time.perf_counter() - start


def bare_loop(clf, X, y, epochs, batch_size, device, dtype):
    """Train as fast as can be: everything resident, same precision and layout, nothing else."""
    images, labels = torch.from_numpy(X).to(device), torch.from_numpy(y).float().to(device)
    start = time.perf_counter()
    # Ours builds a network in each fit: 85 million random numbers for the one of 32-64-256.
    module = clf._initial().to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(module.parameters(), fused=True)
    for _ in range(epochs):
        order = torch.randperm(len(X), device=device)
        for rows in order.split(batch_size):
            optimizer.zero_grad(set_to_none=True)
            prepared = module.prepare(images[rows]).contiguous(memory_format=torch.channels_last)
            with training_precision(device, dtype):
                logits = module.body(prepared)
            loss = nn.functional.binary_cross_entropy_with_logits(
                logits.float()[:, 0], labels[rows]
            )
            loss.backward()
            optimizer.step()
    synchronise(device)
    return time.perf_counter() - start


def estimators(options):
    common = {
        "max_epochs": options.epochs,
        "batch_size": options.batch_size,
        "device": options.device,
        "random_state": 0,
    }
    transfer = {"weights": None, "augment": None, "dropout": 0.0, "lr_schedule": None}
    transfer |= {"weight_averaging": None, **common}
    yield "DenseNet-121, 224 px", TransferClassifier("densenet121", **transfer), 224
    if resolve_device(options.device).type == "cuda":
        yield "ResNet-50, 224 px", TransferClassifier("resnet50", **transfer), 224
        return
    yield "EfficientNet-Lite0, 224 px", TransferClassifier("efficientnet_lite0", **transfer), 224
    yield "32-64-256 network, 150 px", CNNClassifier("conv3-dense1024", **common), 150


def epochs(options):
    """Training: images a second."""
    device = resolve_device(options.device)
    dtype = resolve_precision("auto", device)
    print(f"\ntraining, {options.images} images, batches of {options.batch_size}, {device}")
    print(f"{'network':28}{'plain skorch':>14}{'ours':>9}{'bare loop':>11}   ratios")
    for name, clf, size in estimators(options):
        X, y = films(options.images, size)
        clf.fit(X[: options.batch_size], y[: options.batch_size])
        times = {"plain": [], "ours": [], "bare": []}
        for _ in range(options.repeat):
            start = time.perf_counter()
            clf.fit(X, y)
            synchronise(device)
            times["ours"].append(time.perf_counter() - start)
            times["bare"].append(
                bare_loop(clf, X, y, options.epochs, options.batch_size, device, dtype)
            )
        for _ in range(max(1, options.repeat - 1)):
            times["plain"].append(
                plain_skorch(clf, X, y, options.epochs, options.batch_size, device)
            )
        n = options.images * options.epochs
        plain, ours, bare = (n / np.median(times[key]) for key in ("plain", "ours", "bare"))
        print(
            f"{name:28}{plain:>10.1f}/s{ours:>8.1f}/s{bare:>8.1f}/s   {ours / plain:.2f}x plain "
            f"skorch, {ours / bare:.3f} of the bare loop",
            flush=True,
        )
        if device.type == "cuda":
            print(f"{'':28}peak memory {torch.cuda.max_memory_allocated(device) / 2**30:.2f} GiB")
            torch.cuda.reset_peak_memory_stats(device)


def one(options):
    """One image through a loaded DenseNet-121 pipeline, against torchvision's module alone."""
    X, y = films(8, 224)
    clf = TransferClassifier(
        "densenet121",
        weights=None,
        fine_tune="head",
        augment=None,
        max_epochs=1,
        batch_size=8,
        device=options.device,
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.joblib")
        joblib.dump(make_pipeline(HistogramEqualizer(), clf).fit(X, y), file)
        pipe = joblib.load(file)
    device = resolve_device(options.device)
    dtype = resolve_precision("auto", device)
    module = torchvision.models.densenet121(weights=None, num_classes=1).eval()
    module = module.to(device, dtype, memory_format=torch.channels_last)
    image = (
        torch.rand(1, 3, 224, 224).to(device, dtype).contiguous(memory_format=torch.channels_last)
    )
    raw, ours = [], []
    for _ in range(60):
        start = time.perf_counter()
        with torch.inference_mode():
            module(image)
        synchronise(device)
        raw.append(time.perf_counter() - start)
        start = time.perf_counter()
        pipe.predict_proba(X[:1])
        ours.append(time.perf_counter() - start)
    raw, ours = np.median(raw[10:]) * 1e3, np.median(ours[10:]) * 1e3
    print(
        f"\none image, DenseNet-121 in {dtype}: its module alone {raw:.1f} ms, predict_proba of "
        f"a loaded pipeline with equalisation {ours:.1f} ms, {ours / raw:.2f}x"
    )


def sweep(options):
    """Search 33 heads by patient-grouped folds: features kept, or the backbone each time."""
    X, y = films(options.images, 224)
    patients = np.repeat(np.arange(len(X) // 2 + 1), 2)[: len(X)]
    hidden = [(1024, 512), (1024, 512, 256, 128, 64), (1024, 512, 512, 256, 256, 128, 128, 64)]
    grid = {
        "denseheadclassifier__hidden": hidden,
        "denseheadclassifier__lr": np.logspace(-4, -2, 11),
    }
    head = DenseHeadClassifier(max_epochs=5, random_state=0, device=options.device)

    def search(grid, cache):
        features = BackboneFeatures(
            "densenet121", weights=None, random_state=0, cache_dir=cache, device=options.device
        )
        start = time.perf_counter()
        GridSearchCV(
            make_pipeline(features, head), grid, cv=StratifiedGroupKFold(3), refit=False
        ).fit(X, y, groups=patients)
        return time.perf_counter() - start

    with tempfile.TemporaryDirectory() as folder:
        ours = search(grid, folder)
    two = grid | {"denseheadclassifier__lr": [1e-3], "denseheadclassifier__hidden": hidden[:2]}
    peer = search(two, None) / 2 * 33
    print(
        f"\nsweep of 33 heads, {len(X)} images: {ours:.1f} s with the cache, {peer:.1f} s with "
        f"the backbone in each fit (extrapolated from 2 settings): 1/{peer / ours:.1f}"
    )


PARTS = {"epochs": epochs, "one": one, "sweep": sweep}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=192)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    print(describe("torch", "torchvision", "skorch", "scikit-learn"))
    if options.device == "cuda":
        print(torch.cuda.get_device_name())
    for part in options.parts:
        PARTS[part](options)


if __name__ == "__main__":
    main()
