"""What the driver costs with 1,000 workers and 100,000 trials of 240 genes on SQLite, in both modes.

    python benchmarks/bench_scale.py [--trials 100000] [--workers 1000] [--json docs/scale.json]
        [--plot docs/scale.svg] [--modes steady,generational]

The workers are simulated (`glorasearch.search.SimulatedExecutor`, log-normal evaluation times), the landscape too
(landscape.py); driver, sampler, storage and database file are the real ones, and all that happens in the process is
counted: the simulation and the scoring of the pretended candidates, about a tenth, as well. Each search runs in a
process of its own, on one thread. Its study is then opened again in a fresh process, which finds it finished; and once
more, to make 100 trials more. About 5 minutes a mode.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from table import Row, machine, print_table

MODES: dict[str, dict[str, Any]] = {
    "steady": {"mode": "steady"},
    "generational": {"mode": "generational", "population": 1_000},
}
TRIALS_A_SECOND = 200
MEBIBYTES = 1_024
MORE = 100
"""Trials that are made after the study was opened again."""


def resident() -> float:
    """MiB that this process has in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def work(mode: str, trials: int, workers: int, path: Path) -> dict[str, Any]:
    """Go on with the study in a file until it has so many trials, in this process."""
    from bench_driver import vit_base
    from landscape import Landscape

    from glorasearch.db import TrialStorage, sqlite_url
    from glorasearch.search import LogNormalSeconds, SearchConfig, SearchDriver, SearchProgress, SimulatedExecutor

    space = vit_base()
    points: list[dict[str, float]] = []
    first = last = (0, time.process_time(), time.perf_counter())

    def note(progress: SearchProgress) -> None:
        nonlocal last
        if progress.done % 1_000 == 0 and progress.done > last[0]:
            now = (progress.done, time.process_time(), time.perf_counter())
            made = now[0] - last[0]
            cpu, wall = ((now[i] - last[i]) / made * 1e3 for i in (1, 2))
            points.append({"trials": now[0], "cpu_ms": round(cpu, 3), "wall_ms": round(wall, 3), "mib": resident()})
            last = now

    executor = SimulatedExecutor(Landscape(space), workers, LogNormalSeconds())
    config = SearchConfig(trials=trials, **MODES[mode])
    started = time.perf_counter(), time.process_time()
    first = last = (0, started[1], started[0])
    storage = TrialStorage(sqlite_url(path))
    outcome = SearchDriver(space, storage, executor, "weights", "study", config, on_progress=note).run()
    return {
        "mode": mode,
        "trials": outcome.trials,
        "genes": len(space.genes),
        "capacity": executor.capacity,
        "wall_seconds": round(time.perf_counter() - started[0], 2),
        "cpu_seconds": round(time.process_time() - first[1], 2),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "file_mib": round(path.stat().st_size / 2**20, 1),
        "utilisation": round(executor.utilisation, 4),
        "simulated_hours": round(executor.clock / 3_600, 2),
        "best": outcome.best.score.tempered,
        "points": points,
    }


def in_process(mode: str, trials: int, workers: int, path: Path) -> dict[str, Any]:
    """The same in a fresh process."""
    command = [sys.executable, __file__, "--child", mode, str(path), "--trials", str(trials), "--workers", str(workers)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(mode: str, trials: int, workers: int) -> dict[str, Any]:
    """A search, and its study opened again."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "study.db"
        found = in_process(mode, trials, workers, path)
        for name, count in (("reopened", trials), ("resumed", trials + MORE)):
            again = in_process(mode, count, workers, path)
            found[name] = {key: again[key] for key in ("trials", "wall_seconds", "cpu_seconds", "peak_mib")}
    return found


def to_rows(found: dict[str, Any]) -> list[Row]:
    """The figures of one mode."""
    mode = found["mode"]
    # The last trials in steady mode are only waited for, none is bred any more: they cost less.
    points = [point for point in found["points"] if point["trials"] <= found["trials"] - found["capacity"]]
    tenth = max(1, len(points) // 10)
    early, late = (sum(p["cpu_ms"] for p in part) / tenth for part in (points[tenth : 2 * tenth], points[-tenth:]))
    what = f"{mode}, {found['trials']:,} trials of {found['genes']} genes"
    again, more = found["reopened"], found["resumed"]
    note = f"{found['trials'] / found['cpu_seconds']:.0f} trials/s of CPU time, "
    note += f"{found['trials'] / found['wall_seconds']:.0f} by the wall clock; the file is {found['file_mib']:,.0f} MiB"
    return [
        Row(
            what=f"driver, {what}",
            measured=found["cpu_seconds"] / found["trials"] * 1e3,
            unit="ms",
            target=1e3 / TRIALS_A_SECOND,
            note=note,
        ),
        Row(what=f"the last tenth against the second, {what}", measured=late, reference=early, unit="ms", target=1.2),
        Row(what=f"peak memory, {what}", measured=found["peak_mib"], unit="MiB", target=MEBIBYTES),
        Row(
            what=f"opened again, {what}",
            measured=again["wall_seconds"],
            unit="s",
            note=f"peak {again['peak_mib']:.0f} MiB; with {MORE} trials more {more['wall_seconds']:.1f} s, "
            f"{more['peak_mib']:.0f} MiB",
        ),
    ]


def plot(found: list[dict[str, Any]], path: Path) -> None:
    """Milliseconds a trial and memory over the history of the study."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "glorasearch"
    from matplotlib import pyplot

    figure, (cost, memory) = pyplot.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for one in found:
        numbers = [point["trials"] for point in one["points"]]
        cost.plot(numbers, [point["cpu_ms"] for point in one["points"]], label=one["mode"], linewidth=1)
        memory.plot(numbers, [point["mib"] for point in one["points"]], label=one["mode"], linewidth=1)
    cost.axhline(1e3 / TRIALS_A_SECOND, color="grey", linestyle="--", linewidth=1, label="200 trials/s")
    memory.axhline(MEBIBYTES, color="grey", linestyle="--", linewidth=1, label="1 GiB")
    cost.set(title="Driver, CPU time of a trial", xlabel="trials made", ylabel="ms", ylim=(0, 6))
    memory.set(title="Memory of the process", xlabel="trials made", ylabel="MiB", ylim=(0, 1_100))
    for axes in (cost, memory):
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def rows(trials: int = 100_000, workers: int = 1_000) -> list[Row]:
    """Both modes."""
    return [row for mode in MODES for row in to_rows(measure(mode, trials, workers))]


def main() -> None:
    """Measure, print, plot, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=1_000)
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--child", nargs=2, metavar=("MODE", "PATH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        mode, path = options.child
        print(json.dumps(work(mode, options.trials, options.workers, Path(path))))
        return
    found = [measure(mode, options.trials, options.workers) for mode in options.modes.split(",")]
    print_table(row for one in found for row in to_rows(one))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        content = {"machine": machine(), "workers": options.workers, "searches": found}
        options.json.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    if options.plot:
        plot(found, options.plot)


if __name__ == "__main__":
    main()
