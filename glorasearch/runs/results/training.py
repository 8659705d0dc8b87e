"""Results of the stages that train and search."""

from __future__ import annotations

from pydantic import Field

from glorasearch.runs.results.comparison import SearchChance
from glorasearch.runs.stage_result import FrozenModel, StageResult, SubnetField


class TrainedResult(StageResult):
    """The result of a stage that trains."""

    weights: str
    """Digest of the weights in the weight store."""
    steps: int
    seconds: float
    """Wall-clock seconds of the training loop."""
    loss: float | None
    """Mean loss of the last records, nats, or squared deviations; None if there were no steps."""
    split: str | None
    """Digest of the training images, also if no step was made; None where a refit keeps the inherited weights."""
    kept_step: int | None = None
    """Steps after which the weights were the best, which are kept; None without `train.patience`."""


class TrainResult(TrainedResult, stage="train"):
    """The supernet, or the one subnet of a fixed method, trained on the training split."""

    key: str
    """Digest of all that the weights depend on."""
    from_run: str | None = None
    """Name of the run whose weights were reused."""
    continues: str | None = None
    """Name of the run whose weights the training began with."""
    steps_before: int = 0
    """Steps that had led to them."""
    fixed_method: bool
    """Whether the search space has one subnet, so that there is nothing to search."""


class SearchSummary(FrozenModel):
    """The number of trials of a search, and their cost."""

    sampler: str
    """`none` where the space has one subnet."""
    fitness: str
    trials: int
    """Finished trials: evaluated, reused and failed."""
    evaluated: int
    reused: int
    stopped_early: int
    images_share: float
    """Images that were scored, as a share of those without early stopping."""
    failed: int
    seconds: float
    evaluation_seconds: float


class ParetoPoint(FrozenModel):
    """A trial that no other one beats in all that the front is of: fitness and parameters."""

    trial: int
    parameters: int
    search_accuracy: float | None
    objectives: dict[str, float] = Field(default_factory=dict)
    """By name, what the front is of, where that is not accuracy and parameters."""


class SearchResult(SearchSummary, StageResult, stage="search"):
    """The winner, scored on the search split with the weights of the supernet."""

    trial: int
    start: str | None
    """What the search started from and the winner is, or descends from; of several that it shares most genes with."""
    start_share: float | None
    """The share of its genes that are the same there: 1 if it is that itself."""
    subnet: SubnetField
    digest: str
    """Digest of the subnet."""
    parameters: int
    """Trainable parameters, the head excluded."""
    stored: int
    """Numbers stored in the adapters: the parameters, and directions that are not trained."""
    search_accuracy: float | None
    """None of numbers, which are neither right nor wrong; so are the next three. Their `search_fitness` says how good
    they are."""
    search_cross_entropy: float | None
    """Mean over the images, nats."""
    search_tempered: float | None
    """The same at the best temperature of the grid (`glorasearch.space.score`)."""
    search_temperature: float | None
    """That temperature: above 1 if the logits are too sure of themselves."""
    search_fitness: float | None = None
    """What the search optimised, `fitness`."""
    images: int
    """Images of the search split."""
    split: str
    """Digest of the search split."""
    pareto: tuple[ParetoPoint, ...]
    chance: SearchChance | None
    """The winner against the best of as many random subnets; None for a fixed method."""
    trials_digest: str | None = None
    """Of the finished trials in the database, for `glorasearch verify`."""


class TeacherSummary(FrozenModel):
    """The models that taught the winner, and their cost."""

    count: int
    names: tuple[str, ...]
    """Candidates of the race that they are trainings of."""
    steps: int
    """Of all of them together."""
    seconds: float
    mixed: int
    """Mixed pairs of images that they were asked about."""
    own_accuracy: float | None = None
    """Share of its own training images that the taught winner classifies correctly; None of numbers."""
    own_error: float | None = None
    """Of numbers: its mean squared error there."""
    discarded: bool = False
    """Whether that is worse than what it had out of fold, so that the winner was trained on the labels instead. Steps
    and seconds are those of the one that was taught, too, then."""


class RefitJudgement(FrozenModel):
    """The refit against the inherited weights, on images of the search split that neither was trained on."""

    folds: int
    images: int
    correct: int
    """Images that the refit classifies correctly, each by the training without its fold."""
    correct_inherited: int
    """Those that the inherited weights classify correctly."""
    steps: int
    """Of the trainings of all folds."""
    seconds: float
    temperature: float | None = None
    """What fits the refit's logits there; None of numbers, and in results of earlier versions."""
    error: float | None = None
    """Of numbers, of which none is correct: the refit's mean squared error there."""
    error_inherited: float | None = None
    """Likewise, of the inherited weights."""

    @property
    def worse(self) -> bool:
        """Whether the inherited weights know more of them, and so are kept."""
        if self.error is not None and self.error_inherited is not None:
            return self.error > self.error_inherited
        return self.correct < self.correct_inherited

    @property
    def sentence(self) -> str:
        """What it says."""
        after, before = (f"{100 * count / self.images:.1f} %" for count in (self.correct, self.correct_inherited))
        found = f"is right on {after}, the inherited weights on {before}"
        if self.error is not None:
            found = f"has a mean squared error of {self.error:.3f}, the inherited weights of {self.error_inherited:.3f}"
        text = (
            f"Judged out of fold, on the {self.images} images of the search split in {self.folds} folds, the refit "
            f"{found}"
        )
        return f"{text}: it is worse, so the inherited weights are exported." if self.worse else f"{text}."


class RefitResult(TrainedResult, stage="refit"):
    """The winner, trained alone on train + search."""

    start: str
    """The weights it started from: `inherited` or `fresh`."""
    lr: float | None
    """Peak learning rate of the low-rank factors, its method's recipe included; None if no step was made."""
    teachers: TeacherSummary | None = None
    """What it was taught by; None if nothing was to teach it."""
    judged: RefitJudgement | None = None
    """How it did out of fold; None if that was not asked for."""

    @property
    def taught(self) -> bool:
        """Whether it learnt from teachers in the end."""
        return self.teachers is not None and not self.teachers.discarded


class BaselineResult(TrainedResult, stage="baseline"):
    """A fixed method, trained alone on train + search."""

    space: str
    parameters: int
    lr: float
    """Peak learning rate of the low-rank factors, as a race calls it: before the factors of the method's recipe."""
