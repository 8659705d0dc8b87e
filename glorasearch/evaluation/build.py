"""A supernet with stored weights, and an evaluator of its subnets, from plain JSON: what a worker is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from glorasearch.backbone import BackboneConfig, build_backbone
from glorasearch.data import DataConfig, InputSpec, load_search_data
from glorasearch.errors import EvaluationError
from glorasearch.evaluation.evaluator import CandidateEvaluator
from glorasearch.evaluation.residents import Compile
from glorasearch.space import EvaluationResult, EvaluationTask, SearchSpace
from glorasearch.supernet import Supernet
from glorasearch.weights import WeightStore, frozen_digest


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

    def to_json(self) -> dict[str, Any]:
        """As a dictionary of JSON values."""
        return asdict(self)


def build_evaluator(spec: dict[str, Any]) -> Callable[[EvaluationTask], EvaluationResult]:
    """The evaluator that `EvaluatorSpec.to_json()` describes; a worker calls this once and keeps the result.

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
    backbone = build_backbone(BackboneConfig(**told.backbone))
    config = DataConfig(**told.data)
    data = load_search_data(config, input_spec(backbone, config))
    if data.search.digest != told.split:
        raise EvaluationError(
            f"the search split found here ({data.search.digest[:12]}) is not the one of the search "
            f"({told.split[:12]}): the images under {config.source!r} differ on this machine"
        )
    supernet = Supernet(backbone, SearchSpace.from_dict(told.space))
    load_weights(supernet, WeightStore(told.store), told.weights)
    return CandidateEvaluator(
        supernet,
        data.search,
        device=told.device,
        batch_size=told.batch_size,
        weights=told.weights,
        hardest_first=True,
        compile=told.compile,
        mixed=told.mixed,
    )


def input_spec(backbone: torch.nn.Module, config: DataConfig) -> InputSpec:
    """What the backbone wants to see, with the overrides of the data's section."""
    return InputSpec.from_backbone(backbone).override(size=config.size, mean=config.mean, std=config.std)


def load_weights(supernet: Supernet, store: WeightStore, digest: str) -> None:
    """Load stored adapters and head into a supernet, after verifying that its backbone is the one they belong to.

    Raises:
        WeightStoreError: if the weights are missing, damaged or of another supernet.
        EvaluationError: if they were trained on another backbone.
    """
    stored = store.get(digest)
    expected, found = stored.manifest.get("backbone_digest"), frozen_digest(supernet)
    if expected != found:
        raise EvaluationError(
            f"weights {digest[:12]} were trained on a backbone with digest {str(expected)[:12]}, this one has "
            f"{found[:12]}: the pretrained weights differ; use the same file on every machine"
        )
    supernet.load_adapter_state(stored.tensors)
