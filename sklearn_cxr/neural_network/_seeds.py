"""torch's generators seeded for a while, and put back."""

import contextlib
import threading

import torch

# torch draws dropout and initial weights from global generators only: one fit at a time.
_LOCK = threading.RLock()


@contextlib.contextmanager
def seeded(seed, device=None):
    """Seed torch's global generators within the block and restore them after.

    Parameters
    ----------
    seed : int
        The seed.

    device : torch.device or None, default=None
        A GPU whose generator takes part.
    """
    cuda = device is not None and device.type == "cuda"
    devices = (
        [torch.cuda.current_device() if device.index is None else device.index] if cuda else []
    )
    with _LOCK, torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
