"""How to search: the `[search]` section of a run file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from glorasearch.config import MOST_BATCH, Config, ListOf, Precision, Role, Seed
from glorasearch.search.objectives import (
    COSTS,
    DEFAULT_OBJECTIVES,
    OF_NUMBERS_OBJECTIVES,
    Cost,
    Objective,
    is_quality,
)
from glorasearch.space import CLASS_METRICS, OF_NUMBERS, WITHOUT_BOUND, Fitness

Sampler = Literal["evolution", "random", "tpe", "nsga2"]
SAMPLERS: Final[Mapping[Sampler, str]] = {
    "evolution": "the evolution of the GLoRA paper: mutants and crossover children of the best so far",
    "random": "uniform draws",
    "tpe": "Optuna's tree-structured Parzen estimator",
    "nsga2": "Optuna's NSGA-II: several objectives at once",
}
"""The samplers by name, and what each does."""
Mode = Literal["generational", "steady"]
STEADY_SAMPLERS: Final = ("evolution", "random", "tpe")
"""The samplers that can sample one trial at a time from whatever has finished so far."""
SAMPLED_IN_BATCHES: Final = ("random", "tpe")
"""The samplers without a population: they sample `batch` trials at a time."""
IN_ORDER_LAG: Final = 4
"""Default of `early_stopping_lag` where candidates are evaluated one after the other."""


class SearchConfig(Config):
    """How many trials, which sampler, what is optimised."""

    section: ClassVar[str] = "search"
    sampler: Sampler = "evolution"
    """How candidates are chosen."""
    mode: Mode = "generational"
    """When candidates are chosen. `generational`: a whole batch is sampled before any of its results is used, so trials
    depend neither on the number of workers nor on their timing. `steady` (`evolution`, `random`, `tpe`): a trial is
    sampled as soon as a worker is free, from what has finished so far, so no worker waits for the last one of a
    batch."""
    trials: int = Field(default=1_000, ge=1, le=10_000_000)
    """Trials in all. When a study is continued, those that it has already count."""
    fitness: Fitness = "tempered"
    """What is optimised. `tempered`: the mean cross-entropy at each candidate's own best temperature, the best of 37
    from 1/16 to 32. `accuracy`: the share of correct images. `cross_entropy`: the mean cross-entropy of the logits as
    they are. `balanced_accuracy`: the mean over classes of the share of their images that are correct. `macro_f1`: the
    mean over classes of the F1 score; a class counts if an image has it or is taken for it. `auc`: the mean over
    classes of the area under the ROC curve of one class against the rest, by the softmax of the logits; for it every
    candidate is evaluated to the end. With `data.task = "regress"` there is one fitness, and it is the default:
    `squared_error`, the mean squared error of standardised targets. Ties go to the higher accuracy, or if that is
    equal, too, to the lower cross-entropy. With `nsga2` it says which of the trials wins, and has to be one of
    `objectives`; if it is not given there, the first of them that is a part of the score, or `tempered` if `objectives`
    are not given either."""
    objectives: ListOf[Objective] = DEFAULT_OBJECTIVES
    """What `nsga2` breeds by, two or more: any `fitness`, and what a subnet costs, the head excluded. `parameters`.
    `bytes`: of its adapters in float32, with the directions that are stored but not trained. `latency`: milliseconds of
    a forward pass of one image with its adapters unmerged, on the run's device. `training_flops`: floating-point
    operations of a training step of one image."""
    start: ListOf[Annotated[str, Field(min_length=1)]] = ("named",)
    """Where the search starts from: `named`, all named points; the name of one; `run:NAME`, `run:NAME/TRIAL`; a path.

    These are the first trials; all others are sampled. A named point is what people know as a subnet of the space, such
    as `lora:8 everywhere`; `glorasearch space` lists them. `run:NAME` is what an earlier run in the workspace exports,
    or the winner of its search if a fixed method won its race; `run:NAME/TRIAL` is any trial of its search; a path is
    that of a `.json` file with a subnet, a `report.json`, or the `config.json` of an exported model. What is listed by
    itself comes first, then of `named` as many as fit into half of `population`, in the order in which `glorasearch
    space` lists them. `[]` starts from nothing."""
    population: int = Field(default=50, ge=2, le=1_000_000)
    """Trials in a generation (evolution, nsga2). The first one holds what `start` says; all others of it are random."""
    parents: int = Field(default=10, ge=2, le=1_000_000)
    """The best trials so far, which have children in the next generation (evolution)."""
    mutation: float = Field(default=0.2, ge=0, le=1)
    """Probability that a mutant resamples a gene (evolution)."""
    batch: int = Field(default=10, ge=1, le=1_000_000)
    """Trials that are sampled together (random, tpe)."""
    seed: Seed = 0
    """Seed of all random draws of the search."""
    precision: Precision = "auto"
    """Of a candidate's forward pass; `auto` is bfloat16 autocast on GPUs."""
    eval_batch_size: int | None = Field(default=None, ge=1, le=MOST_BATCH, examples=[25])
    """Images that are scored at once; if not given 25, and 256 of the test split."""
    early_stopping: Annotated[bool, Role.BOOKKEEPING] = True
    """Stop evaluating a candidate once it is certain to be neither a parent nor the winner.

    Exact (`glorasearch.space.early_stopping`): trials, parents and winner are the same with and without, so a study may
    be continued either way. Only the records of stopped trials differ: they hold a bound in place of final scores, and
    are on no Pareto front. Applies to `evolution`, whose parents are the best k, and to `random`, where only the winner
    counts; `tpe` and `nsga2` learn from all values, so their candidates are always evaluated to the end, and so are
    those whose fitness is `auc`."""
    early_stopping_lag: Annotated[int | None, Role.BOOKKEEPING] = Field(default=None, ge=1, le=1_000_000, examples=[4])
    """Trial n is stopped by the results up to n - lag; if not given 4, or a batch with workers.

    The trials up to n - lag must have finished before trial n starts. A smaller lag stops candidates earlier, a larger
    one keeps more workers busy. Either way, records do not depend on timing. Not used in steady mode, where the
    threshold comes from whatever has finished when the trial is submitted."""
    max_failure_share: Annotated[float, Role.BOOKKEEPING] = Field(default=0.2, ge=0, le=1)
    """The search stops when a larger share of a batch fails.

    A batch counts as at least 10 evaluations; in steady mode the share is that of the last `batch` (or `population`)
    evaluations."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.steady and self.sampler not in STEADY_SAMPLERS:
            raise ValueError(
                f"sampler {self.sampler!r} works in generations and has no mode 'steady'; "
                f"samplers that have it are {', '.join(STEADY_SAMPLERS)}"
            )
        self._check_objectives()
        if self.parents > self.population:
            raise ValueError(f"parents is {self.parents}; allowed are 2 to the population, here {self.population}")
        return self

    def _check_objectives(self) -> None:
        """Refuse objectives that decide nothing, and choose the fitness among them."""
        if self.sampler != "nsga2":
            if self.objectives != DEFAULT_OBJECTIVES:
                raise ValueError(
                    f"objectives are {', '.join(self.objectives)}, but sampler {self.sampler!r} has one, its fitness; "
                    "set sampler = 'nsga2', or leave them out"
                )
            return
        qualities = [name for name in self.objectives if is_quality(name)]
        if not qualities or len(set(self.objectives)) < max(2, len(self.objectives)):
            raise ValueError(
                f"objectives are {list(self.objectives)}; expected two different ones or more, and among them a part "
                "of the score, such as accuracy"
            )
        if "fitness" not in self.model_fields_set:
            if self.objectives != DEFAULT_OBJECTIVES:
                self.__dict__["fitness"] = qualities[0]
        elif self.fitness not in qualities:
            raise ValueError(
                f"fitness is {self.fitness!r}, but sampler 'nsga2' breeds by {', '.join(self.objectives)}; add it to "
                f'objectives, set fitness = "{qualities[0]}", or leave it out'
            )

    @property
    def steady(self) -> bool:
        """Whether trials are sampled one at a time, from the trials finished so far."""
        return self.mode == "steady"

    @property
    def batch_size(self) -> int:
        """Trials that are sampled together, whatever the sampler."""
        return self.batch if self.sampler in SAMPLED_IN_BATCHES else self.population

    @property
    def kept(self) -> int | None:
        """k: a candidate certain to be worse than k distinct others is stopped early; None if none is."""
        if not self.early_stopping or self.fitness in WITHOUT_BOUND:
            return None
        return {"evolution": self.parents, "random": 1}.get(self.sampler)

    @property
    def metrics(self) -> tuple[Fitness, ...]:
        """What the score of every trial has beside what each has."""
        return tuple(name for name in CLASS_METRICS if name == self.fitness or name in self.optimised)

    @property
    def optimised(self) -> tuple[Objective, ...]:
        """The objectives of the study."""
        return self.objectives if self.sampler == "nsga2" else (self.fitness,)

    @property
    def front(self) -> tuple[Objective, ...]:
        """What the front is of: the objectives, or else parameters, and accuracy or a fitness that is like it."""
        if self.sampler == "nsga2":
            return self.objectives
        return (self.fitness if self.fitness in (*CLASS_METRICS, *OF_NUMBERS) else "accuracy"), "parameters"

    @property
    def costs(self) -> tuple[Cost, ...]:
        """What is counted of every trial's subnet beside the parameters."""
        return tuple(name for name in COSTS if name != "parameters" and name in self.optimised)

    def of_numbers(self) -> Self:
        """The same search of numbers: what is not given of fitness and objectives is what there is of them."""
        found = self.model_copy()
        if "fitness" not in self.model_fields_set:
            found.__dict__["fitness"] = OF_NUMBERS[0]
        if self.sampler == "nsga2" and self.objectives == DEFAULT_OBJECTIVES:
            found.__dict__["objectives"] = OF_NUMBERS_OBJECTIVES
        return found

    def lag(self, *, in_order: bool) -> int | None:
        """The early-stopping lag; None for the batches before. `in_order`: one candidate is evaluated at a time."""
        return IN_ORDER_LAG if self.early_stopping_lag is None and in_order else self.early_stopping_lag

    def for_one_subnet(self) -> Self:
        """The search of a space with one subnet: a single trial, evaluated to the end."""
        alone = {"sampler": "random", "mode": "generational", "batch": 1, "trials": 1, "start": ()}
        return self.replace(**alone, objectives=DEFAULT_OBJECTIVES, early_stopping=False)

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
        if self.objectives != DEFAULT_OBJECTIVES:
            identity["objectives"] = list(self.objectives)
        return identity
