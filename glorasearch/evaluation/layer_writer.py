"""Writes the merged weights of one layer into a plain layer, with the fewest operations and no copies."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from glorasearch.adapters import AdaptedLayer, LayerChoices, as_line, as_matrix
from glorasearch.choices import Contribution, Dense, LowRank
from glorasearch.space import SUPPORT_TENSORS

Key = tuple[str, str]
"""Support tensor and choice."""


class LayerWriter:
    """One adapted layer and the plain layer that holds its merged weights.

    The same operations in the same order as `AdaptedLayer.merged_weight` and `merged_bias`, hence the same bits; but
    they write in place, what a choice adds is looked up once (dense matrices are not kept), `W0·C` is computed once for
    each choice of C, and weight and bias are left alone where what is added to them was written last. So the layer's
    weights must not change.
    """

    def __init__(self, layer: AdaptedLayer, plain: nn.Linear | nn.Conv2d) -> None:
        self._layer = layer
        self._weight, self._bias = plain.weight.data.flatten(1), plain.bias
        self._base_weight, self._base_bias = layer.weight_view.detach(), layer.base.bias
        self._added: dict[Key, Contribution] = {}
        self._written_weight: list[Key] | None = None
        self._written_bias: list[Key] | None = None

    def write(self, choices: LayerChoices) -> None:
        """Write the merged weights of these choices, as far as they are not there."""
        weight: list[Key] = []
        bias: list[Key] = []
        for key in zip(SUPPORT_TENSORS, choices, strict=True):
            if key[1] != "none":
                added = self._contribution(key)
                if added.scale is not None or added.shift is not None:
                    weight.append(key)
                if added.bias_scale is not None or added.bias_shift is not None or added.prompt is not None:
                    bias.append(key)
        if self._written_weight != weight:
            self._written_weight = None  # if this is cut off, it is nobody's weight
            self._write_weight(weight)
            self._written_weight = weight
        if self._bias is not None and self._written_bias != bias:
            self._written_bias = None
            self._write_bias(bias)
            self._written_bias = bias

    def _write_weight(self, keys: list[Key]) -> None:
        weight = self._weight
        start: Tensor = self._base_weight
        added = [self._contribution(key) for key in keys]
        for one in added:
            if one.scale is not None:
                start = torch.addcmul(start, self._base_weight, as_matrix(one.scale), out=weight)
        for one, key in zip(added, keys, strict=True):
            shift = self._dense_shift(key) if isinstance(one.shift, Dense) else one.shift
            if isinstance(shift, LowRank):
                start = torch.addmm(start, shift.down, shift.up, out=weight)
            elif shift is not None:
                start = torch.add(start, as_matrix(shift), out=weight)
        if start is not weight:
            weight.copy_(start)

    def _write_bias(self, keys: list[Key]) -> None:
        """A bias that only others have gained is zero."""
        bias, base = self._bias, self._base_bias
        assert bias is not None
        added = [self._contribution(key) for key in keys]
        if base is None:
            bias.zero_()
        else:
            bias.copy_(base)
        for one in added:
            if one.bias_scale is not None and base is not None:
                bias.addcmul_(base, one.bias_scale)
        for one in added:
            if one.bias_shift is not None:
                bias.add_(one.bias_shift)
        for one in added:
            if one.prompt is not None:
                assert isinstance(one.prompt, Tensor)
                bias.add_(one.prompt)

    def _contribution(self, key: Key) -> Contribution:
        """What a choice adds, the prompt as `W0·C`; dense shifts are stood for by nothing that takes memory."""
        found = self._added.get(key)
        if found is None:
            tensor, choice = key
            found = self._layer.support_of(tensor).contribution(choice, self._base_weight)
            if found.prompt is not None:
                found = replace(found, prompt=self._base_weight @ as_line(found.prompt))
            if isinstance(found.shift, Dense):
                found = replace(found, shift=Dense(self._base_weight))
            self._added[key] = found
        return found

    def _dense_shift(self, key: Key) -> Dense:
        tensor, choice = key
        shift = self._layer.support_of(tensor).contribution(choice, self._base_weight).shift
        assert isinstance(shift, Dense)
        return shift
