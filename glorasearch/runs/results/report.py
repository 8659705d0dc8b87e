"""The export, and the content of `report.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pydantic import Field

from glorasearch.race import Kind
from glorasearch.runs.results.comparison import SearchChance, WinnerComparison
from glorasearch.runs.results.pilot import PilotsSummary
from glorasearch.runs.results.race import RaceSummary
from glorasearch.runs.results.test import (
    ClassTest,
    Confusion,
    DataSummary,
    MetricTest,
    RandomSubnets,
    TargetTest,
    TemperatureFound,
    WinnerTest,
)
from glorasearch.runs.results.training import ParetoPoint, RefitJudgement, SearchSummary, TeacherSummary
from glorasearch.runs.stage_result import FrozenModel, StageResult, SubnetField
from glorasearch.space import fitness_name


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
    sha256: Mapping[str, str] = Field(default_factory=dict)
    """File → its SHA-256 when it was written; earlier versions recorded none."""
    tested: bool
    """Whether the model card gives the accuracy on the test split."""


class FormatResult(StageResult, stage="format"):
    """The merged model, or what makes it of its backbone, in another format than timm's."""

    format: str
    path: str
    max_abs_diff: float
    """Largest absolute difference between its outputs, once loaded, and those of the adapted model."""
    bytes: int
    files: tuple[str, ...]
    sha256: Mapping[str, str]
    """File → its SHA-256 when it was written."""
    of_weights: str
    """Digest of the weights of the refit that it was made of."""
    seconds: float | None = None
    """What writing and checking it took; earlier versions recorded none."""
    notes: tuple[str, ...] = ()
    """What its user has to know."""


class LatencySummary(FrozenModel):
    """What a forward pass of the merged model takes beside the original backbone, measured in turns."""

    original: float
    """Median, ms."""
    merged: float
    """Median, ms."""
    ratio: float
    """Median over the pairs of merged / original."""
    interval: tuple[float, float]
    """95 % interval of that median."""
    pairs: int
    images: int
    """Of a forward pass."""
    device: str
    threads: int

    @property
    def sentence(self) -> str:
        """What merging costs at inference: nothing."""
        threads = "" if self.device != "cpu" else f", {self.threads} thread{'s' * (self.threads != 1)}"
        low, high = self.interval
        return (
            f"latency of an image on {self.device}{threads}: merged {self.merged:.3g} ms, the original backbone "
            f"{self.original:.3g} ms; {self.ratio:.2f} times as long (95 % interval {low:.2f} to {high:.2f}, "
            f"{self.pairs} pairs in turns)"
        )


class SupernetSummary(FrozenModel):
    """The training of the supernet."""

    steps: int
    kept_step: int | None = None
    """Steps after which its weights were kept; None without `train.patience`."""
    seconds: float
    weights: str


class RefitSummary(FrozenModel):
    """The refit."""

    steps: int
    kept_step: int | None = None
    """As of the supernet."""
    seconds: float
    start: str
    lr: float | None
    teachers: TeacherSummary | None
    judged: RefitJudgement | None = None

    @property
    def taught(self) -> bool:
        """Whether the winner learnt from teachers in the end."""
        return self.teachers is not None and not self.teachers.discarded


class Winner(WinnerTest):
    """What is exported, and its accuracies."""

    name: str
    """Such as `trial 17`, or `lora_r8` if a fixed method won the race."""
    kind: Kind
    """`method`, `named` or `searched`."""
    trial: int | None
    """Its trial; None if the search did not find it."""
    start: str | None
    """What the search started from and it is, or descends from, such as `lora:8 everywhere`."""
    start_share: float | None
    """The share of its genes that are the same there: 1 if it is that itself."""
    subnet: SubnetField
    digest: str
    parameters: int
    search_accuracy: float | None
    """With inherited weights, on the search split; None unless it won the search, too. So are the others."""
    search_cross_entropy: float | None
    search_tempered: float | None
    search_temperature: float | None


class BestSearched(FrozenModel):
    """The winner of the search, scored on the search split with inherited weights."""

    trial: int
    start: str | None
    """What the search started from and it is, or descends from, such as `lora:8 everywhere`."""
    start_share: float | None
    """The share of its genes that are the same there: 1 if it is that itself."""
    digest: str
    parameters: int
    search_accuracy: float | None
    """None of numbers, as are the next three."""
    search_cross_entropy: float | None
    search_tempered: float | None
    search_temperature: float | None
    search_fitness: float | None = None
    """What the search optimised."""


class PointSummary(FrozenModel):
    """The trial of another run's search that a run refits and exports."""

    run: str
    """The run that searched."""
    trial: int
    winner: int
    """The trial that won that search."""
    rank: int | None
    """Its place among the subnets that were evaluated to the end; None if its own evaluation was stopped early."""
    ranked: int
    """Those subnets."""
    fitness: str
    """What they are ranked by."""

    def statements(self) -> tuple[str, ...]:
        """What it means, in sentences."""
        place = (
            "stopped early there, and evaluated to the end here"
            if self.rank is None
            else f"{self.rank} of {self.ranked} subnets by {fitness_name(self.fitness)}"
        )
        return (
            f"What is exported is trial {self.trial} of the search of run {self.run!r} ({place}; its winner is trial "
            f"{self.winner}); supernet and search are that run's.",
            f"The test images are those of run {self.run!r}: whoever chooses among its points by their test accuracy "
            "chooses by the test split, and has none left.",
        )


class BaselineSummary(FrozenModel):
    """A baseline, as the report gives it."""

    space: str
    parameters: int
    lr: float
    test_accuracy: float | None
    """None of numbers, which have an error."""
    test_error: float | None = None
    steps: int
    seconds: float
    trained_on: str = "train + search"
    metrics: dict[str, MetricTest] = Field(default_factory=dict)
    """On the test images, without intervals."""


class Report(StageResult, stage="report"):
    """The content of `report.json`."""

    run: str
    seed: int
    backbone: str
    task: str
    space: str
    fixed_method: bool
    splits: DataSummary
    lr: float
    """Learning rate of the trainings."""
    pilots: PilotsSummary | None
    """How it was found; None if the run file gives it."""
    supernet: SupernetSummary
    search: SearchSummary
    best_searched: BestSearched
    race: RaceSummary | None
    winner: Winner
    refit: RefitSummary
    baselines: dict[str, BaselineSummary]
    comparisons: tuple[WinnerComparison, ...]
    """The winner against every baseline; the best fixed method of the race first."""
    by_class: tuple[ClassTest, ...] = ()
    """The winner on the test images of each class, in the order of the outputs."""
    by_target: tuple[TargetTest, ...] = ()
    """Of numbers: the winner on each target, in the order of the outputs."""
    metrics: dict[str, MetricTest] = Field(default_factory=dict)
    """The winner's on the test images."""
    confusion: tuple[Confusion, ...] = ()
    """The winner's: test images of every label and prediction that occur together."""
    temperature: TemperatureFound | None = None
    """What the winner's logits are divided by for probabilities that fit; None if nothing tells."""
    random_subnets: RandomSubnets | None
    files: dict[str, str] = Field(default_factory=dict)
    """Table beside the report → its SHA-256: predictions of the test images, files of the splits."""
    chance: SearchChance | None
    """The search's winner against the best of as many random subnets."""
    statements: tuple[str, ...]
    """What the numbers allow to say, a sentence each."""
    front: tuple[ParetoPoint, ...] = ()
    """The trials of the search that no other beats in both accuracy on the search split and parameters, the smallest
    first; without those that were stopped early."""
    point: PointSummary | None = None
    """Where it comes from, if the winner is a trial of another run's search."""
    export: ExportSummary
    latency: LatencySummary | None = None
    """Of an image, merged beside the original backbone; None in reports of earlier versions."""
    versions: dict[str, str]

    def confusion_matrix(self) -> list[list[int]]:
        """Test images of each label, a row, that the winner takes for each class, a column."""
        matrix = [[0] * self.splits.classes for _ in range(self.splits.classes)]
        for pair in self.confusion:
            matrix[pair.label][pair.prediction] = pair.images
        return matrix

    def encode(self) -> bytes:
        """The content of `report.json`."""
        content = self.to_json()
        if self.latency is None:  # as an earlier version wrote it
            del content["latency"]
        return (json.dumps(content, indent=2) + "\n").encode()
