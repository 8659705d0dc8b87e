"""The batch norms that can absorb a bias for which the timm model has no parameter.

A batch norm in evaluation mode computes γ·(y − μ)/σ + β, and γ·(y + b − μ)/σ + β with a bias b in the layer before it:
replacing μ by μ − b is equivalent, exactly, and the architecture does not change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from glorasearch.adapters.watching import tensors_in

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


_ARRANGING = frozenset(
    {"flatten", "unflatten", "reshape", "view", "reshape_as", "view_as", "transpose", "swapaxes", "swapdims", "permute"}
    | {"movedim", "moveaxis", "unsqueeze", "squeeze", "contiguous", "clone", "t"}
)
"""Functions that only arrange the values of their first argument."""
_BY_SHAPE = frozenset({"reshape_as", "view_as", "expand_as"})
"""Functions that take no more than the shape of their second argument."""


class _Output(NamedTuple):
    """What a layer gave, or an arrangement of it."""

    layer: str
    tensor: Tensor
    axis: int
    """Of its channels."""


class _Watch(TorchFunctionMode):
    """Records what reads the outputs of layers."""

    def __init__(self) -> None:
        super().__init__()
        self._outputs: dict[int, _Output] = {}
        """Tensors by `id`, which is unique as long as they are kept here."""
        self._calls: Counter[str] = Counter()
        self._pairs: dict[str, str] = {}
        self._read: Counter[str] = Counter()
        """How often each output was read outside its batch norm."""
        self._inside: list[str] = []

    def hooks(self, name: str, module: nn.Module) -> Iterator[Any]:
        """Hooks that record the calls of a module."""
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            axis = 1 if isinstance(module, nn.Conv2d) else -1
            yield module.register_forward_hook(lambda _, inputs, output: self._made(name, output, axis))
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

    def _made(self, layer: str, output: Tensor, axis: int) -> None:
        self._calls[layer] += 1
        self._outputs[id(output)] = _Output(layer, output, axis % output.ndim)

    def _enter(self, norm: str, inputs: Sequence[Any]) -> None:
        self._calls[norm] += 1
        found = self._outputs.get(id(inputs[0]))
        layer = found.layer if found is not None and found.axis == 1 else ""
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
        name = getattr(func, "__name__", "")
        if name in _ARRANGING and self._arranged(func, args, kwargs or {}, result):
            return result
        if result is None or any(True for _ in tensors_in(result)):  # otherwise only a shape or the like was read
            for value in tensors_in([args[:1] if name in _BY_SHAPE else args, kwargs or {}]):
                found = self._outputs.get(id(value))
                if found is not None and found.layer not in self._inside[-1:]:
                    self._read[found.layer] += 1
        return result

    def _arranged(
        self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], result: object
    ) -> bool:
        """Follow an output into an arrangement of it that keeps its channels along one axis."""
        found = self._outputs.get(id(args[0])) if args else None
        if found is None or not isinstance(result, Tensor) or id(result) in self._outputs:
            return False
        channels, shape = found.tensor.shape[found.axis], [1] * found.tensor.ndim
        shape[found.axis] = channels
        numbers = torch.arange(channels, device="cpu")
        arranged = func(numbers.view(shape).expand(found.tensor.shape), *args[1:], **kwargs)
        for axis in range(arranged.ndim):
            if arranged.shape[axis] == channels and bool((arranged.movedim(axis, -1) == numbers).all()):
                self._outputs[id(result)] = _Output(found.layer, result, axis)
                return True
        return False
