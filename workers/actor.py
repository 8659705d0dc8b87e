"""What runs in a worker process: one evaluator, built once, warm between tasks."""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

from glorasearch.space import Evaluate, EvaluationResult, EvaluationTask, evaluate_safely
from workers.factory import build_evaluator

CONTROL: Final = "control"
"""Concurrency group of the calls that are answered while an evaluation is under way."""


@runtime_checkable
class KnowsItsHealth(Protocol):
    """An evaluator that an error may leave unable to evaluate anything, as one of a GPU does a process's context."""

    @property
    def healthy(self) -> bool:
        """Whether it can still evaluate; asked after an exception that nobody foresaw."""


@dataclass(frozen=True, slots=True)
class Home:
    """Where an evaluator is."""

    host: str
    process: int

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


@dataclass(frozen=True, slots=True)
class Crash:
    """An exception that is no fault of a candidate, as text: it need not be importable where it is read."""

    summary: str
    """Type and message, on one line."""
    trace: str

    @classmethod
    def of(cls, error: BaseException) -> Crash:
        """The text of an exception."""
        return cls("".join(traceback.format_exception_only(error)).strip(), traceback.format_exc().strip())


class EvaluatorActor:
    """Builds its evaluator when it is told to, and answers with values, never with exceptions.

    The exceptions that reach the executor are then Ray's own, and they mean one thing: the process is gone.
    """

    def __init__(self, factory: str, spec: Mapping[str, Any]) -> None:
        self._factory = factory
        self._spec = spec
        self._evaluate: Evaluate | None = None
        self._withdrawn: set[int] = set()

    def build(self) -> Home | Crash:
        """Build the evaluator; says where it is, or why it cannot be built."""
        try:
            self._evaluate = build_evaluator(self._factory, self._spec)
        except Exception as error:
            return Crash.of(error)
        return Home(socket.gethostname(), os.getpid())

    def evaluate(self, task: EvaluationTask, ticket: int) -> EvaluationResult | None:
        """Evaluate one candidate; None if its ticket was withdrawn meanwhile. Tickets come in ascending order."""
        withdrawn = ticket in self._withdrawn
        self._withdrawn = {later for later in tuple(self._withdrawn) if later > ticket}
        if withdrawn:
            return None
        if self._evaluate is None:
            return EvaluationResult(task.subnet_digest, error="the worker's evaluator has not been built")
        result = evaluate_safely(self._evaluate, task)
        if result.trace is not None and isinstance(self._evaluate, KnowsItsHealth) and not self._evaluate.healthy:
            # Whatever is evaluated here from now on fails: a new process has to do it, this candidate included.
            print(f"this process can evaluate no more after:\n{result.trace}", file=sys.stderr, flush=True)
            os._exit(1)
        return result

    def withdraw(self, ticket: int) -> None:
        """Skip a task that has not begun; called while another one is being evaluated."""
        self._withdrawn.add(ticket)
