"""What a step sees, subnets and images, as pure functions of seed and step."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glorasearch.supernet import Supernet
from glorasearch.training import Fixed, SamplingStrategy, Sandwich, Uniform
from glorasearch.training.sampling import BatchOrder


@given(images=st.integers(1, 50), batch_size=st.integers(1, 70), seed=st.integers(0, 2**31))
def test_every_epoch_is_a_permutation_and_batches_reach_across(images: int, batch_size: int, seed: int) -> None:
    order = BatchOrder(images, batch_size, seed)
    steps = math.ceil(3 * images / batch_size)
    batches = [order.indices(step) for step in range(steps)]
    assert all(batch.shape == (batch_size,) and batch.dtype == torch.int64 for batch in batches)
    stream = torch.cat(batches)
    for epoch in range(3):
        assert sorted(stream[epoch * images : (epoch + 1) * images].tolist()) == list(range(images))


@given(st.permutations(range(12)))
def test_a_step_has_its_images_whatever_was_asked_before(steps: list[int]) -> None:
    order = BatchOrder(10, 4, seed=3)
    expected = [BatchOrder(10, 4, seed=3).indices(step).tolist() for step in range(12)]
    assert [order.indices(step).tolist() for step in steps] == [expected[step] for step in steps]


def test_epochs_and_seeds_differ_in_order() -> None:
    order = BatchOrder(40, 40, seed=0)
    orders = [order.indices(0).tolist(), order.indices(1).tolist(), BatchOrder(40, 40, seed=1).indices(0).tolist()]
    assert len({tuple(found) for found in orders}) == 3


def test_uniform_sampling(make_supernet: Callable[..., Supernet]) -> None:
    space = make_supernet().space
    steps = [Uniform(space, 0).sample(step) for step in range(200)]
    assert all(len(sampled) == 1 and not sampled[0].distilled for sampled in steps)
    assert len({sampled[0].subnet for sampled in steps}) == 200
    gene = space.genes[0]
    drawn = [sampled[0].subnet[gene.key] for sampled in steps]
    assert all(drawn.count(choice) == pytest.approx(200 / len(gene.choices), rel=0.5) for choice in gene.choices)
    assert Uniform(space, 0).sample(7) == steps[7]
    assert Uniform(space, 1).sample(7) != steps[7]


def test_sandwich_sampling(make_supernet: Callable[..., Supernet]) -> None:
    space = make_supernet().space
    for middle in (0, 1, 3):
        first, *rest = Sandwich(space, 0, middle).sample(5)
        assert (first.subnet, first.distilled) == (space.largest(), False)
        assert rest[-1].subnet == space.smallest()
        assert len(rest) == middle + 1
        assert all(sampled.distilled for sampled in rest)
    assert Sandwich(space, 0, 2).sample(5) == Sandwich(space, 0, 2).sample(5)
    assert Sandwich(space, 0, 2).sample(5) != Sandwich(space, 0, 2).sample(6)


def test_sampling_leaves_global_generators_alone(make_supernet: Callable[..., Supernet]) -> None:
    space = make_supernet().space
    np.random.seed(0)
    ours, theirs = torch.get_rng_state(), np.random.get_state(legacy=False)
    for strategy in (Uniform(space, 0), Sandwich(space, 0)):
        strategy.sample(0)
    BatchOrder(10, 4, 0).indices(0)
    assert torch.equal(torch.get_rng_state(), ours)
    assert str(np.random.get_state(legacy=False)) == str(theirs)


def test_identities_tell_strategies_apart_and_are_the_same_in_every_process(
    make_supernet: Callable[..., Supernet],
) -> None:
    def strategies() -> list[SamplingStrategy]:
        space = make_supernet().space
        return [
            Uniform(space, 0),
            Uniform(space, 1),
            Sandwich(space, 0),
            Sandwich(space, 0, 2),
            Fixed(space.smallest()),
            Fixed(space.largest()),
        ]

    words = [strategy.identity() for strategy in strategies()]
    assert len(set(words)) == len(words)
    assert words == [strategy.identity() for strategy in strategies()]
    assert not any("0x" in word for word in words)
