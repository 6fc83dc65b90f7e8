"""What a GPU is spared, with "meta" or a stand-in for it, since tests have none."""

import pickle
import threading
import time
import types

import joblib
import numpy as np
import pytest
import torch
from network_common import InChunks, StagedBackbone, cnn, make_films, transfer
from tiny_networks import TinyBackbone
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sklearn_cxr.exceptions import FallbackWarning
from sklearn_cxr.neural_network import _augmentation_ops, _device, _memory, _sources
from sklearn_cxr.neural_network._augmentation import make_augmentation
from sklearn_cxr.neural_network._device import gpu_turn
from sklearn_cxr.neural_network._loss import hits
from sklearn_cxr.neural_network._memory import is_out_of_memory, network_fits, retried
from sklearn_cxr.neural_network._optim import WeightAverage
from sklearn_cxr.neural_network._prepare import Prepare, send, to_host_tensor
from sklearn_cxr.neural_network._seeds import seeded
from sklearn_cxr.neural_network._sources import Batches, RowSource, whole_on_device
from sklearn_cxr.neural_network._state import on_host, rebuilding

X, Y, _ = make_films()
CPU, META = torch.device("cpu"), torch.device("meta")
GPU = torch.device("mps")
SHORT = torch.OutOfMemoryError("CUDA out of memory.")


class Crossings(TorchDispatchMode):
    """Count what is copied from the host to "meta"."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given = [a for a in args if isinstance(a, torch.Tensor)]
        self.count += (
            isinstance(out, torch.Tensor)
            and out.device == META
            and any(tensor.device == CPU for tensor in given)
        )
        return out


def free_memory(monkeypatch, n_bytes):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (n_bytes, 10 * n_bytes))


class Rows:
    """A view with no more than is asked of one."""

    def __init__(self, rows):
        self._rows, self.shape, self.dtype = rows, rows.shape, rows.dtype

    def __len__(self):
        return len(self._rows)

    def __getitem__(self, key):
        return self._rows[key]


@pytest.mark.parametrize(
    ("dtype", "held"), [("uint8", 1), ("uint16", 4), ("float16", 4), ("uint32", 8), ("<f8", 8)]
)
def test_what_fits_is_counted_as_torch_holds_it(monkeypatch, dtype, held):
    rows, cuda = Rows(np.zeros((10, 20), dtype)), torch.device("cuda")
    for share, fits in ((1.01, True), (0.99, False)):
        free_memory(monkeypatch, int(share * 2 * 200 * held))
        assert _sources._fits(rows, (4, 5), cuda) is fits


def test_what_torch_keeps_is_given_back_before_it_is_counted(monkeypatch):
    told = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: told.append("back"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda d: told.append("count") or (9, 9))
    _sources._fits(X, (9, 9), torch.device("cuda"))
    assert told == ["back", "count"]


def test_rows_go_to_the_device_in_pieces(monkeypatch):
    rows = InChunks(X)
    monkeypatch.setattr(_sources, "_CHUNK_BYTES", 5 * 81)
    np.testing.assert_array_equal(whole_on_device(rows, (9, 9), CPU), X)
    assert rows.largest == 5


def test_a_full_device_gets_its_rows_batch_by_batch(monkeypatch):
    monkeypatch.setattr(_sources, "_fits", lambda *args: True)

    def full(*args):
        raise SHORT

    with monkeypatch.context() as patch:
        patch.setattr(_sources, "whole_on_device", full)
        source = RowSource(X, (9, 9), CPU)
    assert not source.resident
    np.testing.assert_array_equal(source.take(np.array([3, 1])), X[[3, 1]])


def test_an_epoch_copies_its_order_once(monkeypatch):
    monkeypatch.setattr(_sources, "_fits", lambda *args: True)
    source = RowSource(X, (9, 9), META)
    targets = {"labels": torch.empty(24, device=META)}
    batches = Batches(source, targets, np.arange(24), 5, shuffle=np.random.RandomState(0))
    with Crossings() as crossings:
        assert [len(rows) for rows, _ in batches] == [5, 5, 5, 5, 4]
    assert crossings.count == 1


def test_constants_are_copied_once():
    prepare, images = Prepare(0, 255, [0.5] * 3, [0.2] * 3), torch.empty(2, 8, 8, device=META)
    with Crossings() as crossings:
        for _ in range(3):
            prepare(images)
            prepare.normalise(prepare.unit(images))
    assert crossings.count == 4
    assert len(pickle.dumps(prepare)) == len(pickle.dumps(Prepare(0, 255, [0.5] * 3, [0.2] * 3)))


def test_constants_met_in_inference_serve_gradients():
    prepare = Prepare(0, 1, [0.5], [0.2])
    images = torch.rand(1, 1, 4, 4, requires_grad=True)
    with torch.inference_mode():
        prepare.normalise(images.detach())
    prepare.normalise(images).sum().backward()
    torch.testing.assert_close(images.grad, torch.full_like(images, 5.0))


def test_right_answers_are_counted_where_they_are():
    logits = torch.empty(4, 3, device=META)
    with Crossings() as crossings:
        hits(logits, {"labels": torch.empty(4, 3, device=META)}, True)
    assert crossings.count == 0


@pytest.mark.parametrize("bounded", [True, False])
def test_draws_of_augmentation_are_not_waited_for(monkeypatch, bounded):
    """All of them go through `send`, which does not wait."""
    monkeypatch.setattr(
        _augmentation_ops,
        "send",
        lambda v, device: torch.empty(v.shape, dtype=v.dtype, device=META),
    )
    names = ["strong", "quarter_turns", "vertical_flip", "blur"]
    for spec in (names, ["flip", "quarter_turns"]):
        augment = make_augmentation(spec, bounded=bounded, fill=0.5)
        with Crossings() as crossings:
            assert augment(torch.empty(6, 1, 16, 16, device=META)).shape == (6, 1, 16, 16)
        assert crossings.count == 0


def test_copies_to_a_gpu_are_pinned():
    told = []

    class Stand:
        def pin_memory(self):
            told.append("pinned")
            return self

        def to(self, device, non_blocking=False):
            told.append((device.type, non_blocking))
            return self

    send(Stand(), torch.device("cuda"))
    assert told == ["pinned", ("cuda", True)]


@pytest.mark.parametrize("dtype", ["float64", "uint32"])
def test_apples_gpu_gets_no_float64(dtype):
    values = np.arange(4, dtype=dtype)
    assert to_host_tensor(values, GPU).dtype == torch.float32
    assert to_host_tensor(values, CPU).dtype == torch.float64
    source = RowSource(values.reshape(2, 2), (2,), types.SimpleNamespace(type="mps"))
    assert source.host(np.array([0, 1])).dtype == torch.float32


@pytest.mark.parametrize("library", ["CUDNN", "CUBLAS"])
def test_memory_that_libraries_lack(library):
    assert is_out_of_memory(RuntimeError(f"{library} error: {library}_STATUS_ALLOC_FAILED"))


def test_a_network_that_does_not_fit_is_told_of():
    with pytest.raises(MemoryError, match="cpu ran out of memory while the network"):
        with network_fits(CPU):
            raise SHORT
    with pytest.raises(RuntimeError, match="shapes"), network_fits(CPU):
        raise RuntimeError("shapes")


def test_a_second_try_is_made_where_memory_was_freed():
    left = [SHORT, SHORT]

    def attempt():
        if left:
            raise left.pop()
        return "done"

    freed = iter([True, False, True])
    with pytest.raises(torch.OutOfMemoryError):
        retried(attempt, lambda: next(freed))
    left.append(SHORT)
    with pytest.raises(torch.OutOfMemoryError):
        retried(attempt, lambda: next(freed))
    left.append(SHORT)
    assert retried(attempt, lambda: next(freed)) == "done"


class Full(nn.Module):
    """A network whose first batches do not fit for as long as rows are on the device."""

    sources = []

    def __init__(self, image_shape, n_outputs):
        super().__init__()
        self.inner = nn.Linear(81, n_outputs)

    def forward(self, images):
        if any(source.resident for source in self.sources):
            raise SHORT
        return self.inner(images.flatten(1))


def test_resident_images_leave_where_a_batch_does_not_fit(monkeypatch):
    Full.sources = []
    expected = cnn(Full, batch_size=5, precision="float64").fit(X, Y)
    monkeypatch.setattr(_sources, "_fits", lambda *args: True)
    load = RowSource._on_device
    monkeypatch.setattr(
        RowSource, "_on_device", lambda self: Full.sources.append(self) or load(self)
    )
    clf = cnn(Full, batch_size=5, precision="float64").fit(X, Y)
    assert len(Full.sources) == 1
    np.testing.assert_allclose(clf.predict_proba(X), expected.predict_proba(X))


class Greedy(nn.Module):
    """Takes no more than four rows in training."""

    def __init__(self, image_shape, n_outputs):
        super().__init__()
        self.inner = nn.Linear(81, n_outputs)

    def forward(self, images):
        if len(images) > 4:
            raise SHORT
        return self.inner(images.flatten(1))


def test_steps_that_look_for_a_size_are_whole_and_tell_nobody():
    from skorch.callbacks import Callback

    class Counts(Callback):
        told = 0

        def on_grad_computed(self, *args, **kwargs):
            type(self).told += 1

    class Stepped(torch.optim.SGD):
        steps = 0

        def step(self, closure=None):
            type(self).steps += 1
            return super().step(closure)

    clf = cnn(Greedy, batch_size=16, optimizer=Stepped, weight_decay=0, callbacks=[Counts()])
    with pytest.raises(MemoryError, match="batch_size=4 fits"):
        clf.fit(X, Y)
    assert (Stepped.steps, Counts.told) == (1, 0)


def test_modes_are_set_where_they_change(monkeypatch):
    walks = []
    monkeypatch.setattr(
        StagedBackbone, "train", lambda self, mode=True: walks.append(mode) or _train(self, mode)
    )
    _train = nn.Module.train
    transfer(StagedBackbone, max_epochs=2, batch_size=4, validation_fraction=0.5).fit(
        X, Y, groups=np.arange(24)
    )
    assert walks.count(True) <= 3
    assert walks.count(False) <= 6


def test_the_average_follows_tied_weights_and_buffers_that_are_replaced():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.BatchNorm1d(2))
    module[1].weight = module[0].weight
    with torch.no_grad():
        module[0].weight.fill_(1.0)
    average = WeightAverage(module, 0.5)
    with torch.no_grad():
        module[0].weight.fill_(3.0)
    module[2].running_mean = torch.full((2,), 11.0)
    average.update()
    kept = 2 / 11
    with average.in_place():
        torch.testing.assert_close(module[1].weight.data, torch.full((2, 2), 3 - 2 * kept))
        torch.testing.assert_close(module[2].running_mean, torch.full((2,), 11 * (1 - kept)))
    assert (module[0].weight == 3).all()
    assert (module[2].running_mean == 11).all()


@pytest.fixture
def turns(monkeypatch, tmp_path):
    monkeypatch.setattr(_device.tempfile, "gettempdir", lambda: str(tmp_path))
    return tmp_path


def test_a_thread_that_has_the_turn_gets_it_again(turns):
    with gpu_turn(GPU), gpu_turn(GPU, timeout=0.1):
        pass
    with gpu_turn(GPU, timeout=0.1):
        pass


def test_who_is_waited_for_is_said(turns, monkeypatch):
    monkeypatch.setattr(_device, "_PATIENCE", 0.1)
    held, go_on = threading.Event(), threading.Event()

    def hold():
        with gpu_turn(GPU):
            held.set()
            go_on.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    threading.Timer(0.5, go_on.set).start()
    with pytest.warns(UserWarning, match=r"Another thread of this process has been training on"):
        with gpu_turn(GPU):
            pass
    thread.join()


def test_memory_goes_back_at_the_end_of_a_turn(turns, monkeypatch):
    told = []
    monkeypatch.setattr(_device, "give_back", lambda: told.append("back"))
    with gpu_turn(GPU):
        assert told == []
    assert told == ["back"]


def test_nothing_is_asked_of_a_gpu_that_was_never_used(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: pytest.fail("woken up"))
    _memory.give_back()


def test_loading_waits_for_no_fit(tmp_path):
    clf = cnn("baseline", channels=(2,), dense=(), max_epochs=1).fit(X, Y)
    joblib.dump(clf, tmp_path / "clf.joblib")
    training, go_on = threading.Event(), threading.Event()
    drawn = []

    def fit():
        with seeded(3):
            drawn.append(torch.rand(2))
            training.set()
            go_on.wait(20)
            drawn.append(torch.rand(2))

    thread = threading.Thread(target=fit)
    thread.start()
    training.wait(10)
    start = time.monotonic()
    loaded = joblib.load(tmp_path / "clf.joblib")
    waited = time.monotonic() - start
    go_on.set()
    thread.join()
    assert waited < 15
    np.testing.assert_allclose(loaded.predict_proba(X), clf.predict_proba(X))
    expected = torch.rand(4, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(torch.cat(drawn), expected)


def test_a_network_is_rebuilt_without_the_global_generator():
    before = torch.get_rng_state()
    with rebuilding():
        nn.Linear(2, 2)
        drawn = [torch.rand(2), torch.randn(2), torch.randperm(3), torch.randint(5, (2,))]
        drawn += [torch.rand_like(drawn[0]), torch.randn_like(drawn[0])]
    assert (torch.get_rng_state() == before).all()
    assert len(drawn) == 6


def test_a_loaded_network_goes_to_its_device_when_it_predicts(monkeypatch):
    clf = cnn(max_epochs=1).fit(X, Y)
    text = pickle.dumps(clf)
    with monkeypatch.context() as patch:
        patch.setattr(_device, "resolve_device", lambda device: pytest.fail("looked for"))
        loaded = pickle.loads(text)
    asked = []
    monkeypatch.setattr(_device, "resolve_device", lambda d: asked.append(d) or CPU)
    for _ in range(2):
        np.testing.assert_allclose(loaded.predict_proba(X), clf.predict_proba(X))
    assert asked == ["cpu"]


def test_a_device_that_is_gone_is_told_of_once():
    clf = cnn(max_epochs=1).fit(X, Y)
    expected = clf.predict_proba(X)
    loaded = pickle.loads(pickle.dumps(clf.set_params(device="cuda:99")))
    with pytest.warns(FallbackWarning, match="loaded on the CPU"):
        loaded.predict_proba(X)
    np.testing.assert_allclose(loaded.predict_proba(X), expected)


class Elsewhere(TinyBackbone):
    """Says that its weights are on a GPU, until it is told to leave."""

    place = "cuda"

    def parameters(self, recurse=True):
        if self.place == "cpu":
            return super().parameters(recurse)
        return iter([types.SimpleNamespace(device=torch.device(self.place))])

    def to(self, device):
        self.place = device
        return self


def test_what_is_stored_of_an_own_module_is_on_the_host():
    network, plain = Elsewhere(), TinyBackbone()
    assert on_host(network).place == "cpu"
    assert network.place == "cuda"
    assert on_host(plain) is plain
    assert on_host("densenet121") == "densenet121"
    clf = transfer(plain, max_epochs=1).fit(X, Y)
    clf.backbone = clf._spec["backbone"] = network
    state = clf.__getstate__()
    assert state["backbone"].module.place == "cpu"
    assert state["_spec"]["backbone"] is state["backbone"]
