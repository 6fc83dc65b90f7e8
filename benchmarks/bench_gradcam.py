"""Grad-CAM of many films beside the plain forward and backward pass of the same network.

Usage: ``python benchmarks/bench_gradcam.py [--images 100] [--size 224] [--backbone densenet121]
[--repeat 3]``. The plain pass is what one writes first: float32, batches of 32, the gradient of
the predicted class's logit with respect to the pixels. Weights are random, since speed does not
depend on them. Each figure is the median of the repeats, which take turns, so that a busy moment
of the machine hits both alike. Maps are counted with all that goes with them: finding the layer,
copying the network and carrying the maps to the films' pixels.
"""

import argparse
import copy
import statistics
import time

import numpy as np
import torch
from machine import describe

from sklearn_cxr.inspection import class_activation_map
from sklearn_cxr.neural_network import TransferClassifier

BATCH = 32


def plain_pass(network, images):
    """Compute logits and the gradients of the pixels as one writes it first."""
    for start in range(0, len(images), BATCH):
        batch = torch.from_numpy(images[start : start + BATCH]).float().div(255)[:, None]
        batch = batch.expand(-1, 3, -1, -1).contiguous().requires_grad_(True)
        network(batch).abs().sum().backward()


def main():
    """Run from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--backbone", default="densenet121")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    print(describe("sklearn-cxr", "torch", "torchvision", "captum", "numpy"))
    print(f"threads of torch: {torch.get_num_threads()}")
    shape = (options.images, options.size, options.size)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    model = TransferClassifier(
        options.backbone,
        weights=None,
        fine_tune="head",
        augment=None,
        max_epochs=1,
        batch_size=BATCH,
        device="cpu",
        random_state=0,
    ).fit(images[:2], [0, 1])
    network = copy.deepcopy(model.net_.module_.body).eval().requires_grad_(True)
    network = network.to(memory_format=torch.contiguous_format)
    tasks = {
        "plain forward and backward": lambda: plain_pass(network, images),
        **{
            method: lambda method=method: class_activation_map(model, images, method=method)
            for method in ("gradcam", "gradcam++", "cam", "saliency")
        },
    }
    seconds = {name: [] for name in tasks}
    plain_pass(network, images[:BATCH])
    for _ in range(options.repeat):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            seconds[name].append(time.perf_counter() - start)
    base = statistics.median(seconds["plain forward and backward"])
    print(f"\n{options.backbone}, {options.images} films of {options.size} px")
    print(f"{'':30}{'s':>9}{'x plain':>9}{'max/min':>9}")
    for name, taken in seconds.items():
        median = statistics.median(taken)
        print(f"{name:30}{median:9.2f}{median / base:9.2f}{max(taken) / min(taken):9.2f}")


if __name__ == "__main__":
    main()
