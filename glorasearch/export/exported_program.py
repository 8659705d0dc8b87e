"""The merged model as a program of `torch.export`: it runs where there is torch alone, for batches of any size."""

from __future__ import annotations

import copy
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from glorasearch.errors import ExportError, reason
from glorasearch.export.adapted import AdaptedModel
from glorasearch.export.preprocessing import as_texts

PROGRAM_NAME: Final = "model.pt2"
BATCHES: Final = (1, 3)
"""Sizes of batches on which a program is run beside the whole one."""
_LOGGERS: Final = ("torch.onnx", "onnxscript", "onnx_ir")
LONGEST_CAUSE: Final = 300
"""Characters of a message of torch that are passed on."""


def write_program(adapted: AdaptedModel, folder: Path) -> dict[str, Any]:
    """Write the program into a folder; returns what the manifest has to say of it.

    Raises:
        ExportError: if torch cannot follow the model.
    """
    program = traced(adapted)
    torch.export.save(program, folder / PROGRAM_NAME, extra_files=as_texts(adapted))
    return adapted.described()


def program_outputs(folder: Path, adapted: AdaptedModel) -> Callable[[Tensor], Tensor]:
    """What the program in a folder computes; several sizes of batches are compared with the whole.

    Raises:
        ExportError: if it cannot be loaded, or does not take batches of any size.
    """
    try:
        with quiet():
            model = torch.export.load(folder / PROGRAM_NAME).module()
    except Exception as error:
        raise ExportError(f"torch cannot load {folder / PROGRAM_NAME}: {reason(error)}; export it again") from error
    return lambda images: any_batch(lambda own: model(own), images.cpu(), adapted)


def traced(adapted: AdaptedModel) -> torch.export.ExportedProgram:
    """The merged model on the CPU as a program with a batch of any size.

    Raises:
        ExportError: if torch cannot follow the model, or only for one size of a batch.
    """
    model = copy.deepcopy(adapted.model).cpu().eval()
    images = adapted.images[:2].cpu()
    images = images if len(images) == 2 else images.expand(2, -1, -1, -1).contiguous()
    try:
        with quiet(), torch.no_grad():
            return torch.export.export(
                _Named(model), (images,), dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}}
            )
    except Exception as error:
        raise ExportError(
            f"torch.export cannot follow {adapted.facts.architecture} for batches of any size: {first_cause(error)}; "
            "the formats timm and safetensors do without it"
        ) from error


def any_batch(outputs: Callable[[Tensor], Tensor], images: Tensor, adapted: AdaptedModel) -> Tensor:
    """Outputs for all images; those of smaller batches are compared with them.

    Raises:
        ExportError: if they differ.
    """
    with torch.no_grad():
        found = outputs(images)
        whole = adapted.comparable(found)
        for size in BATCHES:
            part = adapted.comparable(outputs(images[:size]))
            allowed = adapted.tolerance * float(whole.abs().max())
            if not torch.allclose(part, whole[:size], rtol=0, atol=allowed):
                raise ExportError(f"a batch of {size} images has other outputs than the same images in a larger one")
    return found


class _Named(nn.Module):
    """A model whose input is called `images`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        return logits


def first_cause(error: BaseException) -> str:
    """What torch stumbled over, in a line: its own messages are pages, with colours for terminals."""
    while error.__cause__ is not None:
        error = error.__cause__
    return re.sub(r"\x1b\[[0-9;]*m", "", reason(error).partition(" While executing ")[0])[:LONGEST_CAUSE]


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of tracing, which are not about the model."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
