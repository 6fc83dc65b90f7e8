"""torch's generators within a fit and after it."""

import threading

import torch

from sklearn_cxr.neural_network._seeds import seeded


def test_the_seed_holds_within_and_nothing_is_left_after():
    before = torch.get_rng_state()
    with seeded(3):
        inside = torch.rand(4)
    assert (torch.get_rng_state() == before).all()
    assert (inside == torch.rand(4, generator=torch.Generator().manual_seed(3))).all()


def test_the_generator_comes_back_after_an_error():
    before = torch.get_rng_state()
    try:
        with seeded(0):
            torch.rand(1)
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert (torch.get_rng_state() == before).all()


def test_blocks_within_blocks():
    with seeded(1):
        first = torch.rand(1)
        with seeded(2):
            torch.rand(1)
        second = torch.rand(1)
    assert (
        torch.cat([first, second]) == torch.rand(2, generator=torch.Generator().manual_seed(1))
    ).all()


def test_threads_wait_for_each_other():
    drawn = {}

    def draw(seed):
        with seeded(seed):
            first = torch.rand(1)
            threading.Event().wait(0.02)
            drawn[seed] = [first.item(), torch.rand(1).item()]

    threads = [threading.Thread(target=draw, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, values in drawn.items():
        expected = torch.rand(2, generator=torch.Generator().manual_seed(seed)).tolist()
        assert values == expected
