"""Choices beyond GLoRA's own forms on the fused paths: columns of a product, or coefficients of fixed matrices.

A choice that contributes a product to the weight (`wegeft`, `dash`, `tsd_init`, `tsd`, a method from outside) fills
some columns of the layer's `left` and rows of its `right`; those of one support tensor exclude each other and share
them. One that contributes `left·diag(c)·right` with fixed matrices (`fourier`) fills the layer's `spectrum`. All of it
is computed by the same `Choice.contribution` as on the plain path, for all layers of a bank at once, what is not drawn
multiplied by zero; its gradients are autograd's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from glorasearch.adapters import AdaptedLayer, Method
from glorasearch.choices import CHOICES, LowRank, Spectral
from glorasearch.fused.codes import CODE_WIDTH, OWN_KINDS
from glorasearch.space import SUPPORT_TENSORS

Key = tuple[str, str]
"""Support tensor and part: ("A", "down")."""


@dataclass(frozen=True, slots=True)
class Extra:
    """One kind of choice of one support tensor of a bank."""

    tensor: str
    kind: str
    method: Method

    @property
    def code(self) -> int:
        """Its kind in the table of codes."""
        return list(CHOICES).index(self.kind)

    @property
    def spectral(self) -> bool:
        """Whether it fills the spectrum, not columns."""
        return issubclass(self.method.choice, Spectral)


class Extras:
    """Those of a bank."""

    def __init__(self, layer: AdaptedLayer, base: Tensor) -> None:
        """`layer` is any of the bank's, `base (L, out, in)` all their weights."""
        self.all = [
            Extra(tensor, kind, method)
            for tensor in layer.support
            for kind, method in layer.support_of(tensor).methods.items()
            if kind not in OWN_KINDS
        ]
        self._base = base
        self.left, self.right = self._bases()
        """Fixed matrices `(out, n)` and `(n, in)` of the spectrum; n is 0 where there is none."""
        self._widths = self._columns_by_tensor()

    @property
    def rank(self) -> int:
        """Columns of products that they need."""
        return sum(self._widths.values())

    @property
    def entries(self) -> int:
        """Coefficients of the spectrum."""
        return self.left.shape[1]

    def used_by(self, tensor: str, part: str) -> tuple[int, ...]:
        """The codes of the kinds that train a part of a support tensor."""
        return codes_of({extra.kind: extra.method for extra in self.all if extra.tensor == tensor}, part)

    def drawn(self, own: Tensor) -> tuple[Tensor, Tensor]:
        """`(L,)` bool each: whether a product, and whether a spectrum is drawn; `own (L, 5, 3)` are the codes."""
        products = spectra = torch.zeros(len(own), dtype=torch.bool, device=own.device)
        for extra in self.all:
            drawn = own[:, SUPPORT_TENSORS.index(extra.tensor), 0] == extra.code
            if extra.spectral:
                spectra = spectra | drawn
            else:
                products = products | drawn
        return products, spectra

    def columns(self, parts: Mapping[Key, Tensor], own: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`left (L, out, r)`, `right (L, r, in)` and `spectrum (L, n)`; differentiable in `parts`, stacked storages."""
        count, outs, ins = self._base.shape
        lefts, rights = [], []
        spectrum = self._base.new_zeros(count, self.entries)
        for tensor, width in self._widths.items():
            left, right = self._base.new_zeros(count, outs, width), self._base.new_zeros(count, width, ins)
            for extra in self.all:
                if extra.tensor == tensor and not extra.spectral:
                    product = self._product(extra, parts, own)
                    spare = width - product.down.shape[-1]
                    left = left + F.pad(product.down, (0, spare))
                    right = right + F.pad(product.up, (0, 0, 0, spare))
            lefts.append(left)
            rights.append(right)
        for extra in self.all:
            choice = extra.method.choice
            if issubclass(choice, Spectral):
                on = self._on(extra, own)[:, None]
                spectrum = spectrum + choice.spectrum(self._cut(extra, parts, own), extra.method.site) * on
        empty = self._base.new_zeros(count, outs, 0), self._base.new_zeros(count, 0, ins)
        return torch.cat([*lefts, empty[0]], dim=-1), torch.cat([*rights, empty[1]], dim=-2), spectrum

    def _product(self, extra: Extra, parts: Mapping[Key, Tensor], own: Tensor) -> LowRank:
        method = extra.method
        shift = method.choice.contribution(self._cut(extra, parts, own), self._base, method.site).shift
        assert isinstance(shift, LowRank)
        on = self._on(extra, own)[:, None, None]
        return LowRank(shift.down * on, shift.up * on)

    def _on(self, extra: Extra, own: Tensor) -> Tensor:
        return (own[:, SUPPORT_TENSORS.index(extra.tensor), 0] == extra.code).to(self._base.dtype)

    def _cut(self, extra: Extra, parts: Mapping[Key, Tensor], own: Tensor) -> dict[str, Tensor]:
        """The parts of an extra with zeros where a smaller argument cuts them off."""
        codes = own[:, SUPPORT_TENSORS.index(extra.tensor)]
        found: dict[str, Tensor] = {}
        for name, part in extra.method.parts.items():
            value = parts[extra.tensor, name]
            for argument, axis in part.cut.items():
                given = codes[:, 1 + extra.method.choice.arguments.index(argument)]
                inside = torch.arange(value.shape[axis], device=own.device) < given[:, None]
                shape = [len(own)] + [1] * len(part.shape)
                shape[axis] = value.shape[axis]
                value = value * inside.view(shape).to(value.dtype)
            found[name] = value
        return found

    def _bases(self) -> tuple[Tensor, Tensor]:
        _, outs, ins = self._base.shape
        for extra in self.all:
            choice = extra.method.choice
            if issubclass(choice, Spectral):  # there is one at most
                left, right = choice.bases(extra.method.parts, extra.method.site)
                return left.to(self._base), right.to(self._base)
        return self._base.new_zeros(outs, 0), self._base.new_zeros(0, ins)

    def _columns_by_tensor(self) -> dict[str, int]:
        widths: dict[str, int] = {}
        for extra in self.all:
            if not extra.spectral:
                shift = example(extra.method, self._base[:1])
                assert isinstance(shift, LowRank)
                widths[extra.tensor] = max(widths.get(extra.tensor, 0), shift.down.shape[-1])
        return widths


def codes_of(methods: Mapping[str, Method], part: str) -> tuple[int, ...]:
    """The codes of the kinds that train a part."""
    trained = (kind for kind, method in methods.items() if part in method.parts and method.parts[part].trained)
    return tuple(list(CHOICES).index(kind) for kind in trained)


def example(method: Method, base: Tensor) -> LowRank | None:
    """The product that a kind of choice contributes to a stack of layers `base (L, out, in)` when its parts are zero;
    None if it contributes anything else, or does not know stacks."""
    parts = {name: base.new_zeros(len(base), *part.shape) for name, part in method.parts.items()}
    try:
        found = method.choice.contribution(parts, base, method.site)
    except Exception:  # a method from outside may take its tensors for those of one layer, in any way
        return None
    if replace(found, shift=None) != type(found)() or not isinstance(found.shift, LowRank):
        return None
    down, up = found.shift
    stacked = down.shape[:-1] == base.shape[:-1] and up.shape == (len(base), down.shape[-1], base.shape[-1])
    return found.shift if stacked else None


def what_is_not_covered(methods: Mapping[str, Method], base: Tensor) -> Sequence[str]:
    """The kinds of choices that the fused paths do not know: their contribution is neither a product nor a spectrum.
    `base (1, out, in)` is a layer's weight."""
    spectral = spectral_kinds(methods)
    return [
        kind
        for kind, method in methods.items()
        if kind not in OWN_KINDS
        and (len(method.choice.arguments) >= CODE_WIDTH or not (kind in spectral or example(method, base)))
    ]


def spectral_kinds(methods: Mapping[str, Method]) -> list[str]:
    """The kinds of choices whose shift is a spectrum."""
    return [kind for kind, method in methods.items() if issubclass(method.choice, Spectral)]
