"""Performs functions of JSON as Ray tasks, each in a process of its own."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import ray
from ray.exceptions import RayError, RayTaskError

from glorasearch.dotted import load_object
from glorasearch.errors import InputError, first_line
from workers.actor import Crash, check_function_name
from workers.cluster import connect

logger = logging.getLogger(__name__)

STOP_SECONDS: Final = 20.0
"""Time for tasks that are stopped."""
RETRIES: Final = 3
"""Times that a task is begun again because its process or its node was lost."""


def perform_all(
    function: str,
    orders: Mapping[str, Mapping[str, Any]],
    *,
    address: str | None = None,
    parallel: int | None = None,
    cpus: float = 1.0,
    gpus: float = 0.0,
    retries: int = RETRIES,
    on_start: Callable[[str], None] = lambda name: None,
) -> Iterator[tuple[str, Any]]:
    """Call a function with each order, on the nodes of a Ray cluster, and give the answers as they come.

    A task whose process or node is lost is begun again; the function must know how to go on. Nothing is left running
    when the iteration ends early.

    Args:
        function: `package.module:function`, which is given an order and returns JSON.
        orders: name → what the function is called with.
        address: of a Ray cluster; without it one is started on this machine and shut down at the end.
        parallel: tasks at a time; without it, on a cluster as many as it has room for, else one.
        cpus: CPUs of each task.
        gpus: GPUs of each task; may be a share of one.
        retries: times that a task is begun again because its process or its node was lost.
        on_start: called with the name of each task that is given to the cluster.

    Yields:
        Name and answer, or name and `Crash` if the task could not be performed.

    Raises:
        InputError: if a number is out of its range, or this machine has not so many GPUs.
        RunError: if Ray cannot be started or reached.
    """
    check_function_name(function)
    for name, number in (("parallel", parallel), ("cpus", cpus), ("gpus", gpus)):
        if number is not None and not (0 < number < math.inf or (name == "gpus" and number == 0)):
            raise InputError(f"{name} is {number}; allowed are numbers above 0 (of GPUs also 0)")
    slots = parallel or (len(orders) if address else 1)
    at_once = min(slots, len(orders))
    whole = math.ceil(at_once * cpus)
    started = connect(whole, gpus * at_once / whole, address)
    try:
        yield from _perform(function, dict(orders), slots, cpus, gpus, retries, on_start)
    finally:
        if started:
            ray.shutdown()


def _perform(
    function: str,
    waiting: dict[str, Mapping[str, Any]],
    slots: int,
    cpus: float,
    gpus: float,
    retries: int,
    on_start: Callable[[str], None],
) -> Iterator[tuple[str, Any]]:
    remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_calls=1, max_retries=retries, scheduling_strategy="SPREAD")(
        _call
    )
    under_way: dict[Any, str] = {}
    try:
        while waiting or under_way:
            while waiting and len(under_way) < slots:
                name = next(iter(waiting))
                on_start(name)
                under_way[remote.options(name=name).remote(function, waiting.pop(name))] = name
            answered, _ = ray.wait(list(under_way), num_returns=1)
            for reference in answered:
                yield under_way.pop(reference), _answer(reference, retries)
    finally:
        for reference in under_way:
            ray.cancel(reference)
        if under_way:  # they write down that they were stopped
            ray.wait(list(under_way), num_returns=len(under_way), timeout=STOP_SECONDS)


def _answer(reference: Any, retries: int) -> Any:
    try:
        return ray.get(reference)
    except RayTaskError as error:
        return Crash(str(error.cause), str(error))
    except RayError as error:
        times = "once" if retries == 0 else f"{retries + 1} times"
        return Crash(f"its process was lost {times}: {first_line(error)}", str(error))


def _call(function: str, order: Mapping[str, Any]) -> Any:
    return load_object(function)(order)
