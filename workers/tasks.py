"""Runs a function as Ray tasks, each in its own process."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import ray
from ray.exceptions import RayError, RayTaskError

from glorasearch.dotted import load_object
from glorasearch.errors import InputError, first_line, first_sentence
from glorasearch.interrupts import is_interrupt
from glorasearch.redact import redact
from workers.actor import Crash, check_function_name
from workers.cluster import connect
from workers.connection import CHECK_SECONDS, Connection, LostRayError

logger = logging.getLogger(__name__)

STOP_SECONDS: Final = 20.0
"""Time for cancelled tasks to end."""
RETRIES: Final = 3
"""Times that a task is started again because its process or its node was lost."""


def run_tasks(
    function: str,
    arguments: Mapping[str, Mapping[str, Any]],
    *,
    address: str | None = None,
    parallel: int | None = None,
    cpus: float = 1.0,
    gpus: float = 0.0,
    retries: int = RETRIES,
    on_start: Callable[[str], None] = lambda name: None,
) -> Iterator[tuple[str, Any]]:
    """Call a function with each argument, on the nodes of a Ray cluster, and yield the results as they come.

    A task whose process or node is lost is started again, and so are all tasks once if a Ray that was started here
    dies, so the function must be able to resume. Tasks that still run
    when the iteration ends early are cancelled.

    Args:
        function: `package.module:function`; it takes an argument and returns JSON.
        arguments: task name → what the function is called with, JSON.
        address: of a Ray cluster; without it one is started on this machine and shut down at the end.
        parallel: tasks at a time; if not given, as many as a cluster has room for, and one on this machine.
        cpus: CPUs of each task.
        gpus: GPUs of each task; may be a fraction.
        retries: times that a task is started again because its process or its node was lost.
        on_start: called with the name of each task that is submitted to Ray.

    Yields:
        Name and result, or name and `Crash` if the task failed.

    Raises:
        InputError: if a number is out of its range, or this machine has too few GPUs.
        RunError: if Ray cannot be started or reached.
    """
    check_function_name(function)
    for name, number in (("parallel", parallel), ("cpus", cpus), ("gpus", gpus)):
        if number is not None and not (0 < number < math.inf or (name == "gpus" and number == 0)):
            raise InputError(f"{name} is {number}; allowed are numbers above 0 (of GPUs also 0)")
    slots = parallel or (len(arguments) if address else 1)
    at_once = min(slots, len(arguments))
    whole = math.ceil(at_once * cpus)
    connection = connect(whole, gpus * at_once / whole, address)
    try:
        yield from _run(connection, function, dict(arguments), slots, cpus, gpus, retries, on_start)
    finally:
        connection.close()


def _run(
    connection: Connection,
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
    running: dict[Any, tuple[str, Mapping[str, Any]]] = {}
    restarted = False
    try:
        while waiting or running:
            while waiting and len(running) < slots:
                name, argument = next(iter(waiting.items()))
                on_start(name)
                running[remote.options(name=name).remote(function, argument)] = name, waiting.pop(name)
            answered, _ = ray.wait(list(running), num_returns=1, timeout=CHECK_SECONDS)
            try:
                results = [_result(connection, reference, retries) for reference in answered]
                if not answered:
                    connection.check()
            except LostRayError as error:
                lost, running = dict(running.values()), {}
                if restarted or not connection.restart():
                    raise
                restarted = True
                logger.warning("%s. It was started again by itself, for this once", first_sentence(error))
                if retries:
                    waiting = lost | waiting
                    continue
                for name in lost:
                    yield name, Crash(f"its process was lost once: {first_sentence(error)}", str(error))
                continue
            for reference, result in zip(answered, results, strict=True):
                name, _ = running.pop(reference)
                yield name, result
    finally:
        for reference in running:
            ray.cancel(reference)
        if running:  # they record that they were stopped
            ray.wait(list(running), num_returns=len(running), timeout=STOP_SECONDS)


def _result(connection: Connection, reference: Any, retries: int) -> Any:
    try:
        return ray.get(reference)
    except RayTaskError as error:
        return Crash(redact(str(error.cause)), redact(str(error)))
    except RayError as error:
        connection.check()
        times = "once" if retries == 0 else f"{retries + 1} times"
        return Crash(f"its process was lost {times}: {first_line(error)}", redact(str(error)))


def _call(function: str, argument: Mapping[str, Any]) -> Any:
    try:
        return load_object(function)(argument)
    except SystemExit as error:  # to Ray the end of the process, and to be tried again
        if is_interrupt(error):
            raise
        raise RuntimeError(f"the task calls sys.exit({error.code!r})") from error
