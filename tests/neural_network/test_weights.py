import dataclasses
import hashlib
import io
import pickle
import urllib.error
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_cxr.exceptions import ContaminationWarning, WeightsError
from sklearn_cxr.neural_network import WeightsInfo, check_contamination
from sklearn_cxr.neural_network import _checkpoints as checkpoints
from sklearn_cxr.neural_network._checkpoints import fetch, load_state, read_state
from sklearn_cxr.neural_network._weights import state_hash


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        OrderedDict(conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4), out=nn.Conv2d(4, 2, 1))
    )


@pytest.fixture(autouse=True)
def own_generator():
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    return folder


def info(**changes):
    given = dict(mean=(0.5,), std=(0.5,), size=224, channels=1, **changes)
    return WeightsInfo("some", **given)


class TestContamination:
    @pytest.mark.parametrize(
        ("trained_on", "dataset"),
        [
            ("nih", "NIH"),
            ("nih", "ChestX-ray14"),
            ("chexpert", "CheXpert"),
            ("mimic", "MIMIC-CXR"),
            ("kermany", "PneumoniaMNIST"),
            ("imagenet", "ImageNet-1k"),
            ("rsna", "nih"),
            ("nih", "SIIM-ACR"),
            ("a private one", "A private one"),
        ],
    )
    def test_same_films_warn_whatever_the_spelling(self, trained_on, dataset):
        with pytest.warns(ContaminationWarning, match=f"trained on {trained_on}") as caught:
            assert check_contamination(info(trained_on=("vindr", trained_on)), dataset) is True
        assert caught[0].filename == __file__

    @pytest.mark.parametrize("dataset", ["kermany", "padchest", "something new", None])
    def test_other_films_do_not(self, dataset):
        assert check_contamination(info(trained_on=("nih", "rsna")), dataset) is False

    def test_nothing_known_is_nothing_checked(self):
        assert check_contamination(None, "nih") is False
        assert check_contamination(info(), "nih") is False

    def test_a_description_cannot_be_changed_and_can_be_pickled(self):
        description = info(trained_on=("nih",))
        with pytest.raises(dataclasses.FrozenInstanceError):
            description.trained_on = ()
        assert pickle.loads(pickle.dumps(description)) == description


class TestHash:
    def test_depends_on_values_names_and_types_alone(self):
        first = state_hash(net())
        assert len(first) == 32 and first == state_hash(net())
        assert first == state_hash(net().to(memory_format=torch.channels_last).eval())
        assert first != state_hash(net(1))
        assert first != state_hash(net().double())
        assert first != state_hash(nn.Sequential(*net()))
        assert len(state_hash(net().to(torch.bfloat16))) == 32

    def test_batch_statistics_count(self):
        changed = net()
        changed.norm.running_var[0] = 2
        assert state_hash(changed) != state_hash(net())


class TestReading:
    def test_what_torch_and_safetensors_wrote(self, tmp_path):
        state = net().state_dict()
        torch.save(state, tmp_path / "a.pth")
        torch.save({"epoch": 3, "state_dict": state}, tmp_path / "b.pt")
        torch.save({"model": {"state_dict": state}}, tmp_path / "c.pth")
        torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
        files = ["a.pth", "b.pt", "c.pth", "old.pth"]
        safetensors = pytest.importorskip("safetensors.torch", reason="an extra")
        safetensors.save_file(state, tmp_path / "d.safetensors")
        for name in [*files, "d.safetensors"]:
            got = read_state(tmp_path / name)
            assert set(got) == set(state)
            assert all(torch.equal(got[k], state[k]) for k in state)

    def test_checksum(self, tmp_path):
        path = tmp_path / "a.pth"
        torch.save(net().state_dict(), path)
        right = hashlib.sha256(path.read_bytes()).hexdigest()
        assert read_state(path, sha256=right.upper())
        with pytest.raises(WeightsError, match=f"a.pth has the SHA-256 {right}; expected 0000"):
            read_state(path, sha256="0" * 64)

    def test_a_pickle_that_runs_code_is_not_opened(self, tmp_path):
        path = tmp_path / "whole.pth"
        torch.save(net(), path)
        with pytest.raises(WeightsError, match=r"whole.pth holds more than tensors"):
            read_state(path)

    @pytest.mark.parametrize("suffix", ["pth", "safetensors"])
    @pytest.mark.parametrize("cut", [0, 100])
    def test_damaged_files(self, tmp_path, suffix, cut):
        pytest.importorskip("safetensors", reason="an extra")
        from safetensors.torch import save_file

        path = tmp_path / f"cut.{suffix}"
        (save_file if suffix == "safetensors" else torch.save)(net().state_dict(), path)
        path.write_bytes(path.read_bytes()[:cut])
        with pytest.raises(WeightsError, match=f"cut.{suffix}"):
            read_state(path)

    def test_other_content(self, tmp_path):
        torch.save([torch.zeros(2)], tmp_path / "list.pth")
        with pytest.raises(WeightsError, match=r"list.pth holds list; expected the tensors"):
            read_state(tmp_path / "list.pth")
        torch.save({"conv": torch.zeros(2), "epoch": 3}, tmp_path / "mixed.pth")
        with pytest.raises(WeightsError, match=r"holds epoch \(int\) beside tensors"):
            read_state(tmp_path / "mixed.pth")
        with pytest.raises(FileNotFoundError, match=r"gone.pth' is no file"):
            read_state(tmp_path / "gone.pth")


class TestLoading:
    def test_any_prefix_is_taken_off(self):
        state = net(1).state_dict()
        for prefix in ("module.", "module.model.", "densenet121.", "net.backbone.features."):
            target = net()
            load_state(target, {prefix + k: v for k, v in state.items()}, source="x")
            assert state_hash(target) == state_hash(net(1))

    def test_own_names_that_look_like_a_prefix_stay(self):
        make = lambda seed: nn.ModuleDict({"model": net(seed), "norm": nn.BatchNorm2d(4)})  # noqa: E731 a function in one line
        target = make(0)
        load_state(target, make(1).state_dict(), source="x")
        assert state_hash(target) == state_hash(make(1))

    def test_a_classifier_may_be_left_over(self):
        extra = {"fc.weight": torch.zeros(5, 2), "fc.bias": torch.zeros(5)}
        target = net()
        load_state(target, net(1).state_dict() | extra, source="x")
        assert state_hash(target) == state_hash(net(1))
        prefixed = {f"module.{k}": v for k, v in (net(1).state_dict() | extra).items()}
        load_state(net(), prefixed, source="x")
        backbone = {f"backbone.{k}": v for k, v in net(1).state_dict().items()}
        load_state(net(), backbone | {"head.weight": torch.zeros(3)}, source="x")
        load_state(
            net(), net(1).state_dict() | {"top.b": torch.zeros(3)}, source="x", heads=("top.",)
        )

    def test_anything_else_is_reported_and_nothing_loaded(self):
        state = net(1).state_dict()
        state["out.weight"] = torch.zeros(2, 5, 1, 1)
        state["decoder.weight"] = torch.zeros(3)
        del state["norm.running_mean"], state["norm.running_var"]
        target = net()
        with pytest.raises(WeightsError) as caught:
            load_state(target, state, source="weights='x.pth'")
        message = str(caught.value)
        assert message.startswith("weights='x.pth' does not fit the network")
        assert "the network has 9 tensors, the file 8" in message
        assert "2 missing in the file: norm.running_mean, norm.running_var" in message
        assert (
            "1 of another shape: out.weight (file (2, 5, 1, 1), network (2, 4, 1, 1))" in message
        )
        assert "1 in the file but not in the network: decoder.weight" in message
        assert state_hash(target) == state_hash(net())

    def test_long_reports_are_cut(self):
        with pytest.raises(
            WeightsError, match=r"8 missing in the file: conv.weight, .* and 3 more"
        ):
            load_state(net(), {"a": torch.zeros(1)}, source="x")

    def test_files_without_batch_counts_and_in_half_precision(self):
        state = {k: v for k, v in net(1).state_dict().items() if "num_batches" not in k}
        state["conv.weight"] = state["conv.weight"].half()
        target = net()
        load_state(target, state, source="x")
        assert target.conv.weight.dtype == torch.float32
        np.testing.assert_allclose(
            target.conv.weight.detach(), net(1).conv.weight.detach(), rtol=1e-3, atol=1e-6
        )

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_not_finite(self, value):
        state = net(1).state_dict()
        state["norm.bias"] = torch.full((4,), value)
        with pytest.raises(WeightsError, match=r"NaN or infinite values in norm.bias"):
            load_state(net(), state, source="x")

    def test_a_first_layer_for_one_channel_gives_the_same_for_a_repeated_image(self):
        state = net(1).state_dict()
        state["conv.weight"] = grey = torch.randn(4, 1, 3, 3)
        target = net()
        load_state(target, state, source="x", stem="conv.weight")
        image = torch.rand(2, 1, 8, 8)
        expected = nn.functional.conv2d(image, grey, state["conv.bias"])
        got = target.conv(image.expand(-1, 3, -1, -1))
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
        with pytest.raises(WeightsError, match=r"conv.weight \(file \(4, 1, 3, 3\)"):
            load_state(net(), state, source="x")


class TestDownload:
    def test_a_file_in_the_folder_is_taken(self, hub, monkeypatch):
        monkeypatch.setattr(checkpoints.urllib.request, "urlopen", None)
        (hub / "a-1234.pth").write_bytes(b"x")
        assert fetch("https://example.org/b/a-1234.pth") == hub / "a-1234.pth"

    def test_what_is_downloaded_is_checked(self, hub, tmp_path):
        source = tmp_path / "source.pth"
        source.write_bytes(b"numbers" * 1000)
        right = hashlib.sha256(source.read_bytes()).hexdigest()
        with pytest.raises(WeightsError, match="SHA-256"):
            fetch(source.as_uri(), name="new.pth", sha256="00000000")
        assert [p.name for p in hub.iterdir() if p.suffix != ".lock"] == []
        path = fetch(source.as_uri(), name="new.pth", sha256=right[:8])
        assert path == hub / "new.pth" and path.read_bytes() == source.read_bytes()

    def test_without_a_network_the_message_says_what_goes_where(self, hub, monkeypatch):
        def offline(request, timeout):
            assert 0 < timeout <= 10
            raise urllib.error.URLError("no route")

        monkeypatch.setattr(checkpoints.urllib.request, "urlopen", offline)
        with pytest.raises(WeightsError) as caught:
            fetch("https://example.org/b/a-1234.pth")
        assert "https://example.org/b/a-1234.pth could not be downloaded" in str(caught.value)
        assert str(hub / "a-1234.pth") in str(caught.value)

    def test_a_broken_connection_leaves_nothing(self, hub, monkeypatch):
        class Broken(io.BytesIO):
            headers = {"Content-Length": "10"}

        monkeypatch.setattr(
            checkpoints.urllib.request, "urlopen", lambda request, timeout: Broken(b"12345")
        )
        with pytest.raises(WeightsError, match="5 of 10 bytes came"):
            fetch("https://example.org/b/a-1234.pth")
        assert not [p for p in hub.iterdir() if p.suffix != ".lock"]
