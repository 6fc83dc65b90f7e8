"""Networks of the user's own are told apart by their code."""

import os
import re
import subprocess
import sys

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
    def __repr__(self):
        return "Own()"
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
