"""What a search is told to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from glorasearch.errors import InputError
from glorasearch.search.fitness import FITNESSES, Fitness

SAMPLERS: Final[Mapping[str, str]] = {
    "evolution": "the evolution of the GLoRA paper: mutants and crossover children of the best so far",
    "random": "uniform draws",
    "tpe": "Optuna's tree-structured Parzen estimator",
    "nsga2": "Optuna's NSGA-II: accuracy and trainable parameters as two objectives",
}
"""The samplers by name, and what each does."""
Mode = Literal["generational", "steady"]
STEADY_SAMPLERS: Final = ("evolution", "random", "tpe")
"""The samplers that can make one trial at a time of whatever has finished by then."""
IN_ORDER_LAG: Final = 4
"""`capping_lag` where candidates are evaluated one after the other, if it is not given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchConfig:
    """A search: how many trials, which sampler, what is sought.

    Raises:
        InputError: if a value is out of its range; the message says what is allowed.
    """

    trials: int = 1_000
    """Trials in all; those of a study that is continued count."""
    sampler: str = "evolution"
    """`evolution`, `random`, `tpe` or `nsga2`."""
    mode: Mode = "generational"
    """`generational`: a batch of trials is sampled before any of it is told, so the trials depend neither on the number
    of workers nor on their timing. `steady`: a trial is sampled as soon as a worker has room for it, from what has
    finished by then, so that no worker waits for the last one of a batch (`evolution`, `random`, `tpe`)."""
    fitness: Fitness = "cross_entropy"
    """`accuracy` (of the search split; ties broken by mean cross-entropy) or `cross_entropy`."""
    population: int = 50
    """Trials of a generation (`evolution`, `nsga2`); steady evolution draws so many at random before it breeds."""
    parents: int = 10
    """The best trials so far that have children in the next generation (`evolution`)."""
    mutation: float = 0.2
    """Probability that a mutant draws a gene anew (`evolution`)."""
    batch: int = 10
    """Trials that are sampled before any of them is told (`random`, `tpe`)."""
    seed: int = 0
    """Seed of all random draws of the search."""
    max_failure_share: float = 0.2
    """The search stops when more than this share of a batch of at least 10 fails; in steady mode, of so many
    evaluations in a row as a batch would have, or 10."""
    capping: bool = True
    """Stop evaluating a candidate once it is certain to be no parent and not the winner (`glorasearch.space.cap`).

    It has an effect for `evolution`, whose parents are the best k, and for `random`, where only the winner counts;
    `tpe` and `nsga2` learn from all values, so their candidates are always evaluated to the end. Not part of a study's
    identity: trials, parents and winner are the same with and without, so a study may be continued either way. Only
    what is recorded of a capped trial differs (its bound, not its scores), and such trials are on no Pareto front.
    """
    capping_lag: int | None = None
    """The cap of trial n is made of the trials up to n − this, which are waited for: so records do not depend on
    timing, and up to this many candidates can be evaluated at once. Less caps sooner, more feeds more workers. None: 4
    where candidates are evaluated one after the other; elsewhere the cap is made of the batches before the trial's own,
    nothing is waited for, and records do not depend on the number of workers. Steady mode does without: there the cap
    is made of what has finished when the trial is submitted."""

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise InputError(f"search: unknown sampler {self.sampler!r}; known are {', '.join(SAMPLERS)}")
        if self.mode not in get_args(Mode):
            raise InputError(f"search: unknown mode {self.mode!r}; known are {', '.join(get_args(Mode))}")
        if self.steady and self.sampler not in STEADY_SAMPLERS:
            raise InputError(
                f"search: sampler {self.sampler!r} works by generations and has no mode 'steady'; "
                f"samplers that have are {', '.join(STEADY_SAMPLERS)}"
            )
        if self.fitness not in get_args(Fitness):
            raise InputError(f"search: unknown fitness {self.fitness!r}; known are {', '.join(FITNESSES)}")
        _check_least("trials", self.trials, 1)
        _check_least("population", self.population, 2)
        _check_least("batch", self.batch, 1)
        _check_least("seed", self.seed, 0)
        if self.capping_lag is not None:
            _check_least("capping_lag", self.capping_lag, 1)
        if not 2 <= self.parents <= self.population:
            raise InputError(
                f"search: parents is {self.parents}; allowed are 2 to the population, here {self.population}"
            )
        for name, share in (("mutation", self.mutation), ("max_failure_share", self.max_failure_share)):
            if not 0 <= share <= 1:
                raise InputError(f"search: {name} is {share}; allowed are numbers from 0 to 1")

    @property
    def steady(self) -> bool:
        """Whether trials are sampled one at a time, of what has finished by then."""
        return self.mode == "steady"

    @property
    def generational(self) -> bool:
        """Whether a batch is a generation of the sampler's population."""
        return self.sampler in ("evolution", "nsga2")

    @property
    def capped_beyond(self) -> int | None:
        """Candidates that are certain to be worse than this many distinct ones are capped; None if none is."""
        if not self.capping:
            return None
        return {"evolution": self.parents, "random": 1}.get(self.sampler)

    @property
    def batch_size(self) -> int:
        """Trials that are sampled before any of them is told, whatever the sampler."""
        return self.population if self.generational else self.batch

    def lag(self, in_order: bool) -> int | None:
        """The lag of caps where candidates are evaluated one after the other, or elsewhere; None: a whole batch."""
        return IN_ORDER_LAG if self.capping_lag is None and in_order else self.capping_lag

    def identity(self) -> dict[str, Any]:
        """What must not change when a study is continued: everything that decides which trials it has."""
        identity: dict[str, Any] = {
            "sampler": self.sampler,
            "fitness": self.fitness,
            "seed": self.seed,
            "population" if self.generational else "batch": self.batch_size,
        }
        if self.sampler == "evolution":
            identity |= {"parents": self.parents, "mutation": self.mutation}
        # Studies from before there were modes do not name theirs.
        return identity | ({"mode": self.mode} if self.steady else {})


def _check_least(name: str, number: int, least: int) -> None:
    if number < least:
        raise InputError(f"search: {name} is {number}; allowed are whole numbers from {least}")
