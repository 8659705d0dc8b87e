"""A whole run with its candidates evaluated in Ray actors, on CPUs and on GPUs: trials and winner of one process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from support.devices import Device, parameters

Bench = Any

# The lag is given, as it goes by the executor otherwise, and with it what is recorded of trials stopped early.
SHORT = ("train.steps=12", "refit.steps=0", "report.baselines=[]", "search.trials=64", "search.early_stopping_lag=4")


def actors(root: int) -> list[int]:
    """Process ids of the evaluation actors that descend from a process, by what they call themselves."""
    listing = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listing.splitlines()[1:]]
    parents = {int(pid): int(parent) for pid, parent, _ in rows}
    found = [int(pid) for pid, _, name in rows if name.startswith("ray::EvaluatorActor")]

    def descends(pid: int) -> bool:
        while pid in parents:
            if pid == root:
                return True
            pid = parents[pid]
        return False

    return [pid for pid in found if descends(pid)]


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="finds the actors through ps of Linux")
@pytest.mark.parametrize("device", parameters())
def test_same_as_in_process_also_when_an_actor_is_killed(
    make_bench: Callable[..., Bench], make_copy: Callable[[Bench], Bench], device: Device
) -> None:
    """On two cards by four workers with half a card each. All search with the same weights."""
    trials = ("search.trials=1024",) if device.cuda else ()  # enough for a kill among them
    alone = make_bench(*SHORT, *trials, *device.settings)
    alone.finish("train")
    spread = make_copy(alone)
    alone.finish()
    process = spread.start("run", *device.evaluators(cpus=2, gpus=4, share=0.5), "--json")
    spread.wait_until(lambda: spread.trials() >= 5 and bool(actors(process.pid)), process)
    os.kill(actors(process.pid)[0], signal.SIGKILL)
    assert process.wait(240) == 0, spread.errors()
    expected, found = alone.outcome(), spread.outcome()
    for part in ("trials", "evaluations", "weights", "export"):
        assert found[part] == expected[part], part
    assert spread.record.stages["search"]["failed"] == 0
    report = json.loads((spread.workspace / "process-0.out").read_text())
    assert report["run"] == spread.record.name, "what Ray says of the killed actor does not stand among the result"
