"""How the finalists race: the `[race]` section of a run file."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from glorasearch.config import MOST_STEPS, Config, ListOf, Role

Judge = Literal["accuracy", "tempered", "balanced_accuracy", "macro_f1", "auc", "squared_error"]
"""What ranks candidates out of fold: accuracy, the cross-entropy at a candidate's best temperature, a metric that takes
classes alike, or the mean squared error of numbers."""
OF_CLASSES: Final[tuple[Judge, ...]] = ("balanced_accuracy", "macro_f1", "auc")
"""Those that take classes alike."""
Start = Literal["fresh", "inherited"]
"""Weights that a candidate starts from: new ones, or those of the supernet."""
Rate = Annotated[float, Field(gt=0)]


STEPS: Final = 400
"""Of each training, unless the supernet's has fewer: enough to tell candidates apart (docs/search-quality-notes.md)."""


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
    finalists: int = Field(default=4, ge=0, le=1_000)
    """Best distinct subnets of the search that race, besides methods and named points."""
    named: int = Field(default=2, ge=0, le=1_000)
    """Named points of the run's own space that race, in the order of `glorasearch.space.named_points`, those that are
    one of the methods left out."""
    steps: int | None = Field(default=None, ge=1, le=MOST_STEPS, examples=[400])
    """Optimiser steps of each training; if not given 400, or as many as the supernet's training has if that is less."""
    folds: int = Field(default=5, ge=2, le=1_000)
    """Parts of train + search: a model is trained on all but one, and judged on that one."""
    rungs: ListOf[Annotated[int, Field(ge=1)]] = (1, 2)
    """Folds on which candidates have been judged after each rung but the last, which has all folds. All candidates are
    in the first rung, and the better half of them goes from rung to rung."""
    keep: int = Field(default=8, ge=1, le=1_000_000)
    """Best candidates that are in the last rung; no rung has fewer."""
    judge: Judge = "accuracy"
    """What decides, out of fold; `accuracy` and `tempered` break each other's ties. With several labels an image,
    accuracy is the share of images of which all labels are right; if there are many labels, `tempered` tells more.
    `balanced_accuracy`, `macro_f1` and `auc` are those of `search.fitness`, for one class an image; `tempered` breaks
    their ties. They are of all folds together, but for `auc`, which is the mean over the folds. With
    `data.task = "regress"` there is one judge, and it is the default: `squared_error`."""
    starts: ListOf[Start] = ("fresh",)
    """Weights that subnets of the run's own space start from; fixed methods start fresh. With `inherited` all are
    judged on images of the search split only, since the supernet has seen the others. By the same images the search
    chose its finalists, whose scores are too good then."""
    stack: Annotated[int, Role.BOOKKEEPING] = Field(default=0, ge=0, le=1_000)
    """Models that are trained side by side; 0 for as many as memory allows, and 1 on a CPU. A race may be continued
    with another value: results are the same but for rounding."""

    def training_steps(self, supernet: int) -> int:
        """Optimiser steps of each training, given those of the supernet's; 0 if that is not trained."""
        return self.steps or min(STEPS, supernet or STEPS)

    @property
    def judged(self) -> tuple[int, ...]:
        """Folds on which the candidates of each rung have been judged after it, the last rung's included."""
        return tuple(dict.fromkeys((*self.rungs, self.folds)))

    def entrants(self, count: int) -> tuple[int, ...]:
        """How many of so many candidates are in each rung."""
        found = [count]
        for _ in self.judged[1:-1]:
            found.append(min(found[-1], max(self.keep, -(-found[-1] // 2))))
        return tuple(found) if len(self.judged) == 1 else (*found, min(self.keep, found[-1]))

    def trainings(self, count: int) -> int:
        """How many trainings a race of so many candidates has."""
        folds = [after - before for before, after in pairwise((0, *self.judged))]
        return sum(each * entrants for each, entrants in zip(folds, self.entrants(count), strict=True))

    @model_validator(mode="after")
    def _check(self) -> Self:
        if list(self.rungs) != sorted(set(self.rungs)) or max(self.rungs, default=0) > self.folds:
            allowed = f"increasing numbers from 1 to the number of folds, {self.folds}"
            raise ValueError(f"rungs is {list(self.rungs)}; allowed are {allowed}")
        choices = ("rates", self.rates), ("starts", self.starts), ("rungs", self.rungs), ("methods", self.methods or ())
        for name, values in choices:
            if len(set(values)) < len(values):
                raise ValueError(f"{name} names one twice: {', '.join(map(str, values))}")
            if not values and name != "methods":
                raise ValueError(f"{name} is empty; give at least one")
        return self
