"""The table of measured results in the README: every fixed method and the searched space, over several seeds.

Each seed is a run of `scripts/results.toml` in a workspace of its own; a run that is finished is not done again, so
the script can be stopped and started. It prints the table in Markdown and writes `docs/results.json` and
`docs/results.svg`.

    python scripts/results.py [--seeds 3] [--parallel 2] [--workspace results-runs]
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RUN_FILE = ROOT / "scripts" / "results.toml"
LABELS = {
    "linear_probe": "linear probe",
    "bitfit": "BitFit",
    "ssf": "SSF",
    "lora": "LoRA r=4",
    "lora_r8": "LoRA r=8",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--parallel", type=int, default=max(1, min(2, os.cpu_count() or 1)), help="runs at a time")
    parser.add_argument("--workspace", default=str(ROOT / "results-runs"))
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="override of the run file")
    parser.add_argument("--output", type=Path, default=ROOT / "docs")
    options = parser.parse_args()
    with ThreadPoolExecutor(options.parallel) as pool:
        reports = list(pool.map(lambda seed: run(seed, options), range(options.seeds)))
    rows = summarise(reports)
    search = [report["winner"]["search_accuracy"] for report in reports]
    content = {
        "command": " ".join(["python", "scripts/results.py", *sys.argv[1:]]),
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}, {options.parallel} runs at a time",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "seeds": options.seeds,
        "versions": reports[0]["versions"],
        "rows": rows,
        "winner_search_accuracy": [100 * value for value in search],
    }
    options.output.mkdir(exist_ok=True)
    (options.output / "results.json").write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    plot(rows, options.output / "results.svg")
    print(markdown(rows))


def run(seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One seed: `glorasearch run`, with one thread for each of the runs that go on at a time."""
    threads = max(1, (os.cpu_count() or 1) // options.parallel)
    command = [sys.executable, "-m", "glorasearch", "run", str(RUN_FILE), "--json"]
    command += ["--workspace", str(Path(options.workspace) / f"seed-{seed}"), "--set", f"seed={seed}"]
    for override in options.overrides:
        command += ["--set", override]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True).stdout
    report: dict[str, Any] = json.loads(output)
    print(f"seed {seed}: winner {100 * report['winner']['refit_test_accuracy']:.2f} %", file=sys.stderr)
    return report


def summarise(reports: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a method: parameters and test accuracy (%), mean and standard deviation over the seeds."""
    rows = [
        _row(
            LABELS.get(name, name),
            "train + search",
            [report["baselines"][name]["parameters"] for report in reports],
            [report["baselines"][name]["test_accuracy"] for report in reports],
        )
        for name in reports[0]["baselines"]
    ]
    winners = [report["winner"] for report in reports]
    parameters = [winner["parameters"] for winner in winners]
    random = [report["random_subnets"] for report in reports if report["random_subnets"]]
    if random:
        rows.append(
            _row(
                f"{random[0]['count']} random subnets (mean)",
                "train",
                [entry["mean_parameters"] for entry in random],
                [entry["mean_test_accuracy"] for entry in random],
            )
        )
    rows.append(_row("winner, inherited weights", "train", parameters, [winner["test_accuracy"] for winner in winners]))
    rows.append(
        _row("winner, refitted", "train + search", parameters, [winner["refit_test_accuracy"] for winner in winners])
    )
    return rows


def _row(method: str, trained_on: str, parameters: list[float], accuracies: list[float]) -> dict[str, Any]:
    percent = [100 * accuracy for accuracy in accuracies]
    return {
        "method": method,
        "trained_on": trained_on,
        "parameters": statistics.mean(parameters),
        "test_accuracy": statistics.mean(percent),
        "spread": statistics.stdev(percent) if len(percent) > 1 else 0.0,
        "each": percent,
    }


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table."""
    lines = ["| method | parameters | trained on | test accuracy, % |", "|---|---:|---|---:|"]
    lines += [
        f"| {row['method']} | {row['parameters']:,.0f} | {row['trained_on']} | "
        f"{row['test_accuracy']:.2f} ± {row['spread']:.2f} |"
        for row in rows
    ]
    return "\n".join(lines)


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Test accuracy over parameters, with the spread over the seeds."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "glorasearch"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3.6))
    for row in rows:
        if row["parameters"] == 0:
            axes.axhline(row["test_accuracy"], color="0.6", linestyle=":", linewidth=1)
            axes.annotate(
                f"{row['method']} (0 parameters)",
                (0.01, row["test_accuracy"]),
                fontsize=8,
                color="0.4",
                xycoords=("axes fraction", "data"),
                va="bottom",
            )
            continue
        found = row["method"].startswith("winner")
        axes.errorbar(
            row["parameters"],
            row["test_accuracy"],
            yerr=row["spread"],
            fmt="D" if found else "o",
            color="tab:red" if found else "tab:blue",
            capsize=3,
            markersize=6,
        )
        axes.annotate(
            row["method"],
            (row["parameters"], row["test_accuracy"]),
            fontsize=8,
            xytext=(8 if found else -8, -4 if found else 4),
            textcoords="offset points",
            ha="left" if found else "right",
        )
    axes.set_xscale("log")
    axes.set_xlabel("trainable parameters, head excluded")
    axes.set_ylabel("test accuracy, %")
    axes.margins(x=0.22)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
