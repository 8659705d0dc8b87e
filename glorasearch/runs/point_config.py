"""The `[point]` section of a run file: a trial of a finished search, refitted and exported as a run of its own."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from glorasearch.config import Config, Role


class PointConfig(Config):
    """Which trial of which run; `glorasearch export RUN --trial N` fills it in."""

    section: ClassVar[str] = "point"
    run: Annotated[str | None, Role.METHOD] = Field(default=None, examples=["flowers"])
    """A run of the workspace whose search has finished; rate, supernet and search are taken over from it."""
    trial: Annotated[int | None, Role.METHOD] = Field(default=None, ge=0, examples=[17])
    """The trial of its search that is refitted, tested and exported."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.run is None) != (self.trial is None):
            raise ValueError("run and trial belong together: give both, or neither")
        return self
