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
    3. --arms cost --seeds 0,1,2                               2 calls: both sides anew, a unit a GPU
    4. --seeds 3 --arms evolution,yardstick,tau,... --jobs 12 4 calls: the ablations, on a seed for tuning
    5. --arms evolution,yardstick,race_only,lora4_budget,cost,tau,... --seeds 0,1,2 --write-docs     on any machine

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
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from suite_parts.arms import units_of  # noqa: E402
from suite_parts.checks import check_units, claim  # noqa: E402
from suite_parts.configs import check_configs  # noqa: E402
from suite_parts.documents import replaced, write_documents  # noqa: E402
from suite_parts.options import parse  # noqa: E402
from suite_parts.places import device_of, places_of  # noqa: E402
from suite_parts.serve import make, revision, today  # noqa: E402
from suite_parts.settings import QUICK, Settings, backbone_digest  # noqa: E402
from suite_parts.summary import summarise  # noqa: E402
from suite_parts.tables import full  # noqa: E402
from suite_parts.tasks import Tasks, chosen  # noqa: E402
from suite_parts.units import UnitStore, read_packed, write_atomically  # noqa: E402
from suite_parts.work import Outcome, perform  # noqa: E402

from glorasearch import InputError, ProgressBars  # noqa: E402

INTERRUPTED = 130


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
        given = [] if options.units is None else read_packed(options.units)
        units = units_of(names, options.seeds, options.arms)
        places = places_of(settings.device, options.jobs)
        if any(store.read(unit) is None for unit in units):
            check_units(settings, tasks, options.arms, out)
        claim(out, settings)
        taken = store.take_over(given)
        left = [unit for unit in units if store.read(unit) is None]
        covered = units_of(names, options.seeds, options.arms, every=True)
        loss = options.write_docs and replaced(options.write_docs, dict(store.done(covered)), settings.keys)
    except (ValueError, OSError, InputError) as error:
        print(f"suite.py: {_text(error)}", file=sys.stderr)
        return 2
    bars = ProgressBars()
    if options.units is not None:
        bars.say(f"{options.units}: {taken} of its {len(given)} units are of these tasks and settings")
    if loss:
        bars.say(loss)
    deadline = None if options.minutes is None else began + 60 * options.minutes
    outcome, interrupted = Outcome([], {}, left), False
    try:
        with bars.task("suite", len(units)) as advance:

            def show(through: int, running: Sequence[str]) -> None:
                later = _later(time.monotonic() - began, through, len(left))
                advance(len(units) - len(left) + through, ", ".join([*running, *later]))

            work = partial(make, settings, out, tasks_file)
            outcome = perform(left, places, work, deadline=deadline, on_change=show)
    except KeyboardInterrupt:
        interrupted = True
    for unit, why in outcome.failed.items():
        bars.say(f"{unit.name} failed: {why}")
    found = dict(store.done(covered))
    facts = {
        "command": _command(sys.argv[1:] if arguments is None else arguments),
        "tasks": names,
        "seeds": options.seeds,
        "budget": options.budget,
        "quick": options.quick,
        "finished": sum(unit in found for unit in units),
        "units": len(units),
        "finished_besides": sum(unit not in units for unit in found),
        "date": today(),
        "revision": ", ".join(sorted({unit["revision"] for unit in found.values()})) or revision(),
    }
    summary: dict[str, Any] = facts | summarise(found)
    write_atomically(out / "suite.json", json.dumps(summary, indent=1) + "\n")
    print(full(summary))
    for line in _ending(facts, out, interrupted, outcome):
        bars.say(line)
    if options.write_docs is not None:
        if found:
            write_documents(summary, found, options.write_docs)
        bars.say(f"{options.write_docs}: {'written' if found else 'left as it is: no unit is done'}")
    return INTERRUPTED if interrupted else 1 if outcome.failed else 0


def _later(seconds: float, through: int, units: int) -> list[str]:
    """How long the rest takes, if units go on as those of this call did."""
    if not 0 < through < units:
        return []
    minutes = seconds / through * (units - through) / 60
    return [f"about {minutes:.0f} min left" if minutes < 120 else f"about {minutes / 60:.0f} h left"]


def _ending(facts: Mapping[str, Any], out: Path, interrupted: bool, outcome: Outcome) -> list[str]:
    """What is said at last."""
    besides = facts["finished_besides"]
    more = f", and {besides} of other seeds that such an arm need not have" if besides else ""
    lines = [f"{facts['finished']} of {facts['units']} units are done{more}; {out / 'suite.json'}"]
    if facts["finished"] < facts["units"]:
        if outcome.elsewhere:
            lines.append(
                f"another process with this --out is at work on {', '.join(one.name for one in outcome.elsewhere)}"
            )
        why = "interrupted: " if interrupted else "failed ones are tried again: " if outcome.failed else ""
        lines.append(f"{why}the same line again, with the same --out, goes on with the rest")
    return lines


def _text(error: Exception) -> str:
    """Of an error; of one of the system without its number, which a reader does not need."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _settings(options: argparse.Namespace, tasks: Tasks, names: Sequence[str]) -> Settings:
    path = Path(options.backbone.removeprefix("local-dir:"))
    if path.is_dir():
        backbone = f"local-dir:{path.resolve()}"
    elif path.exists() or ("/" in options.backbone and ":" not in options.backbone):
        raise ValueError(f"--backbone {options.backbone}: no such folder; expected a timm directory, or a timm name")
    else:
        backbone = options.backbone
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


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
