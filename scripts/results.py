"""The table of measured results in `docs/results.md`: every fixed method and the searched spaces, over several seeds.

Each method and seed is a run of `scripts/results.toml` with another space; all have the same data and steps. A run that
is finished is not done again, so the script can be stopped and started. It prints the table of `glorasearch compare` in
Markdown and writes `docs/results.json` and `docs/results.svg`.

    python scripts/results.py [--seeds 3] [--parallel 2] [--workspace results-runs]
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RUN_FILE = ROOT / "scripts" / "results.toml"
FIXED = [
    "linear_probe",
    "bitfit",
    "ssf",
    "lora",
    "lora_r8",
    "repadapter",
    "wegeft",
    "fourierft",
    "lora_dash",
    "lora_tsd",
]
SEARCHED = ["lean", "glora_medium", "everything"]
LABELS = {
    "linear_probe": "linear probe",
    "bitfit": "BitFit",
    "ssf": "SSF",
    "lora": "LoRA r=4",
    "lora_r8": "LoRA r=8",
    "repadapter": "RepAdapter",
    "wegeft": "WeGeFT",
    "fourierft": "FourierFT",
    "lora_dash": "LoRA-Dash",
    "lora_tsd": "LoRA-TSD",
    **{name: f"{name}, searched" for name in SEARCHED},
}

SIDES = {"lora": (-8, 12), "lora_dash": (-8, -4), "lora_tsd": (-8, -18), "lora_r8": (8, 6), "everything": (8, 4)}
"""Where labels stand, in points, that would cover one another."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--parallel", type=int, default=max(1, min(2, os.cpu_count() or 1)), help="runs at a time")
    parser.add_argument("--workspace", default=str(ROOT / "results-runs"))
    parser.add_argument("--spaces", help="with commas between them (default: all of the table)")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="override of the run file")
    parser.add_argument("--output", type=Path, default=ROOT / "docs")
    options = parser.parse_args()
    spaces = options.spaces.split(",") if options.spaces else [*SEARCHED, *FIXED]
    jobs = list(product(range(options.seeds), spaces))
    with ThreadPoolExecutor(options.parallel) as pool:
        names = list(pool.map(lambda job: run(*job, options), jobs))
    compared = ["compare", *names, "--group", "--sort", "test"]
    markdown = glorasearch([*compared, "--markdown"], options)
    rows = json.loads(glorasearch([*compared, "--json"], options))["rows"]
    content = {
        "command": " ".join(["python", "scripts/results.py", *sys.argv[1:]]),
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}, {options.parallel} runs at a time",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "seeds": options.seeds,
        "rows": rows,
    }
    options.output.mkdir(exist_ok=True)
    (options.output / "results.json").write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    plot(rows, options.output / "results.svg")
    print(markdown)


def glorasearch(arguments: list[str], options: argparse.Namespace, **environment: str) -> str:
    """Standard output of a command in the workspace."""
    command = [sys.executable, "-m", "glorasearch", *arguments, "--workspace", options.workspace]
    done = subprocess.run(command, env=os.environ | environment, stdout=subprocess.PIPE, check=True, text=True)
    return done.stdout


def run(seed: int, space: str, options: argparse.Namespace) -> str:
    """One run, with one thread for each of the runs that go on at a time; returns its name."""
    name = f"{space}-{seed}"
    threads = max(1, (os.cpu_count() or 1) // options.parallel)
    overrides = [f"name={name}", f"space.name={space}", f"seed={seed}", f"threads={threads}", *options.overrides]
    arguments = ["run", str(RUN_FILE), "--json"]
    for override in overrides:
        arguments += ["--set", override]
    report: dict[str, Any] = json.loads(glorasearch(arguments, options, OMP_NUM_THREADS=str(threads)))
    print(f"{name}: {100 * report['winner']['test_accuracy']:.2f} %", file=sys.stderr, flush=True)
    return name


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Test accuracy over parameters, with the spread over the seeds."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "glorasearch"
    import numpy as np
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.5, 5))
    axes.set_yscale("function", functions=(lambda y: -np.log10(100.3 - y), lambda v: 100.3 - 10.0**-v))
    axes.set_yticks([90, 92, 94, 95, 96, 97, 97.5, 98])
    for row in rows:
        label = LABELS.get(row["method"], row["method"])
        test, spread = row["test_accuracy"]["mean"], row["test_accuracy"]["std"]
        parameters = row["parameters"]["mean"]
        if parameters == 0:
            axes.axhline(100 * test, color="0.6", linestyle=":", linewidth=1)
            place = (0.01, 100 * test)
            note = f"{label} (0 parameters)"
            axes.annotate(note, place, fontsize=8, color="0.4", xycoords=("axes fraction", "data"), va="bottom")
            continue
        found = row["method"] in SEARCHED
        axes.errorbar(
            parameters, 100 * test, yerr=100 * (spread or 0), fmt="D" if found else "o", capsize=3, markersize=5,
            color="tab:red" if found else "tab:blue",
        )  # fmt: skip
        x, y = SIDES.get(row["method"], (8, -3) if found else (-8, 3))
        side = "left" if x > 0 else "right"
        axes.annotate(label, (parameters, 100 * test), xytext=(x, y), ha=side, fontsize=8, textcoords="offset points")
    axes.set_xscale("log")
    axes.set_xlabel("trainable parameters, head excluded")
    axes.set_ylabel("test accuracy, %")
    axes.margins(x=0.22)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
