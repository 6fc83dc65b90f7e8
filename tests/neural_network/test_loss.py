"""Losses against scikit-learn's and torch's own, weights against the published formulas."""

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sklearn_cxr.neural_network._loss import (
    CrossEntropy,
    class_weights,
    encode_targets,
    hits,
    mix,
)

RNG = np.random.default_rng(0)
N = 30
WEIGHT = RNG.uniform(0.1, 3, N)
BINARY = RNG.integers(0, 2, N)
CLASSES = RNG.integers(0, 4, N)
LABELS = np.where(RNG.random((N, 3)) < 0.3, np.nan, RNG.integers(0, 2, (N, 3)))


def target(labels, weights=None):
    weights = np.ones((len(labels), 1)) if weights is None else weights
    return {"labels": torch.as_tensor(labels), "weights": torch.as_tensor(weights)}


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_binary_loss_is_the_weighted_log_loss():
    logits = RNG.normal(size=(N, 1)) * 3
    given = target(encode_targets(BINARY, 2), WEIGHT[:, None])
    loss = CrossEntropy(False)(torch.as_tensor(logits), given)
    assert loss.item() == pytest.approx(
        log_loss(BINARY, expit(logits[:, 0]), sample_weight=WEIGHT)
    )


def test_multiclass_loss_is_the_weighted_log_loss():
    logits = RNG.normal(size=(N, 4)) * 3
    given = target(encode_targets(CLASSES, 4), WEIGHT[:, None])
    loss = CrossEntropy(True)(torch.as_tensor(logits), given)
    assert loss.item() == pytest.approx(log_loss(CLASSES, softmax(logits), sample_weight=WEIGHT))


def test_unknown_labels_are_masked():
    logits = RNG.normal(size=(N, 3))
    weights = WEIGHT[:, None] * RNG.uniform(0.5, 2, (N, 3))
    known = ~np.isnan(LABELS)
    expected = log_loss(LABELS[known], expit(logits[known]), sample_weight=weights[known])
    loss = CrossEntropy(False)(torch.as_tensor(logits), target(LABELS, weights))
    assert loss.item() == pytest.approx(expected)


def test_weights_of_an_image_count_once_for_each_known_label():
    logits = RNG.normal(size=(N, 3))
    known = ~np.isnan(LABELS)
    each = np.broadcast_to(WEIGHT[:, None], LABELS.shape)
    expected = log_loss(LABELS[known], expit(logits[known]), sample_weight=each[known])
    loss = CrossEntropy(False)(torch.as_tensor(logits), target(LABELS, WEIGHT[:, None]))
    assert loss.item() == pytest.approx(expected)


def test_unknown_labels_have_no_gradient():
    logits = torch.zeros((N, 3), dtype=torch.float64, requires_grad=True)
    CrossEntropy(False)(logits, target(LABELS)).backward()
    assert torch.isfinite(logits.grad).all()
    np.testing.assert_array_equal(logits.grad.numpy() == 0, np.isnan(LABELS))


def test_nothing_known_is_no_loss_and_no_gradient():
    logits = torch.ones((2, 3), requires_grad=True)
    loss = CrossEntropy(False)(logits, target(np.full((2, 3), np.nan)))
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


def test_smoothing_of_classes_is_torchs():
    logits = torch.as_tensor(RNG.normal(size=(N, 4)))
    ours = CrossEntropy(True, 0.2)(logits, target(encode_targets(CLASSES, 4)))
    theirs = nn.CrossEntropyLoss(label_smoothing=0.2)(logits, torch.as_tensor(CLASSES))
    assert ours.item() == pytest.approx(theirs.item())


def test_smoothing_of_two_classes_is_that_of_two_outputs():
    logits = torch.as_tensor(RNG.normal(size=(N, 1)))
    ours = CrossEntropy(False, 0.2)(logits, target(encode_targets(BINARY, 2)))
    two = torch.cat([torch.zeros_like(logits), logits], dim=1)
    theirs = nn.CrossEntropyLoss(label_smoothing=0.2)(two, torch.as_tensor(BINARY))
    assert ours.item() == pytest.approx(theirs.item())


def test_half_precision_logits_give_a_float32_loss():
    logits = torch.zeros((N, 1), dtype=torch.bfloat16)
    loss = CrossEntropy(False)(logits, target(encode_targets(BINARY, 2)))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(np.log(2))


@pytest.mark.parametrize("codes", [BINARY, CLASSES])
def test_balanced_is_scikit_learns(codes):
    classes = np.unique(codes)
    factors = class_weights("balanced", codes, np.ones(N), classes)
    expected = compute_class_weight("balanced", classes=classes, y=codes)[codes]
    np.testing.assert_allclose(factors, expected[:, None])


def test_balanced_counts_with_the_sample_weights():
    factors = class_weights("balanced", BINARY, WEIGHT, np.arange(2))
    totals = [(factors[:, 0] * WEIGHT)[BINARY == code].sum() for code in (0, 1)]
    assert totals[0] == pytest.approx(totals[1])
    assert sum(totals) == pytest.approx(WEIGHT.sum())


def test_dict_by_label():
    names = np.array(["bacterial", "normal", "viral"])
    codes = np.array([0, 1, 2, 1])
    factors = class_weights({"viral": 3.0, "normal": 0.5}, codes, np.ones(4), names)
    assert factors.ravel().tolist() == [1.0, 0.5, 3.0, 0.5]


def test_dict_with_a_stranger_raises():
    with pytest.raises(ValueError, match=r"names \['bacteria'\], but the classes are"):
        class_weights({"bacteria": 2.0}, BINARY, WEIGHT, np.array(["bacterial", "normal"]))


@pytest.mark.parametrize("given", [[{0: 1.0}], 3])
def test_what_is_no_dict_raises(given):
    with pytest.raises(ValueError, match="must be a dict by class"):
        class_weights(given, BINARY, WEIGHT, np.arange(2))


def test_no_class_weight_is_one():
    assert (class_weights(None, BINARY, WEIGHT, np.arange(2)) == 1).all()
    assert class_weights(None, LABELS, WEIGHT, np.arange(3)).shape == LABELS.shape


def test_balanced_labels_weigh_as_chexnet_did():
    factors = class_weights("balanced", LABELS, np.ones(N), np.arange(3))
    for label in range(3):
        column, factor = LABELS[:, label], factors[:, label]
        n_positive, n_negative = (column == 1).sum(), (column == 0).sum()
        # w+ = |N| / (|P| + |N|), w- = |P| / (|P| + |N|), here on the scale of one.
        n_known = n_positive + n_negative
        np.testing.assert_allclose(factor[column == 1], 2 * n_negative / n_known)
        np.testing.assert_allclose(factor[column == 0], 2 * n_positive / n_known)


def test_dicts_for_labels():
    codes = np.array([[0.0, 1.0], [1.0, np.nan], [0.0, 0.0]])
    one = class_weights({1: 4.0}, codes, np.ones(3), np.arange(2))
    assert one[:2].tolist() == [[1.0, 4.0], [4.0, 1.0]]
    each = class_weights([{0: 2.0}, {1: 3.0}], codes, np.ones(3), np.arange(2))
    assert each[[0, 2]].tolist() == [[2.0, 3.0], [2.0, 1.0]]


@pytest.mark.parametrize("given", [[{0: 1.0}], {"yes": 2.0}, [{0: 1}, {2: 1}, {}]])
def test_dicts_that_do_not_fit_the_labels_raise(given):
    with pytest.raises(ValueError, match="a list of 3 such dicts"):
        class_weights(given, LABELS, WEIGHT, np.arange(3))


def test_targets():
    assert encode_targets(np.array([0, 1, 1]), 2).tolist() == [[0.0], [1.0], [1.0]]
    assert encode_targets(np.array([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]
    np.testing.assert_array_equal(encode_targets(LABELS, 3), LABELS)


def test_hits():
    logits = torch.tensor([[0.5, 2.0, -1.0], [3.0, -1.0, 0.0]])
    right, known = hits(logits, {"labels": torch.tensor([[0.0, 1.0, 0.0], [0, 1, 0]])}, True)
    assert (right.item(), known.item()) == (1, 2)
    labels = torch.tensor([[1.0, 0.0, float("nan")], [1.0, 0.0, 0.0]])
    right, known = hits(logits, {"labels": labels}, False)
    assert (right.item(), known.item()) == (4, 5)


def test_mixed_images_and_labels_have_the_same_shares():
    # The image shows its own label, so that what is mixed into one is seen in the other.
    labels = torch.arange(40, dtype=torch.float64)[:, None] % 2
    images = labels[:, :, None, None].expand(40, 1, 2, 2)
    given = {"labels": labels, "weights": torch.ones_like(labels)}
    mixed, after = mix(images, given, 0.4, np.random.RandomState(0))
    np.testing.assert_allclose(mixed[:, 0, 0, 0], after["labels"][:, 0])
    assert (after["weights"] == 1).all()
    own = (after["labels"] - labels).abs().numpy()
    assert own.max() <= 0.5
    assert 0 < (own > 0).mean() < 1
    assert len(np.unique(own)) > 10


def test_a_label_unknown_in_one_of_the_mixed_is_unknown():
    labels = torch.tensor([[1.0], [float("nan")]])
    given = {"labels": labels, "weights": torch.ones(2, 1)}
    swap = type("Swap", (), {"beta": lambda *a, size: np.full(size, 0.7),
                             "permutation": lambda *a: np.array([1, 0])})()  # fmt: skip
    _, after = mix(torch.zeros(2, 1), given, 1.0, swap)
    assert torch.isnan(after["labels"]).all()


class Drawn:
    """A share of 0.7 for each, and the other of two images as the partner."""

    @staticmethod
    def beta(*args, size):
        return np.full(size, 0.7)

    @staticmethod
    def permutation(n):
        return np.arange(n)[::-1].copy()


def test_labels_are_mixed_by_share_and_weight():
    given = {"labels": torch.tensor([[1.0], [0.0]]), "weights": torch.tensor([[2.0], [6.0]])}
    images, after = mix(torch.tensor([[1.0], [0.0]]), given, 1.0, Drawn)
    np.testing.assert_allclose(images.ravel(), [0.7, 0.3])
    np.testing.assert_allclose(after["weights"].ravel(), [0.7 * 2 + 0.3 * 6, 0.7 * 6 + 0.3 * 2])
    np.testing.assert_allclose(after["labels"].ravel(), [1.4 / 3.2, 0.6 / 4.8], rtol=1e-6)


@pytest.mark.parametrize("absent", [0.0, 1.0, float("nan")])
def test_what_has_no_weight_gives_no_label_to_what_it_is_mixed_with(absent):
    given = {"labels": torch.tensor([[1.0], [absent]]), "weights": torch.tensor([[2.0], [0.0]])}
    _, after = mix(torch.zeros(2, 1), given, 1.0, Drawn)
    np.testing.assert_allclose(after["labels"].ravel(), [1, 1])
    np.testing.assert_allclose(after["weights"].ravel(), [0.7 * 2, 0.3 * 2], rtol=1e-6)


def test_two_without_weight_have_a_finite_loss_of_nothing():
    labels = torch.eye(3)[:2]
    _, after = mix(torch.zeros(2, 1), {"labels": labels, "weights": torch.zeros(2, 1)}, 1.0, Drawn)
    total, weight = CrossEntropy(True).sums(torch.zeros(2, 3), after)
    assert (total.item(), weight.item()) == (0, 0)


def test_shares_are_cast_before_they_are_sent():
    """To a device without float64, as Apple's is."""

    class NoDouble(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.device.type == "meta":
                assert out.dtype != torch.float64
            return out

    given = {name: torch.zeros(2, 1, device="meta") for name in ("labels", "weights")}
    with NoDouble():
        images, after = mix(torch.zeros(2, 1, device="meta"), given, 1.0, np.random.RandomState(0))
    assert images.device.type == after["labels"].device.type == "meta"


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_class_weights_that_are_no_weights_raise(value):
    for given, codes in (({1: value}, BINARY), ({1: value}, LABELS), ([{0: value}] * 3, LABELS)):
        with pytest.raises(ValueError, match="class_weight must hold finite weights of 0 or more"):
            class_weights(given, codes, np.ones(N), np.arange(2))
