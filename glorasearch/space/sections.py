"""The tables of a search-space file: which layers, which choices for each support tensor, groups, budget."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from glorasearch.choices import Kind, check_allowed, parse_choice
from glorasearch.errors import SearchSpaceError
from glorasearch.space.selectors import check_selectors

STRICT = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def _check_choices(choices: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
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


def _check_types(types: tuple[Kind, ...] | None, info: ValidationInfo) -> tuple[Kind, ...] | None:
    """The types, or None if they are what the space would have without them: writing a default makes no other space."""
    if types is not None and len(set(types)) < len(types):
        raise ValueError(f"a type is given twice: {', '.join(types)}")
    return None if types == _default_types(info.data.get("include", ())) else types


def _default_types(include: tuple[str, ...]) -> tuple[Kind, ...]:
    return ("linear", "conv2d") if any("@" in selector for selector in include) else ("linear",)


def _check_layers(selectors: tuple[str, ...]) -> tuple[str, ...]:
    check_selectors(selectors)
    return selectors


ChoiceList = Annotated[tuple[str, ...], AfterValidator(_check_choices)]
Selectors = Annotated[tuple[str, ...], AfterValidator(_check_layers)]


class ChoiceLists(BaseModel):
    """Choices by support tensor; a tensor left out is not offered (or, in a group, not overridden)."""

    model_config = STRICT
    A: ChoiceList | None = None
    B: ChoiceList | None = None
    C: ChoiceList | None = None
    D: ChoiceList | None = None
    E: ChoiceList | None = None

    def of(self, tensor: str) -> tuple[str, ...] | None:
        """The choices of a support tensor; None if it is left out."""
        choices: tuple[str, ...] | None = getattr(self, tensor)
        return choices


def any_shareable(choices: tuple[str, ...] | None) -> bool:
    """Whether layers can share any of these choices."""
    return any(parse_choice(text).shareable for text in choices or ())


class Group(ChoiceLists):
    """Layers whose choices differ from the space's, or that share the parts of their choices."""

    layers: Selectors = Field(min_length=1)
    share: str | None = Field(default=None, pattern="^[A-Za-z0-9_-]+$")


class LayerSelection(BaseModel):
    """Which layers of a backbone are adapted, by roles or name patterns, and type."""

    model_config = STRICT
    include: Selectors = Field(default=("@body",), min_length=1)
    exclude: Selectors = ()
    types: Annotated[Annotated[tuple[Kind, ...], Field(min_length=1)] | None, AfterValidator(_check_types), Field()] = (
        None
    )

    def kinds(self) -> tuple[Kind, ...]:
        """The types among which include and exclude choose; convolutions without being named where roles are."""
        return _default_types(self.include) if self.types is None else self.types


class Budget(BaseModel):
    """Limits on a subnet without its head, all included: trainable parameters, and bytes of its adapters in float32."""

    model_config = STRICT
    min: int = Field(default=0, ge=0, strict=True)
    max: int | None = Field(default=None, ge=0, strict=True)
    max_bytes: int | None = Field(default=None, ge=0, strict=True)

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.max is not None and self.max < self.min:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self
