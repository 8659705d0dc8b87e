"""Larger and other models: a supernet step, PEFT's LoRA and full fine-tuning, each on the same model in one run.

    python benchmarks/bench_larger.py [--json PATH] [--models dinov2,eva02,siglip,convnext]
                                      [--peers glorasearch,lora,full] [--gib 80] [--device cuda] [--size large|tiny]
                                      [--repeats 20]

ViT-L/14 at 518 px as DINOv2 has it, EVA-02-L, SigLIP's so400m and ConvNeXt-L, all with random weights, which change
nothing of what a step costs. A process may have `--gib` of the card, and every training says how it fits: a step whose
activations do not fit has them computed again, ours by its own choice before the first step, the others once they have
run out of memory. Each is compiled by blocks and its step captured in a CUDA graph; PEFT's LoRA is in bfloat16, full
fine-tuning under autocast, which were their best settings on a ViT-B/16 (`bench_peers.py`). LoRA adapts the linear
layers of those that ours adapts. Rows are written as they come. `--device cpu --size tiny` tries it without a GPU.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import peer_models
import timm
import torch
from bench_augment import split_of
from cuda_floors import milliseconds
from leaving import clean
from peer_steps import PlainStep, Setting
from table import Row, finish, json_option, names_option
from torch import nn

from glorasearch.adapters import adaptable_layers
from glorasearch.config import Compile
from glorasearch.data import InputSpec
from glorasearch.space import SearchSpace
from glorasearch.supernet import Supernet
from glorasearch.training import SupernetTrainer, TrainingConfig, Uniform
from glorasearch.training.memory import fit_step

CLASSES = 100
_VIT = {"embed_dim": 32, "depth": 2, "num_heads": 2}


class Case(NamedTuple):
    """A model and what it is trained with."""

    name: str
    """Of timm."""
    space: str
    batch: int
    tiny: dict[str, Any]
    """Arguments that make it small."""


CASES: dict[str, Case] = {
    "dinov2": Case("vit_large_patch14_dinov2", "glora_medium", 16, {"img_size": 28, **_VIT}),
    "eva02": Case("eva02_large_patch14_224", "glora_medium", 64, {"img_size": 28, **_VIT}),
    "siglip": Case("vit_so400m_patch14_siglip_224", "glora_medium", 64, {"img_size": 28, **_VIT}),
    "convnext": Case("convnext_large", "convnext_glora", 64, {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32)}),
}
PEERS = {"glorasearch": "a supernet step", "lora": "PEFT LoRA r=4", "full": "full fine-tuning"}


class Bench:
    """One model, its images, and the trainings of it."""

    def __init__(self, case: Case, size: str, device: str, gib: float | None) -> None:
        self.case, self.device, self.gib = case, torch.device(device), gib
        self._arguments = case.tiny if size == "tiny" else {}
        self.batch = 4 if size == "tiny" else case.batch
        model = self.backbone()
        config: dict[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
        side = self._arguments.get("img_size", 32 if size == "tiny" else config["input_size"][-1])
        self.spec = InputSpec(3, side, side, (0.5,) * 3, (0.5,) * 3)
        self.head = config["classifier"]
        layers = SearchSpace.load(case.space).bind(adaptable_layers(model)).layers
        self.linear = [layer.name for layer in layers if isinstance(model.get_submodule(layer.name), nn.Linear)]
        self.millions = sum(value.numel() for value in model.parameters()) / 1e6

    def backbone(self) -> nn.Module:
        """The same at every call, on the CPU."""
        torch.manual_seed(0)
        model: nn.Module = timm.create_model(self.case.name, num_classes=CLASSES, **self._arguments)
        return model.eval()

    def step(self, peer: str, again: bool) -> tuple[Callable[[], object], bool]:
        """A step of one way to train it, which has been taken once; and whether it computes activations again.

        `again` is heeded by the others; ours decides by itself.
        """
        found, chosen = self._ours() if peer == "glorasearch" else (self._peer(peer, again), again)
        found()
        return found, chosen

    def _ours(self) -> tuple[Callable[[], object], bool]:
        supernet = Supernet(self.backbone(), SearchSpace.load(self.case.space))
        data = split_of(self.spec, 2 * self.batch)
        config = TrainingConfig(steps=100_000, lr=1e-3, batch_size=self.batch, memory_gib=self.gib)
        mode: Compile = "on" if self.device.type == "cuda" else "off"
        strategy = Uniform(supernet.space, 0)
        trainer = SupernetTrainer(supernet, data, strategy, config, device=self.device, compile=mode)
        images = trainer._batches.some(self.device)
        supernet.check_reached(images)
        supernet.train()
        again = fit_step(trainer._step, supernet, config, images)
        numbers = iter(range(config.steps))
        return lambda: trainer._train_step(next(numbers)), again

    def _peer(self, name: str, again: bool) -> PlainStep:
        gpu = self.device.type == "cuda"
        precision = "float32" if not gpu else "bfloat16" if name == "lora" else "autocast"
        setting = Setting("blocks" if gpu else "eager", precision)
        backbone = self.backbone()
        if again:
            backbone.set_grad_checkpointing(True)  # type: ignore[operator]
        make = peer_models.full if name == "full" else partial(peer_models.lora, layers=self.linear, head=self.head)
        model = make(backbone, frozen=setting.frozen, trained=setting.trained).to(self.device)
        generator = torch.Generator().manual_seed(1)
        images = torch.randn(self.batch, 3, self.spec.height, self.spec.width, generator=generator)
        labels = torch.randint(0, CLASSES, (self.batch,), generator=generator)
        return PlainStep(model, setting, images.to(self.device), labels.to(self.device))


def rows(name: str, peers: list[str], size: str, device: str, gib: float | None, repeats: int) -> Iterator[Row]:
    """A row for each way to train one model; one that does not fit, or breaks, has none and is told of."""
    bench, ours = Bench(CASES[name], size, device, gib), None
    for peer in peers:
        title = PEERS[peer]
        found = None
        for again in (False, True) if peer != "glorasearch" else (False,):
            try:
                found = measured(bench, peer, again, repeats)
                break
            except torch.OutOfMemoryError:
                why = f"does not fit into {gib:g} GiB" if gib else "does not fit"
            except Exception as error:  # whatever a compiler may raise: the others are worth measuring
                why = f"{type(error).__name__}: {error}"
                break
            finally:
                clean(device)
        if found is None:
            print(f"{name}, {title}: {why}", file=sys.stderr, flush=True)
            continue
        ours = found["ms"] if peer == "glorasearch" else ours
        each = bench.batch / found["ms"] * 1e3
        note = f"{found['gb']:.2f} GB, {each:.0f} images/s, first step {found['start']:.0f} s"
        what = f"{bench.case.name} ({bench.millions:.0f} M), {bench.spec.width} px, batch {bench.batch}: {title}"
        more = {"model": name, "peer": peer, "batch": bench.batch, "images_per_second": each, **found}
        note += ", activations computed again" if found["again"] else ""
        yield Row(what=what, measured=found["ms"], unit="ms", reference=ours, note=note, more=more)


def measured(bench: Bench, peer: str, again: bool, repeats: int) -> dict[str, Any]:
    """Milliseconds, memory and seconds of preparation; nothing of it is left."""
    gpu, before = bench.device.type == "cuda", 0
    if gpu:
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    step, chosen = bench.step(peer, again)
    if gpu:
        torch.cuda.synchronize()
    start = time.perf_counter() - began
    peak = torch.cuda.max_memory_allocated() if gpu else 0
    if gpu:
        ms = sorted(milliseconds(step, repeats) for _ in range(3))[1]
    else:
        began = time.perf_counter()
        for _ in range(repeats):
            step()
        ms = (time.perf_counter() - began) / repeats * 1e3
    return {"ms": ms, "gb": max(0, peak - before) / 1e9, "start": start, "again": chosen}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    json_option(parser)
    names_option(parser, "--models", CASES)
    names_option(parser, "--peers", PEERS)
    parser.add_argument("--gib", type=float, default=80.0, help="of the card for this process (80)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--size", choices=("large", "tiny"), default="large")
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    if options.gib <= 0 or options.repeats < 1:
        parser.error("numbers are above 0")
    gib: float | None = None
    if options.device == "cuda":
        whole = torch.cuda.get_device_properties(0).total_memory / 2**30
        gib = min(options.gib, whole)
        torch.cuda.set_per_process_memory_fraction(gib / whole)
    rest = options.peers, options.size, options.device, gib, options.repeats
    each = (rows(name, *rest) for name in options.models)
    finish(chain.from_iterable(each), options)


if __name__ == "__main__":
    main()
