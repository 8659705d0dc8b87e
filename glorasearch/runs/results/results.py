"""The results of a run's finished stages, parsed when they are accessed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from glorasearch.race import OWN_SPACE
from glorasearch.runs.results.pilot import PilotResult
from glorasearch.runs.results.race import Pick, RaceResult
from glorasearch.runs.results.report import ExportResult, Report
from glorasearch.runs.results.test import TestResult
from glorasearch.runs.results.training import BaselineResult, RefitResult, SearchResult, TrainResult
from glorasearch.runs.stage_result import StageResult

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
    def pilot(self) -> PilotResult | None:
        """The rate that the pilots found."""
        return self.get(PilotResult)

    @property
    def train(self) -> TrainResult | None:
        """Result of the supernet's training."""
        return self.get(TrainResult)

    @property
    def search(self) -> SearchResult | None:
        """Result of the search."""
        return self.get(SearchResult)

    @property
    def race(self) -> RaceResult | None:
        """Result of the race."""
        return self.get(RaceResult)

    @property
    def pick(self) -> Pick | None:
        """What is refitted and exported: the winner of the race, or of the search where there is none (yet)."""
        race, search = self.race, self.search
        if race is not None:
            return race.pick
        if search is None:
            return None
        return Pick.of(
            search, name=f"trial {search.trial}", kind="searched", space_key=OWN_SPACE, rate=None, start=None
        )

    @property
    def search_of_pick(self) -> SearchResult | None:
        """Result of the search if what it found is the pick; else its scores are those of another model."""
        search, pick = self.search, self.pick
        if search is None or pick is None or not pick.own_space or pick.digest != search.digest:
            return None
        return search

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
