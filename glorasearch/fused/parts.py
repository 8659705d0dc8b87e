"""Parts of a captured step that a replay leaves out.

A CUDA graph is one sequence of launches for every subnet, but a node of it can be switched off for the replays to come
(`cudaGraphNodeSetEnabled`), which takes the host about a microsecond and no wait. So the dense gradient of a layer may
be cuBLAS's or cuDNN's, which know of no plan, and still costs nothing where the drawn choices do not need it. Outside a
capture, and where CUDA's bindings are missing, every part is computed; what follows asks the plan on the device.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

Key = tuple[int, int]
"""A row of a plan, by its address, and a column of it."""

_log = logging.getLogger(__name__)
_recorder: Recorder | None = None


def key_of(plan: Tensor, column: int) -> Key:
    """The key of a part of the layer with this row of the plan."""
    return plan.data_ptr(), column


@contextmanager
def part(plan: Tensor, column: int) -> Iterator[None]:
    """What is launched inside is needed only by subnets whose plan has a 1 there."""
    recorder = _recorder
    if recorder is None or not torch.cuda.is_current_stream_capturing():
        yield
        return
    before = recorder.nodes()
    yield
    recorder.parts.setdefault(key_of(plan, column), []).append(sorted(recorder.nodes() - before))


class Recorder:
    """Finds the nodes of parts while a graph is captured."""

    def __init__(self) -> None:
        self.parts: dict[Key, list[list[int]]] = {}
        """For every part the handles of its nodes, each time that it was captured."""

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Record what is captured inside; by whichever thread, as gradients are computed by threads of torch."""
        global _recorder
        _recorder = self if _cudart() is not None else None
        try:
            yield
        finally:
            _recorder = None

    def nodes(self) -> set[int]:
        """The handles of the nodes of the graph that the current stream is being captured in."""
        cudart = _cudart()
        graph = _checked(cudart.cudaStreamGetCaptureInfo(torch.cuda.current_stream().cuda_stream))[2]
        _, count = _checked(cudart.cudaGraphGetNodes(graph))
        found, _ = _checked(cudart.cudaGraphGetNodes(graph, count))
        return {int(node) for node in found}


class Switches:
    """Switches parts of an instantiated graph on and off."""

    def __init__(self, graph: torch.cuda.CUDAGraph, parts: Mapping[Key, Sequence[Sequence[int]]]) -> None:
        """`graph` was captured with `keep_graph`, or its nodes would be gone; all parts are on.

        Raises: RuntimeError if CUDA refuses to switch one.
        """
        self._graph = graph
        self._parts = {key: [self._switchable(nodes) for nodes in times] for key, times in parts.items()}
        self._on = {key: [True] * len(times) for key, times in parts.items()}
        for on in (False, True):
            self.set({key: [on] * len(times) for key, times in parts.items()})

    @classmethod
    def of(cls, graph: torch.cuda.CUDAGraph, recorder: Recorder) -> Switches | None:
        """Those of a graph; None if there is nothing to switch, or CUDA does not let us."""
        if not recorder.parts:
            return None
        try:
            return cls(graph, recorder.parts)
        except (RuntimeError, AttributeError) as error:
            _log.debug("every layer's dense gradient is computed in every step: %s", error)
            return None

    @property
    def off(self) -> int:
        """How many parts the next replay leaves out."""
        return sum(times.count(False) for times in self._on.values())

    def set(self, needed: Mapping[Key, Sequence[bool]]) -> None:
        """Switch every part, each time that it was captured, for the replays that are started from now on."""
        cudart, handle = _cudart(), self._graph.raw_cuda_graph_exec()
        for key, times in self._parts.items():
            now = self._on[key]
            for number, (nodes, wanted) in enumerate(zip(times, needed[key], strict=True)):
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
