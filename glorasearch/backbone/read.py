"""Reading a file of weights as it is, without running anything that it holds."""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import load_file
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from glorasearch.errors import BackboneError


def read_checkpoint(path: str) -> Mapping[str, Any]:
    """All that a `.safetensors` file, or one that `torch.save` has written, holds.

    Raises:
        BackboneError: if it holds no names, or Python objects for which code would have to run.
    """
    if path.endswith(".safetensors"):
        return load_file(path)
    try:
        with safe_globals([argparse.Namespace]):  # the arguments of a training, which many keep beside the weights
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        objects = _objects(path)
        if not objects:
            raise
        raise BackboneError(
            f"backbone: {path!r} holds Python objects ({', '.join(objects)}), which would run code when "
            "they are read; where you trust the file, save its weights alone: "
            'torch.save(torch.load("<file>", weights_only=False)["<key of the weights>"], "weights.pth"), or '
            "model.state_dict() of a whole model"
        ) from error
    if not isinstance(found, Mapping):
        raise BackboneError(
            f"backbone: {path!r} holds a {type(found).__name__}, not tensors by name as state_dict() gives "
            "them; save model.state_dict()"
        )
    return found


def _objects(path: str) -> list[str]:
    """What keeps a file from being read, as far as torch can say."""
    try:
        return sorted(get_unsafe_globals_in_checkpoint(path))[:4]
    except Exception:  # not in a form that torch writes
        return []
