"""What timm builds from an architecture and arguments alone, and which arguments give bias-less layers their bias."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
from torch import Tensor

from glorasearch.errors import ExportError
from glorasearch.export.backbone_facts import json_arguments

State = Mapping[str, Tensor]

_BIAS_ARGUMENTS = ("qkv_bias", "proj_bias")
"""timm's arguments that add biases to linear layers; each acts on every layer of its kind."""


def check_exportable(
    architecture: str, model_args: Mapping[str, Any], layers_gaining_bias: Sequence[str]
) -> dict[str, Any]:
    """The arguments with which timm builds the model such that these layers, which have no bias, have one.

    Ask this before training starts. Other layers that gain a bias by the same argument are exported with zeros there.

    Raises:
        ExportError: naming the layers for which the architecture has no such argument.
    """
    arguments = json_arguments(model_args)
    state = plain_state(architecture, arguments)
    unknown = [layer for layer in layers_gaining_bias if f"{layer}.weight" not in state]
    if unknown:
        raise ExportError(f"{architecture}: no layers {_few(unknown)} in the model that timm builds from {arguments}")
    missing = _without_bias(layers_gaining_bias, state)
    for argument in _BIAS_ARGUMENTS:
        if not missing:
            break
        try:
            candidate = plain_state(architecture, arguments | {argument: True})
        except ExportError:
            continue
        if _adds_biases_only(state, candidate) and len(_without_bias(missing, candidate)) < len(missing):
            arguments[argument], state = True, candidate
            missing = _without_bias(missing, candidate)
    if missing:
        raise ExportError(
            f"{architecture}: timm has no argument that gives a bias to {_few(missing)}, and a subnet may give one by "
            "C or E, so the merged model could not be exported: in the search space, exclude these layers "
            "(layers.exclude), or allow only 'none' for C and E there"
        )
    return arguments


def plain_state(
    architecture: str,
    arguments: Mapping[str, Any],
    num_classes: int | None = None,
    cfg: Mapping[str, Any] | None = None,
) -> dict[str, Tensor]:
    """Names, shapes and dtypes of the model that timm builds, on the meta device: no memory, no random numbers.

    Raises:
        ExportError: if timm cannot build it.
    """
    kwargs = dict(arguments) if num_classes is None else {**arguments, "num_classes": num_classes}
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            model = timm.create_model(
                architecture, pretrained=False, pretrained_cfg=None if cfg is None else dict(cfg), **kwargs
            )
    except Exception as error:
        raise ExportError(f"timm cannot build {architecture!r} with {kwargs}: {error}") from error
    state: dict[str, Tensor] = model.state_dict()
    return state


def complete_biases(state: State, architecture: str, arguments: Mapping[str, Any], plain: State) -> dict[str, Any]:
    """The arguments under which timm builds the biases that `state` has beyond `plain`.

    Raises:
        ExportError: if a layer's bias cannot be expressed.
    """
    gained = [name.removesuffix(".bias") for name in state if name.endswith(".bias") and name not in plain]
    layers = [layer for layer in gained if f"{layer}.weight" in plain]
    return check_exportable(architecture, arguments, layers) if layers else dict(arguments)


def _adds_biases_only(plain: State, candidate: State) -> bool:
    kept = all(name in candidate and candidate[name].shape == plain[name].shape for name in plain)
    gained = candidate.keys() - plain.keys()
    return kept and all(name.endswith(".bias") and f"{name.removesuffix('.bias')}.weight" in plain for name in gained)


def _without_bias(layers: Sequence[str], state: State) -> list[str]:
    return [layer for layer in layers if f"{layer}.bias" not in state]


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:6])
    return shown if len(names) <= 6 else f"{shown}, ... ({len(names)} in all)"
