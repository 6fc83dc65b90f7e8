"""ImageReader beside scikit-image, Pillow and OpenCV, in one run on the same files.

Usage: ``python benchmarks/bench_reader.py [DATA] [--repeat 5]``, where DATA has the folders
``nih/images`` (1024 x 1024 PNG) and ``chest_xray`` (224 x 224 JPEG). Everything is read once
before it is timed, so files come from the page cache. Each figure is the median of the repeats,
which take turns, so that a busy moment of the machine hits all rows alike.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import skimage.io
import skimage.transform
from machine import describe
from PIL import Image

from sklearn_cxr.preprocessing import ImageReader

SIZE = 224
# VmHWM, because the usual ru_maxrss is handed down from the process that started this one.
MEMORY_PROGRAM = """
import sys
from pathlib import Path
from sklearn_cxr.preprocessing import ImageReader
paths = sorted(Path(sys.argv[1]).rglob("*.*"))
reader = ImageReader(224, n_jobs=2).fit(paths[:2])
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
before = peak()
images = reader.transform(paths)
print(len(paths), images.nbytes / 1e6, (peak() - before) * 1024 / 1e6)
"""


def by_skimage(paths):
    """Read as a scikit-image user does."""
    for path in paths:
        film = skimage.io.imread(path, as_gray=True)
        skimage.transform.resize(film, (SIZE, SIZE), anti_aliasing=True)


def pillow_decode(paths):
    """Decode and nothing else: no reader on top of Pillow can be faster."""
    for path in paths:
        with Image.open(path) as film:
            film.load()


def opencv_decode(paths):
    """Decode with OpenCV and nothing else."""
    for path in paths:
        cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)


def ours(n_jobs):
    """Read with ImageReader on so many threads."""
    return lambda paths: ImageReader(SIZE, n_jobs=n_jobs).fit_transform(paths)


def from_store(folder):
    """Read from a store that is filled already, and touch every pixel."""
    reader = ImageReader(SIZE, cache_dir=folder)

    def read(paths):
        return np.asarray(reader.fit_transform(paths)).sum(dtype=np.int64)

    return read


def medians(tasks, paths, repeat):
    """Median seconds of each task, taking turns."""
    seconds = {name: [] for name in tasks}
    for task in tasks.values():
        task(paths[:4])
    for _ in range(repeat):
        for name, task in tasks.items():
            start = time.perf_counter()
            task(paths)
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def compare(title, paths, repeat):
    """Print the table of one set of files."""
    tasks = {
        "skimage.io.imread + transform.resize": by_skimage,
        "Pillow, decoding only": pillow_decode,
        "ImageReader, 1 worker": ours(1),
        "ImageReader, 2 workers": ours(2),
    }
    if cv2 is not None:
        tasks["OpenCV, decoding only"] = opencv_decode
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        from_store(folder)(paths)
        first = time.perf_counter() - start
        tasks["ImageReader, store filled, all pixels summed"] = from_store(folder)
        result = medians(tasks, paths, repeat)
    base = result["skimage.io.imread + transform.resize"]
    print(f"\n{title}: {len(paths)} files")
    print(f"{'':46}{'img/s':>9}{'x skimage':>11}")
    for name, seconds in result.items():
        print(f"{name:46}{len(paths) / seconds:9.0f}{base / seconds:11.2f}")
    one, two = result["ImageReader, 1 worker"], result["ImageReader, 2 workers"]
    stored = result["ImageReader, store filled, all pixels summed"]
    print(f"two workers over one: {one / two:.2f}")
    bound = result["Pillow, decoding only"]
    print(f"share of Pillow's decoding bound, 1 worker: {bound / one:.2f}")
    print(f"first read with a store {first:.3f} s, second {stored:.4f} s: {first / stored:.0f} x")


def memory(folder):
    """Print what a read adds to the resident memory, in a fresh process."""
    command = [sys.executable, "-c", MEMORY_PROGRAM, str(folder)]
    n, output, growth = subprocess.check_output(command, text=True).split()
    print(
        f"\nmemory of reading {n} files on 2 workers: output {float(output):.0f} MB, "
        f"peak growth {float(growth):.0f} MB"
    )


def main():
    """Run from the command line."""
    parser = argparse.ArgumentParser()
    default = os.environ.get("SKLEARN_CXR_DATA", Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("data", nargs="?", type=Path, default=default)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    print(describe("sklearn-cxr", "pillow", "scikit-image", "numpy"))
    pngs = sorted((options.data / "nih" / "images").glob("*.png"))
    jpegs = sorted((options.data / "chest_xray" / "train").glob("*/*.jpeg"))[:1000]
    compare("1024 x 1024 PNG to 224 x 224", pngs, options.repeat)
    compare("224 x 224 JPEG", jpegs, options.repeat)
    memory(options.data / "chest_xray" / "train")


if __name__ == "__main__":
    try:
        import cv2
    except ImportError:  # the comparison with OpenCV is left out then
        cv2 = None
    main()
