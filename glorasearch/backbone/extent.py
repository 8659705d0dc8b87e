"""Models that nobody can mean, such as one of 100,000 blocks, are refused while they are built."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from torch import nn
from torch.nn.modules import module as hooks

from glorasearch.errors import BackboneError

MOST_TENSORS: Final = 10_000
"""Parameters and buffers; timm's largest models have 2,000."""


@contextmanager
def bounded_extent(subject: str) -> Iterator[None]:
    """Refuse what is built in here once it has too many tensors, or more of them than memory holds.

    A tensor is counted when a module gets it, which is before its memory is touched.

    Args:
        subject: the backbone, for the message.

    Raises:
        BackboneError: saying which.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    tensors = size = 0

    def count(module: nn.Module, name: str, value: Any) -> None:
        nonlocal tensors, size
        if value is None:
            return
        tensors += 1
        size += value.numel() * value.element_size()
        if tensors > MOST_TENSORS:
            found, most = f"more than {MOST_TENSORS:,} tensors", "more than any model of timm"
        elif size > memory:
            found, most = f"{size / 2**30:,.0f} GiB or more", f"this machine has {memory / 2**30:,.0f} GiB"
        else:
            return
        raise BackboneError(f"{subject} would have {found}, {most}; make the numbers in backbone.args smaller")

    handles = [
        hooks.register_module_parameter_registration_hook(count),
        hooks.register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
