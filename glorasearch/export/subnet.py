"""Export of one subnet of a supernet: merged, compared with the active subnet on real images, written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from glorasearch.data import SearchData, Splits
from glorasearch.export.backbone_facts import BackboneFacts
from glorasearch.export.front_matter import hub_name
from glorasearch.export.timm_directory import ExportReport, export_timm
from glorasearch.export.units import to_units
from glorasearch.space import Subnet
from glorasearch.supernet import Supernet

REAL_INPUTS: Final = 64
"""Images of the search split on which merged and active outputs are compared."""


def export_subnet(
    supernet: Supernet,
    subnet: Subnet,
    path: str | Path,
    data: SearchData | Splits,
    *,
    metrics: Mapping[str, Any] | None = None,
    statements: Sequence[str] = (),
    provenance: Mapping[str, Any] | None = None,
    source: Mapping[str, Any] | None = None,
    tolerance: float = 1e-3,
    replace: bool = False,
) -> ExportReport:
    """Merge a subnet and write it as a timm directory, with the preprocessing of the images that it was searched on.

    Where these have numbers, the model answers in the units of their targets.

    Args:
        supernet: holds the weights.
        subnet: one of its space.
        path: of the directory.
        data: gives the preprocessing, the class names, and images of the search split to compare on.
        metrics: as for `export_timm`; so are `statements` and `provenance`.
        source: the backbone's section of the run file, by which it has a name on the Hugging Face hub.
        tolerance: allowed difference of merged and active outputs, relative to the largest output.
        replace: put the export in the place of an earlier one.

    Raises:
        ExportError: if a check fails, if something else is at `path`, or if it cannot be written.
    """
    supernet.eval()
    device = next(supernet.parameters()).device
    split = data.search
    images, _ = split.batch(slice(0, min(REAL_INPUTS, len(split))), device)

    @torch.no_grad()
    def active(inputs: Tensor) -> Tensor:
        with supernet.activate(subnet):
            outputs: Tensor = supernet(inputs)
        standard = split.task.standard
        return outputs if standard is None else standard.undone(outputs).to(outputs.dtype)

    merged = supernet.merged(subnet)
    to_units(merged, split.task)
    facts = BackboneFacts.from_model(supernet.model, **split.spec.preprocessing())
    return export_timm(
        merged,
        path,
        backbone=facts,
        base_model=None if source is None else hub_name(facts, source),
        inputs=images,
        reference=active,
        subnet=subnet,
        metrics=metrics,
        statements=statements,
        provenance=provenance,
        class_names=data.class_names,
        task=split.task.kind,
        standard=split.task.standard,
        reading=None if data.reading is None else data.reading.describe(),
        tolerance=tolerance,
        replace=replace,
    )
