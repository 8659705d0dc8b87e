"""Where a test of Ray computes: on the CPU, or on cards of this machine, where workers get shares of them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Device:
    """What a run file and the command line say of it."""

    name: str

    @property
    def cuda(self) -> bool:
        """Whether it is a GPU."""
        return self.name == "cuda"

    @property
    def settings(self) -> tuple[str, ...]:
        """Overrides of a run file."""
        return (f"device={self.name}",)

    def evaluators(self, cpus: int, gpus: int, share: float) -> tuple[str, ...]:
        """Options of `run`: so many workers on the CPU, or so many with a share of a GPU each."""
        if not self.cuda:
            return ("--executor", "ray", "--workers", str(cpus))
        return ("--executor", "ray", "--workers", str(gpus), "--gpus-per-worker", f"{share:g}")

    def trainers(self, count: int) -> tuple[str, ...]:
        """Options of `train`: so many processes that train together, each with a GPU if there are any."""
        cards = ("--train-gpus", "1") if self.cuda else ()
        return ("--executor", "ray", "--train-workers", str(count), *cards)

    def __str__(self) -> str:
        return self.name


def parameters(*, cpu: tuple[pytest.MarkDecorator, ...] = (), gpus: int = 2) -> list[object]:
    """Parameters of a test: the CPU, and this number of cards where there are as many; `cpu` are marks of the first."""
    marks = [pytest.mark.gpu, *([pytest.mark.two_gpus] if gpus > 1 else [])]
    return [
        pytest.param(Device("cpu"), marks=cpu, id="cpu"),
        pytest.param(Device("cuda"), marks=marks, id="gpu" if gpus == 1 else "two_gpus"),
    ]
