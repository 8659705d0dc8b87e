"""Choices beyond GLoRA's own forms on the fused paths: columns of a product, or coefficients of fixed matrices.

A choice that contributes a product to the weight (`wegeft`, `dash`, `tsd_init`, `tsd`, a plugin) fills some columns of
the layer's `left` and rows of its `right`; those of one support tensor exclude each other and share them. One that
contributes `left·diag(c)·right` with fixed matrices (`fourier`) fills the layer's `spectrum`. All of it is computed by
the same `Choice.contribution` as on the plain path, for all layers of a bank at once, with the choices that are not
drawn multiplied by zero; the gradients are autograd's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from glorasearch.adapters import AdaptedLayer, OfferedChoice
from glorasearch.choices import LowRank, Spectral
from glorasearch.fused.layout import CODE_WIDTH, OWN_CHOICES, code_of
from glorasearch.space import SUPPORT_TENSORS

Key = tuple[str, str]
"""Support tensor and part: ("A", "down")."""


@dataclass(frozen=True, slots=True)
class Extra:
    """One choice class of one support tensor of a bank."""

    tensor: str
    name: str
    offered: OfferedChoice

    @property
    def code(self) -> int:
        """The code of its choice class."""
        return code_of(self.name)

    @property
    def spectral(self) -> bool:
        """Whether it fills the spectrum, not columns."""
        return issubclass(self.offered.choice_class, Spectral)


class Extras:
    """The extras of a bank."""

    def __init__(self, layer: AdaptedLayer, base: Tensor) -> None:
        """`layer` is any layer of the bank, `base (L, out, in)` the weights of all."""
        self.all = [
            Extra(tensor, name, offered)
            for tensor in layer.support
            for name, offered in layer.support_of(tensor).offered.items()
            if name not in OWN_CHOICES
        ]
        self._base = base
        self.left, self.right = self._bases()
        """Fixed matrices `(out, n)` and `(n, in)` of the spectrum; n is 0 if there is none."""
        self._widths = self._columns_by_tensor()

    @property
    def rank(self) -> int:
        """Columns of their products."""
        return sum(self._widths.values())

    @property
    def entries(self) -> int:
        """Coefficients of the spectrum."""
        return self.left.shape[1]

    def used_by(self, tensor: str, part: str) -> tuple[int, ...]:
        """The codes of the choice classes that train a part of a support tensor."""
        return codes_of({extra.name: extra.offered for extra in self.all if extra.tensor == tensor}, part)

    def drawn(self, own: Tensor) -> tuple[Tensor, Tensor]:
        """`(L,)` bool each: whether a product and whether a spectrum is drawn; `own (L, 5, 3)` are the codes."""
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
            choice = extra.offered.choice_class
            if issubclass(choice, Spectral):
                on = self._on(extra, own)[:, None]
                spectrum = spectrum + choice.spectrum(self._cut(extra, parts, own), extra.offered.site) * on
        empty = self._base.new_zeros(count, outs, 0), self._base.new_zeros(count, 0, ins)
        return torch.cat([*lefts, empty[0]], dim=-1), torch.cat([*rights, empty[1]], dim=-2), spectrum

    def _product(self, extra: Extra, parts: Mapping[Key, Tensor], own: Tensor) -> LowRank:
        offered = extra.offered
        shift = offered.choice_class.contribution(self._cut(extra, parts, own), self._base, offered.site).shift
        assert isinstance(shift, LowRank)
        on = self._on(extra, own)[:, None, None]
        return LowRank(shift.down * on, shift.up * on)

    def _on(self, extra: Extra, own: Tensor) -> Tensor:
        return (own[:, SUPPORT_TENSORS.index(extra.tensor), 0] == extra.code).to(self._base.dtype)

    def _cut(self, extra: Extra, parts: Mapping[Key, Tensor], own: Tensor) -> dict[str, Tensor]:
        """The parts of an extra, with zeros where a smaller argument cuts them off."""
        codes = own[:, SUPPORT_TENSORS.index(extra.tensor)]
        found: dict[str, Tensor] = {}
        for name, part in extra.offered.parts.items():
            value = parts[extra.tensor, name]
            for argument, axis in part.cut.items():
                given = codes[:, 1 + extra.offered.choice_class.arguments.index(argument)]
                inside = torch.arange(value.shape[axis], device=own.device) < given[:, None]
                shape = [len(own)] + [1] * len(part.shape)
                shape[axis] = value.shape[axis]
                value = value * inside.view(shape).to(value.dtype)
            found[name] = value
        return found

    def _bases(self) -> tuple[Tensor, Tensor]:
        _, outs, ins = self._base.shape
        for extra in self.all:
            choice = extra.offered.choice_class
            if issubclass(choice, Spectral):  # at most one
                left, right = choice.bases(extra.offered.parts, extra.offered.site)
                return left.to(self._base), right.to(self._base)
        return self._base.new_zeros(outs, 0), self._base.new_zeros(0, ins)

    def _columns_by_tensor(self) -> dict[str, int]:
        widths: dict[str, int] = {}
        for extra in self.all:
            if not extra.spectral:
                shift = example(extra.offered, self._base[:1])
                assert isinstance(shift, LowRank)
                widths[extra.tensor] = max(widths.get(extra.tensor, 0), shift.down.shape[-1])
        return widths


def codes_of(offered: Mapping[str, OfferedChoice], part: str) -> tuple[int, ...]:
    """The codes of the choice classes that train a part."""
    trained = (name for name, one in offered.items() if part in one.parts and one.parts[part].trained)
    return tuple(code_of(name) for name in trained)


def example(offered: OfferedChoice, base: Tensor) -> LowRank | None:
    """The product that a choice class contributes to a stack of layers `base (L, out, in)` when its parts are zero;
    None if it contributes anything else, or cannot process stacks."""
    parts = {name: base.new_zeros(len(base), *part.shape) for name, part in offered.parts.items()}
    try:
        found = offered.choice_class.contribution(parts, base, offered.site)
    except Exception:  # a plugin may assume in any way that its tensors are those of one layer
        return None
    if replace(found, shift=None) != type(found)() or not isinstance(found.shift, LowRank):
        return None
    down, up = found.shift
    stacked = down.shape[:-1] == base.shape[:-1] and up.shape == (len(base), down.shape[-1], base.shape[-1])
    return found.shift if stacked else None


def what_is_not_covered(offered: Mapping[str, OfferedChoice], base: Tensor) -> Sequence[str]:
    """The choice classes that the fused paths do not cover, since they contribute neither a product nor a spectrum.
    `base (1, out, in)` is a layer's weight."""
    spectral = spectral_choices(offered)
    return [
        name
        for name, one in offered.items()
        if name not in OWN_CHOICES
        and (len(one.choice_class.arguments) >= CODE_WIDTH or not (name in spectral or example(one, base)))
    ]


def spectral_choices(offered: Mapping[str, OfferedChoice]) -> list[str]:
    """The choice classes whose shift is a spectrum."""
    return [name for name, one in offered.items() if issubclass(one.choice_class, Spectral)]
