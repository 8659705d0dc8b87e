"""What timm builds from an architecture and arguments alone, and where it can hold the biases of bias-less layers."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import timm
import torch
from torch import Tensor, nn

from glorasearch.adapters.batch_norm import BatchNorm, following_batch_norms
from glorasearch.errors import ExportError
from glorasearch.space.selectors import compact

State = Mapping[str, Tensor]

_FIRST = ("qkv_bias", "proj_bias")
"""The commonest of timm's arguments that add biases; each applies to all layers of its role."""
_DROP_RATES = ("drop_rate", "drop_path_rate", "drop_block_rate")
_PLACEMENT = ("device", "dtype")


@dataclass(frozen=True, slots=True)
class Biases:
    """How the model that timm builds holds the biases that layers have gained."""

    arguments: dict[str, Any]
    """Of `timm.create_model`; with them the layers that are not in `folded` have a bias."""
    folded: dict[str, str]
    """Layer → the batch norm whose running mean absorbs its bias."""


def check_exportable(
    architecture: str, model_args: Mapping[str, Any], layers_gaining_bias: Sequence[str]
) -> dict[str, Any]:
    """The arguments with which timm builds the model with biases in these layers, which have none.

    To be checked before training. Other layers that gain a bias by the same argument are exported with zeros there.

    Raises:
        ExportError: naming the layers for which there is neither such an argument nor a batch norm behind them.
    """
    return express_biases(architecture, model_args, layers_gaining_bias).arguments


def express_biases(architecture: str, model_args: Mapping[str, Any], layers_gaining_bias: Sequence[str]) -> Biases:
    """The same, with the biases that are folded into batch norms."""
    biases, missing = _express(architecture, json_arguments(model_args), layers_gaining_bias)
    if missing:
        raise ExportError(
            f"{architecture}: timm has no argument that gives a bias to {compact(missing, layers_gaining_bias)}, and "
            "no batch norm reads their output alone; a subnet may add one by C or E, so the merged model could not be "
            "exported: in the search "
            "space, exclude these layers (layers.exclude), or allow only 'none' for C and E there"
        )
    return biases


def without_place(architecture: str, model_args: Mapping[str, Any], layers: Sequence[str]) -> frozenset[str]:
    """Those of the layers, none of which has a bias, for whose bias the model that timm builds has no place.

    Raises:
        ExportError: if timm cannot build the model with these layers.
    """
    key = json.dumps(json_arguments(model_args), sort_keys=True)
    return _without_place(architecture, key, tuple(layers))


@lru_cache(maxsize=64)
def _without_place(architecture: str, arguments: str, layers: tuple[str, ...]) -> frozenset[str]:
    return frozenset(_express(architecture, json.loads(arguments), layers)[1])


def _express(architecture: str, arguments: dict[str, Any], layers: Sequence[str]) -> tuple[Biases, list[str]]:
    """How the biases of these layers are held, and the layers for which there is no place."""
    plain = _plain_model(architecture, arguments)
    state: State = plain.state_dict()
    unknown = [layer for layer in layers if f"{layer}.weight" not in state]
    if unknown:
        raise ExportError(
            f"{architecture}: no layers {compact(unknown)} in the model that timm builds from {arguments}"
        )
    missing = _without_bias(layers, state)
    for argument in _bias_arguments(plain) if missing else ():
        try:
            candidate = plain_state(architecture, arguments | {argument: True})
        except ExportError:
            continue
        if _adds_biases_only(state, candidate) and len(_without_bias(missing, candidate)) < len(missing):
            arguments, state = arguments | {argument: True}, candidate
            missing = _without_bias(missing, candidate)
        if not missing:
            break
    norms = _batch_norms(architecture, arguments) if missing else {}
    folded = {layer: norms[layer] for layer in missing if layer in norms}
    return Biases(arguments, folded), [layer for layer in missing if layer not in folded]


def _bias_arguments(model: nn.Module) -> list[str]:
    """The arguments of the model's class that may add biases: named so, and true or false."""
    parameters = inspect.signature(type(model)).parameters.values()
    found = [one.name for one in parameters if "bias" in one.name and isinstance(one.default, bool | None)]
    return [*_FIRST, *(name for name in found if name not in _FIRST)]


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
    state: dict[str, Tensor] = _plain_model(architecture, kwargs, cfg).state_dict()
    return state


def complete_biases(state: State, architecture: str, arguments: Mapping[str, Any], plain: State) -> Biases:
    """How the model that timm builds holds the biases that `state` has beyond `plain`.

    Raises:
        ExportError: if a layer's bias cannot be expressed.
    """
    gained = [name.removesuffix(".bias") for name in state if name.endswith(".bias") and name not in plain]
    layers = [layer for layer in gained if f"{layer}.weight" in plain]
    return express_biases(architecture, arguments, layers) if layers else Biases(dict(arguments), {})


def _plain_model(
    architecture: str, kwargs: Mapping[str, Any], cfg: Mapping[str, Any] | None = None, device: str = "meta"
) -> nn.Module:
    try:
        with torch.random.fork_rng(devices=[]), torch.device(device):
            model: nn.Module = timm.create_model(
                architecture, pretrained=False, pretrained_cfg=None if cfg is None else dict(cfg), **kwargs
            )
    except Exception as error:
        raise ExportError(f"timm cannot build {architecture!r} with {kwargs}: {error}") from error
    return model


def _batch_norms(architecture: str, arguments: Mapping[str, Any]) -> dict[str, str]:
    """Layer → the batch norm behind it, in the model that timm builds for images of the architecture's size."""
    model = _plain_model(architecture, arguments)
    if not any(isinstance(module, BatchNorm) for module in model.modules()):
        return {}
    cfg: Mapping[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    channels, *size = cfg.get("input_size", (3, 224, 224))
    given = arguments.get("img_size", size)
    size = [given, given] if isinstance(given, int) else given
    shape = (1, arguments.get("in_chans", channels), *size)
    found = following_batch_norms(model, torch.empty(shape, device="meta"))
    if not found:  # tensors on the meta device have no values, which some models need
        found = following_batch_norms(_plain_model(architecture, arguments, device="cpu"), torch.zeros(shape))
    return found


def _adds_biases_only(plain: State, candidate: State) -> bool:
    kept = all(name in candidate and candidate[name].shape == plain[name].shape for name in plain)
    gained = candidate.keys() - plain.keys()
    return kept and all(name.endswith(".bias") and f"{name.removesuffix('.bias')}.weight" in plain for name in gained)


def _without_bias(layers: Sequence[str], state: State) -> list[str]:
    return [layer for layer in layers if f"{layer}.bias" not in state]


def json_arguments(model_args: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `timm.create_model` as they are written to a file.

    Raises:
        ExportError: naming the argument that is not JSON data.
    """
    left_out = {*_DROP_RATES, *_PLACEMENT}
    kept = {
        key: value
        for key, value in model_args.items()
        if value is not None and key not in left_out and not key.endswith("_drop_rate")
    }
    return as_json(kept, "model argument")


def as_json(values: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The values as they are read back from a JSON file.

    Raises:
        ExportError: naming the key whose value is not JSON data.
    """
    plain: dict[str, Any] = {}
    for key, value in values.items():
        try:
            plain[key] = json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ExportError(f"{what} {key!r} is {value!r}, which cannot be written as JSON: {error}") from error
    return plain
