"""Two GPUs that share the ranks of a step through NCCL end where one GPU does that carries them all out itself.

Needs two CUDA devices: `pytest -m gpu tests/numerics/test_ranks_gpu.py`.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from support.data import grey
from support.processes import environment

from glorasearch.data import DataConfig, load_search_data
from glorasearch.errors import GlorasearchError
from glorasearch.space import SearchSpace
from glorasearch.supernet import Supernet
from glorasearch.training import BACKENDS, Communicator, ProcessGroup, Sandwich, SingleProcess, SupernetTrainer, Uniform
from glorasearch.weights import tensor_digest

pytestmark = [pytest.mark.gpu, pytest.mark.two_gpus]
DEADLINE_SECONDS = 400
Spec = dict[str, Any]


def train(spec: Spec, device: str, communicator: Communicator, folder: Path) -> None:
    """Train; leaves `<process>.pt` in the folder: the state, the losses, and what was warned of."""
    if device != "cpu":
        torch.cuda.set_device(device)
    warnings: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: warnings.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("glorasearch").addHandler(handler)
    torch.manual_seed(0)
    backbone = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, depth=4, num_classes=10, in_chans=1, drop_path_rate=0.2
    ).eval()
    supernet = Supernet(backbone, SearchSpace.load("glora_medium"), seed=3)
    data = load_search_data(DataConfig(source="digits", train=400, search=100), grey(32))
    strategy = (Sandwich if spec["sandwich"] else Uniform)(supernet.space, 0)
    steps = spec.get("steps", 60)
    config = SupernetTrainer.Config(
        steps=steps, batch_size=32, ranks=2, lr=3e-3, head_lr=3e-3, warmup_steps=5,
        precision=spec["precision"], record_every=10, checkpoint_every=20,
    )  # fmt: skip
    losses: list[float] = []

    def on_step(step: int) -> None:
        if spec.get("kill") == [communicator.process, step]:
            os.kill(os.getpid(), signal.SIGKILL)

    error = ""
    try:
        SupernetTrainer(
            supernet,
            data.train,
            strategy,
            config,
            device=device,
            compile=spec["compile"],
            communicator=communicator,
            checkpoint=folder / "train.safetensors",
            on_record=lambda row: losses.append(row.values["loss"]),
            on_step=on_step,
        ).run()
    except GlorasearchError as caught:
        error = f"{type(caught).__name__}: {caught}"
    state = {name: value.cpu() for name, value in supernet.adapter_state().items()}
    torch.save(
        {"state": state, "losses": losses, "warnings": warnings, "error": error}, folder / f"{communicator.process}.pt"
    )


def main(number: int, processes: int, folder: Path) -> None:
    """One of the processes, each on a GPU of its own."""
    spec = json.loads((folder / "spec.json").read_text())
    device = "cpu" if spec.get("cpu") else f"cuda:{number}"
    if processes == 1:
        train(spec, device, SingleProcess(), folder)
        return
    if not spec.get("cpu"):
        torch.cuda.set_device(number)
    torch.distributed.init_process_group(
        BACKENDS["cpu" if spec.get("cpu") else "cuda"],
        init_method=f"file://{folder / 'meeting'}",
        rank=number,
        world_size=processes,
        timeout=timedelta(seconds=60),
    )
    train(spec, device, ProcessGroup(), folder)
    torch.distributed.destroy_process_group()


def run(spec: Spec, processes: int, folder: Path) -> list[int]:
    """Run so many processes to their end; their exit statuses."""
    folder.mkdir(exist_ok=True)
    (folder / "spec.json").write_text(json.dumps(spec))
    started = [
        subprocess.Popen([sys.executable, __file__, str(number), str(processes), str(folder)], env=environment())
        for number in range(processes)
    ]
    try:
        return [process.wait(DEADLINE_SECONDS) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()


def ended(spec: Spec, processes: int, folder: Path) -> list[Spec]:
    """What processes that all end well leave behind."""
    assert run(spec, processes, folder) == [0] * processes
    return [torch.load(folder / f"{number}.pt") for number in range(processes)]


@pytest.mark.parametrize(
    ("compile", "precision", "sandwich"),
    [("on", "bfloat16", True), ("on", "float32", False), ("off", "float32", False), ("off", "float32", True)],
)
def test_two_processes_train_as_one(tmp_path: Path, compile: str, precision: str, sandwich: bool) -> None:
    """The two of a group have the same bits; one process has them but for what kernels round."""
    spec = {"compile": compile, "precision": precision, "sandwich": sandwich}
    (alone,) = ended(spec, 1, tmp_path / "one")
    first, second = ended(spec, 2, tmp_path / "two")
    assert (alone["error"], first["error"], second["error"]) == ("", "", "")
    assert not any("cannot be compiled" in text for text in alone["warnings"] + first["warnings"])
    assert not any("round differently" in text for text in first["warnings"])
    assert tensor_digest(first["state"]) == tensor_digest(second["state"])
    assert first["losses"] == pytest.approx(alone["losses"], rel=0.05)
    assert first["losses"][-1] < first["losses"][0]
    same = tensor_digest(first["state"]) == tensor_digest(alone["state"])
    print(f"compile={compile} precision={precision} sandwich={sandwich}: one process has the same bits: {same}")


def test_one_process_goes_on_where_one_of_two_was_killed(tmp_path: Path) -> None:
    """The other process ends too, instead of waiting for ever."""
    spec = {"compile": "on", "precision": "bfloat16", "sandwich": False}
    statuses = run(spec | {"kill": [1, 45]}, 2, tmp_path)
    assert statuses[1] == -signal.SIGKILL
    (resumed,) = ended(spec, 1, tmp_path)
    assert resumed["error"] == ""
    assert len(resumed["losses"]) == 2, "steps 50 and 60: it went on from the checkpoint of step 40"


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
