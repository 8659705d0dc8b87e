"""Many small tensors to a device in one move: on a GPU each move waits for the device, or for the driver at least."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


@torch.no_grad()
def copy_together(targets: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Copy values, on the CPU, into targets of the same shapes, which are on one device.

    Args:
        targets: of the dtype of the first one.
        values: of any dtype.
    """
    if not targets:
        return
    first = targets[0]
    flat = torch.cat([value.to(first.dtype).flatten() for value in values]).to(first.device)
    parts = torch.split(flat, [target.numel() for target in targets])
    torch._foreach_copy_(list(targets), [part.view_as(target) for part, target in zip(parts, targets, strict=True)])
