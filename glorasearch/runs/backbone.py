"""The backbone of a run: what its run file asks for, and its memory, which runs of one machine can share."""

from __future__ import annotations

from itertools import chain

from torch import nn

from glorasearch.adapters import head_names
from glorasearch.assets import quickstart_backbone_path
from glorasearch.backbone import BackboneConfig
from glorasearch.runs.config import RunConfig
from glorasearch.weights import NodeCache, tensor_digest

QUICKSTART_BACKBONE = "quickstart"


def backbone_config(config: RunConfig, classes: int, *, drop_path: bool = False) -> BackboneConfig:
    """The backbone with a head for so many classes; `drop_path` gives it that of the training."""
    section = config.backbone
    name = f"local-dir:{quickstart_backbone_path()}" if section.name == QUICKSTART_BACKBONE else section.name
    return BackboneConfig(
        name=name,
        classes=classes,
        pretrained=section.pretrained,
        checkpoint=section.checkpoint,
        args=dict(section.args),
        drop_path=config.train.drop_path if drop_path else 0.0,
        seed=config.seed,
    )


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
