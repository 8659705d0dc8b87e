"""The run file of an arm: `scripts/suite.toml` with what an arm and its place change."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from glorasearch import RunConfig
from suite_parts.arms import ARMS
from suite_parts.settings import RUN_FILE, Settings, run_file


def run_config(
    settings: Settings,
    arm: str,
    data: dict[str, Any],
    *,
    seed: int,
    limit: int | None,
    threads: int,
    more: Sequence[str] = (),
) -> RunConfig:
    """The configuration of one run.

    Args:
        settings: with the overrides of all runs.
        arm: with its own.
        data: the section `[data]`.
        seed: of the unit.
        limit: the most trainable parameters.
        threads: of torch.
        more: overrides of one run, after all others.

    Raises:
        ConfigError: if an override does not fit.
    """
    content = copy.deepcopy(run_file())
    content |= {"name": arm, "seed": seed, "device": settings.device, "threads": threads, "data": data}
    content["backbone"] = {"name": settings.backbone}
    content["space"] |= {} if limit is None else {"max": limit}
    overrides = [*settings.overrides, *ARMS[arm].overrides, *more]
    return RunConfig.from_dict(content, overrides, source=f"{RUN_FILE.name}, arm {arm}")


def check_configs(settings: Settings, arms: Sequence[str]) -> None:
    """Refuse overrides that do not fit, before anything starts.

    Raises:
        ConfigError: naming the arm and the key.
        SearchSpaceError: if a search space is not there.
    """
    for arm in arms:
        if ARMS[arm].kind in ("product", "cost"):
            run_config(settings, arm, {"source": "digits"}, seed=0, limit=None, threads=1).space.load()
