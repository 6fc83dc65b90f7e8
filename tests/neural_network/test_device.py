"""Where and in which precision; and one process after the other on a GPU."""

import subprocess
import sys
import threading
import types

import pytest
import torch

from sklearn_cxr.neural_network import _device
from sklearn_cxr.neural_network._device import (
    gpu_turn,
    has_fast_bfloat16,
    resolve_device,
    resolve_precision,
)

CPU = torch.device("cpu")
# No test machine has two kinds of GPU; what is asked of one is its type and its name.
SOME_GPU = torch.device("mps")


def test_devices_by_name():
    assert resolve_device("cpu") == CPU
    assert resolve_device(CPU) == CPU


@pytest.mark.parametrize(
    ("cuda", "mps", "found"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_takes_what_there_is(monkeypatch, cuda, mps, found):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert resolve_device("auto").type == found


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cpu:", ""])
def test_unknown_devices_raise(device):
    with pytest.raises(ValueError, match=r"is not known. Say 'auto', 'cpu'"):
        resolve_device(device)


@pytest.mark.parametrize("device", ["cuda:99", "xpu"])
def test_absent_devices_raise(device):
    with pytest.raises(ValueError, match=f"device='{device}' is not available here: .*'auto'"):
        resolve_device(device)


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float64"])
def test_precisions_by_name(name):
    assert resolve_precision(name, CPU) is getattr(torch, name)


@pytest.mark.parametrize(("fast", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_precision_asks_the_processor(monkeypatch, fast, dtype):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: fast, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert has_fast_bfloat16(CPU) is fast
    assert resolve_precision("auto", CPU) is dtype


@pytest.mark.parametrize(("capability", "fast"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_bfloat16_of_gpus_by_their_generation(monkeypatch, capability, fast):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert has_fast_bfloat16(torch.device("cuda")) is fast


def test_apples_gpu_has_no_float64():
    with pytest.raises(ValueError, match="has no float64"):
        resolve_precision("float64", SOME_GPU)
    assert resolve_precision("auto", SOME_GPU) is torch.float32


def test_nobody_waits_for_a_cpu(monkeypatch):
    monkeypatch.setattr(_device, "_lock_folder", lambda: pytest.fail("locked"))
    with gpu_turn(CPU), gpu_turn(CPU):
        pass


@pytest.fixture
def locks(monkeypatch, tmp_path):
    monkeypatch.setattr(_device.tempfile, "gettempdir", lambda: str(tmp_path))
    with gpu_turn(SOME_GPU):
        (folder,) = tmp_path.iterdir()
        (lock,) = folder.glob("*.lock")
    return lock


def test_the_folder_is_the_users_own(locks):
    assert locks.parent.stat().st_mode & 0o077 == 0
    assert locks.name == "mps.lock"


HOLD = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_processes_take_turns(locks):
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(locks)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RuntimeError, match=r"has been training on mps for 0\.1 s"):
            with gpu_turn(SOME_GPU, timeout=0.1):
                pytest.fail("had the turn of another")
        threading.Timer(0.2, other.stdin.close).start()
        with gpu_turn(SOME_GPU, timeout=30):
            assert other.wait(30) == 0


def test_two_threads_take_turns(locks):
    running, most = [], []

    def fit():
        with gpu_turn(SOME_GPU, timeout=30):
            running.append(1)
            most.append(len(running))
            threading.Event().wait(0.05)
            running.pop()

    threads = [threading.Thread(target=fit) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1]


def test_the_turn_ends_with_an_error(locks):
    with pytest.raises(KeyboardInterrupt), gpu_turn(SOME_GPU):
        raise KeyboardInterrupt
    with gpu_turn(SOME_GPU, timeout=0):
        pass


def test_gpus_of_one_machine_have_turns_of_their_own(monkeypatch, tmp_path):
    monkeypatch.setattr(_device.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(
        torch.cuda,
        "get_device_properties",
        lambda device: types.SimpleNamespace(uuid=f"GPU-{device.index}"),
    )
    with gpu_turn(torch.device("cuda:0"), timeout=0), gpu_turn(torch.device("cuda:1"), timeout=0):
        (folder,) = tmp_path.iterdir()
        assert sorted(path.name for path in folder.glob("*.lock")) == ["GPU-0.lock", "GPU-1.lock"]
