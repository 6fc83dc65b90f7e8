import warnings
from functools import partial

import numpy as np
import pytest
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    cohen_kappa_score,
    f1_score,
    log_loss,
    matthews_corrcoef,
    mean_absolute_error,
    precision_score,
    recall_score,
    roc_auc_score,
)

from sklearn_cxr.metrics import (
    bootstrap_interval,
    calibration_error,
    nan_average_precision_score,
    nan_roc_auc_score,
    roc_auc_interval,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
)
from sklearn_cxr.metrics._bootstrap import bootstrap_values
from sklearn_cxr.metrics._metric_kernels import fast_kernel, kernel_of, weighted_kernel
from sklearn_cxr.metrics._resampling import patient_counts, patient_strata


def data(n_patients=60, seed=0, decimals=8):
    rng = np.random.RandomState(seed)
    groups = np.repeat(np.arange(n_patients), rng.randint(1, 5, n_patients))
    y = rng.randint(2, size=len(groups))
    score = (0.3 * y + 0.7 * rng.uniform(size=len(groups))).round(decimals)
    return y, score, groups


def by_copying(metric, y, score, groups, n_resamples=40, seed=0):
    """Values on resamples whose images are really copied, from the same draws of patients."""
    values = []
    n_patients = groups.max() + 1
    draws = patient_counts(n_patients, None, n_resamples, np.random.RandomState(seed), 1000)
    for counts in next(draws).T:
        rows = np.repeat(np.arange(len(y)), counts[groups].astype(int))
        values.append(metric(y[rows], score[rows]))
    return np.stack(values, axis=-1)


def by_kernel(metric, y, score, groups, n_resamples=40, seed=0):
    return bootstrap_values(
        kernel_of(metric, y, score),
        groups,
        groups.max() + 1,
        strata=None,
        n_resamples=n_resamples,
        random_state=np.random.RandomState(seed),
    )


OF_SCORES = [
    roc_auc_score,
    average_precision_score,
    partial(roc_auc_score, average=None),
    nan_roc_auc_score,
    nan_average_precision_score,
    brier_score_loss,
    log_loss,
    calibration_error,
    mean_absolute_error,
    sensitivity_at_specificity,
    partial(sensitivity_at_specificity, specificity=0.6),
    partial(specificity_at_sensitivity, sensitivity=0.75),
    partial(specificity_at_sensitivity, sensitivity=0),
    partial(roc_auc_score, max_fpr=0.5),
]
COUNTED = [
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    precision_score,
    recall_score,
    partial(f1_score, pos_label=0),
    partial(precision_score, pos_label=0),
    partial(recall_score, pos_label=0),
]
OF_PREDICTIONS = [
    *COUNTED,
    matthews_corrcoef,
    cohen_kappa_score,
    partial(accuracy_score, normalize=True),
    partial(f1_score, average="weighted"),
    partial(precision_score, zero_division=1.0),
    lambda y, predicted: float(np.mean(y == predicted)),
]


@pytest.mark.parametrize("decimals", [8, 1])
@pytest.mark.parametrize("metric", OF_SCORES)
def test_weighting_patients_is_copying_their_images(metric, decimals):
    y, score, groups = data(decimals=decimals)
    np.testing.assert_allclose(
        by_kernel(metric, y, score, groups), by_copying(metric, y, score, groups), atol=1e-12
    )


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
@pytest.mark.parametrize("metric", [log_loss, brier_score_loss])
def test_probabilities_of_nought_and_one(metric, dtype):
    y, score, groups = data()
    score = (score > 0.5).astype(dtype)
    np.testing.assert_allclose(
        by_kernel(metric, y, score, groups), by_copying(metric, y, score, groups), rtol=1e-6
    )


@pytest.mark.parametrize("metric", OF_PREDICTIONS)
def test_the_same_for_predicted_labels(metric):
    y, score, groups = data()
    predicted = (score > 0.5).astype(int)
    np.testing.assert_allclose(
        by_kernel(metric, y, predicted, groups),
        by_copying(metric, y, predicted, groups),
        atol=1e-12,
    )


# balanced_accuracy_score says it of every resample that lacks a class, which is what is compared.
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize("metric", COUNTED)
def test_counts_say_what_weighting_one_by_one_does(metric):
    # Of six patients: some resamples lack a class, or a prediction.
    rng = np.random.RandomState(0)
    codes = np.repeat(np.arange(6), 3)
    y, predicted = np.repeat([0, 1, 0, 0, 1, 0], 3), rng.randint(2, size=18)
    assert fast_kernel(metric, y, predicted) is not None
    counts = np.concatenate(
        [np.eye(6), next(patient_counts(6, None, 30, np.random.RandomState(1), 30))], axis=1
    )
    fast, slow = (
        kernel(metric, y, predicted)(lambda rows: counts[codes[rows]])
        for kernel in (fast_kernel, weighted_kernel)
    )
    np.testing.assert_allclose(fast, slow, atol=1e-12)
    assert (fast[:6] == 0).any() and len(np.unique(fast)) > 5


@pytest.mark.parametrize(
    "metric",
    [
        partial(f1_score, average="macro"),
        partial(f1_score, zero_division=1.0),
        partial(accuracy_score, normalize=False),
        partial(balanced_accuracy_score, adjusted=True),
        partial(f1_score, pos_label=2),
    ],
)
def test_other_options_are_left_to_the_metric(metric):
    y, score, _ = data()
    assert fast_kernel(metric, y, (score > 0.5).astype(int)) is None


def test_names_and_booleans_are_counted_too():
    y, score, groups = data()
    names = np.array(["normal", "viral"])
    for labels, called, options in (
        (names[y], names[(score > 0.5).astype(int)], {"pos_label": "viral"}),
        (names[y].astype(object), names[(score > 0.5).astype(int)], {"pos_label": "normal"}),
        (y, score > 0.5, {}),
        (y.astype(float), (score > 0.5).astype(float), {}),
    ):
        for metric in (partial(f1_score, **options), accuracy_score, balanced_accuracy_score):
            assert fast_kernel(metric, labels, called) is not None
            np.testing.assert_allclose(
                by_kernel(metric, labels, called, groups),
                by_copying(metric, labels, called, groups),
                atol=1e-12,
            )
    three = np.random.RandomState(0).randint(3, size=len(y))
    for metric in (accuracy_score, balanced_accuracy_score):
        np.testing.assert_allclose(
            by_kernel(metric, three, y, groups), by_copying(metric, three, y, groups), atol=1e-12
        )


def test_names_and_three_classes():
    y, score, groups = data()
    names = np.array(["normal", "viral"])[y]
    np.testing.assert_allclose(
        by_kernel(roc_auc_score, names, score, groups),
        by_copying(roc_auc_score, names, score, groups),
        atol=1e-12,
    )
    rng = np.random.RandomState(1)
    three = np.array(["bacterial", "normal", "viral"])[rng.randint(3, size=len(y))]
    predicted = np.where(rng.uniform(size=len(y)) < 0.6, three, "normal")
    macro = partial(f1_score, average="macro")
    np.testing.assert_allclose(
        by_kernel(macro, three, predicted, groups), by_copying(macro, three, predicted, groups)
    )
    probabilities = rng.dirichlet(np.ones(3), size=len(y))
    np.testing.assert_allclose(
        by_kernel(log_loss, three, probabilities, groups),
        by_copying(log_loss, three, probabilities, groups),
    )


@pytest.mark.parametrize("average", ["macro", None])
@pytest.mark.parametrize("metric", [roc_auc_score, average_precision_score])
def test_several_labels(metric, average):
    _, _, groups = data()
    rng = np.random.RandomState(2)
    Y = rng.randint(2, size=(len(groups), 3))
    P = (0.4 * Y + rng.uniform(size=Y.shape)).round(1)
    metric = partial(metric, average=average)
    np.testing.assert_allclose(
        by_kernel(metric, Y, P, groups), by_copying(metric, Y, P, groups), atol=1e-12
    )


@pytest.mark.parametrize("average", ["macro", "weighted", None])
@pytest.mark.parametrize("metric", [nan_roc_auc_score, nan_average_precision_score])
def test_several_labels_with_unknown_ones(metric, average):
    _, _, groups = data()
    rng = np.random.RandomState(2)
    Y = rng.randint(2, size=(len(groups), 3)).astype(float)
    P = (0.4 * Y + rng.uniform(size=Y.shape)).round(1)
    Y[rng.uniform(size=Y.shape) < 0.3] = np.nan
    metric = partial(metric, average=average)
    np.testing.assert_allclose(
        by_kernel(metric, Y, P, groups), by_copying(metric, Y, P, groups), atol=1e-12
    )


def test_interval_is_the_percentiles():
    y, score, groups = data()
    interval = bootstrap_interval(
        roc_auc_score, y, score, groups=groups, n_resamples=200, confidence=0.9, random_state=3
    )
    values = by_copying(roc_auc_score, y, score, groups, n_resamples=200, seed=3)
    assert interval == pytest.approx(
        (roc_auc_score(y, score), *np.quantile(values, [0.05, 0.95]), 0.9), abs=1e-12
    )


def test_standard_error_of_a_mean_over_patients():
    """The mean of single images has a standard error that is known without resampling."""
    rng = np.random.RandomState(0)
    x = rng.normal(size=200)
    result = bootstrap_interval(
        lambda y, score: score.mean(), np.zeros(200), x, n_resamples=2000, random_state=0
    )
    spread = x.std() / np.sqrt(200)
    assert result.high - result.low == pytest.approx(2 * 1.96 * spread, rel=0.06)


def test_copies_of_images_narrow_it_only_without_groups():
    y, score, _ = data(150)
    single = bootstrap_interval(roc_auc_score, y, score, random_state=0)
    y, score, groups = np.repeat(y, 4), np.repeat(score, 4), np.repeat(np.arange(len(y)), 4)
    known = bootstrap_interval(roc_auc_score, y, score, groups=groups, random_state=0)
    unknown = bootstrap_interval(roc_auc_score, y, score, random_state=0)
    assert known == pytest.approx(single, abs=1e-12)
    assert unknown.high - unknown.low == pytest.approx((known.high - known.low) / 2, rel=0.15)


def test_random_state():
    y, score, groups = data()
    run = partial(bootstrap_interval, roc_auc_score, y, score, groups=groups, n_resamples=50)
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - it is what has to stay untouched
    assert run(random_state=0) == run(random_state=0)
    assert run(random_state=0) != run(random_state=1)
    assert run(random_state=np.random.RandomState(0)) == run(random_state=0)
    after = np.random.get_state()[1]  # noqa: NPY002 - the same
    assert (after == before).all()


def test_draws_do_not_depend_on_the_chunk():
    strata = [np.arange(7), np.arange(7, 10)]
    few, many = (
        np.concatenate(list(patient_counts(10, strata, 20, np.random.RandomState(0), n)), axis=1)
        for n in (3, 100)
    )
    assert (few == many).all()
    assert (few[:7].sum(axis=0) == 7).all() and (few[7:].sum(axis=0) == 3).all()
    free = next(patient_counts(10, None, 200, np.random.RandomState(0), 200))
    assert (free.sum(axis=0) == 10).all() and free[:7].sum(axis=0).std() > 1


def test_strata_are_by_the_rarest_class_of_a_patient():
    classes = np.array(["normal"] * 6 + ["viral", "bacterial", "viral", "bacterial"])
    codes = np.array([0, 1, 2, 3, 4, 5, 0, 1, 6, 1])
    # viral: patients 0 and 6; bacterial: patient 1 alone; normal: the others.
    for stratify in (True, "auto"):
        with pytest.raises(ValueError, match="one patient with the class 'bacterial'"):
            patient_strata(classes, codes, 7, stratify=stratify, caller="test")
    classes[9], codes[9] = "bacterial", 5
    found = patient_strata(classes, codes, 7, stratify="auto", caller="test")
    assert sorted(map(tuple, found)) == [(0, 6), (1, 5), (2, 3, 4)]
    assert patient_strata(classes, codes, 7, stratify=False, caller="test") is None


def test_a_patient_left_over_is_drawn_among_the_others():
    """Ten patients have both classes and count for the rarer one; the eleventh is alone."""
    codes, classes = np.repeat(np.arange(11), 2), np.tile(["well", "ill"], 11)
    classes[-1] = "well"
    found = patient_strata(classes, codes, 11, stratify="auto", caller="test")
    assert [members.tolist() for members in found] == [list(range(11))]
    score = np.random.RandomState(0).normal(size=22)
    interval = bootstrap_interval(
        accuracy_score, classes, classes, groups=codes, n_resamples=20, random_state=0
    )
    assert interval[:3] == (1, 1, 1)
    area = roc_auc_interval(
        classes, score, groups=codes, method="bootstrap", n_resamples=50, pos_label="ill"
    )
    assert area.low < area.estimate < area.high


def test_a_class_of_one_patient_is_named():
    y = np.array(["viral"] * 30 + ["bacterial"])
    with pytest.raises(ValueError, match="one patient with the class 'bacterial'; expected"):
        bootstrap_interval(accuracy_score, y, y, n_resamples=5)


def rare_label(seed=0):
    """Two labels that most resamples have both classes of, a rare one, and an undefined one."""
    rng = np.random.RandomState(seed)
    groups = np.repeat(np.arange(40), 2)
    Y = np.repeat(rng.randint(2, size=(40, 4)), 2, axis=0).astype(float)
    Y[:, 2], Y[:, 3] = groups == 5, 0
    return Y, rng.uniform(size=Y.shape) + 0.3 * Y, groups


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("metric", [nan_roc_auc_score, nan_average_precision_score])
def test_labels_undefined_in_a_resample_are_left_out_as_in_the_estimate(metric, flip):
    Y, P, groups = rare_label()
    Y[:, 2] = 1 - Y[:, 2] if flip else Y[:, 2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        expected = by_copying(metric, Y, P, groups)
        each = by_copying(partial(metric, average=None), Y, P, groups)
    assert np.isnan(each[2]).any() and np.isfinite(each[2]).any()
    np.testing.assert_allclose(by_kernel(metric, Y, P, groups), expected, atol=1e-12)
    own = by_kernel(partial(metric, average=None), Y, P, groups)
    np.testing.assert_allclose(own, each, atol=1e-12)
    with pytest.warns(UndefinedMetricWarning) as caught:
        result = bootstrap_interval(metric, Y, P, groups=groups, n_resamples=40, random_state=0)
    assert not any("resamples" in str(warning.message) for warning in caught)
    np.testing.assert_allclose(result[1:3], np.quantile(expected, [0.025, 0.975]))


def test_rare_classes_are_stratified_by_themselves():
    y = np.repeat([0, 1], [300, 4])
    score = np.random.RandomState(0).uniform(size=304)
    # Unstratified, exp(-4) or 1.8 % of the resamples lack the class.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bootstrap_interval(roc_auc_score, y, score, random_state=0)
    with pytest.warns(UndefinedMetricWarning, match=r"not defined in up to 1\.\d % .* left out"):
        result = bootstrap_interval(roc_auc_score, y, score, stratify=False, random_state=0)
    assert result.low < result.estimate < result.high
    share = partial(bootstrap_interval, lambda y, score: y.mean(), y, score, random_state=0)
    assert share().low == share().high == 4 / 304
    assert share(stratify=False).low < 4 / 304 < share(stratify=False).high


def test_common_classes_are_not_stratified_unless_asked():
    y = np.repeat([0, 1], [60, 40])
    share = partial(bootstrap_interval, lambda y, score: y.mean(), y, y, random_state=0)
    assert share().low < 0.35 and share().high > 0.45
    assert share(stratify=True)[:3] == pytest.approx((0.4, 0.4, 0.4))


def test_quantities_and_matrices_have_no_strata():
    y = np.random.RandomState(0).normal(size=80)
    result = bootstrap_interval(mean_absolute_error, y, y + 1, random_state=0)
    assert result[:3] == pytest.approx((1, 1, 1))
    with pytest.raises(ValueError, match="stratify=True for y of shape"):
        bootstrap_interval(mean_absolute_error, y, y, stratify=True)
    with pytest.raises(ValueError, match="stratify=True for y of shape"):
        bootstrap_interval(nan_roc_auc_score, np.eye(4), np.eye(4), stratify=True)


def test_arrays_come_back_as_arrays():
    rng = np.random.RandomState(0)
    Y = rng.randint(2, size=(200, 3)).astype(float)
    P = rng.uniform(size=Y.shape)
    each = partial(nan_roc_auc_score, average=None)
    result = bootstrap_interval(each, Y, P, n_resamples=100, random_state=0)
    np.testing.assert_allclose(result.estimate, roc_auc_score(Y, P, average=None))
    assert result.low.shape == result.high.shape == (3,)
    assert (result.low < result.estimate).all() and (result.estimate < result.high).all()
    Y[:, 1] = 0
    with pytest.warns(UndefinedMetricWarning) as caught:
        result = bootstrap_interval(each, Y, P, n_resamples=100, random_state=0)
    assert any("NaN for 1 of 3 labels" in str(warning.message) for warning in caught)
    assert np.isnan([result.estimate[1], result.low[1], result.high[1]]).all()
    assert np.isfinite(result.low[[0, 2]]).all()


def test_one_class_only_is_an_error_also_under_strict_warnings():
    for metric in (roc_auc_score, nan_roc_auc_score):
        with pytest.raises(ValueError, match=f"{metric.__name__} of these labels is nan"):
            bootstrap_interval(metric, np.ones(10), np.arange(10) / 10)


def test_a_warning_on_all_images_is_passed_on():
    with pytest.warns(UndefinedMetricWarning, match="Recall is ill-defined"):
        bootstrap_interval(recall_score, np.zeros(50, int), np.arange(50) % 2, n_resamples=5)


def test_an_error_in_a_resample_is_marked():
    def picky(y, score):
        if len(np.unique(score)) < 50:
            raise ValueError("too few different scores")
        return 1.0

    with pytest.raises(ValueError, match="too few different") as error:
        bootstrap_interval(picky, np.arange(50) % 2, np.arange(50.0), n_resamples=5)
    assert error.value.__notes__ == ["This was raised in a bootstrap resample, not on all images."]


def test_single_images():
    with pytest.raises(ValueError, match="got 1 image; expected at least 2"):
        bootstrap_interval(mean_absolute_error, [0.5], [0.2])


@pytest.mark.parametrize("metric", [accuracy_score, roc_auc_score])
def test_weights_of_ones_own_count_in_the_resamples_too(metric):
    rng = np.random.RandomState(0)
    y, score = rng.randint(2, size=120), rng.randint(2, size=120)
    weight = np.where(y == score, 3, 1)
    weighted = partial(metric, sample_weight=weight)
    found = bootstrap_interval(weighted, y, score, n_resamples=50, random_state=0)
    # A patient's film given three times is a film of weight three.
    copies = np.repeat(np.arange(120), weight)
    expected = bootstrap_interval(
        metric, y[copies], score[copies], groups=copies, n_resamples=50, random_state=0
    )
    np.testing.assert_allclose(found, expected)
    assert found.low < found.estimate < found.high


@pytest.mark.parametrize("average", ["macro", None])
def test_resamples_of_no_weight_are_left_out(average):
    y, predicted = np.arange(60) % 2, np.arange(60) % 3 % 2
    metric = partial(f1_score, average=average, zero_division=0)
    weighted = partial(metric, sample_weight=np.arange(60) < 3)
    # (1 - 3 / 60) ** 60 is 4.6 %.
    with pytest.warns(UndefinedMetricWarning, match=r"not defined in up to [3-6]\.. % of the res"):
        found = bootstrap_interval(
            weighted, y, predicted, n_resamples=400, random_state=0, stratify=False
        )
    np.testing.assert_allclose(found.estimate, metric(y[:3], predicted[:3]))


def test_weights_of_another_length():
    weighted = partial(accuracy_score, sample_weight=np.ones(3))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        bootstrap_interval(weighted, [0, 1, 0, 1], [0, 1, 1, 1], n_resamples=2)


def test_probabilities_of_a_class_that_no_film_has():
    score = np.random.RandomState(0).uniform(0, 0.2, 50)
    found = bootstrap_interval(
        brier_score_loss, np.zeros(50, int), score, n_resamples=50, random_state=0
    )
    assert found.estimate == pytest.approx(np.mean(score**2))
    assert found.low < found.estimate < found.high < 0.04
