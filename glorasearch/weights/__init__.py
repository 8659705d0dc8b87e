"""Weights at rest: a content-addressed store of weight sets, and training checkpoints. Safetensors, never pickle."""

from typing import TYPE_CHECKING

from glorasearch.lazy import lazy_names

if TYPE_CHECKING:
    from glorasearch.weights.checkpoint import CheckpointWriter, load_checkpoint, save_checkpoint, snapshot
    from glorasearch.weights.digest import frozen_digest, tensor_digest
    from glorasearch.weights.node_cache import NodeCache
    from glorasearch.weights.store import StoredWeights, WeightStore

__all__ = [
    "CheckpointWriter",
    "NodeCache",
    "StoredWeights",
    "WeightStore",
    "frozen_digest",
    "load_checkpoint",
    "save_checkpoint",
    "snapshot",
    "tensor_digest",
]

__getattr__ = lazy_names(
    __name__,
    {
        "checkpoint": ("CheckpointWriter", "load_checkpoint", "save_checkpoint", "snapshot"),
        "digest": ("frozen_digest", "tensor_digest"),
        "node_cache": ("NodeCache",),
        "store": ("StoredWeights", "WeightStore"),
    },
)
