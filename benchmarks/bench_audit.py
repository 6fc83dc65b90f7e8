"""The audit and the shortcut probes on all of Kermany's films, from files and from the store.

Usage: ``python benchmarks/bench_audit.py [DATA] [--html audit.html] [--probes]``, where DATA has
the folder ``chest_xray``. The sets of identical files are counted beside it from the bytes alone,
without this library, and compared.
"""

import argparse
import hashlib
import os
import re
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import machine
import numpy as np

from sklearn_cxr.inspection import audit_dataset, shortcut_probes
from sklearn_cxr.inspection._audit_duplicates import near_groups
from sklearn_cxr.preprocessing import ImageReader


def read_names(root):
    paths = sorted(root.glob("*/*/*.jpeg"))
    splits = [path.parts[-3] for path in paths]
    labels = [path.parts[-2] for path in paths]
    numbers = [re.search(r"person\d+|IM-\d+", path.name)[0] for path in paths]
    # Numbers were given out per split.
    patients = [f"{split}_{number}" for split, number in zip(splits, numbers, strict=True)]
    return [str(path) for path in paths], np.array(labels), np.array(patients), np.array(splits)


def identical_bytes(paths):
    sets = defaultdict(list)
    for row, path in enumerate(paths):
        sets[hashlib.sha256(Path(path).read_bytes()).hexdigest()].append(row)
    return {frozenset(rows) for rows in sets.values() if len(rows) > 1}


def timed(what, work):
    start, cpu = time.perf_counter(), time.process_time()
    result = work()
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(f"{what:<52}{wall:8.1f} s wall{cpu:8.1f} s processor")
    return result


def many_pairs(n):
    rng = np.random.RandomState(0)
    prints = rng.randint(256, size=(n, 32)).astype(np.uint8)
    thumbs = rng.randint(256, size=(n, 32, 32)).astype(np.uint8)
    prints[n // 2], thumbs[n // 2] = prints[0], thumbs[0]
    keys = [str(i).encode() for i in range(n)]
    groups, _ = near_groups(prints, thumbs, keys, np.ones(n, bool))
    assert sorted(np.flatnonzero(groups == 0)) == [0, n // 2]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", default="../shared/data")
    parser.add_argument("--html")
    parser.add_argument("--probes", action="store_true")
    options = parser.parse_args()
    print(machine.describe("sklearn-cxr", "imagehash", "pillow", "numpy"))
    paths, y, patients, splits = read_names(Path(options.data) / "chest_xray")
    given = {"y": y, "groups": patients, "splits": splits, "n_jobs": 2}
    with tempfile.TemporaryDirectory() as store:
        report = timed(f"{len(paths)} films, from files", lambda: audit_dataset(paths, **given))
        timed("the same, filling a store", lambda: audit_dataset(paths, cache_dir=store, **given))
        timed(
            "the same, from the store, with what files tell",
            lambda: audit_dataset(paths, cache_dir=store, **given),
        )
        rows = ImageReader(cache_dir=store).fit_transform(paths)
        timed("the same, rows of the store alone", lambda: audit_dataset(rows, **given))
    timed("pairs of 112,120 random fingerprints", lambda: many_pairs(112_120))

    same = report.images.query("check == 'identical_films'")
    found = {frozenset(part["row"]) for _, part in same.groupby("set")}
    assert found == identical_bytes(paths), "the bytes tell of other sets"
    across = {frozenset(rows) for rows in found if len({patients[row] for row in rows}) > 1}
    print(
        f"\nidentical files: {len(found)} sets, {sum(map(len, found))} files, as the bytes tell; "
        f"{len(across)} across patient numbers"
    )
    for rows in across:
        print("   ", *(os.path.basename(paths[row]) for row in sorted(rows)))
    print(f"\n{report}")
    print("\n" + report.associations.drop(columns=["statistic", "effect"]).to_string(index=False))
    if options.html:
        report.to_html(options.html)
        print(f"\nHTML: {os.path.getsize(options.html) / 1e6:.2f} MB")
    if options.probes:
        probes = timed("\nshortcut probes", lambda: shortcut_probes(paths, y, patients, n_jobs=2))
        print(probes)


if __name__ == "__main__":
    main()
