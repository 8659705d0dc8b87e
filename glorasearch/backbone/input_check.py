"""Whether a backbone takes images of a size and number of channels, tried before any work is done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from glorasearch.adapters.own_input import Shape, own_shape
from glorasearch.backbone.build import build_backbone, build_skeleton
from glorasearch.backbone.config import BackboneConfig
from glorasearch.errors import BackboneError, first_line

Arguments = Mapping[str, Any]


def check_input(config: BackboneConfig, skeleton: nn.Module, shape: Shape) -> None:
    """Refuse images that the backbone cannot take, with the arguments that make it take them.

    Args:
        config: the backbone.
        skeleton: of that backbone, as `build_skeleton` makes it.
        shape: of the images.

    Raises:
        BackboneError: naming the size, why it does not fit, and what to set.
    """
    problem = _problem(config, skeleton, shape)
    if problem is None:
        return
    channels, height, width = shape
    own = own_shape(skeleton)
    remedies = [
        f"set {_toml(arguments)} in backbone.args"
        for arguments in _candidates(height, width)
        if _works(config, config.args | arguments, shape)
    ]
    remedies += [
        f"take a data.size that is a multiple of {step}"
        for step in _steps(skeleton, height, width)
        if _problem(config, skeleton, (channels, _up(height, step), _up(width, step))) is None
    ]
    if shape != own and _problem(config, skeleton, own) is None:
        remedies.append(f"leave out data.size, so that images are resized to {own[1]} x {own[2]}")
    remedies += [
        f"leave {key} out of backbone.args"
        for key in ("img_size", "in_chans")
        if key in config.args and _works(config, {other: config.args[other] for other in config.args if other != key})
    ]
    raise BackboneError(
        f"backbone {config.name!r} cannot take images of {height} x {width} pixels and {channels} channels "
        f"({problem}): {'; or '.join(remedies) or 'change backbone.args, or take another backbone'}"
    )


def check_model_input(model: nn.Module, shape: Shape) -> None:
    """Refuse images that a model cannot take.

    Raises:
        BackboneError: naming the size and why it does not fit.
    """
    error = _run(model, shape)
    if error is not None:
        raise BackboneError(
            f"{type(model).__name__} cannot take images of {shape[1]} x {shape[2]} pixels and {shape[0]} channels: "
            f"{first_line(error)}"
        ) from error


def _problem(config: BackboneConfig, skeleton: nn.Module, shape: Shape) -> str | None:
    """Why the backbone cannot take such images; None if it can."""
    error = _run(skeleton, shape)
    if error is not None and not isinstance(error, AssertionError) and next(skeleton.parameters()).is_meta:
        # Some models need values, which tensors on the meta device do not have.
        error = _run(build_backbone(config.replace(pretrained=False, checkpoint=None), 2), shape)
    return None if error is None else first_line(error).rstrip(".")


def _run(model: nn.Module, shape: Shape) -> Exception | None:
    """What a forward pass of one image of zeros raises."""
    like = next(model.parameters())
    modules = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, *shape, device=like.device, dtype=like.dtype))
    except Exception as error:
        return error
    finally:
        for module, training in modules.items():
            module.training = training
    return None


def _works(config: BackboneConfig, args: Arguments, shape: Shape | None = None) -> bool:
    """Whether a backbone with other arguments takes images of a shape, or of its own."""
    try:
        model = build_skeleton(config.replace(args=dict(args)), 2)
    except BackboneError:  # no such argument
        return False
    return _run(model, own_shape(model) if shape is None else shape) is None


def _candidates(height: int, width: int) -> Iterator[dict[str, Any]]:
    """Arguments by which models of timm take images of another size."""
    yield {"img_size": height if height == width else [height, width]}
    yield {"dynamic_img_size": True}


def _steps(model: nn.Module, height: int, width: int) -> list[int]:
    """The edge of the patches, if the size is no multiple of it."""
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    edges = patch if isinstance(patch, (tuple, list)) else (patch,)
    return sorted({edge for edge in edges if isinstance(edge, int) and edge > 0 and (height % edge or width % edge)})


def _up(size: int, step: int) -> int:
    return -(-size // step) * step


def _toml(arguments: Arguments) -> str:
    return ", ".join(f"{key} = {str(value).lower()}" for key, value in arguments.items())
