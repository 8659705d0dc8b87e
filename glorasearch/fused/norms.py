"""Normalisations of a frozen backbone in a model of one dtype."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_CASTING = (nn.LayerNorm, nn.GroupNorm)
"""Of which autocast makes float32."""


class FixedNorm(nn.Module):
    """A batch norm with the statistics of a frozen backbone: one product and one sum for each channel.

    It computes in the dtype of its statistics, and gives that of its input.
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
        self.register_buffer("scale", scale.to(norm.running_var.dtype))
        self.register_buffer("shift", shift.to(norm.running_var.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """`(N, C, ...)` to the same."""
        scale, shift = (value.view(-1, *[1] * (x.dim() - 2)) for value in (self.scale, self.shift))
        return (x * scale + shift).to(x.dtype)


def fixed_norms(model: nn.Module) -> Iterator[tuple[nn.Module, FixedNorm]]:
    """The batch norms of a model, of torch's own classes and with statistics of their own, and what takes their place.

    Others, as those that timm fuses with an activation, stay as they are.
    """
    for module in model.modules():
        if type(module) in _BATCH_NORMS and not module._forward_hooks and module.running_var is not None:
            yield module, FixedNorm(module)  # type: ignore[arg-type]


def keep_dtype(model: nn.Module) -> None:
    """Have layer norms and group norms give the dtype that they take.

    Under autocast they give float32. Where nothing follows that casts again, as in ConvNeXt's stem, all blocks of a
    stage would pass on float32.
    """
    for module in model.modules():
        if isinstance(module, _CASTING):
            module.register_forward_hook(_as_given)


def _as_given(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    return output.to(inputs[0].dtype)
