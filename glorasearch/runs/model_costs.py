"""The costs of subnets that need the model to be counted, for the objectives of a search."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from glorasearch.config import is_mixed
from glorasearch.evaluation import LayerCosts, milliseconds, training_flops
from glorasearch.runs.session import Session
from glorasearch.search.objectives import Cost
from glorasearch.space import Subnet


class KeptCosts(dict[str, float]):
    """What has been measured, kept in a file: a search that goes on counts as before.

    `machine` is what measurements depend on beside what was run: those of another one are not taken over.
    """

    def __init__(self, path: Path, machine: str) -> None:
        super().__init__()
        self._path, self._machine = path, machine
        if path.exists():
            for line in path.read_text().splitlines():
                self._read(line)

    def _read(self, line: str) -> None:
        try:
            machine, key, value = json.loads(line)
        except ValueError:  # cut off when the process was killed
            return
        if machine == self._machine:
            super().__setitem__(key, float(value))

    def __setitem__(self, key: str, value: float) -> None:
        super().__setitem__(key, value)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(f"\n{json.dumps([self._machine, key, value])}")


def model_costs(session: Session) -> dict[Cost, Callable[[Subnet], float]]:
    """What counts those of the search's costs that need the model: on the run's device, in this process."""
    asked = session.config.search.costs
    found: dict[Cost, Callable[[Subnet], float]] = {}
    if not {"latency", "training_flops"} & set(asked):
        return found
    device = torch.device(session.device)
    supernet = session.supernet().to(device)
    image, _ = session.data.train.batch(slice(0, 1), device)
    if "training_flops" in asked:
        found["training_flops"] = LayerCosts(supernet, image, training_flops)
    if "latency" in asked:
        mixed = is_mixed(session.config.search.precision, device.type)
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
        machine = f"{name}, {'bfloat16' if mixed else 'float32'}, {torch.get_num_threads()} threads"
        known = KeptCosts(session.files.latencies, f"{machine}, torch {torch.__version__}")
        found["latency"] = LayerCosts(supernet, image, partial(milliseconds, mixed=mixed), known)
    return found
