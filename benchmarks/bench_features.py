"""BackboneFeatures beside a plain PyTorch loop, its cache beside itself, and what it costs in AUC.

Usage: ``python benchmarks/bench_features.py [DATA] [--images 1000] [--size 224] [--repeat 3]``,
where DATA has the folder ``chest_xray`` (224 x 224 JPEG). The plain loop is what one writes first:
the backbone in float32, batches of 32 from a ``DataLoader``, images in the usual order of
channels, no gradients. Weights of DenseNet-121 are random, since speed does not depend on them.
Each figure is the median of the repeats, which take turns, so that a busy moment of the machine
hits all rows alike.
"""

import argparse
import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from machine import describe
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, Dataset

from sklearn_cxr.datasets import load_kermany
from sklearn_cxr.feature_extraction import BackboneFeatures
from sklearn_cxr.preprocessing import ImageReader

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH = 32


class Films(Dataset):
    """uint8 films as the float tensors of three channels that a network takes."""

    def __init__(self, images):
        self.images = images
        self.mean, self.std = (torch.tensor(v).reshape(3, 1, 1) for v in (MEAN, STD))

    def __len__(self):
        """Count the films."""
        return len(self.images)

    def __getitem__(self, i):
        """Convert one film."""
        film = torch.from_numpy(self.images[i]).float().div(255).expand(3, -1, -1)
        return (film - self.mean) / self.std


def plain_loop(network, images):
    """Extract features as one writes it first."""
    with torch.no_grad():
        return torch.cat([network(batch) for batch in DataLoader(Films(images), BATCH)]).numpy()


def taking_turns(tasks, repeat):
    """Median seconds of each task, and how far the repeats lie apart."""
    seconds = {name: [] for name in tasks}
    for _ in range(repeat):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            seconds[name].append(time.perf_counter() - start)
    return {name: (statistics.median(v), max(v) / min(v)) for name, v in seconds.items()}


def compare_loops(images, repeat):
    """Print the table of extraction without a cache; return the fastest row's seconds."""
    features = {
        f"BackboneFeatures, {precision}": BackboneFeatures(
            "densenet121", weights=None, precision=precision, random_state=0, batch_size=BATCH
        ).fit(images[:1])
        for precision in ("float32", "bfloat16")
    }
    network = features["BackboneFeatures, float32"].backbone_
    calls = {"plain loop: float32, NCHW, DataLoader": partial(plain_loop, network)}
    calls |= {name: fitted.transform for name, fitted in features.items()}
    for call in calls.values():
        # The first batches of a network choose its kernels.
        call(images[: 2 * BATCH])
    result = taking_turns({name: partial(call, images) for name, call in calls.items()}, repeat)
    base = next(iter(result.values()))[0]
    print(f"\nDenseNet-121, {len(images)} images of {images.shape[1]} px, no cache")
    print(f"{'':42}{'img/s':>9}{'x plain':>9}{'max/min':>9}")
    for name, (seconds, spread) in result.items():
        print(f"{name:42}{len(images) / seconds:9.1f}{base / seconds:9.2f}{spread:9.2f}")


def compare_passes(images, repeat):
    """Print what a second pass over cached features takes."""
    ratios, rows = [], []
    for _ in range(repeat):
        with tempfile.TemporaryDirectory() as folder:
            features = BackboneFeatures(
                "densenet121", weights=None, random_state=0, cache_dir=folder, batch_size=BATCH
            ).fit(images[:1])
            seconds, found = [], []
            for _ in range(2):
                start = time.perf_counter()
                found.append(features.transform(images))
                seconds.append(time.perf_counter() - start)
            np.testing.assert_array_equal(*found)
            # What a new process pays: the weights are built and hashed first.
            start = time.perf_counter()
            features.fit(images[:1])
            rows.append([*seconds, time.perf_counter() - start])
            ratios.append(seconds[0] / seconds[1])
    first, second, fit = (statistics.median(column) for column in zip(*rows, strict=True))
    print(
        f"\ncache: first pass {first:.3f} s, second {second:.4f} s: "
        f"{statistics.median(ratios):.0f} x; fit {fit:.3f} s"
    )


def compare_single(images, repeat):
    """Print one image through transform beside the same network called directly."""
    features = BackboneFeatures("densenet121", weights=None, random_state=0).fit(images[:1])
    features.transform(images[:1])
    ((_, network),) = features._network._copies.items()
    dtype = next(network.parameters()).dtype
    film = torch.rand(1, 3, *images.shape[1:]).to(dtype)
    film = film.contiguous(memory_format=torch.channels_last)

    def direct():
        with torch.inference_mode():
            for _ in range(20):
                network(film)

    def ours():
        for _ in range(20):
            features.transform(images[:1])

    direct()
    result = taking_turns({"direct": direct, "ours": ours}, repeat)
    ours_ms, direct_ms = result["ours"][0] * 50, result["direct"][0] * 50
    print(
        f"\none image: transform {ours_ms:.1f} ms, the network alone in {dtype} "
        f"{direct_ms:.1f} ms: {ours_ms / direct_ms:.2f} x"
    )


def compare_auc(data, n_images):
    """Print the AUC on the official test split by precision, with real weights."""
    train = load_kermany(data / "chest_xray", subset="train")
    test = load_kermany(data / "chest_xray", subset="test")
    reader = ImageReader(224)
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(train.target))[:n_images]
    X, y = reader.fit_transform(train.images[chosen]), np.asarray(train.target)[chosen]
    X_test, y_test = reader.transform(test.images), np.asarray(test.target)
    found = {}
    for precision in ("float32", "bfloat16"):
        features = BackboneFeatures("efficientnet_lite0", precision=precision)
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
        model.fit(features.fit_transform(X), y)
        scores = model.decision_function(features.transform(X_test))
        found[precision] = roc_auc_score(y_test == model.classes_[1], scores)
    print(
        f"\nEfficientNet-Lite0, {len(X)} training films, AUC on {len(y_test)} of the test split: "
        + ", ".join(f"{name} {auc:.4f}" for name, auc in found.items())
        + f"; difference {abs(found['float32'] - found['bfloat16']):.4f}"
    )


def main():
    """Run from the command line."""
    parser = argparse.ArgumentParser()
    default = os.environ.get("SKLEARN_CXR_DATA", Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("data", nargs="?", type=Path, default=default)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    print(describe("sklearn-cxr", "torch", "torchvision", "numpy"))
    print(f"threads of torch: {torch.get_num_threads()}")
    shape = (options.images, options.size, options.size)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    compare_loops(images, options.repeat)
    compare_passes(images, options.repeat)
    compare_single(images, options.repeat)
    if (options.data / "chest_xray").is_dir():
        compare_auc(options.data, options.images)
    else:
        print(f"\nno chest_xray in {options.data}: the comparison of AUC is left out")


if __name__ == "__main__":
    main()
