"""Optimisers, schedules and the average of the weights, against loops written out."""

import pickle

import numpy as np
import pytest
import torch
from network_common import assert_same_weights, cnn, exact, make_films
from torch import nn

from sklearn_cxr.neural_network._optim import (
    OPTIMIZERS,
    Schedule,
    WeightAverage,
    load_state,
    make_optimizer,
    named_state,
)

CPU = torch.device("cpu")


def one_weight(value=1.0):
    module = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    nn.init.constant_(module.weight, value)
    return module


def optimizer_of(module, name="sgd", lr=0.1, weight_decay=0.0):
    groups = [{"params": list(module.parameters()), "lr": lr}]
    return make_optimizer(name, groups, weight_decay=weight_decay, device=CPU)


def step(module, optimizer, grad=1.0):
    for parameter in module.parameters():
        parameter.grad = torch.full_like(parameter, grad)
    optimizer.step()


@pytest.mark.parametrize(
    ("name", "cls", "options"),
    [
        ("adam", torch.optim.Adam, {"amsgrad": False}),
        ("amsgrad", torch.optim.Adam, {"amsgrad": True}),
        ("adamw", torch.optim.AdamW, {}),
        ("rmsprop", torch.optim.RMSprop, {}),
        ("sgd", torch.optim.SGD, {"momentum": 0.9}),
    ],
)
def test_names(name, cls, options):
    optimizer = optimizer_of(one_weight(), name, weight_decay=0.01)
    assert type(optimizer) is cls
    group = optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (0.1, 0.01)
    assert options.items() <= group.items()
    assert set(OPTIMIZERS) == {"adam", "amsgrad", "adamw", "rmsprop", "sgd"}


def test_a_class_is_taken_with_its_own_defaults():
    optimizer = optimizer_of(one_weight(), torch.optim.Adagrad)
    assert type(optimizer) is torch.optim.Adagrad
    assert optimizer.param_groups[0]["weight_decay"] == 0
    optimizer = optimizer_of(one_weight(), torch.optim.NAdam, weight_decay=0.3)
    assert optimizer.param_groups[0]["weight_decay"] == 0.3


def test_empty_groups_are_left_out():
    groups = [{"params": [], "lr": 1.0}, {"params": list(one_weight().parameters()), "lr": 2.0}]
    optimizer = make_optimizer("adam", groups, weight_decay=0, device=CPU)
    assert [group["lr"] for group in optimizer.param_groups] == [2.0]


def test_decay_is_an_l2_penalty_or_decoupled():
    module = one_weight(2.0)
    step(module, optimizer_of(module, "sgd", weight_decay=0.5))
    assert module.weight.item() == pytest.approx(2 - 0.1 * (1 + 0.5 * 2))
    module = one_weight(2.0)
    step(module, optimizer_of(module, "adamw", weight_decay=0.5))
    # The first step of Adam is the rate itself, whatever the gradient.
    assert module.weight.item() == pytest.approx(2 * (1 - 0.1 * 0.5) - 0.1)


def test_plateau_divides_by_ten_after_one_epoch_without_gain():
    optimizer = optimizer_of(one_weight())
    schedule = Schedule("plateau", optimizer, 100)
    rates = []
    for loss in [1.0, 0.8, 0.9, 0.7, 0.75, 0.71, 0.6]:
        rates.append(optimizer.param_groups[0]["lr"])
        schedule.after_step()
        schedule.after_epoch(loss)
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.1, 0.01, 0.01, 1e-3, 1e-4])


def rates_by_step(name, n_steps, lr=0.1):
    module = one_weight()
    optimizer = optimizer_of(module, lr=lr)
    schedule = Schedule(name, optimizer, n_steps)
    rates = []
    for _ in range(n_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        step(module, optimizer)
        schedule.after_step()
        schedule.after_epoch(1.0)
    return np.array(rates)


def test_cosine():
    expected = 0.05 * (1 + np.cos(np.pi * np.arange(20) / 20))
    np.testing.assert_allclose(rates_by_step("cosine", 20), expected)


def test_onecycle_rises_for_a_fifth_and_falls_to_nothing():
    rates = rates_by_step("onecycle", 50)
    assert rates.argmax() in (9, 10)
    assert rates.max() == pytest.approx(0.1, rel=0.02)
    assert rates[0] == pytest.approx(0.1 / 25)
    assert (np.diff(rates[:10]) > 0).all()
    assert (np.diff(rates[10:]) < 0).all()
    assert rates[-1] < 1e-3


@pytest.mark.parametrize("n_steps", [1, 2, 3])
@pytest.mark.parametrize("name", ["onecycle", "cosine", "plateau", None])
def test_schedules_last_for_the_shortest_fit(name, n_steps):
    assert (rates_by_step(name, n_steps) > 0).all()


def test_no_schedule():
    assert set(rates_by_step(None, 5)) == {0.1}


def test_average_against_a_loop():
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    average = WeightAverage(module, 0.9)
    expected = {n: v.clone() for n, v in module.state_dict().items()}
    for number in range(1, 31):
        with torch.no_grad():
            for name, value in module.state_dict().items():
                if value.is_floating_point():
                    value.add_(torch.rand(value.shape, generator=torch.Generator().manual_seed(7)))
                    decay = min(0.9, (1 + number) / (10 + number))
                    expected[name] = decay * expected[name] + (1 - decay) * value
        average.update()
    own = {n: v.clone() for n, v in module.state_dict().items()}
    with average.in_place():
        for name, value in module.state_dict().items():
            torch.testing.assert_close(value, expected[name])
    for name, value in module.state_dict().items():
        assert (value == own[name]).all()
    average.swap()
    torch.testing.assert_close(module[0].weight.detach(), expected["0.weight"])


def test_the_module_comes_back_after_an_error():
    module = one_weight(1.0)
    average = WeightAverage(module, 0.5)
    with torch.no_grad():
        module.weight.fill_(3.0)
    with pytest.raises(RuntimeError, match="while it is in place"), average.in_place():
        assert module.weight.item() == 1.0
        raise RuntimeError("while it is in place")
    assert module.weight.item() == 3.0


def test_state_by_name_outlives_another_order():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    first = optimizer_of(module, "adam")
    for number, parameter in enumerate(module.parameters()):
        parameter.grad = torch.full_like(parameter, float(number + 1))
    first.step()
    state = named_state(first, module)
    assert set(state) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    # The second layer alone, and the bias before the weight.
    layer = module[1]
    second = make_optimizer(
        "adam", [{"params": [layer.bias, layer.weight], "lr": 0.5}], weight_decay=0, device=CPU
    )
    load_state(second, module, state)
    torch.testing.assert_close(second.state[layer.bias]["exp_avg"], torch.full((2,), 0.4))
    torch.testing.assert_close(second.state[layer.weight]["exp_avg"], torch.full((2, 2), 0.3))
    assert second.param_groups[0]["lr"] == 0.5


def test_plateau_in_a_fit_follows_the_history():
    X, y, patients = make_films(40)
    y = np.random.default_rng(0).permutation(y)  # nothing to learn but the training images
    clf = cnn(lr_schedule="plateau", max_epochs=8, lr=0.5, optimizer="sgd")
    history = clf.fit(X, y, groups=patients).history_
    rate, best = 0.5, np.inf
    for row in history.itertuples():
        assert row.lr == pytest.approx(rate)
        if row.valid_loss < best:
            best = row.valid_loss
        else:
            rate /= 10
    assert history.lr.iloc[-1] < 0.5


@pytest.mark.parametrize("schedule", ["cosine", "onecycle"])
def test_rates_of_a_fit_by_epoch(schedule):
    X, y, _ = make_films()
    clf = cnn(lr_schedule=schedule, lr=0.1, max_epochs=5, batch_size=8).fit(X, y)
    # Three batches in an epoch.
    expected = rates_by_step(schedule, 15)[::3]
    np.testing.assert_allclose(clf.history_.lr, expected, rtol=1e-6)


def test_gradient_is_clipped():
    X, y, _ = make_films()
    clf = exact(cnn, optimizer=torch.optim.SGD, lr=1.0, clip_norm=1e-3, max_epochs=1)
    start = exact(cnn, optimizer=torch.optim.SGD, lr=1e-12, max_epochs=1).fit(X, y)
    moved = clf.fit(X, y).net_.module_.state_dict()
    square = sum(
        ((moved[name] - value) ** 2).sum()
        for name, value in start.net_.module_.state_dict().items()
    )
    assert square.sqrt().item() == pytest.approx(1e-3, rel=1e-4)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_going_on_from_a_stored_network_is_going_on(name):
    """Moments come back in the order in memory that their channels-last weights have."""
    X, y, _ = make_films(side=12)
    params = {"channels": (6, 10), "dense": (4,), "optimizer": name, "warm_start": True}
    clf = cnn("baseline", precision="float32", batch_size=1000, lr=0.01, **params).fit(X, y)
    stored = pickle.loads(pickle.dumps(clf))
    clf.fit(X, y)
    stored.fit(X, y)
    assert_same_weights(stored, clf, rtol=1e-5, atol=1e-7)


def test_onecycle_leaves_the_momentum_as_it_is():
    for name, option, value in (("sgd", "momentum", 0.9), ("rmsprop", "momentum", 0)):
        module = one_weight()
        optimizer = optimizer_of(module, name)
        schedule = Schedule("onecycle", optimizer, 10)
        seen = set()
        for _ in range(10):
            step(module, optimizer)
            schedule.after_step()
            seen.add(optimizer.param_groups[0][option])
        assert seen == {value}
    # A class that has no momentum at all.
    module = one_weight()
    optimizer = optimizer_of(module, torch.optim.Adagrad)
    schedule = Schedule("onecycle", optimizer, 10)
    step(module, optimizer)
    schedule.after_step()
    assert optimizer.param_groups[0]["lr"] > 0.1 / 25


@pytest.mark.parametrize("n_steps", range(1, 12))
def test_onecycle_takes_fits_of_a_few_steps(n_steps):
    module = one_weight()
    optimizer = optimizer_of(module, "adamw")
    schedule = Schedule("onecycle", optimizer, n_steps)
    rates = []
    for _ in range(n_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        step(module, optimizer)
        schedule.after_step()
    assert rates[0] == pytest.approx(0.1 / 25)
    assert all(0 < rate <= 0.1 for rate in rates)


def test_plateau_takes_the_smallest_gain_for_one():
    optimizer = optimizer_of(one_weight())
    schedule = Schedule("plateau", optimizer, 100)
    for loss in (1.0, 0.99999, 0.99998):
        schedule.after_epoch(loss)
    assert optimizer.param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"optimizer": torch.optim.Rprop, "weight_decay": 0.1}, r"Rprop takes no weight decay"),
        ({"optimizer": torch.optim.LBFGS}, r"LBFGS evaluates the loss several times"),
        ({"optimizer": int}, r"int is no subclass of torch\.optim\.Optimizer"),
    ],
)
def test_optimisers_that_cannot_be_used_raise_and_keep_the_fit(params, message):
    X, y, _ = make_films()
    clf = cnn(warm_start=True, max_epochs=1).fit(X, y)
    before = clf.predict_proba(X)
    with pytest.raises(ValueError, match=message):
        clf.set_params(**params).fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), before)
    assert cnn(optimizer=torch.optim.Rprop, max_epochs=1).fit(X, y).n_iter_ == 1
