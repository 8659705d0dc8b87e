"""Memory of evaluation actors on one node: one against several, with what they have in common shared or not.

    python benchmarks/bench_node_memory.py [--json PATH] [--actors 4] [--images 24] [--backbone ...] [--space ...]

Each row is a search's executor on a Ray of its own: actors that have built their evaluators on the CPU and have
evaluated candidates with them. From /proc/PID/smaps_rollup, in MiB:

- `PSS`: proportional set size, summed over the actors: pages that n processes map count 1/n each. It is what the actors
  add to what the machine needs. Ray's own processes count nothing here, and have their share of the libraries.
- `private`: pages that one process alone has, the mean over the actors.

The first row is of as many actors with a model of next to nothing: what Python and its libraries take.

The weights are random; they are as many and as large as pretrained ones.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from table import machine

from glorasearch.backbone import BackboneConfig, build_backbone
from glorasearch.data import DataConfig, InputSpec, load_search_split
from glorasearch.evaluation import EvaluatorSpec
from glorasearch.space import EvaluationTask, SearchSpace, sample
from glorasearch.supernet import Supernet
from glorasearch.weights import WeightStore, frozen_digest
from workers import RayExecutor

SMALL: dict[str, Any] = {"img_size": 32, "patch_size": 16, "embed_dim": 24, "depth": 1, "num_heads": 2}
FIELDS = {"pss": ("Pss",), "private": ("Private_Clean", "Private_Dirty"), "rss": ("Rss",)}


def specify(
    config: BackboneConfig, space_name: str, images: int, folder: Path
) -> tuple[EvaluatorSpec, Supernet, dict[str, float]]:
    """A stored supernet, what workers are told of it, and the MiB of its parts."""
    space = SearchSpace.load(space_name)
    supernet = Supernet(build_backbone(config, 10), space)
    data = DataConfig(source="digits", train=40, search=images, test=40)
    split = load_search_split(data, InputSpec.from_backbone(supernet.model))
    store = WeightStore(str(folder / "weights"))
    state = supernet.adapter_state()
    spec = EvaluatorSpec(
        backbone=config,
        classes=10,
        data=data,
        space=space,
        store=store.url,
        weights=store.put(state, {"backbone_digest": frozen_digest(supernet)}),
        split=split.digest,
        threads=1,
    )
    parts = {
        "frozen": sum(tensor.nbytes for tensor in supernet.frozen_state().values()) / 2**20,
        "adapters": sum(tensor.nbytes for tensor in state.values()) / 2**20,
        "images": 5 * len(split) * split.spec.image_bytes / 2**20,
    }
    return spec, supernet, parts


def measure(spec: EvaluatorSpec, supernet: Supernet, actors: int) -> list[dict[str, float]]:
    """MiB of each of so many actors, once each of them is ready and they have evaluated two candidates each."""
    rng = np.random.default_rng(0)
    subnets = [sample(supernet.space, rng) for _ in range(2 * actors)]
    with RayExecutor("glorasearch.evaluation:build_evaluator", spec.to_json(), workers=actors) as executor:
        while executor.status:
            executor._step()
        assert executor._pool is not None
        for subnet in subnets:
            executor.submit(EvaluationTask(subnet.to_json(), subnet.digest, spec.weights))
        for _ in subnets:
            result = executor.next_result()
            assert result.error is None, result.error
        return [memory_of(worker.location.process) for worker in executor._pool.workers if worker.location]


def memory_of(process: int) -> dict[str, float]:
    """MiB of a process by kind."""
    kilobytes: dict[str, int] = {}
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]:
        name, number, _ = line.split()
        kilobytes[name[:-1]] = int(number)
    return {kind: sum(kilobytes[name] for name in names) / 1024 for kind, names in FIELDS.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--actors", type=int, default=4)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--backbone", default="vit_base_patch16_224")
    parser.add_argument("--space", default="glora_medium")
    parser.add_argument("--only", choices=["none", "no", "yes"], help="only these rows")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        os.environ["GLORASEARCH_CACHE"] = f"{name}/cache"
        config = BackboneConfig(name=options.backbone, pretrained=False)
        spec, supernet, parts = specify(config, options.space, options.images, Path(name))
        sizes = ", ".join(f"{part} {size:.0f} MiB" for part, size in parts.items())
        print(f"{options.backbone}, {options.space}, {options.images} images: {sizes}")
        print("| shared | actors | PSS, all actors | PSS of each further actor | private, each |")
        print("| ------ | ------ | --------------- | ------------------------ | ------------- |")
        small = BackboneConfig(name="vit_tiny_patch16_224", pretrained=False, args=SMALL)
        for name_of, made, counts in (
            ("none", specify(small, options.space, options.images, Path(name)), (options.actors,)),
            ("no", (spec, supernet), (1, options.actors)),
            ("yes", (spec.replace(shared=True), supernet), (1, options.actors)),
        ):
            alone = 0.0
            for actors in counts if options.only in (None, name_of) else ():
                found = measure(made[0], made[1], actors)
                pss = sum(one["pss"] for one in found)
                private = sum(one["private"] for one in found) / actors
                further = (pss - alone) / (actors - 1) if alone else None
                alone = alone or pss
                rows.append({"shared": name_of, "actors": actors, "pss": pss, "further": further, "each": found})
                more = "" if further is None else f"{further:.0f} MiB"
                print(
                    f"| {name_of:<6} | {actors:<6} | {pss:>11.0f} MiB | {more:<24} | {private:>9.0f} MiB |", flush=True
                )
    if options.json:
        content = {"options": {k: str(v) for k, v in vars(options).items()}, "parts_mib": parts, "rows": rows}
        options.json.write_text(json.dumps(content | {"machine": machine()}, indent=2))


if __name__ == "__main__":
    main()
