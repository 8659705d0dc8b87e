"""A search space as it is written: a strict TOML file, read into a frozen model."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, PrivateAttr, model_validator

from glorasearch.choices import (
    CHOICES,
    SUPPORT_TENSORS,
    Kind,
    LayerShape,
    options_of,
    parse_choice,
    plugin_sources,
    register_plugin,
)
from glorasearch.errors import SearchSpaceError
from glorasearch.identity import digest
from glorasearch.space.bound import BoundSpace, Gene
from glorasearch.space.recipe import Recipe
from glorasearch.space.sections import STRICT, Budget, ChoiceLists, Group, LayerSelection, any_shareable
from glorasearch.strict_toml import read_toml, validate

Entangle = Literal["untied", "reference"]
"""How the choices of a support tensor share storage: as little as possible, or as in GLoRA's published code."""
_Number = Annotated[float, Field(strict=True)]


def _register(plugins: tuple[str, ...]) -> tuple[str, ...]:
    for path in plugins:
        try:
            register_plugin(path)
        except SearchSpaceError as error:
            raise ValueError(str(error)) from error
    return plugins


def _check_options(options: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """The options that differ from their defaults: writing out a default does not make another space."""
    differing: dict[str, dict[str, float]] = {}
    for name, given in options.items():
        try:
            options_of(name, given)
        except SearchSpaceError as error:
            raise ValueError(str(error)) from error
        own = {key: value for key, value in given.items() if value != CHOICES[name].defaults[key]}
        if own:
            differing[name] = own
    return differing


class SearchSpace(BaseModel):
    """For every gene its choices, plus the budget: what one TOML file says, before any model is known.

    `bind` applies it to the layers of a backbone. The grammar is explained in `search_spaces/README.md`.
    """

    model_config = STRICT
    name: str = Field(min_length=1)
    description: str = ""
    entangle: Entangle = "untied"
    layers: LayerSelection = LayerSelection()
    plugins: Annotated[tuple[str, ...], AfterValidator(_register)] = ()
    """Choice classes of other packages, as `package.module:Class`; they are imported when the space is read."""
    options: Annotated[dict[str, dict[str, _Number]], AfterValidator(_check_options)] = {}
    """Options of choice classes that differ from their defaults, by name."""
    choices: ChoiceLists
    groups: tuple[Group, ...] = ()
    budget: Budget = Budget()
    recipe: Recipe = Recipe()
    """How its one subnet wants to be trained; a space with more has none."""
    _source: str = PrivateAttr("search space")

    @model_validator(mode="after")
    def _check_share(self) -> Self:
        """A group that shares needs a shareable choice, in its own lists or in those of the space or earlier groups."""
        offers = any(any_shareable(self.choices.of(tensor)) for tensor in SUPPORT_TENSORS)
        for index, group in enumerate(self.groups):
            offers = offers or any(any_shareable(group.of(tensor)) for tensor in SUPPORT_TENSORS)
            if group.share is not None and not offers:
                names = ", ".join(name for name, choice in CHOICES.items() if choice.shareable)
                raise ValueError(
                    f"key 'groups[{index}].share': the group offers no choice that layers can share; such are: {names}"
                )
        return self

    @classmethod
    def load(cls, name_or_path: str | Path) -> Self:
        """Read a search space by the name of a shipped one (`glora_small`) or by the path of a TOML file.

        Raises:
            SearchSpaceError: if there is no such space, or the file breaks the grammar; the message names the file and
                the key, what was found and what is allowed.
        """
        path = _locate(name_or_path)
        return cls.from_dict({"name": path.stem} | read_toml(path, SearchSpaceError), source=str(path))

    @classmethod
    def from_dict(cls, data: dict[str, Any], source: str = "search space") -> Self:
        """As `load`, from a dictionary; `source` names its origin in messages."""
        space = validate(data, cls, source, SearchSpaceError)
        space._source = source
        return space

    @property
    def is_fixed(self) -> bool:
        """Whether no support tensor has more than one choice: one subnet, whatever the layers."""
        lists = [part.of(tensor) for part in (self.choices, *self.groups) for tensor in SUPPORT_TENSORS]
        return all(len(choices) == 1 for choices in lists if choices is not None)

    def identity(self) -> dict[str, Any]:
        """What the space offers, as JSON: without name, description and defaults, with the digests of its plugins."""
        content = self.model_dump(mode="json", exclude={"name", "description"}, exclude_defaults=True)
        return content | ({"sources": plugin_sources(self.plugins)} if self.plugins else {})

    @property
    def digest(self) -> str:
        """SHA-256 of the identity."""
        return digest(self.identity())

    def bind(self, layers: Iterable[LayerShape]) -> BoundSpace:
        """Apply the space to the layers of a backbone, its head excluded.

        D is not offered on layers without a bias, where there is nothing to scale, and what would give them one only
        where the model has a place for it (`LayerShape.holds_bias`).

        Raises:
            SearchSpaceError: if a pattern matches no layer, nothing is left to choose, a choice is too large for a
                layer, layers of different shapes share a choice, no subnet lies within the budget (the message gives
                the feasible range), or there is a recipe and more than one subnet.
        """
        try:
            return self._bind(list(layers))
        except SearchSpaceError as error:
            raise SearchSpaceError(f"{self._source}: {error}") from error

    def _bind(self, layers: Sequence[LayerShape]) -> BoundSpace:
        shapes = {layer.name: layer for layer in layers if layer.kind in self.layers.types}
        others = {layer.name: layer.kind for layer in layers if layer.name not in shapes}
        chosen = _select(shapes, self.layers.include, "layers.include", others)
        chosen -= _select(shapes, self.layers.exclude, "layers.exclude", others)
        kept = [layer for name, layer in shapes.items() if name in chosen]
        genes = self._genes(kept)
        if not genes:
            homeless = [layer.name for layer in kept if not (layer.bias or layer.holds_bias)]
            why = f"; {homeless[0]} and others gain no bias, since timm has no place for it" if homeless else ""
            raise SearchSpaceError(
                f"the space offers nothing on this backbone: {len(kept)} of {len(shapes)} layers are "
                f"left by layers.include and layers.exclude, and choices gives no support tensor that they have{why}; "
                'give one, such as B = ["none", "lora:4"]'
            )
        bound = BoundSpace(
            self.name,
            kept,
            genes,
            entangle=self.entangle,
            budget=(self.budget.min, self.budget.max),
            options=self.options,
        )
        bound.check_choices()
        bound.check_budget()
        if self.recipe != Recipe() and bound.size() > 1:
            raise SearchSpaceError(
                "recipe: it says how a fixed method is trained, but this space has more than one subnet; leave it out, "
                "and set [train] in the run file"
            )
        return bound

    def _genes(self, layers: Sequence[LayerShape]) -> list[Gene]:
        """The genes of the adapted layers; of the groups that a layer is in, later ones override earlier ones."""
        members = [
            _select([layer.name for layer in layers], group.layers, f"groups[{index}].layers")
            for index, group in enumerate(self.groups)
        ]
        genes: list[Gene] = []
        for layer in layers:
            inside = [group for group, names in zip(self.groups, members, strict=True) if layer.name in names]
            for tensor in SUPPORT_TENSORS:
                choices, share = self.choices.of(tensor), ""
                for group in inside:
                    choices = group.of(tensor) or choices
                    share = group.share or share
                if choices is None or (tensor == "D" and not layer.bias):
                    continue
                if not (layer.bias or layer.holds_bias):
                    choices = tuple(text for text in choices if not parse_choice(text).gives_bias(tensor))
                    if not any(text != "none" for text in choices):
                        continue
                genes.append(Gene(layer.name, tensor, choices, share if any_shareable(choices) else ""))
        sharing = {(gene.layer, gene.share) for gene in genes}
        for index, (group, names) in enumerate(zip(self.groups, members, strict=True)):
            if group.share is not None and not any((name, group.share) in sharing for name in names):
                shareable = ", ".join(name for name, choice in CHOICES.items() if choice.shareable)
                raise SearchSpaceError(
                    f"groups[{index}].share: nothing is shared as {group.share!r}: none of the {len(names)} layers of "
                    f"the group offers a shareable choice, or a later group overrides it; such are: {shareable}"
                )
        return genes


def _select(names: Iterable[str], patterns: Iterable[str], key: str, others: Mapping[str, Kind] = {}) -> set[str]:
    """The names that match any of the patterns (`*` any characters, dots included; `?` any one; `[ab]` one of these).

    Args:
        names: layers to choose from.
        patterns: what to choose.
        key: the patterns' key in the file, for messages.
        others: layers of types that the space does not adapt, and these types.

    Raises:
        SearchSpaceError: if a pattern matches nothing; the message names `key` and the nearest layers, or what the
            pattern matches among the others.
    """
    known = list(names)
    chosen: set[str] = set()
    for pattern in patterns:
        matches = {name for name in known if fnmatchcase(name, pattern)}
        if not matches:
            found = f"{key}: pattern {pattern!r} matches none of {len(known)} layers"
            elsewhere = [name for name in others if fnmatchcase(name, pattern)]
            if elsewhere:
                kind = others[elsewhere[0]]
                raise SearchSpaceError(
                    f"{found} of the types that the space adapts; it matches {len(elsewhere)} of another type, such as "
                    f'{elsewhere[0]}: give layers.types, such as types = ["{kind}"]'
                )
            near = difflib.get_close_matches(pattern, known, n=3, cutoff=0.3) or known[:3]
            raise SearchSpaceError(f"{found}; the nearest are {', '.join(near) or 'none: there are no such layers'}")
        chosen |= matches
    return chosen


def shipped_directory() -> Path:
    """Folder of the shipped search spaces: beside the package in a checkout, under `share` when installed."""
    checkout = Path(__file__).resolve().parents[2] / "search_spaces"
    return checkout if checkout.is_dir() else Path(sys.prefix) / "share" / "glorasearch" / "search_spaces"


def shipped_names() -> list[str]:
    """Names of the shipped search spaces."""
    return sorted(path.stem for path in shipped_directory().glob("*.toml"))


def _locate(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if path.is_file():
        return path
    shipped = shipped_directory() / f"{name_or_path}.toml"
    if path.suffix != ".toml" and len(path.parts) == 1 and shipped.is_file():
        return shipped
    raise SearchSpaceError(
        f"no search space {str(name_or_path)!r}: it is neither a file nor a shipped space; shipped are "
        f"{', '.join(shipped_names())}"
    )
