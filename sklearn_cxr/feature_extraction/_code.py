"""Code of a user's own modules, told apart by what it does."""

import hashlib

_PROVIDERS = {"torch", "torchvision", "timm", "torchxrayvision", "sklearn_cxr"}


def code_hash(module):
    """Hash the code of a user's own modules, which the hash of their weights does not cover.

    Parameters
    ----------
    module : nn.Module
        The network.

    Returns
    -------
    str
        Changes with the structure of the network, and with the ``forward`` and the plain
        attributes of any part of it that the user has written.
    """
    digest = hashlib.blake2b(repr(module).encode(), digest_size=16)
    for name, part in module.named_modules():
        cls = type(part)
        code = getattr(cls.forward, "__code__", None)
        if code is None or cls.__module__.partition(".")[0] in _PROVIDERS:
            continue
        plain = {key: value for key, value in vars(part).items() if _is_plain(value)}
        digest.update(repr((name, cls.__qualname__, sorted(plain.items()))).encode())
        digest.update(code.co_code + repr((code.co_names, _constants(code))).encode())
    return digest.hexdigest()


def _is_plain(value):
    return isinstance(value, bool | int | float | str)


def _constants(code):
    """Constants of a code object, in words that are the same in every process."""
    return [_constant(const) for const in code.co_consts]


def _constant(const):
    if hasattr(const, "co_code"):
        # Code objects of comprehensions and lambdas print their address.
        return const.co_code, const.co_names, _constants(const)
    # The order of a set of strings differs from process to process.
    return sorted(map(repr, const)) if isinstance(const, frozenset) else repr(const)
