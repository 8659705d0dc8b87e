"""Runs: the stages from a run file to a merged model and a report."""

from typing import TYPE_CHECKING

from glorasearch.lazy import lazy_names

if TYPE_CHECKING:
    from glorasearch.runs.config import RunConfig
    from glorasearch.runs.progress import Advance, Progress, Silent
    from glorasearch.runs.resources import ResourceConfig
    from glorasearch.runs.results import Report, Results
    from glorasearch.runs.run import Run
    from glorasearch.runs.workspace import Workspace

__all__ = ["Advance", "Progress", "Report", "ResourceConfig", "Results", "Run", "RunConfig", "Silent", "Workspace"]

__getattr__ = lazy_names(
    __name__,
    {
        "config": ("RunConfig",),
        "progress": ("Advance", "Progress", "Silent"),
        "resources": ("ResourceConfig",),
        "results": ("Report", "Results"),
        "run": ("Run",),
        "workspace": ("Workspace",),
    },
)
