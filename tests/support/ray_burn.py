"""An evaluator that needs no model: it burns CPU for a set number of rounds of hashing and scores what comes out.

Workers import it by name, from the directory that the tests put on their import path.
"""

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from glorasearch.errors import EvaluationError
from glorasearch.space import EvaluationResult, EvaluationTask, Score, Subnet

GATE_SECONDS = 240
"""How long an evaluation waits at most for what the test does."""


def make(spec: Mapping[str, Any]) -> Callable[[EvaluationTask], EvaluationResult]:
    """Spec, all of it optional:

    - `rounds` of hashing that an evaluation takes; the scores do not depend on them.
    - `log`: a directory in which files say what was built, begun and ended by which process (on which node).
    - `failing`, `raising`, `nan`: of 256 subnets so many end in an EvaluationError, in a RuntimeError, in a NaN.
    - `bug`, `lethal`: subnets (digests) that raise a KeyError, or take the process with them.
    - `hungry`: subnets (digests) that need more memory than there is.
    - `stuck`: subnets that wait for the file `gate` in the log; `stuck_once`: at their first attempt only.
    - `poison`: subnets whose first attempt leaves a process that can evaluate nothing any more, and knows it.
    - `one_slow`: all evaluations of the process that builds first wait for the file `gate`.
    """
    rounds, log = int(spec.get("rounds", 1)), Path(spec["log"]) if "log" in spec else None
    slow = bool(spec.get("one_slow")) and log is not None and _first(log / "slow")
    if log is not None:
        (log / f"built-{os.getpid()}-{_node()}").touch()

    def evaluate(task: EvaluationTask) -> EvaluationResult:
        digest = task.subnet_digest
        if digest in spec.get("poison", ()) and log is not None and _first(log / f"poisoned-{digest}"):
            burner.healthy = False
        if not burner.healthy:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        assert Subnet.from_json(task.subnet_json).digest == digest
        if log is not None:
            (log / f"begun-{digest}-{os.getpid()}").touch()
            once = digest in spec.get("stuck_once", ()) and _first(log / f"stuck-{digest}")
            if slow or once or digest in spec.get("stuck", ()):
                _wait_for(log / "gate")
        if digest == spec.get("bug"):
            raise KeyError("a bug")
        if digest in spec.get("hungry", ()):
            bytearray(2**62)
        if digest == spec.get("lethal"):
            os.abort()
        hashlib.pbkdf2_hmac("sha256", digest.encode(), b"", rounds)
        noise = hashlib.sha256(f"{digest} {task.weights_digest}".encode()).digest()
        if noise[4] < spec.get("failing", 0):
            raise EvaluationError("this one never works")
        if noise[5] < spec.get("raising", 0):
            raise RuntimeError("nobody thought of this one")
        if log is not None:
            (log / f"ended-{digest}-{os.getpid()}").touch()
        nats = float("nan") if noise[6] < spec.get("nan", 0) else noise[1] / 256
        return EvaluationResult(digest, Score(100 + noise[0] % 100, 200, nats, nats, beta=1.0, seconds=0.25))

    burner = Burner(evaluate)
    return burner


class Burner:
    """The evaluator, which knows whether it can go on."""

    def __init__(self, evaluate: Callable[[EvaluationTask], EvaluationResult]) -> None:
        self._evaluate = evaluate
        self.healthy = True

    def __call__(self, task: EvaluationTask) -> EvaluationResult:
        return self._evaluate(task)


def hungry_to_build(spec: Mapping[str, Any]) -> Callable[[EvaluationTask], EvaluationResult]:
    """A factory that lacks memory for its first builds, as many as `failures`."""
    log = Path(spec["log"])
    if any(_first(log / f"hungry-{number}") for number in range(int(spec["failures"]))):
        bytearray(2**62)
    return make({})


def slow_to_build(spec: Mapping[str, Any]) -> Callable[[EvaluationTask], EvaluationResult]:
    """A factory that says that it builds, and waits for the file `gate`."""
    log = Path(spec["log"])
    (log / f"builds-{os.getpid()}").touch()
    _wait_for(log / "gate")
    return make({})


def twice(argument: Mapping[str, Any]) -> str:
    """A task that waits for ever at its first attempt."""
    if _first(Path(argument["path"])):
        _wait_for(Path(argument["path"]).with_name("gate"))
    return "second"


def broken(spec: Mapping[str, Any]) -> Callable[[EvaluationTask], EvaluationResult]:
    """A factory that cannot build."""
    raise FileNotFoundError(f"no weights at {spec['weights']}")


def lethal(spec: Mapping[str, Any]) -> Callable[[EvaluationTask], EvaluationResult]:
    """A factory that takes its process with it."""
    os.abort()


def broken_here(spec: Mapping[str, Any]) -> Callable[[EvaluationTask], EvaluationResult]:
    """A factory that works once and cannot build in any other process, as on a node that lacks the data."""
    if not _first(Path(spec["log"], "built")):
        raise FileNotFoundError("no images on this node")
    return make({})


def _first(path: Path) -> bool:
    """Whether this call is the first one that names the file."""
    try:
        with path.open("x") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        return False
    return True


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + GATE_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody made {path}")
        time.sleep(0.01)


def _node() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else "here"
