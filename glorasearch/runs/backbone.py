"""The memory of a run's backbone, which runs of one machine can share."""

from __future__ import annotations

from itertools import chain

from torch import nn

from glorasearch.adapters import head_names
from glorasearch.weights import NodeCache, tensor_digest


def share_backbone(model: nn.Module, cache: NodeCache) -> nn.Module:
    """Let the frozen weights of a backbone on the CPU be views of a file of the node cache, and return it.

    The key is their digest, so backbones that differ in the head alone (tasks with other classes) share them.
    """
    heads = tuple(f"{head}." for head in head_names(model))
    state = {name: value.detach() for name, value in model.state_dict().items() if not name.startswith(heads)}
    if any(value.device.type != "cpu" for value in state.values()):
        return model
    mapped = cache.remember(f"backbone {tensor_digest(state)}", lambda: state)
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if name in mapped:
            tensor.data = mapped[name]
    return model
