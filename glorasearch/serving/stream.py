"""Where the work of a server's threads is queued on a device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def computing(images: Tensor, device: torch.device) -> Iterator[Tensor]:
    """Images on the device in float32, in inference mode; all threads use one stream there, so that no swap overtakes a
    forward pass."""
    with torch.inference_mode():
        if device.type != "cuda":
            yield images.to(device, torch.float32)
            return
        caller, own = torch.cuda.current_stream(device), torch.cuda.default_stream(device)
        own.wait_stream(caller)
        with torch.cuda.stream(own):
            yield images.to(device, torch.float32)
        caller.wait_stream(own)
        if caller != own:
            own.synchronize()  # the results' memory belongs to that stream
