"""A training step on a GPU: captured in a CUDA graph, and compiled where that pays."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

import torch
from torch import Tensor

from glorasearch.code_cache import seal_code
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


class Steppable(Protocol):
    """What `GraphedSteps` runs."""

    def compute(self, inputs: Sequence[Tensor]) -> Tensor:
        """One step."""
        ...

    def changed(self) -> Sequence[Tensor]:
        """What a step changes on the device."""
        ...

    def compile_model(self) -> None:
        """Have the model compiled when it is called the next time."""
        ...


class GraphedSteps:
    """Runs the steps of a stack on a GPU, each as one CUDA graph.

    With `compile="auto"` the model is compiled if a captured step takes so long that this pays in what is left. The
    stack holds this object and not the other way round: its memory is free as soon as nobody needs it.
    """

    def __init__(self, mode: Compile, steps: int) -> None:
        """For a training of so many steps; with `off` nothing is captured either."""
        self._mode, self._steps = mode, steps
        self._captures, self._compiled, self._decided = mode != "off", False, mode != "auto"
        self._step: CapturedStep | None = None
        self._first = 0
        self._began = 0.0

    def __call__(self, number: int, inputs: Sequence[Tensor], stack: Steppable) -> Tensor:
        """Step `number` of the stack, from 0."""
        if not self._decided and self._step is not None and number == self._first + TIMED:
            self._decide(number, stack)
        if self._step is None and self._captures:
            self._capture(number, inputs, stack)
        return _plain(stack, inputs) if self._step is None else self._step(inputs)

    def _decide(self, number: int, stack: Steppable) -> None:
        torch.cuda.synchronize()
        self._decided = True
        if pays((time.perf_counter() - self._began) / TIMED, self._steps - number):
            self._step = None  # its memory is needed for the next one
            self._compile(stack)

    def _compile(self, stack: Steppable) -> None:
        stack.compile_model()
        self._compiled = True

    def _capture(self, number: int, inputs: Sequence[Tensor], stack: Steppable) -> None:
        if self._mode == "on" and not self._compiled:
            self._compile(stack)
        try:
            compute = stack.compute if self._compiled else partial(_plain, stack)
            self._step = CapturedStep(compute, inputs, stack.changed())
        except Exception as error:  # whatever a compiler, a driver or a model's forward may raise
            if self._mode == "on" or isinstance(error, torch.OutOfMemoryError):
                raise
            what = "compiled" if self._compiled else "captured"
            _log.warning("the stack's step cannot be %s (%s): it runs without", what, reason(error))
        else:
            torch.cuda.synchronize()
            seal_code()
            self._first, self._began = number, time.perf_counter()
            return
        # Here, where what the failed attempt held is free again.
        self._captures, self._compiled = self._compiled, False
        if self._captures:
            self._capture(number, inputs, stack)


def _plain(stack: Steppable, inputs: Sequence[Tensor]) -> Tensor:
    with torch.compiler.set_stance("force_eager"):
        return stack.compute(inputs)


def pays(seconds: float, steps: int) -> bool:
    """Whether to compile if so many captured steps are left, each of so many seconds."""
    return seconds * steps * SAVED > COMPILE_SECONDS
