"""The supernet: a frozen backbone with every choice of every gene, sharing weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Self

import torch
from torch import Tensor, nn

from glorasearch.adapters import (
    AdaptedLayer,
    AdaptedProduct,
    LayerChoices,
    Storage,
    WarmUps,
    adaptable_layers,
    head_names,
    inject,
    plain_layer,
    unadaptable_layers,
)
from glorasearch.adapters.reached import WEIGHT, check_start, check_uses, uses
from glorasearch.errors import BackboneError, WeightStoreError
from glorasearch.space import BoundSpace, SearchSpace, Subnet


class Supernet(nn.Module):
    """A timm backbone whose linear layers, convolutions and norms carry the support tensors of a search space.

    The given backbone is not changed: the supernet has its own module tree, but shares the memory of the frozen
    weights. Trainable are the support tensors and the supernet's own copy of the head. Buffers (batch-norm statistics)
    are copied and frozen, since batch norm stays in evaluation mode.

    Outside `activate` the supernet is the backbone with the current head; at initialisation so is every subnet, bit for
    bit.
    """

    def __init__(self, backbone: nn.Module, space: SearchSpace | BoundSpace, *, seed: int = 0) -> None:
        """Inject adapters for every layer of the space; `seed` draws their initial values.

        Raises:
            SearchSpaceError: if the space does not fit the backbone's layers.
            BackboneError: if the backbone has no head, or a bound space was bound to other layers.
        """
        super().__init__()
        if not isinstance(space, BoundSpace):
            space = space.bind(adaptable_layers(backbone), unadaptable_layers(backbone))
        self.space = space
        self.heads = head_names(backbone)
        self.model = _share(backbone, self.heads)
        self._adapted, shared, drawn = inject(self.model, self.space, torch.Generator().manual_seed(seed))
        self._drawn = tuple(drawn)
        self._heads_start = {name: value.detach().cpu().clone() for name, value in self.head_parameters().items()}
        self.shared = nn.ModuleDict({f"of {group}": nn.ModuleDict(owned) for group, owned in shared.items()})
        """The storage that groups of layers share, by group and support tensor."""
        self.warm_ups = WarmUps(self._adapted)
        self.pool: object = None
        """The flat buffer of its parameters, once the fused paths have made one (`fused.pool_of`)."""
        self.read: tuple[str, ...] = ()
        """The adapted layers whose weight the backbone reads in place of calling them; known after `check_reached`."""
        self._reached = False
        self.train(backbone.training)

    def start_state(self, seed: int) -> dict[str, Tensor]:
        """What `Supernet(backbone, space, seed=seed).adapter_state()` is, on the CPU; this supernet stays as it is."""
        generator = torch.Generator().manual_seed(seed)
        drawn = {storage: storage.starts(generator) for storage in self._drawn}
        state = {f"{at}.{name}": value for at, own in self._storages().items() for name, value in drawn[own].items()}
        for name, parameter in self.head_parameters().items():
            state[name] = self._heads_start[name].to(parameter.dtype, copy=True)
        return state | {name: torch.zeros_like(count) for name, count in self.warm_ups.state().items()}

    @property
    def adapted(self) -> Mapping[str, AdaptedLayer]:
        """The adapted layers by module name."""
        return self._adapted

    def forward(self, x: Tensor) -> Tensor:
        """Images `(N, C, H, W)` to logits `(N, classes)` of the active subnet."""
        logits: Tensor = self.model(x)
        return logits

    def train(self, mode: bool = True) -> Self:
        """Training mode (drop path, dropout); batch norm stays in evaluation mode, since the backbone is frozen."""
        super().train(mode)
        freeze_statistics(self.model)
        return self

    @contextmanager
    def activate(self, subnet: Subnet) -> Iterator[Self]:
        """Run as the given subnet inside the `with`, and as before after it.

        Raises:
            SearchSpaceError: if the subnet is not of this space.
        """
        self.space.check(subnet)
        with self._choosing(subnet.layer):
            yield self

    @contextmanager
    def _choosing(self, choices: Callable[[str], LayerChoices | None]) -> Iterator[None]:
        previous = {name: layer.choices for name, layer in self._adapted.items()}
        try:
            for name, layer in self._adapted.items():
                layer.choices = choices(name)
            yield
        finally:
            for name, layer in self._adapted.items():
                layer.choices = previous[name]

    def check_reached(self, images: Tensor) -> None:
        """Raise `BackboneError` if a forward pass, of the first of some images, has no use for an adapted layer.

        Some models read `layer.weight` and never call the layer; a layer that is neither called nor read would get no
        gradient. Nor may the pass be another than the backbone's while no subnet is active. Once the check has passed
        it is not repeated.
        """
        if self._reached:
            return
        training = self.training
        try:
            with torch.no_grad(), self.eval().activate(self.space.smallest()):
                found = uses(self._adapted, lambda: self(images[:1]))
            check_uses(self._adapted, found)
            with torch.no_grad(), self._choosing(lambda _: None):
                check_start(self._adapted, self.model, lambda: self(images[:1]))
        finally:
            self.train(training)
        self.read = tuple(name for name, own in found.items() if WEIGHT in own)
        self._reached = True

    def set_dropout(self, probability: float) -> None:
        """Drop hidden units of the adapters' products in training mode, each with this probability."""
        for layer in self._adapted.values():
            if isinstance(layer, AdaptedProduct):
                layer.dropout.p = probability

    def merged_layer(self, name: str, subnet: Subnet) -> tuple[Tensor, Tensor | None]:
        """Weight, seen as `(out, in)`, and bias `(out,)` (or None) of one layer of a subnet, merged."""
        layer, choices = self._adapted[name], subnet.layer(name)
        return layer.merged_weight(choices), layer.merged_bias(choices)

    @torch.no_grad()
    def merged(self, subnet: Subnet, biased: Collection[str] = ()) -> nn.Module:
        """The subnet as a plain model of the backbone's class in evaluation mode: an independent copy, no adapters.

        A layer without a bias gains one only if a choice adds to it, or if it is among `biased` (then possibly zeros).

        Raises:
            SearchSpaceError: if the subnet is not of this space.
        """
        self.space.check(subnet)
        replacements: dict[int, nn.Module] = {}
        for name, layer in self._adapted.items():
            weight, bias = self.merged_layer(name, subnet)
            plain = plain_layer(layer.base, bias=bias is not None or name in biased)
            plain.weight.copy_(weight.view_as(plain.weight))
            if plain.bias is not None:
                plain.bias.copy_(plain.bias.new_zeros(()) if bias is None else bias)
            replacements[id(layer)] = plain
        memo = dict(replacements)
        model = copy.deepcopy(self.model, memo)
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        return model.eval()

    def gains_bias(self) -> list[str]:
        """Layers without a bias that gain one in some subnet."""
        return sorted(
            name
            for name, layer in self._adapted.items()
            if layer.base.bias is None
            and any(layer.support_of(tensor).adds_bias(layer.weight_view) for tensor in layer.support)
        )

    def frozen_state(self) -> dict[str, Tensor]:
        """The backbone's parameters and buffers, but for the head's parameters, by their names in the backbone."""
        state = {name: value.detach() for name, value in self.model.state_dict().items()}
        adapted = {id(layer) for layer in self._adapted.values()}
        places = [name for name, module in self.model.named_modules(remove_duplicate=False) if id(module) in adapted]
        for name in places:
            for key in [key for key in state if key.startswith(f"{name}.")]:
                value, own = state.pop(key), key.removeprefix(f"{name}.")
                if own.startswith("base."):
                    state[f"{name}.{own.removeprefix('base.')}"] = value
        trained = self.head_parameters()
        return {name: value for name, value in state.items() if name not in trained}

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """The trainable parts of support tensors, named as in `adapter_state`; those that groups share come last."""
        return {name: value for name, value in self._parts().items() if value.requires_grad}

    def rates(self) -> dict[str, str]:
        """The learning-rate group of every trainable part: `factor`, `vector`, or `spectrum <size / scale>`."""
        return {
            f"{prefix}.{name}": storage.rates[name]
            for prefix, storage in self._storages().items()
            for name, value in storage.named_parameters()
            if value.requires_grad
        }

    def _storages(self) -> dict[str, Storage]:
        """The storages of parts, by the prefix of their parts' names."""
        found: dict[str, Storage] = {
            f"{name}.{tensor}": layer.support_of(tensor)
            for name, layer in self._adapted.items()
            for tensor in layer.support
        }
        for group, owned in self.shared.named_children():
            name = group.removeprefix("of ")
            found |= {f"shared.{name}.{tensor}": storage for tensor, storage in owned.named_children()}  # type: ignore[misc]
        return found

    def shared_parameters(self) -> dict[tuple[str, str], dict[str, nn.Parameter]]:
        """What groups of layers share: (group, support tensor) → part → parameter."""
        return {
            (group.removeprefix("of "), tensor): dict(storage.named_parameters())
            for group, owned in self.shared.named_children()
            for tensor, storage in owned.named_children()
        }

    def _parts(self) -> dict[str, nn.Parameter]:
        """The parts of all choices, trained or not."""
        return {
            f"{prefix}.{name}": value
            for prefix, storage in self._storages().items()
            for name, value in storage.named_parameters()
        }

    def head_parameters(self) -> dict[str, nn.Parameter]:
        """The trainable parameters of the head, named as in the backbone."""
        return {
            f"{head}.{key}": parameter
            for head in self.heads
            for key, parameter in self.model.get_submodule(head).named_parameters()
        }

    def adapter_state(self) -> dict[str, Tensor]:
        """Everything that training changes: the parts of all choices, trained or not, the head, and numbers of draws.

        Name → detached tensor (shared memory, not a copy).
        """
        state = {name: parameter.detach() for name, parameter in (self._parts() | self.head_parameters()).items()}
        return state | self.warm_ups.state()

    @torch.no_grad()
    def load_adapter_state(self, state: Mapping[str, Tensor], *, share: bool = False) -> None:
        """Load a copy of an adapter state; with `share`, the tensors themselves where dtype and device fit.

        Raises:
            WeightStoreError: if names or shapes differ from this supernet's; it is unchanged then.
        """
        self.check_state(state)
        for name, parameter in (self._parts() | self.head_parameters()).items():
            given = state[name]
            if share and (given.dtype, given.device) == (parameter.dtype, parameter.device):
                parameter.data = given
            else:
                parameter.copy_(given)
        self.warm_ups.load(state)

    def check_state(self, state: Mapping[str, Tensor]) -> None:
        """Raise `WeightStoreError` if names or shapes of an adapter state differ from this supernet's."""
        own = self.adapter_state()
        problems = [f"{name} is missing" for name in own.keys() - state.keys()]
        problems += [f"{name} is not known" for name in state.keys() - own.keys()]
        problems += [
            f"{name} has shape {tuple(state[name].shape)}, expected {tuple(own[name].shape)}"
            for name in own.keys() & state.keys()
            if state[name].shape != own[name].shape
        ]
        if problems:
            first = "; ".join(sorted(problems)[:3])
            raise WeightStoreError(f"these weights belong to another supernet ({len(problems)} differences): {first}")


def freeze_statistics(model: nn.Module) -> None:
    """Put batch norm into evaluation mode: the backbone is frozen, with its statistics."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def _share(backbone: nn.Module, heads: tuple[str, ...]) -> nn.Module:
    """A copy of the module tree that shares the memory of the frozen parameters and has its own head."""
    own = {id(parameter) for head in heads for parameter in backbone.get_submodule(head).parameters()}
    frozen = [parameter for parameter in backbone.parameters() if id(parameter) not in own]
    if not frozen:
        raise BackboneError(f"{type(backbone).__name__} has no parameters outside its head")
    memo: dict[int, object] = {
        id(parameter): nn.Parameter(parameter.detach(), requires_grad=False) for parameter in frozen
    }
    model = copy.deepcopy(backbone, memo)
    for head in heads:
        model.get_submodule(head).requires_grad_(True)
    return model
