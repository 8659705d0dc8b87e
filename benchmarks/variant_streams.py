"""What runs beside what: merges of several banks, dense gradients beside the backward pass, several steps a replay."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from glorasearch.fused import FusedStep, step, streams
from glorasearch.space import Subnet


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


class SeveralSteps:
    """K steps of a fused step in one replay; each step has subnet, images, labels and rates of its own."""

    def __init__(self, one: FusedStep, count: int) -> None:
        """`one` has run once."""
        assert one.images is not None
        assert one._labels is not None
        self._one = one
        self._codes = torch.stack([one._codes] * count)
        self._rates = torch.stack([one._rates] * count)
        self.images = torch.stack([one.images] * count)
        self.labels = torch.stack([one._labels] * count)
        self.results = torch.stack([one.result] * count)
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, subnets: Sequence[Subnet], rates: dict[str, float]) -> Tensor:
        """A subnet for each step; `images` and `labels` hold theirs. Returns `(K, 2)`."""
        one = self._one
        table = torch.tensor([one._pool.codes(subnet) for subnet in subnets], dtype=torch.int32)
        given = torch.tensor([rates.get(group, 0.0) for group in one._groups], dtype=self._rates.dtype)[one._group_of]
        self._codes.copy_(step._pinned(table[:, None], one.device), non_blocking=True)
        self._rates.copy_(step._pinned(given, one.device), non_blocking=True)
        if one.device.type != "cuda":
            self._compute()
        elif self._graph is None:
            torch.cuda.synchronize()
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._compute()
            self._graph.replay()
        else:
            self._graph.replay()
        return self.results.clone()

    def _compute(self) -> None:
        one = self._one
        for number in range(len(self.results)):
            one._codes.copy_(self._codes[number])
            one._rates.copy_(self._rates[number])
            one.images.copy_(self.images[number])  # type: ignore[union-attr]
            one._labels.copy_(self.labels[number])  # type: ignore[union-attr]
            one._step()
            self.results[number].copy_(one.result)
