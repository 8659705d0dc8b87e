"""The merged model that runs layer by layer, on any device, and the cache that merges its layers."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from glorasearch.adapters import AdaptedLayer, Base, LayerChoices, is_adaptable, rows_of
from glorasearch.choices import Contribution, Dense
from glorasearch.evaluation.merged_model import MergedModel
from glorasearch.space import SUPPORT_TENSORS, Subnet
from glorasearch.supernet import Supernet

_Key = tuple[str, str]
"""Support tensor and choice."""


class EagerModel(MergedModel):
    """Runs layer by layer, in float32 or under bfloat16 autocast.

    A candidate is merged from the supernet's weights at that moment, and only the layers whose choices differ from the
    previous candidate's are written: the weights must not change in between.
    """

    def __init__(self, supernet: Supernet, device: torch.device | str, *, mixed: bool = False) -> None:
        self.device, self._mixed = torch.device(device), mixed
        self._supernet, self._space = supernet, supernet.space
        self.refresh()

    def refresh(self) -> None:
        """Rebuild the model."""
        supernet, device = self._supernet, self.device
        model = supernet.merged(supernet.space.largest(), biased=supernet.gains_bias())
        self._model = model.to(device).requires_grad_(False)
        self._share_frozen()
        self._layers = {name: MergedLayer(layer, _plain(self._model, name)) for name, layer in supernet.adapted.items()}

    def _share_frozen(self) -> None:
        """Use the supernet's memory for the parameters that no candidate changes."""
        frozen = self._supernet.frozen_state()
        for name, parameter in self._model.named_parameters():
            given = frozen.get(name)
            if given is not None and name.rpartition(".")[0] not in self._supernet.adapted:
                parameter.data = given

    def write(self, subnet: Subnet) -> None:
        """Write the merged weights of the layers whose choices changed."""
        self._space.check(subnet)
        for name, layer in self._layers.items():
            layer.merge(subnet.layer(name))

    def _forward(self, images: Tensor) -> Tensor:
        """The plain forward."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._mixed):
            logits: Tensor = self._model(images)
        return logits.float()


class _Added(NamedTuple):
    """What a choice adds, cached: to the weight, to the bias, and `W0·C` as a shift of the bias."""

    weight: Contribution | None
    bias: Contribution | None
    prompt: Contribution | None


class MergedLayer:
    """A plain layer into which the choices of an adapted layer are merged again and again.

    It caches what each choice adds, with `W0·C`, and leaves weight and bias alone where their choices are those that
    were written last. So the adapted layer's weights must not change.
    """

    def __init__(self, layer: AdaptedLayer, plain: Base) -> None:
        self._layer = layer
        self._weight, self._bias = rows_of(plain.weight.data), plain.bias
        self._added: dict[_Key, _Added] = {}
        self._written_weight: list[_Key] | None = None
        self._written_bias: list[_Key] | None = None

    def merge(self, choices: LayerChoices) -> None:
        """Write the merged weight and bias of these choices, unless they are there already."""
        weight: list[_Key] = []
        bias: list[_Key] = []
        for key in zip(SUPPORT_TENSORS, choices, strict=True):
            if key[1] != "none":
                added = self._added.get(key) or self._add(key)
                if added.weight is not None:
                    weight.append(key)
                if added.bias is not None or added.prompt is not None:
                    bias.append(key)
        if self._written_weight != weight:
            self._written_weight = None  # an interrupted write leaves a weight that belongs to no choices
            self._layer.merge_weight([self._weight_part(key) for key in weight], self._weight)
            self._written_weight = weight
        if self._bias is not None and self._written_bias != bias:
            self._written_bias = None
            shifts = [one for key in bias if (one := self._added[key].bias) is not None]
            prompts = [one for key in bias if (one := self._added[key].prompt) is not None]
            self._layer.merge_bias(shifts + prompts, self._bias)  # prompts last, as in the equation
            self._written_bias = bias

    def _add(self, key: _Key) -> _Added:
        one = self._contribution(key)
        weight = bias = prompt = None
        if one.scale is not None or one.shift is not None:
            # A dense shift is not kept, for its size: W0, which takes no memory, stands in for it.
            dense = isinstance(one.shift, Dense)
            weight = replace(one, shift=Dense(self._layer.weight_view)) if dense else one
        if one.bias_scale is not None or one.bias_shift is not None:
            bias = replace(one, prompt=None)
        if one.prompt is not None:
            prompt = Contribution(bias_shift=self._layer.through_weight(one.prompt))
        self._added[key] = _Added(weight, bias, prompt)
        return self._added[key]

    def _weight_part(self, key: _Key) -> Contribution:
        kept = self._added[key].weight
        assert kept is not None
        return self._contribution(key) if isinstance(kept.shift, Dense) else kept

    def _contribution(self, key: _Key) -> Contribution:
        tensor, choice = key
        return self._layer.support_of(tensor).contribution(choice, self._layer.weight_view)


def _plain(model: nn.Module, name: str) -> Base:
    module = model.get_submodule(name)
    assert is_adaptable(module)
    return module
