"""A supernet with stored weights, and an evaluator of its subnets, from plain JSON: what a worker is told."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from glorasearch.backbone import BackboneConfig, build_backbone
from glorasearch.data import DataConfig, InputSpec, SearchSplit, load_search_split
from glorasearch.evaluation.evaluator import CandidateEvaluator
from glorasearch.evaluation.node import check_backbone, check_split, shared_backbone, shared_search_split
from glorasearch.evaluation.residents import Compile
from glorasearch.space import SearchSpace
from glorasearch.supernet import Supernet
from glorasearch.weights import NodeCache, WeightStore, frozen_digest


@dataclass(frozen=True, kw_only=True)
class EvaluatorSpec:
    """Everything that an evaluator is a function of; JSON-ready."""

    backbone: dict[str, Any]
    """`BackboneConfig` as a dictionary."""
    data: dict[str, Any]
    """`DataConfig` as a dictionary."""
    space: dict[str, Any]
    """`SearchSpace` as a dictionary."""
    store: str
    """URL of the weight store."""
    weights: str
    """Digest of the supernet's weights."""
    split: str
    """Digest of the search split, which must be found again."""
    device: str = "cpu"
    batch_size: int | None = None
    """Images that are scored at once; 25 if not given."""
    compile: Compile = "auto"
    """On a GPU, whether the forward is compiled and captured; see `residents.resident_of`."""
    mixed: bool | None = None
    """Score in bfloat16; on GPUs only, if not given."""
    threads: int | None = None
    """Threads of torch on the CPU; None for torch's own default."""
    shared: bool = False
    """Have backbone, adapters and search split in common with the other workers of the machine (`NodeCache`), as far as
    they are in the CPU's memory; only the merged model is this evaluator's own."""

    def to_json(self) -> dict[str, Any]:
        """As a dictionary of JSON values."""
        return asdict(self)


def build_evaluator(spec: dict[str, Any]) -> CandidateEvaluator:
    """The evaluator that `EvaluatorSpec.to_json()` describes; a worker calls this once and keeps the result.

    It is warm: the first candidate takes no longer than the next one, but for what a GPU compiles and captures.

    Raises:
        EvaluationError: if the search split or the backbone found here is not the one that the search was started with.
        WeightStoreError: if the weights are missing, damaged or of another supernet.
    """
    told = EvaluatorSpec(**spec)
    device = torch.device(told.device)
    if device.type == "cuda" and device.index is not None:  # else the current device is meant already
        torch.cuda.set_device(device)
    if told.threads is not None:
        torch.set_num_threads(told.threads)
    cache = NodeCache() if told.shared else None
    store = WeightStore(told.store)
    backbone = _backbone(told, store, cache)
    split = _search_split(told, backbone, cache)
    supernet = Supernet(backbone, SearchSpace.from_dict(told.space))
    load_weights(supernet, store, told.weights, cache)
    evaluator = CandidateEvaluator(
        supernet,
        split,
        device=told.device,
        batch_size=told.batch_size,
        weights=told.weights,
        hardest_first=True,
        compile=told.compile,
        mixed=told.mixed,
    )
    if cache is not None:
        evaluator.order = cache.remember(_order_key(told), lambda: {"order": evaluator.order})["order"].clone()
    evaluator.warm_up()
    return evaluator


def _backbone(told: EvaluatorSpec, store: WeightStore, cache: NodeCache | None) -> nn.Module:
    config = BackboneConfig(**told.backbone)
    if cache is None:
        return build_backbone(config)
    return shared_backbone(cache, config, str(store.manifest(told.weights).get("backbone_digest")))


def _search_split(told: EvaluatorSpec, backbone: nn.Module, cache: NodeCache | None) -> SearchSplit:
    config = DataConfig(**told.data)
    spec = input_spec(backbone, config)
    if cache is not None:
        return shared_search_split(cache, config, spec, told.split, cpu=torch.device(told.device).type == "cpu")
    split = load_search_split(config, spec)
    check_split(told.split, split, config)
    return split


def _order_key(told: EvaluatorSpec) -> str:
    """All that the order of the images depends on; what computes is part of it, as another GPU rounds otherwise."""
    device = torch.device(told.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    facts = [told.weights, told.space, told.split, told.batch_size, name, told.compile, told.mixed, told.threads]
    return f"order {json.dumps(facts, sort_keys=True)} torch {torch.__version__}"


def input_spec(backbone: nn.Module, config: DataConfig) -> InputSpec:
    """What the backbone wants to see, with the overrides of the data's section."""
    return InputSpec.from_backbone(backbone).override(size=config.size, mean=config.mean, std=config.std)


def load_weights(supernet: Supernet, store: WeightStore, digest: str, cache: NodeCache | None = None) -> None:
    """Load stored adapters and head into a supernet, after verifying that its backbone is the one they belong to.

    With a `cache` they are fetched once a node, and the supernet's tensors are views of the file there.

    Raises:
        WeightStoreError: if the weights are missing, damaged or of another supernet.
        EvaluationError: if they were trained on another backbone.
    """
    stored = store.get(digest) if cache is None else cache.get(store, digest)
    check_backbone(stored.manifest.get("backbone_digest"), frozen_digest(supernet))
    supernet.load_adapter_state(stored.tensors, share=cache is not None)
