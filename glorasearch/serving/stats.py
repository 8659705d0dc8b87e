"""What a server of adapters holds and has done."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStats:
    """What a server holds and has done so far."""

    adapters: int
    """That may be asked for."""
    ready_bytes: int
    """What those that are ready take on the device, beyond the backbone."""
    swaps: int
    """Times that an adapter was merged into the resident model."""
    made_ready: int
    """Times that an adapter was moved to the device."""
    evicted: int
    """Times that one had to make room there."""
    unmerged: int
    """Batches that were computed without merging."""
