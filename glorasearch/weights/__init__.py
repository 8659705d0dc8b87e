"""Weights at rest: a content-addressed store of weight sets, and training checkpoints. Safetensors, never pickle."""

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
