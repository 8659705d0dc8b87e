"""A training step captured in a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor

WARM_UPS: Final = 3
"""Steps before the capture, in which libraries choose their kernels and allocate what they need."""


class CapturedStep:
    """Replays `compute` on copies of its inputs: every tensor that it reads or writes stays where it is.

    Args:
        compute: one step; it must not wait for the device or move anything there.
        inputs: of one step; those of later steps have the same shapes.
        changed: what a step changes: restored after warm-ups and capture, and if the capture fails.
    """

    def __init__(
        self, compute: Callable[[Sequence[Tensor]], Tensor], inputs: Sequence[Tensor], changed: Sequence[Tensor]
    ) -> None:
        self._inputs = [value.clone() for value in inputs]
        kept = [value.clone() for value in changed]
        self._graph = torch.cuda.CUDAGraph()
        try:
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UPS):
                    compute(self._inputs)
            torch.cuda.current_stream().wait_stream(stream)
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):  # as `fused.compiling` does
                self._result = compute(self._inputs)
        finally:
            with torch.no_grad():
                for value, before in zip(changed, kept, strict=True):
                    value.copy_(before)

    def __call__(self, inputs: Sequence[Tensor]) -> Tensor:
        """One step on these inputs."""
        for own, value in zip(self._inputs, inputs, strict=True):
            own.copy_(value)
        self._graph.replay()
        return self._result.clone()
