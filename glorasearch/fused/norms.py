"""Normalisations of a frozen backbone in a model of one dtype."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from glorasearch.recompute import blocks_of

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_CASTING = (nn.LayerNorm, nn.GroupNorm)
"""Of which a GPU's autocast makes float32."""


class FixedNorm(nn.Module):
    """A batch norm with the statistics of a frozen backbone: one product and one sum for each channel.

    It computes in the dtype of its statistics, in float32 at least, and gives that of its input.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, norm: nn.modules.batchnorm._BatchNorm) -> None:
        super().__init__()
        assert norm.running_mean is not None
        assert norm.running_var is not None
        with torch.no_grad():
            scale = (norm.running_var.double() + norm.eps).rsqrt()
            scale = scale if norm.weight is None else scale * norm.weight
            shift = norm.running_mean * -scale
            shift = shift if norm.bias is None else shift + norm.bias
        dtype = torch.promote_types(norm.running_var.dtype, torch.float32)
        self.register_buffer("scale", scale.to(dtype))
        self.register_buffer("shift", shift.to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        """`(N, C, ...)` to the same."""
        scale, shift = (value.view(-1, *[1] * (x.dim() - 2)) for value in (self.scale, self.shift))
        return (x * scale + shift).to(x.dtype)


class AsGiven(nn.Module):
    """A norm that gives the dtype that it takes."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """As the norm's."""
        y: Tensor = self.norm(x)
        return y.to(x.dtype)


def fixed_norms(model: nn.Module) -> Iterator[tuple[nn.Module, FixedNorm]]:
    """The batch norms of a model that are only that, with statistics of their own and nothing trained, and what takes
    their place.

    Others stay as they are: those of a head, which are trained, and those that timm fuses with an activation.
    """
    for module in model.modules():
        if isinstance(module, _BATCH_NORMS) and _plain(module) and module.running_var is not None:
            yield module, FixedNorm(module)


def _plain(norm: nn.Module) -> bool:
    """Whether it is of torch's own class, does nothing else, and has nothing trained."""
    hooks = norm._forward_hooks or norm._forward_pre_hooks or norm._backward_hooks or norm._backward_pre_hooks
    trained = any(parameter.requires_grad for parameter in norm.parameters())
    return type(norm) in _BATCH_NORMS and not hooks and not trained and "forward" not in norm.__dict__


def keep_dtype(model: nn.Module) -> None:
    """Have layer norms and group norms around a model's blocks give the dtype that they take.

    A GPU's autocast has them give float32. That of ConvNeXt's stem begins the stream of residuals, which would be
    float32 in all blocks of the first stage. Within a block and in a head they stay as they are.
    """
    within = {id(module) for block in blocks_of(model) for module in block.modules()}
    for name, module in list(model.named_modules()):
        trained = any(parameter.requires_grad for parameter in module.parameters())
        if isinstance(module, _CASTING) and id(module) not in within and not trained:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, AsGiven(module))
