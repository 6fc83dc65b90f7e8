"""Time of ``import sklearn_cxr`` beside ``import sklearn``, each in fresh processes.

Run: ``python benchmarks/bench_import.py``. The two take turns, so that a busy machine slows
both; one run of each beforehand fills the file cache.
"""

import statistics
import subprocess
import sys
import time

RUNS = 7
PACKAGES = ("sklearn", "sklearn_cxr")


def seconds(package):
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {package}"], check=True)
    return time.perf_counter() - start


def main():
    for package in PACKAGES:
        seconds(package)
    times = {package: [] for package in PACKAGES}
    for _ in range(RUNS):
        for package in PACKAGES:
            times[package].append(seconds(package))
    medians = {package: statistics.median(values) for package, values in times.items()}
    for package, median in medians.items():
        print(f"import {package:<12} {1000 * median:7.1f} ms (median of {RUNS})")
    ratio = medians["sklearn_cxr"] / medians["sklearn"]
    print(f"ratio {ratio:.2f} (at most 1.2 is wanted)")
    return ratio


if __name__ == "__main__":
    main()
