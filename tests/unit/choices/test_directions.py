"""Task-specific directions: of a weight and an update that were made so that one knows which ones they are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.models import Layers
from torch import Tensor, nn

from glorasearch.choices.directions import EPSILON, most_directions, task_directions
from glorasearch.space import SearchSpace
from glorasearch.supernet import Supernet

SCALE = 1.7


def orthogonal(rows: int, columns: int, seed: int) -> Tensor:
    """Orthonormal columns."""
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(rows, columns, generator=generator, dtype=torch.float64))[0]


class Known:
    """A weight whose singular values and directions are known; stacked: several, one above the other."""

    def __init__(self, outs: int, ins: int, stacked: int = 1, seed: int = 0) -> None:
        self.outs, self.count = outs, min(outs, ins)
        self.left = [orthogonal(outs, self.count, seed + 2 * b) for b in range(stacked)]
        self.right = [orthogonal(ins, self.count, seed + 2 * b + 1) for b in range(stacked)]
        generator = torch.Generator().manual_seed(seed)
        steps = torch.rand(stacked * self.count, generator=generator, dtype=torch.float64) + 0.5
        values = steps.cumsum(0)[torch.randperm(stacked * self.count, generator=generator)]
        self.values = [v.sort(descending=True).values for v in values.chunk(stacked)]
        blocks = zip(self.left, self.values, self.right, strict=True)
        self.weight = torch.cat([left @ v.diag() @ right.T for left, v, right in blocks])

    def direction(self, block: int, index: int) -> tuple[Tensor, Tensor]:
        """Left, zero outside its block, and right."""
        left = torch.zeros(len(self.weight), dtype=torch.float64)
        left[block * self.outs : (block + 1) * self.outs] = self.left[block][:, index]
        return left, self.right[block][:, index]

    def order(self, change: Tensor) -> list[tuple[int, int]]:
        """All directions by δ = |uᵀ·ΔW·v| / (σ + ε), the largest first."""
        found = {}
        for block in range(len(self.left)):
            for index in range(self.count):
                u, v = self.direction(block, index)
                found[block, index] = float((u @ change @ v).abs() / (self.values[block][index] + EPSILON))
        return sorted(found, key=lambda place: -found[place])

    def update(self, changes: dict[tuple[int, int], float]) -> tuple[Tensor, Tensor]:
        """Factors whose product changes these singular values by these shares of them, and mixes directions besides."""
        down, up = [], []
        for (block, index), share in changes.items():
            left, right = self.direction(block, index)
            other = self.right[block][:, (index + 1) % self.count]  # off the diagonal: no singular value changes
            down.append(left * share * self.values[block][index])
            up.append(right + 0.9 * other)
        return torch.stack(down, dim=1), torch.stack(up)


def assert_directions(left: Tensor, right: Tensor, known: Known, expected: list[tuple[int, int]]) -> None:
    """The expected ones in this order; a pair may have both its signs turned."""
    assert left.shape[1] == right.shape[0] == len(expected)
    for place, (block, index) in enumerate(expected):
        u, v = known.direction(block, index)
        wanted = torch.outer(u, v)
        assert (torch.outer(left[:, place], right[place]) - wanted).abs().max() <= 1e-10


# Shares of change, the largest not that of the largest singular value, one negative.
CHANGES = {(0, 4): 0.5, (0, 1): -0.9, (0, 0): 0.02, (0, 2): 0.3}
ORDER = [(0, 1), (0, 4), (0, 2), (0, 0)]


@pytest.mark.parametrize(("outs", "ins"), [(9, 6), (6, 9), (7, 7)])
def test_the_right_ones_in_the_right_order(outs: int, ins: int) -> None:
    known = Known(outs, ins)
    down, up = known.update(CHANGES)
    found = task_directions(known.weight, down, up, 3)
    assert_directions(found.left, found.right, known, ORDER[:3])
    wanted = torch.stack([known.values[block][index] for block, index in ORDER[:3]])
    torch.testing.assert_close(found.values, wanted, rtol=0, atol=1e-10)


def test_a_fused_qkv_is_three_weights() -> None:
    """The largest changes of all thirds, each direction in one third; seen as one weight they would be others."""
    known = Known(6, 8, stacked=3)
    down, up = known.update({(1, 3): 0.8, (2, 0): -0.4, (0, 5): 0.1, (1, 0): 0.05})
    order = [(1, 3), (2, 0), (0, 5), (1, 0)]
    found = task_directions(known.weight, down, up, 4, stacked=3)
    assert_directions(found.left, found.right, known, order)
    for place, (block, _) in enumerate(order):
        outside = torch.cat([rows for b, rows in enumerate(found.left[:, place].chunk(3)) if b != block])
        assert torch.equal(outside, torch.zeros_like(outside))
    whole = task_directions(known.weight, down, up, 4)
    with pytest.raises(AssertionError):
        assert_directions(whole.left, whole.right, known, order)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3]), st.integers(1, 4), st.integers(0, 999), st.data())
def test_any_update(outs: int, ins: int, stacked: int, rank: int, seed: int, data: st.DataObject) -> None:
    """Against dense matrices."""
    known = Known(outs, ins, stacked, seed)
    generator = torch.Generator().manual_seed(seed)
    down = torch.randn(outs * stacked, rank, generator=generator, dtype=torch.float64)
    up = torch.randn(rank, ins, generator=generator, dtype=torch.float64)
    order = known.order(down @ up)
    assert most_directions(outs * stacked, ins, stacked) == len(order)
    count = data.draw(st.integers(1, len(order)))
    found = task_directions(known.weight, down, up, count, stacked)
    assert_directions(found.left, found.right, known, order[:count])


def model_of(weight: Tensor, name: str) -> Layers:
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
    layer.weight.data.copy_(weight)
    return Layers({name: layer}, nn.Linear(2, 2))


def supernet_of(known: Known, choices: list[str], name: str) -> Supernet:
    options = {name: {"warmup": 2, "scale": SCALE} for name in ("dash", "tsd_init", "tsd")}
    space: dict[str, Any] = {"name": "one", "layers": {"include": [name]}, "options": options}
    return Supernet(model_of(known.weight, name), SearchSpace.from_dict(space | {"choices": {"B": choices}}))


@pytest.mark.parametrize("name", ["layer", "qkv"])
def test_choices_take_them(name: str) -> None:
    """Dash keeps them beside its factors, Init starts along them, TSD does both, one after the other."""
    stacked = 3 if name == "qkv" else 1
    known = Known(6, 8, stacked)
    block = stacked - 1
    first = {(block, 2): 0.9, (0, 5): 0.5, (block, 0): -0.3, (0, 1): 0.1}
    supernet = supernet_of(known, ["dash:2:3", "dash:4:3", "tsd_init:4", "tsd:4:2"], name)
    support = supernet.adapted[name].support_of("B")
    subnets = [supernet.space.subnet([text]) for text in ("dash:2:3", "tsd_init:4", "tsd:4:2")]

    def learn(prefix: str, changes: dict[tuple[int, int], float]) -> None:
        down, up = known.update(changes)
        with torch.no_grad():
            for part, value, axis in ((f"{prefix}_down", down, 1), (f"{prefix}_up", up, 0)):
                stored = support.get_parameter(part)
                stored.narrow(axis, 0, value.shape[axis]).copy_(value)

    for prefix in ("dash", "init", "tsd"):
        learn(prefix, first)
    assert supernet.warm_ups.step(subnets) == []
    anew = supernet.warm_ups.step(subnets)
    expected = [*first]
    left, right = support.get_parameter("dash_left"), support.get_parameter("dash_right")
    assert_directions(left, right, known, expected[:3])
    root = torch.stack([known.values[b][i] for b, i in expected]).sqrt() / SCALE**0.5
    for prefix in ("init", "tsd"):
        for part in ("", "start_"):
            down, up = (support.get_parameter(f"{prefix}_{part}{which}") for which in ("down", "up"))
            assert_directions(down / root, up / root[:, None], known, expected)
    begin = f"{name}.B."
    assert sorted(anew) == [begin + part for part in ("dash_gains", "init_down", "init_up", "tsd_down", "tsd_up")]

    # TSD's second phase looks at what was learned since the first: s·(B·A − B0·A0).
    assert torch.equal(support.get_parameter("tsd_left"), torch.zeros_like(support.get_parameter("tsd_left")))
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        down, up = support.get_parameter("tsd_down"), support.get_parameter("tsd_up")
        down.add_(torch.randn(down.shape, generator=generator, dtype=torch.float64), alpha=0.3)
        learned = down @ up - support.get_parameter("tsd_start_down") @ support.get_parameter("tsd_start_up")
    assert supernet.warm_ups.step(subnets) == []
    assert supernet.warm_ups.step(subnets) == [f"{begin}tsd_gains"]
    order = known.order(SCALE * learned)
    assert order[:2] != known.order((down @ up).detach())[:2], "not what B·A itself would say"
    assert_directions(support.get_parameter("tsd_left"), support.get_parameter("tsd_right"), known, order[:2])
    assert_directions(left, right, known, expected[:3])
    before = {part: value.clone() for part, value in support.named_parameters()}
    for _ in range(10):
        assert supernet.warm_ups.step(subnets) == [], "they are chosen once"
    assert all(torch.equal(value, before[part]) for part, value in support.named_parameters())
