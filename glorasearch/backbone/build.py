"""Building a backbone: the timm model with its pretrained weights and a new head."""

from __future__ import annotations

import difflib
import re
from functools import partial
from pathlib import Path
from typing import Any, Final

import timm
import torch
from torch import nn

from glorasearch.backbone.config import BackboneConfig
from glorasearch.backbone.extent import bounded_extent
from glorasearch.backbone.new_head import draw_classifier
from glorasearch.backbone.original_format import NUMPY
from glorasearch.backbone.pretrained import checked_loading
from glorasearch.backbone.undrawn import Undrawn
from glorasearch.backbone.undrawn import build as build_undrawn
from glorasearch.errors import BackboneError, reason

_QUOTED: Final = re.compile(r"(?<=')\w+(?=')")


def build_backbone(config: BackboneConfig, classes: int, *, drop_path: float = 0.0, seed: int = 0) -> nn.Module:
    """The timm model with its pretrained weights and a new head, in evaluation mode.

    Every tensor outside the head comes from the file of the weights. What may be missing there, or everything without
    pretrained weights, is random, and the same for every `seed`: it belongs to the backbone, not to the run.

    Args:
        config: which model.
        classes: outputs of the new head.
        drop_path: stochastic depth in training; does not change the exported model.
        seed: of the new head.

    Raises:
        BackboneError: if timm does not know the name, or its weights cannot be loaded or do not fit.
    """
    name = config.timm_name
    if config.checkpoint is not None and not Path(config.checkpoint).is_file():
        raise BackboneError(f"backbone.checkpoint: no file {config.checkpoint!r}")
    if name.startswith("local-dir:") and not Path(name.removeprefix("local-dir:")).is_dir():
        raise BackboneError(f"backbone.name: no directory {name.removeprefix('local-dir:')!r}")
    arguments = dict(config.args)
    if drop_path > 0:
        arguments["drop_path_rate"] = drop_path
    if config.checkpoint is not None:
        arguments["pretrained_cfg_overlay"] = _from_file(config.checkpoint) | arguments.get(
            "pretrained_cfg_overlay", {}
        )
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        if config.args:
            _check_extent(config, classes, arguments)
        make = partial(_make, config, classes, seed, arguments)
        loads = config.pretrained and not str(config.checkpoint).endswith(NUMPY)  # which the model itself reads
        model = build_undrawn(make) if loads else make(None)
    return model.eval()


def _make(
    config: BackboneConfig, classes: int, seed: int, arguments: dict[str, Any], draws: Undrawn | None
) -> nn.Module:
    """The model with its weights and a new classifier; `draws` end where its weights are loaded."""
    torch.manual_seed(0)
    try:
        with checked_loading(config, draws.end if draws is not None else lambda model: None) as loading:
            model: nn.Module = timm.create_model(
                config.timm_name, pretrained=config.pretrained, num_classes=classes, **arguments
            )
        loading.check_done(model)
    except BackboneError:
        raise
    except Exception as error:
        raise BackboneError(_explain(config, error)) from error
    draw_classifier(model, seed)
    return model


def _check_extent(config: BackboneConfig, classes: int, arguments: dict[str, Any]) -> None:
    """Build the model without memory for its tensors, as far as that goes: its arguments may ask for anything.

    Raises:
        BackboneError: if it is larger than any model can be here.
    """
    with bounded_extent(f"backbone {config.name!r}"), torch.device("meta"):
        try:
            timm.create_model(config.timm_name, num_classes=classes, **arguments)
        except BackboneError:
            raise
        except Exception:
            return  # some need values while they are built; what is wrong comes to light there


def build_skeleton(config: BackboneConfig, classes: int) -> nn.Module:
    """The model without its weights, for its shapes only: on the meta device, which takes no time.

    A model that needs values while it is built gets random ones.

    Raises:
        BackboneError: if timm does not know the name.
    """
    config = config.replace(pretrained=False, checkpoint=None)
    try:
        with torch.device("meta"):
            return build_backbone(config, classes)
    except BackboneError:
        return build_backbone(config, classes)


def _from_file(path: str) -> dict[str, Any]:
    """What makes timm load a file, whatever the source of the name's own weights, whose licence is not the file's."""
    return {"file": path, "source": "", "custom_load": path.endswith(NUMPY), "license": None}


def _explain(config: BackboneConfig, error: Exception) -> str:
    why, local = reason(error), config.timm_name.startswith("local-dir:")
    architecture = config.name.partition(".")[0]
    if not local and ":" not in architecture and not timm.is_model(architecture):
        near = ", ".join(difflib.get_close_matches(architecture, timm.list_models(), n=3))
        hint = f"similar names: {near}" if near else "no similar name; timm.list_models() lists all"
        return f"backbone {config.name!r}: timm has no such model; {hint}"
    unknown = [key for key in _QUOTED.findall(why) if key in config.args]
    if unknown and "unexpected keyword" in why:
        sizes = " (images are resized to data.size)" if {*unknown} & {"img_size", "dynamic_img_size"} else ""
        hint = f"leave {', '.join(unknown)} out of backbone.args{sizes}"
        return f"backbone {config.name!r}: the model does not take {', '.join(unknown)}: {hint}"
    given = f"; backbone.args has {', '.join(config.args)}" if config.args else ""
    if local or config.checkpoint or not config.pretrained:
        return f"backbone {config.name!r} cannot be built: {why}{given}"
    return (
        f"backbone {config.name!r}: its pretrained weights cannot be loaded: {why}{given}. Where there is no network, "
        'give a local file by backbone.checkpoint = "<file>", or a directory by backbone.name = "local-dir:<path>"'
    )
