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
    with _LOCK:
        generators = _generators(device)
        kept = [generator.get_state() for generator in generators]
        try:
            for generator in generators:
                generator.manual_seed(seed)
            yield
        finally:
            for generator, state in zip(generators, kept, strict=True):
                generator.set_state(state)


class _AppleGenerator:
    """The generator of Apple's GPU in the words of the others."""

    get_state = staticmethod(torch.mps.get_rng_state)
    set_state = staticmethod(torch.mps.set_rng_state)
    manual_seed = staticmethod(torch.mps.manual_seed)


def _generators(device):
    """Those that a fit on the device draws from; torch.manual_seed would seed all GPUs."""
    found = [torch.default_generator]
    if device is not None and device.type == "cuda":
        torch.cuda.init()
        index = torch.cuda.current_device() if device.index is None else device.index
        found.append(torch.cuda.default_generators[index])
    elif device is not None and device.type == "mps":
        found.append(_AppleGenerator)
    return found
