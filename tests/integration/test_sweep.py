"""Sweeps over small tasks in VTAB-1k's layout: in one process, and as Ray tasks on a cluster of two nodes."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from support.devices import Device, parameters
from support.programs import Program
from support.vtab_toy import write_task

DEADLINE_SECONDS = 300
TASKS = ("patch_camelyon", "kitti", "clevr_dist")
SIZES = {"img_size": 28, "patch_size": 14, "embed_dim": 24, "depth": 2, "num_heads": 2}
RUN_FILE = f"""
name = "toy"
device = "cpu"
threads = 1
[backbone]
name = "vit_tiny_patch16_224"
checkpoint = "backbone.safetensors"
args = {{{", ".join(f"{name} = {value}" for name, value in SIZES.items())}}}
[data]
source = "vtab:vtab/{{task}}"
[train]
steps = 60
lr = 1e-3
batch_size = 32
warmup_steps = 5
checkpoint_every = 20
[search]
trials = 24
population = 8
parents = 3
[race]
enabled = false
[refit]
steps = 20
"""


@dataclass
class Sweeps:
    """A folder with a run file, its tasks and workspaces, and the processes at work there."""

    folder: Path
    processes: list[Program] = field(default_factory=list)

    def start(self, workspace: str, *more: str) -> Program:
        number = len(self.processes)
        arguments = ["sweep", str(self.folder / "toy.toml"), "--tasks", ",".join(TASKS), "--json", *more]
        process = Program(
            [*arguments, "--workspace", str(self.folder / workspace)],
            self.folder / f"{number}.out",
            self.folder / f"{number}.err",
        )
        self.processes.append(process)
        return process

    def run(self, workspace: str, *more: str, code: int = 0) -> tuple[dict[str, Any], str]:
        """What it printed: the result, and standard error."""
        assert self.start(workspace, *more).wait(DEADLINE_SECONDS) == code, self.said()
        result: dict[str, Any] = json.loads((self.folder / f"{len(self.processes) - 1}.out").read_text())
        return result, self.said()

    def said(self) -> str:
        return (self.folder / f"{len(self.processes) - 1}.err").read_text()

    def ask(self, workspace: str, query: str) -> list[tuple[Any, ...]]:
        """Out of the database, from outside."""
        try:
            path = self.folder / workspace / "glorasearch.db"
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
                return connection.execute(query).fetchall()
        except sqlite3.OperationalError:
            return []

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not condition():
            assert self.processes[-1].poll() is None, f"ended before the condition held:\n{self.said()}"
            assert time.monotonic() < deadline, f"waited in vain:\n{self.said()}"
            time.sleep(0.005)


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweeps]:
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "toy.toml").write_text(RUN_FILE)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        safetensors.torch.save_model(
            timm.create_model("vit_tiny_patch16_224", **SIZES), str(folder / "backbone.safetensors")
        )
    for task in TASKS:
        write_task(folder / "vtab", task)
    made = Sweeps(folder)
    yield made
    for process in made.processes:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def here(sweeps: Sweeps) -> dict[str, Any]:
    """The result of a sweep in one process: one task's images are broken at first, and mended for the second start."""
    broken = sweeps.folder / "vtab" / "kitti" / "images" / "test" / "000003.png"
    content = broken.read_bytes()
    broken.write_bytes(content[:100])
    result, said = sweeps.run("here", code=1)
    assert result["failed"] == ["kitti"]
    assert "task kitti failed" in said
    assert "000003.png" in said
    assert [row["test_accuracy"] is None for row in result["tasks"]] == [False, True, False]
    assert result["mean_of_groups"] is None
    broken.write_bytes(content)
    before = sweeps.ask("here", "select name, updated from glorasearch_runs where name != 'toy-kitti'")
    result, said = sweeps.run("here")
    assert "finished before: patch_camelyon, clevr_dist" in said
    assert sweeps.ask("here", "select name, updated from glorasearch_runs where name != 'toy-kitti'") == before
    return result


def test_a_task_that_fails_stops_no_other_and_the_same_command_goes_on(here, sweeps):
    accuracy = {row["task"]: row["test_accuracy"] for row in here["tasks"]}
    assert accuracy["patch_camelyon"] == 1.0  # the bar is at one of two places
    assert accuracy["kitti"] > 0.5
    assert here["failed"] == []
    structured = (accuracy["kitti"] + accuracy["clevr_dist"]) / 2
    assert here["groups"]["structured"]["test_accuracy"] == pytest.approx(structured)
    assert here["mean_of_groups"] == pytest.approx((structured + 1.0) / 2)
    for task in TASKS:
        assert (sweeps.folder / "here" / "runs" / f"toy-{task}" / "export" / "config.json").is_file()


@pytest.mark.parametrize("device", parameters(cpu=(pytest.mark.slow,)))
def test_two_tasks_at_a_time_are_those_of_one_process(sweeps: Sweeps, device: Device) -> None:
    """On GPUs each has a card for itself."""
    two = ("--tasks", "patch_camelyon,clevr_dist", "--set", f"device={device}", "--set", "compile=off")
    expected, _ = sweeps.run(f"one-{device}", *two)
    card = ("--gpus-per-task", "1") if device.cuda else ()
    found, _ = sweeps.run(f"two-{device}", *two, "--executor", "ray", "--parallel", "2", *card)
    if not device.cuda:
        assert found == expected
        return
    for one, other in zip(found["tasks"], expected["tasks"], strict=True):
        assert one["task"] == other["task"]
        assert one["test_accuracy"] == pytest.approx(other["test_accuracy"], abs=0.1), one["task"]


@pytest.mark.slow
def test_a_cluster_of_two_nodes_loses_a_worker_and_the_sweep_itself(here, sweeps, monkeypatch):
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("GLORASEARCH_CACHE", str(sweeps.folder / "cache"))  # of the nodes
    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    try:
        cluster.add_node(**node)
        ray = ("--executor", "ray", "--address", cluster.address, "--parallel", "2")
        process = sweeps.start("there", *ray)
        running = "select count(*) from glorasearch_runs where state = 'running'"
        sweeps.wait_until(lambda: sweeps.ask("there", running) == [(2,)])  # each node has one CPU: both are at work
        owners = "select pid from glorasearch_leases where name like 'run:%' and pid != {}"
        ((worker,), *_) = sweeps.ask("there", owners.format(process.pid))
        os.kill(worker, signal.SIGKILL)
        ended = "select count(*) from glorasearch_runs where state = 'finished'"
        sweeps.wait_until(lambda: sweeps.ask("there", ended) >= [(1,)])
        process.kill()
        process.wait()
        finished = sweeps.ask("there", "select name, updated from glorasearch_runs where state = 'finished'")
        assert 1 <= len(finished) < len(TASKS)
        result, said = sweeps.run("there", *ray)
        assert "finished before: " in said
        assert set(finished) <= set(sweeps.ask("there", "select name, updated from glorasearch_runs"))
        assert result == here
        assert len(list((sweeps.folder / "cache").glob("made-*.lock"))) == 1  # one backbone for all heads
    finally:
        cluster.shutdown()
