"""Groups of processes on the CPU that train together.

    python -m support.rank_process FOLDER

reads `FOLDER/groups.json` (group → `processes`, and `trainings` that these do one after the other), and writes to
`FOLDER/<group>-<process>.json` how each training ended. The processes are forked from the one that is started, so that
torch and timm are imported once. Tests import this file too, and so have the same trainings in a process of their own.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glorasearch.data import SearchData
from glorasearch.errors import GlorasearchError
from glorasearch.space import SearchSpace
from glorasearch.supernet import Supernet
from glorasearch.training import Communicator, ProcessGroup, SingleProcess, SupernetTrainer
from glorasearch.training.fast_step import FastStep
from glorasearch.training.step import Step
from glorasearch.weights import tensor_digest
from support.data import few_digits
from support.models import tiny_vit
from support.training import STRATEGIES, FastTrainer

FORMS = ["none", "constant", "vector", "lora:1", "lora:2"]
SPACES: dict[str, dict[str, Any]] = {
    "plain": {"choices": {"A": FORMS, "B": FORMS, "E": ["none", "vector"]}},
    "directions": {
        "choices": {"B": ["none", "dash:1:2", "tsd:1:2"]},
        "options": {"dash": {"warmup": 3}, "tsd": {"warmup": 4}},
    },
}


GIVEN = (
    "steps",
    "lr",
    "batch_size",
    "checkpoint_every",
    "clip_norm",
    "ema_decay",
    "patience",
    "patience_every",
    "augment",
)
RECORDED = ("loss", "gradient_norm", "patience_tempered")


class StoppedError(Exception):
    """Ends a training where a signal would."""


class LenientTrainer(FastTrainer):
    """Takes the fused step where it can be captured."""

    strict = False


class UncapturedTrainer(LenientTrainer):
    """Takes the fused step on a machine that cannot capture it."""

    def _make_step(self) -> Step:
        step = super()._make_step()
        assert isinstance(step, FastStep)
        assert step._fused is not None

        def gradient(*arguments: Any) -> Tensor:
            raise RuntimeError("operation not permitted when stream is capturing")

        step._fused.gradient = gradient  # type: ignore[method-assign]
        return step


def make_supernet(space: str = "plain", drop_path: float = 0.0, seed: int = 0) -> Supernet:
    content = SearchSpace.from_dict({"name": "tiny"} | SPACES[space])
    return Supernet(tiny_vit(drop_path_rate=drop_path), content, seed=seed)


def train(data: SearchData, spec: dict[str, Any], communicator: Communicator | None = None) -> dict[str, Any]:
    """Train as `spec` says; returns `digest` of the weights, `steps` seen, `rows` of records, `error` if any.

    `stop` ends it after a step in every process, `kill` does so with a signal in the process given; `seeds` are those
    of the supernet by process; the processes in `uncaptured` cannot capture the fused step.
    """
    communicator = communicator or SingleProcess()
    spec = {"ranks": 2, "strategy": "uniform", "space": "plain", "drop_path": 0.0, "seeds": [0]} | spec
    seed = spec["seeds"][communicator.process % len(spec["seeds"])]
    supernet = make_supernet(spec["space"], spec["drop_path"], seed)
    steps: list[int] = []
    rows: list[Any] = []

    def on_step(step: int) -> None:
        steps.append(step)
        if spec.get("break") == step:
            with torch.no_grad():
                supernet.head_parameters()["head.weight"].fill_(float("inf"))
        if spec.get("drift") == [communicator.process, step]:
            with torch.no_grad():
                supernet.head_parameters()["head.weight"].mul_(1 + 1e-6)
        if spec.get("stop") == step:
            raise StoppedError
        if spec.get("kill") == [communicator.process, step]:
            os.kill(os.getpid(), signal.SIGKILL)

    given = {key: spec[key] for key in GIVEN if key in spec}
    recipe = {"steps": 12, "batch_size": 12, "warmup_steps": 2, "record_every": 3, "checkpoint_every": 4}
    config = SupernetTrainer.Config(ranks=spec["ranks"], **recipe | given)
    kind: type[SupernetTrainer] = LenientTrainer if spec.get("fast") else SupernetTrainer
    if communicator.process in spec.get("uncaptured", []):
        kind = UncapturedTrainer
    trainer = kind(
        supernet,
        data.train,
        STRATEGIES[spec["strategy"]](supernet),
        config,
        communicator=communicator,
        checkpoint=Path(spec["checkpoint"]) if "checkpoint" in spec else None,
        on_record=lambda row: rows.append([row.step, *(row.values[name] for name in RECORDED if name in row.values)]),
        on_step=on_step,
    )
    error = ""
    try:
        trainer.run()
    except (GlorasearchError, StoppedError) as caught:
        error = f"{type(caught).__name__}: {caught}"
    return {
        "digest": tensor_digest(supernet.adapter_state()),
        "draws": supernet.warm_ups.draws(),
        "steps": steps,
        "rows": rows,
        "error": error,
    }


def join(group: str, process: int, folder: Path, spec: dict[str, Any], data: SearchData) -> None:
    """Be one process of a group."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder / group}", rank=process, world_size=spec["processes"]
    )
    found = {name: train(data, training, ProcessGroup()) for name, training in spec["trainings"].items()}
    (folder / f"{group}-{process}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


def main(folder: Path) -> None:
    data = few_digits()
    for group, spec in json.loads((folder / "groups.json").read_text()).items():
        children: list[int] = []
        for process in range(spec["processes"]):
            child = os.fork()
            if child == 0:
                join(group, process, folder, spec, data)
                os._exit(0)
            children.append(child)
        for child in children:
            os.waitpid(child, 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
