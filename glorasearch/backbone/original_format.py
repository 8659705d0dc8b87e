"""The original JAX format of vision transformers, which models of timm read by a function of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
from torch import nn

NUMPY: Final = (".npz", ".npy")
"""Suffixes of files in that format."""


def names_in(path: str | None) -> list[str]:
    """The names in a file of that format; none for any other file."""
    if path is None or not path.endswith(NUMPY[0]):
        return []
    with np.load(path, allow_pickle=False) as archive:
        return list(archive.files)


def lost_blocks(model: nn.Module, names: Sequence[str]) -> list[str]:
    """The blocks in the file that the model does not have: the reader leaves out what it does not need."""
    blocks = getattr(model, "blocks", ())
    numbers = {int(found[1]) for name in names if (found := re.search(r"encoderblock_(\d+)/", name))}
    return [f"blocks.{number}" for number in sorted(numbers) if number >= len(blocks)]
