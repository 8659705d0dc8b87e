"""The `[longer]` section of a run file: the supernet of an earlier run, trained on."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from glorasearch.config import Config


class LongerConfig(Config):
    """An earlier run whose supernet is trained on; `glorasearch run NAME --set train.steps=N` fills it in."""

    section: ClassVar[str] = "longer"
    run: str | None = Field(default=None, examples=["flowers"])
    """A run of the workspace whose training has finished. This one makes the steps that `train.steps` has more, from
    those weights, with a warm-up and a decay of their own; its rate is taken over, and what follows is done anew."""
