"""Parameter counts and budgets of spaces with groups, against all their subnets."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.spaces import all_subnets

from glorasearch.errors import SearchSpaceError
from glorasearch.space import (
    BoundSpace,
    Gene,
    LayerShape,
    SearchSpace,
    Subnet,
    repair,
    sample_within_budget,
)


@st.composite
def spaces(draw: st.DrawFn) -> BoundSpace:
    """Few genes, groups of layers with the same inputs, any budget."""
    inputs = {"left": draw(st.integers(2, 5)), "right": draw(st.integers(2, 5))}
    layers, genes = [], []
    for index in range(draw(st.integers(1, 4))):
        share = draw(st.sampled_from(["", "left", "right"]))
        ins = inputs.get(share) or draw(st.integers(2, 5))
        layers.append(LayerShape(f"fc{index}", ins, draw(st.integers(2, 6))))
        texts = draw(st.permutations(["none", "vector", "wegeft:1", "wegeft:2", "lora:1"]))[: draw(st.integers(1, 4))]
        genes.append(Gene(f"fc{index}", "A", tuple(texts), share))
        if draw(st.booleans()):
            genes.append(Gene(f"fc{index}", "E", tuple(draw(st.permutations(["none", "vector", "constant"]))[:2])))
    least = draw(st.integers(0, 60))
    most = draw(st.one_of(st.none(), st.integers(least, least + draw(st.sampled_from([0, 2, 60])))))
    return BoundSpace("drawn", layers, genes, budget=(least, most))


def count(space: BoundSpace, subnet: Subnet) -> int:
    """Trainable parameters by hand: shared factors once, as large as any member wants them."""
    shapes = {layer.name: layer for layer in space.layers}
    total, groups = 0, dict[str, int]()
    for gene in space.genes:
        name, _, rank = subnet[gene.key].partition(":")
        ins, outs = shapes[gene.layer].in_features, shapes[gene.layer].out_features
        if name == "wegeft" and gene.share:
            groups[gene.share] = max(groups.get(gene.share, 0), 2 * ins * int(rank))
        else:
            total += {"none": 0, "constant": 1, "vector": outs}.get(name, 0)
            total += {"wegeft": 2 * ins, "lora": ins + outs}.get(name, 0) * int(rank or 0)
    return total + sum(groups.values())


@settings(max_examples=150, deadline=None)
@given(spaces(), st.data())
def test_counts_and_budgets_by_brute_force(space: BoundSpace, data: st.DataObject) -> None:
    subnets = all_subnets(space)[:4000]
    assume(len(subnets) == space.size())
    counts = [count(space, subnet) for subnet in subnets]
    assert [space.parameters(subnet) for subnet in subnets] == counts
    smallest, mean, largest = space.parameter_range()
    assert (smallest, largest) == (min(counts), max(counts))
    assert mean == pytest.approx(sum(counts) / len(counts))

    least, most = space.budget
    feasible = [subnet for subnet, n in zip(subnets, counts, strict=True) if n >= least and (most is None or n <= most)]
    assert space.reachable.any_within(least, most) == bool(feasible)
    below, above = [n for n in counts if n < least], [n for n in counts if most is not None and n > most]
    assert space.reachable.nearest(least, most) == ([max(below)] if below else []) + ([min(above)] if above else [])

    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    start = data.draw(st.sampled_from(subnets))
    if not feasible:
        for attempt in (lambda: sample_within_budget(space, rng, attempts=2), lambda: repair(space, start, rng)):
            with pytest.raises(SearchSpaceError, match=r"no subnet has (between|at least|at most)"):
                attempt()
        return
    assert sample_within_budget(space, rng, attempts=1) in feasible
    repaired = repair(space, start, rng)
    assert repaired in feasible
    assert start not in feasible or repaired == start

    # The exact walk: after any beginning, the options are those from which the budget can still be met.
    goal = data.draw(st.sampled_from(feasible))
    spent, state = 0, space.reachable.start
    for index, gene in enumerate(space.walk):
        begun = [s for s in feasible if all(s[g.key] == goal[g.key] for g in space.walk[:index])]
        wanted = {s[gene.key] for s in begun}
        options = space.reachable.options(index, spent, least, most, state)
        assert {gene.choices[position] for position in options} == wanted
        price = space.price(gene, goal[gene.key])
        spent, state = spent + price.own, space.reachable.after(state, price)


def test_groups_that_interleave_cost_no_more_than_others() -> None:
    """16 groups, all open at once in the order of the layers, have 4^16 states together."""
    layers = [LayerShape(f"blocks.{block}.layer", 8, 8, True) for block in range(32)]
    groups = [
        {"layers": [f"blocks.{block}.layer", f"blocks.{block + 16}.layer"], "share": f"pair{block}"}
        for block in range(16)
    ]
    content = {"name": "pairs", "choices": {"A": ["none", "wegeft:1", "wegeft:2", "wegeft:3"]}, "groups": groups}
    began = time.process_time()
    space = SearchSpace.from_dict(content | {"budget": {"max": 200}}).bind(layers)
    rng = np.random.default_rng(0)
    for _ in range(20):
        found = sample_within_budget(space, rng, attempts=1)
        assert space.parameters(found) <= 200
    assert time.process_time() - began < 5
