import functools
import threading

import pytest
import torch
from torch import nn

from sklearn_cxr.neural_network._architectures import ARCHITECTURES, build_architecture


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def n_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def build(architecture="conv2-dense128", image_shape=(16, 16, 1), n_outputs=2, **options):
    return build_architecture(
        architecture, image_shape=image_shape, n_outputs=n_outputs, **options
    )


# The published networks


@pytest.mark.parametrize(
    ("name", "side", "layers"),
    [
        ("baseline", 150, [320, 18_496, 73_856, 147_584, (9 * 9 * 128 + 1) * 512, 513]),
        ("conv3-dense1024", 150, [320, 18_496, 147_712, 84_935_680, 1025]),
        ("conv2-dense128", 128, [640, 73_856, (32 * 32 * 128 + 1) * 128, 129]),
    ],
)
def test_parameters_layer_by_layer(name, side, layers):
    with torch.device("meta"):
        network = build(name, (side, side, 1), 1)
        shape = network(torch.zeros(3, 1, side, side)).shape
    counts = [
        n_parameters(layer)
        for layer in network.modules()
        if isinstance(layer, (nn.Conv2d, nn.Linear))
    ]
    assert counts == layers
    assert n_parameters(network) == sum(layers)
    assert shape == (3, 1)
    assert ARCHITECTURES[name].size == side


def test_the_published_table_is_that_of_the_final_network():
    with torch.device("meta"):
        network = build("conv3-dense1024", (150, 150, 1), 1)
        x, shapes = torch.zeros(1, 1, 150, 150), []
        for name, layer in network.features.named_children():
            x = layer(x)
            if not name.startswith("relu"):
                shapes.append(tuple(x.shape[1:]))
    assert shapes == [
        (32, 150, 150),
        (32, 75, 75),
        (64, 75, 75),
        (64, 37, 37),
        (256, 37, 37),
        (256, 18, 18),
    ]


def test_dropout_as_published():
    shares = {
        name: [m.p for m in build(name).modules() if isinstance(m, nn.Dropout)]
        for name in ("baseline", "conv2-dense128")
    }
    assert shares == {"baseline": [], "conv2-dense128": [0.2]}


@pytest.mark.parametrize("batch_norm", [False, True])
def test_values_and_gradients_are_those_of_relu_before_pooling(batch_norm):
    network = build(image_shape=(18, 13, 3), channels=(4, 5), dense=(6,), dropout=0.0,
                    kernel_size=5, batch_norm=batch_norm).double()  # fmt: skip
    features, head = network.features, network.head
    x = torch.randn(4, 3, 18, 13, dtype=torch.float64)

    def textbook(x):
        for i in (1, 2):
            conv = getattr(features, f"conv{i}")
            x = nn.functional.conv2d(x, conv.weight, conv.bias, padding=2)
            if batch_norm:
                x = x - x.mean(dim=(0, 2, 3), keepdim=True)
                x = x / (x.var(dim=(0, 2, 3), keepdim=True, correction=0) + 1e-5).sqrt()
            x = nn.functional.max_pool2d(x.relu(), 2)
        x = x.reshape(4, 5 * 4 * 3) @ head.dense1.weight.T + head.dense1.bias
        return x.relu() @ head.output.weight.T + head.output.bias

    results = []
    for forward in (network, textbook):
        network.zero_grad()
        logits = forward(x)
        (logits**2).sum().backward()
        results.append(
            [logits.detach()] + [p.grad for p in (features.conv1.weight, head.output.bias)]
        )
    for first, second in zip(*results, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-11)


# Options


def test_options_override_what_was_published():
    network = build(image_shape=(32, 24, 3), n_outputs=14, channels=(4, 6, 8), dense=(10, 7),
                    kernel_size=5, dropout=0.5, batch_norm=True)  # fmt: skip
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert [(m.in_channels, m.out_channels) for m in convolutions] == [(3, 4), (4, 6), (6, 8)]
    assert {m.kernel_size for m in convolutions} == {(5, 5)}
    assert all(m.bias is None for m in convolutions)
    dense = [m for m in network.modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in dense] == [(8 * 4 * 3, 10), (10, 7), (7, 14)]
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == [0.5, 0.5]
    assert [m.num_features for m in network.modules() if isinstance(m, nn.BatchNorm2d)] == [
        4,
        6,
        8,
    ]
    assert network(torch.zeros(2, 3, 32, 24)).shape == (2, 14)


def test_no_dense_layer_and_no_dropout():
    network = build(dense=(), dropout=0)
    assert [name for name, _ in network.head.named_children()] == ["output"]


def test_no_convolution():
    network = build(image_shape=(1, 7, 1), channels=())
    assert n_parameters(network) == 7 * 128 + 128 + 128 * 2 + 2


def test_one_number_is_a_sequence_of_one():
    network = build(channels=4, dense=5)
    assert n_parameters(network) == 4 * 9 + 4 + (8 * 8 * 4 + 1) * 5 + 6 * 2


def test_weights_come_from_the_global_generator():
    torch.manual_seed(7)
    first = build(channels=2).state_dict()
    other = build(channels=2).state_dict()
    torch.manual_seed(7)
    again = build(channels=2).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not any(torch.equal(first[key], other[key]) for key in first)


def test_images_too_small():
    with pytest.raises(
        ValueError,
        match=r"9 x 40 pixels are too small for 'baseline' with 4 .*at least 16 x 16.*"
        r"channels=\(32, 64, 128\)",
    ):
        build("baseline", (9, 40, 1))
    assert build("baseline", (9, 40, 1), channels=(32, 64, 128))(
        torch.zeros(1, 1, 9, 40)
    ).shape == (1, 2)


def test_smallest_images():
    assert build("baseline", (16, 16, 1))(torch.zeros(1, 1, 16, 16)).shape == (1, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": (4, 0)}, r"channels=\(4, 0\)"),
        ({"channels": (4, 2.5)}, r"channels=\(4, 2\.5\)"),
        ({"channels": (True,)}, r"channels=\(True,\)"),
        ({"dense": "64"}, "dense='64'"),
        ({"dense": 3.5}, r"dense=3\.5"),
        ({"dense": -1}, "dense=-1"),
        ({"kernel_size": 4}, "kernel_size=4; expected an odd"),
        ({"kernel_size": 0}, "kernel_size=0; expected an odd"),
        ({"kernel_size": 3.0}, r"kernel_size=3\.0; expected an odd"),
        ({"dropout": 1}, "dropout=1; expected"),
        ({"dropout": -0.1}, r"dropout=-0\.1; expected"),
        ({"dropout": float("nan")}, "dropout=nan; expected"),
        ({"dropout": "0.2"}, "dropout='0.2'; expected"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("conv3_dense1024", "conv3-dense1024"), ("basline", "baseline"), ("conv2", "conv2-dense128")],
)
def test_a_typo_is_answered_with_the_nearest_name(name, nearest):
    with pytest.raises(ValueError, match=f"architecture='{name}'.*Did you mean '{nearest}'"):
        build(name)


def test_a_backbone_is_not_an_architecture():
    with pytest.raises(ValueError, match=r"'densenet121'.*TransferClassifier"):
        build("densenet121")


@pytest.mark.parametrize("architecture", [None, 3, ("baseline",)])
def test_other_types_are_refused(architecture):
    with pytest.raises(ValueError, match=r"expected one of 'baseline'.*an nn\.Module class"):
        build(architecture)


# Networks of one's own


class Own(nn.Module):
    def __init__(self, image_shape, n_outputs, dense=(3,)):
        super().__init__()
        self.seen = image_shape
        h, w, c = image_shape
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(h * w * c, dense[0]), nn.Linear(dense[0], n_outputs)
        )

    def forward(self, x):
        return self.layers(x)


class Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2)

    def forward(self, x):
        return self.norm(self.conv(x)).mean(dim=(2, 3))


class Silent(nn.Module):
    def forward(self, x):
        return x.mean(dim=(1, 2, 3))[:, None].repeat(1, 2)


class Tuple(Silent):
    def forward(self, x):
        return super().forward(x), x


def factory(n_outputs, **options):
    return Own(n_outputs=n_outputs, **options)


def not_a_module():
    return "network"


def test_a_class_gets_what_its_signature_takes():
    network = build(Own, (4, 6, 3), 5)
    assert network.seen == (4, 6, 3)
    assert network(torch.zeros(2, 3, 4, 6)).shape == (2, 5)
    assert n_parameters(build(Own, (4, 6, 3), 5, dense=(9,))) == 73 * 9 + 10 * 5


@pytest.mark.parametrize("architecture", [Pooled, Silent])
def test_a_class_without_parameters(architecture):
    assert type(build(architecture)) is architecture


def test_functions_and_partials():
    assert build(factory, (4, 6, 3)).seen == (4, 6, 3)
    assert n_parameters(build(functools.partial(Own, dense=(9,)), (2, 2, 1))) == 5 * 9 + 10 * 2
    assert isinstance(build(lambda: Pooled()), Pooled)


def test_an_own_network_is_left_in_training_mode_and_untouched():
    network = build(Pooled)
    assert all(module.training for module in network.modules())
    assert network.norm.num_batches_tracked == 0


def test_frozen_parts_stay_in_their_mode():
    given = Pooled()
    given.norm.eval()
    network = build(given)
    assert network.training and not network.norm.training


def test_lazy_layers_get_their_size():
    network = build(lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(2)), (3, 4, 1))
    assert network[1].weight.shape == (2, 12)


def test_double_precision_of_ones_own():
    assert build(lambda: Pooled().double()).conv.weight.dtype == torch.float64


def test_an_instance_is_copied():
    given = Pooled()
    network = build(given)
    assert network is not given
    assert torch.equal(network.conv.weight, given.conv.weight)
    network.conv.weight.data.zero_()
    assert given.conv.weight.abs().sum() > 0


def test_an_instance_that_cannot_be_copied():
    given = Pooled()
    given.lock = threading.Lock()
    with pytest.raises(ValueError, match=r"Pooled cannot be copied.*Pass its class"):
        build(given)


def test_options_that_are_not_taken():
    with pytest.raises(ValueError, match=r"channels, which Own does not take.*n_outputs, dense"):
        build(Own, channels=(3,))
    with pytest.raises(ValueError, match="dropout, which Silent does not take"):
        build(Silent, dropout=0.1)
    with pytest.raises(ValueError, match="Got dense for a module of class Pooled"):
        build(Pooled(), dense=(3,))


@pytest.mark.parametrize(
    ("architecture", "image_shape", "n_outputs", "message"),
    [
        (Pooled, (8, 8, 3), 2, "Pooled cannot take images of 8 x 8 pixels and 3 channels"),
        (Pooled, (8, 8, 1), 1, r"Pooled returned \(2, 2\) for two images; .*\(2, 1\)"),
        (Tuple, (8, 8, 1), 2, "Tuple returned tuple for two images"),
        (nn.Identity, (8, 8, 1), 2, r"Identity returned \(2, 1, 8, 8\)"),
        (not_a_module, (8, 8, 1), 2, "not_a_module returned str"),
    ],
)
def test_networks_that_do_not_return_logits(architecture, image_shape, n_outputs, message):
    with pytest.raises(ValueError, match=message):
        build(architecture, image_shape, n_outputs)
