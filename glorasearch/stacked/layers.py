"""Layers that compute for M members at once, on the images of all of them: `(M · N, ...)`, member by member."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers import norm as timm_norms
from torch import Tensor, nn
from torch.func import functional_call

from glorasearch.adapters import is_plain
from glorasearch.errors import BackboneError
from glorasearch.stacked.merge import Terms

_CHANNELS_SECOND = (nn.GroupNorm, timm_norms.LayerNorm2d, timm_norms.LayerNorm2dFp32)


class StackedLayer(nn.Module):
    """A layer with a weight and a bias of its own for every member, set before each forward pass."""

    def __init__(self, base: nn.Module, members: int) -> None:
        super().__init__()
        self.base, self.members = base, members
        self._weight: Tensor | None = None
        self._bias: Tensor | None = None
        self._terms: Terms | None = None

    def install(self, weight: Tensor, bias: Tensor | None) -> None:
        """Set the weights `(M, ...)` and biases `(M, out)`."""
        self._weight, self._bias = weight, bias

    def install_terms(self, terms: Terms, base: Tensor) -> None:
        """Set what is added to W0, `base (out, in)`."""
        self.install(terms.weight(base, self.members), terms.bias)

    def clear(self) -> None:
        """Let go of what was set, and of the graph behind it."""
        self._weight = self._bias = self._terms = None


class StackedLinear(StackedLayer):
    """`(M · N, ..., in)` to `(M · N, ..., out)`.

    Every member has its own weight, and all of them are one batched product. Where no member changes the weight
    densely, `factored` applies W0 to the images of all members at once, and what each member adds as it is stored: that
    is less arithmetic, for CPUs, and more passes over the outputs, which are what a GPU waits for.
    """

    base: nn.Linear

    def __init__(self, base: nn.Linear, members: int) -> None:
        super().__init__(base, members)
        self.factored = base.weight.device.type == "cpu"

    def install_terms(self, terms: Terms, base: Tensor) -> None:
        """See `StackedLayer.install_terms`."""
        if terms.dense is None and self.factored:
            self._terms, self._bias = terms, terms.bias
        else:
            super().install_terms(terms, base)

    def forward(self, x: Tensor) -> Tensor:
        """One product for all members."""
        rows = x.reshape(self.members, -1, x.shape[-1])
        y = products(rows, self._weight, self._bias) if self._weight is not None else self._added(rows)
        return y.view(*x.shape[:-1], -1)

    def _added(self, rows: Tensor) -> Tensor:
        terms, bias = self._terms, self._bias
        assert terms is not None
        y = F.linear(rows, self.base.weight)
        if terms.scale is not None:
            # In the scale's own dtype: 1 + a in bfloat16 would lose a small a altogether.
            y = (y * (1 + terms.scale[:, None])).to(y.dtype)
        if terms.left is not None and terms.right is not None:
            y = y + torch.bmm(torch.bmm(rows, terms.right.mT), terms.left.mT)
        return y if bias is None else y + bias[:, None].to(y.dtype)


class StackedConv2d(StackedLayer):
    """`(M · N, in, H, W)` to `(M · N, out, H', W')`.

    Where patches do not overlap, it is a product with them; else one convolution with as many groups more.
    """

    base: nn.Conv2d

    def __init__(self, base: nn.Conv2d, members: int) -> None:
        super().__init__(base, members)
        self._patches = (
            base.groups == 1
            and base.kernel_size in (base.stride, (1, 1))
            and (base.dilation == (1, 1) or base.kernel_size == (1, 1))
            and base.padding in ("valid", (0, 0))
        )

    def forward(self, x: Tensor) -> Tensor:
        """One product or convolution for all members."""
        assert self._weight is not None
        return self._as_patches(x, self._weight) if self._patches else self._as_groups(x, self._weight)

    def _as_patches(self, x: Tensor, weight: Tensor) -> Tensor:
        (height, width), (down, right) = self.base.kernel_size, self.base.stride
        if (height, width) == (1, 1):
            x = x[..., ::down, ::right]
        rows, columns = x.shape[2] // height, x.shape[3] // width
        x = x[:, :, : rows * height, : columns * width]
        x = x.reshape(*x.shape[:2], rows, height, columns, width).permute(0, 2, 4, 1, 3, 5)
        y = products(x.reshape(self.members, -1, weight.shape[-1]), weight, self._bias)
        return y.view(-1, rows, columns, y.shape[-1]).permute(0, 3, 1, 2)

    def _as_groups(self, x: Tensor, weight: Tensor) -> Tensor:
        base, members = self.base, self.members
        channels = x.view(members, -1, *x.shape[1:]).transpose(0, 1).flatten(1, 2)
        padding = base.padding
        if base.padding_mode != "zeros":
            channels = F.pad(channels, base._reversed_padding_repeated_twice, mode=base.padding_mode)
            padding = (0, 0)
        y = F.conv2d(
            channels,
            weight.reshape(-1, *base.weight.shape[1:]),
            None if self._bias is None else self._bias.reshape(-1),
            base.stride,
            padding,
            base.dilation,
            base.groups * members,
        )
        return y.view(len(y), members, -1, *y.shape[2:]).transpose(0, 1).flatten(0, 1)


class StackedNorm(StackedLayer):
    """A layer norm or group norm with a weight and a bias of its own for every member."""

    base: nn.LayerNorm | nn.GroupNorm

    def __init__(self, base: nn.LayerNorm | nn.GroupNorm, members: int) -> None:
        super().__init__(base, members)
        weight = base.weight.detach()
        self._plain = {"weight": torch.ones_like(weight)}
        if base.bias is not None:
            self._plain["bias"] = torch.zeros_like(weight)
        self._axis = 1 if isinstance(base, _CHANNELS_SECOND) else -1

    def forward(self, x: Tensor) -> Tensor:
        """The base's normalisation, and then each member's affine map."""
        assert self._weight is not None
        y: Tensor = functional_call(self.base, self._plain, (x,))
        own = y.view(self.members, -1, *y.shape[1:])
        shape = [self.members] + [1] * (own.ndim - 1)
        shape[2 if self._axis == 1 else -1] = -1
        weight = self._weight.view(shape)
        own = own * weight if self._bias is None else torch.addcmul(self._bias.view(shape), own, weight)
        return own.to(y.dtype).view(y.shape)


def products(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`(M, n, in)` by `(M, out, in)`, plus `(M, out)`: `(M, n, out)`."""
    if bias is None:
        return torch.bmm(rows, weight.mT)
    return torch.baddbmm(bias[:, None], rows, weight.mT)


def stacked_layer(base: nn.Module, members: int) -> StackedLayer:
    """The stacked form of a layer.

    Raises:
        BackboneError: if there is none.
    """
    if type(base) is nn.Linear:
        return StackedLinear(base, members)
    if type(base) is nn.Conv2d:
        return StackedConv2d(base, members)
    if isinstance(base, (nn.LayerNorm, nn.GroupNorm)) and is_plain(base):
        return StackedNorm(base, members)
    raise BackboneError(f"{type(base).__name__} has no stacked form")


def head_parts(head: nn.Module) -> list[str]:
    """The names of the layers of a head, linear or convolutions, which hold all its parameters.

    Raises:
        BackboneError: if another module of it has parameters.
    """
    names = [name for name, module in head.named_modules() if next(module.parameters(recurse=False), None) is not None]
    for name in names:
        if type(head.get_submodule(name)) not in (nn.Linear, nn.Conv2d):
            raise BackboneError(f"its head has a {type(head.get_submodule(name)).__name__}, which has no stacked form")
    return names
