"""Functions as Ray tasks, on a Ray that is started for them."""

import math

import pytest
import ray

from glorasearch.errors import InputError
from workers.tasks import run_tasks

ARGUMENTS = {"a": {"number": 1}, "b": {"number": 2}}


def test_shares_of_cpus_find_a_place_on_a_ray_of_its_own() -> None:
    """1.4 CPUs want two whole ones, not one: a task would wait for ever."""
    assert dict(run_tasks("builtins:dict", ARGUMENTS, parallel=1, cpus=1.4)) == ARGUMENTS
    assert not ray.is_initialized()


@pytest.mark.parametrize("number", [0.0, -1.0, math.nan, math.inf])
def test_numbers_of_cpus_that_are_none(number: float) -> None:
    with pytest.raises(InputError, match=r"cpus is .*; allowed are numbers above 0"):
        list(run_tasks("builtins:dict", ARGUMENTS, cpus=number))
