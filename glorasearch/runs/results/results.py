"""The results of a run's finished stages, parsed when they are accessed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from glorasearch.errors import DamagedRowError
from glorasearch.race import OWN_SPACE
from glorasearch.runs.results.pilot import PilotResult
from glorasearch.runs.results.race import Pick, RaceResult
from glorasearch.runs.results.report import ExportResult, FormatResult, Report
from glorasearch.runs.results.test import TemperatureFound, TestResult
from glorasearch.runs.results.training import BaselineResult, RefitResult, SearchResult, TrainResult
from glorasearch.runs.stage_result import StageResult

Result = TypeVar("Result", bound=StageResult)


class Results:
    """The results of a run's finished stages, parsed when they are accessed."""

    def __init__(self, stages: Mapping[str, Mapping[str, Any]], run: str = "") -> None:
        """`stages` as in `RunRecord.stages`; `run` is the run's name, for messages.

        Every access raises `DamagedRowError` where a recorded result is not one of its stage.
        """
        self._stages, self._run = stages, run

    def __contains__(self, stage: object) -> bool:
        return stage in self._stages

    def named(self, stage: str) -> StageResult | None:
        """The result of a stage by its name, such as `baseline:lora`; None if it has not finished."""
        kind = StageResult.types.get(stage.partition(":")[0])
        if kind is None and stage in self._stages:
            raise DamagedRowError(self._damaged(stage, f"known are {', '.join(StageResult.types)}"))
        return None if kind is None else self._parse(kind, stage)

    def items(self) -> Iterator[tuple[str, StageResult]]:
        """Stage and result, in the order in which they finished."""
        for stage in self._stages:
            result = self.named(stage)
            assert result is not None
            yield stage, result

    def get(self, kind: type[Result], part: str | None = None) -> Result | None:
        """The result of this class; None if the stage has not finished. `part` is the name of a baseline."""
        return self._parse(kind, stage_name(kind, part))

    def readable(self, kind: type[Result]) -> Result | None:
        """As `get`; None, too, if the result cannot be read: for those who look for something to reuse."""
        try:
            return self.get(kind)
        except DamagedRowError:
            return None

    def _parse(self, kind: type[Result], stage: str) -> Result | None:
        content = self._stages.get(stage)
        if content is None:
            return None
        try:
            return kind.from_json(content)
        except (ValidationError, ValueError, TypeError, AttributeError) as error:
            raise DamagedRowError(self._damaged(stage, " ".join(str(error).split())[:300])) from error

    def _damaged(self, stage: str, reason: str) -> str:
        return (
            f"the result of stage {stage!r} of run {self._run!r} in the database (table glorasearch_stages) is damaged "
            f"or was written by another version: {reason}. Start the run over with --fresh, or put back a copy of the "
            "database"
        )

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
    def temperature(self) -> TemperatureFound | None:
        """The temperature of what is exported, by images that were held out of a training; None if nothing tells.

        A refit makes a model surer. So one that was found before it counts if it makes outputs less sure; the refit
        would go beyond one that makes them surer. A model that was taught has learnt softened answers: what fits plain
        trainings would soften them twice.
        """
        race, found, refit = self.race, self.search_of_pick, self.refit
        if refit is not None and refit.taught:
            return None
        if refit is not None and refit.steps and refit.judged is not None and refit.judged.temperature is not None:
            return TemperatureFound(value=refit.judged.temperature, images="out of fold")
        before: TemperatureFound | None = None
        if race is not None and race.winner.last.beta is not None:
            before = TemperatureFound(value=1 / race.winner.last.beta, images="out of fold")
        elif race is None and found is not None and found.search_temperature is not None:
            before = TemperatureFound(value=found.search_temperature, images="search split")
        kept = refit is not None and not refit.steps
        return before if before is not None and (before.value > 1 or kept) else None

    @property
    def refit(self) -> RefitResult | None:
        """Result of the refit."""
        return self.get(RefitResult)

    @property
    def baselines(self) -> dict[str, BaselineResult]:
        """Name → result, for the baselines that have finished."""
        return self._parts(BaselineResult)

    @property
    def formats(self) -> dict[str, FormatResult]:
        """Name → result, for the formats beside timm's in which the winner was exported."""
        return self._parts(FormatResult)

    def _parts(self, kind: type[Result]) -> dict[str, Result]:
        names = [stage.partition(":")[2] for stage in self._stages if stage.startswith(f"{kind.stage}:")]
        return {name: result for name in names if (result := self.get(kind, name)) is not None}

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
