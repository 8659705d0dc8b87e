"""Runs: the stages from a run file to a merged model and a report.

The names are imported when they are asked for: a run file can be read, and a workspace listed, without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glorasearch.dotted import load_object

if TYPE_CHECKING:
    from glorasearch.runs.config import RunConfig
    from glorasearch.runs.progress import Advance, Progress, Silent
    from glorasearch.runs.resources import ResourceConfig
    from glorasearch.runs.results import Report, Results
    from glorasearch.runs.run import Run
    from glorasearch.runs.workspace import Workspace

__all__ = ["Advance", "Progress", "Report", "ResourceConfig", "Results", "Run", "RunConfig", "Silent", "Workspace"]

_MODULES = {
    "Advance": "progress",
    "Progress": "progress",
    "Report": "results",
    "ResourceConfig": "resources",
    "Results": "results",
    "Run": "run",
    "RunConfig": "config",
    "Silent": "progress",
    "Workspace": "workspace",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return load_object(f"{__name__}.{_MODULES[name]}:{name}")
