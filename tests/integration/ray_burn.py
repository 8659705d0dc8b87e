"""An evaluator that needs no model: it burns CPU for a set time's worth of hashing and scores what comes out.

Workers import it by name, from the directory that the tests put on their import path.
"""

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from glorasearch.errors import EvaluationError
from glorasearch.space import EvaluationResult, EvaluationTask, Subnet


def make(spec: Mapping[str, Any]) -> Callable[[EvaluationTask], EvaluationResult]:
    """Spec: rounds (of hashing), log (a directory; optional), and what goes wrong with a share of the subnets."""
    rounds, log = int(spec["rounds"]), spec.get("log")
    if log:
        Path(log, f"built-{os.getpid()}").touch()

    def evaluate(task: EvaluationTask) -> EvaluationResult:
        assert Subnet.from_json(task.subnet_json).digest == task.subnet_digest
        if log:
            Path(log, f"begun-{task.subnet_digest}-{os.getpid()}").touch()
        if task.subnet_digest == spec.get("bug"):
            raise KeyError("a bug")
        if task.subnet_digest == spec.get("lethal"):
            os.abort()
        noise = hashlib.pbkdf2_hmac("sha256", task.subnet_digest.encode(), task.weights_digest.encode(), rounds)
        if noise[4] < spec.get("failing", 0):
            raise EvaluationError("this one never works")
        if log:
            Path(log, f"ended-{task.subnet_digest}-{os.getpid()}").touch()
        return EvaluationResult(
            task.subnet_digest, correct=100 + noise[0] % 100, total=200, cross_entropy=noise[1] / 256, seconds=0.25
        )

    return evaluate


def broken(spec: Mapping[str, Any]) -> Callable[[EvaluationTask], EvaluationResult]:
    """A factory that cannot build."""
    raise FileNotFoundError(f"no weights at {spec['weights']}")


def lethal(spec: Mapping[str, Any]) -> Callable[[EvaluationTask], EvaluationResult]:
    """A factory that takes its process with it."""
    os.abort()
