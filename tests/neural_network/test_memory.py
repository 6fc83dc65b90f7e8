"""Errors of memory: recognised, and answered with a batch that fits."""

import pytest
import torch

from sklearn_cxr.neural_network._memory import (
    batch_that_fits,
    is_out_of_memory,
    out_of_memory,
)


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_which_errors_are_of_memory(error, is_one):
    assert is_out_of_memory(error) is is_one


@pytest.mark.parametrize(
    ("limit", "fits", "tried"),
    [(5, 4, [16, 8, 4]), (16, 16, [16]), (1, 1, [16, 8, 4, 2, 1]), (0, 0, [16, 8, 4, 2, 1])],
)
def test_the_batch_is_halved_until_it_fits(limit, fits, tried):
    asked = []

    def attempt(size):
        asked.append(size)
        if size > limit:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    assert batch_that_fits(attempt, 32) == fits
    assert asked == tried


def test_another_error_goes_through():
    def attempt(size):
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        batch_that_fits(attempt, 8)


def test_words():
    cpu = torch.device("cpu")
    error = out_of_memory(cpu, 32, 8, "training")
    assert isinstance(error, MemoryError)
    assert str(error) == (
        "cpu ran out of memory while training with batch_size=32. batch_size=8 fits."
    )
    assert "Not even one image fits: shrink" in str(out_of_memory(cpu, 32, 0, "training"))
