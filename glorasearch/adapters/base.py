"""The layers that can be adapted, as the backbone has them."""

from __future__ import annotations

import copy
from typing import Final, TypeGuard

from timm.layers import norm as timm_norms
from torch import Tensor, nn

from glorasearch.choices import Kind

Base = nn.Linear | nn.Conv2d | nn.LayerNorm | nn.GroupNorm
PLAIN_NORMS: Final = (
    *(nn.LayerNorm, timm_norms.LayerNorm, timm_norms.LayerNorm2d, timm_norms.LayerNormFp32, timm_norms.LayerNorm2dFp32),
    *(nn.GroupNorm, timm_norms.GroupNorm, timm_norms.GroupNorm1),
)
"""Norms whose output is `weight ⊙ normalised + bias`, channel by channel, and nothing else."""


def kind_of(module: nn.Module) -> Kind | None:
    """What a module is, if it can be adapted.

    Classes derived from a linear layer, a convolution or a norm are what these are, whatever else they do with their
    weight (standardise it, pad the input, apply an activation): their own forward is run with another weight. None if
    the weight is not a parameter of the module's own, of the shape that the class implies.
    """
    if not isinstance(module, Base):
        return None
    weight = module._parameters.get("weight")
    shape = () if weight is None or nn.parameter.is_lazy(weight) else tuple(weight.shape)
    if isinstance(module, nn.Linear):
        return "linear" if shape == (module.out_features, module.in_features) else None
    if isinstance(module, nn.Conv2d):
        expected = (module.out_channels, module.in_channels // module.groups, *module.kernel_size)
        return "conv2d" if shape == expected else None
    return "norm" if len(shape) == 1 else None


def is_adaptable(module: nn.Module) -> TypeGuard[Base]:
    """Whether a module can be adapted."""
    return kind_of(module) is not None


def is_plain(module: nn.Module) -> bool:
    """Whether a linear layer or convolution is torch's own, or a norm one of `PLAIN_NORMS`: what it computes is known.

    Of any other only its own forward says what it computes.
    """
    return type(module) in (nn.Linear, nn.Conv2d, *PLAIN_NORMS)


def rows_of(weight: Tensor) -> Tensor:
    """A layer's weight, seen as `(out, in)`; that of a norm as `(channels, 1)`."""
    return weight.flatten(1) if weight.ndim > 1 else weight.unsqueeze(1)


def plain_layer(base: Base, *, bias: bool) -> Base:
    """A layer with the hyperparameters of `base`, with or without a bias; weight and bias are uninitialised."""
    plain: Base
    if type(base) is nn.Linear:
        plain = nn.Linear(base.in_features, base.out_features, bias, device="meta")
    elif type(base) is nn.Conv2d:
        plain = nn.Conv2d(
            base.in_channels, base.out_channels, base.kernel_size, base.stride, base.padding, base.dilation,  # type: ignore[arg-type]
            base.groups, bias, base.padding_mode, device="meta",
        )  # fmt: skip
    else:
        weight = base.weight
        fresh: dict[int, object] = {id(weight): nn.Parameter(weight.detach().new_empty(weight.shape))}
        plain = copy.deepcopy(base, fresh)
        plain.register_parameter("bias", nn.Parameter(weight.detach().new_empty(len(weight))) if bias else None)
        return plain
    return plain.to_empty(device=base.weight.device).to(base.weight.dtype)
