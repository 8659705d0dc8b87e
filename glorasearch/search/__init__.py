"""The search: its driver, its samplers, and the interface of what evaluates candidates."""

from typing import TYPE_CHECKING

from glorasearch.lazy import lazy_names
from glorasearch.search.config import SAMPLERS, SearchConfig

if TYPE_CHECKING:
    from glorasearch.search.driver import SearchDriver
    from glorasearch.search.executor import Executor, InProcessExecutor
    from glorasearch.search.simulation import LogNormalSeconds, SimulatedExecutor
    from glorasearch.search.staff import WorkerStatus
    from glorasearch.search.trials import SearchOutcome, SearchProgress, TrialRecord

__all__ = [
    "SAMPLERS",
    "Executor",
    "InProcessExecutor",
    "LogNormalSeconds",
    "SearchConfig",
    "SearchDriver",
    "SearchOutcome",
    "SearchProgress",
    "SimulatedExecutor",
    "TrialRecord",
    "WorkerStatus",
]

__getattr__ = lazy_names(
    __name__,
    {
        "driver": ("SearchDriver",),
        "staff": ("WorkerStatus",),
        "executor": ("Executor", "InProcessExecutor"),
        "simulation": ("LogNormalSeconds", "SimulatedExecutor"),
        "trials": ("SearchOutcome", "SearchProgress", "TrialRecord"),
    },
)
