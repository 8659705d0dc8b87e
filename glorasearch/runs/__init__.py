"""Runs: the stages from a run file to a merged model and a report.

The names are imported when they are asked for: a run file can be read, and a workspace listed, without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glorasearch.runs.config import RunConfig
    from glorasearch.runs.pipeline import run_stages
    from glorasearch.runs.progress import Advance, Progress, Silent
    from glorasearch.runs.run import Run
    from glorasearch.runs.workspace import Workspace

__all__ = ["Advance", "Progress", "Run", "RunConfig", "Silent", "Workspace", "run_stages"]

_HOMES = {
    "Advance": "progress",
    "Run": "run",
    "Progress": "progress",
    "RunConfig": "config",
    "Silent": "progress",
    "Workspace": "workspace",
    "run_stages": "pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
