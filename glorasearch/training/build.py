"""A training from plain JSON: what a process on another machine is told, so that it does the driver's training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from glorasearch.backbone import BackboneConfig, build_backbone
from glorasearch.data import DataConfig, InputSpec, SearchData, TrainSplit, load_search_data
from glorasearch.errors import RunError
from glorasearch.space import SearchSpace, Subnet
from glorasearch.supernet import Supernet
from glorasearch.training.config import TrainingConfig
from glorasearch.training.paths import Fixed, PathStrategy, Sandwich, Uniform


@dataclass(frozen=True, kw_only=True)
class TrainingSpec:
    """Everything that a training is a function of but its first weights; JSON-ready."""

    backbone: dict[str, Any]
    """`BackboneConfig` as a dictionary."""
    data: dict[str, Any]
    """`DataConfig` as a dictionary."""
    space: dict[str, Any]
    """`SearchSpace` as a dictionary."""
    strategy: dict[str, Any]
    """As `strategy_to_json` gives it."""
    config: dict[str, Any]
    """`TrainingConfig` as a dictionary."""
    facts: dict[str, Any]
    """`SupernetTrainer.facts`, which must come out the same."""
    torch: str
    """Version of torch, which decides the numbers."""
    with_search: bool = False
    """Train on train + search, and not on train alone."""
    threads: int | None = None
    """Threads of torch on the CPU; None for torch's own default."""
    probed: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)
    """Name → subnet, whose accuracy on the search split is followed."""
    evaluator: dict[str, Any] = field(default_factory=dict)
    """How it is measured: `batch_size`, `compile`, `mixed` of the evaluator."""

    def to_json(self) -> dict[str, Any]:
        """As a dictionary of JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class BuiltTraining:
    """What a trainer is made from."""

    supernet: Supernet
    data: SearchData
    split: TrainSplit
    strategy: PathStrategy
    config: TrainingConfig
    probed: Mapping[str, Subnet]


def build_training(told: TrainingSpec, start: Mapping[str, Tensor]) -> BuiltTraining:
    """Build what `told` describes, with the weights `start`, on the CPU.

    Raises:
        RunError: if torch here is another version than the driver's.
        InputError: if backbone or images are not found here.
        WeightStoreError: if the weights belong to another supernet.
    """
    if torch.__version__ != told.torch:
        raise RunError(
            f"torch is {torch.__version__} on this machine and {told.torch} where the run was started: install the "
            "same version on every machine"
        )
    if told.threads is not None:
        torch.set_num_threads(told.threads)
    backbone = build_backbone(BackboneConfig(**told.backbone))
    config = DataConfig(**told.data)
    spec = InputSpec.from_backbone(backbone).override(size=config.size, mean=config.mean, std=config.std)
    data = load_search_data(config, spec)
    supernet = Supernet(backbone, SearchSpace.from_dict(told.space))
    supernet.load_adapter_state(start)
    return BuiltTraining(
        supernet,
        data,
        data.train_and_search() if told.with_search else data.train,
        strategy_from_json(told.strategy, supernet),
        TrainingConfig(**told.config),
        {name: Subnet.from_dict(subnet) for name, subnet in told.probed.items()},
    )


def check_facts(told: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Raise `RunError`, saying what differs, unless the training here is the one that was started."""
    names = {"data": "the images", "backbone": "the backbone's weights", "space": "the search space"}
    there, here = json.loads(json.dumps([told, found]))
    differs = [names.get(key, key) for key in sorted(there.keys() | here.keys()) if there.get(key) != here.get(key)]
    if differs:
        raise RunError(
            f"this machine has not what the run was started with: {', '.join(differs)} differ. See that every machine "
            "finds the same files and has the same version of glorasearch"
        )


def strategy_to_json(strategy: PathStrategy) -> dict[str, Any]:
    """A strategy of this package as JSON."""
    match strategy:
        case Fixed(subnet):
            return {"kind": "fixed", "subnet": subnet.to_dict()}
        case Uniform(_, seed):
            return {"kind": "uniform", "seed": seed}
        case Sandwich(_, seed, middle):
            return {"kind": "sandwich", "seed": seed, "middle": middle}
    raise TypeError(f"{type(strategy).__name__} cannot be sent to other processes")


def strategy_from_json(told: Mapping[str, Any], supernet: Supernet) -> PathStrategy:
    """What `strategy_to_json` was given, over a supernet's space."""
    if told["kind"] == "fixed":
        return Fixed(Subnet.from_dict(told["subnet"]))
    if told["kind"] == "uniform":
        return Uniform(supernet.space, told["seed"])
    return Sandwich(supernet.space, told["seed"], told["middle"])
