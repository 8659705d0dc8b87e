"""Layers that carry support tensors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glorasearch.adapters.plugins import check_plugins
from glorasearch.adapters.support import OfferedChoice, Storage, SupportTensor
from glorasearch.choices import Contribution, Dense, LowRank, as_matrix, as_vector
from glorasearch.space import SUPPORT_TENSORS

if TYPE_CHECKING:
    from glorasearch.choices.base import Value

LayerChoices = tuple[str, str, str, str, str]
"""The choices of one layer for A, B, C, D and E."""


class AdaptedLayer(nn.Module):
    """A frozen layer with every choice of its support tensors (GLoRA, arXiv 2306.07967).

    With the weight seen as `W0 (out, in)`, `b0 (out,)`, `⊙` element-wise and `·` the matrix product, the layer has

        W = W0 + W0⊙A + B,    b = b0 + b0⊙D + E + W0·C

    A is element-wise as in the published code; the paper writes `W0 A`. A layer without a bias has b0 = 0 and no D.
    `glorasearch.choices` defines what each choice contributes to these terms. `choices` holds the active ones; None
    makes it the original layer. It is set by `Supernet.activate` only.

    `base` is the original module, shared and not copied.
    """

    base: nn.Linear | nn.Conv2d

    def __init__(
        self,
        base: nn.Linear | nn.Conv2d,
        offered: Mapping[str, Mapping[str, OfferedChoice]],
        *,
        entangle: str,
        generator: torch.Generator,
        shared: Mapping[str, Storage],
    ) -> None:
        """`offered` has the choice classes of each support tensor, `shared` the parts of groups of layers."""
        super().__init__()
        self.base = base
        weight = base.weight.detach()
        self.out_features = weight.shape[0]
        self.in_features = weight[0].numel()
        self.support = nn.ModuleDict(
            {
                tensor: SupportTensor(
                    classes, entangle=entangle, generator=generator, like=weight, shared=shared.get(tensor)
                )
                for tensor, classes in offered.items()
            }
        )
        for tensor, classes in offered.items():
            check_plugins(tensor, classes, self.support_of(tensor), weight.flatten(1))
        self.choices: LayerChoices | None = None

    def forward(self, x: Tensor) -> Tensor:
        """The base layer with the active choices.

        Only a scale by a product, or a dense shift, needs the dense weight and its full gradient. A scale of rows of W0
        scales the outputs, products and vectors are added as low-rank and rank-one terms, and the rest is one offset.
        At a scale of 0 the scaled form is exactly the unscaled one, since `y·1 − b·0 = y`.
        """
        if self.choices is None:
            result: Tensor = self.base(x)
            return result
        added = self.contributions(self.choices)
        bias = self.merge_bias(added)
        scales = [c.scale for c in added if c.scale is not None]
        shifts = [c.shift for c in added if c.shift is not None]
        if self._needs_weight(scales, shifts):
            return self._run(x, self.merge_weight(added), bias)
        return self._run_cheaply(x, bias, scales, shifts)

    def _needs_weight(self, scales: Iterable[Value], shifts: Iterable[Value]) -> bool:
        return any(not isinstance(scale, Tensor) for scale in scales) or any(isinstance(s, Dense) for s in shifts)

    @abstractmethod
    def _run(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The layer's function with the given weight `(out, in)` and bias `(out,)`."""

    @abstractmethod
    def _run_cheaply(self, x: Tensor, bias: Tensor | None, scales: list[Value], shifts: list[Value]) -> Tensor:
        """The layer's function with W0 scaled by vectors and shifted by products and vectors, without forming W."""

    @property
    def weight_view(self) -> Tensor:
        """W0 as `(out, in)`."""
        return self.base.weight.flatten(1)

    def merged_weight(self, choices: LayerChoices) -> Tensor:
        """W, `(out, in)`; W0 itself where nothing is added."""
        return self.merge_weight(self.contributions(choices))

    def merged_bias(self, choices: LayerChoices) -> Tensor | None:
        """b, `(out,)`; None where there is no b0 and nothing is added."""
        return self.merge_bias(self.contributions(choices))

    def contributions(self, choices: LayerChoices) -> list[Contribution]:
        """What these choices add, in the order of the support tensors."""
        return [
            self.support_of(tensor).contribution(choice, self.weight_view)
            for tensor, choice in zip(SUPPORT_TENSORS, choices, strict=True)
            if choice != "none"
        ]

    def merge_weight(self, added: Sequence[Contribution], out: Tensor | None = None) -> Tensor:
        """`W0 + W0⊙A + B`, `(out, in)`, from what choices add; W0 itself where nothing is added and there is no `out`.

        Differentiable, unless it is written into `out`, which must not be W0.
        """
        weight = base = self.weight_view
        for one in added:
            if one.scale is not None:
                weight = torch.addcmul(weight, base, as_matrix(one.scale), out=out)
        for one in added:
            if isinstance(one.shift, LowRank):
                weight = torch.addmm(weight, one.shift.down, one.shift.up, out=out)
            elif one.shift is not None:
                weight = torch.add(weight, as_matrix(one.shift), out=out)
        if out is None or weight is out:
            return weight
        return out.copy_(weight)

    def merge_bias(self, added: Sequence[Contribution], out: Tensor | None = None) -> Tensor | None:
        """`b0 + b0⊙D + E + W0·C`, `(out,)`; where there is no b0 and nothing is added, None, or zeros in `out`."""
        base: Tensor | None = self.base.bias
        bias = base
        for one in added:
            if one.bias_scale is not None and base is not None:  # b0 = 0 has nothing to scale
                assert bias is not None
                bias = torch.addcmul(bias, base, one.bias_scale, out=out)
        shifts = [one.bias_shift for one in added if one.bias_shift is not None]
        prompts = [self.through_weight(one.prompt) for one in added if one.prompt is not None]
        for vector in shifts + prompts:
            bias = vector.expand(self.out_features) if bias is None else torch.add(bias, vector, out=out)
        if out is None or bias is out:
            return bias
        return out.zero_() if bias is None else out.copy_(bias)

    def through_weight(self, prompt: Value) -> Tensor:
        """`W0·C`, `(out,)`: what a prompt adds to the bias."""
        return self.weight_view @ as_vector(prompt)

    def support_of(self, tensor: str) -> SupportTensor:
        """One of its support tensors."""
        module = self.support[tensor]
        assert isinstance(module, SupportTensor)
        return module


class AdaptedLinear(AdaptedLayer):
    """A linear layer with support tensors: `y = x · Wᵀ + b`, `(..., in)` to `(..., out)`."""

    base: nn.Linear

    def _run(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    def _run_cheaply(self, x: Tensor, bias: Tensor | None, scales: list[Value], shifts: list[Value]) -> Tensor:
        rows = x.reshape(-1, self.in_features)
        y = F.linear(rows, self.base.weight, bias)
        if scales:
            # In the scale's own dtype: 1 + a in bfloat16 would lose a small a altogether.
            scale = _sum_vectors(scales)
            scaled = y * (1 + scale) if bias is None else torch.addcmul(-bias * scale, y, 1 + scale)
            y = scaled.to(y.dtype)
        for shift in shifts:
            _shift(y, rows, shift)
        return y.view(*x.shape[:-1], self.out_features)


class AdaptedConv2d(AdaptedLayer):
    """A convolution with support tensors: the weight is seen as `(out, in / groups · height · width)`.

    `(N, in, H, W)` to `(N, out, H', W')`; the prompt C has one value per tap of a filter. The GLoRA paper does not
    cover convolutions. Batch norms stay in evaluation mode, with the statistics of the backbone.
    """

    base: nn.Conv2d

    def _run(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        result: Tensor = self.base._conv_forward(x, weight.view_as(self.base.weight), bias)
        return result

    def _needs_weight(self, scales: Iterable[Value], shifts: Iterable[Value]) -> bool:
        """In a grouped convolution a product is not a chain of two convolutions."""
        return super()._needs_weight(scales, shifts) or (self.base.groups > 1 and any(True for _ in shifts))

    def _run_cheaply(self, x: Tensor, bias: Tensor | None, scales: list[Value], shifts: list[Value]) -> Tensor:
        y = self._run(x, self.base.weight, bias)
        if scales:
            scale = _sum_vectors(scales)[:, None, None]
            offset = None if bias is None else -bias[:, None, None] * scale
            y = (y * (1 + scale) if offset is None else torch.addcmul(offset, y, 1 + scale)).to(y.dtype)
        for shift in shifts:
            down, up = shift if isinstance(shift, LowRank) else _repeated(shift, self.in_features)
            seen = self.base._conv_forward(x, up.reshape(-1, *self.base.weight.shape[1:]), None)
            y = y + F.conv2d(seen, down.expand(self.out_features, -1)[:, :, None, None])
        return y


def _sum_vectors(vectors: list[Value]) -> Tensor:
    total: Tensor | None = None
    for vector in vectors:
        assert isinstance(vector, Tensor)
        total = vector if total is None else total + vector
    assert total is not None
    return total


def _repeated(vector: Value, columns: int) -> LowRank:
    """A vector, repeated in every column, as a product of rank one."""
    assert isinstance(vector, Tensor)
    return LowRank(vector[:, None], vector.new_ones(1, columns))


def _shift(y: Tensor, x: Tensor, b: Value) -> None:
    """Add `x·Bᵀ` to `y (N, out)` in place, in one pass over it, whatever the form of B.

    The factor is laid out as `(rank, out)`, so that autograd computes its gradient as `seenᵀ·g`; with few columns in
    `seen`, a CPU takes six times as long for `gᵀ·seen`, the gradient of a `linear`.
    """
    if isinstance(b, LowRank):
        seen, factor = F.linear(x, b.up), b.down.t()
    else:
        assert isinstance(b, Tensor)
        seen, factor = x.sum(-1, keepdim=True), b.expand(1, y.shape[-1])
    y.addmm_(seen.to(y.dtype), factor.to(y.dtype).contiguous())


def plain_layer(base: nn.Linear | nn.Conv2d, *, bias: bool) -> nn.Linear | nn.Conv2d:
    """A layer with the hyperparameters of `base`, with or without a bias; its values are uninitialised."""
    plain: nn.Linear | nn.Conv2d
    if isinstance(base, nn.Linear):
        plain = nn.Linear(base.in_features, base.out_features, bias, device="meta")
    else:
        plain = nn.Conv2d(
            base.in_channels, base.out_channels, base.kernel_size, base.stride, base.padding, base.dilation,  # type: ignore[arg-type]
            base.groups, bias, base.padding_mode, device="meta",
        )  # fmt: skip
    return plain.to_empty(device=base.weight.device).to(base.weight.dtype)
