"""The modules that an estimator trains."""

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_cxr.neural_network._network import (
    BackboneBody,
    Network,
    Probabilities,
    channels_last,
    inference_copy,
    make_head,
)
from sklearn_cxr.neural_network._prepare import Prepare

FILMS = torch.as_tensor(np.random.default_rng(0).integers(0, 256, (5, 6, 6), dtype=np.uint8))


def network(body=None):
    torch.manual_seed(0)
    body = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)) if body is None else body
    return Network(Prepare(0, 255, 0.5, 0.2), body).eval()


@pytest.fixture(autouse=True)
def generator():
    state = torch.get_rng_state()
    yield
    torch.set_rng_state(state)


def logits_by_hand(net, films=FILMS):
    images = (films.numpy() / 255 - 0.5) / 0.2
    layer = net.body[1]
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    return images.reshape(len(images), -1) @ weight.T + bias


def test_grey_levels_in_logits_out():
    net = network()
    out = net(FILMS).detach().numpy()
    np.testing.assert_allclose(out, logits_by_hand(net), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("exclusive", [True, False])
def test_probabilities(exclusive):
    net = network()
    logits = logits_by_hand(net)
    out = Probabilities(net, exclusive=exclusive)(FILMS)
    assert out.dtype == torch.float64
    powers = np.exp(logits)
    expected = powers / (powers.sum(axis=1, keepdims=True) if exclusive else 1 + powers)
    np.testing.assert_allclose(out.detach(), expected, rtol=1e-4)


def test_probabilities_are_averaged_over_the_views():
    net = network()
    one, other = (Probabilities(net, exclusive=True)(x) for x in (FILMS, FILMS.flip(-1)))
    both = Probabilities(net, exclusive=True, tta="flip")(FILMS)
    torch.testing.assert_close(both, (one + other) / 2)


def test_head_widths_and_order():
    head = make_head(7, 2, (5, 4), 0.3, activation="gelu", batch_norm=True)
    block = ["OutputLinear", "BatchNorm1d", "GELU", "Dropout"]
    assert [type(layer).__name__ for layer in head] == [*block, *block, "OutputLinear"]
    widths = [(x.in_features, x.out_features) for x in head if isinstance(x, nn.Linear)]
    assert widths == [(7, 5), (5, 4), (4, 2)]


def test_head_without_hidden_layers():
    names = [type(layer).__name__ for layer in make_head(7, 2, (), 0.3)]
    assert names == ["Dropout", "OutputLinear"]
    assert [type(layer).__name__ for layer in make_head(7, 2)] == ["OutputLinear"]


def test_inference_copy_leaves_the_module_as_it_is():
    net = network().train()
    net.register_buffer("scale", torch.tensor([1 / 3]))
    copied = inference_copy(net, torch.bfloat16, torch.device("cpu"))
    assert net.training
    assert (net.scale.dtype, copied.scale.dtype) == (torch.float32, torch.bfloat16)
    assert not copied.training
    assert {p.dtype for p in copied.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in copied.parameters())
    assert all(p.requires_grad for p in net.parameters())
    assert copied.dtype == torch.bfloat16


def test_channels_last_of_images_only():
    images = torch.zeros(2, 3, 4, 5)
    assert channels_last(images).is_contiguous(memory_format=torch.channels_last)
    features = torch.zeros(2, 3)
    assert channels_last(features) is features


@pytest.mark.parametrize("first", ["convolution", "normalisation"])
def test_statistics_and_head_stay_exact_in_bfloat16(first):
    """And get what they take wherever they stand."""
    layers = [nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 3)]
    if first == "normalisation":
        layers.insert(0, nn.BatchNorm2d(1))
    backbone = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net = network(BackboneBody(backbone, make_head(4, 2, (3,))))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.running_mean, 1000.3)
            nn.init.constant_(module.running_var, 1 / 3)
    copied = inference_copy(net, torch.bfloat16, torch.device("cpu"))
    assert copied.dtype == torch.bfloat16
    for (name, value), own in zip(
        copied.state_dict().items(), net.state_dict().values(), strict=True
    ):
        convolution = value.ndim == 4 or name in _biases_of_convolutions(net)
        expected = torch.bfloat16 if convolution else own.dtype
        assert value.dtype == expected, name
        if not convolution:
            assert (value == own).all()
    assert copied(FILMS).dtype == torch.float32


def _biases_of_convolutions(net):
    return [f"{name}.bias" for name, part in net.named_modules() if isinstance(part, nn.Conv2d)]


def test_logits_in_bfloat16_are_not_rounded():
    body = BackboneBody(nn.Flatten(), make_head(36, 2))
    net = network(body)
    nn.init.constant_(net.body.head[0].bias, 100.0)
    copied = inference_copy(net, torch.bfloat16, torch.device("cpu"))
    # Between 64 and 128 bfloat16 has steps of 1/2; the images alone are rounded here.
    np.testing.assert_allclose(copied(FILMS), net(FILMS).detach(), atol=0.02)


class Stages(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout())
        self.second = nn.Sequential(nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2), nn.Dropout())

    def forward(self, images):
        return self.second(self.first(images)).mean(dim=(2, 3))

    def forward_auxiliary(self, images):
        early = self.first(images)
        return self.second(early).mean(dim=(2, 3)), [early.mean(dim=(2, 3))]


@pytest.mark.parametrize(
    ("trained", "modes"),
    [((), [False, False]), (("second",), [False, True]), (("",), [True, True])],
)
def test_what_is_frozen_stays_in_evaluation_mode(trained, modes):
    body = BackboneBody(Stages(), make_head(2, 1, dropout=0.1))
    body.freeze(trained)
    body.train()
    for stage, learns in zip((body.backbone.first, body.backbone.second), modes, strict=True):
        assert {module.training for module in stage} == {learns}
        assert {p.requires_grad for p in stage.parameters()} == {learns}
    assert body.head.training
    assert all(p.requires_grad for p in body.head.parameters())
    body.eval()
    assert not any(module.training for module in body.modules())


class WithoutParameters(nn.Module):
    """Statistics, and dropout, without parameters in either stage."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 2, 3)
        self.norm1 = nn.BatchNorm2d(2, affine=False)
        self.stage2 = nn.Sequential(nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2, affine=False))

    def forward(self, images):
        return self.stage2(self.norm1(self.conv1(images))).mean(dim=(2, 3))


@pytest.mark.parametrize(
    ("trained", "learns"),
    [((), (False, False)), (("stage2.",), (False, True)), (("",), (True, True))],
)
def test_statistics_without_parameters_are_frozen_by_their_place(trained, learns):
    body = BackboneBody(WithoutParameters(), make_head(2, 1))
    body.freeze(trained)
    body.train()(torch.rand(4, 1, 8, 8))
    seen = body.backbone.norm1, body.backbone.stage2[1]
    assert tuple(norm.training for norm in seen) == learns
    assert tuple(norm.num_batches_tracked.item() for norm in seen) == tuple(map(int, learns))


class Dropping(nn.Module):
    """Dropout within two stages and between them, beside statistics without parameters."""

    def __init__(self):
        super().__init__()
        self.stage1 = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Dropout(0.5))
        self.between = nn.Sequential(nn.BatchNorm2d(2, affine=False), nn.Dropout(0.5))
        after = nn.Sequential(nn.BatchNorm2d(2, affine=False), nn.Dropout(0.5))
        self.stage2 = nn.Sequential(nn.Conv2d(2, 2, 3), after)

    def forward(self, images):
        return self.stage2(self.between(self.stage1(images))).mean(dim=(2, 3))


def test_dropout_goes_with_the_stage_that_it_is_in():
    """Also where the stage is told by whole names of parameters, as for networks of timm."""
    body = BackboneBody(Dropping(), make_head(2, 1))
    for trained in (("stage2.0.weight", "stage2.0.bias"), ("stage2.",)):
        body.freeze(trained)
        body.train()
        dropouts = body.backbone.stage1[1], body.backbone.stage2[1][1]
        assert [part.training for part in dropouts] == [False, True]
        assert not any(part.training for part in body.backbone.between.modules())
    body.freeze(())
    body.train()
    assert not any(part.training for part in body.backbone.modules())


def test_branches_answer_in_training_only():
    body = BackboneBody(Stages(), make_head(2, 1), nn.ModuleList([make_head(2, 1)]))
    images = torch.rand(4, 1, 8, 8)
    logits, extra = body.train()(images)
    assert logits.shape == extra[0].shape == (4, 1)
    assert isinstance(body.eval()(images), torch.Tensor)
