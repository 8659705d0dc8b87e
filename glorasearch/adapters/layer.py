"""What all layers that carry support tensors have in common."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from glorasearch.adapters.base import Base, rows_of
from glorasearch.adapters.plugins import check_plugins
from glorasearch.adapters.support import OfferedChoice, Storage, SupportTensor
from glorasearch.choices import Contribution, LowRank, as_matrix, as_vector
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

    `base` is the original module, shared and not copied. Some models read what a layer has and do not call it: this
    one answers every attribute of `base`, with the active weight and bias for its own, and so do the methods of `base`.
    """

    base: Base
    choices: LayerChoices | None = None
    on_use: Callable[[str, Tensor | None], None] | None = None
    """Told that it is `called`, or what is read of it, `weight` or `bias`, and the value; set by `reached` only."""

    def __init__(
        self,
        base: Base,
        offered: Mapping[str, Mapping[str, OfferedChoice]],
        *,
        entangle: str,
        generator: torch.Generator,
        shared: Mapping[str, Storage],
    ) -> None:
        """`offered` has the choice classes of each support tensor, `shared` the parts of groups of layers."""
        super().__init__()
        self.base = base
        weight = self.weight_view.detach()
        self.out_features, self.in_features = weight.shape
        self.support = nn.ModuleDict(
            {
                tensor: SupportTensor(
                    classes, entangle=entangle, generator=generator, like=weight, shared=shared.get(tensor)
                )
                for tensor, classes in offered.items()
            }
        )
        for tensor, classes in offered.items():
            check_plugins(tensor, classes, self.support_of(tensor), weight)

    def forward(self, *given: Any, **named: Any) -> Any:
        """The base layer with the active choices; classes derived from torch's may take more than `x`."""
        if self.on_use is not None:
            self.on_use("called", None)
        if self.choices is None:
            return self.base(*given, **named)
        added = self.contributions(self.choices)
        if len(given) == 1 and not named:
            return self._run_with(given[0], added)
        return self._run_base(self.merge_weight(added), self.merge_bias(added), *given, **named)

    def _run_with(self, x: Tensor, added: Sequence[Contribution]) -> Tensor:
        """The layer's function with what choices add."""
        return self._run(x, self.merge_weight(added), self.merge_bias(added))

    def _run(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The base's own forward with the given weight `(out, in)` and bias `(out,)`."""
        result: Tensor = self._run_base(weight, bias, x)
        return result

    def _run_base(self, weight: Tensor, bias: Tensor | None, *given: Any, **named: Any) -> Any:
        own = {"weight": weight.view_as(self.base.weight)} | ({} if bias is None else {"bias": bias})
        return functional_call(self.base, own, given, named)

    def __getattr__(self, name: str) -> Any:
        """What a module has, and otherwise what its base layer has."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            base = self.__dict__.get("_modules", {}).get("base")
            if base is None or name == "base":
                raise
            computed = inspect.getattr_static(type(base), name, None)
            if inspect.isfunction(computed):
                return partial(self._method_of_base, name)
            if isinstance(computed, property):
                with self._active_base():
                    return getattr(base, name)
            return getattr(base, name)

    def _method_of_base(self, name: str, *given: Any, **named: Any) -> Any:
        with self._active_base():
            return getattr(self.base, name)(*given, **named)

    @contextmanager
    def _active_base(self) -> Iterator[None]:
        """The base layer has the active weight and bias for its own."""
        own: dict[str, Any] = self.base._parameters
        before = dict(own)
        own |= {"weight": self.weight, "bias": self.bias}
        try:
            yield
        finally:
            own.clear()
            own |= before

    @property
    def weight(self) -> Tensor:
        """W of the active choices, in the shape of the base layer's weight; differentiable."""
        weight = self.base.weight if self.choices is None else self.merged_weight(self.choices)
        weight = weight.view_as(self.base.weight)
        if self.on_use is not None:
            self.on_use("weight", weight)
        return weight

    @property
    def bias(self) -> Tensor | None:
        """b of the active choices, `(out,)`, or None; differentiable."""
        bias = self.base.bias if self.choices is None else self.merged_bias(self.choices)
        if self.on_use is not None:
            self.on_use("bias", bias)
        return bias

    @property
    def weight_view(self) -> Tensor:
        """W0 as `(out, in)`."""
        return rows_of(self.base.weight)

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
