"""What a forward pass makes of adapted layers: which it calls, and of which it only reads weight or bias."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from glorasearch.adapters.layer import AdaptedLayer
from glorasearch.adapters.watching import tensors_in
from glorasearch.errors import BackboneError
from glorasearch.space.selectors import compact

CALLED, WEIGHT, BIAS = "called", "weight", "bias"


def uses(adapted: Mapping[str, AdaptedLayer], run: Callable[[], object]) -> dict[str, set[str]]:
    """For each adapted layer which of these `run` does: call it, compute with its weight, read its bias.

    A weight of which only the device or the like is read is not used.
    """
    found: dict[str, set[str]] = {name: set() for name in adapted}
    watch = _Watch(found)
    hooks = [
        layer.register_forward_pre_hook(lambda *_, name=name: found[name].add(CALLED))
        for name, layer in adapted.items()
    ]
    try:
        for name, layer in adapted.items():
            layer.on_read = lambda what, value, name=name: watch.read(name, what, value)
        with watch:
            run()
    finally:
        for layer in adapted.values():
            layer.on_read = None
        for hook in hooks:
            hook.remove()
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


class _Watch(TorchFunctionMode):
    """Notices computations with weights that were read."""

    def __init__(self, found: Mapping[str, set[str]]) -> None:
        super().__init__()
        self._found = found
        self._weights: dict[int, tuple[str, Tensor]] = {}
        """Tensors by `id`, which is unique as long as they are kept here."""

    def read(self, name: str, what: str, value: Tensor | None) -> None:
        if what == BIAS or value is None:
            self._found[name].add(what)
        else:
            self._weights[id(value)] = name, value

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if self._weights and any(True for _ in tensors_in(result)):
            for value in tensors_in([args, kwargs or {}]):
                name, _ = self._weights.get(id(value), ("", None))
                if name:
                    self._found[name].add(WEIGHT)
        return result
