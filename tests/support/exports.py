"""Toy models of several architectures, searched and exported."""

from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import nn

from glorasearch.export import AdaptedModel, BackboneFacts, ExportReport, export_timm
from glorasearch.space import SearchSpace, Subnet, sample
from glorasearch.supernet import Supernet

VIT = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 2}
SWIN = {"img_size": 16, "patch_size": 2, "embed_dim": 12, "depths": (1, 1), "num_heads": (2, 2), "window_size": 4}
MODELS: dict[str, tuple[str, dict[str, Any], tuple[int, int, int]]] = {
    "vit": ("vit_tiny_patch16_224", VIT | {"in_chans": 1}, (1, 16, 16)),
    "vit_bias_gained": ("vit_tiny_patch16_224", VIT | {"qkv_bias": False, "proj_bias": False}, (3, 16, 16)),
    "deit_distilled": ("deit_tiny_distilled_patch16_224", VIT, (3, 16, 16)),
    "swin": ("swin_tiny_patch4_window7_224", SWIN | {"in_chans": 1}, (1, 16, 16)),
    "swin_bias_gained": ("swin_tiny_patch4_window7_224", SWIN | {"qkv_bias": False}, (3, 16, 16)),
    "mixer": ("mixer_s32_224", {"img_size": 64, "mlp_ratio": (0.125, 0.125)}, (3, 64, 64)),
    "convnext": (
        "convnext_tiny",
        {"dims": (8, 16, 24, 32), "depths": (1, 1, 1, 1), "in_chans": 1, "ls_init_value": 1.0},
        (1, 32, 32),
    ),
    "beit": ("beit_base_patch16_224", VIT | {"in_chans": 1}, (1, 16, 16)),
}
FOLDED: dict[str, tuple[str, dict[str, Any], tuple[int, int, int]]] = {
    "resnet": ("resnet18", {"layers": (1, 1, 1, 1), "channels": (8, 8, 16, 16), "in_chans": 1}, (1, 32, 32)),
}
"""Models whose layers have no bias: what they gain goes into the batch norm behind."""
MIXED = {
    "A": ["none", "vector", "lora:2"],
    "B": ["none", "constant", "lora:2"],
    "C": ["none", "lora:2"],
    "D": ["none", "constant", "vector"],
    "E": ["none", "vector"],
}
"""Choices that no simpler method has."""


def toy(name: str, seed: int = 0) -> tuple[nn.Module, torch.Tensor]:
    architecture, args, size = (MODELS | FOLDED)[name]
    torch.manual_seed(seed)
    return timm.create_model(architecture, num_classes=10, **args).eval(), torch.randn(5, *size)


def searched(name: str, choices: dict[str, list[str]] | None = None) -> tuple[Supernet, Subnet, torch.Tensor]:
    """A supernet whose adapters were altered, and a subnet of it that mixes all choices."""
    backbone, images = toy(name)
    space = SearchSpace.model_validate(
        {
            "name": "toy",
            "choices": MIXED if choices is None else choices,
        }
    )
    supernet = Supernet(backbone, space)
    state = {key: value + 0.1 * torch.randn(value.shape) for key, value in supernet.adapter_state().items()}
    supernet.load_adapter_state(state)
    return supernet, sample(supernet.space, np.random.default_rng(1)), images


def export(supernet: Supernet, subnet: Subnet, images: torch.Tensor, path: Path, **changes: Any) -> ExportReport:
    merged = changes.pop("model", None) or supernet.merged(subnet)
    with supernet.activate(subnet):
        options: dict[str, Any] = {
            "backbone": BackboneFacts.from_model(supernet.model),
            "inputs": images,
            "reference": supernet.eval(),
            "subnet": subnet,
            "metrics": {"search_accuracy": 0.5, "parameters": supernet.space.parameters(subnet)},
            "provenance": {"run": "toy", "seed": 0},
        }
        return export_timm(merged, path, **(options | changes))


def adapted(name: str, choices: dict[str, list[str]] | None = None, **changes: Any) -> AdaptedModel:
    """A toy model with a subnet that was altered; `choices` are those of its space."""
    supernet, subnet, images = searched(name, choices)
    backbone, _ = toy(name)
    return AdaptedModel(
        **(
            {
                "supernet": supernet.eval(),
                "subnet": subnet,
                "images": images,
                "facts": BackboneFacts.from_model(supernet.model),
                "backbone": backbone,
                "metrics": {"parameters": 1, "temperature": 1.5},
                "provenance": {"run": "toy"},
            }
            | changes
        )
    )
