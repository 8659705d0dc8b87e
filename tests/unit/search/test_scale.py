"""A long study costs no more for each trial than a short one: neither memory nor statements."""

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event

from glorasearch.search import LogNormalSeconds, SearchConfig, SearchProgress, SimulatedExecutor

MODES: dict[str, dict[str, Any]] = {
    "steady": {"mode": "steady", "population": 40},
    "generational": {"mode": "generational", "population": 40},
}


@pytest.mark.parametrize("mode", MODES)
def test_a_trial_takes_a_fraction_of_the_memory_of_its_genes(new_search, space_maker, evaluator, mode):
    """A whole trial of 120 genes would be some 8 KB; what stays of one are its scores and the subnet's digest."""
    sizes: dict[int, int] = {}

    def measure(progress: SearchProgress) -> None:
        if progress.done in (100, 300):
            gc.collect()
            sizes[progress.done] = tracemalloc.get_traced_memory()[0]

    search = new_search(space_maker(layers=40, budget={}))
    tracemalloc.start()
    try:
        executor = SimulatedExecutor(evaluator, 8, LogNormalSeconds())
        search.run(SearchConfig(trials=320, **MODES[mode]), executor, on_progress=measure)
    finally:
        tracemalloc.stop()
    assert (sizes[300] - sizes[100]) / 200 < 2_500


@pytest.mark.parametrize("mode", MODES)
def test_statements_of_a_trial_do_not_grow_in_number(new_search: Callable[..., Any], evaluator: Any, mode: str) -> None:
    search = new_search()
    counted = 0
    at: dict[int, int] = {}

    def count(*_: Any) -> None:
        nonlocal counted
        counted += 1

    def note(progress: SearchProgress) -> None:
        at[progress.done] = counted

    event.listen(search.database.engine, "before_cursor_execute", count)
    executor = SimulatedExecutor(evaluator, 8, LogNormalSeconds())
    search.run(SearchConfig(trials=1_000, **MODES[mode]), executor, on_progress=note)
    early, late = at[400] - at[200], at[1_000] - at[800]
    # Every now and then the subnet of a parent is read back, once for each that becomes one.
    assert 400 < late <= early < 10 * 200
