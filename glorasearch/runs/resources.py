"""Where a run computes: in this process, or on the workers of a Ray cluster."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from glorasearch.dotted import load_object
from glorasearch.errors import InputError


class Backends(NamedTuple):
    """The parts of an executor, by dotted names, so that they are imported on demand."""

    evaluation: str
    """A function from a `Session` to the `search.Executor` of its candidates."""
    training: str
    """A class with the interface of `training.TrainingBackend`."""


EXECUTORS: Final[Mapping[str, Backends]] = {
    "local": Backends("glorasearch.runs.evaluation:local_executor", "glorasearch.runs.training:LocalTraining"),
    "ray": Backends("glorasearch.runs.evaluation:ray_executor", "glorasearch.runs.ray_training:RayTraining"),
}
MOST_WORKERS: Final = 10_000
WORKERS_PER_CPU: Final = 16
"""Most worker processes that are started on this machine for each of its CPUs."""
WORKERS: Final = 2
"""Default number of actors that evaluate candidates."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ResourceConfig:
    """Where candidates are evaluated and the supernet is trained; not part of a run's identity.

    Raises:
        InputError: if a value is out of its range or belongs to another executor.
    """

    executor: str = "local"
    """`local` (this process) or `ray`."""
    workers: int | None = None
    """Actors that evaluate candidates; `WORKERS` if not given."""
    address: str | None = None
    """Address of a Ray cluster; if not given, Ray is started on this machine."""
    gpus_per_worker: float = 0.0
    """GPUs of each actor; may be a share of one."""
    evaluation_timeout: float | None = None
    """Seconds after which an unanswered evaluation is given to another worker; None: never."""
    train_workers: int = 1
    """Processes that train the supernet together."""
    train_gpus: float = 0.0
    """GPUs of each process that trains."""
    share_backbone: bool = False
    """On the CPU, share the backbone's memory with other runs on this machine."""

    def __post_init__(self) -> None:
        if self.executor not in EXECUTORS:
            raise InputError(f"unknown executor {self.executor!r}; known are {', '.join(EXECUTORS)}")
        for name, number in (("workers", self.workers), ("train_workers", self.train_workers)):
            if number is not None and not 1 <= number <= MOST_WORKERS:
                raise InputError(f"{_option(name)} is {number}; allowed are whole numbers from 1 to {MOST_WORKERS}")
        for name, share in (("gpus_per_worker", self.gpus_per_worker), ("train_gpus", self.train_gpus)):
            if not 0 <= share < math.inf:
                raise InputError(f"{_option(name)} is {share:g}; allowed are numbers from 0")
        if self.evaluation_timeout is not None and not self.evaluation_timeout > 0:
            raise InputError(f"--evaluation-timeout is {self.evaluation_timeout:g}; allowed are seconds above 0")
        if self.executor == "local":
            default = ResourceConfig(executor="ray")
            for name in ("workers", "address", "gpus_per_worker", "evaluation_timeout", "train_workers", "train_gpus"):
                if getattr(self, name) != getattr(default, name):
                    raise InputError(f"{_option(name)} is for workers of Ray; add --executor ray")

    @property
    def local(self) -> bool:
        """Whether everything happens in this process."""
        return self.executor == "local"

    @property
    def evaluators(self) -> int:
        """Number of actors that evaluate candidates."""
        return WORKERS if self.workers is None else self.workers

    def trains_elsewhere(self, ranks: int) -> bool:
        """Whether a training with `ranks` ranks runs in other processes; with a single rank only for their GPUs."""
        return (self.train_workers > 1 and ranks > 1) or self.train_gpus > 0

    @property
    def evaluation_backend(self) -> str:
        """Dotted name of the function that makes the executor of candidates."""
        return EXECUTORS[self.executor].evaluation

    def training_backend(self, ranks: int) -> str:
        """Dotted name of the backend for a training with `ranks` ranks."""
        return EXECUTORS[self.executor if self.trains_elsewhere(ranks) else "local"].training

    def check_ranks(self, ranks: int) -> None:
        """Refuse numbers of processes that cannot share the ranks of a step.

        Raises:
            InputError: saying what to set.
        """
        workers = self.train_workers
        if ranks % workers:
            raise InputError(
                f"--train-workers is {workers}, and a step has {ranks} rank{'s' * (ranks > 1)} (train.ranks): the "
                f"number of processes must divide that of the ranks. Ranks belong to what a run is: set them in the "
                f"run file or with --set train.ranks={workers}"
            )
        if workers > 1 and self.train_gpus % 1:
            raise InputError(
                f"--train-gpus is {self.train_gpus:g}: processes that train together need whole GPUs; use 1, or 0 for "
                "the CPU"
            )

    def check(self, gpus: int) -> None:
        """Check, before work starts, that the workers can be started.

        Args:
            gpus: number of GPUs of this machine.

        Raises:
            InputError: if Ray is not installed, or this machine has fewer GPUs than the workers need.
            RunError: if no cluster answers at the address.
        """
        if self.local:
            return
        check_address = load_from_workers("workers.cluster:check_address")
        if self.address is not None:
            check_address(self.address)
            return
        most = WORKERS_PER_CPU * (os.cpu_count() or 1)
        for name in ("workers", "train_workers"):
            count = getattr(self, name)
            if count is not None and count > most:
                raise InputError(
                    f"{_option(name)} is {count}: each is a process of its own, and this machine has "
                    f"{os.cpu_count()} CPUs; allowed are up to {most}, and more on a cluster, with --address"
                )
        for option, count, share in (
            ("--gpus-per-worker", self.evaluators, self.gpus_per_worker),
            ("--train-gpus", self.train_workers, self.train_gpus),
        ):
            if count * share > gpus:
                them = "1 process" if count == 1 else f"{count} processes"
                raise InputError(
                    f"{option} {share:g} for {them} makes {count * share:g} GPUs; this machine has {gpus or 'none'}"
                )


def load_from_workers(path: str) -> Any:
    """An object of the package `workers`, by its dotted name.

    Raises:
        InputError: if Ray is not installed.
    """
    try:
        return load_object(path)
    except ImportError as error:
        raise InputError(
            f"executor 'ray' cannot be loaded ({error}); install it with pip install 'glorasearch[ray]'"
        ) from error


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
