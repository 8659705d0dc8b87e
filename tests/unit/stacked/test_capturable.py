"""A step of a stack can be captured in a CUDA graph: it moves nothing between host and device."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from support.data import few_digits
from support.models import tiny_vit
from support.stacks import members_of, space_of
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from glorasearch.data import SearchData
from glorasearch.stacked import StackedTrainer
from glorasearch.stacked.graph import GraphedSteps, pays
from glorasearch.stacked.side_by_side import SideBySide

WAITING = {"aten._local_scalar_dense.default", "aten.lift_fresh.default", "aten.nonzero.default"}
"""Operations that read a value back, or make a tensor from numbers of the host."""


class Watched(TorchDispatchMode):
    """Collects the names of all operations."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.seen.add(str(function))
        return function(*args, **kwargs or {})


def test_a_step_waits_for_nothing() -> None:
    """Of all choice classes, with drop path, once everything that is computed once is there."""
    data = few_digits().train
    backbone = tiny_vit(drop_path_rate=0.2)
    members = members_of(backbone, space_of(backbone), len(data), 6, drop_path=0.2)
    engine = StackedTrainer(backbone, members, data, side_by_side=True)._engine
    assert isinstance(engine, SideBySide)
    watched = Watched()
    computed: list[torch.Tensor] = []

    def watch(inputs: Any, compute: Any = engine.compute) -> torch.Tensor:
        compute(inputs)  # a warm-up
        with watched:
            computed.append(compute(inputs))
        return computed[-1]

    engine.compute = watch  # type: ignore[method-assign]
    images, labels = data.batch(torch.arange(36) % len(data))
    engine.step(0, images, labels.view(6, 6), [1.0] * 6)
    assert torch.isfinite(computed[0]).all()
    assert {"aten.baddbmm.default", "aten._foreach_norm.Scalar", "aten.index_select.default"} <= watched.seen
    assert not watched.seen & WAITING


class Counting:
    """A stack whose step counts; it runs nowhere but on the CPU."""

    def compute(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return inputs[0] + 1

    def changed(self) -> list[torch.Tensor]:
        return []

    def compile_model(self) -> None:
        raise AssertionError


def test_a_stack_is_gone_when_nobody_needs_it() -> None:
    """A cycle would keep its gigabytes until Python looks for cycles, while the next stack is planned with what is
    free."""
    steps, stack = GraphedSteps("off", 3), Counting()
    assert steps(0, [torch.zeros(())], stack) == 1
    left = weakref.ref(stack)
    gc.disable()
    try:
        del stack
        assert left() is None
    finally:
        gc.enable()


def test_compilation_pays_for_long_trainings_only() -> None:
    assert not pays(0.041, 400)
    assert not pays(0.003, 2_000)
    assert pays(0.6, 400)
    assert pays(0.05, 2_001)
    assert not pays(0.6, 0)


def test_no_step_shares_its_leaf_with_another_graph(
    vit: nn.Module, data: SearchData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Autograd knows a leaf by the stream of the oldest graph that is alive: a CUDA graph could not capture it."""
    leaves: list[object] = []
    grad = torch.autograd.grad

    def noted(outputs: Tensor, inputs: Tensor) -> tuple[Tensor, ...]:
        leaves.append(torch.autograd.graph.get_gradient_edge(inputs).node)  # kept, as by a graph that is alive
        return grad(outputs, inputs)

    monkeypatch.setattr(torch.autograd, "grad", noted)
    members = members_of(vit, space_of(vit), len(data.train), 2)
    StackedTrainer(vit, members, data.train, side_by_side=True).run()
    assert len(leaves) > 1
    assert len(set(leaves)) == len(leaves)
