"""How a fixed method wants to be trained: the `[recipe]` of a search-space file."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field

from glorasearch.config import Config
from glorasearch.space.sections import STRICT

_Training = TypeVar("_Training", bound=Config)
_Factor = Annotated[float, Field(gt=0, strict=True)]
_OWN = ("weight_decay", "drop_path", "dropout")
"""The fields of a training that a recipe replaces as they are."""


class Recipe(BaseModel):
    """What a method wants when it is trained alone; what is left out is as the run has it.

    Rates are factors on the run's, since the best rate is a matter of the task, too. A space that is searched has no
    recipe: its supernet is trained as the run says.
    """

    model_config = STRICT
    lr_factor: _Factor = 1.0
    """On the learning rates of all groups."""
    vector_lr_factor: _Factor = 1.0
    """On that of vectors and constants besides."""
    head_lr_factor: _Factor = 1.0
    """On that of the head besides."""
    weight_decay: Annotated[float, Field(ge=0, strict=True)] | None = None
    """AdamW's decoupled weight decay."""
    drop_path: Annotated[float, Field(ge=0, lt=1, strict=True)] | None = None
    """Stochastic depth in training."""
    dropout: Annotated[float, Field(ge=0, lt=1, strict=True)] | None = None
    """Of the hidden units of the method's products."""

    def apply(self, config: _Training) -> _Training:
        """A training (`TrainingConfig`, its `lr` a number) by this recipe; itself where the recipe says nothing.

        A rate of a group that the run derives from `lr` is derived from the new `lr`, and then has its own factor.
        """
        given: Any = config
        changes: dict[str, Any] = {name: getattr(self, name) for name in _OWN if getattr(self, name) is not None}
        if self.lr_factor != 1:
            changes["lr"] = given.lr * self.lr_factor
        own = {"vector_lr": self.vector_lr_factor, "spectrum_lr": 1.0, "head_lr": self.head_lr_factor}
        for name, factor in own.items():
            rate, total = getattr(given, name), self.lr_factor * factor
            if rate is not None:
                changes |= {name: rate * total} if total != 1 else {}
            elif factor != 1:
                changes[name] = given.lr * total
        return config.replace(**changes) if changes else config
