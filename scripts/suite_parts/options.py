"""The command line of `scripts/suite.py`: what it takes, and what is refused before anything is read."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from glorasearch.errors import did_you_mean
from suite_parts.arms import ARMS

ROOT = Path(__file__).resolve().parents[2]
"""Where `--write-docs` writes without a folder."""
MOST_SEED = 2**31
"""Well below what NumPy's `RandomState` takes."""
BUDGET = re.compile(r"lora[1-9]\d*|[1-9]\d*(_\d+)*")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; ends the process with status 2 and a message if it cannot be meant."""
    parser = argparse.ArgumentParser(description="Tasks x seeds x arms, to see whether a search is worth having.")
    parser.add_argument("--backbone", required=True, help="a timm directory, or a timm name")
    parser.add_argument("--tasks", type=Path, help="FILE.npz with <task>_x (n, H, W, 3) uint8 and <task>_y (n,)")
    parser.add_argument("--only", type=_names, help="names of tasks (default: all)")
    parser.add_argument("--seeds", type=_seeds, help="(default: 0,1,2)")
    parser.add_argument("--arms", type=_arms, help=f"of {', '.join(ARMS)} (default: all)")
    parser.add_argument("--budget", type=_budget, default="lora16", help="parameters, or lora<rank>: those of LoRA "
                        "everywhere (default: %(default)s)")  # fmt: skip
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="override of scripts/suite.toml")
    parser.add_argument("--out", type=Path, default=Path("suite-runs"), help="finished and unfinished units")
    parser.add_argument("--units", type=Path, help="units that are done already: docs/suite-units.json")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--jobs", type=_jobs, help="units at a time (default: one a GPU, or one)")
    parser.add_argument("--minutes", type=_minutes, help="stop after so long; the next call goes on")
    parser.add_argument("--quick", action="store_true", help="a few steps; one task, seed and arm of each kind")
    parser.add_argument(
        "--write-docs",
        type=Path,
        nargs="?",
        const=ROOT,
        metavar="ROOT",
        help="write docs/suite.* and the README's table under ROOT (default: the checkout of this script)",
    )
    options = parser.parse_args(arguments)
    if options.quick and options.write_docs is ROOT:
        parser.error(
            "--write-docs with --quick: a few steps measure nothing, and would replace what is published in "
            f"{ROOT / 'docs'}; name another folder, --write-docs FOLDER, or leave one of the two out"
        )
    if options.seeds is None:
        options.seeds = [0] if options.quick else [0, 1, 2]
    if options.arms is None:
        options.arms = quick_arms() if options.quick else list(ARMS)
    return options


def quick_arms() -> list[str]:
    """The first arm of each kind."""
    return list({arm.kind: arm.name for arm in reversed(ARMS.values())}.values())


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    twice = [name for number, name in enumerate(names) if name in names[:number]]
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r}: expected names with commas between them")
    if twice:
        raise argparse.ArgumentTypeError(f"{twice[0]} is there twice")
    return names


def _arms(text: str) -> list[str]:
    names = _names(text)
    for name in names:
        if name not in ARMS:
            raise argparse.ArgumentTypeError(f"no arm {name!r}{did_you_mean(name, ARMS)}; there are {', '.join(ARMS)}")
    return names


def _seeds(text: str) -> list[int]:
    return [
        int(_number(name, int, lambda seed: 0 <= seed < MOST_SEED, "whole numbers of at least 0 with commas between"))
        for name in dict.fromkeys(_names(text))
    ]


def _jobs(text: str) -> int:
    return int(_number(text, int, lambda jobs: jobs >= 1, "a whole number of at least 1"))


def _minutes(text: str) -> float:
    return _number(text, float, lambda minutes: 0 < minutes < math.inf, "a number above 0, such as 9")


def _number(text: str, read: Callable[[str], float], allowed: Callable[[float], bool], expected: str) -> float:
    try:
        value = read(text)
    except ValueError:
        value = math.nan
    if not allowed(value):
        raise argparse.ArgumentTypeError(f"{text!r}: expected {expected}")
    return value


def _budget(text: str) -> str:
    if not BUDGET.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected a number of parameters above 0, or lora<rank>, such as lora16"
        )
    return text
