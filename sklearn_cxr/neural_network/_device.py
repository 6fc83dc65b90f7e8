"""Where a network computes and in which precision, and whose turn it is on a shared GPU."""

import getpass
import os
import tempfile
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from sklearn_cxr.exceptions import FallbackWarning
from sklearn_cxr.neural_network._memory import give_back
from sklearn_cxr.utils._warn import warn

PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
}
# Seconds after which one who waits for a GPU is told for whom.
_PATIENCE = 30.0
_held = threading.local()


def resolve_device(device):
    """Turn the parameter `device` into a torch device that exists here.

    Parameters
    ----------
    device : str or torch.device
        "auto" takes a CUDA GPU where there is one, else Apple's, else the CPU. Anything else is
        torch's own notation, for example "cuda:1".

    Returns
    -------
    torch.device
        The device.

    Raises
    ------
    ValueError
        If the device is not known, or not there.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"device={device!r} is not known. Say 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'."
        ) from error
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (found.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(found.type, False):
        raise ValueError(
            f"device={str(device)!r} is not available here: {torch.cuda.device_count()} CUDA "
            f"GPU(s) seen, MPS {'present' if there['mps'] else 'absent'}. Say device='auto' to "
            "take what there is."
        )
    return found


def device_or_cpu(estimator):
    """Find the device of a fitted estimator, which may have been stored where there was another.

    Parameters
    ----------
    estimator : estimator
        Has a parameter `device`.

    Returns
    -------
    torch.device
        The device; the CPU where that of the fit is not there.

    Warns
    -----
    FallbackWarning
        If it is not there.
    """
    try:
        return resolve_device(estimator.device)
    except ValueError as error:
        warn(f"{type(estimator).__name__} is loaded on the CPU: {error}", FallbackWarning)
        return torch.device("cpu")


def resolve_precision(precision, device):
    """Turn the parameter `precision` into the dtype that the network computes in.

    Parameters
    ----------
    precision : {"auto", "float32", "bfloat16", "float64"}
        "auto" is bfloat16 where the processor multiplies in it, else float32.

    device : torch.device
        Where the network computes.

    Returns
    -------
    torch.dtype
        The dtype.

    Raises
    ------
    ValueError
        If the device cannot compute in that precision.
    """
    if precision == "auto":
        return torch.bfloat16 if has_fast_bfloat16(device) else torch.float32
    if precision == "float64" and device.type == "mps":
        raise ValueError("Apple's GPU has no float64. Say precision='float32' or device='cpu'.")
    return PRECISIONS[precision]


def has_fast_bfloat16(device):
    """Tell whether bfloat16 is computed by the hardware and not emulated."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type == "cpu":
        # Private, but the only way to ask that all supported versions of torch share.
        names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, name, lambda: False)() for name in names)
    return False


@contextmanager
def gpu_turn(device, *, timeout=-1):
    """Wait until no other process of this user trains on the same GPU.

    Two fits that share a GPU run out of its memory; one after the other they take no longer
    than side by side. On a CPU nothing is waited for, nor in a thread that has the turn already.
    At the end the GPU gets back the memory that torch keeps for later.

    Parameters
    ----------
    device : torch.device
        Where the fit will run.

    timeout : float, default=-1
        Seconds to wait; -1 waits for as long as it takes.

    Raises
    ------
    RuntimeError
        If the turn did not come within `timeout`.

    Warns
    -----
    UserWarning
        After half a minute, with the process that is waited for.
    """
    if device.type == "cpu":
        yield
        return
    mine = _held.__dict__.setdefault("names", set())
    name = str(device)
    if device.type == "cuda":
        name = str(torch.cuda.get_device_properties(device).uuid)
    if name in mine:
        # A callback within a fit extracts features, for instance.
        yield
        return
    path = _lock_folder() / f"{name.replace(':', '-')}.lock"
    lock, holder = FileLock(path), path.with_suffix(".pid")
    _wait(lock, holder, device, timeout)
    try:
        mine.add(name)
        holder.write_text(str(os.getpid()))
        yield
    finally:
        mine.discard(name)
        holder.unlink(missing_ok=True)
        try:
            give_back()
        finally:
            lock.release()


def _wait(lock, holder, device, timeout):
    with suppress(Timeout):
        lock.acquire(timeout=min(_PATIENCE, timeout) if timeout >= 0 else _PATIENCE)
        return
    advice = "lower n_jobs, or give each job a GPU of its own with CUDA_VISIBLE_DEVICES."
    left = timeout - _PATIENCE if timeout >= 0 else -1
    if timeout < 0 or left > 0:
        warn(
            f"{_name_of(holder)} has been training on {device} for {_PATIENCE:g} s, and is waited "
            f"for. End it if it hangs, {advice}",
            UserWarning,
        )
        with suppress(Timeout):
            lock.acquire(timeout=left)
            return
    raise RuntimeError(
        f"{_name_of(holder)} has been training on {device} for {timeout} s. Wait for it, {advice}"
    )


def _name_of(holder):
    """Words for the process that has the turn."""
    try:
        number = holder.read_text()
    except OSError:
        return "Another process"
    here = number == str(os.getpid())
    return "Another thread of this process" if here else f"Another process ({number})"


def _lock_folder():
    # A container may run under a number that has no name.
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()
    folder = Path(tempfile.gettempdir()) / f"sklearn-cxr-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
