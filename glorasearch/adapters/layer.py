"""Layers that carry support tensors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glorasearch.adapters.outside import check_outside_methods
from glorasearch.adapters.support import Method, Storage, SupportTensor
from glorasearch.adapters.values import Value, as_line, as_matrix
from glorasearch.choices import Contribution, Dense, LowRank
from glorasearch.space import SUPPORT_TENSORS

LayerChoices = tuple[str, str, str, str, str]
"""The choices of one layer for A, B, C, D and E."""


class AdaptedLayer(nn.Module):
    """A frozen layer with every choice of its support tensors (GLoRA, arXiv 2306.07967).

    With the weight seen as `W0 (out, in)`, `b0 (out,)`, `⊙` element-wise and `·` the matrix product, the layer has

        W = W0 + W0⊙A + B,    b = b0 + b0⊙D + E + W0·C

    A is element-wise as in the published code; the paper writes `W0 A`. A layer without a bias has b0 = 0 and no D.
    What exactly a choice puts in these places is its own business (`glorasearch.choices`). `choices` names the active
    ones; None makes it the original layer. It is set by `Supernet.activate` only.

    `base` is the original module, shared and not copied.
    """

    base: nn.Linear | nn.Conv2d

    def __init__(
        self,
        base: nn.Linear | nn.Conv2d,
        methods: Mapping[str, Mapping[str, Method]],
        *,
        entangle: str,
        generator: torch.Generator,
        shared: Mapping[str, Storage],
    ) -> None:
        """`methods` are the kinds of choices that each support tensor offers, `shared` what groups own of them."""
        super().__init__()
        self.base = base
        weight = base.weight.detach()
        self.out_features = weight.shape[0]
        self.in_features = weight[0].numel()
        self.support = nn.ModuleDict(
            {
                tensor: SupportTensor(
                    offered, entangle=entangle, generator=generator, like=weight, shared=shared.get(tensor)
                )
                for tensor, offered in methods.items()
            }
        )
        for tensor, offered in methods.items():
            check_outside_methods(tensor, offered, self.support_of(tensor), weight.flatten(1))
        self.choices: LayerChoices | None = None

    def forward(self, x: Tensor) -> Tensor:
        """As the base layer, with the active choices.

        Only what has no cheaper form needs the dense weight and its full gradient: a scale by a product, or a dense
        shift. A scale of rows scales the outputs (the scale of a row of W0 is the scale of an output), products and
        lines are added as low-rank and rank-one terms, the rest is one offset. At a scale of 0 the scaled form is
        exactly the unscaled one, as `y·1 − b·0 = y`.
        """
        if self.choices is None:
            result: Tensor = self.base(x)
            return result
        added = self.contributions(self.choices)
        bias = self._bias(added)
        scales = [c.scale for c in added if c.scale is not None]
        shifts = [c.shift for c in added if c.shift is not None]
        if self._needs_weight(scales, shifts):
            return self._run(x, self._weight(added), bias)
        return self._run_cheaply(x, bias, scales, shifts)

    def _needs_weight(self, scales: Iterable[Value], shifts: Iterable[Value]) -> bool:
        return any(not isinstance(scale, Tensor) for scale in scales) or any(isinstance(s, Dense) for s in shifts)

    @abstractmethod
    def _run(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The layer's function with another weight `(out, in)` and bias `(out,)`."""

    @abstractmethod
    def _run_cheaply(self, x: Tensor, bias: Tensor | None, scales: list[Value], shifts: list[Value]) -> Tensor:
        """The same with W0 scaled by lines and shifted by products and lines."""

    @property
    def weight_view(self) -> Tensor:
        """W0 as `(out, in)`."""
        return self.base.weight.flatten(1)

    def merged_weight(self, choices: LayerChoices) -> Tensor:
        """W, `(out, in)`; W0 itself where nothing is added."""
        return self._weight(self.contributions(choices))

    def merged_bias(self, choices: LayerChoices) -> Tensor | None:
        """b, `(out,)`; None where there is no b0 and nothing is added."""
        return self._bias(self.contributions(choices))

    def contributions(self, choices: LayerChoices) -> list[Contribution]:
        """What these choices add, in the order of the support tensors."""
        return [
            self.support_of(tensor).contribution(choice, self.weight_view)
            for tensor, choice in zip(SUPPORT_TENSORS, choices, strict=True)
            if choice != "none"
        ]

    def as_lora(self, choices: LayerChoices) -> tuple[LowRank, Tensor | None] | None:
        """A LoRA adapter that says the same: lora_B `(out, r)` and lora_A `(r, in)` against W0, and the whole bias.

        None if there is none: where W0 is scaled (W0⊙A is generally full) or a dense matrix is added.
        """
        added = self.contributions(choices)
        shifts = [one.shift for one in added if one.shift is not None]
        if any(one.scale is not None for one in added) or any(isinstance(shift, Dense) for shift in shifts):
            return None
        base = self.weight_view
        products = [shift if isinstance(shift, LowRank) else _ones(shift, self.in_features) for shift in shifts]
        rows = (product.down.expand(self.out_features, -1) for product in products)
        down = torch.cat([base.new_zeros(self.out_features, 0), *rows], dim=1)
        up = torch.cat([base.new_zeros(0, self.in_features), *(product.up for product in products)])
        return LowRank(down, up), self._bias(added)

    def _weight(self, added: list[Contribution]) -> Tensor:
        weight = base = self.weight_view
        for one in added:
            if one.scale is not None:
                weight = torch.addcmul(weight, base, as_matrix(one.scale))
        for one in added:
            if isinstance(one.shift, LowRank):
                weight = torch.addmm(weight, one.shift.down, one.shift.up)
            elif one.shift is not None:
                weight = weight + as_matrix(one.shift)
        return weight

    def _bias(self, added: list[Contribution]) -> Tensor | None:
        base: Tensor | None = self.base.bias
        bias = base
        for one in added:
            if one.bias_scale is not None and base is not None:  # b0 = 0 has nothing to scale
                assert bias is not None
                bias = torch.addcmul(bias, base, one.bias_scale)
        for one in added:
            if one.bias_shift is not None:
                shift = one.bias_shift.expand(self.out_features)
                bias = shift if bias is None else bias + shift
        for one in added:
            if one.prompt is not None:
                seen = self.weight_view @ as_line(one.prompt)
                bias = seen if bias is None else bias + seen
        return bias

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
            scale = _sum_lines(scales)
            scaled = y * (1 + scale) if bias is None else torch.addcmul(-bias * scale, y, 1 + scale)
            y = scaled.to(y.dtype)
        for shift in shifts:
            _shift(y, rows, shift)
        return y.view(*x.shape[:-1], self.out_features)


class AdaptedConv2d(AdaptedLayer):
    """A convolution with support tensors: the weight is seen as `(out, in / groups · height · width)`.

    `(N, in, H, W)` to `(N, out, H', W')`; the prompt C has one value for every tap of a filter. GLoRA's authors leave
    convolutions out. The batch norms of the backbone stay in evaluation mode, with the statistics that it came with.
    """

    base: nn.Conv2d

    def _run(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        result: Tensor = self.base._conv_forward(x, weight.view_as(self.base.weight), bias)
        return result

    def _needs_weight(self, scales: Iterable[Value], shifts: Iterable[Value]) -> bool:
        """In a grouped convolution a product is no chain of two convolutions."""
        return super()._needs_weight(scales, shifts) or (self.base.groups > 1 and any(True for _ in shifts))

    def _run_cheaply(self, x: Tensor, bias: Tensor | None, scales: list[Value], shifts: list[Value]) -> Tensor:
        y = self._run(x, self.base.weight, bias)
        if scales:
            scale = _sum_lines(scales)[:, None, None]
            offset = None if bias is None else -bias[:, None, None] * scale
            y = (y * (1 + scale) if offset is None else torch.addcmul(offset, y, 1 + scale)).to(y.dtype)
        for shift in shifts:
            down, up = shift if isinstance(shift, LowRank) else _ones(shift, self.in_features)
            seen = self.base._conv_forward(x, up.reshape(-1, *self.base.weight.shape[1:]), None)
            y = y + F.conv2d(seen, down.expand(self.out_features, -1)[:, :, None, None])
        return y


def _sum_lines(lines: list[Value]) -> Tensor:
    total: Tensor | None = None
    for line in lines:
        assert isinstance(line, Tensor)
        total = line if total is None else total + line
    assert total is not None
    return total


def _ones(line: Value, columns: int) -> LowRank:
    """A line, the same in every column, as a product of rank one."""
    assert isinstance(line, Tensor)
    return LowRank(line[:, None], line.new_ones(1, columns))


def _shift(y: Tensor, x: Tensor, b: Value) -> None:
    """Add `x·Bᵀ` to `y (N, out)` in place: one pass over it, whatever the form of B.

    The factor is laid out as `(rank, out)`, since autograd then computes its gradient as `seenᵀ·g`; as `gᵀ·seen`, which
    is the gradient of a `linear`, a CPU needs six times as long for the few columns of `seen`.
    """
    if isinstance(b, LowRank):
        seen, factor = F.linear(x, b.up), b.down.t()
    else:
        assert isinstance(b, Tensor)
        seen, factor = x.sum(-1, keepdim=True), b.expand(1, y.shape[-1])
    y.addmm_(seen.to(y.dtype), factor.to(y.dtype).contiguous())


def plain_layer(base: nn.Linear | nn.Conv2d, *, bias: bool) -> nn.Linear | nn.Conv2d:
    """A layer like another one, with a bias or without; its values are arbitrary."""
    plain: nn.Linear | nn.Conv2d
    if isinstance(base, nn.Linear):
        plain = nn.Linear(base.in_features, base.out_features, bias, device="meta")
    else:
        plain = nn.Conv2d(
            base.in_channels, base.out_channels, base.kernel_size, base.stride, base.padding, base.dilation,  # type: ignore[arg-type]
            base.groups, bias, base.padding_mode, device="meta",
        )  # fmt: skip
    return plain.to_empty(device=base.weight.device).to(base.weight.dtype)
