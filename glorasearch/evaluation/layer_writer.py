"""Writes the merged weights of one layer into a plain linear layer, with the fewest operations and no copies."""

from __future__ import annotations

import torch
from torch import nn

from glorasearch.adapters import AdaptedLinear
from glorasearch.adapters.linear import LayerChoices
from glorasearch.adapters.support import LowRank, SupportTensor, Value


class LayerWriter:
    """One adapted layer and the plain layer that holds its merged weights.

    The same operations in the same order as `AdaptedLinear.merged_weight` and `merged_bias`, hence the same bits; but
    they write in place, what a choice stands for is looked up once, `W0·C` is computed once for each choice of C, and
    weight and bias are left alone where their choices are those that were written last. So the layer's weights must not
    change.
    """

    def __init__(self, layer: AdaptedLinear, plain: nn.Linear) -> None:
        self._layer = layer
        self._weight, self._bias = plain.weight, plain.bias
        self._base_weight, self._base_bias = layer.base.weight, layer.base.bias
        self._values: dict[tuple[str, str], Value] = {}
        self._weight_choices: tuple[str, str] | None = None
        self._bias_choices: tuple[str, str, str] | None = None

    def write(self, choices: LayerChoices) -> None:
        """Write the merged weights of these choices, as far as they are not there."""
        a, b, c, d, e = choices
        if self._weight_choices != (a, b):
            self._weight_choices = None  # if this is cut off, it is nobody's weight
            self._write_weight(self._value("A", a), self._value("B", b))
            self._weight_choices = a, b
        if self._bias is not None and self._bias_choices != (c, d, e):
            self._bias_choices = None
            self._write_bias(self._value("C", c), self._value("D", d), self._value("E", e))
            self._bias_choices = c, d, e

    def _write_weight(self, a: Value, b: Value) -> None:
        """`W0 + W0⊙A + B`."""
        weight, base = self._weight, self._base_weight
        if a is not None:
            base = torch.addcmul(base, base, a.dense() if isinstance(a, LowRank) else a, out=weight)
        if isinstance(b, LowRank):
            torch.addmm(base, b.down, b.up, out=weight)
        elif b is not None:
            torch.add(base, b, out=weight)
        elif a is None:
            weight.copy_(base)

    def _write_bias(self, c: Value, d: Value, e: Value) -> None:
        """`b0 + b0⊙D + E + W0·C`; a bias that only others have gained is zero."""
        bias, base = self._bias, self._base_bias
        assert not isinstance(c, LowRank)
        assert not isinstance(d, LowRank)
        assert not isinstance(e, LowRank)
        if base is None:
            bias.zero_()
        elif d is None:
            bias.copy_(base)
        else:
            torch.addcmul(base, base, d, out=bias)
        if e is not None:
            bias.add_(e)
        if c is not None:
            bias.add_(c)

    def _value(self, tensor: str, choice: str) -> Value:
        """What a choice stands for, as it is used: A and B broadcast to `(out, in)`, C is `W0·C`."""
        if choice == "none":
            return None
        key = tensor, choice
        found = self._values.get(key)
        if found is None:
            support = self._layer.support[tensor]
            assert isinstance(support, SupportTensor)
            found = support.value(choice)
            assert found is not None
            if tensor == "C":
                found = self._base_weight @ (found.dense().squeeze(-1) if isinstance(found, LowRank) else found)
            elif tensor in "AB" and not isinstance(found, LowRank):
                found = found.unsqueeze(-1)
            self._values[key] = found
        return found
