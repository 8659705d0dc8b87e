"""The stage that writes the merged model."""

from __future__ import annotations

from typing import Any, Final

from glorasearch.backbone import BackboneConfig
from glorasearch.bounded import user_path
from glorasearch.export import export_subnet
from glorasearch.export.units import to_units
from glorasearch.runs.paths import public_name, space_label
from glorasearch.runs.results import ExportResult, Pick, RefitResult, TestResult
from glorasearch.runs.session import Session, versions
from glorasearch.runs.stages.said import said
from glorasearch.supernet import Supernet
from glorasearch.weights import frozen_digest

SEARCH_SCORES: Final = ("search_accuracy", "search_cross_entropy", "search_tempered", "search_temperature")
_BUILT_BY: Final = {"pretrained", "args", "allow_missing"}
DIGITS: Final = 4
"""Of metrics: an export is the same where they differ by rounding."""


def export(session: Session) -> ExportResult:
    """Export the refitted winner; an earlier export is replaced.

    Raises:
        InputError: if something else is where the export is to go.
    """
    pick, tested = session.pick, session.stored.results.test
    session.stored.check_export()
    supernet = session.load(session.supernet(session.space_of(pick.space_key)), RefitResult)
    with session.progress.task("export", 1) as advance:
        report = export_subnet(
            supernet,
            pick.subnet,
            session.files.export,
            session.data,
            metrics=metrics(session, pick, tested),
            statements=said(session),
            provenance=provenance(session, pick, supernet),
            source=source_of(session.config.backbone),
            tolerance=session.config.export.tolerance,
            replace=True,
        )
        advance(1, "")
    return ExportResult.of(report, path=str(report.path), tested=tested is not None)


def refitted(session: Session) -> Supernet:
    """A supernet with the weights of the refit, that answers in the units of the targets where these are numbers.

    Raises:
        InputError: if the refit has not finished.
        WeightStoreError: if the weights are gone or damaged.
    """
    supernet = session.load(session.supernet(session.space_of(session.pick.space_key)), RefitResult)
    to_units(supernet.model, session.data.search.task)
    return supernet


def metrics(session: Session, pick: Pick, tested: TestResult | None) -> dict[str, Any]:
    """Scores of the pick, on the test split too if it has been tested."""
    results = session.stored.results
    found, race, temperature = results.search_of_pick, results.race, results.temperature
    values: dict[str, Any] = {"parameters": pick.parameters}
    own = ["test_accuracy"]
    if found is not None:
        scores = {name: getattr(found, name) for name in SEARCH_SCORES}
        values |= {name: value for name, value in scores.items() if value is not None}
        if found.search_accuracy is None:
            values[f"search_{found.fitness}"] = found.search_fitness
        own.append("test_accuracy_inherited")
    if race is not None:
        score = race.winner.last
        scores = {f"out_of_fold_{race.judge}": score.judged, "out_of_fold_accuracy": score.accuracy}
        values |= {name: value for name, value in scores.items() if value is not None}
        values["out_of_fold_folds"] = score.folds
    if temperature is not None:
        values["temperature"] = temperature.value
    if tested is not None:
        values |= {name: value for name in own if (value := getattr(tested, name)) is not None}
        values |= {} if tested.test_error is None else {"test_squared_error": tested.test_error}
        measured = {name: one.value for name, one in tested.metrics.items() if name != "top1"}
        values |= {f"test_{name}": round(value, DIGITS) for name, value in measured.items() if value is not None}
        values |= _by_output(tested)
    return values


def _by_output(tested: TestResult) -> dict[str, Any]:
    """What is known of each target, in its own unit, or of each label; nothing of classes."""
    if tested.by_target:
        return {"test_by_target": {one.name: _digits(one.model_dump(exclude={"name"})) for one in tested.by_target}}
    if tested.splits.task != "multilabel":
        return {}
    known = {"average_precision", "auc"}
    return {"test_by_label": {one.name: _digits(one.model_dump(include=known)) for one in tested.by_class}}


def _digits(values: dict[str, float | None]) -> dict[str, float]:
    return {name: float(f"{value:.{DIGITS}g}") for name, value in values.items() if value is not None}


def source_of(backbone: BackboneConfig) -> dict[str, Any]:
    """How a backbone is built, as others may read it."""
    checkpoint = {} if backbone.checkpoint is None else {"checkpoint": user_path(backbone.checkpoint).name}
    own = backbone.model_dump(include=_BUILT_BY, exclude_defaults=True)
    return {"name": public_name(backbone.name), **own, **checkpoint}


def provenance(session: Session, pick: Pick, supernet: Supernet) -> dict[str, Any]:
    """Where the model comes from, in names and digests: it may be read on other machines."""
    config, data, refitted = session.config, session.data, session.require(RefitResult)
    found, point = session.stored.results.test, config.point
    tested = {} if found is None else {"test": found.splits.test.digest}
    race = session.stored.results.race
    teachers = refitted.teachers if refitted.taught else None
    taught = {} if teachers is None else {"teachers": ", ".join(teachers.names)}
    return {
        "run": session.name,
        "backbone": public_name(config.backbone.name),
        "backbone_sha256": frozen_digest(supernet),
        "data": public_name(config.data.source),
        "data_sha256": {"train": data.train.digest, "search": data.search.digest} | tested,
        "space": space_label(config.space.name),
        "space_sha256": supernet.space.digest,
        "seed": config.seed,
        "winner": pick.label,
        **({} if point.run is None else {"point": {"run": point.run, "trial": point.trial}}),
        **({} if race is None else {"race": race.verdict()}),
        "weights": refitted.weights,
        "refit_steps": refitted.steps,
        **taught,
        "configuration_sha256": session.stored.digest,
        "versions": versions(),
    }
