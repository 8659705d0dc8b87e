"""What a training step costs on the CPU: the supernet's against PEFT's LoRA of rank 4 on the same layers.

    python benchmarks/bench_step_cpu.py [--json PATH] [--backbones quickstart,vit_tiny] [--paths 100]

A step is a batch taken from the split, forward, backward, clipping to norm 1 and AdamW, of 64 images in float32. Every
step of the supernet runs another path of `glora_medium`, drawn as the trainer draws it. What is compared takes its
steps in turns, so that a neighbour on the machine slows all alike; the figures are means over the paths.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
import warnings
from collections.abc import Callable

import peft
import timm
import torch
from table import Row, finish, json_option
from torch import nn

from glorasearch.adapters import adaptable_layers, head_names
from glorasearch.backbone import BackboneConfig, build_backbone
from glorasearch.data import DataConfig, InputSpec, TrainSplit, load_search_data
from glorasearch.space import SearchSpace
from glorasearch.supernet import Supernet
from glorasearch.tasks import CLASSIFY
from glorasearch.training import Fixed, SamplingStrategy, TrainingConfig, Uniform
from glorasearch.training.optimizer import SupernetOptimizer, peak_rates
from glorasearch.training.plain_step import PlainStep
from glorasearch.training.sampling import BatchOrder

BATCH, CLIP, LR, DECAY = 64, 1.0, 1e-3, 1e-4
TARGET = 1.3
EVERYTHING = 1.5
"""What a step of the space with every choice may cost, in steps of `glora_medium`."""
STEPS = {"quickstart": 100, "vit_tiny": 10}
"""Paths that are drawn, by backbone."""

WHAT = {
    "supernet": "a step against PEFT LoRA r=4 on the same layers",
    "lora": "our LoRA r=4 against PEFT's",
    "biases": "biases and head alone against PEFT LoRA",
    "head": "head alone against PEFT LoRA",
}

Step = Callable[[int], object]


def backbone_of(name: str) -> nn.Module:
    """The shipped quickstart backbone, or a ViT-Ti/16 with random weights; ten classes."""
    if name == "quickstart":
        return build_backbone(BackboneConfig(name="quickstart"), 10)
    torch.manual_seed(0)
    model: nn.Module = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=10)
    return model.eval()


def supernet_step(backbone: nn.Module, space: str, data: TrainSplit, order: BatchOrder) -> Step:
    """Steps of a supernet, as `SupernetTrainer` takes them on the CPU."""
    supernet = Supernet(backbone, SearchSpace.load(space)).train()
    single = all(len(gene.choices) == 1 for gene in supernet.space.genes)
    strategy: SamplingStrategy = Fixed(supernet.space.largest()) if single else Uniform(supernet.space, 0)
    peaks = peak_rates(supernet.space, TrainingConfig(lr=LR, spectrum_lr=LR))
    optimizer = SupernetOptimizer(supernet, peaks, weight_decay=DECAY)
    plain = PlainStep(supernet, optimizer, mixed=False, label_smoothing=0.0, clip_norm=CLIP, seed=0)
    return lambda number: plain.run(number, strategy.sample(number), *data.batch(order.indices(number)), 1.0)


def model_step(model: nn.Module, data: TrainSplit, order: BatchOrder) -> Step:
    """Steps of all that requires a gradient in a plain model."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    adamw = torch.optim.AdamW(trained, lr=LR, weight_decay=DECAY, fused=True)
    model.train()

    def step(number: int) -> None:
        images, labels = data.batch(order.indices(number))
        adamw.zero_grad(set_to_none=True)
        torch.autograd.backward(CLASSIFY.label_loss(model(images), labels, 0.0))
        torch.nn.utils.clip_grad_norm_(trained, CLIP, foreach=True)
        adamw.step()

    return step


def peft_lora(backbone: nn.Module) -> nn.Module:
    """PEFT's LoRA of rank 4 on the layers that `glora_medium` adapts, and a trained head."""
    layers = [layer.name for layer in SearchSpace.load("glora_medium").bind(adaptable_layers(backbone)).layers]
    config = peft.LoraConfig(r=4, lora_alpha=4, target_modules=layers, modules_to_save=list(head_names(backbone)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: nn.Module = peft.get_peft_model(copy.deepcopy(backbone), config)
    replaced = sum(isinstance(module, peft.tuners.lora.Linear) for module in model.modules())
    assert replaced == len(layers), (replaced, len(layers))
    return model


def floor(backbone: nn.Module, *, biases: bool) -> nn.Module:
    """The backbone with only its head trained; with `biases`, those of all its linear layers too."""
    model = copy.deepcopy(backbone).requires_grad_(False)
    for name in head_names(model):
        model.get_submodule(name).requires_grad_(True)
    for module in model.modules():
        if biases and isinstance(module, nn.Linear) and module.bias is not None:
            module.bias.requires_grad_(True)
    return model


def measure(steps: dict[str, Step], paths: int) -> dict[str, list[float]]:
    """Milliseconds of each step; all take theirs in turns, after two that are not counted."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(-2, paths):
        for name, step in steps.items():
            start = time.perf_counter()
            step(number + 2)
            if number >= 0:
                times[name].append((time.perf_counter() - start) * 1e3)
    return times


def rows(backbones: tuple[str, ...] = ("quickstart", "vit_tiny"), paths: int | None = None) -> list[Row]:
    """For each backbone: the supernet's mean step against PEFT's, which the target is for, and what surrounds them."""
    found: list[Row] = []
    for name in backbones:
        backbone = backbone_of(name)
        spec = InputSpec.from_backbone(backbone)
        data = load_search_data(DataConfig(source="digits", train=200, search=20), spec).train
        order = BatchOrder(len(data), BATCH, 0)
        steps: dict[str, Step] = {
            "supernet": supernet_step(backbone, "glora_medium", data, order),
            "peft": model_step(peft_lora(backbone), data, order),
            "everything": supernet_step(backbone, "everything", data, order),
            "lora": supernet_step(backbone, "lora", data, order),
            "biases": model_step(floor(backbone, biases=True), data, order),
            "head": model_step(floor(backbone, biases=False), data, order),
        }
        times = measure(steps, paths or STEPS[name])
        mean = {what: statistics.fmean(values) for what, values in times.items()}
        pairs = statistics.median(a / b for a, b in zip(times["supernet"], times["peft"], strict=True))

        found += [
            Row(
                what=f"CPU: {what}, {name}, batch {BATCH}",
                measured=mean[key],
                unit="ms",
                reference=mean["peft"],
                target=TARGET if key == "supernet" else None,
                note=f"median of pairs {pairs:.3f}" if key == "supernet" else "",
            )
            for key, what in WHAT.items()
        ]
        found.append(
            Row(
                what=f"CPU: a step of `everything` against one of `glora_medium`, {name}, batch {BATCH}",
                measured=mean["everything"],
                unit="ms",
                reference=mean["supernet"],
                target=EVERYTHING,
            )
        )
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    json_option(parser)
    parser.add_argument("--backbones", default=",".join(STEPS))
    parser.add_argument("--paths", type=int, help="drawn for each backbone (default: 100 and 10)")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    finish(rows(tuple(options.backbones.split(",")), options.paths), options)


if __name__ == "__main__":
    main()
