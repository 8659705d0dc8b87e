"""Step and candidate of each family of backbones against that backbone with nothing to adapt, on one GPU.

    python benchmarks/bench_families.py [--models vit_base,vit_tiny,convnext,resnet] [--parts step,plain,candidate]
                                        [--repeats 100] [--json PATH]

A change to a kernel that several families share is judged by all of them: `--parts step` is the short form. Each
backbone has a process of its own. All of them compile at the same time first, into torch's cache of compiled code; then
one after another measures. Rows are written as they come; a backbone that breaks does not stop those after it, and
fails the program at its end.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection

import torch
from cuda_families import FAMILIES, PARTS, Measured
from table import Row, finish, json_option, names_option

COMPILING = ("step", "candidate")


class Backbone:
    """A process that measures one of them."""

    def __init__(self, name: str, parts: Sequence[str], repeats: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.name = name
        self._rows, theirs = context.Pipe(duplex=False)
        self._process = context.Process(target=_measure, args=(theirs, name, parts, repeats), daemon=True)
        self._process.start()
        theirs.close()

    def __iter__(self) -> Iterator[Row]:
        """Its rows, as they come; raises RuntimeError if it broke."""
        while True:
            try:
                found = self._rows.recv()
            except EOFError:
                self._process.join()
                raise RuntimeError(f"its process ended with {self._process.exitcode}") from None
            if isinstance(found, str):
                raise RuntimeError(found)
            if found is None:
                return
            yield found

    def stop(self) -> None:
        """Whatever it is doing."""
        self._process.terminate()
        self._process.join()


def rows(
    models: Sequence[str] = tuple(FAMILIES), parts: Sequence[str] = tuple(PARTS), repeats: int = 100
) -> Iterator[Row]:
    """All rows of all models, in that order; see the module.

    Raises:
        RuntimeError: after the last row, if a model broke; what breaks is also printed at once.
    """
    broken: dict[str, str] = {}
    parts = [part for part in PARTS if part in parts]
    began, compiled = time.perf_counter(), [part for part in parts if part in COMPILING]
    started = [Backbone(name, compiled, 1) for name in models if compiled]
    try:
        for backbone in started:
            try:
                for row in backbone:
                    print(f"compiling: {row.what} ({row.note})", file=sys.stderr, flush=True)
            except RuntimeError as error:  # it is said again if it breaks when it has its turn
                print(f"{backbone.name} broke while it compiled: {error}", file=sys.stderr, flush=True)
    finally:
        for backbone in started:
            backbone.stop()
    if started:
        print(f"compiled in {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    for name in models:
        backbone = Backbone(name, parts, repeats)
        try:
            yield from backbone
        except RuntimeError as error:
            broken[name] = str(error)
            print(f"{name} broke: {error}", file=sys.stderr, flush=True)
        finally:
            backbone.stop()
    if broken:
        raise RuntimeError("; ".join(f"{name}: {error}" for name, error in broken.items()))


def _measure(to: Connection, name: str, parts: Sequence[str], repeats: int) -> None:
    """Send the rows of one model, and then None or what went wrong."""
    try:
        for row in Measured(name, repeats).rows(parts):
            to.send(row)
        to.send(None)
    except Exception:  # whatever a compiler may raise; it need not be possible to send it
        to.send(traceback.format_exc())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    json_option(parser)
    names_option(parser, "--models", FAMILIES)
    names_option(parser, "--parts", PARTS)
    parser.add_argument("--repeats", type=int, default=100)
    options = parser.parse_args()
    if options.repeats < 1:
        parser.error("--repeats is above 0")
    if not torch.cuda.is_available():
        parser.error("needs a CUDA device")
    finish(rows(options.models, options.parts, options.repeats), options)


if __name__ == "__main__":
    main()
