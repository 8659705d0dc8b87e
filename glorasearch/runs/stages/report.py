"""The last stage: the results of all stages in one file."""

from __future__ import annotations

import copy

import torch

from glorasearch.db import TrialStorage
from glorasearch.export import ExportedModel
from glorasearch.export.latency import side_by_side
from glorasearch.runs.files import write_report
from glorasearch.runs.results import (
    BaselineResult,
    BaselineSummary,
    BestSearched,
    ExportResult,
    ExportSummary,
    LatencySummary,
    PilotsSummary,
    RaceSummary,
    RefitResult,
    RefitSummary,
    Report,
    SearchResult,
    SearchSummary,
    SupernetSummary,
    TestResult,
    TrainResult,
    Winner,
)
from glorasearch.runs.session import Session, versions
from glorasearch.runs.stages.export import SEARCH_SCORES
from glorasearch.runs.stages.said import point_of, said
from glorasearch.runs.statements import comparisons
from glorasearch.search.best import origin_of


def report(session: Session) -> Report:
    """Put the results of the stages together and write `report.json`."""
    config, trained, found = session.config, session.require(TrainResult), session.require(SearchResult)
    tested, found_rate = session.require(TestResult), session.stored.results.pilot
    pick, raced = session.pick, session.stored.results.race
    won_search = session.stored.results.search_of_pick is not None
    start, share = _origin(session)
    content = Report(
        run=session.name,
        seed=config.seed,
        backbone=config.backbone.name,
        task=config.data.source,
        space=config.space.name,
        fixed_method=trained.fixed_method,
        splits=tested.splits,
        lr=session.training.lr,
        pilots=None if found_rate is None else PilotsSummary.of(found_rate),
        supernet=SupernetSummary.of(trained),
        search=SearchSummary.of(found),
        best_searched=BestSearched.of(found),
        race=None if raced is None else RaceSummary.of(raced),
        winner=Winner(
            name=pick.name,
            kind=pick.kind,
            trial=found.trial if won_search else None,
            start=start,
            start_share=share,
            subnet=pick.subnet,
            digest=pick.digest,
            parameters=pick.parameters,
            **{name: getattr(found, name) if won_search else None for name in SEARCH_SCORES},
            test_accuracy=tested.test_accuracy,
            test_accuracy_inherited=tested.test_accuracy_inherited,
            test_error=tested.test_error,
            test_error_inherited=tested.test_error_inherited,
        ),
        refit=RefitSummary.of(session.require(RefitResult)),
        baselines={name: _baseline(session, name, tested) for name in session.baselines},
        comparisons=comparisons(session.stored.results),
        chance=found.chance,
        statements=said(session),
        by_class=tested.by_class,
        by_target=tested.by_target,
        files=tested.files,
        metrics=tested.metrics,
        confusion=tested.confusion,
        temperature=tested.temperature,
        random_subnets=tested.random_subnets,
        front=found.pareto,
        point=point_of(session),
        export=ExportSummary.of(session.require(ExportResult)),
        latency=_latency(session),
        versions=versions(),
    )
    write_report(content, session.files.report)
    return content


def _latency(session: Session) -> LatencySummary:
    """Of the exported model beside the backbone, on an image that is drawn: none is read for it.

    A report that is made again keeps what was measured, so that it is the same.
    """
    earlier = session.stored.results.readable(Report)
    if earlier is not None and earlier.latency is not None and earlier.winner.digest == session.pick.digest:
        return earlier.latency
    spec = session.inputs.override(size=session.config.data.size)
    drawn = torch.rand((1, spec.channels, spec.height, spec.width), generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng(devices=[]):
        merged = ExportedModel.load(session.require(ExportResult).path, session.device).model
    return LatencySummary.of(side_by_side(copy.deepcopy(session.backbone), merged, drawn.to(session.device)))


def _origin(session: Session) -> tuple[str | None, float | None]:
    """The start of the search that the winner is or descends from, and how much of it; None and None if neither."""
    pick, found = session.pick, session.require(SearchResult)
    if session.stored.searched is not None:
        return found.start, found.start_share
    if not pick.own_space or session.only_subnet is not None:
        return None, None
    for name, subnet in session.starts.items():
        if subnet.digest == pick.digest:
            return name, 1.0
    storage = TrialStorage(session.stored.workspace.database)
    return origin_of(storage, session.name, session.bound_space, pick.subnet, session.starts)


def _baseline(session: Session, name: str, tested: TestResult) -> BaselineSummary:
    trained = session.require(BaselineResult, name)
    metrics = tested.baselines_metrics.get(name, {})
    errors = tested.baselines_errors.get(name)
    return BaselineSummary.of(
        trained,
        test_accuracy=tested.baselines.get(name),
        test_error=None if errors is None else errors.mean,
        metrics=metrics,
    )
