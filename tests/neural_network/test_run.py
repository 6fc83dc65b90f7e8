"""A fit from end to end, held against training loops written out by hand."""

import copy
import functools
import pickle

import numpy as np
import pytest
import torch
from network_common import (
    StagedBackbone,
    assert_same_weights,
    cnn,
    dense,
    exact,
    global_states,
    identity,
    make_films,
    make_labels,
    transfer,
    weights_of,
)
from scipy.special import expit, logit
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score, log_loss
from sklearn.utils.validation import check_is_fitted
from tiny_networks import TinyConvNet
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.transforms import v2

from sklearn_cxr.neural_network import _base, _persistence
from sklearn_cxr.neural_network._validation import hold_out

X, Y, PATIENTS = make_films()


def known_network(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TinyConvNet((9, 9, 1), 1)


def normalised(images):
    """Scaled to mean 0 and deviation 1 over all pixels."""
    unit = images / 255
    return torch.as_tensor((unit - unit.mean()) / unit.std())[:, None]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_a_fit_is_the_loop_written_out(smoothing):
    module = known_network().double()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02, weight_decay=1e-3)
    images = normalised(X)
    target = torch.as_tensor(Y, dtype=torch.float64)[:, None]
    smooth = target * (1 - smoothing) + smoothing / 2
    weight = torch.as_tensor(np.where(Y == 1, 3.0, 1.0))[:, None]
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        each = binary_cross_entropy_with_logits(module(images), smooth, reduction="none")
        loss = (each * weight).sum() / weight.sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    clf = exact(
        cnn,
        architecture=known_network(),
        lr=0.02,
        weight_decay=1e-3,
        max_epochs=5,
        class_weight={1: 3.0},
        label_smoothing=smoothing,
    ).fit(X, Y)
    np.testing.assert_allclose(clf.history_.train_loss, losses)
    expected = expit(module(images).detach().numpy()[:, 0])
    np.testing.assert_allclose(clf.predict_proba(X)[:, 1], expected)


def test_batches_of_the_loop_written_out():
    """Batch by batch, in the order that the rows were seen in."""
    seen = []

    class Recorder(nn.Module):
        def __init__(self, image_shape, n_outputs):
            super().__init__()
            self.inner = TinyConvNet(image_shape, n_outputs)

        def forward(self, images):
            if self.training:
                seen.append(images.detach().clone())
            return self.inner(images)

    clf = cnn(Recorder, batch_size=7, max_epochs=2, precision="float64").fit(X, Y)
    # 24 rows: the last batch of 3 stays, none of them stands alone.
    assert [len(batch) for batch in seen] == [7, 7, 7, 3] * 2
    images = normalised(X)
    epochs = [torch.cat(seen[:4]), torch.cat(seen[4:])]
    orders = [
        [
            int((images == row).flatten(1).float().mean(1).argmax())
            for row in epoch.reshape(24, 1, 9, 9)
        ]
        for epoch in (e.to(images) for e in epochs)
    ]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(24))
    assert orders[0] != orders[1]
    assert clf.n_iter_ == 2


def test_sample_weights_are_in_the_loss():
    weight = np.random.default_rng(0).uniform(0, 3, len(X))
    start = exact(cnn, lr=1e-12, max_epochs=1).fit(X, Y, sample_weight=weight)
    expected = log_loss(Y, start.predict_proba(X), sample_weight=weight)
    assert start.history_.train_loss[1] == pytest.approx(expected)


def test_labels_with_unknowns():
    labels = make_labels(24, 3)
    clf = exact(cnn, max_epochs=3, validation_fraction=0.3, lr=1e-12)
    clf.fit(X, labels, groups=PATIENTS)
    known = ~np.isnan(labels)
    probabilities = clf.predict_proba(X)
    assert probabilities.shape == (24, 3)
    assert np.isin(clf.predict(X), [0, 1]).all()
    # At a rate of nothing, training and validation together are the loss over all.
    per_label = [log_loss(labels[known[:, k], k], probabilities[known[:, k], k]) for k in range(3)]
    row = clf.history_.iloc[-1]
    low, high = sorted([row.train_loss, row.valid_loss])
    assert low <= np.average(per_label, weights=known.sum(axis=0)) <= high


def test_labels_that_are_balanced():
    """Each label's positives weigh as its share of negatives, and the reverse."""
    labels = make_labels(24, 3)
    labels[:8, 1] = 0
    labels[10:20, 2] = 1
    clf = exact(cnn, max_epochs=1, lr=1e-12, class_weight="balanced").fit(X, labels)
    known, positive = ~np.isnan(labels), labels == 1
    share = np.nanmean(labels, axis=0)
    assert np.ptp(share) > 0.2
    weights = np.where(positive, 1 - share, share)[known]
    probabilities = clf.predict_proba(X)
    expected = log_loss(labels[known], probabilities[known], sample_weight=weights)
    assert clf.history_.train_loss[1] == pytest.approx(expected, rel=1e-6)
    unweighted = log_loss(labels[known], probabilities[known])
    assert abs(expected - unweighted) > 1e-3
    right = accuracy_score(labels[known], (probabilities > 0.5)[known])
    assert clf.history_.train_accuracy[1] == right


def test_a_label_of_one_value_is_predicted_as_it_is():
    labels = make_labels(24, 3)
    labels[:, 1] = np.where(np.isnan(labels[:, 1]), np.nan, 1)
    with pytest.warns(UserWarning, match=r"Label\(s\) \[1\] of y have one class only"):
        clf = cnn().fit(X, labels)
    probabilities = clf.predict_proba(X)
    assert (probabilities[:, 1] == 1).all()
    assert ((probabilities[:, [0, 2]] > 0) & (probabilities[:, [0, 2]] < 1)).all()


RANDOM = {
    "cnn": cnn("baseline", channels=(4,), dense=(8,), dropout=0.3, augment="strong", mixup=0.4),
    "transfer": transfer(augment=("flip", "noise"), dropout=0.4, mixup=0.2, head=(4,)),
    "dense": dense((8, 4), dropout=0.3),
    # It draws from torch's global generator.
    "torchvision": cnn(augment=v2.RandomAffine(20)),
}


@pytest.mark.parametrize("network", RANDOM)
def test_random_state_alone_makes_two_fits_equal(network):
    """Weights, order, augmentation, dropout, mixup and what is held out."""
    images = X.reshape(24, -1) if network == "dense" else X
    clf = RANDOM[network].set_params(batch_size=8, validation_fraction=0.3)
    answers = []
    for seed in (1, 2):
        np.random.seed(seed)  # noqa: NPY002 - the global generator is what this is about
        torch.manual_seed(seed)
        before = global_states()
        clf.fit(images, Y, groups=PATIENTS)
        answers.append((weights_of(clf), clf.predict_proba(images), clf.history_))
        for state, kept in zip(global_states(), before, strict=True):
            np.testing.assert_array_equal(state, kept)
    for name in answers[0][0]:
        np.testing.assert_array_equal(answers[0][0][name], answers[1][0][name])
    np.testing.assert_array_equal(answers[0][1], answers[1][1])
    np.testing.assert_array_equal(answers[0][2], answers[1][2])
    other = clf.set_params(random_state=7).fit(images, Y, groups=PATIENTS)
    assert (other.predict_proba(images) != answers[0][1]).any()


@pytest.fixture
def held_out(monkeypatch):
    sides = []

    def record(*args, **kwargs):
        sides.append(hold_out(*args, **kwargs))
        return sides[-1]

    monkeypatch.setattr(_base, "hold_out", record)
    return sides


def overfitted(**params):
    """A fit whose training labels say nothing of the others."""
    films, _, patients = make_films(60, seed=5)
    y = np.random.default_rng(0).permutation(np.arange(60) % 2)
    defaults = {"lr": 0.03, "max_epochs": 30, "validation_fraction": 0.3, "precision": "float64"}
    clf = cnn(**(defaults | params)).fit(films, y, groups=patients)
    return clf, films, y


@pytest.mark.parametrize("averaging", [None, 0.9])
@pytest.mark.parametrize("make", ["cnn", "frozen"])
def test_early_stopping_brings_the_best_epoch_back(held_out, averaging, make):
    films, _, patients = make_films(60, seed=5)
    y = np.random.default_rng(0).permutation(np.arange(60) % 2)
    networks = {"cnn": cnn(lr=0.03), "frozen": transfer(fine_tune="head", head=(32,), lr=0.3)}
    clf = networks[make].set_params(
        early_stopping=True,
        patience=3,
        max_epochs=60,
        validation_fraction=0.3,
        weight_averaging=averaging,
        precision="float64",
    )
    clf.fit(films, y, groups=patients)
    losses = clf.history_.valid_loss
    assert clf.best_epoch_ == losses.argmin() + 1
    assert clf.n_iter_ == len(losses) == clf.best_epoch_ + 3 < 60
    ((_, valid),) = held_out
    probabilities = clf.predict_proba(films[valid])
    assert log_loss(y[valid], probabilities) == pytest.approx(losses.min())
    best = clf.history_.loc[clf.best_epoch_]
    assert best.valid_accuracy == accuracy_score(y[valid], clf.predict(films[valid]))


@pytest.mark.parametrize("averaging", [None, 0.9])
def test_without_early_stopping_the_last_epoch_is_kept(held_out, averaging):
    clf, films, y = overfitted(weight_averaging=averaging, max_epochs=12)
    assert clf.n_iter_ == clf.best_epoch_ == 12
    ((_, valid),) = held_out
    losses = clf.history_.valid_loss
    assert log_loss(y[valid], clf.predict_proba(films[valid])) == pytest.approx(losses.iloc[-1])
    assert losses.argmin() < 11


def test_averaged_weights_are_the_average_of_the_steps():
    steps = []

    class Keep(nn.Module):
        def __init__(self, image_shape, n_outputs):
            super().__init__()
            self.inner = TinyConvNet(image_shape, n_outputs)

        def forward(self, images):
            if self.training:
                steps.append(copy.deepcopy(self.state_dict()))
            return self.inner(images)

    plain = exact(cnn, architecture=Keep, max_epochs=8).fit(X, Y)
    # Seen before each step: the first are the initial weights, the last are those after.
    seen = [*steps[:8], plain.net_.module_.body.state_dict()]
    averaged = exact(cnn, architecture=Keep, max_epochs=8, weight_averaging=0.7).fit(X, Y)
    expected = {name: value.clone() for name, value in seen[0].items()}
    for number, state in enumerate(seen[1:], start=1):
        decay = min(0.7, (1 + number) / (10 + number))
        for name, value in state.items():
            expected[name] = decay * expected[name] + (1 - decay) * value
    for name, value in averaged.net_.module_.body.state_dict().items():
        torch.testing.assert_close(value, expected[name])


@pytest.mark.parametrize("averaging", [None, 0.9])
@pytest.mark.parametrize("make", [cnn, dense, transfer])
def test_parts_of_the_whole_are_the_fit(make, averaging):
    """All rows in each call, so that the parts say the same of the grey levels as the whole."""
    images = X.reshape(24, -1) if make is dense else X
    same = {} if make is cnn else {"dropout": 0.0}
    same["weight_averaging"] = averaging
    fitted = exact(make, max_epochs=3, **same).fit(images, Y)
    parts = exact(make, **same)
    for _ in range(3):
        parts.partial_fit(images, Y, classes=[0, 1])
    np.testing.assert_allclose(
        parts.predict_proba(images), fitted.predict_proba(images), rtol=1e-6
    )
    assert parts.n_iter_ == 3
    np.testing.assert_allclose(parts.history_.train_loss, fitted.history_.train_loss)


@pytest.mark.parametrize("averaging", [None, 0.9])
def test_going_on_is_one_long_fit(averaging):
    params = {"weight_averaging": averaging}
    once = exact(cnn, max_epochs=6, **params).fit(X, Y)
    twice = exact(cnn, max_epochs=3, warm_start=True, **params).fit(X, Y).fit(X, Y)
    assert_same_weights(twice, once, rtol=1e-9)
    stored = exact(cnn, max_epochs=3, warm_start=True, **params).fit(X, Y)
    assert_same_weights(pickle.loads(pickle.dumps(stored)).fit(X, Y), once, rtol=1e-9)
    assert twice.n_iter_ == 6
    assert len(twice.history_) == 6
    anew = exact(cnn, max_epochs=3).fit(X, Y).fit(X, Y)
    assert anew.n_iter_ == 3


def test_an_average_of_other_parts_or_of_the_best_epoch_begins_anew():
    """The head alone was trained at first; then all is, from where the fit had ended."""
    params = {"warm_start": True, "weight_averaging": 0.9, "dropout": 0.0, "head": (3,)}
    clf = exact(transfer, fine_tune="head", max_epochs=2, **params).fit(X, Y)
    before = weights_of(clf)
    clf.set_params(fine_tune="all", lr=1e-12, max_epochs=1).fit(X, Y)
    for name, value in weights_of(clf).items():
        if name.startswith("body.head."):
            np.testing.assert_allclose(value, before[name], atol=1e-9)
    clf.set_params(early_stopping=True, validation_fraction=0.3, max_epochs=3, lr=0.1)
    clf.fit(X, Y, groups=PATIENTS)
    assert "average" not in clf.net_.stored_optimizer


def replaced(clf):
    """Put other weights into a fitted network, as a user may."""
    with torch.no_grad():
        for parameter in clf.net_.module_.parameters():
            parameter.mul_(0.5)
    return clf


def stored(clf):
    return pickle.loads(pickle.dumps(replaced(clf)))


@pytest.mark.parametrize("change", [replaced, stored])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_weights_that_were_put_in_after_an_averaged_fit_are_gone_on_from(change, precision):
    clf = cnn(weight_averaging=0.9, warm_start=True, lr=0.1, max_epochs=3).fit(X, Y)
    expected = {name: value * 0.5 for name, value in weights_of(clf).items()}
    clf = change(clf).set_params(lr=1e-12, max_epochs=1, precision=precision).fit(X, Y)
    for name, value in weights_of(clf).items():
        if name.startswith("body."):
            np.testing.assert_allclose(value, expected[name], atol=1e-9, err_msg=name)


def test_an_average_is_gone_on_with_in_another_precision():
    """Of the last step, and not of the average, are the weights then, as in one precision."""
    found = []
    for precision in ("float32", "float64"):
        clf = cnn(weight_averaging=0.9, warm_start=True, lr=0.1, max_epochs=3).fit(X, Y)
        clf.set_params(lr=1e-12, max_epochs=1, precision=precision).fit(X, Y)
        found.append(weights_of(clf))
    for name, value in found[0].items():
        np.testing.assert_allclose(found[1][name], value, atol=1e-6, err_msg=name)


CHANGED = {
    "head": (transfer, {"head": (5,)}),
    "channels": (transfer, {"channels": "sum"}),
    "backbone": (transfer, {"backbone": StagedBackbone}),
    "auxiliary_weight": (transfer, {"auxiliary_weight": 0.5}),
    "value_range": (transfer, {"value_range": (0, 250)}),
    "hidden": (dense, {"hidden": (4, 4)}),
    "activation": (dense, {"activation": "tanh"}),
    "standardize": (dense, {"standardize": False}),
    "dropout": (dense, {"dropout": 0.5}),
    "architecture": (cnn, {"architecture": "baseline"}),
    "dense": (cnn, {"dense": (4,)}),
}


@pytest.mark.parametrize("name", CHANGED)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_going_on_with_another_structure_raises_and_keeps_the_fit(name, method):
    make, params = CHANGED[name]
    images = X.reshape(24, -1) if make is dense else X
    clf = make(warm_start=True, max_epochs=1).fit(images, Y)
    before, usual = clf.predict_proba(images), {key: getattr(clf, key) for key in params}
    clf.set_params(**params)
    with pytest.raises(ValueError, match=rf"another {name} \(.*clone .*warm_start=False"):
        getattr(clf, method)(images, Y)
    np.testing.assert_array_equal(clf.predict_proba(images), before)
    getattr(clf.set_params(**usual), method)(images, Y)
    assert clf.n_iter_ == 2


def of_levels(image_shape, n_outputs, means, scale):
    return TinyConvNet(image_shape, n_outputs)


def test_going_on_with_the_same_structure_in_other_words():
    clf = dense([8], warm_start=True, max_epochs=1).fit(X.reshape(24, -1), Y)
    assert clf.set_params(hidden=np.array([8])).fit(X.reshape(24, -1), Y).n_iter_ == 2
    made = functools.partial(TinyConvNet, image_shape=(9, 9, 1))
    clf = cnn(made, warm_start=True, max_epochs=1).fit(X, Y)
    again = functools.partial(TinyConvNet, image_shape=(9, 9, 1))
    assert clf.set_params(architecture=again).fit(X, Y).n_iter_ == 2
    for kind in (np.ones, torch.ones):
        made, again, other = (
            functools.partial(of_levels, means={"all": [kind(3)]}, scale=scale * kind(3))
            for scale in (1, 1, 2)
        )
        clf = cnn(made, warm_start=True, max_epochs=1).fit(X, Y)
        assert clf.set_params(architecture=again).fit(X, Y).n_iter_ == 2
        with pytest.raises(ValueError, match="another architecture"):
            clf.set_params(architecture=other).fit(X, Y)
    own = known_network()
    clf = pickle.loads(pickle.dumps(cnn(own, warm_start=True, max_epochs=1).fit(X, Y)))
    assert clf.fit(X, Y).n_iter_ == 2
    with pytest.raises(ValueError, match=r"another architecture \(a TinyConvNet, now a Tiny"):
        clf.set_params(architecture=known_network(1)).fit(X, Y)
    clf = transfer(warm_start=True, max_epochs=1).fit(X, Y)
    assert clf.set_params(value_range=(0, 255)).fit(X, Y).n_iter_ == 2


def test_going_on_draws_anew():
    clf = cnn(batch_size=5, warm_start=True, max_epochs=1, augment="noise").fit(X, Y)
    first = clf.history_.train_loss[1]
    clf.set_params(lr=1e-12).fit(X, Y)
    second = clf.history_.train_loss[2]
    clf.fit(X, Y)
    assert len({first, second, clf.history_.train_loss[3]}) == 3


def test_going_on_with_another_optimiser_and_other_layers():
    clf = transfer(StagedBackbone, fine_tune="head", warm_start=True, max_epochs=1).fit(X, Y)
    head = weights_of(clf)
    clf.set_params(fine_tune="last", lr=1e-12).fit(X, Y)
    np.testing.assert_allclose(
        weights_of(clf)["body.head.1.weight"], head["body.head.1.weight"], atol=1e-9
    )
    clf.set_params(optimizer="sgd", fine_tune="all", lr=0.1).fit(X, Y)
    assert clf.n_iter_ == 3
    changed = weights_of(clf)["body.backbone.body.stage1.0.weight"]
    assert (changed != head["body.backbone.body.stage1.0.weight"]).any()


def test_images_are_held_out_in_one_of_two_fits_only():
    clf = cnn(warm_start=True).fit(X, Y)
    clf.set_params(validation_fraction=0.3).fit(X, Y, groups=PATIENTS)
    assert clf.history_.valid_loss.isna().tolist() == [True, True, False, False]
    clf.set_params(validation_fraction=None).partial_fit(X, Y)
    assert clf.history_.valid_loss.isna().tolist() == [True, True, False, False, True]


def test_data_in_parts_of_one_class_each():
    clf = cnn(lr=0.01, random_state=0)
    for _ in range(15):
        for label in ("normal", "viral"):
            part = X[(label == "viral") == Y]
            clf.partial_fit(part, np.full(len(part), label), classes=["viral", "normal"])
    assert clf.classes_.tolist() == ["normal", "viral"]
    assert clf.score(X, np.array(["normal", "viral"])[Y]) > 0.9


def test_labels_in_parts_are_not_taken_for_constant():
    labels = np.column_stack([Y, 1 - Y]).astype(float)
    clf = cnn(lr=0.01)
    for _ in range(15):
        for code in (0, 1):
            clf.partial_fit(X[Y == code], labels[Y == code])
    assert clf.score(X, labels) > 0.9


def test_parts_with_labels_that_were_not_named_leave_the_network_as_it_was():
    clf = cnn().partial_fit(X, Y, classes=[0, 1])
    before = clf.predict_proba(X)
    with pytest.raises(ValueError, match=r"y holds \[4, 5\], but"):
        clf.partial_fit(X, Y + 4)
    broken = X / 255
    with pytest.raises(ValueError, match="was fitted on uint8"):
        clf.partial_fit(broken, Y)
    np.testing.assert_array_equal(clf.predict_proba(X), before)
    assert clf.n_iter_ == 1


def test_a_part_cannot_balance_the_classes():
    with pytest.raises(ValueError, match="cannot balance the classes"):
        cnn(class_weight="balanced").partial_fit(X, Y, classes=[0, 1])


def test_going_on_with_other_classes_raises_and_keeps_the_fit():
    clf = cnn(warm_start=True).fit(X, Y)
    before = clf.predict_proba(X)
    with pytest.raises(ValueError, match=r"goes on from a fit on the classes \[0, 1\], but y now"):
        clf.fit(X, Y + 1)
    np.testing.assert_array_equal(clf.predict_proba(X), before)


class Greedy(nn.Module):
    """Runs out of memory where a training batch has more rows than a limit."""

    limit = 5

    def __init__(self, image_shape, n_outputs):
        super().__init__()
        self.inner = TinyConvNet(image_shape, n_outputs)

    def forward(self, images):
        if len(images) > (self.limit if self.training else 11):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB.")
        return self.inner(images)


@pytest.mark.parametrize("averaging", [None, 0.9])
@pytest.mark.parametrize("make", [cnn, dense])
def test_divergence_in_the_last_step_raises(make, averaging):
    """Its loss is that of the initial weights, which is finite."""
    images = X.reshape(24, -1) if make is dense else X
    clf = make(optimizer="sgd", lr=1e308, max_epochs=1, batch_size=1000)
    clf.set_params(weight_averaging=averaging)
    with pytest.raises(
        ValueError, match=r"not finite after epoch 1: the fit has diverg.*Lower lr"
    ):
        clf.fit(images, Y)
    with pytest.raises(NotFittedError):
        clf.predict(images)


MASK = (0.0, -np.inf, 0.0, 0.0)


class Masked(nn.Module):
    """Attends to three of four places, by a constant that is infinite from the start."""

    def __init__(self, image_shape, n_outputs):
        super().__init__()
        self.inner, self.last = TinyConvNet(image_shape, 4), nn.Linear(4, n_outputs)
        self.register_buffer("mask", torch.tensor(MASK))

    def forward(self, images):
        return self.last((self.inner(images) + self.mask).softmax(dim=1))


@pytest.mark.parametrize("averaging", [None, 0.9])
def test_infinite_constants_are_no_divergence(averaging):
    clf = cnn(Masked, weight_averaging=averaging, warm_start=True).fit(X, Y).fit(X, Y)
    weights = {name.removeprefix("body."): value for name, value in weights_of(clf).items()}
    np.testing.assert_array_equal(weights["mask"], MASK)
    # The place that is masked counts for nothing, also in the averaged network.
    before = clf.predict_proba(X)
    assert np.isfinite(before).all()
    with torch.no_grad():
        clf.net_.module_.body.last.weight[:, 1] = 1e6
    clf.net_.forget_predictor()
    np.testing.assert_array_equal(clf.predict_proba(X), before)


@pytest.mark.parametrize(
    ("limit", "advice"), [(5, "batch_size=3 fits"), (0, "Not even one image fits")]
)
def test_out_of_memory_says_what_fits(monkeypatch, limit, advice):
    monkeypatch.setattr(Greedy, "limit", limit)
    clf = cnn(Greedy, batch_size=12)
    with pytest.raises(MemoryError, match=f"cpu ran out of memory while training.*12. {advice}"):
        clf.fit(X, Y)
    with pytest.raises(NotFittedError):
        check_is_fitted(clf)


def test_out_of_memory_in_prediction():
    clf = cnn(Greedy, batch_size=4).fit(X, Y).set_params(batch_size=24)
    with pytest.raises(MemoryError, match=r"batch_size=24. batch_size=6 fits"):
        clf.predict(X)


def test_another_error_of_a_module_goes_through():
    class Broken(Greedy):
        def forward(self, images):
            if self.training:
                raise RuntimeError("shapes do not fit")
            return self.inner(images)

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        cnn(Broken).fit(X, Y)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_divergence_raises(precision):
    clf = cnn(optimizer="sgd", lr=1e308, max_epochs=20, precision=precision)
    with pytest.raises(ValueError, match=r"training loss is \S+ in epoch \d+: the fit has diverg"):
        clf.fit(X, Y)
    with pytest.raises(NotFittedError):
        clf.predict(X)


@pytest.mark.parametrize(
    ("params", "words"), [({"verbose": 0}, ""), ({"verbose": 1}, "train_loss")]
)
def test_a_bar_is_drawn_only_where_asked_for(capfd, params, words):
    for clf in (cnn(**params), transfer(fine_tune="head", **params)):
        clf.fit(X, Y).predict(X)
        out, err = capfd.readouterr()
        assert out == ""
        assert (words in err) if words else (err == "")


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float64"])
def test_precision_of_the_layers(precision):
    seen = {}

    class Watched(TinyConvNet):
        def forward(self, images):
            out = self.body[0](images)
            seen[self.training] = out.dtype
            return self.body[1:](out)

    clf = cnn(Watched, precision=precision, max_epochs=15).fit(X, Y)
    probabilities = clf.predict_proba(X)
    assert seen == dict.fromkeys([True, False], getattr(torch, precision))
    assert probabilities.dtype == np.float64
    assert clf.score(X, Y) > 0.9
    kept = torch.float64 if precision == "float64" else torch.float32
    assert {p.dtype for p in clf.net_.module_.parameters()} == {kept}


def test_bfloat16_hardly_moves_the_answers():
    params = {"max_epochs": 10, "lr": 3e-3}
    low, full = (cnn(precision=p, **params).fit(X, Y) for p in ("bfloat16", "float32"))
    np.testing.assert_allclose(
        logit(low.predict_proba(X)[:, 1]), logit(full.predict_proba(X)[:, 1]), atol=0.3
    )


def test_images_are_channels_last():
    seen = {}

    class Watched(TinyConvNet):
        def forward(self, images):
            layout = images.is_contiguous(memory_format=torch.channels_last)
            seen.setdefault(self.training, []).append(layout)
            return self.body(images)

    films = np.random.default_rng(0).integers(0, 256, (24, 9, 9, 3), dtype=np.uint8)
    clf = cnn(Watched, augment="flip").fit(films, Y)
    seen[False].clear()  # the architecture was tried out before
    clf.set_params(tta="flip").predict(films)
    assert all(seen[True])
    assert all(seen[False])
    assert len(seen[False]) == 2


@pytest.mark.parametrize(
    ("make", "network"), [(cnn, TinyConvNet), (transfer, StagedBackbone)], ids=["cnn", "transfer"]
)
def test_a_compiled_fit_is_the_same(monkeypatch, make, network):
    graphs = []

    def eager(graph, inputs):
        graphs.append(graph)
        return graph.forward

    # torch's own tracing, and what it traced run as it is: a compiler would take a minute.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=eager))
    params = {"precision": "float64", "batch_size": 7, "max_epochs": 3}
    torch.compiler.reset()
    try:
        compiled = make(network, compile=True, **params).fit(X, Y)
    finally:
        torch.compiler.reset()
    assert graphs
    del graphs[:]
    plain = make(network, **params).fit(X, Y)
    assert not graphs
    assert_same_weights(compiled, plain, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(compiled.predict_proba(X), plain.predict_proba(X), rtol=1e-9)
    np.testing.assert_allclose(compiled.history_, plain.history_, rtol=1e-9)


def test_a_frozen_backbone_is_run_once():
    calls = []

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3)

        def forward(self, images):
            calls.append(len(images))
            return self.conv(images).mean(dim=(2, 3))

    clf = transfer(Counting, fine_tune="head", batch_size=10, max_epochs=5)
    clf.fit(X, Y)
    assert calls[-3:] == [10, 10, 4]
    assert sum(calls[:-3]) <= 2  # to learn the number of features
    del calls[:]
    clf.set_params(augment=identity).fit(X, Y)
    assert sum(calls) >= 5 * 24


def test_a_fit_that_goes_on_holds_out_the_same(held_out):
    """Whatever random_state is, and also after a pickle: what was learnt from cannot judge."""
    films, y, patients = make_films(60)
    for random_state in (0, None, np.random.RandomState(3)):
        clf = cnn(random_state=random_state, max_epochs=1, validation_fraction=0.3)
        clf.set_params(warm_start=True).fit(films, y, groups=patients).fit(
            films, y, groups=patients
        )
        pickle.loads(pickle.dumps(clf)).fit(films, y, groups=patients)
        first, *others = (valid.tolist() for _, valid in held_out)
        assert others == [first, first]
        held_out.clear()
    # A fit that begins anew draws anew.
    clf.set_params(warm_start=False).fit(films, y, groups=patients)
    assert held_out[0][1].tolist() != first


def test_a_side_of_which_nothing_is_known_raises():
    labels = make_labels(24, 3)
    weight = np.ones(24)
    weight[PATIENTS > 0] = 0
    clf = cnn(validation_fraction=0.3)
    with pytest.raises(ValueError, match=r"CNNClassifier split its images, and none of the \d+"):
        clf.fit(X, labels, groups=PATIENTS, sample_weight=np.where(labels[:, 0] < 2, weight, 0))
    assert not hasattr(clf, "net_")


def test_nothing_known_is_no_loss():
    labels = make_labels(24, 3)
    clf = cnn().partial_fit(X, labels)
    clf.partial_fit(X, np.full_like(labels, np.nan)).partial_fit(X, labels)
    assert clf.history_.train_loss.isna().tolist() == [False, True, False]
    assert pickle.loads(pickle.dumps(clf)).history_.equals(clf.history_)
    # An epoch without a loss does not stop later ones from being the best.
    assert clf.net_.history[:, "train_loss_best"] == [True, False, True]


@pytest.mark.parametrize("params", [{"early_stopping": True}, {"lr_schedule": "plateau"}])
def test_a_validation_loss_that_is_none_raises_where_the_fit_goes_by_it(monkeypatch, params):
    def one_class(codes, groups, *args, **kwargs):
        return np.arange(2, 24), np.flatnonzero(codes == 1)[:2]

    monkeypatch.setattr(_base, "hold_out", one_class)
    clf = cnn(class_weight={1: 0.0}, validation_fraction=0.1)
    assert clf.fit(X, Y, groups=PATIENTS).history_.valid_loss.isna().all()
    with pytest.raises(ValueError, match="validation loss is nan in epoch 1"):
        clf.set_params(**params).fit(X, Y, groups=PATIENTS)


@pytest.mark.parametrize("batch_size", [1, 2, 24])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_function_that_writes_to_its_batch_does_not_write_to_the_users_films(batch_size, dtype):
    films = (X / 255).astype(dtype)
    before = films.copy()
    clf = cnn(augment=lambda batch: batch.mul_(0.5), batch_size=batch_size, max_epochs=1)
    clf.set_params(precision=dtype).fit(films, Y)
    np.testing.assert_array_equal(films, before)


def test_precision_may_change_between_fits_that_go_on():
    clf = cnn(warm_start=True, max_epochs=1)
    for number, precision in enumerate(["float32", "float64", "float32", "bfloat16"], start=1):
        clf.set_params(precision=precision).fit(X, Y)
        assert clf.n_iter_ == number
        kept = torch.float64 if precision == "float64" else torch.float32
        assert {p.dtype for p in clf.net_.module_.parameters()} == {kept}
        state = clf.net_.stored_optimizer["state"]
        assert {v["exp_avg"].dtype for v in state.values()} == {kept}


def test_validation_in_bfloat16_is_by_the_answers_of_predict(held_out):
    class Normalised(nn.Module):
        def __init__(self, image_shape, n_outputs):
            super().__init__()
            self.norm = nn.BatchNorm2d(1)
            self.inner = TinyConvNet(image_shape, n_outputs)

        def forward(self, images):
            return self.inner(self.norm(images))

    for make in (cnn(Normalised), transfer(StagedBackbone), transfer(fine_tune="head")):
        clf = make.set_params(precision="bfloat16", validation_fraction=0.3, max_epochs=3)
        clf.set_params(batch_size=100).fit(X, Y, groups=PATIENTS)
        _, valid = held_out[-1]
        expected = log_loss(Y[valid], clf.predict_proba(X[valid]))
        assert clf.history_.valid_loss.iloc[-1] == pytest.approx(expected, rel=1e-6)


def test_what_is_held_out_is_not_prepared_by(held_out):
    films = np.random.default_rng(0).uniform(0, 1, (24, 9, 9))
    clf = cnn(validation_fraction=0.3, max_epochs=1).fit(films, Y, groups=PATIENTS)
    ((train, _),) = held_out
    np.testing.assert_allclose(clf.mean_, films[train].mean())
    np.testing.assert_allclose(clf.std_, films[train].std())


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_groups_of_another_length_raise_also_where_nothing_is_held_out(method):
    with pytest.raises(ValueError, match="got 23 patient ids in groups for 24 images"):
        getattr(cnn(), method)(X, Y, groups=PATIENTS[:-1], **_classes(method))


def _classes(method):
    return {"classes": [0, 1]} if method == "partial_fit" else {}


def test_parts_with_other_named_classes_raise():
    clf = cnn().partial_fit(X, Y, classes=[1, 0])
    clf.partial_fit(X, Y, classes=[0, 1])
    before = clf.predict_proba(X)
    with pytest.raises(
        ValueError, match=r"got classes=\[0, 1, 2\], but the first call named \[0, 1\]"
    ):
        clf.partial_fit(X, Y, classes=[0, 1, 2])
    np.testing.assert_array_equal(clf.predict_proba(X), before)


class FlatNorm(nn.Sequential):
    """Batch normalisation of what has no pixels."""

    def __init__(self, image_shape, n_outputs):
        super().__init__(nn.Flatten(), nn.BatchNorm1d(81), nn.Linear(81, n_outputs))


def test_one_row_cannot_be_normalised_over_and_keeps_the_fit():
    rows = X.reshape(24, -1)
    clf = dense(batch_norm=True).partial_fit(rows, Y, classes=[0, 1])
    before = clf.predict_proba(rows)
    with pytest.raises(ValueError, match="no variance over a batch of one row"):
        clf.partial_fit(rows[:1], Y[:1])
    np.testing.assert_array_equal(clf.predict_proba(rows), before)
    with pytest.raises(ValueError, match="no variance over a batch of one row"):
        cnn(FlatNorm, batch_size=1).fit(X, Y)


@pytest.mark.parametrize("widths", [(-5,), (10.5,), (True,), (0,)])
def test_widths_that_are_no_widths_raise(widths):
    with pytest.raises(ValueError, match=r"Got hidden=.*expected a sequence of integers of 1 or"):
        dense(widths).fit(X.reshape(24, -1), Y)
    with pytest.raises(ValueError, match=r"Got head=.*expected a sequence of integers of 1 or"):
        transfer(head=widths).fit(X, Y)


def test_a_device_that_is_set_after_the_fit_is_the_one_that_predicts(monkeypatch):
    clf = cnn().fit(X, Y)
    before = clf.predict_proba(X)
    with pytest.raises(ValueError, match="device='cuda:77' is not available here"):
        clf.set_params(device="cuda:77").predict(X)
    monkeypatch.setattr(_persistence, "resolve_device", lambda device: torch.device("cpu", 0))
    clf.set_params(device="elsewhere")
    np.testing.assert_array_equal(clf.predict_proba(X), before)
    assert clf.net_.device == "cpu:0"
