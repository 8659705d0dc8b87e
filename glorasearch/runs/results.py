"""The results of a run's stages: a frozen class for each, which names its stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from glorasearch.runs.stage_result import FrozenModel, StageResult, SubnetField


class TrainedResult(StageResult):
    """The result of a stage that trains."""

    weights: str
    """Digest of the weights in the weight store."""
    steps: int
    seconds: float
    """Wall-clock seconds of the training loop."""
    loss: float | None
    """Mean loss of the last records, nats; None if there were no steps."""
    split: str | None
    """Digest of the training images, also if no step was made; None where a refit keeps the inherited weights."""


class TrainResult(TrainedResult, stage="train"):
    """The supernet, or the one subnet of a fixed method, trained on the training split."""

    key: str
    """Digest of all that the weights depend on."""
    from_run: str | None = None
    """Name of the run whose weights were reused."""
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
    """A trial that no other beats in both accuracy and parameters."""

    trial: int
    parameters: int
    search_accuracy: float


class SearchResult(SearchSummary, StageResult, stage="search"):
    """The winner, scored on the search split with the weights of the supernet."""

    trial: int
    subnet: SubnetField
    digest: str
    """Digest of the subnet."""
    parameters: int
    """Trainable parameters, the head excluded."""
    stored: int
    """Numbers stored in the adapters: the parameters, and directions that are not trained."""
    search_accuracy: float
    search_cross_entropy: float
    images: int
    """Images of the search split."""
    split: str
    """Digest of the search split."""
    pareto: tuple[ParetoPoint, ...]


class RefitResult(TrainedResult, stage="refit"):
    """The winner, trained alone on train + search."""

    start: str
    """The weights it started from: `inherited` or `fresh`."""


class BaselineResult(TrainedResult, stage="baseline"):
    """A fixed method, trained alone on train + search."""

    space: str
    parameters: int


class RandomSubnets(FrozenModel):
    """Random subnets with the supernet's weights, on the test split."""

    count: int
    mean_parameters: float
    mean_test_accuracy: float
    std_test_accuracy: float


class SplitSummary(FrozenModel):
    """The images of one split."""

    images: int
    digest: str
    origin: str
    classes_without_images: int
    in_memory: bool


class DataSummary(FrozenModel):
    """The three splits."""

    source: str
    classes: int
    input: dict[str, Any]
    """What the backbone sees: size, mean, standard deviation, crop."""
    train: SplitSummary
    search: SplitSummary
    test: SplitSummary
    overlap: dict[str, Any]
    """Images that occur in two splits."""


class WinnerTest(FrozenModel):
    """Accuracy of the winner on the test split."""

    test_accuracy: float
    """With the weights of the refit."""
    test_accuracy_inherited: float
    """With the weights of the supernet, before the refit."""


class TestResult(WinnerTest, StageResult, stage="test"):
    """Everything that was measured on the test split."""

    baselines: dict[str, float]
    """Baseline → its test accuracy."""
    random_subnets: RandomSubnets | None
    splits: DataSummary


class ExportSummary(FrozenModel):
    """Path and exactness of the merged model."""

    path: str
    max_abs_diff: float
    """Largest absolute difference between the outputs of the merged and the adapted model."""


class ExportResult(ExportSummary, StageResult, stage="export"):
    """The merged model."""

    digest: str
    """Digest of its weights."""
    bytes: int
    files: tuple[str, ...]
    tested: bool
    """Whether the model card gives the accuracy on the test split."""


class SupernetSummary(FrozenModel):
    """The training of the supernet."""

    steps: int
    seconds: float
    weights: str


class RefitSummary(FrozenModel):
    """The refit."""

    steps: int
    seconds: float
    start: str


class Winner(WinnerTest):
    """The best subnet, and its accuracies."""

    trial: int
    subnet: SubnetField
    digest: str
    parameters: int
    search_accuracy: float


class BaselineSummary(FrozenModel):
    """A baseline, as the report gives it."""

    parameters: int
    test_accuracy: float
    steps: int
    seconds: float
    trained_on: str = "train + search"


class Report(StageResult, stage="report"):
    """The content of `report.json`."""

    run: str
    seed: int
    backbone: str
    task: str
    space: str
    fixed_method: bool
    splits: DataSummary
    supernet: SupernetSummary
    search: SearchSummary
    winner: Winner
    refit: RefitSummary
    baselines: dict[str, BaselineSummary]
    random_subnets: RandomSubnets | None
    export: ExportSummary
    versions: dict[str, str]


Result = TypeVar("Result", bound=StageResult)


class Results:
    """The results of a run's finished stages, parsed when they are accessed."""

    def __init__(self, stages: Mapping[str, Mapping[str, Any]]) -> None:
        """`stages` as in `RunRecord.stages`."""
        self._stages = stages

    def __contains__(self, stage: object) -> bool:
        return stage in self._stages

    def named(self, stage: str) -> StageResult | None:
        """The result of a stage by its name, such as `baseline:lora`; None if it has not finished."""
        content = self._stages.get(stage)
        return None if content is None else StageResult.types[stage.partition(":")[0]].from_json(content)

    def items(self) -> Iterator[tuple[str, StageResult]]:
        """Stage and result, in the order in which they finished."""
        for stage, content in self._stages.items():
            yield stage, StageResult.types[stage.partition(":")[0]].from_json(content)

    def get(self, kind: type[Result], part: str | None = None) -> Result | None:
        """The result of this class; None if the stage has not finished. `part` is the name of a baseline."""
        content = self._stages.get(stage_name(kind, part))
        return None if content is None else kind.from_json(content)

    @property
    def train(self) -> TrainResult | None:
        """Result of the supernet's training."""
        return self.get(TrainResult)

    @property
    def search(self) -> SearchResult | None:
        """Result of the search."""
        return self.get(SearchResult)

    @property
    def refit(self) -> RefitResult | None:
        """Result of the refit."""
        return self.get(RefitResult)

    @property
    def baselines(self) -> dict[str, BaselineResult]:
        """Name → result, for the baselines that have finished."""
        names = [stage.partition(":")[2] for stage in self._stages if stage.startswith(f"{BaselineResult.stage}:")]
        return {name: BaselineResult.from_json(self._stages[stage_name(BaselineResult, name)]) for name in names}

    @property
    def test(self) -> TestResult | None:
        """Result of the test."""
        return self.get(TestResult)

    @property
    def export(self) -> ExportResult | None:
        """Result of the export."""
        return self.get(ExportResult)

    @property
    def report(self) -> Report | None:
        """The final report."""
        return self.get(Report)


def stage_name(kind: type[StageResult], part: str | None = None) -> str:
    """Name of the stage with results of that class."""
    return kind.stage if part is None else f"{kind.stage}:{part}"
