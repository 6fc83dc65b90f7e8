"""torch's generators seeded for a while, and put back."""

import contextlib
import threading

import torch
from torch.utils._python_dispatch import TorchDispatchMode

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


_WITH_GENERATOR = {
    torch.ops.aten.rand.default: torch.ops.aten.rand.generator,
    torch.ops.aten.randn.default: torch.ops.aten.randn.generator,
    torch.ops.aten.randint.default: torch.ops.aten.randint.generator,
    torch.ops.aten.randint.low: torch.ops.aten.randint.low_generator,
    torch.ops.aten.randperm.default: torch.ops.aten.randperm.generator,
}
_LIKE_ANOTHER = {
    torch.ops.aten.rand_like.default: torch.Tensor.uniform_,
    torch.ops.aten.randn_like.default: torch.Tensor.normal_,
}


class OwnDraws(TorchDispatchMode):
    """Context in which this thread draws from a generator of its own, seeded with 0.

    For networks whose initial weights are overwritten: neither the global generator nor the
    lock of those who train with it is touched.
    """

    def __init__(self):
        super().__init__()
        self._generator = torch.Generator().manual_seed(0)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Hand the generator to what draws on the CPU."""
        kwargs = dict(kwargs or {})
        device = kwargs.get("device") or getattr(args[0] if args else None, "device", None)
        if device is None or torch.device(device).type == "cpu":
            if func in _LIKE_ANOTHER:
                empty = torch.empty_like(*args, **kwargs)
                return _LIKE_ANOTHER[func](empty, generator=self._generator)
            func = _WITH_GENERATOR.get(func, func)
            takes = any(argument.name == "generator" for argument in func._schema.arguments)
            if takes and kwargs.get("generator") is None:
                kwargs["generator"] = self._generator
        return func(*args, **kwargs)


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
