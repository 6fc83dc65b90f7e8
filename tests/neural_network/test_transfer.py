"""Transferred networks: which part of them is trained, on what, and at which rate."""

import hashlib
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from network_common import (
    InChunks,
    StagedBackbone,
    assert_same_weights,
    exact,
    identity,
    make_films,
    transfer,
    weights_of,
)
from skorch.callbacks import Callback
from tiny_networks import TinyBackbone
from torch import nn

from sklearn_cxr.exceptions import ContaminationWarning, WeightsError
from sklearn_cxr.neural_network import WeightsInfo, _transfer

X, Y, PATIENTS = make_films()
has_timm = pytest.mark.skipif(not find_spec("timm"), reason="timm is an extra and not installed")


class Start(Callback):
    """Keeps the weights and the rates that a fit begins with."""

    def on_train_begin(self, net, **kwargs):
        self.state_ = {n: v.numpy().copy() for n, v in net.module_.state_dict().items()}
        names = {id(p): name for name, p in net.module_.named_parameters()}
        self.rates_ = {
            names[id(p)]: group["lr"]
            for group in net.optimizer_.param_groups
            for p in group["params"]
        }


def changed_by(clf, images=X, y=Y):
    """Names of what a fit has changed, and the rates of what it trains."""
    start = Start()
    clf.set_params(callbacks=[start]).fit(images, y)
    after = weights_of(clf)
    changed = {name for name in after if (after[name] != start.state_[name]).any()}
    return changed, start.rates_, set(after)


BACKBONE = "body.backbone.body."


@pytest.mark.parametrize("augment", [None, "noise"])
def test_head_alone(augment):
    clf = transfer(StagedBackbone, fine_tune="head", head=(5,), augment=augment)
    changed, rates, names = changed_by(clf)
    heads = {name for name in names if name.startswith("body.head.")}
    assert len(heads) == 4
    assert changed == set(rates) == heads


def test_last_stage_and_its_statistics():
    changed, rates, names = changed_by(transfer(StagedBackbone, fine_tune="last", augment="flip"))
    trained = {n for n in names if n.startswith((BACKBONE + "stage2.", "body.head."))}
    assert changed == trained
    assert set(rates) == {n for n in trained if "running" not in n and "num_batches" not in n}


def test_all():
    changed, _, names = changed_by(transfer(StagedBackbone, fine_tune="all"))
    assert changed == names


def test_last_stage_of_a_published_network():
    films, y, _ = make_films(8, side=32)
    clf = transfer("resnet18", fine_tune="last", batch_size=4, max_epochs=1, lr=1e-2)
    changed, _, names = changed_by(clf, films, y)
    assert changed == {n for n in names if n.startswith((BACKBONE + "layer4.", "body.head."))}


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("densenet121", 32),
        ("mobilenet_v3_small", 32),
        ("efficientnet_b0", 32),
        ("convnext_tiny", 32),
        ("vit_b_16", 32),
        pytest.param("xception", 32, marks=has_timm),
        pytest.param("inception_resnet_v2", 75, marks=has_timm),
        pytest.param("resnetv2_101", 32, marks=has_timm),
    ],
)
def test_a_step_of_a_network_of_every_kind(name, side):
    films, y, _ = make_films(4, side=side, n_classes=3, per_patient=1)
    params = {"batch_size": 2, "max_epochs": 1, "lr": 1e-2, "precision": "float32"}
    clf = transfer(name, fine_tune="last", **params)
    changed, rates, names = changed_by(clf, films, y)
    last = clf.net_.module_.body.backbone.last_stage
    stage = tuple(f"body.backbone.{part}" for part in last)
    trained = {n for n in rates if n.startswith(BACKBONE)}
    assert trained and all(n.startswith(stage) for n in trained)
    # The bias of a block is what the batch normalisation behind it takes off again.
    assert {n for n in trained if n.endswith("weight")} <= changed
    still = {n for n in names if n.startswith(BACKBONE) and not n.startswith(stage)}
    assert still and not changed & still
    probabilities = clf.predict_proba(films)
    assert probabilities.shape == (4, 3)
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_of_a_file_and_its_checksum(tmp_path, suffix):
    if suffix == "safetensors":
        save = pytest.importorskip("safetensors.torch", reason="an extra").save_file
    else:
        save = torch.save
    path, state = tmp_path / f"weights.{suffix}", StagedBackbone().state_dict()
    state = {name: torch.full_like(value, 3) for name, value in state.items()}
    save(state, path)
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    for weights in (path, str(path)):
        clf = transfer(StagedBackbone, weights=weights, sha256=right, fine_tune="head").fit(X, Y)
        own = clf.net_.module_.body.backbone.body.state_dict()
        assert own.keys() == state.keys()
        for name, value in state.items():
            torch.testing.assert_close(own[name], value, rtol=0, atol=0)
    clf.set_params(sha256="0" * 64)
    with pytest.raises(WeightsError, match=rf"weights.{suffix} has the SHA-256 {right}; expected"):
        clf.fit(X, Y)


@pytest.mark.parametrize("backbone_lr", [None, 1e-4])
def test_rates_of_backbone_and_head(backbone_lr):
    clf = transfer(StagedBackbone, lr=1e-2, backbone_lr=backbone_lr)
    _, rates, _ = changed_by(clf)
    for name, rate in rates.items():
        expected = (backbone_lr or 1e-2) if name.startswith(BACKBONE) else 1e-2
        assert rate == expected


def test_steps_are_as_long_as_the_rates():
    params = {"optimizer": torch.optim.SGD, "weight_decay": 0.0, "dropout": 0.0, "max_epochs": 1}
    moves = []
    for rate in (1e-3, 1e-4):
        start = Start()
        clf = exact(transfer, backbone=StagedBackbone, lr=1e-3, backbone_lr=rate, **params)
        after = weights_of(clf.set_params(callbacks=[start]).fit(X, Y))
        name = BACKBONE + "stage1.0.weight"
        moves.append(after[name] - start.state_[name])
    np.testing.assert_allclose(moves[0], 10 * moves[1], rtol=1e-6)


@pytest.mark.parametrize(
    "params",
    [{}, {"weight_averaging": 0.9}, {"early_stopping": True, "validation_fraction": 0.3}],
)
def test_features_computed_once_are_those_of_every_epoch(params):
    params = {
        "fine_tune": "head",
        "head": (8,),
        "dropout": 0.3,
        "max_epochs": 4,
        "batch_size": 10,
        "precision": "float64",
        **params,
    }
    fast = transfer(StagedBackbone, **params).fit(X, Y, groups=PATIENTS)
    slow = transfer(StagedBackbone, augment=identity, **params).fit(X, Y, groups=PATIENTS)
    assert_same_weights(fast, slow, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(fast.history_, slow.history_, rtol=1e-9)
    np.testing.assert_allclose(fast.predict_proba(X), slow.predict_proba(X))


def test_features_of_a_view_are_streamed():
    view = InChunks(X)
    clf = transfer(fine_tune="head", batch_size=5).fit(view, Y)
    assert view.largest == 5
    assert_same_weights(clf, transfer(fine_tune="head", batch_size=5).fit(X, Y))


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_a_view_is_trained_on_batch_by_batch(dtype):
    images = X if dtype == np.uint8 else (X / 255).astype(dtype)
    view = InChunks(images)
    clf = transfer(batch_size=5).fit(view, Y)
    assert_same_weights(clf, transfer(batch_size=5).fit(images, Y))
    # Floats are checked in chunks of a million values, which is all of these.
    assert view.largest == (5 if dtype == np.uint8 else 24)


@pytest.mark.parametrize(
    ("images", "value_range", "levels"),
    [
        (X, None, (0, 255)),
        (X.astype(np.uint16) * 200, None, (0, 65535)),
        (X / 255, None, (0, 1)),
        (X.astype(float) - 100, (-100, 200), (-100, 200)),
    ],
)
def test_levels_are_absolute(images, value_range, levels):
    seen = []

    class Watched(TinyBackbone):
        def forward(self, batch):
            seen.append(batch)
            return super().forward(batch)

    clf = transfer(Watched, fine_tune="head", value_range=value_range, batch_size=100)
    clf.fit(images, Y)
    assert clf.levels_ == levels
    low, high = levels
    # A module of one's own gets the range from -2 to 2.
    expected = ((images - low) / (high - low) - 0.5) / 0.25
    np.testing.assert_allclose(seen[-1][:, 0].float(), expected, atol=0.02)


def test_weights_tell_how_to_normalise(monkeypatch):
    info = WeightsInfo(
        name="mine",
        mean=(0.3,),
        std=(0.1,),
        size=9,
        interpolation="bilinear",
        channels=1,
        licence="MIT",
        trained_on=("nih",),
    )
    original = _transfer.build_backbone

    def build(*args, **kwargs):
        backbone = original(*args, **kwargs)
        backbone.weights_info = info
        return backbone

    monkeypatch.setattr(_transfer, "build_backbone", build)
    with pytest.warns(ContaminationWarning):
        clf = transfer(dataset="ChestX-ray14").fit(X, Y)
    assert clf.weights_info_ == info
    assert (clf.mean_, clf.std_) == ((0.3,), (0.1,))
    out = clf.net_.module_.prepare(torch.as_tensor(X))
    np.testing.assert_allclose(out[:, 0], (X / 255 - 0.3) / 0.1, atol=1e-5)
    transfer(dataset="kermany").fit(X, Y)


def test_a_grey_channel_is_repeated_or_the_kernels_summed():
    films, y, _ = make_films(4, side=32)
    for channels, n_channels in (("repeat", 3), ("sum", 1)):
        clf = transfer("resnet18", channels=channels, max_epochs=1, fine_tune="head").fit(films, y)
        stem = clf.net_.module_.body.backbone.body.conv1
        assert stem.in_channels == n_channels == len(clf.mean_)


def test_head_and_dropout():
    clf = transfer(head=(6, 3), dropout=0.25).fit(X, Y)
    head = clf.net_.module_.body.head
    assert [layer.out_features for layer in head if isinstance(layer, nn.Linear)] == [6, 3, 1]
    assert [layer.p for layer in head if isinstance(layer, nn.Dropout)] == [0.25, 0.25]
    assert head[0].in_features == 12


def test_branches_of_googlenet():
    films, y, _ = make_films(6, side=64)
    params = {"batch_size": 6, "max_epochs": 1, "lr": 1e-2}
    changed, rates, names = changed_by(
        clf := transfer("googlenet", auxiliary_weight=0.3, **params), films, y
    )
    branches = {n for n in names if ".aux" in n}
    heads = {n for n in names if n.startswith("body.auxiliary.")}
    assert len(heads) == 4  # weights and biases of two
    assert heads <= changed
    assert branches
    assert {n for n in branches if n.endswith("weight")} <= changed
    assert heads <= set(rates)
    assert clf.predict_proba(films).shape == (6, 2)


def test_branches_that_have_no_weight_are_dropped():
    films, y, _ = make_films(6, side=64)
    clf = transfer("googlenet", fine_tune="head", max_epochs=1).fit(films, y)
    assert clf.net_.module_.body.auxiliary is None
    assert not [name for name in weights_of(clf) if ".aux" in name]


def test_loss_of_the_branches_is_added():
    """The head of a branch learns from its own loss alone, so its step tells the weight."""
    films, y, _ = make_films(6, side=64)
    moves = {}
    for weight in (0.2, 0.4):
        clf = transfer(
            "googlenet",
            auxiliary_weight=weight,
            optimizer=torch.optim.SGD,
            weight_decay=0.0,
            lr=0.1,
            max_epochs=1,
            batch_size=6,
            precision="float32",
        )
        start = Start()
        after = weights_of(clf.set_params(callbacks=[start]).fit(films, y))
        name = next(n for n in after if n.startswith("body.auxiliary.") and n.endswith("bias"))
        moves[weight] = after[name] - start.state_[name]
    np.testing.assert_allclose(moves[0.4], 2 * moves[0.2], rtol=1e-4)


def test_branch_of_inception():
    films, y, _ = make_films(2, side=299, per_patient=1)
    clf = transfer(
        "inception_v3", auxiliary_weight=0.4, batch_size=2, max_epochs=1, fine_tune="last"
    ).fit(films, y)
    assert len(clf.net_.module_.body.auxiliary) == 1
    assert np.isfinite(clf.history_.train_loss[1])


def test_branches_where_there_are_none_raise():
    with pytest.raises(ValueError, match=r"has no auxiliary branches; expected one of .googlenet"):
        transfer("resnet18", auxiliary_weight=0.3).fit(*make_films(4, side=32)[:2])


def test_a_module_of_ones_own_is_copied():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = TinyBackbone()
    kept = module.conv.weight.detach().clone()
    clf = transfer(module, fine_tune="head").fit(X, Y)
    assert (clf.net_.module_.body.backbone.body.conv.weight == kept).all()
    transfer(module, lr=0.1).fit(X, Y)
    assert (module.conv.weight == kept).all()
    assert clf.weights_info_ is None


def test_it_learns():
    clf = transfer(head=(16,), max_epochs=60, lr=0.02, tta=("flip", "shift"), dropout=0.0)
    assert clf.fit(X, Y).score(X, Y) > 0.9
