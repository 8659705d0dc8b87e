"""What it costs to swap adapters in one resident model, and where a mixed batch is better not merged.

    python benchmarks/bench_serving.py [--device cpu|cuda] [--backbone vit_tiny] [--json PATH] [--threads 1]

Adapters have random weights. A swap is measured between adapters that are ready, against a plain copy of the weights
that adapters change (what a cache of merged weights would cost, without its memory). Batches of four adapters are
computed in turns, merged one after the other and without merging; the figures are medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import timm
import torch
from numpy.random import default_rng
from table import Row, finish, json_option
from torch import Tensor, nn

from glorasearch.serving import AdapterServer, ServedAdapter
from glorasearch.space import SearchSpace, sample
from glorasearch.supernet import Supernet

TARGET_MS: Final = 3.0
"""Of a swap of ViT-B on an H100."""
ADAPTERS: Final = 4
EACH: Final = (1, 2, 4, 8, 16, 32)
"""Images of each adapter in a mixed batch."""
ARCHITECTURES: Final = {"vit_tiny": "vit_tiny_patch16_224", "vit_base": "vit_base_patch16_224"}
SPACES: Final = {
    "glora_medium": SearchSpace.load("glora_medium"),
    "rows and rank 8": SearchSpace.from_dict(
        {"name": "mixable", "choices": {"A": ["vector"], "B": ["lora:8"], "D": ["vector"], "E": ["vector"]}}
    ),
}


def server_of(backbone: nn.Module, space: SearchSpace, device: str) -> tuple[AdapterServer, list[str], list[str]]:
    """A server, its adapters, and the layers that they change."""
    server, generator = AdapterServer(backbone, device=device), torch.Generator().manual_seed(0)
    supernet = Supernet(backbone, space)
    for number in range(ADAPTERS):
        with torch.no_grad():
            for parameter in supernet.adapter_parameters().values():
                parameter.normal_(std=0.02, generator=generator)
        server.add(ServedAdapter.of(supernet, sample(supernet.space, default_rng(number)), name=str(number)))
    return server, [str(number) for number in range(ADAPTERS)], list(supernet.adapted)


def timed(action: Callable[[], object], device: str) -> float:
    """Milliseconds, until the device has done it."""
    synchronise(device)
    start = time.perf_counter()
    action()
    synchronise(device)
    return (time.perf_counter() - start) * 1e3


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def swap_rows(name: str, backbone: nn.Module, space: str, device: str, count: int) -> list[Row]:
    """Milliseconds of making an adapter ready, of a swap, and of a plain copy of the same weights."""
    server, adapters, layers = server_of(backbone, SPACES[space], device)
    ready = [timed(partial(server.swap, one), device) for one in adapters]
    for one in adapters:  # the second time it is recorded, on a GPU
        server.swap(one)
    model = nn.ModuleList([backbone.get_submodule(layer) for layer in layers])
    source = [one.detach().to(device) for one in model.parameters()]
    target = [torch.empty_like(one) for one in source]
    swaps, copies = [], []
    for number in range(count):
        swaps.append(timed(partial(server.swap, adapters[number % ADAPTERS]), device))
        copies.append(timed(lambda: torch._foreach_copy_(target, source), device))
    limit = TARGET_MS if (device, name) == ("cuda", "vit_base") else None
    what = f"swap of {name}, {space}"
    return [
        Row(what=what, measured=statistics.median(swaps), unit="ms", target=limit),
        Row(
            what=f"{what}: against copying merged weights",
            measured=statistics.median(swaps),
            unit="ms",
            reference=statistics.median(copies),
        ),
        Row(
            what=f"{what}: the first time",
            measured=statistics.median(ready),
            unit="ms",
            note="moved to the device",
        ),
    ]


def mixed_rows(name: str, backbone: nn.Module, device: str, count: int, each: tuple[int, ...] = EACH) -> list[Row]:
    """Milliseconds of a batch of four adapters without merging, against merging one after the other."""
    server, adapters, _ = server_of(backbone, SPACES["rows and rank 8"], device)
    config = backbone.pretrained_cfg["input_size"]  # type: ignore[index]
    found = []
    for number in each:
        images = torch.randn(number * ADAPTERS, *config).to(device)
        owners = [adapters[index % ADAPTERS] for index in range(len(images))]

        def mixed(how: str, images: Tensor = images, owners: list[str] = owners) -> object:
            return server.mixed(owners, images, how)  # type: ignore[arg-type]

        times: dict[str, list[float]] = {"unmerged": [], "grouped": []}
        for how in times:  # the first time differs: it is compared, on a GPU kernels are chosen
            mixed(how)
        for _ in range(count):
            for how, own in times.items():
                own.append(timed(partial(mixed, how), device))
        unmerged, grouped = (statistics.median(times[how]) for how in ("unmerged", "grouped"))
        plural = "s" if number > 1 else ""
        found.append(
            Row(
                what=f"{name}, {ADAPTERS} adapters of {number} image{plural} each, without merging",
                measured=unmerged,
                unit="ms",
                reference=grouped,
                note="reference: merged in turn",
            )
        )
    return found


def rows(device: str = "cpu", backbones: tuple[str, ...] | None = None, count: int | None = None) -> list[Row]:
    """Of ViT-Ti on a CPU, of ViT-B on a GPU."""
    found = []
    for name in backbones or (("vit_base",) if device == "cuda" else ("vit_tiny",)):
        torch.manual_seed(0)
        backbone = timm.create_model(ARCHITECTURES[name], pretrained=False, num_classes=10).eval()
        for space in SPACES:
            found += swap_rows(name, backbone, space, device, count or (100 if device == "cuda" else 12))
        found += mixed_rows(name, backbone, device, count or (20 if device == "cuda" else 3))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    json_option(parser)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--backbone", choices=sorted(ARCHITECTURES), help="default: vit_tiny on a CPU, else vit_base")
    parser.add_argument("--repeats", type=int, help="default: as many as make sense")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    chosen = None if options.backbone is None else (options.backbone,)
    finish(rows(options.device, chosen, options.repeats), options)


if __name__ == "__main__":
    main()
