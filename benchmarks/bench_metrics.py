"""Intervals by patient: how long they take, and how often they hold.

Usage: ``python benchmarks/bench_metrics.py [--parts PART ...]``; the parts are

- bootstrap: 1,000 resamples of patients with 25,000 predictions of 14 labels, beside a loop over
  scikit-learn's metric on copied rows,
- delong: the variance of the area under the ROC curve against the number of images,
- coverage: how many of 1,000 studies have the true value in their interval, with and without
  patients known.
"""

import argparse
import math
import time
from functools import partial

import numpy as np
from machine import describe
from scipy.stats import norm
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    f1_score,
    log_loss,
    roc_auc_score,
)

from sklearn_cxr.metrics import (
    bootstrap_interval,
    calibration_error,
    calibration_error_interval,
    multilabel_report,
    operating_point,
    roc_auc_interval,
    specificity_at_sensitivity,
)

N_IMAGES, N_PATIENTS, N_LABELS, N_RESAMPLES = 25_000, 6_000, 14, 1_000


def predictions(seed=0):
    """Return findings from rare to common, their probabilities, and the patient of each image."""
    rng = np.random.default_rng(seed)
    groups = np.sort(rng.integers(0, N_PATIENTS, N_IMAGES))
    shares = np.geomspace(0.002, 0.2, N_LABELS)
    Y = (rng.uniform(size=(N_IMAGES, N_LABELS)) < shares).astype(np.int64)
    log_odds = np.log(shares / (1 - shares)) + 1.2 * Y + rng.normal(size=Y.shape)
    return Y, 1 / (1 + np.exp(-log_odds)), groups


def seconds(function):
    """Return how long a call takes, by the clock and by the processor."""
    start = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - start[0], time.process_time() - start[1]


def loop(metric, Y, P, groups, n_resamples=10):
    """Return how long a loop over copied rows takes, extrapolated from some of the resamples."""
    rows_of = np.split(np.arange(N_IMAGES), np.flatnonzero(np.diff(groups)) + 1)
    rng = np.random.default_rng(0)

    def run():
        for _ in range(n_resamples):
            drawn = rng.integers(0, len(rows_of), len(rows_of))
            rows = np.concatenate([rows_of[i] for i in drawn])
            for j in range(N_LABELS):
                metric(Y[rows, j], P[rows, j])

    return [value * N_RESAMPLES / n_resamples for value in seconds(run)]


def bootstrap():
    """Print the time of the bootstrap, label by label or at once."""
    Y, P, groups = predictions()
    predicted = (P > 0.2).astype(np.int64)
    options = {"groups": groups, "n_resamples": N_RESAMPLES, "random_state": 0}

    def at_once(metric, scores):
        metric = partial(metric, average=None)
        bootstrap_interval(metric, Y, scores, stratify=False, **options)

    def each(metric, scores):
        for j in range(N_LABELS):
            bootstrap_interval(metric, Y[:, j], scores[:, j], **options)

    def errors(metric, scores):
        for j in range(N_LABELS):
            calibration_error_interval(Y[:, j], scores[:, j], **options)

    print(
        f"\nbootstrap: {N_RESAMPLES:,} resamples of {N_PATIENTS:,} patients with {N_IMAGES:,} "
        f"predictions of {N_LABELS} labels;\nby the clock and by the processor, beside a loop "
        "over copied rows, extrapolated from 10 resamples"
    )
    print(f"{'metric':42}{'seconds':>9}{'CPU s':>8}{'loop':>8}{'CPU s':>8}")
    rows = [
        ("roc_auc_score, all labels at once", at_once, roc_auc_score, P),
        ("average_precision_score, all at once", at_once, average_precision_score, P),
        ("specificity_at_sensitivity, label by label", each, specificity_at_sensitivity, P),
        ("brier_score_loss, label by label", each, brier_score_loss, P),
        ("log_loss, label by label", each, log_loss, P),
        ("f1_score, label by label", each, f1_score, predicted),
        ("accuracy_score, label by label", each, accuracy_score, predicted),
        ("calibration_error_interval, label by label", errors, calibration_error, P),
    ]
    for name, run, metric, scores in rows:
        own = seconds(partial(run, metric, scores))
        peer = loop(metric, Y, scores, groups)
        print(f"{name:42}{own[0]:9.1f}{own[1]:8.1f}{peer[0]:8.0f}{peer[1]:8.0f}")
    report = seconds(partial(multilabel_report, Y, P, groups=groups))
    print(f"{'multilabel_report, without resampling':42}{report[0]:9.1f}{report[1]:8.1f}")


def all_pairs(y, score):
    """Compare every positive with every negative image, as the definition says."""
    order = score[y == 1][:, None] > score[y == 0]
    return order.mean(axis=0), order.mean(axis=1)


def delong():
    """Print the time of one interval against the number of images."""
    print("\nDeLong by patient, CPU seconds")
    print(f"{'images':>10}{'interval':>10}{'roc_auc_score':>15}{'all pairs':>11}")
    rng = np.random.default_rng(0)
    for n in (1_000, 10_000, 100_000, 1_000_000):
        y = (rng.uniform(size=n) < 0.3).astype(np.int64)
        score, groups = y + rng.normal(size=n), np.arange(n) // 4
        own = seconds(partial(roc_auc_interval, y, score, groups=groups))[1]
        peer = seconds(partial(roc_auc_score, y, score))[1]
        direct = f"{seconds(partial(all_pairs, y, score))[1]:11.3f}" if n <= 10_000 else ""
        print(f"{n:10,}{own:10.3f}{peer:15.3f}{direct}")


def study(n_patients, seed, delta):
    """Images whose label and score are partly those of their patient."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_patients), rng.integers(1, 8, n_patients))
    n = len(groups)
    own = (rng.uniform(size=n_patients) < 0.3)[groups]
    y = np.where(rng.uniform(size=n) < 0.3, rng.uniform(size=n) < 0.3, own).astype(np.int64)
    noise = math.sqrt(0.8) * rng.normal(size=n_patients)[groups]
    return y, delta * y + noise + math.sqrt(0.2) * rng.normal(size=n), groups


def coverage(n_studies=1_000):
    """Print how many intervals at 0.95 hold the truth."""
    print(
        f"\ncoverage of intervals at 0.95 in {n_studies:,} studies: 1 to 7 images of a patient, "
        "30 % of\nthe patients positive, 80 % of the score's variance between patients"
    )
    print(
        f"{'patients':>9}{'area':>7}{'images alone':>14}{'by patient':>12}{'logit':>8}"
        f"{'sensitivity':>13}{'specificity':>13}{'ppv':>7}"
    )
    for n_patients, delta in ((60, 1.5), (200, 1.5), (1_000, 1.5), (60, 2.8), (200, 2.8)):
        area = norm.cdf(delta / math.sqrt(2))
        inside = []
        for seed in range(n_studies):
            y, score, groups = study(n_patients, seed, delta)
            point = operating_point(
                y, score, target=("sensitivity", 0.9), groups=groups, prevalence=0.1
            )
            a, b = norm.sf(point.threshold - delta), norm.cdf(point.threshold)
            found = [
                (roc_auc_interval(y, score), area),
                (roc_auc_interval(y, score, groups=groups), area),
                (roc_auc_interval(y, score, groups=groups, transform="logit"), area),
                (point.sensitivity, a),
                (point.specificity, b),
                (point.ppv, 0.1 * a / (0.1 * a + 0.9 * (1 - b))),
            ]
            inside.append([interval.low <= truth <= interval.high for interval, truth in found])
        shares = np.mean(inside, axis=0)
        print(
            f"{n_patients:9,}{area:7.3f}{shares[0]:14.3f}{shares[1]:12.3f}{shares[2]:8.3f}"
            f"{shares[3]:13.3f}{shares[4]:13.3f}{shares[5]:7.3f}"
        )


PARTS = {"bootstrap": bootstrap, "delong": delong, "coverage": coverage}


def main():
    """Run from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    print(describe("sklearn-cxr", "scikit-learn", "scipy", "numpy"))
    for part in parser.parse_args().parts:
        PARTS[part]()


if __name__ == "__main__":
    main()
