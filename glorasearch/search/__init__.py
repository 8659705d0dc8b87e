"""The search: its driver, its samplers, and the interface of what evaluates candidates."""

from glorasearch.search.config import SAMPLERS, SearchConfig
from glorasearch.search.driver import SearchDriver
from glorasearch.search.evolution import EvolutionSampler
from glorasearch.search.executor import Executor, InProcessExecutor
from glorasearch.search.fitness import FITNESSES, Fitness
from glorasearch.search.outcome import SearchOutcome, SearchProgress
from glorasearch.search.record import TrialRecord
from glorasearch.search.simulation import LogNormalSeconds, SimulatedExecutor

__all__ = [
    "FITNESSES",
    "SAMPLERS",
    "EvolutionSampler",
    "Executor",
    "Fitness",
    "InProcessExecutor",
    "LogNormalSeconds",
    "SearchConfig",
    "SearchDriver",
    "SearchOutcome",
    "SearchProgress",
    "SimulatedExecutor",
    "TrialRecord",
]
