"""Which search space, and what a run changes in it: the `[space]` section of a run file."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from glorasearch.config import Config
from glorasearch.space.content import Entangle
from glorasearch.space.search_space import SearchSpace


class SpaceConfig(Config):
    """A search space by its name, and overrides of its budget and of how its choices share storage."""

    section: ClassVar[str] = "space"
    name: str = Field(default="glora_medium", min_length=1)
    """A shipped search space, or the path of a TOML file."""
    min: int | None = Field(default=None, ge=0, examples=[100_000])
    """Least trainable parameters, the head excluded; the space's own if not given."""
    max: int | None = Field(default=None, ge=0, examples=[500_000])
    """Most trainable parameters, likewise."""
    max_bytes: int | None = Field(default=None, ge=0, examples=[2_000_000])
    """Most bytes of the adapters in float32, with the directions that are stored but not trained, likewise."""
    entangle: Entangle | None = Field(default=None, examples=["untied"])
    """How the choices of a support tensor share storage, likewise."""

    def load(self) -> SearchSpace:
        """The search space, with the overrides applied.

        Raises:
            SearchSpaceError: if there is no such space, it breaks the grammar, or the overrides do not fit it.
        """
        content = SearchSpace.load(self.name).model_dump(mode="json", exclude_none=True)
        content["budget"] |= self.model_dump(include={"min", "max", "max_bytes"}, exclude_none=True)
        content |= self.model_dump(include={"entangle"}, exclude_none=True)
        return SearchSpace.from_dict(content, source=f"{self.name} with the overrides of [space]")
