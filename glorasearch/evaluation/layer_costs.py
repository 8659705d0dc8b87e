"""What a subnet costs with its adapters unmerged: that of the plain backbone, and what each layer's choices add to it.

A layer with its choices is run once for all layers alike, so that thousands of subnets cost no more than that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from glorasearch.adapters import AdaptedLayer
from glorasearch.adapters.layer import LayerChoices
from glorasearch.space import Subnet
from glorasearch.supernet import Supernet

SECONDS: Final = 0.001
"""How long each timing takes, about, where a pass is shorter."""
TIMINGS: Final = 5
BACKBONE: Final = "backbone"
Work = Callable[[], Any]


class LayerCosts:
    """Costs of the subnets of one supernet for one image; of one kind, such as milliseconds.

    `known` holds what has been measured, by what was run; whoever keeps it gets the same costs of a subnet again.
    """

    def __init__(
        self,
        supernet: Supernet,
        image: Tensor,
        measure: Callable[[nn.Module, Work], float],
        known: MutableMapping[str, float] | None = None,
    ) -> None:
        """Count on the device of the supernet.

        Args:
            supernet: whose subnets are counted; in evaluation mode.
            image: `(1, C, H, W)` on the device.
            measure: the cost of work, whose gradients go to the parameters of a module.
            known: of an earlier process.
        """
        self._supernet, self._measure = supernet.eval(), measure
        self._known = {} if known is None else known
        self._plain: LayerChoices = ("none",) * 5
        self._inputs = _inputs_of(supernet, image)
        if BACKBONE not in self._known:
            own = image.clone().requires_grad_()
            self._known[BACKBONE] = measure(supernet, lambda: supernet(own))

    def __call__(self, subnet: Subnet) -> float:
        """The cost of a subnet."""
        total = self._known[BACKBONE]
        for name, layer in self._supernet.adapted.items():
            choices = subnet.layer(name)
            if any(choice != "none" for choice in choices):
                total += max(0.0, self._of(name, layer, choices) - self._of(name, layer, self._plain))
        return total

    def _of(self, name: str, layer: AdaptedLayer, choices: LayerChoices) -> float:
        inputs = self._inputs[name]
        shapes = [list(x.shape) for x in inputs]
        bias = "" if layer.base.bias is None else " bias"
        key = f"{type(layer.base).__name__}{bias} {list(layer.base.weight.shape)} {shapes} {' '.join(choices)}"
        if key not in self._known:
            with _choosing(layer, choices):
                self._known[key] = self._measure(layer, lambda: _run(layer, inputs))
        return self._known[key]


def training_flops(module: nn.Module, work: Work) -> float:
    """Floating-point operations of products in a forward and backward pass, the gradient of the input included."""
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:
        for result in _tensors(work()):
            if result.requires_grad:
                result.sum().backward()  # type: ignore[no-untyped-call]
    module.zero_grad(set_to_none=True)
    return float(counter.get_total_flops())


def milliseconds(module: nn.Module, work: Work, *, mixed: bool = False) -> float:
    """The time of a forward pass, the least of a few timings, which other processes disturb least.

    `mixed` runs it under bfloat16 autocast.
    """
    from torch.utils.benchmark import Timer  # which says so where it finds a CUDA compiler and no GPU

    device = next(module.parameters()).device.type
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=mixed):
        timer = Timer("work()", globals={"work": work}, num_threads=torch.get_num_threads())
        timer.timeit(1)
        passes = max(1, int(SECONDS / timer.timeit(1).median))
        return 1000 * min(timer.timeit(passes).median for _ in range(TIMINGS))


def _run(layer: AdaptedLayer, inputs: list[Tensor]) -> Any:
    """What the model does with a layer: it calls it on these inputs, or reads its weight and bias."""
    return [layer(x) for x in inputs] if inputs else [layer.weight, layer.bias]


def _tensors(found: Any) -> Iterator[Tensor]:
    for one in found if isinstance(found, list) else [found]:
        if isinstance(one, Tensor):
            yield one


def _inputs_of(supernet: Supernet, image: Tensor) -> dict[str, list[Tensor]]:
    """The inputs that each adapted layer is called with, for one image; they take a gradient."""
    found: dict[str, list[Tensor]] = {name: [] for name in supernet.adapted}
    handles = [
        layer.register_forward_pre_hook(
            lambda _, given, name=name: found[name].append(torch.randn_like(given[0]).requires_grad_())
        )
        for name, layer in supernet.adapted.items()
    ]
    try:
        with torch.no_grad():
            supernet(image)
    finally:
        for handle in handles:
            handle.remove()
    return found


@contextmanager
def _choosing(layer: AdaptedLayer, choices: LayerChoices) -> Iterator[None]:
    before, layer.choices = layer.choices, choices
    try:
        yield
    finally:
        layer.choices = before
