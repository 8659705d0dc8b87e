"""Step and candidate of each family of backbones against that backbone with nothing to adapt, on one GPU.

    python benchmarks/bench_families.py [--models vit_base,vit_tiny,convnext,resnet] [--parts step,plain,candidate]
                                        [--repeats 50] [--json PATH]

A change to a kernel that several families share is judged by all of them: `--parts step` is the short form. Each
backbone has a process of its own. All of them compile at the same time first, into torch's cache of compiled code; then
one after another measures, with the card for itself. Rows are written as they come.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

import torch
from cuda_families import FAMILIES, PARTS, Measured
from table import Row, finish, json_option


def rows(
    models: Sequence[str] = tuple(FAMILIES), parts: Sequence[str] = tuple(PARTS), repeats: int = 50
) -> Iterator[Row]:
    """All rows of all models, in that order; see the module.

    Raises:
        Exception: what a measurement raises, once the models before it have given their rows.
    """
    began = time.perf_counter()
    with _processes(len(models)) as pool:
        compiled = [part for part in parts if part != "plain"]
        for future in [pool.submit(measure, name, compiled, 1) for name in models]:
            future.exception()  # it comes again when that model has its turn
    print(f"compiled in {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    for name in models:
        with _processes(1) as pool:
            yield from pool.submit(measure, name, parts, repeats).result()


def measure(name: str, parts: Sequence[str], repeats: int) -> list[Row]:
    """The rows of one model, in this process."""
    return list(Measured(name, repeats).rows(parts))


def _processes(number: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(number, mp_context=multiprocessing.get_context("spawn"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    json_option(parser)
    parser.add_argument("--models", type=lambda text: text.split(","), default=list(FAMILIES), help=", ".join(FAMILIES))
    parser.add_argument("--parts", type=lambda text: text.split(","), default=list(PARTS), help=", ".join(PARTS))
    parser.add_argument("--repeats", type=int, default=50)
    options = parser.parse_args()
    for given, there in ((options.models, FAMILIES), (options.parts, PARTS)):
        unknown = [name for name in given if name not in there]
        if unknown:
            parser.error(f"no {unknown[0]!r}; there are {', '.join(there)}")
    if options.repeats < 1:
        parser.error("--repeats is above 0")
    if not torch.cuda.is_available():
        parser.error("needs a CUDA device")
    finish(rows(options.models, options.parts, options.repeats), options)


if __name__ == "__main__":
    main()
