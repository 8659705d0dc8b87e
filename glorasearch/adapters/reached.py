"""What a forward pass makes of adapted layers: which it calls, and of which it only reads weight or bias."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from glorasearch.adapters.inject import replace_modules
from glorasearch.adapters.layer import AdaptedLayer
from glorasearch.adapters.watching import tensors_in
from glorasearch.errors import BackboneError, first_line
from glorasearch.space.selectors import compact

CALLED, WEIGHT, BIAS = "called", "weight", "bias"


def uses(adapted: Mapping[str, AdaptedLayer], run: Callable[[], object]) -> dict[str, set[str]]:
    """For each adapted layer which of these `run` does: call it, compute with its weight, compute with its bias.

    A weight of which only the device or the like is read is not used.

    Raises:
        BackboneError: if `run` needs something of a layer that adapted ones do not have.
    """
    found: dict[str, set[str]] = {name: set() for name in adapted}
    watch = _Watch(found)
    try:
        for name, layer in adapted.items():
            layer.on_use = lambda what, value, name=name: watch.used(name, what, value)
        with watch:
            run()
    except (AttributeError, KeyError, TypeError) as error:
        raise BackboneError(
            f"this backbone does not run with adapters in its layers ({type(error).__name__}: {first_line(error)}), "
            "since it uses one otherwise than by a call, its weight, its bias and its settings: find it by "
            "layers.include in the search space, and exclude it by layers.exclude"
        ) from error
    finally:
        for layer in adapted.values():
            layer.on_use = None
    return found


def check_uses(adapted: Mapping[str, AdaptedLayer], found: Mapping[str, set[str]]) -> None:
    """Raise `BackboneError` if an adapted layer has no effect, or one whose bias choices change has it without them."""
    missed = sorted(name for name, own in found.items() if not own & {CALLED, WEIGHT})
    if missed:
        raise BackboneError(
            f"a forward pass never uses {compact(missed, list(adapted))}: their adapters "
            "would have no effect; exclude them by layers.exclude in the search space"
        )
    deaf = sorted(
        name
        for name, own in found.items()
        if not own & {CALLED, BIAS}
        and any(
            adapted[name].support_of(tensor).adds_bias(adapted[name].weight_view) for tensor in adapted[name].support
        )
    )
    if deaf:
        raise BackboneError(
            f"this backbone reads the weight of {compact(deaf, list(adapted))} and not the bias: C, D and "
            'E would have no effect there; allow only "none" for them by a group in the search space'
        )


def check_start(adapted: Mapping[str, AdaptedLayer], model: nn.Module, run: Callable[[], Tensor]) -> None:
    """Raise `BackboneError` if `run` gives something else with the adapted layers, none of them active, than without.

    So it is if the model asks for a layer's class, or has a name for something of its own that an adapted layer has.
    """
    replaced = run()
    replace_modules(model, {id(layer): layer.base for layer in adapted.values()})
    try:
        expected = run()
    finally:
        replace_modules(model, {id(layer.base): layer for layer in adapted.values()})
    bound = 1e-3 * float(expected.abs().max().nan_to_num())
    if not torch.allclose(replaced, expected, rtol=0, atol=bound, equal_nan=True):
        raise BackboneError(
            "this backbone computes something else once its layers are adapted, though nothing is added yet: it looks "
            "at more than a layer's outputs, weight, bias and settings, such as at its class; find the layer by "
            "layers.include in the search space, and exclude it by layers.exclude"
        )


class _Watch(TorchFunctionMode):
    """Notices computations with weights and biases that were read."""

    def __init__(self, found: Mapping[str, set[str]]) -> None:
        super().__init__()
        self._found = found
        self._read: dict[int, tuple[str, str, Tensor]] = {}
        """Tensors by `id`, which is unique as long as they are kept here."""

    def used(self, name: str, what: str, value: Tensor | None) -> None:
        if value is None:  # a call, or a bias that there is not
            self._found[name].add(what)
        else:
            self._read[id(value)] = name, what, value

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if self._read and any(True for _ in tensors_in(result)):
            for value in tensors_in([args, kwargs or {}]):
                name, what, _ = self._read.get(id(value), ("", "", None))
                if name:
                    self._found[name].add(what)
        return result
