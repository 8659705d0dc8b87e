"""Independent pieces of work of a GPU side by side, on streams of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import torch

AT_ONCE: Final = 8
"""Streams."""
FEWEST: Final = 8
"""Pieces for which they are taken: with fewer there is little to gain, and one stream has no joints."""


class Streams:
    """Runs pieces of work between what comes before and what comes after them on the current stream.

    Most of the time of small kernels is latency. No piece may read or write what another one writes. It works within
    the capture of a CUDA graph, too, whose branches the pieces become.
    """

    def __init__(self) -> None:
        self._streams: list[torch.cuda.Stream] = []

    def run(self, pieces: Sequence[Callable[[], None]], device: torch.device) -> None:
        """Run all; on the CPU, or if there are fewer than `FEWEST`, one after the other."""
        if device.type != "cuda" or len(pieces) < FEWEST:
            for piece in pieces:
                piece()
            return
        if not self._streams:
            self._streams = [torch.cuda.Stream(device) for _ in range(AT_ONCE)]  # type: ignore[no-untyped-call]
        current = torch.cuda.current_stream(device)
        for number, piece in enumerate(pieces):
            stream = self._streams[number % AT_ONCE]
            if number < AT_ONCE:
                stream.wait_stream(current)
            with torch.cuda.stream(stream):
                piece()
        for stream in self._streams[: len(pieces)]:
            current.wait_stream(stream)
