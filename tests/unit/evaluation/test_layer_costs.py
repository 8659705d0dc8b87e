"""The costs of a subnet with its adapters unmerged: what a whole pass takes, though only layers are run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from glorasearch.data import Splits
from glorasearch.evaluation import LayerCosts, milliseconds, training_flops
from glorasearch.space import sample
from glorasearch.supernet import Supernet

NewSupernet = Callable[..., Supernet]


def test_the_operations_are_those_of_a_whole_training_step(splits: Splits, new_supernet: NewSupernet) -> None:
    supernet = new_supernet()
    image, _ = splits.search.batch(slice(0, 1))
    costs = LayerCosts(supernet, image, training_flops)
    rng = np.random.default_rng(0)
    found = []
    for subnet in [
        supernet.space.smallest(),
        supernet.space.largest(),
        *(sample(supernet.space, rng) for _ in range(6)),
    ]:
        with FlopCounterMode(display=False) as counter, supernet.activate(subnet):
            supernet(image.clone().requires_grad_()).sum().backward()
        assert costs(subnet) == counter.get_total_flops()
        found.append(costs(subnet))
    assert found[0] < min(found[2:]) < max(found) == found[1]
    assert all(
        parameter.grad is None for parameter in LayerCosts(new_supernet(), image, training_flops)._supernet.parameters()
    )


def test_a_layer_is_run_once_for_all_that_are_alike_and_what_is_known_is_not_run(
    splits: Splits, new_supernet: NewSupernet
) -> None:
    supernet, runs = new_supernet(), []

    def measure(module: nn.Module, work: Callable[[], object]) -> float:
        runs.append(module)
        work()
        return float(len(runs))

    image, _ = splits.search.batch(slice(0, 1))
    known: dict[str, float] = {}
    costs = LayerCosts(supernet, image, measure, known)
    first = costs(supernet.space.largest())
    shapes = {tuple(layer.base.weight.shape) for layer in supernet.adapted.values()}
    assert len(runs) == len(known) == 1 + 2 * len(shapes)
    assert (
        costs(supernet.space.largest())
        == LayerCosts(supernet, image, measure, known)(supernet.space.largest())
        == first
    )
    assert len(runs) == len(known)


def test_latency_is_that_of_the_unmerged_form(splits: Splits, new_supernet: NewSupernet) -> None:
    supernet = new_supernet()
    image, _ = splits.search.batch(slice(0, 1))
    costs = LayerCosts(supernet, image, milliseconds)
    plain, adapted = costs(supernet.space.smallest()), costs(supernet.space.largest())
    with supernet.eval().activate(supernet.space.largest()):
        whole = milliseconds(supernet, lambda: supernet(image))
    assert plain < adapted
    assert adapted == pytest.approx(whole, rel=0.6)
    with torch.no_grad():
        assert milliseconds(supernet, lambda: None) < plain
