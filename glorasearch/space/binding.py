"""A search space on the layers of a backbone: what it takes, what each layer is offered, and what it leaves and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from glorasearch.choices import CHOICES, SUPPORT_TENSORS, LayerShape, Site, check_fits, options_of, parse_choice
from glorasearch.errors import SearchSpaceError
from glorasearch.space.bound import BoundSpace, Gene
from glorasearch.space.content import SpaceContent
from glorasearch.space.recipe import Recipe
from glorasearch.space.roles import PARTS, with_roles
from glorasearch.space.sections import any_shareable
from glorasearch.space.selectors import Backbone, compact, is_of_types, select

FEW: Final = 0.1
"""A space that takes less than this share of the body says so."""


def bind_space(space: SpaceContent, given: Sequence[LayerShape], refused: Mapping[str, str]) -> BoundSpace:
    """`SearchSpace.bind`, with errors that do not name the space."""
    layers = with_roles(given)
    types = space.layers.kinds()
    backbone = Backbone(
        [layer for layer in layers if is_of_types(layer, types)],
        [layer for layer in layers if not is_of_types(layer, types)],
        refused,
    )
    said: list[str] = []
    included = select(space.layers.include, "layers.include", backbone, said=said)
    excluded = select(space.layers.exclude, "layers.exclude", backbone, needed=False)
    chosen = [layer for layer in backbone.layers if layer.name in included - excluded]
    asked = _genes(space, chosen)
    homeless = [layer.name for layer in chosen if not (layer.bias or layer.holds_bias)]
    genes, dropped = _fitting(space, chosen, asked)
    if not genes:
        why = f"; {compact(homeless)} gain no bias, since timm has no place for it" if homeless else ""
        raise SearchSpaceError(
            f"the space offers nothing on this backbone: {len(chosen)} of {len(backbone.layers)} layers are "
            f"left by layers.include and layers.exclude, and choices gives no support tensor that they have{why}; "
            'give one, such as B = ["none", "lora:4"]'
        )
    before, after = {gene.layer for gene in asked}, {gene.layer for gene in genes}
    emptied = dict.fromkeys(before - after, "no choice fits it")
    emptied |= {name: "it gains no bias: timm has no place for one" for name in homeless if name not in before}
    kept = [layer for layer in chosen if layer.name not in emptied]
    genes, parted = _parted(genes, {layer.name: layer for layer in kept})
    bound = BoundSpace(
        space.name,
        kept,
        genes,
        entangle=space.entangle,
        budget=(space.budget.min, space.budget.max),
        max_bytes=space.budget.max_bytes,
        options=space.options,
        left=_left(layers, backbone, {layer.name for layer in kept}, excluded) | emptied | dict(refused),
        notices=(*said, *dropped, *_without_bias(space, chosen), *parted, *_few(kept, backbone)),
    )
    _check_choices(bound)
    bound.check_budget()
    if space.recipe != Recipe() and bound.size() > 1:
        raise SearchSpaceError(
            "recipe: it says how a fixed method is trained, but this space has more than one subnet; leave it out, "
            "and set [train] in the run file"
        )
    return bound


def _genes(space: SpaceContent, layers: Sequence[LayerShape]) -> list[Gene]:
    """The genes of the adapted layers; of the groups that a layer is in, later ones override earlier ones."""
    members = [
        select(group.layers, f"groups[{index}].layers", Backbone(layers), needed=False)
        for index, group in enumerate(space.groups)
    ]
    genes: list[Gene] = []
    for layer in layers:
        inside = [group for group, names in zip(space.groups, members, strict=True) if layer.name in names]
        for tensor in SUPPORT_TENSORS:
            choices, share = space.choices.of(tensor), ""
            for group in inside:
                choices = group.of(tensor) or choices
                share = group.share or share
            if choices is None or (tensor == "D" and not layer.bias):
                continue
            if not (layer.bias or layer.holds_bias):
                without = tuple(text for text in choices if not _gives_bias(text, tensor))
                if without != choices and set(without) <= {"none"}:
                    continue
                choices = without
            genes.append(Gene(layer.name, tensor, choices, share if any_shareable(choices) else ""))
    sharing = {(gene.layer, gene.share) for gene in genes}
    for index, (group, names) in enumerate(zip(space.groups, members, strict=True)):
        if group.share is not None and names and not any((name, group.share) in sharing for name in names):
            shareable = ", ".join(name for name, choice in CHOICES.items() if choice.shareable)
            raise SearchSpaceError(
                f"groups[{index}].share: nothing is shared as {group.share!r}: none of the {len(names)} layers of "
                f"the group offers a shareable choice, or a later group overrides it; such are: {shareable}"
            )
    return genes


def _fitting(space: SpaceContent, layers: Sequence[LayerShape], genes: Sequence[Gene]) -> tuple[list[Gene], list[str]]:
    """The genes without the choices that do not fit their layers, such as a rank above the layer's smaller side.

    Raises:
        SearchSpaceError: if a choice fits no layer that it is offered to, or is not for norms.
    """
    shapes = {layer.name: layer for layer in layers}
    fitting: dict[tuple[str, str], list[str]] = {}
    too_large: dict[tuple[str, str], dict[str, SearchSpaceError]] = {}
    kept: list[Gene] = []
    for gene in genes:
        choices: tuple[str, ...] = ()
        for choice in map(parse_choice, gene.choices):
            options = options_of(choice.name, space.options.get(choice.name, {}))
            try:
                check_fits(choice, Site(gene.tensor, shapes[gene.layer], options))
            except SearchSpaceError as error:
                if shapes[gene.layer].kind == "norm":
                    raise
                too_large.setdefault((gene.tensor, str(choice)), {})[gene.layer] = error
            else:
                choices += (str(choice),)
                fitting.setdefault((gene.tensor, str(choice)), []).append(gene.layer)
        if choices:
            kept.append(Gene(gene.layer, gene.tensor, choices, gene.share if any_shareable(choices) else ""))
    notices = []
    for (tensor, text), errors in too_large.items():
        if (tensor, text) not in fitting:
            raise errors[max(errors, key=lambda name: min(shapes[name].in_features, shapes[name].out_features))]
        offered = len(errors) + len(fitting[tensor, text])
        notices.append(
            f"choices.{tensor}: {text!r} does not fit {len(errors)} of {offered} layers, which do without it: "
            f"{compact(list(errors), list(shapes))}"
        )
    return kept, notices


def _parted(genes: Sequence[Gene], shapes: Mapping[str, LayerShape]) -> tuple[list[Gene], list[str]]:
    """The genes with groups that share divided by the layers' numbers of inputs: only equal ones can share."""
    inputs: dict[str, set[int]] = {}
    for gene in genes:
        if gene.share:
            inputs.setdefault(gene.share, set()).add(shapes[gene.layer].in_features)
    parted = {share: sizes for share, sizes in inputs.items() if len(sizes) > 1}
    found = [
        Gene(gene.layer, gene.tensor, gene.choices, f"{gene.share}-{shapes[gene.layer].in_features}")
        if gene.share in parted
        else gene
        for gene in genes
    ]
    notices = [
        f"group {share!r}: its layers have {', '.join(map(str, sorted(sizes)))} inputs; those with equally many share"
        for share, sizes in parted.items()
    ]
    return found, notices


def _left(layers: Sequence[LayerShape], backbone: Backbone, kept: set[str], excluded: set[str]) -> dict[str, str]:
    """The layers that are not adapted, and why."""
    reasons: dict[str, str] = {}
    wanted = {layer.name for layer in backbone.layers}
    for layer in layers:
        if layer.name in kept:
            continue
        part = next((part for part in PARTS[1:] if part in layer.roles), "")
        if layer.name not in wanted:
            reasons[layer.name] = f"its type, {layer.kind}, is not in layers.types"
        elif layer.name in excluded:
            reasons[layer.name] = "layers.exclude"
        else:
            reasons[layer.name] = f"{part}: not in layers.include" if part else "not in layers.include"
    return reasons


def _gives_bias(text: str, tensor: str) -> bool:
    return text != "none" and parse_choice(text).gives_bias(tensor)


def _without_bias(space: SpaceContent, layers: Sequence[LayerShape]) -> Iterable[str]:
    """A word on layers that are not offered what would give them a bias."""
    names = [layer.name for layer in layers if not (layer.bias or layer.holds_bias)]
    lists = [(tensor, part.of(tensor) or ()) for part in (space.choices, *space.groups) for tensor in SUPPORT_TENSORS]
    tensors = sorted({tensor for tensor, own in lists if any(_gives_bias(text, tensor) for text in own)})
    if names and tensors:
        yield (
            f"choices.{', '.join(tensors)}: {len(names)} layers have no bias, and timm no place for one, so they do "
            f"without what adds it: {compact(names, [layer.name for layer in layers])}"
        )


def _few(kept: Sequence[LayerShape], backbone: Backbone) -> Iterable[str]:
    """A word if a space takes next to nothing of a backbone: its patterns may be another family's."""
    body = [layer for layer in backbone.layers if "body" in layer.roles]
    if len(kept) < FEW * len(body):
        yield (
            f"the space takes {len(kept)} of {len(body)} layers of the body; if that is not meant, its patterns are "
            'for another family: include = ["@body"] takes all of them'
        )


def _check_choices(space: BoundSpace) -> None:
    """Raise `SearchSpaceError` if a layer does not fit a choice, or a group's layers differ in shape."""
    shared: dict[str, tuple[Gene, object]] = {}
    for gene in space.genes:
        for choice in map(parse_choice, gene.choices):
            site = space.site(gene, choice.name)
            check_fits(choice, site)
            if not (gene.share and choice.shareable):
                continue
            parts = choice.parts(site, **dict.fromkeys(choice.arguments, 1))
            shapes = {name: part.shape for name, part in parts.items()}
            first, expected = shared.setdefault(f"{gene.share}.{gene.tensor}.{choice.name}", (gene, shapes))
            if shapes != expected:
                before = space.site(first, choice.name).layer.in_features
                raise SearchSpaceError(
                    f"group {gene.share!r}: layers {first.layer} and {gene.layer} cannot share {choice.name}: "
                    f"their inputs differ ({before} and {site.layer.in_features})"
                )
