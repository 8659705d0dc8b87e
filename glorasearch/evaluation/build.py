"""A supernet with stored weights, and an evaluator of its subnets, from a JSON specification."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import nn

from glorasearch.backbone import BackboneConfig, build_backbone
from glorasearch.code_cache import keep_code
from glorasearch.config import Compile, Config, Precision
from glorasearch.data import DataConfig, InputSpec, SearchSplit, load_search_split
from glorasearch.evaluation.evaluator import CandidateEvaluator
from glorasearch.evaluation.node import check_backbone, check_split, shared_backbone, shared_search_split
from glorasearch.space import SearchSpace
from glorasearch.supernet import Supernet
from glorasearch.weights import NodeCache, WeightStore, frozen_digest


class EvaluatorSpec(Config):
    """Everything that determines an evaluator; travels as JSON."""

    backbone: BackboneConfig
    """The backbone, frozen."""
    classes: int
    """Outputs of its head."""
    data: DataConfig
    """The images."""
    space: SearchSpace
    """The choices."""
    store: str
    """URL of the weight store."""
    weights: str
    """Digest of the supernet's weights."""
    split: str
    """Digest of the search split; the data found must match it."""
    device: str = "cpu"
    batch_size: int | None = None
    """Images scored at once; 25 by default."""
    compile: Compile = "auto"
    """On a GPU, whether the forward is compiled and captured; see `make_model.make_merged_model`."""
    precision: Precision = "auto"
    """Precision of the forward pass; `auto` is bfloat16 on GPUs."""
    threads: int | None = None
    """Threads of torch on the CPU; None for torch's own default."""
    code_cache: str | None = None
    """Folder of compiled code; None keeps none."""
    shared: bool = False
    """Share backbone, adapters and search split in CPU memory with the other workers of the machine (`NodeCache`); only
    the merged model is this evaluator's own."""

    def to_json(self) -> dict[str, Any]:
        """As a dictionary of JSON values."""
        return self.model_dump(mode="json")


def build_evaluator(content: dict[str, Any]) -> CandidateEvaluator:
    """The evaluator of an `EvaluatorSpec`, given as JSON; a worker calls this once and keeps the result.

    It is warmed up: the first candidate takes no longer than the next one, except to compile and capture on a GPU.

    Raises:
        EvaluationError: if the search split or the backbone found here is not the one with which the search started.
        WeightStoreError: if the weights are missing, damaged or of another supernet.
    """
    spec = EvaluatorSpec(**content)
    device = torch.device(spec.device)
    if device.type == "cuda" and device.index is not None:  # otherwise the current device is meant
        torch.cuda.set_device(device)
    if spec.threads is not None:
        torch.set_num_threads(spec.threads)
    keep_code(spec.code_cache, device, spec.compile, spec.space.plugins)
    cache = NodeCache() if spec.shared else None
    store = WeightStore(spec.store)
    backbone = _backbone(spec, store, cache)
    split = _search_split(spec, backbone, cache)
    supernet = Supernet(backbone, spec.space)
    load_weights(supernet, store, spec.weights, cache)
    evaluator = CandidateEvaluator(
        supernet,
        split,
        device=spec.device,
        batch_size=spec.batch_size,
        weights=spec.weights,
        hardest_first=True,
        compile=spec.compile,
        precision=spec.precision,
    )
    if cache is not None:
        evaluator.order = cache.remember(_order_key(spec), lambda: {"order": evaluator.order})["order"].clone()
    evaluator.warm_up()
    return evaluator


def _backbone(spec: EvaluatorSpec, store: WeightStore, cache: NodeCache | None) -> nn.Module:
    if cache is None:
        return build_backbone(spec.backbone, spec.classes)
    return shared_backbone(cache, spec.backbone, spec.classes, str(store.manifest(spec.weights).get("backbone_digest")))


def _search_split(spec: EvaluatorSpec, backbone: nn.Module, cache: NodeCache | None) -> SearchSplit:
    config, inputs = spec.data, InputSpec.from_backbone(backbone)
    if cache is not None:
        return shared_search_split(cache, config, inputs, spec.split, cpu=torch.device(spec.device).type == "cpu")
    split = load_search_split(config, inputs)
    check_split(spec.split, split, config)
    return split


def _order_key(spec: EvaluatorSpec) -> str:
    """Everything that the order of the images depends on, the device included, since other GPUs round differently."""
    device = torch.device(spec.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    space = spec.space.digest
    facts = [spec.weights, space, spec.split, spec.batch_size, name, spec.compile, spec.precision, spec.threads]
    return f"order {json.dumps(facts, sort_keys=True)} torch {torch.__version__}"


def load_weights(supernet: Supernet, store: WeightStore, digest: str, cache: NodeCache | None = None) -> None:
    """Load stored adapters and head into a supernet, after checking that they belong to its backbone.

    With a `cache` they are fetched once per node, and the supernet's tensors are views of the file there.

    Raises:
        WeightStoreError: if the weights are missing, damaged or of another supernet.
        EvaluationError: if they were trained on another backbone.
    """
    stored = store.get(digest) if cache is None else cache.get(store, digest)
    check_backbone(stored.manifest.get("backbone_digest"), frozen_digest(supernet))
    supernet.load_adapter_state(stored.tensors, share=cache is not None)
