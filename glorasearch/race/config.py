"""How the finalists race: the `[race]` section of a run file."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from glorasearch.config import Config, ListOf, Role

Judge = Literal["accuracy", "tempered"]
"""What ranks candidates: accuracy out of fold, or the cross-entropy at a candidate's best temperature."""
Start = Literal["fresh", "inherited"]
"""Weights that a candidate starts from: new ones, or those of the supernet."""
Rate = Annotated[float, Field(gt=0)]


class RaceConfig(Config):
    """The race of finalists and fixed methods: each trained alone at several rates, judged out of fold."""

    section: ClassVar[str] = "race"
    enabled: bool = True
    """Whether there is a race; without one the winner of the search is refitted."""
    methods: ListOf[str] | None = Field(default=None, examples=[["lora_r8", "wegeft"]])
    """Fixed methods that race, as names or files of search spaces with one subnet. If not given, all shipped ones that
    fit the backbone and the budget."""
    rates: ListOf[Rate] = (1e-3, 3e-3, 1e-2)
    """Peak learning rates of the low-rank factors; those of the other groups are scaled as in `[refit]`."""
    finalists: int = Field(default=4, ge=0)
    """Best distinct subnets of the search that race, besides methods and named points."""
    named: int = Field(default=2, ge=0)
    """Named points of the run's own space that race, in the order of `glorasearch.space.named_points`, those that are
    one of the methods left out."""
    steps: int = Field(default=400, ge=1)
    """Optimiser steps of each training."""
    folds: int = Field(default=5, ge=2)
    """Parts of train + search: a model is trained on all but one, and judged on that one."""
    first_folds: int = Field(default=2, ge=1)
    """Folds on which all candidates are judged."""
    keep: int = Field(default=8, ge=1)
    """Best candidates on these, which are judged on the other folds, too."""
    judge: Judge = "accuracy"
    """What decides, out of fold; the other one breaks ties."""
    starts: ListOf[Start] = ("fresh",)
    """Weights to start from. With `inherited`, subnets of the run's own space start from the supernet as well, and all
    are judged on images of the search split only, since the supernet has seen the others."""
    stack: Annotated[int, Role.BOOKKEEPING] = Field(default=0, ge=0)
    """Models that are trained side by side; 0 for as many as memory allows, and 1 on a CPU. A race may be continued
    with another value: results are the same but for rounding."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.first_folds > self.folds:
            raise ValueError(f"first_folds is {self.first_folds}; allowed are 1 to the number of folds, {self.folds}")
        for name, values in (("rates", self.rates), ("starts", self.starts), ("methods", self.methods or ())):
            if len(set(values)) < len(values):
                raise ValueError(f"{name} names one twice: {', '.join(map(str, values))}")
            if not values and name != "methods":
                raise ValueError(f"{name} is empty; give at least one")
        return self
