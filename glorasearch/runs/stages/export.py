"""The stage that writes the merged model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from glorasearch.export import BackboneFacts, export_timm
from glorasearch.runs.records import check_export_path, export_path
from glorasearch.runs.run import Run
from glorasearch.space import Subnet

REAL_INPUTS = 64
"""Images of the search split on which merged and active outputs are compared."""


def export(run: Run) -> dict[str, Any]:
    """Export the refitted winner; returns `path`, `max_abs_diff`, `digest`, `bytes`, `files`, `tested`.

    `tested` says whether the model card gives the result on the test split. An earlier export is replaced.

    Raises:
        InputError: if something else is where the export is to go.
    """
    search, refitted = run.require("search"), run.require("refit")
    path = export_path(run.config, run.workspace)
    check_export_path(path)
    winner = Subnet.from_dict(search["subnet"])
    supernet = run.load(run.supernet(), run.weights("refit")).eval()
    images, _ = run.data.search.batch(slice(0, min(REAL_INPUTS, len(run.data.search))), run.device)

    @torch.no_grad()
    def active(inputs: Tensor) -> Tensor:
        with supernet.activate(winner):
            outputs: Tensor = supernet(inputs)
        return outputs

    spec = run.data.search.spec
    with run.progress.task("export", 1) as advance:
        report = export_timm(
            supernet.merged(winner),
            path,
            backbone=BackboneFacts.from_model(
                run.backbone,
                mean=spec.mean,
                std=spec.std,
                interpolation=spec.interpolation,
                crop_pct=spec.crop_pct,
                crop_mode=spec.crop_mode,
            ),
            inputs=images,
            reference=active,
            subnet=winner,
            metrics=_metrics(run, search),
            provenance=_provenance(run, search, refitted),
            class_names=run.data.class_names,
            tolerance=run.config.export.tolerance,
            replace=True,
        )
        advance(1, "")
    run.runs.record_export(
        run.name,
        str(report.path),
        {"digest": report.digest, "max_abs_diff": report.max_abs_diff, "bytes": report.bytes},
    )
    return {
        "path": str(report.path),
        "max_abs_diff": report.max_abs_diff,
        "digest": report.digest,
        "bytes": report.bytes,
        "files": list(report.files),
        "tested": run.result("test") is not None,
    }


def _metrics(run: Run, search: Mapping[str, Any]) -> dict[str, Any]:
    """Scores of the winner; those of the test split if it was read already."""
    metrics = {
        "parameters": search["parameters"],
        "search_accuracy": search["search_accuracy"],
        "search_cross_entropy": search["search_cross_entropy"],
    }
    tested = run.result("test")
    if tested is not None:
        metrics |= {"test_accuracy": tested["winner_refitted"], "test_accuracy_inherited": tested["winner"]}
    return metrics


def _provenance(run: Run, search: Mapping[str, Any], refitted: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "run": run.name,
        "backbone": run.config.backbone.name,
        "data": run.config.data.source,
        "space": run.config.space.name,
        "seed": run.config.seed,
        "trial": search["trial"],
        "weights": refitted["weights"],
        "refit_steps": refitted["steps"],
        "configuration_sha256": run.config.digest(),
        "versions": run.versions(),
    }
