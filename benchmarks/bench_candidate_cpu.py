"""What a candidate costs on the CPU: written, forwarded and scored, against the plain forward of the bare backbone.

    python benchmarks/bench_candidate_cpu.py [--json PATH] [--backbones quickstart,vit_tiny] [--threads 1]

200 images in the evaluator's chunks, no early stopping. Every candidate is drawn anew, so that nearly all of its layers
have to be written. Candidates and plain forwards over the same chunks take turns, so that a neighbour on the machine
slows both; the figures are medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from bench_step_cpu import backbone_of
from numpy.random import default_rng
from table import Row, finish, json_option
from torch import nn

from glorasearch.data import DataConfig, InputSpec, SearchSplit, load_search_data
from glorasearch.evaluation import CandidateEvaluator
from glorasearch.space import SearchSpace, Subnet, sample
from glorasearch.supernet import Supernet

TARGET = 1.03
CANDIDATES = {"quickstart": 60, "vit_tiny": 5}
SPACES = ("lean", "glora_medium")


def evaluator_of(backbone: nn.Module, space: str, split: SearchSplit) -> tuple[CandidateEvaluator, Supernet]:
    """An evaluator whose candidates all differ from the backbone, and the supernet that they come from."""
    supernet = Supernet(backbone, SearchSpace.load(space))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in supernet.adapter_parameters().values():
            parameter.normal_(std=0.02, generator=generator)
    return CandidateEvaluator(supernet, split), supernet


def timed(action: Callable[[], object]) -> float:
    """Milliseconds."""
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1e3


def measure(backbone: nn.Module, space: str, split: SearchSplit, count: int) -> dict[str, list[float]]:
    """Milliseconds of `count` candidates, of writing them, and of plain forwards in the same chunks and all at once."""
    evaluator, supernet = evaluator_of(backbone, space, split)  # outside inference mode, as in a worker
    with torch.inference_mode():
        return times_of(evaluator, supernet, backbone, split, count)


def times_of(
    evaluator: CandidateEvaluator, supernet: Supernet, backbone: nn.Module, split: SearchSplit, count: int
) -> dict[str, list[float]]:
    """The times of `measure`."""
    rng = default_rng(0)

    def draw() -> Subnet:
        subnet = sample(supernet.space, rng)
        assert subnet.digest
        return subnet

    evaluator.evaluate(draw())
    chunks = list(evaluator.chunks)
    whole = split.batch(slice(None))[0]
    times: dict[str, list[float]] = {"plain": [], "candidate": [], "write": []}
    for _ in range(count):
        one, other = draw(), draw()
        times["plain"].append(timed(lambda: [backbone(images) for images in chunks]))
        times["candidate"].append(timed(partial(evaluator.evaluate, one)))
        times["write"].append(timed(partial(evaluator.model.write, other)))
    times["whole"] = [timed(lambda: backbone(whole)) for _ in range(max(3, count // 10))]
    return times


def rows(backbones: tuple[str, ...] = ("quickstart", "vit_tiny"), candidates: int | None = None) -> list[Row]:
    """For each backbone and space: a candidate's milliseconds against the plain forward's."""
    found: list[Row] = []
    threads = torch.get_num_threads()
    for name in backbones:
        backbone = backbone_of(name).eval()
        config = DataConfig(source="digits", train=20, search=200)
        split = load_search_data(config, InputSpec.from_backbone(backbone)).search
        for space in SPACES:
            times = measure(backbone, space, split, candidates or CANDIDATES[name])
            median = {what: statistics.median(values) for what, values in times.items()}
            pairs = statistics.median(a / b for a, b in zip(times["candidate"], times["plain"], strict=True))
            note = (
                f"median of pairs {pairs:.3f}, writing alone {median['write']:.2f} ms, "
                f"plain forward of all at once {median['whole']:.4g} ms"
            )
            what = f"CPU: a candidate of {space}, {name}, 200 images, {threads} thread{'s' * (threads > 1)}"
            found.append(
                Row(
                    what=what,
                    measured=median["candidate"],
                    unit="ms",
                    reference=median["plain"],
                    target=TARGET,
                    note=note,
                )
            )
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    json_option(parser)
    parser.add_argument("--backbones", default=",".join(CANDIDATES))
    parser.add_argument("--candidates", type=int, help="drawn for each backbone and space (default: 60 and 5)")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    finish(rows(tuple(options.backbones.split(",")), options.candidates), options)


if __name__ == "__main__":
    main()
