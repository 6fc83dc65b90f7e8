"""What a user's own modules do, told apart by their code and by all that they hold."""

import dis
import enum
import functools
import hashlib
import types

import joblib
import numpy as np

_PROVIDERS = {"torch", "torchvision", "timm", "torchxrayvision", "sklearn_cxr"}
# Their classes, from which those of users derive, hold what cannot be hashed and decides nothing.
_OF_PYTHON = {"enum", "typing", "typing_extensions"}
# Not by the classes themselves: to import torch takes seconds.
_OF_TORCH = {"<class 'torch.dtype'>", "<class 'torch.device'>"}
# The one from a dict is that of class bodies since Python 3.12.
_LOOKUPS = {"LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS", "LOAD_NAME"}
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_UNWRAPPED = (
    (staticmethod | classmethod, "__func__"),
    (property, "fget"),
    (functools.cached_property, "func"),
)
# They tell of slots and the like, and hold nothing themselves.
_DESCRIPTORS = (
    types.MemberDescriptorType,
    types.GetSetDescriptorType,
    types.ClassMethodDescriptorType,
)
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
        the attributes, also those of the class, of any part of it that the user has written, and
        with the data, such as numbers, texts, arrays and what containers hold of them, that its
        methods find among the globals of their module. Of other globals the names alone count.

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
    def __init__(self, around=()):
        self.digest = hashlib.blake2b(digest_size=16)
        # What is within itself, such as a bound method of a module, is met once.
        self._seen, self._classes = {}, {}
        self._around = tuple(around)

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
                self._class(type(part), name)
            for key, value in sorted(vars(part).items()):
                if key not in _OF_MODULES and (own or isinstance(value, bool | int | float | str)):
                    self._say("attribute", key)
                    self.value(value, f"{name}.{key}".lstrip("."))

    def _class(self, cls, part):
        """Methods and attributes, also those that are inherited from the user's classes."""
        if cls in self._classes:
            self._say("class met", self._classes[cls])
            return
        self._classes[cls] = len(self._classes)
        for level in cls.__mro__:
            if _provided(level) or _package(level) in _OF_PYTHON or level is object:
                continue
            for name, value in sorted(vars(level).items()):
                value = _unwrapped(value)
                if isinstance(value, types.FunctionType):
                    self._say("method", name)
                    self._function(value, name)
                elif isinstance(value, type) and _package(value) == _package(level):
                    # Other classes count by their names; one of the user's is a namespace, too.
                    self._say("class within", name, value.__qualname__)
                    self._class(value, f"{part}.{name}".lstrip("."))
                # `_abc_impl` is what Python itself notes of an abstract class.
                elif not name.startswith(("__", "_abc_")) and not isinstance(value, _DESCRIPTORS):
                    self._say("constant", name)
                    self._apart(value, f"{part}.{name}".lstrip("."))

    def _apart(self, value, where):
        """Feed a value on its own: what it shares with instances is not shared in a copy."""
        self._say(self._digest_of(value, where))

    def _digest_of(self, value, where):
        if any(value is outer for outer in self._around):
            return "around"
        hasher = _Hasher((*self._around, value))
        hasher.value(value, where)
        return hasher.digest.hexdigest()

    def _function(self, function, where):
        if _provided(function):
            self._say(function.__module__, function.__qualname__)
            return
        code = function.__code__
        self._say(code.co_code, code.co_names, _constants(code))
        for name in sorted(_names(code)):
            if name in function.__globals__:
                self._say("global", name)
                self._apart(_data(function.__globals__[name]), name)
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
        elif isinstance(value, types.ModuleType):
            self._say("python module", value.__name__)
        elif id(value) in self._seen:
            self._say("seen", self._seen[id(value)][0])
        else:
            self._see(value)
            self._composed(value, where)

    def _composed(self, value, where):
        self._say(type(value).__module__, type(value).__qualname__)
        if isinstance(value, enum.Enum):
            self.value((value.name, value.value), where)
        elif isinstance(value, dict):
            self.value(list(value.items()), where)
        elif isinstance(value, list | tuple):
            self._say(len(value))
            for part in value:
                self.value(part, where)
        elif isinstance(value, set | frozenset):
            # Their order differs from process to process.
            self._say(sorted(self._digest_of(part, where) for part in value))
        elif isinstance(value, types.FunctionType):
            self._function(value, where)
        elif isinstance(value, types.MethodType):
            self.value((value.__func__, value.__self__), where)
        elif isinstance(value, functools.partial | functools.partialmethod):
            self.value((value.func, value.args, value.keywords), where)
        elif isinstance(value, functools.singledispatchmethod):
            self.value(list(value.dispatcher.registry.items()), where)
        elif isinstance(getattr(value, "__wrapped__", None), types.FunctionType):
            # A decorator's own object stands for a function, which it hides from pickle.
            self.value((value.__wrapped__, getattr(value, "__dict__", None)), where)
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


def _unwrapped(value):
    """Look behind a descriptor or a wrapper for its function."""
    for kinds, attribute in _UNWRAPPED:
        if isinstance(value, kinds):
            value = getattr(value, attribute)
    # Other wrappers may hold more than the function, such as bound arguments.
    return value.__wrapped__ if isinstance(value, functools._lru_cache_wrapper) else value


def _names(code):
    """Names that a code object, and those within it, look up among the globals."""
    found = {step.argval for step in dis.get_instructions(code) if step.opname in _LOOKUPS}
    within = [_names(const) for const in code.co_consts if hasattr(const, "co_code")]
    return found.union(*within)


def _data(value, around=()):
    """Reduce a value to the data in it; of all else, such as functions, the name is left."""
    if _plain(value):
        return value
    if any(value is outer for outer in around):
        return "around"
    kind, around = type(value).__qualname__, (*around, value)
    if isinstance(value, types.SimpleNamespace):
        value = vars(value)
    elif isinstance(value, enum.Enum):
        value = value.name, value.value
    if isinstance(value, dict):
        value = tuple(value.items())
    if isinstance(value, list | tuple):
        return kind, tuple(_data(part, around) for part in value)
    if isinstance(value, set | frozenset):
        return kind, frozenset(_data(part, around) for part in value)
    name = getattr(value, "__qualname__", None)
    return "named", name if isinstance(name, str) else kind


def _plain(value):
    """Tell whether a value is data by itself: a number, text, array, tensor or the like."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return True
    if isinstance(value, range | slice | np.dtype) or str(type(value)) in _OF_TORCH:
        return True
    is_array = hasattr(value, "dtype") and hasattr(value, "shape") and not callable(value)
    provider = type(value).__module__.partition(".")[0]
    return (
        is_array
        and provider in ("numpy", "torch")
        and not getattr(value.dtype, "hasobject", False)
    )


def _bytes(tensor):
    import torch

    return tensor.view(torch.uint8).numpy()


def _package(thing):
    return (getattr(thing, "__module__", None) or "").partition(".")[0]


def _provided(thing):
    return _package(thing) in _PROVIDERS


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
