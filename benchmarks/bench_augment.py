"""What augmentation costs beside a supernet step: every preset against the same training without it.

    python benchmarks/bench_augment.py [--json PATH] [--device cpu] [--images 1000] [--presets light timm strong]

ViT-B/16 at 224 px, search space `glora_medium`, batch 64, on random uint8 images that are kept on the GPU, with their
larger view; steps and batches are those of `SupernetTrainer`, captured. A preset may take at most 5 % more. With more
than 4,500 images (`--images`) larger views stay in the memory of the host, and each step copies its own. On a CPU a
small model of 32 px stands in, to try the program: its milliseconds mean nothing. Operations, and the bytes that they
read and write, are counted on the CPU in any case, over ten batches of 64 at 224 px, as many of each as a GPU has
(but for those inside an operator); some are of the CPU alone.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import timm
import torch
from operations import Operations
from table import Row, finish, json_option

from glorasearch.data import InputSpec, TrainSplit
from glorasearch.data.pixels import ResidentPixels
from glorasearch.data.views import enlarged
from glorasearch.space import SearchSpace
from glorasearch.supernet import Supernet
from glorasearch.training import SupernetTrainer, TrainingConfig, Uniform
from glorasearch.training.augment import AugmentedBatches

CLASSES, MOST = 100, 1.05
PRESETS = ("none", "light", "timm", "strong")
CPU_MODEL: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}


def split_of(spec: InputSpec, images: int) -> TrainSplit:
    """Random images in both views."""
    generator = torch.Generator().manual_seed(0)

    def pixels(own: InputSpec) -> ResidentPixels:
        shape = images, own.channels, own.height, own.width
        return ResidentPixels(torch.randint(256, shape, generator=generator, dtype=torch.uint8))

    labels = torch.arange(images) % CLASSES
    fingerprints = [number.to_bytes(4, "big") for number in range(images)]
    return TrainSplit(pixels(spec), labels, spec, fingerprints, CLASSES, larger=pixels(enlarged(spec)))


def trainer_of(data: TrainSplit, preset: str, device: str, batch: int) -> SupernetTrainer:
    """A training of a fresh supernet."""
    small = CPU_MODEL if device == "cpu" else {}
    model = timm.create_model("vit_tiny_patch16_224" if small else "vit_base_patch16_224", num_classes=CLASSES, **small)
    supernet = Supernet(model, SearchSpace.load("glora_medium"))
    config = TrainingConfig(steps=100_000, batch_size=batch, augment=preset)
    trainer = SupernetTrainer(supernet, data, Uniform(supernet.space, 0), config, device=device)
    supernet.train()
    return trainer


def counted(presets: Iterable[str], edge: int, batch: int, batches: int) -> list[Row]:
    """Operations of a batch of each preset, and the memory that they read and write."""
    spec = InputSpec(3, edge, edge, (0.5,) * 3, (0.5,) * 3, crop_pct=0.9)
    data, cpu, indices = split_of(spec, batch), torch.device("cpu"), torch.arange(batch)
    found = []
    for preset in presets:
        made = AugmentedBatches.of(TrainingConfig(augment=preset).augmentation, data)
        if made is None:
            continue
        made.rank(0, 0, indices, 0, 1, cpu)  # what is kept for all batches is not counted
        with Operations() as operations:
            for step in range(1, 1 + batches):
                made.rank(0, step, indices, 0, 1, cpu)
        what = f"a batch of {batch} at {edge} px, augment = {preset}"
        found.append(Row(what=f"{what}: operations", measured=operations.count / batches, unit=""))
        found.append(Row(what=f"{what}: memory", measured=operations.bytes / batches / 1e6, unit="MB"))
    return found


def milliseconds(work: Callable[[int], object], first: int, count: int, device: str) -> float:
    """Of one of `count` calls, the last one finished on the device."""
    _wait(device)
    began = time.perf_counter()
    for number in range(first, first + count):
        work(number)
    _wait(device)
    return (time.perf_counter() - began) / count * 1e3


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def rows(options: argparse.Namespace) -> list[Row]:
    """One preset a row, then what its batches take alone."""
    device, cpu = options.device, options.device == "cpu"
    edge, batch, count = (32, 8, 5) if cpu else (224, 64, 100)
    spec = InputSpec(3, edge, edge, (0.5,) * 3, (0.5,) * 3, crop_pct=0.9)
    data = split_of(spec, options.images)
    presets = ["none", *(one for one in options.presets if one != "none")]
    trainers = {preset: trainer_of(data, preset, device, batch) for preset in presets}
    for trainer in trainers.values():  # compile, capture, and copy images to the device
        milliseconds(trainer._train_step, 0, 5, device)
    steps: dict[str, list[float]] = {preset: [] for preset in presets}
    alone: dict[str, list[float]] = {preset: [] for preset in presets}
    for turn in range(options.rounds):  # interleaved: the clock of a GPU is not the same all the time
        for preset, trainer in trainers.items():
            first = 5 + turn * count
            steps[preset].append(milliseconds(trainer._train_step, first, count, device))

            def prepare(number: int, trainer: SupernetTrainer = trainer) -> object:
                return trainer._batches.rank(number, 0, trainer._device)

            alone[preset].append(milliseconds(prepare, first, count, device))
    plain = statistics.median(steps["none"])
    others = [preset for preset in presets if preset != "none"]
    found = [
        Row(
            what=f"step of {'a small ViT' if cpu else 'ViT-B/16'}, batch {batch}, augment = {preset}, against none",
            measured=statistics.median(steps[preset]),
            reference=plain,
            unit="ms",
            target=None if cpu else MOST,
        )
        for preset in others
    ]
    found += [
        Row(what=f"batch alone, augment = {preset}", measured=statistics.median(alone[preset]), unit="ms")
        for preset in presets
    ]
    return found + counted(presets, edge=224, batch=64, batches=10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    json_option(parser)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--images", type=int, default=1_000, metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=list(PRESETS[1:]))
    options = parser.parse_args()
    finish(rows(options), options)


if __name__ == "__main__":
    main()
