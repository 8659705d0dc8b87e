"""Which resident backbone a machine gets."""

from __future__ import annotations

import logging
from typing import Literal

import torch
from torch import Tensor

from glorasearch.errors import ConfigError, GlorasearchError
from glorasearch.evaluation.resident import EagerResident, Resident
from glorasearch.supernet import Supernet

Compile = Literal["auto", "on", "off"]
_log = logging.getLogger(__name__)


def resident_of(
    supernet: Supernet, device: torch.device | str, example: Tensor, *, compile: Compile, mixed: bool | None
) -> Resident:
    """The compiled and captured resident on a GPU in bfloat16, else the eager one.

    Args:
        supernet: on that device already.
        device: where to evaluate.
        example: a batch `(n, C, H, W)` as there will be.
        compile: `auto` takes the eager one, with a warning, where a model cannot be compiled; `on` fails there; `off`
            always takes the eager one.
        mixed: bfloat16; on GPUs only, if not given.
    """
    cuda = torch.device(device).type == "cuda"
    wanted = cuda if mixed is None else mixed
    if compile == "off" or not cuda or not wanted:
        return EagerResident(supernet, device, mixed=wanted)
    from glorasearch.evaluation.graph_resident import GraphResident
    from glorasearch.fused import UnfusableError

    try:
        resident = GraphResident(supernet, device)
        resident.prove(example)
    except (GlorasearchError, torch.OutOfMemoryError):
        raise
    except UnfusableError as error:
        if compile == "on":
            raise ConfigError(f"{error}; set compile to auto or off") from error
        _log.warning("%s: candidates are scored by the plain forward", error)
        return EagerResident(supernet, device, mixed=True)
    except Exception as error:  # compilers and captures fail in many ways
        if compile == "on":
            raise
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        _log.warning(
            "this model cannot be compiled and captured here (%s): candidates are scored by the plain forward", first
        )
        return EagerResident(supernet, device, mixed=True)
    return resident
