"""The supernet: a frozen backbone with every choice of every gene, sharing weights."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Self

import torch
from torch import Tensor, nn

from glorasearch.adapters import AdaptedLayer, Storage, SupportTensor, adaptable_layers, head_names, inject, plain_layer
from glorasearch.errors import BackboneError, WeightStoreError
from glorasearch.space import BoundSpace, SearchSpace, Subnet


class Supernet(nn.Module):
    """A timm backbone whose linear layers and convolutions carry the support tensors of a search space.

    The backbone that is given stays as it is: the supernet has its own module tree, but its frozen weights are the
    backbone's own memory, not copies. Trainable are the support tensors and the supernet's own copy of the head.
    Buffers (batch-norm statistics) are copied and frozen, since batch norm stays in evaluation mode.

    Outside `activate` the supernet is the backbone with the current head. At initialisation every subnet is so too, bit
    for bit.
    """

    def __init__(self, backbone: nn.Module, space: SearchSpace | BoundSpace, *, seed: int = 0) -> None:
        """Inject adapters for every layer that the space names; `seed` decides the initial `up` factors.

        Raises:
            SearchSpaceError: if the space does not fit the backbone's layers.
            BackboneError: if the backbone has no head, or a bound space belongs to other layers.
        """
        super().__init__()
        self.space = space if isinstance(space, BoundSpace) else space.bind(adaptable_layers(backbone))
        self.heads = head_names(backbone)
        self.model = _share(backbone, self.heads)
        self._adapted, shared = inject(self.model, self.space, torch.Generator().manual_seed(seed))
        self.shared = nn.ModuleDict({f"of {group}": nn.ModuleDict(owned) for group, owned in shared.items()})
        """What groups of layers own together, by group and support tensor."""
        self._watching = {kind for storage, kind in self._counts().values()}
        self._reached = False
        self.train(backbone.training)

    @property
    def adapted(self) -> Mapping[str, AdaptedLayer]:
        """The adapted layers by module name."""
        return self._adapted

    def forward(self, x: Tensor) -> Tensor:
        """Images `(N, C, H, W)` to logits `(N, classes)` of the active subnet."""
        logits: Tensor = self.model(x)
        return logits

    def train(self, mode: bool = True) -> Self:
        """Training mode (drop path, dropout); batch norm stays in evaluation mode, for the backbone is frozen."""
        super().train(mode)
        freeze_statistics(self.model)
        return self

    @contextmanager
    def activate(self, subnet: Subnet) -> Iterator[Self]:
        """Run as the given subnet inside the `with`; before and after it the supernet is as it was.

        Raises:
            SearchSpaceError: if the subnet is not of this space.
        """
        self.space.check(subnet)
        previous = {name: layer.choices for name, layer in self._adapted.items()}
        try:
            for name, layer in self._adapted.items():
                layer.choices = subnet.layer(name)
            yield self
        finally:
            for name, layer in self._adapted.items():
                layer.choices = previous[name]

    def check_reached(self, images: Tensor) -> None:
        """Raise `BackboneError` if a forward pass, of the first of some images, does not call every adapted layer.

        Some models read `layer.weight` and never call the layer; its adapters would train on nothing. What has been
        found in order once is not looked at again.
        """
        if self._reached:
            return
        missed = set(self._adapted)
        training = self.training
        hooks = [
            layer.register_forward_hook(lambda *_, name=name: missed.discard(name))
            for name, layer in self._adapted.items()
        ]
        try:
            with torch.no_grad(), self.eval().activate(self.space.smallest()):
                self(images[:1])
        except AttributeError as error:
            raise BackboneError(
                f"this backbone reads the weight of an adapted layer instead of calling it ({error}); "
                "exclude such layers by layers.exclude in the search space"
            ) from error
        finally:
            self.train(training)
            for hook in hooks:
                hook.remove()
        if missed:
            raise BackboneError(
                f"a forward pass never calls {', '.join(sorted(missed)[:5])} ({len(missed)} layers): their adapters "
                "would have no effect; exclude them by layers.exclude in the search space"
            )
        self._reached = True

    def merged_layer(self, name: str, subnet: Subnet) -> tuple[Tensor, Tensor | None]:
        """Weight, seen as `(out, in)`, and bias `(out,)` (or None) of one layer of a subnet, merged."""
        layer, choices = self._adapted[name], subnet.layer(name)
        return layer.merged_weight(choices), layer.merged_bias(choices)

    @torch.no_grad()
    def merged(self, subnet: Subnet, biased: Collection[str] = ()) -> nn.Module:
        """The subnet as a plain model of the backbone's class, in evaluation mode: an independent copy, no adapters.

        A layer without a bias gains one only if a choice asks for it, or if it is among `biased`: one of zeros then.

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
        """Layers without a bias in which some subnet has one."""
        return sorted(
            name
            for name, layer in self._adapted.items()
            if layer.base.bias is None
            and any(layer.support_of(tensor).adds_bias(layer.weight_view) for tensor in layer.support)
        )

    def frozen_state(self) -> dict[str, Tensor]:
        """The backbone's parameters and buffers outside the head, by their names in the backbone."""
        state = {name: value.detach() for name, value in self.model.state_dict().items()}
        for name in self._adapted:
            for key in [key for key in state if key.startswith(f"{name}.")]:
                value, own = state.pop(key), key.removeprefix(f"{name}.")
                if own.startswith("base."):
                    state[f"{name}.{own.removeprefix('base.')}"] = value
        return {
            name: value for name, value in state.items() if not any(name.startswith(f"{head}.") for head in self.heads)
        }

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """The trainable support tensors, named as in `adapter_state`; what groups share comes last."""
        return {name: value for name, value in self._kept().items() if value.requires_grad}

    def rates(self) -> dict[str, str]:
        """The group of learning rates of every trainable support tensor: `factor`, `vector` or `spectrum`."""
        return {
            f"{prefix}.{name}": storage.rates[name]
            for prefix, storage in self._storages().items()
            for name, value in storage.named_parameters()
            if value.requires_grad
        }

    def _storages(self) -> dict[str, Storage]:
        """Everything that holds parts of choices, by the name that its parts' names begin with."""
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
        """What groups of layers own together: (group, support tensor) → part → parameter."""
        return {
            (group.removeprefix("of "), tensor): dict(storage.named_parameters())
            for group, owned in self.shared.named_children()
            for tensor, storage in owned.named_children()
        }

    def _kept(self) -> dict[str, nn.Parameter]:
        """The parts of all choices, trained or not."""
        return {
            f"{prefix}.{name}": value
            for prefix, storage in self._storages().items()
            for name, value in storage.named_parameters()
        }

    @torch.no_grad()
    def stepped(self, subnets: Iterable[Subnet]) -> list[str]:
        """Tell the choices that count their steps of an optimiser step that drew these subnets.

        Returns:
            The parameters, named as in `adapter_state`, that start anew: their moments are to be forgotten.
        """
        if not self._watching:
            return []
        drawn = {
            (layer, tensor, kind)
            for subnet in subnets
            for (layer, tensor), choice in subnet.items()
            if (kind := choice.partition(":")[0]) in self._watching
        }
        anew: list[str] = []
        for name, tensor, kind in sorted(drawn):
            layer = self._adapted[name]
            parts = layer.support_of(tensor).stepped(kind, layer.weight_view)
            anew += [f"{name}.{tensor}.{part}" for part in parts]
        return anew

    def draws(self) -> dict[str, int]:
        """The optimiser steps that drew the choices that count them, by their names in `adapter_state`."""
        return {name: storage.draws[kind] for name, (storage, kind) in self._counts().items()}

    def warming(self, since: Mapping[str, int]) -> dict[str, int]:
        """Kinds of choices that were drawn since `draws` said so and are still warming up → in how many places."""
        found: dict[str, int] = {}
        for name, (storage, kind) in self._counts().items():
            method, draws = storage.methods[kind], storage.draws[kind]
            if draws > since[name] and method.choice.warming(draws, method.site):
                found[kind] = found.get(kind, 0) + 1
        return found

    def hold_restarts(self) -> None:
        """From now on no choice drops what it has learned: one whose warm-up has not ended stays as it is for good.

        For a training that goes on from a subnet that was scored as it is.
        """
        for storage, kind in self._counts().values():
            method = storage.methods[kind]
            if method.choice.restarts and method.choice.warming(storage.draws[kind], method.site):
                storage.draws[kind] = HELD

    def _counts(self) -> dict[str, tuple[SupportTensor, str]]:
        """Where the steps of choices that count them are kept, by their names in `adapter_state`."""
        return {
            f"{prefix}.{kind}_draws": (storage, kind)
            for prefix, storage in self._storages().items()
            if isinstance(storage, SupportTensor)
            for kind in storage.draws
        }

    def head_parameters(self) -> dict[str, nn.Parameter]:
        """The trainable parameters of the head, named as in the backbone."""
        return {
            f"{head}.{key}": parameter
            for head in self.heads
            for key, parameter in self.model.get_submodule(head).named_parameters()
        }

    def adapter_state(self) -> dict[str, Tensor]:
        """All that was trained: support tensors, what choices keep besides, and the head.

        Name → detached tensor (shared memory, not a copy).
        """
        state = {name: parameter.detach() for name, parameter in (self._kept() | self.head_parameters()).items()}
        counts = {name: torch.tensor([storage.draws[kind]]) for name, (storage, kind) in self._counts().items()}
        return state | counts

    @torch.no_grad()
    def load_adapter_state(self, state: Mapping[str, Tensor], *, share: bool = False) -> None:
        """Take over what `adapter_state` gave, copied; or the tensors themselves, where they fit and may be shared.

        Raises:
            WeightStoreError: if names or shapes differ from this supernet's; nothing is changed then.
        """
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
        for name, parameter in (self._kept() | self.head_parameters()).items():
            given = state[name]
            if share and (given.dtype, given.device) == (parameter.dtype, parameter.device):
                parameter.data = given
            else:
                parameter.copy_(given)
        for name, (storage, kind) in self._counts().items():
            storage.draws[kind] = int(state[name].item())


HELD: Final = -1
"""Stands for the steps of a choice that does not count them any more."""


def freeze_statistics(model: nn.Module) -> None:
    """Put batch norm into evaluation mode: the backbone is frozen, and so are its statistics."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def _share(backbone: nn.Module, heads: tuple[str, ...]) -> nn.Module:
    """A copy of the module tree whose frozen parameters are the backbone's memory and whose head is its own."""
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
