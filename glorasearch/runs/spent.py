"""What the stages of a run have cost: nothing where a result was taken over, and parts count in their stages."""

from __future__ import annotations

from glorasearch.db import RunRecord
from glorasearch.errors import GlorasearchError
from glorasearch.runs.results import BaselineResult, Results
from glorasearch.runs.watched import setting

POINT_STAGES = ("pilot", "train", "search")
"""What a run that is a point of another one has from that."""


def is_part(stage: str) -> bool:
    """Whether a stage is a part of another one, such as `rate:0.003` of the pilots; a baseline is a whole one."""
    kind, _, part = stage.partition(":")
    return bool(part) and kind != BaselineResult.stage


def taken_over(record: RunRecord, origin: RunRecord | None = None) -> dict[str, str]:
    """Stage → whose work its result is, for those that the run has not done itself; empty if it cannot be read.

    Args:
        record: of the run.
        origin: the run that it is a point of, if that is still there: baselines may be its.
    """
    try:
        results = Results(record.stages, record.name)
        refit, baselines = results.refit, results.baselines
    except GlorasearchError:
        return {}
    found: dict[str, str] = {}
    if point := setting(record.config, "point", "run"):
        found |= {stage: f"run {point}" for stage in POINT_STAGES if stage in record.stages}
    for name, one in baselines.items():
        stage = f"{BaselineResult.stage}:{name}"
        if refit is not None and one.weights == refit.weights:
            found[stage] = "the refit"
        elif point and origin is not None and origin.stages.get(stage, {}).get("weights") == one.weights:
            found[stage] = f"run {point}"
    return found
