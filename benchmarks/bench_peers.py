"""A step of glorasearch beside full fine-tuning, PEFT's LoRA, and GLoRA's published arithmetic, in one run.

    python benchmarks/bench_peers.py [--device cuda] [--size base|tiny] [--json PATH] [--seconds 300] [--repeats 50]
    python benchmarks/bench_peers.py --table PATH.json [--page docs/speed.md]

The same backbone, images, layers and optimiser; 64 images of 224 px through a ViT-B/16 (`--size tiny`: 8 of 32 px
through two small blocks). Each peer is run at every setting of a grid (`peer_steps.MODES`, two precisions), the likely
best ones first, as long as there is time, and counts with its fastest. Rows are written as they come. `--table` makes
the table of the documentation from such a file, and writes it into a page between its two marks.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import peer_models
import timm
import torch
from arithmetic import Work, dense_elements, work_of
from cuda_floors import milliseconds
from leaving import clean
from peer_steps import PlainStep, Setting
from table import Row, finish
from torch import nn

from glorasearch.adapters import adaptable_layers
from glorasearch.fused import FusedStep, StepConfig
from glorasearch.space import SearchSpace, Subnet, sample
from glorasearch.supernet import Supernet
from glorasearch.tasks import CLASSIFY

CLASSES = 10
SIZES: dict[str, tuple[int, dict[str, Any]]] = {
    "base": (64, {}),
    "tiny": (8, {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3}),
}
"""Images in a batch, and what differs from timm's ViT-B/16."""
SPACE = "glora_medium"
RATES = {"factor": 1e-3, "vector": 1e-3, "head": 1e-3}
BEGIN, END = "<!-- peers: begin -->", "<!-- peers: end -->"
OURS = "glorasearch, a supernet step"
NAMES = {
    "glorasearch": OURS,
    "biases": "biases and head only",
    "lora": "PEFT LoRA r=4",
    "full": "full fine-tuning",
    "glora": "GLoRA as published",
}
GRID: tuple[tuple[str, Setting], ...] = (
    ("glorasearch", Setting("captured")),
    ("biases", Setting("captured", "bfloat16")),
    ("lora", Setting("captured", "bfloat16")),
    ("full", Setting("captured")),
    ("glora", Setting("eager")),
    ("lora", Setting("captured")),
    ("glora", Setting("captured")),
    ("full", Setting("captured", "bfloat16")),
    ("lora", Setting("reduce-overhead", "bfloat16")),
    ("lora", Setting("eager")),
    ("full", Setting("eager")),
    ("lora", Setting("max-autotune", "bfloat16")),
    ("full", Setting("max-autotune")),
    ("glora", Setting("max-autotune")),
    ("full", Setting("reduce-overhead")),
    ("lora", Setting("default", "bfloat16")),
)
"""Peers and settings on a GPU, in the order in which they are run."""
CPU_GRID = (
    *((peer, Setting("eager", "float32")) for peer in NAMES),
    ("glora", Setting("static", "float32")),
)


class Bench:
    """What all steps share."""

    def __init__(self, size: str, device: str) -> None:
        self.device = device
        self.batch, self._arguments = SIZES[size]
        backbone = self.backbone()
        self.work: Work = work_of(backbone)
        self.space = SearchSpace.load(SPACE)
        self.layers = [layer.name for layer in self.space.bind(adaptable_layers(backbone)).layers]
        side = backbone.patch_embed.img_size[0]  # type: ignore[union-attr, index]
        torch.manual_seed(1)
        self.images = torch.randn(self.batch, 3, side, side, device=device)
        self.labels = torch.randint(0, CLASSES, (self.batch,), device=device)
        self.flops: dict[str, float] = {
            "biases": self.work.biases,
            "lora": self.work.lora(4),
            "full": self.work.full,
        }

    def backbone(self) -> nn.Module:
        """The same at every call."""
        torch.manual_seed(0)
        model: nn.Module = timm.create_model("vit_base_patch16_224", num_classes=CLASSES, **self._arguments)
        return model.eval()

    def supernet(self) -> tuple[Supernet, list[Subnet]]:
        """One, and subnets of it."""
        supernet = Supernet(self.backbone().to(self.device), self.space).train()
        rng = np.random.default_rng(0)
        return supernet, [sample(supernet.space, rng) for _ in range(50)]

    def step(self, peer: str, setting: Setting) -> tuple[Callable[[], object], Callable[[], int]]:
        """A step of a peer, and what tells its largest memory."""
        if peer == "glorasearch":
            return self._ours()
        if peer == "glora":
            supernet, subnets = self.supernet()
            static = setting.mode != "eager"
            model = peer_models.PublishedGlora(supernet, static=static, trained=setting.trained).to(self.device)
            del supernet
            plain = PlainStep(model, setting, self.images, self.labels)
            turns = iter(subnets * 1000)

            def draw_and_step() -> None:
                model.draw(next(turns))
                plain()

            return draw_and_step, lambda: plain.peak_bytes
        make = {
            "biases": peer_models.biases,
            "full": peer_models.full,
            "lora": partial(peer_models.lora, layers=self.layers),
        }[peer]
        model = make(self.backbone(), frozen=setting.frozen, trained=setting.trained).to(self.device)
        plain = PlainStep(model, setting, self.images, self.labels)
        return plain, lambda: plain.peak_bytes

    def _ours(self) -> tuple[Callable[[], object], Callable[[], int]]:
        supernet, subnets = self.supernet()
        dtype = torch.bfloat16 if self.device == "cuda" else torch.float32
        step = FusedStep(
            supernet,
            StepConfig(dtype=dtype),
            loss=partial(CLASSIFY.subnet_loss, smoothing=0.0),
            teacher=CLASSIFY.teacher_of,
        )
        images = self.images.to(dtype)
        turns = iter(subnets * 1000)
        step.run([next(turns)], images, self.labels, RATES)
        dense = dense_elements(supernet, subnets)
        useful = self.work.biases + 2 * self.work.tokens * dense
        self.flops |= {"glorasearch": useful, "glora": useful}
        return lambda: step.run([next(turns)], images, self.labels, RATES), lambda: step.peak_bytes


def measured(bench: Bench, peer: str, setting: Setting, repeats: int) -> dict[str, float]:
    """Milliseconds, memory and seconds of preparation of one peer at one setting; nothing of it is left."""
    gpu = bench.device == "cuda"
    before = torch.cuda.memory_allocated() if gpu else 0
    began = time.perf_counter()
    step, peak = bench.step(peer, setting)
    start = time.perf_counter() - began
    if gpu:
        ms = sorted(milliseconds(step, repeats) for _ in range(3))[1]
    else:
        began = time.perf_counter()
        for _ in range(repeats):
            step()
        ms = (time.perf_counter() - began) / repeats * 1e3
    return {"ms": ms, "gb": max(0, peak() - before) / 1e9, "start": start}


def rows(bench: Bench, seconds: float, repeats: int) -> Iterator[Row]:
    """A row for each peer and setting, against our step, as long as there is time."""
    began, ours = time.perf_counter(), None
    for peer, setting in GRID if bench.device == "cuda" else CPU_GRID:
        if time.perf_counter() - began > seconds:
            print(f"no time left for {NAMES[peer]}, {setting}", file=sys.stderr, flush=True)
            continue
        try:
            found = measured(bench, peer, setting, repeats)
        except Exception as error:  # whatever a compiler may raise: the settings after it are worth measuring
            print(f"{NAMES[peer]}, {setting} broke: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            continue
        finally:
            clean(bench.device)
        ours = found["ms"] if peer == "glorasearch" else ours
        note = (
            f"{found['gb']:.2f} GB, {bench.batch / found['ms'] * 1e3:.0f} images/s, first step {found['start']:.0f} s"
        )
        flops = bench.batch * bench.flops[peer] if peer in bench.flops else None
        more = {
            "peer": peer,
            "setting": str(setting),
            "gb": found["gb"],
            "images_per_second": bench.batch / found["ms"] * 1e3,
        }
        what = f"{NAMES[peer]}: {setting}"
        yield Row(what=what, measured=found["ms"], unit="ms", reference=ours, note=note, flops=flops, more=more)


def table(content: dict[str, Any]) -> str:
    """The peers at their fastest settings as a Markdown table."""
    found = content["rows"]
    best = {
        name: min((row for row in found if row["peer"] == name), key=lambda row: row["measured"], default=None)
        for name in NAMES
    }
    ours = best["glorasearch"]
    about = content["machine"]
    where = (
        f"{about['gpu'] or about['cpu']}, torch {about['versions']['torch']}, {about['date'][:10]}, `{about['commit']}`"
    )
    lines = [
        f"{where}; each peer at the fastest of the settings that were tried:",
        "",
        "| | step | against ours | memory | images/s | of bf16 peak | setting | settings tried |",
        "|---|---:|---:|---:|---:|---:|---|---:|",
    ]
    for name, row in best.items():
        if row is None:
            lines.append(f"| {NAMES[name]} | not measured | | | | | | 0 |")
            continue
        share = row.get("share_of_peak")
        tried = sum(other["peer"] == name for other in found)
        cells = (
            NAMES[name], f"{row['measured']:.3g} ms", f"{row['measured'] / ours['measured']:.2f}" if ours else "",
            f"{row['gb']:.3g} GB" if row["gb"] else "", f"{row['images_per_second']:.0f}",
            "" if share is None else f"{share:.2f}", row["setting"], str(tried),
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def write_into(page: Path, text: str) -> None:
    """Replace what stands between the marks of a page.

    Raises:
        ValueError: if it has none.
    """
    content = page.read_text("utf-8")
    before, begin, rest = content.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", "utf-8")


def main() -> None:
    """Measure and print, or make the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the rows to this file")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--size", choices=sorted(SIZES), default="base")
    parser.add_argument("--seconds", type=float, default=300, help="no setting is begun after so many (default: 300)")
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument(
        "--table", type=Path, metavar="PATH", help="make the table from this file in place of measuring"
    )
    parser.add_argument("--page", type=Path, help="write the table into this page")
    options = parser.parse_args()
    if options.table is not None:
        text = table(json.loads(options.table.read_text("utf-8")))
        if options.page is None:
            print(text)
        else:
            write_into(options.page, text)
        return
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device; --device cpu --size tiny shows that it works")
    finish(rows(Bench(options.size, options.device), options.seconds, options.repeats), options, size=options.size)


if __name__ == "__main__":
    main()
