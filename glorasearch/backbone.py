"""Backbones: frozen pretrained timm models, built from plain facts."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from glorasearch.adapters import head_names
from glorasearch.errors import BackboneError


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """Which backbone to build; JSON-ready, so that workers build the same."""

    name: str
    """A timm name or `local-dir:<path>`."""
    classes: int
    """Outputs of the new head."""
    pretrained: bool = True
    checkpoint: str | None = None
    """A file of weights, in any form that timm loads."""
    args: dict[str, Any] = field(default_factory=dict)
    """Further arguments of `timm.create_model`."""
    drop_path: float = 0.0
    """Stochastic depth in training; does not change the model that is exported."""
    seed: int = 0
    """Decides the new head."""


def build_backbone(config: BackboneConfig) -> nn.Module:
    """The timm model with its pretrained weights and a new head, in evaluation mode.

    Raises:
        BackboneError: if timm does not know the name, or its weights cannot be had.
    """
    if config.checkpoint is not None and not Path(config.checkpoint).is_file():
        raise BackboneError(f"backbone.checkpoint: no file {config.checkpoint!r}")
    if config.name.startswith("local-dir:") and not Path(config.name.removeprefix("local-dir:")).is_dir():
        raise BackboneError(f"backbone.name: no directory {config.name.removeprefix('local-dir:')!r}")
    arguments = dict(config.args)
    if config.drop_path > 0:
        arguments["drop_path_rate"] = config.drop_path
    if config.checkpoint is not None:
        arguments["pretrained_cfg_overlay"] = {"file": config.checkpoint} | arguments.get("pretrained_cfg_overlay", {})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        try:
            model: nn.Module = timm.create_model(
                config.name, pretrained=config.pretrained, num_classes=config.classes, **arguments
            )
        except Exception as error:
            raise BackboneError(_explain(config, error)) from error
        _new_head(model, config.seed)
    return model.eval()


def build_skeleton(config: BackboneConfig) -> nn.Module:
    """The model without its weights, for who wants to know its shape only: on the meta device, which takes no time.

    A model that needs values while it is built gets random ones.

    Raises:
        BackboneError: if timm does not know the name.
    """
    config = replace(config, pretrained=False, checkpoint=None)
    try:
        with torch.device("meta"):
            return build_backbone(config)
    except BackboneError:
        return build_backbone(config)


def _new_head(model: nn.Module, seed: int) -> None:
    """Draw the head from the seed alone, whatever the pretrained file holds for it and however often timm draws."""
    generator = torch.Generator().manual_seed(seed)
    for name in head_names(model):
        for parameter in model.get_submodule(name).parameters():
            with torch.no_grad():
                if parameter.ndim > 1:
                    parameter.copy_(torch.empty(parameter.shape).normal_(std=0.02, generator=generator))
                else:
                    parameter.zero_()


def _explain(config: BackboneConfig, error: Exception) -> str:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    local = config.name.startswith("local-dir:")
    architecture = config.name.partition(".")[0]
    if not local and ":" not in architecture and not timm.is_model(architecture):
        near = ", ".join(difflib.get_close_matches(architecture, timm.list_models(), n=3))
        return f"backbone {config.name!r}: timm has no such model; some near it: {near or 'see timm.list_models()'}"
    if local or config.checkpoint or not config.pretrained:
        return f"backbone {config.name!r} cannot be built: {first}"
    return (
        f"backbone {config.name!r}: the pretrained weights cannot be had: {first}. Where there is no network, give "
        'a local file by backbone.checkpoint = "<file>", or a directory by backbone.name = "local-dir:<path>"'
    )
