"""A training step on a GPU: captured in a CUDA graph, and compiled where that pays."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor

from glorasearch.config import Compile
from glorasearch.errors import reason

_log = logging.getLogger(__name__)
Compute = Callable[[Sequence[Tensor]], Tensor]

WARM_UPS: Final = 3
"""Steps before the capture, in which libraries choose their kernels and allocate what they need."""
TIMED: Final = 10
"""Captured steps that are timed before it is decided whether to compile."""
COMPILE_SECONDS: Final = 20.0
"""What the compilation of a stack takes; the next stack of as many models in the process needs none. Measured on an
H200: 18.8 s for 24 models of the suite's backbone, 19.8 s for 8 with drop path, 7.7 s for one."""
SAVED: Final = 0.2
"""Share of a captured step's time that compilation saves: there 40.7 to 32.4 ms, 22.8 to 18.9 ms."""


class CapturedStep:
    """Replays `compute` on copies of its inputs: every tensor that it reads or writes stays where it is.

    Args:
        compute: one step; it must not wait for the device or move anything there.
        inputs: of one step; those of later steps have the same shapes.
        changed: what a step changes: restored after warm-ups and capture, and if the capture fails.
    """

    def __init__(self, compute: Compute, inputs: Sequence[Tensor], changed: Sequence[Tensor]) -> None:
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


class GraphedSteps:
    """Runs the steps of a stack on a GPU, each as one CUDA graph.

    With `compile="auto"` the model is compiled if a captured step takes so long that this pays in what is left.
    """

    def __init__(
        self,
        compute: Compute,
        changed: Sequence[Tensor],
        compile_model: Callable[[], object],
        mode: Compile,
        steps: int,
    ) -> None:
        """Prepare to run.

        Args:
            compute: one step.
            changed: as `CapturedStep` takes it.
            compile_model: has the model compiled when it is called the next time.
            mode: `off` to capture nothing either.
            steps: of the whole training.
        """
        self._compute, self._changed, self._compile_model, self._steps = compute, changed, compile_model, steps
        self._captures, self._undecided, self._must = mode != "off", mode == "auto", mode == "on"
        self._compiled = False
        self._step: CapturedStep | None = None
        self._first = 0
        self._began = 0.0

    def __call__(self, number: int, inputs: Sequence[Tensor]) -> Tensor:
        """Step `number`, from 0."""
        if self._undecided and self._step is not None and number == self._first + TIMED:
            self._decide(number)
        if self._step is None and self._captures:
            self._capture(number, inputs)
        return self._plain(inputs) if self._step is None else self._step(inputs)

    def _decide(self, number: int) -> None:
        torch.cuda.synchronize()
        self._undecided = False
        if pays((time.perf_counter() - self._began) / TIMED, self._steps - number):
            self._step = None  # its memory is needed for the next one
            self._compiled = True
            self._compile_model()

    def _capture(self, number: int, inputs: Sequence[Tensor]) -> None:
        if self._must and not self._compiled:
            self._compiled = True
            self._compile_model()
        try:
            self._step = CapturedStep(self._compute if self._compiled else self._plain, inputs, self._changed)
        except Exception as error:  # whatever a compiler, a driver or a model's forward may raise
            if self._must or isinstance(error, torch.OutOfMemoryError):
                raise
            what, self._captures = ("compiled", True) if self._compiled else ("captured", False)
            _log.warning("the stack's step cannot be %s (%s): it runs without", what, reason(error))
            if self._compiled:
                self._compiled = False
                self._capture(number, inputs)
        torch.cuda.synchronize()
        self._first, self._began = number, time.perf_counter()

    def _plain(self, inputs: Sequence[Tensor]) -> Tensor:
        with torch.compiler.set_stance("force_eager"):
            return self._compute(inputs)


def pays(seconds: float, steps: int) -> bool:
    """Whether to compile if so many captured steps are left, each of so many seconds."""
    return seconds * steps * SAVED > COMPILE_SECONDS
