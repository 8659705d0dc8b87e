"""The search: its driver, its samplers, and the interface of what evaluates candidates."""

from glorasearch.search.config import SAMPLERS, SearchConfig
from glorasearch.search.driver import SearchDriver
from glorasearch.search.executor import Executor, InProcessExecutor
from glorasearch.search.simulation import LogNormalSeconds, SimulatedExecutor
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
]
