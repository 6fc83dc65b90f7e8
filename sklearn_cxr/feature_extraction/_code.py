"""What a user's own modules do, told apart by their code and by all that they hold."""

import functools
import hashlib
import types

import joblib

_PROVIDERS = {"torch", "torchvision", "timm", "torchxrayvision", "sklearn_cxr"}
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
# Of every nn.Module: its parameters and parts are hashed elsewhere, the rest does not decide.
_OF_MODULES = {
    "_parameters",
    "_buffers",
    "_modules",
    "_non_persistent_buffers_set",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_is_full_backward_hook",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks_with_kwargs",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
    "training",
    *_HOOKS,
}


def code_hash(module):
    """Hash what the hash of the weights of a user's own network does not cover.

    Parameters
    ----------
    module : nn.Module
        The network.

    Returns
    -------
    str
        Changes with the structure of the network, its buffers, hooks, and with the methods and
        the attributes of any part of it that the user has written.

    Raises
    ------
    ValueError
        If an attribute cannot be hashed.
    """
    hasher = _Hasher()
    hasher.module(module)
    return hasher.digest.hexdigest()


class _Hasher:
    # Feeds values, and what they are made of, into one digest.
    def __init__(self):
        self.digest = hashlib.blake2b(digest_size=16)
        # What is within itself, such as a bound method of a module, is met once.
        self._seen = {}

    def _say(self, *words):
        self.digest.update(repr(words).encode())

    def _see(self, value):
        # Kept alive, so that its id is not given to another.
        self._seen[id(value)] = len(self._seen), value

    def module(self, module):
        self._say("module", repr(module))
        for name, buffer in module.named_buffers():
            self._say("buffer", name)
            self.value(buffer, name)
        for name, part in module.named_modules():
            self._see(part)
            for hooks in _HOOKS:
                for hook in vars(part).get(hooks, {}).values():
                    self._say(hooks, name)
                    self.value(hook, f"{name}.{hooks}")
            own = not _provided(type(part))
            self._say("part", name, type(part).__qualname__)
            if own:
                self._class(type(part))
            for key, value in sorted(vars(part).items()):
                if key not in _OF_MODULES and (own or isinstance(value, bool | int | float | str)):
                    self._say("attribute", key)
                    self.value(value, f"{name}.{key}".lstrip("."))

    def _class(self, cls):
        """Methods and plain attributes, also those that are inherited from the user's classes."""
        for level in cls.__mro__:
            if _provided(level) or level is object:
                continue
            for name, value in sorted(vars(level).items()):
                value = getattr(value, "__func__", None) or getattr(value, "fget", None) or value
                if isinstance(value, types.FunctionType):
                    self._say("method", name)
                    self._function(value, name)
                elif not name.startswith("__") and isinstance(value, bool | int | float | str):
                    self._say("constant", name, value)

    def _function(self, function, where):
        if _provided(function):
            self._say(function.__module__, function.__qualname__)
            return
        code = function.__code__
        self._say(code.co_code, code.co_names, _constants(code))
        self.value((function.__defaults__, function.__kwdefaults__), where)
        for cell in function.__closure__ or ():
            # That of super() holds the class, and one may not be filled yet.
            self.value(_content(cell), where)

    def value(self, value, where):
        """Feed one value; `where` names it in errors."""
        if value is None or isinstance(value, bool | int | float | complex | str | bytes):
            self._say(type(value).__name__, value)
        elif isinstance(value, type):
            self._say("class", value.__module__, value.__qualname__)
        elif id(value) in self._seen:
            self._say("seen", self._seen[id(value)][0])
        else:
            self._see(value)
            self._composed(value, where)

    def _composed(self, value, where):
        self._say(type(value).__module__, type(value).__qualname__)
        if isinstance(value, dict):
            self.value(list(value.items()), where)
        elif isinstance(value, list | tuple):
            self._say(len(value))
            for part in value:
                self.value(part, where)
        elif isinstance(value, types.FunctionType):
            self._function(value, where)
        elif isinstance(value, types.MethodType):
            self.value((value.__func__, value.__self__), where)
        elif isinstance(value, functools.partial):
            self.value((value.func, value.args, value.keywords), where)
        elif hasattr(value, "named_modules"):
            # In a list, say, where torch does not know of it: its weights count here.
            self.module(value)
            self.value(dict(value.state_dict()), where)
        elif hasattr(value, "untyped_storage"):
            self._say(str(value.dtype), tuple(value.shape))
            plain = value.detach().to("cpu").contiguous().reshape(-1)
            self.digest.update(_bytes(plain))
        else:
            self._other(value, where)

    def _other(self, value, where):
        try:
            self._say(joblib.hash(value))
        except Exception as error:  # whatever the value's own way to be pickled raises
            raise ValueError(
                f"The feature cache cannot tell networks apart by {where!r}, a "
                f"{type(value).__name__} that cannot be pickled ({error}). Hold numbers, arrays, "
                "tensors or functions in its place, or say cache_dir=None."
            ) from error


def _bytes(tensor):
    import torch

    return tensor.view(torch.uint8).numpy()


def _provided(thing):
    return (getattr(thing, "__module__", None) or "").partition(".")[0] in _PROVIDERS


def _content(cell):
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _constants(code):
    """Constants of a code object, in words that are the same in every process."""
    return [_constant(const) for const in code.co_consts]


def _constant(const):
    if hasattr(const, "co_code"):
        # Code objects of comprehensions and lambdas print their address.
        return const.co_code, const.co_names, _constants(const)
    # The order of a set of strings differs from process to process.
    return sorted(map(repr, const)) if isinstance(const, frozenset) else repr(const)
