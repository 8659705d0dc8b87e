"""What runs in a worker process: one evaluator, built once, warm between tasks."""

from __future__ import annotations

import os
import re
import socket
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

from glorasearch.dotted import load_object
from glorasearch.errors import InputError, lacks_memory
from glorasearch.interrupts import is_interrupt
from glorasearch.redact import redact
from glorasearch.space import Evaluate, EvaluationResult, EvaluationTask, evaluate_safely

CONTROL: Final = "control"
"""Concurrency group of the methods that are served while an evaluation is running."""
_DOTTED: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


@runtime_checkable
class KnowsItsHealth(Protocol):
    """An evaluator that an error may leave unable to evaluate anything, such as one whose GPU context is lost."""

    @property
    def healthy(self) -> bool:
        """Whether it can still evaluate; asked after an unexpected exception."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where an evaluator runs."""

    host: str
    process: int

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


@dataclass(frozen=True, slots=True)
class Crash:
    """An exception that is not a candidate's fault, as text: the reader need not be able to import its class."""

    summary: str
    """Type and message, on one line."""
    trace: str
    out_of_memory: bool = False
    """Whether it says that there is too little memory."""

    @classmethod
    def of(cls, error: BaseException) -> Crash:
        """The text of an exception."""
        summary = "".join(traceback.format_exception_only(error)).strip()
        return cls(redact(summary), redact(traceback.format_exc().strip()), lacks_memory(error))


def check_function_name(name: str) -> None:
    """Raise `InputError` unless the name has the form `package.module:function`."""
    if not _DOTTED.fullmatch(name):
        raise InputError(f"function {name!r}: expected the form 'package.module:function'")


class EvaluatorActor:
    """Builds its evaluator when asked to, and returns values, never raises.

    So the exceptions that reach the executor are Ray's own, and all mean that the process is gone.
    """

    def __init__(self, factory: str, spec: Mapping[str, Any]) -> None:
        self._factory = factory
        self._spec = spec
        self._evaluate: Evaluate | None = None
        self._withdrawn: set[int] = set()
        from workers.metrics import EvaluatorMetrics  # Ray's, which is there where an actor is

        self._metrics = EvaluatorMetrics()

    def build(self) -> Location | Crash:
        """Build the evaluator; returns where it is, or why it cannot be built."""
        try:
            self._evaluate = load_object(self._factory)(self._spec)
        except BaseException as error:  # a factory runs code from outside, which may even end the process
            if is_interrupt(error):
                raise
            self._metrics.built(fails=True)
            return Crash.of(error)
        self._metrics.built(fails=False)
        return Location(socket.gethostname(), os.getpid())

    def evaluate(self, task: EvaluationTask, ticket: int) -> EvaluationResult | None:
        """Evaluate one candidate; None if its ticket was withdrawn meanwhile. Tickets come in ascending order."""
        withdrawn = ticket in self._withdrawn
        self._withdrawn = {later for later in tuple(self._withdrawn) if later > ticket}
        if withdrawn:
            return None
        if self._evaluate is None:
            return EvaluationResult(task.subnet_digest, error="the worker's evaluator has not been built")
        began = time.perf_counter()
        result = evaluate_safely(self._evaluate, task)
        self._metrics.evaluated(result, time.perf_counter() - began)
        if result.trace is not None and isinstance(self._evaluate, KnowsItsHealth) and not self._evaluate.healthy:
            # Everything evaluated here from now on would fail: a new process takes over, this candidate included.
            print(f"this process cannot evaluate any more after:\n{result.trace}", file=sys.stderr, flush=True)
            os._exit(1)
        return result

    def withdraw(self, ticket: int) -> None:
        """Skip a task that has not begun; called while another one is being evaluated."""
        self._withdrawn.add(ticket)
