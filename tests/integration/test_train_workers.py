"""The supernet trained by several real Ray Train workers: as by one process, also after kills; on GPUs over NCCL."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.curves import csv_points
from support.devices import Device, parameters

from glorasearch.errors import InputError
from glorasearch.runs import Run
from glorasearch.runs.config import RunConfig
from glorasearch.runs.resources import ResourceConfig
from glorasearch.runs.workspace import Workspace

Bench = Any
RANKS = "train.ranks=2"


@pytest.fixture
def in_one_process(tiny_run_file: Path, tmp_path: Path) -> Callable[..., Any]:
    """The result of the train stage when this process carries out all ranks."""

    def run(*overrides: str, workspace: Path | None = None, resources: ResourceConfig | None = None) -> Any:
        place = Workspace.open(workspace or tmp_path / "alone")
        run = Run(RunConfig.load(tiny_run_file, overrides), place, resources=resources)
        return run.execute("train").to_json()

    return run


def same(found: Any, expected: Any, device: Device) -> None:
    """Two trainings end alike: on the CPU with the same bits, on GPUs but for what kernels round."""
    for key in ("steps", "key"):
        assert found[key] == expected[key], key
    if device.cuda:
        print(f"the same bits: {found['weights'] == expected['weights']}")
        assert found["loss"] == pytest.approx(expected["loss"], rel=0.1)
        return
    for key in ("weights", "loss"):
        assert found[key] == expected[key], key


@pytest.mark.parametrize("device", parameters())
def test_two_workers_end_with_the_weights_of_one_process(
    make_bench: Callable[..., Bench], in_one_process: Callable[..., Any], device: Device
) -> None:
    bench = make_bench(RANKS, *device.settings)
    bench.finish("train", *device.trainers(2))
    same(bench.record.stages["train"], in_one_process(RANKS, *device.settings), device)
    assert bench.count("select count(*) from glorasearch_metrics where name = 'loss'") == 80 / 5
    assert [step for step, _ in csv_points(bench.curves, "train")["loss"]] == list(range(5, 81, 5))
    assert bench.count("select count(*) from glorasearch_metrics where name = 'search_accuracy_largest'") == 80 / 40
    assert not bench.checkpoint("train").exists()


@pytest.mark.slow
def test_two_workers_stop_early_where_one_process_does(
    make_bench: Callable[..., Bench], in_one_process: Callable[..., Any]
) -> None:
    patient = (RANKS, "train.patience=1", "train.patience_every=6", "train.lr=5e-2", "train.ema_decay=0.9")
    bench = make_bench(*patient)
    bench.finish("train", *Device("cpu").trainers(2))
    found, expected = bench.record.stages["train"], in_one_process(*patient)
    assert expected["steps"] < 80
    assert expected["kept_step"] == expected["steps"] - 6
    for key in ("weights", "steps", "kept_step", "loss", "key"):
        assert found[key] == expected[key], key


def test_workers_that_cannot_share_the_ranks_are_refused(in_one_process: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match=r"--train-workers is 2, and a step has 1 rank .*--set train\.ranks=2"):
        in_one_process(resources=ResourceConfig(executor="ray", train_workers=2))
    with pytest.raises(InputError, match=r"--train-gpus is 0\.5: processes that train together need whole GPUs"):
        in_one_process(RANKS, resources=ResourceConfig(executor="ray", train_workers=2, train_gpus=0.5))


def training_workers(root: int) -> Iterator[int]:
    """Process ids of the Ray Train workers that descend from a process, by what they call themselves."""
    listing = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listing.splitlines()[1:]]
    parents = {int(pid): int(parent) for pid, parent, _ in rows}
    for text, _, name in rows:
        pid = int(text)
        if name.startswith("ray::") and "TrainWorker" in name:
            ancestor = pid
            while ancestor in parents and ancestor != root:
                ancestor = parents[ancestor]
            if ancestor == root:
                yield pid


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="finds the workers through ps of Linux")
@pytest.mark.parametrize("device", parameters(cpu=(pytest.mark.slow,)))
def test_a_killed_worker_a_killed_driver_and_one_process_that_finishes(
    make_bench: Callable[..., Bench], in_one_process: Callable[..., Any], device: Device
) -> None:
    long = (RANKS, "train.steps=600", "train.probe_every=0", "compile=off", *device.settings)
    workers_of = device.trainers(2)
    bench = make_bench(*long)
    process = bench.start("train", *workers_of)
    bench.wait_until(lambda: bench.steps("train") >= 40, process)
    os.kill(next(training_workers(process.pid)), signal.SIGKILL)
    assert process.wait(240) == 1
    assert "Start the same command again: it resumes from the last checkpoint" in bench.errors()
    reached = bench.steps("train")
    assert 40 <= reached < 600

    process = bench.start("train", *workers_of)
    bench.wait_until(lambda: bench.steps("train") >= reached + 60, process)
    workers = list(training_workers(process.pid))
    assert len(workers) == 2
    process.kill()
    process.wait()
    bench.poll(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))

    same(in_one_process(*long, workspace=bench.workspace), in_one_process(*long), device)
