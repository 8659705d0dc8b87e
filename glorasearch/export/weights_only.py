"""The merged weights alone, by the names that timm gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import timm
import torch
from torch import nn

from glorasearch.errors import ExportError, reason
from glorasearch.export.adapted import AdaptedModel
from glorasearch.export.folder import load_tensors, save_tensors
from glorasearch.export.preprocessing import as_texts
from glorasearch.export.timm_directory import timm_state

WEIGHTS_NAME: Final = "model.safetensors"


def write_weights(adapted: AdaptedModel, folder: Path) -> dict[str, Any]:
    """Write the weights into a folder; returns what the manifest has to say of them."""
    state, arguments = timm_state(adapted.model, adapted.facts, adapted.input_size)
    save_tensors(folder / WEIGHTS_NAME, state, as_texts(adapted))
    return adapted.described() | {"model_args": arguments}


def weights_outputs(folder: Path, adapted: AdaptedModel) -> nn.Module:
    """The model that timm builds, with the weights of a folder.

    Raises:
        ExportError: if they are not its own.
    """
    weights = load_tensors(folder / WEIGHTS_NAME)
    _, arguments = timm_state(adapted.model, adapted.facts, adapted.input_size)
    with torch.random.fork_rng(devices=[]):
        model: nn.Module = timm.create_model(
            adapted.facts.architecture,
            pretrained=False,
            pretrained_cfg=dict(adapted.cfg),
            **(arguments | {"num_classes": adapted.facts.num_classes}),
        )
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ExportError(f"{folder / WEIGHTS_NAME} has other tensors: {reason(error)}; export it again") from error
    return model.eval().to(adapted.images.device)
