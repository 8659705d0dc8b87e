"""The device that a person asks for."""

from __future__ import annotations

import torch

from glorasearch.errors import InputError


def resolve_device(wanted: str) -> str:
    """The device for `auto`, `cpu`, `cuda` or `cuda:<n>`; a numbered one becomes the current device.

    Raises:
        InputError: if there is no such device.
    """
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise InputError(f"device {wanted!r} is not supported; use auto, cpu, cuda or cuda:<n>")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise InputError(f"device {wanted!r}: this machine has {found or 'no'} CUDA devices; use auto or cpu")
    if device.type == "cuda" and device.index is not None:  # else the current device is meant already
        torch.cuda.set_device(device)  # streams, graphs and Triton's launches go to the current device
    return str(device)
