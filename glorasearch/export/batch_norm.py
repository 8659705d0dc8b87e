"""The batch norms that can absorb a bias for which the timm model has no parameter.

A batch norm in evaluation mode computes γ·(y − μ)/σ + β, and γ·(y + b − μ)/σ + β with a bias b in the layer before it:
replacing μ by μ − b is equivalent, exactly, and the architecture does not change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

BatchNorm = nn.modules.batchnorm._BatchNorm


def following_batch_norms(model: nn.Module, images: Tensor) -> dict[str, str]:
    """Linear layers and convolutions → the batch norm with running statistics that reads their output.

    Left out are layers whose output is also read by something else, and layers and batch norms that are called more
    than once: there a bias is not equivalent to a mean. Found by running the model on `images (N, C, H, W)`, which may
    be on the meta device; for a model that cannot run on them the result is empty.
    """
    watch = _Watch()
    hooks = [hook for name, module in model.named_modules() for hook in watch.hooks(name, module)]
    training = [module for module in model.modules() if module.training]
    try:
        with torch.no_grad(), watch:
            model.eval()(images)
    except Exception:  # tensors on the meta device have no values, which some models need
        return {}
    finally:
        for hook in hooks:
            hook.remove()
        for module in training:
            module.training = True
    return watch.found()


class _Watch(TorchFunctionMode):
    """Records what reads the outputs of layers."""

    def __init__(self) -> None:
        super().__init__()
        self._outputs: dict[int, tuple[str, Tensor]] = {}
        """Tensors by `id`, which is unique as long as they are kept here."""
        self._calls: Counter[str] = Counter()
        self._pairs: dict[str, str] = {}
        self._read: Counter[str] = Counter()
        """How often each output was read outside its batch norm."""
        self._inside: list[str] = []

    def hooks(self, name: str, module: nn.Module) -> Iterator[Any]:
        """Hooks that record the calls of a module."""
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            yield module.register_forward_hook(lambda _, inputs, output: self._made(name, output))
        elif isinstance(module, BatchNorm) and module.running_mean is not None:
            yield module.register_forward_pre_hook(lambda _, inputs: self._enter(name, inputs))
            yield module.register_forward_hook(lambda *_: self._leave())

    def found(self) -> dict[str, str]:
        """Layer → batch norm, where nothing else reads the output."""
        return {
            layer: norm
            for layer, norm in self._pairs.items()
            if self._calls[layer] == self._calls[norm] == 1 and not self._read[layer]
        }

    def _made(self, layer: str, output: Tensor) -> None:
        self._calls[layer] += 1
        self._outputs[id(output)] = layer, output

    def _enter(self, norm: str, inputs: Sequence[Any]) -> None:
        self._calls[norm] += 1
        layer, _ = self._outputs.get(id(inputs[0]), ("", None))
        if layer and self._pairs.setdefault(layer, norm) != norm:
            layer = ""  # a second batch norm counts as another reader
        self._inside.append(layer)

    def _leave(self) -> None:
        self._inside.pop()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if result is None or any(True for _ in _tensors(result)):  # otherwise only a shape or the like was read
            for value in _tensors([args, kwargs or {}]):
                layer, _ = self._outputs.get(id(value), ("", None))
                if layer and layer not in self._inside[-1:]:
                    self._read[layer] += 1
        return result


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
