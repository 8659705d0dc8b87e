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


def export(job: Run) -> dict[str, Any]:
    """Export the refitted winner; returns `path`, `max_abs_diff`, `digest`, `bytes`, `files`, `tested`.

    `tested` says whether the model card gives the result on the test split. An earlier export is replaced.

    Raises:
        InputError: if something else is where the export is to go.
    """
    search, refitted = job.require("search"), job.require("refit")
    path = export_path(job.run_file, job.workspace)
    check_export_path(path)
    winner = Subnet.from_dict(search["subnet"])
    supernet = job.load(job.supernet(), job.weights("refit")).eval()
    images, _ = job.data.search.batch(slice(0, min(REAL_INPUTS, len(job.data.search))), job.device)

    @torch.no_grad()
    def active(inputs: Tensor) -> Tensor:
        with supernet.activate(winner):
            outputs: Tensor = supernet(inputs)
        return outputs

    spec = job.data.search.spec
    with job.progress.task("export", 1) as advance:
        report = export_timm(
            supernet.merged(winner),
            path,
            backbone=BackboneFacts.from_model(
                job.backbone,
                mean=spec.mean,
                std=spec.std,
                interpolation=spec.interpolation,
                crop_pct=spec.crop_pct,
                crop_mode=spec.crop_mode,
            ),
            inputs=images,
            reference=active,
            subnet=winner,
            metrics=_metrics(job, search),
            provenance=_provenance(job, search, refitted),
            class_names=job.data.class_names,
            tolerance=job.run_file.export.tolerance,
            replace=True,
        )
        advance(1, "")
    job.runs.record_export(
        job.name,
        str(report.path),
        {"digest": report.digest, "max_abs_diff": report.max_abs_diff, "bytes": report.bytes},
    )
    return {
        "path": str(report.path),
        "max_abs_diff": report.max_abs_diff,
        "digest": report.digest,
        "bytes": report.bytes,
        "files": list(report.files),
        "tested": job.result("test") is not None,
    }


def _metrics(job: Run, search: Mapping[str, Any]) -> dict[str, Any]:
    """Scores of the winner; those of the test split if it was read already."""
    metrics = {
        "parameters": search["parameters"],
        "search_accuracy": search["search_accuracy"],
        "search_cross_entropy": search["search_cross_entropy"],
    }
    tested = job.result("test")
    if tested is not None:
        metrics |= {"test_accuracy": tested["winner_refitted"], "test_accuracy_inherited": tested["winner"]}
    return metrics


def _provenance(job: Run, search: Mapping[str, Any], refitted: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "run": job.name,
        "backbone": job.run_file.backbone.name,
        "data": job.run_file.data.source,
        "space": job.run_file.space.name,
        "seed": job.run_file.seed,
        "trial": search["trial"],
        "weights": refitted["weights"],
        "refit_steps": refitted["steps"],
        "configuration_sha256": job.run_file.digest(),
        "versions": job.versions(),
    }
