"""Which merged model scores candidates on a device."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from glorasearch.config import Compile, Precision, is_mixed
from glorasearch.errors import ConfigError, GlorasearchError, first_line
from glorasearch.evaluation.eager_model import EagerModel
from glorasearch.evaluation.merged_model import MergedModel
from glorasearch.supernet import Supernet

_log = logging.getLogger(__name__)


def make_merged_model(
    supernet: Supernet, device: torch.device | str, example: Tensor, *, compile: Compile, precision: Precision
) -> MergedModel:
    """`CapturedModel` on a GPU in bfloat16, otherwise `EagerModel`.

    Args:
        supernet: on that device already.
        device: where to evaluate.
        example: a batch `(n, C, H, W)` of the shape to be scored.
        compile: `auto` falls back to the eager model, with a warning, if the backbone cannot be compiled;
            `on` raises if it cannot be; `off` always takes the eager one.
        precision: of the forward pass; `auto` is bfloat16 on GPUs.
    """
    kind = torch.device(device).type
    mixed = is_mixed(precision, kind)
    if compile == "off" or kind != "cuda" or not mixed:
        return EagerModel(supernet, device, mixed=mixed)
    from glorasearch.evaluation.captured_model import CapturedModel
    from glorasearch.fused import UnfusableError

    try:
        model = CapturedModel(supernet, device)
        model.prove(example)
    except (GlorasearchError, torch.OutOfMemoryError):
        raise
    except UnfusableError as error:
        if compile == "on":
            raise ConfigError(f"{error}; set compile to auto or off") from error
        _log.warning("%s: candidates are scored by the plain forward", error)
        return EagerModel(supernet, device, mixed=True)
    except Exception as error:  # compilers and captures fail in many ways
        if compile == "on":
            raise
        _log.warning(
            "this model cannot be compiled and captured here (%s): candidates are scored by the plain forward",
            first_line(error),
        )
        return EagerModel(supernet, device, mixed=True)
    return model
