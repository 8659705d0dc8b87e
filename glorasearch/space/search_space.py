"""A search space as it is written: a strict TOML file, read into a frozen model."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, ValidationInfo, model_validator

from glorasearch.choices import (
    CHOICES,
    SUPPORT_TENSORS,
    LayerShape,
    check_allowed,
    options_of,
    parse_choice,
    plugin_sources,
    register_plugin,
)
from glorasearch.errors import SearchSpaceError
from glorasearch.identity import digest
from glorasearch.space.bound import BoundSpace, Gene
from glorasearch.space.patterns import select
from glorasearch.strict_toml import read_toml, validate

Entangle = Literal["untied", "reference"]


def _check_list(choices: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    if not choices:
        raise ValueError('the list of choices is empty; to switch a support tensor off write ["none"]')
    for text in choices:
        try:
            check_allowed(str(info.field_name), parse_choice(text))
        except SearchSpaceError as error:
            raise ValueError(str(error)) from error
    duplicates = sorted({text for text in choices if choices.count(text) > 1})
    if duplicates:
        raise ValueError(f"choices given twice: {', '.join(duplicates)}")
    return choices


def _register(plugins: tuple[str, ...]) -> tuple[str, ...]:
    for path in plugins:
        try:
            register_plugin(path)
        except SearchSpaceError as error:
            raise ValueError(str(error)) from error
    return plugins


def _check_options(options: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Those that differ from their defaults: to write a default out makes no other space."""
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


def _check_types(types: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(types)) < len(types):
        raise ValueError(f"a type is given twice: {', '.join(types)}")
    return types


ChoiceList = Annotated[tuple[str, ...], AfterValidator(_check_list)]
_Number = Annotated[float, Field(strict=True)]
STRICT = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class _PerTensor(BaseModel):
    """Choices by support tensor; a tensor that is not given is not offered (or, in a group, not overridden)."""

    model_config = STRICT
    A: ChoiceList | None = None
    B: ChoiceList | None = None
    C: ChoiceList | None = None
    D: ChoiceList | None = None
    E: ChoiceList | None = None

    def of(self, tensor: str) -> tuple[str, ...] | None:
        """The choices given for a support tensor, if any."""
        choices: tuple[str, ...] | None = getattr(self, tensor)
        return choices


def _shareable(choices: tuple[str, ...] | None) -> bool:
    return any(parse_choice(text).shareable for text in choices or ())


class _Group(_PerTensor):
    """Layers whose choices differ from the space's, or that share the parts of their choices."""

    layers: tuple[str, ...] = Field(min_length=1)
    share: str | None = Field(default=None, pattern="^[A-Za-z0-9_-]+$")


class _Layers(BaseModel):
    model_config = STRICT
    include: tuple[str, ...] = Field(default=("*blocks.*",), min_length=1)
    exclude: tuple[str, ...] = ()
    types: Annotated[tuple[Literal["linear", "conv2d"], ...], AfterValidator(_check_types)] = Field(
        default=("linear",), min_length=1
    )


class Budget(BaseModel):
    """Limits on the trainable parameters of a subnet, the head excluded, both included."""

    model_config = STRICT
    min: int = Field(default=0, ge=0, strict=True)
    max: int | None = Field(default=None, ge=0, strict=True)

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.max is not None and self.max < self.min:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self

    def allows(self, parameters: int) -> bool:
        """Whether a parameter count lies within the budget."""
        return self.min <= parameters and (self.max is None or parameters <= self.max)


class SearchSpace(BaseModel):
    """For every gene its choices, plus the budget: what one TOML file says, before any model is known.

    `bind` applies it to the layers of a backbone. The grammar is explained in `search_spaces/README.md`.
    """

    model_config = STRICT
    name: str = Field(min_length=1)
    description: str = ""
    entangle: Entangle = "untied"
    layers: _Layers = _Layers()
    plugins: Annotated[tuple[str, ...], AfterValidator(_register)] = ()
    """Choice classes from outside, as `package.module:Class`; they are imported when the space is read."""
    options: Annotated[dict[str, dict[str, _Number]], AfterValidator(_check_options)] = {}
    """Options of choice classes that differ from their defaults, by name."""
    choices: _PerTensor
    groups: tuple[_Group, ...] = ()
    budget: Budget = Budget()
    _source: str = PrivateAttr("search space")

    @model_validator(mode="after")
    def _check_share(self) -> Self:
        """A group that shares has something to share: in its own lists, or in those that it may have from before."""
        offers = any(_shareable(self.choices.of(tensor)) for tensor in SUPPORT_TENSORS)
        for index, group in enumerate(self.groups):
            offers = offers or any(_shareable(group.of(tensor)) for tensor in SUPPORT_TENSORS)
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
        """The same from a dictionary; `source` names its origin in messages."""
        space = validate(data, cls, source, SearchSpaceError)
        space._source = source
        return space

    def identity(self) -> dict[str, Any]:
        """What the space offers, as JSON: without name, description and defaults, with the digests of its plugins."""
        content = self.model_dump(mode="json", exclude={"name", "description"}, exclude_defaults=True)
        return content | ({"sources": plugin_sources(self.plugins)} if self.plugins else {})

    @property
    def digest(self) -> str:
        """SHA-256 of the identity."""
        return digest(self.identity())

    def bind(self, layers: Iterable[LayerShape]) -> BoundSpace:
        """Apply the space to the layers of a backbone (its head left out by the caller).

        D is not offered on layers without a bias (there is nothing to scale).

        Raises:
            SearchSpaceError: if a pattern matches no layer, nothing is left to choose, a choice is larger than a layer
                allows, layers share what they have in different shapes, or no subnet lies within the budget (the
                message gives the feasible range).
        """
        try:
            return self._bind(list(layers))
        except SearchSpaceError as error:
            raise SearchSpaceError(f"{self._source}: {error}") from error

    def _bind(self, layers: Sequence[LayerShape]) -> BoundSpace:
        shapes = {layer.name: layer for layer in layers if _type(layer) in self.layers.types}
        others = [layer.name for layer in layers if layer.name not in shapes]
        chosen = select(shapes, self.layers.include, "layers.include", others)
        chosen -= select(shapes, self.layers.exclude, "layers.exclude", others)
        kept = [layer for name, layer in shapes.items() if name in chosen]
        members = [
            select([layer.name for layer in kept], group.layers, f"groups[{index}].layers")
            for index, group in enumerate(self.groups)
        ]
        genes: list[Gene] = []
        for layer in kept:
            inside = [group for group, names in zip(self.groups, members, strict=True) if layer.name in names]
            for tensor in SUPPORT_TENSORS:
                choices, share = self.choices.of(tensor), ""
                for group in inside:
                    choices = group.of(tensor) or choices
                    share = group.share or share
                if choices is None or (tensor == "D" and not layer.bias):
                    continue
                genes.append(Gene(layer.name, tensor, choices, share if _shareable(choices) else ""))
        sharing = {(gene.layer, gene.share) for gene in genes}
        for index, (group, names) in enumerate(zip(self.groups, members, strict=True)):
            if group.share is not None and not any((name, group.share) in sharing for name in names):
                shareable = ", ".join(name for name, choice in CHOICES.items() if choice.shareable)
                raise SearchSpaceError(
                    f"groups[{index}].share: nothing is shared as {group.share!r}: none of the {len(names)} layers of "
                    f"the group offers a choice that can be, or a later group says otherwise; such are: {shareable}"
                )
        if not genes:
            raise SearchSpaceError(
                f"the space offers nothing on this backbone: {len(kept)} of {len(shapes)} layers are "
                "left by layers.include and layers.exclude, and choices gives no support tensor that they have; "
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
        return bound


def _type(layer: LayerShape) -> str:
    return "conv2d" if layer.convolution else "linear"


def shipped_directory() -> Path:
    """Where the shipped search spaces lie: beside the package in a checkout, under `share` when installed."""
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
