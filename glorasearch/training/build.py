"""A training as plain JSON, from which a process on another machine builds the driver's training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from glorasearch.backbone import BackboneConfig, build_backbone
from glorasearch.config import Compile, Config
from glorasearch.data import DataConfig, InputSpec, SearchData, TrainSplit, load_search_data
from glorasearch.errors import RunError
from glorasearch.space import Fitness, SearchSpace, Subnet
from glorasearch.supernet import Supernet
from glorasearch.training.config import TrainingConfig
from glorasearch.training.sampling import Fixed, SamplingStrategy, Sandwich, Uniform


class TrainingSpec(Config):
    """Everything that a training is a function of, except its initial weights; travels as JSON."""

    backbone: BackboneConfig
    """The backbone, frozen."""
    classes: int
    """Outputs of its head."""
    data: DataConfig
    """The images."""
    space: SearchSpace
    """The choices."""
    strategy: dict[str, Any]
    """From `strategy_to_json`."""
    config: TrainingConfig
    """The recipe."""
    compile: Compile = "auto"
    """As `SupernetTrainer` takes it."""
    code_cache: str | None = None
    """Folder of compiled code; None keeps none."""
    facts: dict[str, Any]
    """`SupernetTrainer.facts` of the driver, which every worker must reproduce."""
    torch: str
    """Version of torch, on which the numbers depend."""
    with_search: bool = False
    """Train on train + search, and not on train alone."""
    threads: int | None = None
    """Number of torch's CPU threads; None for torch's default."""
    probed: dict[str, dict[str, dict[str, str]]] = Field(default_factory=dict)
    """Metric name → subnet whose score on the search split it is."""
    measure: Fitness = "accuracy"
    """The part of the score that the metrics are."""
    evaluator: dict[str, Any] = Field(default_factory=dict)
    """Settings of the evaluator that measures it: `batch_size`, `compile`, `precision`."""

    def to_json(self) -> dict[str, Any]:
        """As a dictionary of JSON values."""
        return self.model_dump(mode="json")


@dataclass(frozen=True)
class BuiltTraining:
    """What a trainer is made from."""

    supernet: Supernet
    data: SearchData
    split: TrainSplit
    strategy: SamplingStrategy
    config: TrainingConfig
    probed: Mapping[str, Subnet]


def prepare_process(version: str, threads: int | None) -> None:
    """Set the threads of torch in a process that trains for another one, unless it would round differently.

    Raises:
        RunError: if `version` is not the version of torch here.
    """
    if torch.__version__ != version:
        raise RunError(
            f"torch is {torch.__version__} on this machine and {version} where the run was started: install the "
            "same version on every machine"
        )
    if threads is not None:
        torch.set_num_threads(threads)


def build_training(spec: TrainingSpec, start: Mapping[str, Tensor]) -> BuiltTraining:
    """Build the training of a specification on the CPU, with the initial weights `start`.

    Raises:
        RunError: if torch here has another version than the driver's.
        InputError: if backbone or images are not found here.
        WeightStoreError: if the weights belong to another supernet.
    """
    prepare_process(spec.torch, spec.threads)
    backbone = build_backbone(spec.backbone, spec.classes, drop_path=spec.config.drop_path)
    data = load_search_data(spec.data, InputSpec.from_backbone(backbone), crops=spec.config.augmentation.crops)
    supernet = Supernet(backbone, spec.space)
    supernet.load_adapter_state(start)
    return BuiltTraining(
        supernet,
        data,
        data.train_and_search() if spec.with_search else data.train,
        strategy_from_json(spec.strategy, supernet),
        spec.config,
        {name: Subnet.from_dict(subnet) for name, subnet in spec.probed.items()},
    )


def check_facts(expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Raise `RunError`, naming what differs, unless the training built here is the driver's."""
    names = {"data": "the images", "backbone": "the backbone's weights", "space": "the search space"}
    there, here = json.loads(json.dumps([expected, found]))
    differing = [names.get(key, key) for key in sorted(there.keys() | here.keys()) if there.get(key) != here.get(key)]
    if differing:
        raise RunError(
            f"this machine does not have what the run was started with: {', '.join(differing)} differ. Make sure that "
            "every machine finds the same files and has the same version of glorasearch"
        )


def strategy_to_json(strategy: SamplingStrategy) -> dict[str, Any]:
    """A strategy of this package as JSON."""
    match strategy:
        case Fixed(subnet):
            return {"kind": "fixed", "subnet": subnet.to_dict()}
        case Uniform(_, seed):
            return {"kind": "uniform", "seed": seed}
        case Sandwich(_, seed, middle):
            return {"kind": "sandwich", "seed": seed, "middle": middle}
    raise TypeError(f"{type(strategy).__name__} cannot be sent to other processes")


def strategy_from_json(content: Mapping[str, Any], supernet: Supernet) -> SamplingStrategy:
    """The inverse of `strategy_to_json`, over a supernet's space."""
    if content["kind"] == "fixed":
        return Fixed(Subnet.from_dict(content["subnet"]))
    if content["kind"] == "uniform":
        return Uniform(supernet.space, content["seed"])
    return Sandwich(supernet.space, content["seed"], content["middle"])
