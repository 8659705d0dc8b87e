"""The winner of a finished run in other formats than timm's, each in a folder beside the export."""

from __future__ import annotations

import time
from collections.abc import Sequence

from glorasearch.errors import ExportError, InputError
from glorasearch.export.adapted import AdaptedModel
from glorasearch.export.folder import check_place
from glorasearch.export.formats import FORMATS, Options, export_format
from glorasearch.runs.files import check_writable, format_folder
from glorasearch.runs.results import FormatResult, RefitResult
from glorasearch.runs.session import Session
from glorasearch.runs.stages.export import metrics, provenance, refitted, source_of
from glorasearch.runs.stages.said import said


def adapted_model(session: Session) -> AdaptedModel:
    """The refitted winner of a run, from the weights in its store.

    Raises:
        InputError: if the refit has not finished.
        WeightStoreError: if the weights are gone or damaged.
    """
    pick, config = session.pick, session.config
    supernet = refitted(session)
    return AdaptedModel.of(
        supernet,
        pick.subnet,
        session.backbone,
        session.data,
        source=source_of(config.backbone),
        metrics=metrics(session, pick, session.stored.results.test),
        statements=said(session),
        provenance=provenance(session, pick, supernet),
        tolerance=config.export.tolerance,
    )


def export_formats(session: Session, formats: Sequence[str], options: Options) -> list[FormatResult]:
    """Write a run's winner in each of these formats, all of which are checked before the first is written.

    Raises:
        InputError: if something else is where a folder is to go, or the winner has no such form.
        ExportError: if what was written does not compute what the winner does.
        RunLockedError: if another live process works on this run.
    """
    for format in formats:
        place = format_folder(session.files.export, format)
        try:
            check_place(place, format)
        except ExportError as error:
            raise InputError(str(error)) from error
        check_writable(place, f"export --format {format}")
    adapted = adapted_model(session)
    for format in formats:
        FORMATS[format].check(adapted, options)
    with session.runs.lock(session.name) as lease, session.progress.task("export", len(formats)) as advance:
        done: list[FormatResult] = []
        for number, format in enumerate(formats, 1):
            lease.check()
            done.append(_export(session, adapted, format, options))
            advance(number, format)
    return done


def _export(session: Session, adapted: AdaptedModel, format: str, options: Options) -> FormatResult:
    place, began = format_folder(session.files.export, format), time.perf_counter()
    written = export_format(adapted, format, place, options)
    result = FormatResult(
        format=format,
        path=str(written.path),
        max_abs_diff=written.max_abs_diff,
        bytes=written.bytes,
        files=tuple(written.sha256),
        sha256=dict(written.sha256),
        of_weights=session.require(RefitResult).weights,
        seconds=time.perf_counter() - began,
        notes=tuple(written.facts.get("notes", ())),
    )
    session.stored.save(f"{FormatResult.stage}:{format}", result)
    return result
