"""The memory of GPUs: models of one stack that do not fit are trained in halves, and captured steps are freed."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

_log = logging.getLogger(__name__)
Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


def in_halves(
    work: Callable[[Sequence[Item]], Outcome], items: Sequence[Item], hint: str
) -> list[tuple[Sequence[Item], Outcome]]:
    """What `work` makes of the items, in as few parts as the GPU's memory allows, in their order.

    Args:
        work: trains items side by side.
        items: one or more.
        hint: what to set for fewer of them, for the warning.

    Raises:
        torch.OutOfMemoryError: if there is too little memory for one of them.
    """
    try:
        return [(items, work(items))]
    except torch.OutOfMemoryError:
        if len(items) == 1:
            raise
    _log.warning("%d models side by side do not fit into the GPU's memory: trained in two halves; %s", len(items), hint)
    free_steps("cuda")
    torch.cuda.empty_cache()
    half = (len(items) + 1) // 2
    return [*in_halves(work, items[:half], hint), *in_halves(work, items[half:], hint)]


def free_steps(device: str) -> None:
    """Free what nobody needs any more: on a GPU a captured step holds gigabytes in reference cycles."""
    if device.startswith("cuda"):
        gc.collect()
