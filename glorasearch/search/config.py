"""How to search: the `[search]` section of a run file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from glorasearch.errors import InputError
from glorasearch.space import FITNESSES, Fitness

SAMPLERS: Final[Mapping[str, str]] = {
    "evolution": "the evolution of the GLoRA paper: mutants and crossover children of the best so far",
    "random": "uniform draws",
    "tpe": "Optuna's tree-structured Parzen estimator",
    "nsga2": "Optuna's NSGA-II: accuracy and trainable parameters as two objectives",
}
"""The samplers by name, and what each does."""
Mode = Literal["generational", "steady"]
STEADY_SAMPLERS: Final = ("evolution", "random", "tpe")
"""The samplers that can sample one trial at a time, from what has finished so far."""
SAMPLED_IN_BATCHES: Final = ("random", "tpe")
"""The samplers without a population: so many trials as `batch` says are sampled together."""
IN_ORDER_LAG: Final = 4
"""Default of `early_stopping_lag` where candidates are evaluated one after the other."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchConfig:
    """How many trials, which sampler, what is optimised.

    Raises:
        InputError: if a value is out of its range; the message says what is allowed.
    """

    sampler: str = "evolution"
    """`evolution`, `random`, `tpe` or `nsga2`."""
    mode: Mode = "generational"
    """`generational`: a whole batch is sampled before any of its results is used, so trials depend neither on the
    number of workers nor on their timing. `steady` (`evolution`, `random`, `tpe`): a trial is sampled as soon as a
    worker is free, from what has finished so far, so no worker waits for the last one of a batch."""
    trials: int = 1_000
    """Trials in all; when a study is continued, those that it has already count."""
    fitness: Fitness = "cross_entropy"
    """`cross_entropy` or `accuracy` on the search split; the other one breaks ties."""
    population: int = 50
    """Trials in a generation (`evolution`, `nsga2`). Steady evolution draws this many at random before it breeds."""
    parents: int = 10
    """The best trials so far, which have children in the next generation (`evolution`)."""
    mutation: float = 0.2
    """Probability that a mutant draws a gene anew (`evolution`)."""
    batch: int = 10
    """Trials that are sampled together (`random`, `tpe`)."""
    seed: int = 0
    """Seed of all random draws of the search."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of a candidate's forward pass; `auto` is bfloat16 on GPUs and float32 on CPUs."""
    eval_batch_size: int | None = None
    """Images that a candidate scores at once; 25 if not given."""
    early_stopping: bool = True
    """Stop evaluating a candidate once it is certain to be neither a parent nor the winner.

    Exact (`glorasearch.space.early_stopping`): trials, parents and winner are the same with and without, so a study may
    be continued either way. Only the records of stopped trials differ: they hold a bound in place of final scores, and
    are on no Pareto front. Applies to `evolution`, whose parents are the best k, and to `random`, where only the winner
    counts; `tpe` and `nsga2` learn from all values, so their candidates are always evaluated to the end."""
    early_stopping_lag: int | None = None
    """The threshold for trial n comes from the trials up to n − lag, which must have finished. A smaller lag stops
    candidates earlier, a larger one keeps more workers busy. If not given: 4 where candidates are evaluated one after
    the other, elsewhere the batches before the trial's own. Either way, records do not depend on timing. Not used in
    steady mode, where the threshold comes from whatever has finished when the trial is submitted."""
    max_failure_share: float = 0.2
    """The search stops when a larger share than this of a batch fails. A batch counts as at least 10 evaluations; in
    steady mode the share is that of the last `batch` (or `population`) evaluations."""

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise InputError(f"search: unknown sampler {self.sampler!r}; known are {', '.join(SAMPLERS)}")
        if self.mode not in get_args(Mode):
            raise InputError(f"search: unknown mode {self.mode!r}; known are {', '.join(get_args(Mode))}")
        if self.steady and self.sampler not in STEADY_SAMPLERS:
            raise InputError(
                f"search: sampler {self.sampler!r} works in generations and has no mode 'steady'; "
                f"samplers that have it are {', '.join(STEADY_SAMPLERS)}"
            )
        if self.fitness not in FITNESSES:
            raise InputError(f"search: unknown fitness {self.fitness!r}; known are {', '.join(FITNESSES)}")
        least = {"trials": 1, "population": 2, "batch": 1, "seed": 0, "eval_batch_size": 1, "early_stopping_lag": 1}
        for name, limit in least.items():
            number = getattr(self, name)
            if number is not None and number < limit:
                raise InputError(f"search: {name} is {number}; allowed are whole numbers from {limit}")
        if not 2 <= self.parents <= self.population:
            raise InputError(
                f"search: parents is {self.parents}; allowed are 2 to the population, here {self.population}"
            )
        for name in ("mutation", "max_failure_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"search: {name} is {getattr(self, name)}; allowed are numbers from 0 to 1")

    @property
    def steady(self) -> bool:
        """Whether trials are sampled one at a time, from what has finished so far."""
        return self.mode == "steady"

    @property
    def batch_size(self) -> int:
        """Trials that are sampled together, whatever the sampler."""
        return self.batch if self.sampler in SAMPLED_IN_BATCHES else self.population

    @property
    def kept(self) -> int | None:
        """k: a candidate certain to be worse than k distinct others is stopped early; None if none is."""
        return {"evolution": self.parents, "random": 1}.get(self.sampler) if self.early_stopping else None

    def lag(self, *, in_order: bool) -> int | None:
        """The early-stopping lag; None for the batches before. `in_order`: one candidate is evaluated at a time."""
        return IN_ORDER_LAG if self.early_stopping_lag is None and in_order else self.early_stopping_lag

    def identity(self) -> dict[str, Any]:
        """What must not change when a study is continued: all that decides which trials it has."""
        identity: dict[str, Any] = {
            "sampler": self.sampler,
            "mode": self.mode,
            "fitness": self.fitness,
            "seed": self.seed,
            "batch" if self.sampler in SAMPLED_IN_BATCHES else "population": self.batch_size,
        }
        if self.sampler == "evolution":
            identity |= {"parents": self.parents, "mutation": self.mutation}
        return identity
