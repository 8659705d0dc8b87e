"""Which nodes of a captured graph a replay leaves out, with a stand-in for a card: `test_fused_gpu` has a real one."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from glorasearch.fused import parts
from glorasearch.fused.parts import Key, Recorder, Switches

cudart = pytest.importorskip("cuda.bindings.runtime")
KERNEL, HOST = cudart.cudaGraphNodeType.cudaGraphNodeTypeKernel, cudart.cudaGraphNodeType.cudaGraphNodeTypeHost
DONE, REFUSED = cudart.cudaError_t.cudaSuccess, cudart.cudaError_t.cudaErrorInvalidValue


class Card:
    """An instantiated graph: of every node whether it is on."""

    def __init__(self, nodes: Sequence[int], *, hosts: Sequence[int] = (), refuses: int | None = None) -> None:
        self.nodes, self.hosts, self.refuses = nodes, hosts, refuses
        self.on: dict[int, bool] = {}
        self.calls = 0

    def instantiate(self) -> None:
        self.on = dict.fromkeys(self.nodes, True)

    def raw_cuda_graph_exec(self) -> int:
        return 7

    @property
    def bindings(self) -> SimpleNamespace:
        return SimpleNamespace(
            cudaGraphNodeType=cudart.cudaGraphNodeType,
            cudaGraphNodeGetType=lambda node: (DONE, HOST if node in self.hosts else KERNEL),
            cudaGraphNodeSetEnabled=self._switch,
        )

    def _switch(self, handle: int, node: int, wanted: bool) -> tuple[object]:
        assert handle == 7
        self.calls += 1
        if node == self.refuses or node in self.hosts:
            return (REFUSED,)
        self.on[node] = wanted
        return (DONE,)

    @property
    def off(self) -> set[int]:
        return {node for node, on in self.on.items() if not on}


FIRST, SECOND = (1000, 0), (2000, 0)


def switches(monkeypatch: pytest.MonkeyPatch, card: Card, found: dict[Key, list[list[int]]]) -> Switches | None:
    monkeypatch.setattr(parts, "_cudart", lambda: card.bindings)
    monkeypatch.setattr(parts, "SWITCHABLE", True)
    recorder = Recorder()
    recorder.parts = found
    return Switches.of(card, recorder)  # type: ignore[arg-type]


def test_a_replay_leaves_out_what_its_subnet_does_not_need(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(range(6))
    found = switches(monkeypatch, card, {FIRST: [[1, 2]], SECOND: [[4]]})
    assert found is not None
    assert (card.off, found.off) == (set(), 0)
    found.set({FIRST: [False], SECOND: [True]})
    assert (card.off, found.off) == ({1, 2}, 1)
    calls = card.calls
    found.set({FIRST: [False], SECOND: [True]})
    assert card.calls == calls, "nothing has changed"
    found.set({FIRST: [True], SECOND: [False]})
    assert card.off == {4}


def test_several_subnets_of_a_step_have_flags_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(range(6))
    found = switches(monkeypatch, card, {FIRST: [[1], [3]], SECOND: [[2], [4]]})
    assert found is not None
    found.set({FIRST: [True, False], SECOND: [False, True]})
    assert card.off == {3, 2}


def test_a_layer_that_is_used_several_times_has_one_flag_for_each_subnet(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of CoaT's parallel blocks, which share one MLP."""
    card = Card(range(7))
    found = switches(monkeypatch, card, {FIRST: [[1], [2], [3], [4], [5], [6]]})
    assert found is not None
    found.set({FIRST: [False, True]})
    assert card.off == {1, 2, 3}, "the first subnet's"
    found.set({FIRST: [False, True, False, True]})
    assert card.off == set(), "not as many flags as there could be: all are on"


def test_a_part_of_which_nothing_is_said_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(range(4))
    found = switches(monkeypatch, card, {FIRST: [[1]], SECOND: [[2]]})
    assert found is not None
    found.set({FIRST: [False], SECOND: [False]})
    found.set({SECOND: [False]})
    assert card.off == {2}


def test_nodes_that_no_graph_can_switch_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(range(4), hosts=[2])
    found = switches(monkeypatch, card, {FIRST: [[1, 2, 3]]})
    assert found is not None
    found.set({FIRST: [False]})
    assert card.off == {1, 3}


def test_a_graph_that_refuses_a_switch_has_all_parts_on(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(range(4), refuses=3)
    assert switches(monkeypatch, card, {FIRST: [[1, 2]], SECOND: [[3]]}) is None
    assert card.off == set()


def test_a_graph_without_parts_has_no_switches(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(range(4))
    assert switches(monkeypatch, card, {}) is None
    assert card.on, "it was instantiated"
