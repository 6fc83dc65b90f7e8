"""Weights as arrays and back."""

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_cxr.exceptions import WeightsError
from sklearn_cxr.neural_network._state import (
    load_module_state,
    module_state,
    rebuilding,
    to_arrays,
    to_tensors,
)


def network(width=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    made = nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.Flatten())
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return made


class TestModuleState:
    def test_is_parameters_and_buffers_by_name(self):
        made = network()
        made(torch.ones(2, 1, 5, 5))
        state = module_state(made)
        assert list(state) == [
            "0.weight",
            "0.bias",
            "1.weight",
            "1.bias",
            "1.running_mean",
            "1.running_var",
            "1.num_batches_tracked",
        ]
        assert {type(value) for value in state.values()} == {np.ndarray}
        assert state["0.weight"].tolist() == made[0].weight.tolist()
        assert state["1.num_batches_tracked"] == 1

    def test_does_not_change_with_the_module(self):
        made = network()
        state = module_state(made)
        before = state["0.bias"].copy()
        with torch.no_grad():
            made[0].bias += 1
        np.testing.assert_array_equal(state["0.bias"], before)

    def test_lies_in_the_usual_order(self):
        made = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        assert not made.weight.is_contiguous()
        assert module_state(made)["weight"].flags.c_contiguous

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_becomes_single(self, dtype):
        made = network().to(dtype)
        state = module_state(made)
        assert state["0.weight"].dtype == np.float32
        assert state["0.weight"].tolist() == made[0].weight.tolist()
        again = load_module_state(network(seed=1).to(dtype), state)
        assert again[0].weight.dtype == dtype
        assert torch.equal(again[0].weight, made[0].weight)


class TestLoadModuleState:
    def test_gives_the_module_back(self):
        made, other = network(), network(seed=1)
        made(torch.ones(2, 1, 5, 5))
        assert load_module_state(other, module_state(made)) is other
        for name, value in made.state_dict().items():
            assert torch.equal(other.state_dict()[name], value), name

    def test_double_precision_stays(self):
        made = network().to(torch.float64)
        other = load_module_state(network(seed=1), module_state(made))
        assert other[0].weight.dtype == other[1].running_var.dtype == torch.float64
        assert other[1].num_batches_tracked.dtype == torch.int64
        assert torch.equal(other[0].weight, made[0].weight)

    def test_double_precision_of_a_part_stays_with_it(self):
        made = network()
        made[1] = made[1].double()
        other = load_module_state(network(seed=1), module_state(made))
        assert other[0].weight.dtype == torch.float32
        assert other[1].weight.dtype == torch.float64

    def test_what_learns_and_where_it_lies_stay(self):
        other = network(seed=1).to(memory_format=torch.channels_last)
        other[0].bias.requires_grad_(False)
        load_module_state(other, module_state(network()))
        assert [p.requires_grad for p in other.parameters()] == [True, False, True, True]
        assert other[0].weight.is_contiguous(memory_format=torch.channels_last)

    def test_arrays_that_cannot_be_written_to(self):
        state = module_state(network())
        for value in state.values():
            value.flags.writeable = False
        other = load_module_state(network(seed=1), state)
        with torch.no_grad():
            other[0].bias += 1
        assert state["0.bias"].tolist() == network()[0].bias.tolist()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda state: state.pop("1.running_mean"), r"missing: 1\.running_mean"),
            (lambda state: state.update(extra=np.zeros(2)), "unknown to the network: extra"),
            (
                lambda state: state.update({"0.bias": np.zeros(4, np.float32)}),
                r"of another shape: 0\.bias \(stored \(4,\), network \(3,\)\)",
            ),
        ],
    )
    def test_loads_all_or_nothing(self, change, message):
        state, other = module_state(network()), network(seed=1)
        change(state)
        before = module_state(other)
        with pytest.raises(WeightsError, match=message):
            load_module_state(other, state)
        after = module_state(other)
        for name, value in before.items():
            np.testing.assert_array_equal(after[name], value)

    def test_a_long_report_is_cut(self):
        with pytest.raises(WeightsError, match=r"1\.running_mean and 2 more\. Nothing"):
            load_module_state(network(), {})


def test_nested_tensors_become_arrays_and_tensors_again():
    value = {"a": [torch.arange(3), None, 1.5], "b": {"c": torch.tensor(2.0)}, "d": (1, "x")}
    arrays = to_arrays(value)
    assert type(arrays["b"]["c"]) is np.ndarray
    assert arrays["a"][0].tolist() == [0, 1, 2]
    assert arrays["a"][1:] == [None, 1.5]
    assert arrays["d"] == [1, "x"]
    back = to_tensors(arrays)
    assert torch.equal(back["a"][0], value["a"][0])
    assert back["b"]["c"].shape == ()
    assert back["d"] == [1, "x"]


class TestRebuilding:
    def test_leaves_generators_and_threads_as_they_were(self):
        before, threads = torch.get_rng_state(), torch.get_num_threads()
        with rebuilding():
            assert torch.get_num_threads() == 1
            drawn = torch.rand(3)
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.get_num_threads() == threads
        with rebuilding():
            assert torch.equal(torch.rand(3), drawn)

    def test_an_error_goes_through(self):
        threads = torch.get_num_threads()
        with pytest.raises(KeyError), rebuilding():
            raise KeyError("x")
        assert torch.get_num_threads() == threads
