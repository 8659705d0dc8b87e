"""How long the command line takes to start: `--help`, and `glorasearch train` up to its first step.

    python benchmarks/bench_start.py [--json PATH] [--device cpu] [--repeats 3] [--set KEY=VALUE ...] [--phases]

The run trains `glora_medium` on a ViT-B/16 at 224 px, whose weights are a local safetensors file, on 800 of
scikit-learn's digits. Its first record in the run's database shows when the first step was over, and with the images
a second of that record when it began. A step has 64 images on a GPU, and one on a CPU, where 64 take minutes; what
comes before the step is the same for any number.

On a GPU the step is compiled and captured before it is recorded. A run with an empty folder of compiled code is cold,
one that finds the code of another process there is warm; each is a new process with a workspace of its own.
`--phases` also says where the time of one more warm start goes.
"""

from __future__ import annotations

import argparse
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from start_phases import phases_of
from table import Row, finish, json_option

HELP_TARGET, START_TARGET = 0.4, 8.0
LIMIT = 300.0
"""Seconds that a run may take to its first step."""
RUN = """
name = "start"
device = "{device}"
[backbone]
name = "vit_base_patch16_224"
checkpoint = "weights.safetensors"
[data]
source = "digits"
train = 800
search = 200
[space]
name = "glora_medium"
[train]
steps = 100
lr = 1e-3
batch_size = {batch}
record_every = 1
probe_every = 0
"""
CACHES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
FIRST = "SELECT value FROM glorasearch_metrics WHERE stage = 'train' AND step = 1 AND name = 'images_per_second'"


def command(*arguments: str) -> list[str]:
    """The `glorasearch` of this interpreter."""
    return [sys.executable, "-m", "glorasearch", *arguments]


def environment() -> dict[str, str]:
    """Without what would take the place of the run's own folder of compiled code."""
    return {name: value for name, value in os.environ.items() if name not in CACHES}


def help_seconds(repeats: int = 5) -> float:
    """Median seconds of `glorasearch --help`, the interpreter's start included."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run(command("--help"), check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def write_weights(path: Path) -> None:
    """A ViT-B/16 with random weights and a head for 1,000 classes, as a pretrained file has it."""
    import timm
    from safetensors.torch import save_file

    save_file(timm.create_model("vit_base_patch16_224", pretrained=False).state_dict(), path)


def first_step_seconds(
    folder: Path, device: str, batch: int, overrides: Iterable[str] = (), code: str = "code"
) -> tuple[float, float, float]:
    """Seconds from the start of the process to the start and to the end of the first training step, and those that it
    had a processor until then: on a machine that others use, too, they say what the start takes on an idle one.

    `code` is the folder of compiled code. On a GPU a record's seconds of a step hold its compilation and capture, so
    that the start is when the trainer began.

    Raises:
        RuntimeError: if the run ends, or the time is up, before its first step is over; with what it printed.
    """
    file, log = run_file(folder, device, batch), folder / "log"
    options = [text for override in overrides for text in ("--set", override)]
    options += ["--code-cache", str(folder / code)]
    with tempfile.TemporaryDirectory(dir=folder) as workspace, log.open("w") as output:
        arguments = command("train", str(file), "--workspace", workspace, "--quiet", *options)
        start = time.perf_counter()
        process = subprocess.Popen(arguments, env=environment(), stdout=output, stderr=output)
        try:
            while (rate := _first_record(Path(workspace))) is None:
                if (
                    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                    or time.perf_counter() - start > LIMIT
                ):
                    raise RuntimeError(f"no first step: {log.read_text('utf-8')}")
                time.sleep(0.005)
            end = time.perf_counter() - start
        finally:
            process.kill()
            _, _, used = os.wait4(process.pid, 0)
            process.returncode = -signal.SIGKILL
    return end - batch / rate, end, used.ru_utime + used.ru_stime


def run_file(folder: Path, device: str, batch: int) -> Path:
    """The run file, written."""
    file = folder / f"batch{batch}.toml"
    file.write_text(RUN.format(device=device, batch=batch), "utf-8")
    return file


def rows(device: str = "cpu", repeats: int = 3, overrides: Iterable[str] = (), phases: bool = False) -> list[Row]:
    """`--help`, and the start of a run; medians, after one run that brings the files into the system's cache."""
    found = [Row(what="--help", measured=help_seconds(), unit="s", target=HELP_TARGET)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_weights(folder / "weights.safetensors")
        batch = 64 if device.startswith("cuda") else 1
        gpu, overrides = device.startswith("cuda"), tuple(overrides)
        first = first_step_seconds(folder, device, batch, overrides, "first" if gpu else "code")[1]
        if gpu:
            seconds = first_step_seconds(folder, device, batch, overrides)[1]
            size = sum(path.stat().st_size for path in (folder / "code").rglob("*") if path.is_file())
            note = f"{size / 1e6:.0f} MB compiled; the first run of all {first:.1f} s"
            what = "start to the end of the first step, nothing compiled yet"
            found.append(Row(what=what, measured=seconds, unit="s", note=note))
        starts = [first_step_seconds(folder, device, batch, overrides) for _ in range(repeats)]
        if phases:
            print(phases_of(run_file(folder, device, batch), folder / "code", overrides, environment()))
    begin, end, used = (statistics.median(times) for times in zip(*starts, strict=True))
    each = ", ".join(f"{one:.1f}" for _, one, _ in starts)
    told = f"batch {batch}; {each}; first {first:.1f} s; {used:.1f} s on a processor"
    for what, seconds, note in (("beginning", begin, ""), ("end", end, told)):
        what = f"start to the {what} of the first step, ViT-B/16"
        found.append(Row(what=what, measured=seconds, unit="s", target=START_TARGET, note=note))
    return found


def _first_record(workspace: Path) -> float | None:
    """Images a second of the first step, once they are recorded."""
    files = list(workspace.glob("*.db"))
    if not files:
        return None
    try:
        with closing(sqlite3.connect(f"file:{files[0]}?mode=ro", uri=True)) as database:
            row = database.execute(FIRST).fetchone()
    except sqlite3.OperationalError:  # the tables are not made yet, or are being written
        return None
    return None if row is None else float(row[0])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    json_option(parser)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="as of `glorasearch train`")
    parser.add_argument("--phases", action="store_true", help="say where the time goes")
    options = parser.parse_args()
    finish(rows(options.device, options.repeats, options.overrides, options.phases), options)


if __name__ == "__main__":
    main()
