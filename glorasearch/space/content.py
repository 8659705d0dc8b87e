"""What a search-space file says, as a frozen model."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator

from glorasearch.choices import CHOICES, SUPPORT_TENSORS, options_of, register_plugin
from glorasearch.errors import SearchSpaceError
from glorasearch.space.recipe import Recipe
from glorasearch.space.sections import STRICT, Budget, ChoiceLists, Group, LayerSelection, any_shareable

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


class SpaceContent(BaseModel):
    """For every gene its choices, plus the budget: the keys of a file."""

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
