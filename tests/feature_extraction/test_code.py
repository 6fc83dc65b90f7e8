"""Networks of the user's own are told apart by their code."""

import abc
import collections
import copy
import dataclasses
import enum
import functools
import os
import re
import subprocess
import sys
import types
import typing

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_cxr.feature_extraction import _code
from sklearn_cxr.feature_extraction._code import code_hash


class Doubled(nn.Module):
    factor = 2

    def __init__(self, power=1):
        super().__init__()
        self.power = power

    def forward(self, images):
        return 2 * images**self.power


class Tripled(Doubled):
    def forward(self, images):
        return 3 * images**self.power


def test_code_of_own_modules_is_told_apart():
    assert code_hash(Doubled()) == code_hash(Doubled())
    assert code_hash(Doubled()) != code_hash(Doubled(power=2))
    renamed = type("Doubled", (Tripled,), {"__qualname__": "Doubled"})
    assert repr(renamed()) == repr(Doubled())
    assert code_hash(renamed()) != code_hash(Doubled())


def test_structure_of_ready_made_modules_is_told_apart():
    narrow, wide = nn.Sequential(nn.Conv2d(1, 2, 3)), nn.Sequential(nn.Conv2d(1, 2, 3, stride=2))
    assert code_hash(narrow) != code_hash(wide)
    with torch.no_grad():
        narrow[0].weight.zero_()
    assert code_hash(narrow) == code_hash(nn.Sequential(nn.Conv2d(1, 2, 3)))


# Loaded by its path: what it hashes only has to look like a module, and torch takes seconds.
PROGRAM = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("code", sys.argv[1])
code = importlib.util.module_from_spec(spec)
spec.loader.exec_module(code)
class Own:
    def forward(self, x):
        chosen = "b" in {"a", "b", "c", "d"}
        return [y for y in map(lambda z: z + chosen, x)]
    def named_modules(self):
        return [("", self)]
    def named_buffers(self):
        return []
    def __repr__(self):
        return "Own()"
    names = {"e", "f", "g", "h"}
    table = {"sizes": (1, 2), "names": frozenset("abcd")}
WORDS = {"i", "j", "k", "l"}
def used(self):
    return WORDS
Own.used = used
print(code.code_hash(Own()))
"""


def test_code_hashes_are_the_same_in_every_process():
    """Sets of strings are ordered anew, and functions placed anew, in each."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, _code.__file__],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    found = {process.communicate(timeout=60)[0] for process in started}
    assert len(found) == 1
    assert re.fullmatch(r"[0-9a-f]{32}\n", found.pop())


class Holding(nn.Module):
    """Attributes, buffers and methods beside the weights."""

    def __init__(self, value=None, buffer=0.0, tone=None):
        super().__init__()
        self.value = value
        self.register_buffer("buffer", torch.tensor(buffer), persistent=False)
        self.tone = tone

    def helper(self, images):
        return 2 * images

    def forward(self, images):
        return self.helper(images)


class OtherHelper(Holding):
    def helper(self, images):
        return 3 * images


DIFFERENT = {
    "array": [np.arange(3), np.arange(3) + 1],
    "tensor": [torch.arange(3), torch.arange(3) + 1],
    "half": [torch.ones(2, dtype=torch.bfloat16), torch.zeros(2, dtype=torch.bfloat16)],
    "tuple": [(1, [2, 3]), (1, [2, 4])],
    "dict": [{"a": 1}, {"a": 2}],
    "function": [lambda x: 2 * x, lambda x: 3 * x],
    "hidden module": [[nn.Linear(2, 2)], [nn.Linear(2, 2)]],
    "method": [Doubled(1).forward, Doubled(2).forward],
}


@pytest.mark.parametrize("kind", DIFFERENT)
def test_all_that_an_own_module_holds_counts(kind):
    one, other = DIFFERENT[kind]
    assert code_hash(Holding(one)) == code_hash(Holding(one))
    assert code_hash(Holding(one)) != code_hash(Holding(other))


def with_class_value(value):
    return type("Own", (Holding,), {"value_of_all": value, "__qualname__": "Own"})()


def scaled(scale, images):
    return scale * images


def bound(scale):
    return functools.update_wrapper(functools.partial(scaled, scale), scaled)


class Logged:
    def __init__(self, function):
        functools.update_wrapper(self, function)


def dispatched(factor):
    method = functools.singledispatchmethod(lambda self, x: x)
    method.register(int, lambda self, x: factor * x)
    return method


CLASS_VALUES = DIFFERENT | {
    "cached property": [
        functools.cached_property(lambda self: 2),
        functools.cached_property(lambda self: 3),
    ],
    "cached function": [
        functools.lru_cache(lambda x: 2 * x),
        functools.lru_cache(lambda x: 3 * x),
    ],
    "partial method": [
        functools.partialmethod(Holding.helper, 1),
        functools.partialmethod(Holding.helper, 2),
    ],
    "property": [property(lambda self: 2), property(lambda self: 3)],
    "wrapping partial": [bound(2), bound(3)],
    "nested class": [type("Config", (), {"scale": scale}) for scale in (2, 3)],
    "enumeration": [enum.Enum("Mode", {"a": value}) for value in (2, 3)],
    "decorator's object": [Logged(lambda x: 2 * x), Logged(lambda x: 3 * x)],
    "method by type": [dispatched(2), dispatched(3)],
}


@pytest.mark.parametrize("kind", CLASS_VALUES)
def test_all_that_the_class_of_an_own_module_holds_counts(kind):
    one, other = CLASS_VALUES[kind]
    assert code_hash(with_class_value(one)) == code_hash(with_class_value(one))
    assert code_hash(with_class_value(one)) != code_hash(with_class_value(other))


def test_slots_and_abstract_classes_go_through():
    class Abstract(abc.ABC):
        __slots__ = ("slot",)

        @abc.abstractmethod
        def forward(self, images):
            """What each has to have."""

    class Own(Doubled, Abstract):
        module = np

    assert code_hash(Own()) == code_hash(Own())


Kind = typing.TypeVar("Kind")


class Answering(typing.Protocol):
    def forward(self, images): ...


@pytest.mark.parametrize("base", [typing.Generic[Kind], Answering])
def test_classes_of_typing_go_through(base):
    def own(factor):
        return types.new_class(
            "Own", (Doubled, base), exec_body=lambda names: names.update(times=factor)
        )()

    assert code_hash(own(2)) == code_hash(own(2)) != code_hash(own(3))


def test_nested_classes_of_all_kinds_go_through():
    class Own(Doubled):
        class Mode(enum.StrEnum):
            FAST = "fast"

        class Point(typing.NamedTuple):
            x: int = 1

        @dataclasses.dataclass
        class Options:
            sizes: list = dataclasses.field(default_factory=list)

        class Table(collections.OrderedDict):
            pass

        class Error(Exception):
            pass

    Own.Mode.owner = Own
    assert code_hash(Own()) == code_hash(Own())


def test_a_class_that_holds_its_own_instance_ends():
    class Own(Doubled):
        pass

    Own.usual = [Own()]
    assert code_hash(Own()) == code_hash(Own())


def test_what_a_class_shares_with_its_instance_is_not_shared_in_a_copy():
    class Own(Doubled):
        sizes = ([1, 2], [3])

        def __init__(self):
            super().__init__()
            self.sizes_of_this = self.sizes

    one = Own()
    assert code_hash(copy.deepcopy(one)) == code_hash(one)


SHIFT = [1.0, 2.0]
UNUSED = 1


class Shifted(nn.Module):
    def forward(self, images):
        return [images + shift for shift in SHIFT]


GLOBALS = {
    "number": 3.5,
    "text": "other",
    "list": [1.0, 2.5],
    "dict": {"a": (1, [2])},
    "array": np.arange(2.0),
    "tensor": torch.arange(2.0),
    "range": range(2),
    "slice": slice(2),
    "dtype": np.dtype("float32"),
    "torch dtype": torch.float32,
    "device": torch.device("cpu"),
    "namespace": types.SimpleNamespace(scale=1.0),
    "enumeration": enum.Enum("Mode", "a b").a,
    "beside a function": {"scale": 1.0, "act": torch.relu},
    "within": [torch.relu, ({"scale": [1.0]}, len)],
    "set": {("a", 1.0), len},
}
OTHERS = {
    "range": range(3),
    "slice": slice(3),
    "dtype": np.dtype("float64"),
    "torch dtype": torch.float64,
    "device": torch.device("meta"),
    "namespace": types.SimpleNamespace(scale=2.0),
    "enumeration": enum.Enum("Mode", "a b").b,
    "beside a function": {"scale": 10.0, "act": torch.relu},
    "within": [torch.relu, ({"scale": [2.0]}, len)],
    "set": {("a", 2.0), len},
}


@pytest.mark.parametrize("kind", OTHERS)
def test_globals_of_one_kind_are_told_apart(kind, monkeypatch):
    found = []
    for known in (GLOBALS[kind], copy.copy(GLOBALS[kind]), OTHERS[kind]):
        monkeypatch.setitem(globals(), "SHIFT", known)
        found.append(code_hash(Shifted()))
    assert found[0] == found[1] != found[2]


def test_globals_that_are_named_like_an_attribute_do_not_count(monkeypatch):
    class Own(Doubled):
        def forward(self, images):
            return [self.power for _ in images if self.helper]

    before = code_hash(Own())
    for name in ("power", "helper"):
        monkeypatch.setitem(globals(), name, 3)
    assert code_hash(Own()) == before


@pytest.mark.parametrize("kind", GLOBALS)
def test_globals_that_a_method_uses_count(kind, monkeypatch):
    before = code_hash(Shifted())
    assert code_hash(Shifted()) == before
    monkeypatch.setitem(globals(), "SHIFT", GLOBALS[kind])
    changed = code_hash(Shifted())
    assert changed != before
    monkeypatch.setitem(globals(), "UNUSED", 2)
    assert code_hash(Shifted()) == changed
    monkeypatch.setitem(globals(), "SHIFT", [1.0, 2.0])
    assert code_hash(Shifted()) == before


def test_buffers_that_no_state_has_and_methods_count():
    assert code_hash(Holding()) != code_hash(Holding(buffer=1.0))
    renamed = type("Holding", (OtherHelper,), {"__qualname__": "Holding"})
    assert repr(renamed()) == repr(Holding())
    assert code_hash(renamed()) != code_hash(Holding())


def test_hooks_count():
    hooked = Holding()
    hooked.register_forward_hook(lambda module, args, output: output + 1)
    assert code_hash(hooked) != code_hash(Holding())


def test_what_refers_to_itself_ends():
    circle = []
    circle.append(circle)
    assert code_hash(Holding(circle)) == code_hash(Holding(circle))


def test_what_cannot_be_hashed_is_refused():
    with pytest.raises(ValueError, match=r"apart by 'value', a generator .* cache_dir=None"):
        code_hash(Holding(x for x in "abc"))
