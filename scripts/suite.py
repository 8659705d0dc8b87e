"""The suite: tasks x seeds x arms, to see whether a search is worth having, in `docs/suite.json` and `docs/suite.md`.

    python scripts/suite.py --backbone SUITE/backbone --tasks SUITE/tasks.npz --out suite-runs --write-docs

A unit is one arm (`--arms`; they are listed in `scripts/suite_parts/arms.py`) on one task with one seed. Its result is
written when it is done; a unit that is interrupted goes on in the next call, and `--minutes 9` interrupts in time for a
machine that is lent for ten minutes. Without `--tasks` the suite makes those of its tasks that need no other files.
`--quick` proves the path with a few steps of one arm of each kind on one task with one seed, unless `--arms`, `--only`
or `--seeds` say otherwise: some ten minutes on a CPU on which a step of a model takes a second.

Plan of calls for 18 pairs (six tasks, three seeds) on GPUs that are lent for minutes at a time. On two H200, three
tasks on each with `--jobs 3`, one seed of evolution and yardstick took 780 seconds (2026-11-28, in two calls, before
the layers of a stack were merged at once):

    arm            model-steps   seconds of a unit among three, of these the race or the grid
    evolution           50,500   345, 210   (2,500 model-steps are the supernet's and its pilots', 9,500 the refit's)
    yardstick           62,000   266, 250   (30 points and the final one; two more are not counted)

An evolution alone on a GPU took 174 s (revision d220df3), a yardstick 117; six at a time on one GPU take 120 and 72 to
90 s of it each. `--jobs` counts the units on all GPUs together. So, in calls of `--minutes 9`, each the same line again
with the same --out until it says that all are done (what a call cuts off and no other goes on with is lost):

    1. --arms evolution,yardstick --seeds 0,1,2 --jobs 12     5 calls on two GPUs
    2. --arms race_only,lora4_budget --seeds 0,1,2 --jobs 12  5 calls
    3. --arms evolution,yardstick,yardstick_alone --seeds 1 --only count --jobs 1     1 call: costs, each alone on a GPU
    4. --seeds 3 --arms evolution,yardstick,tau,... --jobs 12 4 calls: the ablations, on a seed for tuning
    5. --arms evolution,yardstick,race_only,lora4_budget --seeds 0,1,2 --write-docs     on any machine, some seconds

A machine that starts bare needs `OUT/units` of earlier calls only, or `--units docs/suite-units.json`; what is lost
with the rest are units that were under way, and supernets that later arms would take over, so ablations and tau belong
into calls with their evolution. On a CPU a model-step of this backbone takes about a second: one pair, a day.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from suite_parts.arms import ARMS, units_of  # noqa: E402
from suite_parts.configs import check_configs  # noqa: E402
from suite_parts.documents import write_documents  # noqa: E402
from suite_parts.places import device_of, places_of  # noqa: E402
from suite_parts.serve import make, revision, today  # noqa: E402
from suite_parts.settings import QUICK, Settings, backbone_digest  # noqa: E402
from suite_parts.summary import summarise  # noqa: E402
from suite_parts.tables import full  # noqa: E402
from suite_parts.tasks import Tasks, chosen  # noqa: E402
from suite_parts.units import Unit, UnitStore, write_atomically  # noqa: E402
from suite_parts.work import Outcome, perform  # noqa: E402

from glorasearch import InputError, ProgressBars  # noqa: E402

INTERRUPTED = 130


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backbone", required=True, help="a timm directory, or a timm name")
    parser.add_argument("--tasks", type=Path, help="FILE.npz with <task>_x (n, H, W, 3) uint8 and <task>_y (n,)")
    parser.add_argument("--only", type=_names, help="names of tasks (default: all)")
    parser.add_argument("--seeds", type=_numbers, help="(default: 0,1,2)")
    parser.add_argument("--arms", type=_names, help=f"of {', '.join(ARMS)} (default: all)")
    parser.add_argument("--budget", default="lora16", help="parameters, or lora<rank>: those of LoRA everywhere")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="override of scripts/suite.toml")
    parser.add_argument("--out", type=Path, default=Path("suite-runs"), help="finished and unfinished units")
    parser.add_argument("--units", type=Path, help="units that are done already: docs/suite-units.json")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--jobs", type=int, help="units at a time (default: one a GPU, or one)")
    parser.add_argument("--minutes", type=float, help="stop after so long; the next call goes on")
    parser.add_argument("--quick", action="store_true", help="a few steps; one task, seed and arm of each kind")
    parser.add_argument(
        "--write-docs", type=Path, nargs="?", const=ROOT, metavar="ROOT", help="docs/suite.*, README.md"
    )
    options = parser.parse_args(arguments)
    if options.seeds is None:
        options.seeds = [0] if options.quick else [0, 1, 2]
    if options.arms is None:
        options.arms = quick_arms() if options.quick else list(ARMS)
    unknown = [name for name in options.arms if name not in ARMS]
    if unknown:
        parser.error(f"--arms: no {', '.join(unknown)}; there are {', '.join(ARMS)}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is left of the suite, and say what all of it says; returns the exit code."""
    began, options = time.monotonic(), parse(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    out: Path = options.out.resolve()
    tasks_file = None if options.tasks is None else options.tasks.resolve()
    try:
        tasks = Tasks(tasks_file, out)
        names = chosen(tasks, options.only or (tasks.names[:1] if options.quick else None))
        settings = _settings(options, tasks, names)
        store = UnitStore(out / "units", settings.keys)
        check_configs(settings, options.arms)
        if options.units is not None:
            store.take_over(options.units)
        units = units_of(names, options.seeds, options.arms)
        left = [unit for unit in units if store.read(unit) is None]
        places = places_of(settings.device, options.jobs)
    except (ValueError, OSError, InputError) as error:
        print(f"suite.py: {error}", file=sys.stderr)
        return 2
    deadline = None if options.minutes is None else began + 60 * options.minutes
    outcome, interrupted = Outcome([], {}, left), False
    bars = ProgressBars()
    try:
        with bars.task("suite", len(units)) as advance:

            def show(done: int, running: Sequence[Unit]) -> None:
                advance(len(units) - len(left) + done, ", ".join(unit.name for unit in running))

            work = partial(make, settings, out, tasks_file)
            outcome = perform(left, places, work, deadline=deadline, on_change=show)
    except KeyboardInterrupt:
        interrupted = True
    for unit, reason in outcome.failed.items():
        print(f"{unit.name} failed:\n{reason}", file=sys.stderr)
    found = dict(store.done(units_of(names, options.seeds, options.arms, every=True)))
    facts = {
        "command": _command(sys.argv[1:] if arguments is None else arguments),
        "tasks": names,
        "seeds": options.seeds,
        "budget": options.budget,
        "quick": options.quick,
        "finished": sum(unit in found for unit in units),
        "units": len(units),
        "date": today(),
        "revision": ", ".join(sorted({unit["revision"] for unit in found.values()})) or revision(),
    }
    summary: dict[str, Any] = facts | summarise(found)
    write_atomically(out / "suite.json", json.dumps(summary, indent=1) + "\n")
    print(full(summary))
    print(f"{facts['finished']} of {len(units)} units are done; {out / 'suite.json'}", file=sys.stderr)
    if options.write_docs is not None:
        write_documents(summary, found, options.write_docs)
    return INTERRUPTED if interrupted else 1 if outcome.failed else 0


def quick_arms() -> list[str]:
    """The first arm of each kind."""
    return list({arm.kind: arm.name for arm in reversed(ARMS.values())}.values())


def _settings(options: argparse.Namespace, tasks: Tasks, names: Sequence[str]) -> Settings:
    path = Path(options.backbone)
    backbone = f"local-dir:{path.resolve()}" if path.is_dir() else options.backbone
    quick: dict[str, Any] = dict(QUICK) if options.quick else {}
    overrides = (*quick.pop("overrides", ()), *options.overrides)
    return Settings(
        backbone=backbone,
        backbone_digest=backbone_digest(backbone),
        task_digests={name: tasks.digest(name) for name in names},
        device=device_of(options.device),
        budget=options.budget,
        overrides=overrides,
        **quick,
    )


def _command(arguments: Sequence[str]) -> str:
    """As it is published: of paths the last part alone."""
    return " ".join(["python", "scripts/suite.py", *(Path(one).name if "/" in one else one for one in arguments)])


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _numbers(text: str) -> list[int]:
    return [int(name) for name in _names(text)]


if __name__ == "__main__":
    sys.exit(main())
