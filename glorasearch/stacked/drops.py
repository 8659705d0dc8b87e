"""What the members of a stack drop in training: each what it would drop alone, in the same step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from glorasearch.adapters import replace_modules
from glorasearch.errors import BackboneError
from glorasearch.stacked.member import drop_paths
from glorasearch.supernet import freeze_statistics
from glorasearch.training.sampling import MODEL_TAG, step_generator
from glorasearch.training.step import drop_probabilities


class StackedDrop(nn.Module):
    """Multiplies by masks that were drawn before the forward pass, in the order of its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.masks: list[Tensor] = []
        self._calls = 0

    def start(self) -> None:
        """Begin a forward pass."""
        self._calls = 0

    def forward(self, x: Tensor) -> Tensor:
        """`x (M · N, ...)` by the mask of this call."""
        if not self.training or not self.masks:
            return x
        mask = self.masks[self._calls]
        self._calls = (self._calls + 1) % len(self.masks)  # a block that is computed again makes all its calls again
        return x * mask.to(x.dtype)


class Drop(NamedTuple):
    """One call of a module that drops something, in a forward pass of one image."""

    place: int
    """Which `StackedDrop` is called."""
    shape: tuple[int, ...]
    """Of the mask."""
    rates: tuple[float, ...]
    """For each member the probability to be dropped."""
    scaled: bool
    """Whether what is kept is scaled up."""


class Drops:
    """Replaces the modules of a model that drop something, and draws their masks.

    A member's masks are drawn by a generator of its own from (its seed, the step), on the CPU, in the order in which
    its modules are called: on a CPU they are those that `SupernetTrainer` draws.
    """

    def __init__(self, model: nn.Module, images: Tensor, seeds: Sequence[int], shares: Sequence[float]) -> None:
        """Looks at a forward pass of `images (1, C, H, W)` in training mode.

        Args:
            model: it is changed.
            images: one image.
            seeds: of the members.
            shares: for each member the factor on the probabilities of the model's drop paths.

        Raises:
            BackboneError: if something is dropped in a way that cannot be drawn beforehand.
        """
        self._seeds = tuple(seeds)
        rates, paths = drop_probabilities(model), drop_paths(model)
        modules: dict[str, StackedDrop] = {name: StackedDrop() for name in rates}
        self._modules = list(modules.values())
        self._calls: list[Drop] = []
        hooks: list[torch.utils.hooks.RemovableHandle] = []
        for place, (name, rate) in enumerate(rates.items()):
            module = model.get_submodule(name)
            if name not in paths and type(module) is not nn.Dropout:
                raise BackboneError(f"its {name} ({type(module).__name__}) drops in a way of its own")
            own = tuple(rate * share if name in paths else rate for share in shares)
            scaled = bool(getattr(module, "scale_by_keep", True))

            def record(
                module: nn.Module, given: tuple[Tensor], *, place: int = place, path: bool = name in paths,
                own: tuple[float, ...] = own, scaled: bool = scaled,
            ) -> None:  # fmt: skip
                shape = given[0].shape
                mask = (shape[0], *[1] * (len(shape) - 1)) if path else tuple(shape)
                self._calls.append(Drop(place, mask, own, scaled))

            hooks.append(module.register_forward_pre_hook(record))
        if not rates:
            return
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            freeze_statistics(model.train())
            model(images)
            model.eval()
        for hook in hooks:
            hook.remove()
        called = {call.place for call in self._calls}
        missed = [name for place, name in enumerate(rates) if place not in called and name not in paths]
        if missed:  # such as the dropout of fused attention; a block without a residual has a drop path for nothing
            raise BackboneError(f"its {missed[0]} is never called: what it drops is drawn by another function")
        replace_modules(model, {id(model.get_submodule(name)): module for name, module in modules.items()})

    def draw(self, step: int, images: int, dtype: torch.dtype) -> list[Tensor]:
        """The masks of a step for `images` images a member, one a call: `(M · images, ...)`, on the CPU."""
        if not self._calls:
            return []
        rows = [self._draw(member, step, images, dtype) for member in range(len(self._seeds))]
        return [torch.cat(masks) for masks in zip(*rows, strict=True)]

    def set(self, masks: Sequence[Tensor]) -> None:
        """Use these masks in the next forward pass."""
        for module in self._modules:
            module.start()
            module.masks = [mask for call, mask in zip(self._calls, masks, strict=True) if self._is(call, module)]

    def _is(self, call: Drop, module: StackedDrop) -> bool:
        return self._modules[call.place] is module

    def _draw(self, member: int, step: int, images: int, dtype: torch.dtype) -> list[Tensor]:
        generator = torch.Generator()
        generator.manual_seed(int(step_generator(self._seeds[member], step, MODEL_TAG).integers(2**62)))
        masks: list[Tensor] = []
        for call in self._calls:
            mask = torch.ones(images * call.shape[0], *call.shape[1:], dtype=dtype)
            keep = 1 - call.rates[member]
            if keep < 1:
                mask.bernoulli_(keep, generator=generator)
                if call.scaled and keep > 0:
                    mask.div_(keep)
            masks.append(mask)
        return masks
