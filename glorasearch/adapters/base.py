"""The layers that can be adapted, as the backbone has them."""

from __future__ import annotations

import copy
from typing import TypeGuard

from timm.layers import norm as timm_norms
from torch import Tensor, nn

from glorasearch.choices import Kind

Base = nn.Linear | nn.Conv2d | nn.LayerNorm | nn.GroupNorm
_NORMS = (
    *(nn.LayerNorm, timm_norms.LayerNorm, timm_norms.LayerNorm2d, timm_norms.LayerNormFp32, timm_norms.LayerNorm2dFp32),
    *(nn.GroupNorm, timm_norms.GroupNorm, timm_norms.GroupNorm1),
)
"""Norms whose output is `weight ⊙ normalised + bias`, channel by channel."""


def kind_of(module: nn.Module) -> Kind | None:
    """What a module is, if it can be adapted.

    Only these classes can, no others derived from them, which may do something else with their weight (standardise it,
    or apply an activation). A norm needs a weight with one value a channel.
    """
    if type(module) is nn.Linear:
        return "linear"
    if type(module) is nn.Conv2d:
        return "conv2d"
    return "norm" if type(module) in _NORMS and getattr(module.weight, "ndim", 0) == 1 else None


def is_adaptable(module: nn.Module) -> TypeGuard[Base]:
    """Whether a module can be adapted."""
    return kind_of(module) is not None


def rows_of(weight: Tensor) -> Tensor:
    """A layer's weight, seen as `(out, in)`; that of a norm as `(channels, 1)`."""
    return weight.flatten(1) if weight.ndim > 1 else weight.unsqueeze(1)


def plain_layer(base: Base, *, bias: bool) -> Base:
    """A layer with the hyperparameters of `base`, with or without a bias; its values are uninitialised."""
    plain: Base
    if isinstance(base, nn.Linear):
        plain = nn.Linear(base.in_features, base.out_features, bias, device="meta")
    elif isinstance(base, nn.Conv2d):
        plain = nn.Conv2d(
            base.in_channels, base.out_channels, base.kernel_size, base.stride, base.padding, base.dilation,  # type: ignore[arg-type]
            base.groups, bias, base.padding_mode, device="meta",
        )  # fmt: skip
    else:
        plain = copy.deepcopy(base).to("meta")
        plain.register_parameter("bias", nn.Parameter(plain.weight.detach().clone()) if bias else None)
    return plain.to_empty(device=base.weight.device).to(base.weight.dtype)
