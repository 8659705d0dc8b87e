"""Variants of a step and of a candidate, each against the product's own path, in one process.

    python benchmarks/bench_variants.py [--device cuda] [--size base|tiny] [--only step,candidate] [--variants NAME ...]
                                        [--seconds 480] [--json PATH]

`variants.py` has them in the order in which they are tried, and what each was predicted to gain before it was ever
measured. A step is ViT-B/16's with 64 images in `glora_medium`, a candidate its merge and the forward pass of 200
images. The product's path is measured again beside each variant, since a GPU's clock drifts. What a variant changes is
measured: the losses of its first steps, or the logits of candidates, against the product's own; one that has to be the
same to the bit and is not is said to be WRONG (but for steps on a GPU, which add up in no fixed order: the first
variant, the product's own path once more, says how far apart they come out). Rows are written as they come; one that
breaks does not stop those after it. `--device cpu --size tiny` tries the numerics of all (attention's backends
excepted).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from arithmetic import dense_elements
from bench_peers import RATES, Bench
from cuda_floors import milliseconds
from leaving import clean
from table import Row, finish
from torch import Tensor
from variants import VARIANTS, Variant

from glorasearch.evaluation import captured_model
from glorasearch.fused import CODE_WIDTH, FusedStep, StepConfig, pool_of, static_model
from glorasearch.space import SearchSpace, Subnet, sample
from glorasearch.supernet import Supernet
from glorasearch.tasks import CLASSIFY

COMPARED, CANDIDATES, IMAGES = 4, 8, 200
"""Steps after the first whose losses are compared; candidates whose logits are; their images."""
PLAIN = VARIANTS[0]


class StepOf:
    """Steps of a variant; the paths are drawn anew for each."""

    def __init__(self, bench: Bench, variant: Variant, make: Callable[..., FusedStep]) -> None:
        supernet, self._subnets = supernet_of(bench)
        dtype = torch.bfloat16 if bench.device == "cuda" else torch.float32
        self._bench = bench
        config = StepConfig(dtype=dtype)
        loss = partial(CLASSIFY.subnet_loss, smoothing=0.0)
        self._one = make(supernet.train(), config, loss=loss, teacher=CLASSIFY.teacher_of)
        self._images = bench.images.to(dtype)
        if variant.channels_last:
            self._images = self._images.to(memory_format=torch.channels_last)
        self.flops = bench.batch * (bench.work.biases + 2 * bench.work.tokens * dense_elements(supernet, self._subnets))
        self._turn = 0
        self.found = torch.stack([self.run()[0] for _ in range(1 + COMPARED)]).float().cpu()
        """Losses of the first steps."""

    def run(self) -> Tensor:
        """A step; its loss and norm."""
        subnet = self._subnets[self._turn % len(self._subnets)]
        self._turn += 1
        return self._one.run([subnet], self._images, self._bench.labels, RATES)

    @property
    def peak_bytes(self) -> int:
        """Of the first capture."""
        return self._one.peak_bytes


class CandidateOf:
    """Candidates of a variant: merged, then the forward pass of all images."""

    peak_bytes = 0

    def __init__(self, bench: Bench, variant: Variant, make: object) -> None:
        supernet, self._subnets = supernet_of(bench)
        supernet.eval()
        torch.manual_seed(3)
        with torch.no_grad():
            for parameter in pool_of(supernet).flat.split(2**20):
                parameter.add_(torch.randn_like(parameter), alpha=0.02)
        gpu = bench.device == "cuda"
        count = IMAGES if gpu else 5
        images = torch.randn(count, *bench.images.shape[1:], generator=torch.Generator().manual_seed(2)).to(
            bench.device
        )
        self._model = captured_model.CapturedModel(supernet, bench.device) if gpu else _Plain(supernet)
        self._images = images.to(torch.bfloat16) if gpu else images
        if variant.channels_last:
            self._images = self._images.to(memory_format=torch.channels_last)
        self.flops = count * bench.work.forward
        self._turn = 0
        self.found = torch.stack([self.run().float().cpu().clone() for _ in range(CANDIDATES)])
        """Logits of the first candidates."""

    @torch.inference_mode()
    def run(self) -> Tensor:
        """Merge and score the next candidate."""
        self._model.write(self._subnets[self._turn % len(self._subnets)])
        self._turn += 1
        return self._model.forward(self._images)


class _Plain:
    """A candidate on a CPU, by the same parts as on a GPU."""

    def __init__(self, supernet: Supernet) -> None:
        self._pool = pool = pool_of(supernet)
        self._merged = captured_model.MergedWeights(pool, torch.float32, training=False)
        self._model = static_model(supernet, self._merged.layers(), torch.float32, share_head=False).eval()

    def write(self, subnet: Subnet) -> None:
        codes = torch.tensor(self._pool.codes(subnet), dtype=torch.int32)
        assert codes.shape[-1] == CODE_WIDTH
        self._merged.fill(codes)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self._model(images)
        return found


def supernet_of(bench: Bench) -> tuple[Supernet, list[Subnet]]:
    """One of `glora_medium`, on the device, and subnets of it."""
    supernet = Supernet(bench.backbone().to(bench.device), SearchSpace.load("glora_medium"))
    rng = np.random.default_rng(0)
    return supernet, [sample(supernet.space, rng) for _ in range(50)]


KINDS: dict[str, type[StepOf] | type[CandidateOf]] = {"step": StepOf, "candidate": CandidateOf}


def made(kind: str, bench: Bench, variant: Variant) -> StepOf | CandidateOf:
    """A variant, compiled and captured, with its first results."""
    with variant.apply() as own:
        return KINDS[kind](bench, variant, own if callable(own) else FusedStep)


def timed(bench: Bench, thing: StepOf | CandidateOf, repeats: int) -> float:
    """Milliseconds of one step or candidate."""
    if bench.device == "cuda":
        return milliseconds(thing.run, repeats)
    began = time.perf_counter()
    for _ in range(2):
        thing.run()
    return (time.perf_counter() - began) / 2 * 1e3


def difference(kind: str, found: Tensor, expected: Tensor) -> str:
    """How far results are from the product's."""
    if torch.equal(found, expected):
        return "the same to the bit"
    apart = (found - expected).abs().max().item()
    if kind == "step":
        return f"losses differ by at most {apart:.2g} nats"
    same = (found.argmax(-1) == expected.argmax(-1)).float().mean().item()
    error = ((found - expected).norm() / expected.norm()).item()
    return f"logits differ by {100 * error:.2g} %, at most {apart:.2g}; {100 * same:.1f} % of the classes are the same"


def rows(bench: Bench, kinds: list[str], names: list[str], seconds: float, repeats: int) -> Iterator[Row]:
    """A row for each variant, against the product's path."""
    began = time.perf_counter()
    chosen = [variant for variant in VARIANTS if not names or variant.name in names]
    own = {kind: made(kind, bench, PLAIN) for kind in kinds}
    clean(bench.device)  # or the first variant would be given this code; after each variant it is done again
    for variant in chosen:
        for kind in kinds:
            predicted = getattr(variant, kind)
            if predicted is None:
                continue
            if time.perf_counter() - began > seconds:
                print(f"no time left for {kind}: {variant.name}", file=sys.stderr, flush=True)
                continue
            try:
                yield row(bench, kind, variant, own[kind], predicted, repeats)
            except Exception as error:  # whatever a compiler may raise
                text = f"{type(error).__name__}: {error}".replace("\n", " ")[:300]
                print(f"{kind}, {variant.name} broke: {text}", file=sys.stderr, flush=True)
            finally:
                clean(bench.device)


def row(bench: Bench, kind: str, variant: Variant, own: StepOf | CandidateOf, predicted: float, repeats: int) -> Row:
    """What a variant takes, and what it changes."""
    began = time.perf_counter()
    base = torch.cuda.memory_allocated() if bench.device == "cuda" else 0
    thing = made(kind, bench, variant)
    start = time.perf_counter() - began
    pairs = [(timed(bench, own, repeats), timed(bench, thing, repeats)) for _ in range(3)]
    reference, measured = (statistics.median(values) for values in zip(*pairs, strict=True))
    changes = difference(kind, thing.found, own.found)
    repeats_exactly = kind == "candidate" or bench.device == "cpu"  # a GPU adds up gradients in no fixed order
    if variant.exact and repeats_exactly and not torch.equal(thing.found, own.found):
        changes = f"WRONG: {changes}"
    memory = f", {(thing.peak_bytes - base) / 1e9:.2f} GB" if thing.peak_bytes else ""
    note = f"gains {reference - measured:+.2f} ms, predicted {predicted:+.2f}; {changes}{memory}; made in {start:.0f} s"
    more = {"kind": kind, "variant": variant.name, "predicted_gain_ms": predicted, "changes": changes}
    return Row(
        what=f"{kind}: {variant.name}", measured=measured, unit="ms", reference=reference, note=note, more=more,
        flops=own.flops, reference_flops=own.flops,
    )  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the rows to this file")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--size", choices=("base", "tiny"), default="base")
    parser.add_argument("--only", default="step,candidate")
    parser.add_argument("--variants", nargs="+", default=[], metavar="NAME", help="default: all")
    parser.add_argument("--seconds", type=float, default=480, help="none is begun after so many (default: 480)")
    parser.add_argument("--repeats", type=int, default=50)
    options = parser.parse_args()
    kinds = options.only.split(",")
    known = [variant.name for variant in VARIANTS]
    for what, given, there in (("kind", kinds, list(KINDS)), ("variant", options.variants, known)):
        unknown = [name for name in given if name not in there]
        if unknown:
            parser.error(f"no {what} {', '.join(unknown)}; there are {', '.join(there)}")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device; --device cpu --size tiny shows that it works")
    bench = Bench(options.size, options.device)
    finish(rows(bench, kinds, options.variants, options.seconds, options.repeats), options, size=options.size)


if __name__ == "__main__":
    main()
