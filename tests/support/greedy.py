"""A choice that needs memory while it is merged, and processes that have too little: by a real limit, really reached.

Workers import it by name, from the directory that the tests put on their import path.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from glorasearch.choices import Contribution, Part, Site
from glorasearch.choices.glora import Lora

BYTES: Final = 2**30
"""What a merge takes for a moment."""
LEFT: Final = 2**26
"""What a process may still take once it is limited, on a GPU; twice as much on the CPU, where Ray takes some, too."""
FOLDER: Final = "GREEDY_FOLDER"
"""The variable with a folder: once the file `now` is there, the next worker that merges is limited, and no other."""
DEVICE: Final = "GREEDY_DEVICE"
"""The variable with the type of the device whose memory is limited; choices are tried on the CPU first, too."""


class Greedy(Lora):
    """`lora`, but for the memory."""

    name = "greedy"

    @classmethod
    def parts(cls, site: Site, **largest: int) -> dict[str, Part]:
        """Those of `lora`, by names of their own."""
        return {f"greedy_{name}": part for name, part in super().parts(site, **largest).items()}

    @classmethod
    def contribution(cls, parts: Mapping[str, Tensor], base: Tensor, site: Site) -> Contribution:
        """That of `lora`, computed beside a block of memory that nobody reads."""
        folder, here = os.environ.get(FOLDER), base.device.type == os.environ.get(DEVICE)
        if folder and here and Path(folder, "now").exists():
            cls._limit(Path(folder), base.device)
        torch.empty(BYTES, dtype=torch.uint8, device=base.device)
        own = {name.removeprefix("greedy_"): part for name, part in parts.items()}
        return super().contribution(own, base, site)

    @staticmethod
    def _limit(folder: Path, device: torch.device) -> None:
        if _is_worker() and first(folder / "limited"):
            limit(device)


def limit(device: torch.device) -> None:
    """Leave this process less memory than a merge takes."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(device) + LEFT) / total, device)
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    wanted = pages * resource.getpagesize() + 2 * LEFT
    resource.setrlimit(resource.RLIMIT_AS, (wanted, wanted))


def first(path: Path) -> bool:
    """Whether this call is the first one that names the file, in which the process stands."""
    try:
        with path.open("x") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        return False
    return True


def _is_worker() -> bool:
    """Whether this is an actor that evaluates, or, of those that train together, the second one."""
    if torch.distributed.is_initialized():
        return torch.distributed.get_rank() == 1
    import ray

    return ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None
