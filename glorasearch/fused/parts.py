"""Parts of a captured step that a replay leaves out.

A CUDA graph is one sequence of launches for every subnet, but a node of it can be switched off for the replays to come
(`cudaGraphNodeSetEnabled`), which takes the host about a microsecond and no wait. So the dense gradient of a layer may
be cuBLAS's or cuDNN's, which know of no plan, and still costs nothing where the drawn choices do not need it. Outside a
capture, and where CUDA's bindings are missing or torch does not hand out a graph (2.11 does), every part is computed;
the kernels ask the plan on the device.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor

Key = tuple[int, int]
"""A row of a plan, by its address, and a column of it."""

SWITCHABLE: Final = hasattr(torch.cuda.CUDAGraph, "raw_cuda_graph_exec")
"""Whether torch hands out an instantiated graph."""

_log = logging.getLogger(__name__)
_recorder: Recorder | None = None


def key_of(plan: Tensor, column: int) -> Key:
    """The key of a part of the layer with this row of the plan."""
    return plan.data_ptr(), column


@contextmanager
def part(plan: Tensor, column: int) -> Iterator[None]:
    """What is launched inside is needed only by some subnets, for the layer with this row of the plan.

    `column` is one of the plan or `THIN`; `MergedWeights.needed` says which subnets need it.
    """
    recorder = _recorder
    if recorder is None or not torch.cuda.is_current_stream_capturing():
        yield
        return
    before = recorder.nodes()
    yield
    recorder.add(key_of(plan, column), before)


class Recorder:
    """Finds the nodes of parts while a graph is captured."""

    def __init__(self) -> None:
        self.parts: dict[Key, list[list[int]]] = {}
        """For every part the handles of its nodes, each time that it was captured; none if CUDA does not tell."""
        self._tells = SWITCHABLE and _cudart() is not None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Record what is captured inside; by whichever thread, as gradients are computed by threads of torch."""
        global _recorder
        _recorder = self if self._tells else None
        try:
            yield
        finally:
            _recorder = None
        if not self._tells:
            self.parts.clear()

    def add(self, key: Key, before: set[int]) -> None:
        """A part has been captured, with the nodes that were not there `before`."""
        self.parts.setdefault(key, []).append(sorted(self.nodes() - before))

    def nodes(self) -> set[int]:
        """The handles of the nodes of the graph that the current stream is being captured in."""
        cudart = _cudart()
        try:
            graph = _checked(cudart.cudaStreamGetCaptureInfo(torch.cuda.current_stream().cuda_stream))[2]
            _, count = _checked(cudart.cudaGraphGetNodes(graph))
            found, _ = _checked(cudart.cudaGraphGetNodes(graph, count))
        except RuntimeError as error:  # an error must not break the capture
            _log.debug("the nodes of a graph that is being captured are not known: %s", error)
            self._tells = False
            return set()
        return {int(node) for node in found}


def new_graph() -> torch.cuda.CUDAGraph:
    """A graph that keeps what its nodes are known by, where torch can; then it has to be instantiated."""
    return torch.cuda.CUDAGraph(keep_graph=True) if SWITCHABLE else torch.cuda.CUDAGraph()


class Switches:
    """Switches parts of an instantiated graph on and off."""

    def __init__(self, graph: torch.cuda.CUDAGraph, parts: Mapping[Key, Sequence[Sequence[int]]]) -> None:
        """`graph` is instantiated; all parts are on.

        Raises: RuntimeError if CUDA refuses to switch one; others may be off then.
        """
        self._graph = graph
        self._parts = {key: [self._switchable(nodes) for nodes in times] for key, times in parts.items()}
        self._on = {key: [True] * len(times) for key, times in parts.items()}
        for on in (False, True):
            self.set({key: [on] for key in parts})

    @classmethod
    def of(cls, graph: torch.cuda.CUDAGraph, recorder: Recorder) -> Switches | None:
        """Those of a graph from `new_graph`, which is instantiated here; None if there is nothing to switch, or CUDA
        does not let us."""
        if not SWITCHABLE:
            return None
        graph.instantiate()
        if not recorder.parts:
            return None
        try:
            return cls(graph, recorder.parts)
        except RuntimeError as error:
            graph.instantiate()  # with all parts on
            _log.debug("every layer's dense gradient is computed in every step: %s", error)
            return None

    @property
    def off(self) -> int:
        """How many parts the next replay leaves out."""
        return sum(times.count(False) for times in self._on.values())

    def set(self, needed: Mapping[Key, Sequence[bool]]) -> None:
        """Switch every part for the replays that are started from now on; `needed` has a flag for each of a step's
        subnets.

        A layer that the model uses several times has a part for each, those of the first subnet first. A part of which
        nothing is said, or not as much as there is of it, is on.
        """
        cudart, handle = _cudart(), self._graph.raw_cuda_graph_exec()
        for key, times in self._parts.items():
            now, flags = self._on[key], needed.get(key, ())
            uses, rest = divmod(len(times), max(1, len(flags)))
            for number, nodes in enumerate(times):
                wanted = flags[number // uses] if flags and not rest else True
                if now[number] != wanted:
                    for node in nodes:
                        _checked(cudart.cudaGraphNodeSetEnabled(handle, node, wanted))
                    now[number] = wanted

    def _switchable(self, nodes: Sequence[int]) -> list[int]:
        cudart = _cudart()
        kinds = cudart.cudaGraphNodeType
        own = kinds.cudaGraphNodeTypeKernel, kinds.cudaGraphNodeTypeMemset, kinds.cudaGraphNodeTypeMemcpy
        return [node for node in nodes if _checked(cudart.cudaGraphNodeGetType(node))[0] in own]


def _cudart() -> Any:
    """CUDA's bindings, which torch installs with CUDA; None without them."""
    try:
        from cuda.bindings import runtime
    except ImportError:
        return None
    return runtime


def _checked(found: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a call of CUDA returned, without its status; raises RuntimeError if that is none of success."""
    status, *values = found
    if int(status) != 0:
        raise RuntimeError(f"CUDA: {status.name}")
    return tuple(values)
