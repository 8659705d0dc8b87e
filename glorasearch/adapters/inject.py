"""Find the layers of a backbone that can be adapted, and replace them by adapted ones, by exact module name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import torch
from torch import nn

from glorasearch.adapters.base import Base, is_adaptable, kind_of, rows_of
from glorasearch.adapters.layer import AdaptedLayer
from glorasearch.adapters.norm import AdaptedNorm
from glorasearch.adapters.products import AdaptedConv2d, AdaptedLinear
from glorasearch.adapters.rebuild import without_place
from glorasearch.adapters.roles import layers_with_roles
from glorasearch.adapters.support import OfferedChoice, Storage, offered_choices
from glorasearch.choices import Kind, Part
from glorasearch.errors import BackboneError, ExportError
from glorasearch.space import BoundSpace, LayerShape


def head_names(model: nn.Module) -> tuple[str, ...]:
    """Module names of a timm model's classifier head: of all its classifiers, where it has several.

    A distilled DeiT has two, and so has VOLO, whose `get_classifier` names one of them.

    Raises:
        BackboneError: if the model has no `get_classifier`, or no head.
    """
    get_classifier = getattr(model, "get_classifier", None)
    cfg = getattr(model, "pretrained_cfg", None)
    if get_classifier is None and not isinstance(cfg, Mapping):
        raise BackboneError(f"{type(model).__name__} has no get_classifier(): a timm model is needed")
    found = () if get_classifier is None else get_classifier()
    heads = found if isinstance(found, (tuple, list)) else (found,)
    names = [name for name, module in model.named_modules() if any(module is head for head in heads)]
    given = cfg.get("classifier") if isinstance(cfg, Mapping) else None
    listed = [given] if isinstance(given, str) else list(given or ())
    known = dict(model.named_modules())
    names += [
        name
        for name in listed
        if name in known and not any(_within(name, (own,)) or _within(own, (name,)) for own in names)
    ]
    names = [name for name in names if next(known[name].parameters(), None) is not None]
    if not names:
        raise BackboneError(
            f"{type(model).__name__} has no classifier head; create it with num_classes, such as "
            "timm.create_model(name, num_classes=10); models that timm lists as encoders, without a classifier, "
            "cannot be adapted to classes: take the variant with one"
        )
    return tuple(names)


def adaptable_layers(model: nn.Module) -> list[LayerShape]:
    """Every linear layer, convolution and norm of a backbone outside its head, in the order of `named_modules`.

    `base.kind_of` says which classes these are; left out are the layers of `unadaptable_layers`. A layer that the
    model registers under several names has the first of them.
    """
    refused = unadaptable_layers(model)
    found: list[LayerShape] = []
    for name, module in _outside_head(model):
        if name in refused or not is_adaptable(module):
            continue
        outs, ins = rows_of(module.weight).shape
        kind = kind_of(module)
        assert kind is not None
        found.append(LayerShape(name, ins, outs, module.bias is not None, kind))
    homeless = _without_place(model, [layer.name for layer in found if not layer.bias])
    return layers_with_roles(model, [replace(layer, holds_bias=layer.name not in homeless) for layer in found])


def _without_place(model: nn.Module, layers: Sequence[str]) -> frozenset[str]:
    """Those of these layers, which have no bias, for whose bias the model that timm builds has no place.

    None of a model that timm did not build: there is nothing to rebuild.
    """
    cfg, arguments = getattr(model, "pretrained_cfg", None), getattr(model, "_model_args", None)
    if not layers or not isinstance(cfg, Mapping) or not cfg.get("architecture") or not isinstance(arguments, Mapping):
        return frozenset()
    try:
        return without_place(str(cfg["architecture"]), arguments, layers)
    except ExportError:  # said when it is to be exported
        return frozenset()


def unadaptable_layers(model: nn.Module) -> dict[str, str]:
    """The linear layers, convolutions and norms outside the head that cannot be adapted, and why."""
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(name)
    found: dict[str, str] = {}
    inside = ""
    for name, module in _outside_head(model):
        if not isinstance(module, Base):
            continue
        shared = [one for p in module.parameters(recurse=False) for one in owners[id(p)] if one != name]
        if inside and name.startswith(inside):
            found[name] = f"it is a part of {inside.removesuffix('.')}, which is adapted"
        elif kind_of(module) is None:
            found[name] = f"the weight of {type(module).__name__} is {_of_no_layer(module)}"
        elif shared:
            found[name] = f"its weight is also that of {shared[0]}"
        else:
            inside = f"{name}."
    return found


def _of_no_layer(module: Base) -> str:
    """What is wrong with the weight of a layer that `kind_of` does not know."""
    if "weight" in module._parameters and module._parameters["weight"] is None:
        return "None: there is nothing to adapt"
    return "not of the shape of such a layer, or computed"


def _outside_head(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    heads = head_names(model)
    yield from ((name, module) for name, module in model.named_modules() if not _within(name, heads))


def _within(name: str, parents: Iterable[str]) -> bool:
    return any(name == parent or name.startswith(f"{parent}.") for parent in parents)


def replace_modules(model: nn.Module, replacements: Mapping[int, nn.Module]) -> None:
    """Put modules in the places of others, given by `id`, wherever the model registers these."""
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if id(child) in replacements and replacements[id(child)] is not parent:
                setattr(parent, name, replacements[id(child)])


_CLASSES: Final[dict[Kind, type[AdaptedLayer]]] = {
    "linear": AdaptedLinear,
    "conv2d": AdaptedConv2d,
    "norm": AdaptedNorm,
}


def inject(
    model: nn.Module, space: BoundSpace, generator: torch.Generator
) -> tuple[dict[str, AdaptedLayer], dict[str, dict[str, Storage]], list[Storage]]:
    """Replace the layers of the space by adapted ones, in place.

    Returns:
        The adapted layers by name; the storage that groups of layers share, by group and support tensor; and all
        storages in the order in which they were drawn.

    Raises:
        BackboneError: if the space was bound to layers that the model does not have.
    """
    present = {layer.name: layer for layer in adaptable_layers(model)}
    offered: dict[str, dict[str, dict[str, OfferedChoice]]] = {}
    for gene in space.genes:
        offered.setdefault(gene.layer, {})[gene.tensor] = offered_choices(space, gene)
    groups = {(gene.layer, gene.tensor): gene.share for gene in space.genes if gene.share}
    shared, drawn = _shared(model, offered, groups, generator)
    adapted: dict[str, AdaptedLayer] = {}
    for layer in space.layers:
        if present.get(layer.name) != layer:
            raise BackboneError(
                f"the search space is bound to {layer}, the backbone has {present.get(layer.name)}: bind it again"
            )
        base = model.get_submodule(layer.name)
        own = {t: shared[groups[layer.name, t]][t] for t in offered.get(layer.name, {}) if (layer.name, t) in groups}
        assert is_adaptable(base)
        adapted[layer.name] = _CLASSES[layer.kind](
            base,
            offered.get(layer.name, {}),
            entangle=space.entangle,
            generator=generator,
            shared=own,
        )
        drawn += [adapted[layer.name].support_of(tensor) for tensor in adapted[layer.name].support]
    replace_modules(model, {id(layer.base): layer for layer in adapted.values()})
    return adapted, shared, drawn


def _shared(
    model: nn.Module,
    offered: Mapping[str, Mapping[str, Mapping[str, OfferedChoice]]],
    groups: Mapping[tuple[str, str], str],
    generator: torch.Generator,
) -> tuple[dict[str, dict[str, Storage]], list[Storage]]:
    """For every group and support tensor the parts that its layers share, at the largest arguments of any layer.

    All of them again in the order in which they were drawn.
    """
    parts: dict[tuple[str, str], dict[str, Part]] = {}
    likes: dict[str, torch.Tensor] = {}
    for (layer, tensor), group in groups.items():
        likes.setdefault(group, next(model.get_submodule(layer).parameters()))
        for choice in offered[layer][tensor].values():
            if choice.shared:
                known = parts.setdefault((group, tensor), {})
                for name, part in choice.parts.items():
                    known[name] = max(known.get(name, part), part, key=lambda one: one.shape)
    drawn = {place: Storage(own, generator, likes[place[0]]) for place, own in parts.items()}
    found: dict[str, dict[str, Storage]] = {}
    for (group, tensor), storage in drawn.items():
        found.setdefault(group, {})[tensor] = storage
    return found, list(drawn.values())
