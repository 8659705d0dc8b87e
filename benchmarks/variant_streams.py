"""What runs beside what: merges of several banks, dense gradients beside the backward pass."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from glorasearch.fused import FusedStep, streams


@contextmanager
def banks_apart() -> Iterator[None]:
    """Steps and candidates that are made here merge few banks side by side, too, as the product does from eight on."""
    with patch.object(streams, "FEWEST", 1):
        yield


BEHIND = 6
"""Dense gradients that may be under way: so many layers' inputs and gradients are kept longer."""


class _Beside:
    """Computes dense gradients on a stream of their own, in the order of the backward pass.

    What they read is kept until the main stream has waited for them, and buffers are not used again by the compiled
    code itself, so the results are the same.
    """

    def __init__(self, compute: Any) -> None:
        self._compute, self._stream = compute, torch.cuda.Stream()
        self._under_way: deque[tuple[torch.cuda.Event, tuple[Any, ...]]] = deque()

    def __call__(self, *given: Any) -> Tensor:
        current = torch.cuda.current_stream()
        while len(self._under_way) >= BEHIND:
            current.wait_event(self._under_way.popleft()[0])
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            found: Tensor = self._compute(*given)
            done = torch.cuda.Event()
            done.record()
        self._under_way.append((done, given))
        return found

    def join(self) -> None:
        """Wait for all."""
        while self._under_way:
            torch.cuda.current_stream().wait_event(self._under_way.popleft()[0])


class _Joining(FusedStep):
    """Waits for the dense gradients before they are carried back."""

    def __init__(self, *given: Any, beside: _Beside | None, **named: Any) -> None:
        super().__init__(*given, **named)
        carry = self._carry

        def joined(*values: Any) -> Tensor:
            if beside is not None:
                beside.join()
            found: Tensor = carry(*values)
            return found

        self._carry = joined


@contextmanager
def dense_beside() -> Iterator[Any]:
    """A class of steps whose dense gradients run beside the backward pass; valid inside."""
    if not torch.cuda.is_available():
        yield lambda *given, **named: _Joining(*given, beside=None, **named)
        return
    from glorasearch.fused import factor_gradients

    beside = _Beside(factor_gradients.factor_gradient)
    with ExitStack() as stack:
        stack.enter_context(patch.object(factor_gradients, "factor_gradient", beside))
        kept = {"allow_buffer_reuse": False, "inplace_buffers": False}
        stack.enter_context(torch._inductor.config.patch(kept))  # type: ignore[attr-defined]
        yield lambda *given, **named: _Joining(*given, beside=beside, **named)
