"""The stage that writes the merged model."""

from __future__ import annotations

from typing import Any

from glorasearch.export import export_subnet
from glorasearch.runs.results import ExportResult, RefitResult, SearchResult, TestResult
from glorasearch.runs.session import Session, versions
from glorasearch.runs.stages.said import said


def export(session: Session) -> ExportResult:
    """Export the refitted winner; an earlier export is replaced.

    Raises:
        InputError: if something else is where the export is to go.
    """
    found, tested = session.require(SearchResult), session.stored.results.test
    session.files.check_export()
    supernet = session.load(session.supernet(), RefitResult)
    with session.progress.task("export", 1) as advance:
        report = export_subnet(
            supernet,
            found.subnet,
            session.files.export,
            session.data,
            metrics=_metrics(found, tested),
            statements=said(session),
            provenance=_provenance(session, found),
            tolerance=session.config.export.tolerance,
            replace=True,
        )
        advance(1, "")
    return ExportResult.of(report, path=str(report.path), tested=tested is not None)


def _metrics(found: SearchResult, tested: TestResult | None) -> dict[str, Any]:
    """Scores of the winner, on the test split too if it has been tested."""
    names = ("parameters", "search_accuracy", "search_cross_entropy", "search_tempered", "search_temperature")
    metrics = {name: getattr(found, name) for name in names}
    if tested is not None:
        metrics |= {name: getattr(tested, name) for name in ("test_accuracy", "test_accuracy_inherited")}
    return metrics


def _provenance(session: Session, found: SearchResult) -> dict[str, Any]:
    config, refitted = session.config, session.require(RefitResult)
    return {
        "run": session.name,
        "backbone": config.backbone.name,
        "data": config.data.source,
        "space": config.space.name,
        "seed": config.seed,
        "trial": found.trial,
        "weights": refitted.weights,
        "refit_steps": refitted.steps,
        "configuration_sha256": session.stored.digest,
        "versions": versions(),
    }
