"""The results of a run's stages: a frozen class for each, which names its stage."""

from glorasearch.runs.results.comparison import Correct, SearchChance, Verdict, WinnerComparison
from glorasearch.runs.results.pilot import Pilot, PilotResult, PilotsSummary, PilotSummary
from glorasearch.runs.results.race import Pick, RaceCandidate, RaceResult, RaceRow, RaceSummary, RungScore, TakenOver
from glorasearch.runs.results.report import (
    BaselineSummary,
    BestSearched,
    ExportResult,
    ExportSummary,
    PointSummary,
    RefitSummary,
    Report,
    SupernetSummary,
    Winner,
)
from glorasearch.runs.results.results import Result, Results, stage_name
from glorasearch.runs.results.test import ClassTest, DataSummary, RandomSubnets, SplitSummary, TestResult, WinnerTest
from glorasearch.runs.results.training import (
    BaselineResult,
    ParetoPoint,
    RefitJudgement,
    RefitResult,
    SearchResult,
    SearchSummary,
    TeacherSummary,
    TrainedResult,
    TrainResult,
)

__all__ = [
    "BaselineResult",
    "BaselineSummary",
    "BestSearched",
    "ClassTest",
    "Correct",
    "DataSummary",
    "ExportResult",
    "ExportSummary",
    "ParetoPoint",
    "Pick",
    "Pilot",
    "PilotResult",
    "PilotSummary",
    "PilotsSummary",
    "PointSummary",
    "RaceCandidate",
    "RaceResult",
    "RaceRow",
    "RaceSummary",
    "RandomSubnets",
    "RefitJudgement",
    "RefitResult",
    "RefitSummary",
    "Report",
    "Result",
    "Results",
    "RungScore",
    "SearchChance",
    "SearchResult",
    "SearchSummary",
    "SplitSummary",
    "SupernetSummary",
    "TakenOver",
    "TeacherSummary",
    "TestResult",
    "TrainResult",
    "TrainedResult",
    "Verdict",
    "Winner",
    "WinnerComparison",
    "WinnerTest",
    "stage_name",
]
