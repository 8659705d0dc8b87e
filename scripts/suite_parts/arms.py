"""The arms of the suite: what is compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from suite_parts.units import Unit

Kind = Literal["product", "yardstick", "tau", "ideas", "augmentation", "alone", "cost"]


@dataclass(frozen=True)
class Arm:
    """One way to get a model, or one measurement."""

    name: str
    title: str
    """For tables."""
    overrides: tuple[str, ...] = ()
    """Of the run file, for a run of the product."""
    kind: Kind = "product"
    small: bool = False
    """Whether it has the small budget."""
    once: bool = False
    """Whether the first seed is enough."""
    seed: int | None = None
    """The only one that it is done with: a measurement to choose recipes by has a seed for tuning."""

    def seeds(self, wanted: Sequence[int], *, every: bool = False) -> Sequence[int]:
        """The seeds of a suite that the arm is done with; with `every`, those too that need not be."""
        if self.seed is not None:
            return (self.seed,)
        return wanted[:1] if self.once and not every else wanted


TUNING_SEED = 3
"""Of it and those above, results may decide on rates and recipes."""


WITHOUT_SEARCH = (
    "train.steps=0",
    "train.lr=1e-3",
    "search.trials=1",
    "search.start=[]",
    "race.finalists=0",
    "race.named=0",
)
"""Overrides of a run whose supernet is not trained and whose race has the fixed methods alone."""
ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm("evolution", "the whole product"),
        Arm("yardstick", "yardstick: each fixed method at each rate, the best on the search split", kind="yardstick"),
        Arm("race_only", "race of fixed methods, without search", WITHOUT_SEARCH),
        Arm("lora4_budget", "the whole product, budget of LoRA r=4", small=True),
        Arm("random", "random search", ("search.sampler=random", "search.start=[]")),
        Arm("no_named_start", "evolution from random subnets, without named points", ("search.start=[]",)),
        Arm("fitness_accuracy", "fitness accuracy", ("search.fitness=accuracy",)),
        Arm("fitness_cross_entropy", "fitness cross-entropy", ("search.fitness=cross_entropy",)),
        Arm("fixed_lr", "one rate, 1e-3, for the supernet", ("train.lr=1e-3",)),
        Arm("no_teachers", "plain refit, without teachers", ("refit.teachers=0",)),
        Arm("augment_light", "light augmentation", ("train.augment=light",)),
        Arm("augment_light_flip", "light augmentation with flips", ("train.augment=light", "train.hflip=0.5")),
        Arm("augment_timm_noflip", "timm's augmentation without flips", ("train.augment=timm", "train.hflip=0")),
        Arm("ema", "moving average of the weights, 0.999", ("train.ema_decay=0.999",)),
        Arm("augmentation", "fixed methods with varied images and averaged weights", kind="augmentation"),
        Arm("no_race", "without race: the search's winner, refitted", ("race.enabled=false",)),
        Arm("yardstick_alone", "the yardstick's trainings one by one", kind="alone", once=True),
        Arm("cost", "both main arms anew, one after the other", kind="cost", once=True),
        Arm("tau", "how the supernet ranks random subnets", kind="tau", once=True),
        Arm("tau_ideas", "what might rank random subnets better", kind="ideas", seed=TUNING_SEED),
    )
}
"""In the order in which they run: what the targets need comes first."""


def units_of(tasks: Sequence[str], seeds: Sequence[int], arms: Sequence[str], *, every: bool = False) -> list[Unit]:
    """All units, arm by arm and then seed by seed, in the order of `ARMS`; with `every`, those too that need not be."""
    return [
        Unit(task, seed, arm.name)
        for arm in ARMS.values()
        if arm.name in arms
        for seed in arm.seeds(seeds, every=every)
        for task in tasks
    ]
