"""Runs every test that is marked `gpu`, on all cards side by side, and says how each ended.

    make test-gpu
    make test-gpu GPU_PYTHON=python3 GPU_TEST_OPTIONS="--minutes 9 --json verdicts.json"
    python scripts/test_gpu.py [--minutes 8] [--per-card N] [--cards 0,1] [--out FOLDER] [--json PATH] [FILE ...]

A process for each test file, several for a long one; several share a card, whose tests wait for the host most of the
time. Tests that need two cards (`two_gpus`) have processes of their own, with a place on both; where there is one card
they are skipped. By the seconds of an earlier run (`--seconds`), those of two cards and the longest come first if all
will be done in time, and else the shortest, so that a run that is cut off has given as many verdicts as it could. In
`--out`, `record.jsonl` has a line when a test begins and when it ends, `output.log` what pytest printed.

The exit status is 0 if every test passed, or said why it does not run here; 1 if one failed, or its process died; 3 if
the time was up before one began or ended; 2 if nothing could be run. It needs torch and pytest, and what the tests
import; a file that cannot be imported has failed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

SCRIPTS = Path(__file__).resolve().parent
sys.path[:0] = [str(SCRIPTS)]

from gpu_tests.cards import cards_here, gpu_name  # noqa: E402
from gpu_tests.lanes import Lanes  # noqa: E402
from gpu_tests.record import append, exit_status, read, seconds_of, verdicts  # noqa: E402
from gpu_tests.tables import lines, to_json, write  # noqa: E402
from gpu_tests.units import CORES, find, units_of  # noqa: E402

MOST = 8
"""Processes on a card, by default at most."""


def stop(number: int, frame: FrameType | None) -> None:
    """End as by Ctrl+C, so that processes are ended and the table is printed."""
    raise KeyboardInterrupt


def main() -> int:
    """Find, run, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", metavar="FILE", help="only these test files, relative to the checkout")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all of it (8)")
    parser.add_argument("--cards", type=lambda text: text.split(","), help="as CUDA_VISIBLE_DEVICES has them; all")
    parser.add_argument("--per-card", type=int, help=f"processes on a card at a time; one for {CORES} cores, <= {MOST}")
    parser.add_argument("--out", type=Path, default=Path("build/gpu-tests"), help="for the record and the output")
    parser.add_argument("--json", type=Path, metavar="PATH",
                        help="also write the verdicts here; old ones stay where there is none")  # fmt: skip
    parser.add_argument("--seconds", type=Path, default=SCRIPTS.parent / "docs" / "gpu-tests.json",
                        help="the --json of an earlier run, by which they are put in order")  # fmt: skip
    parser.add_argument("--root", type=Path, default=SCRIPTS.parent, help="the checkout; that of this script")
    options = parser.parse_args()
    began = time.monotonic()
    cards, gpu = options.cards or cards_here(), gpu_name()
    if not cards:
        parser.error("there is no CUDA device here; without one, `make test` runs what does not need it")
    usual = max(1, min(MOST, (os.cpu_count() or 1) // (CORES * len(cards))))
    each = usual if options.per_card is None else options.per_card
    if options.minutes <= 0 or each < 1:
        parser.error("--minutes and --per-card are above 0")
    earlier = (
        json.loads(options.json.read_text("utf-8")) if options.json is not None and options.json.exists() else None
    )
    out, root = options.out.resolve(), options.root.resolve()
    out.mkdir(parents=True, exist_ok=True)
    record, output = out / "record.jsonl", out / "output.log"
    record.unlink(missing_ok=True)
    output.unlink(missing_ok=True)
    signal.signal(signal.SIGTERM, stop)
    try:
        find(root, record, options.files)
        room = (options.minutes * 60 - (time.monotonic() - began)) * each * len(cards)
        units = units_of(read(record), seconds_of(options.seconds), room)
        for unit in units:
            for test in unit.tests if unit.cards > len(cards) else ():
                append(record, "skipped", test, message=f"needs {unit.cards} cards, there is {len(cards)}")
        units = [unit for unit in units if unit.cards <= len(cards)]
        print(f"{sum(len(unit.tests) for unit in units)} tests in {len(units)} processes, {each} at a time on each of "
              f"{len(cards)} cards; found in {time.monotonic() - began:.0f} s", flush=True)  # fmt: skip
        say = lambda line: print(f"{time.monotonic() - began:6.0f} s  {line}", flush=True)  # noqa: E731
        if Lanes(root, cards, each, record, output, say).run(units, began + options.minutes * 60):
            print(f"the time was up: --minutes {options.minutes:g}")
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted")
    found, seconds = verdicts(read(record)), time.monotonic() - began
    for line in lines(found, seconds, cards):
        print(line)
    if options.json is not None:
        write(options.json, to_json(found, seconds, cards, earlier, gpu=gpu, some=bool(options.files)))
    if not found:
        print("no test is marked gpu", file=sys.stderr)
        return 2
    return exit_status(found)


if __name__ == "__main__":
    sys.exit(main())
