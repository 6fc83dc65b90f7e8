"""How long the embedded films take: 1,000 of 224 px, and other sizes.

Usage: ``python benchmarks/bench_phantoms.py``
"""

import statistics
import time

from machine import describe

from sklearn_cxr.datasets import make_chest_xrays


def main():
    """Run from the command line."""
    print(describe("sklearn-cxr", "numpy", "scipy"))
    print(f"{'films':>6}{'side':>6}{'seconds':>9}{'ms a film':>11}")
    for n, side, repeat in ((1000, 224, 3), (200, 32, 3), (20, 1024, 3)):
        seconds = []
        for seed in range(repeat):
            start = time.perf_counter()
            make_chest_xrays(n, image_size=side, random_state=seed)
            seconds.append(time.perf_counter() - start)
        median = statistics.median(seconds)
        print(f"{n:6}{side:6}{median:9.2f}{1000 * median / n:11.2f}")


if __name__ == "__main__":
    main()
