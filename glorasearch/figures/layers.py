"""What each layer takes of a subnet's parameters, by its search space and the shapes of the layers."""

from __future__ import annotations

import json
from pathlib import Path

from glorasearch.choices import LayerShape
from glorasearch.db import RunRecord
from glorasearch.errors import GlorasearchError
from glorasearch.runs.results import Pick
from glorasearch.space import SearchSpace
from glorasearch.space.known_backbones import known_layers


def layer_parameters(record: RunRecord, pick: Pick, manifest: Path | None) -> dict[str, int]:
    """Layer → trainable parameters there; empty unless they add up to those that are recorded.

    Args:
        record: of the run, with the content of its search spaces.
        pick: the subnet.
        manifest: of weights of that space, for the shapes of a backbone that is not known by name.
    """
    backbone = record.config.get("backbone")
    named = str(backbone.get("name", "")) if isinstance(backbone, dict) else ""
    for layers in (known_layers(named), _of_manifest(manifest)):
        if not layers:
            continue
        try:
            space = SearchSpace.from_dict({"name": "space"} | record.config["spaces"][pick.space_key]).bind(layers)
            found: dict[str, int] = {}
            for gene in space.genes:
                layer = gene.key[0]
                found[layer] = found.get(layer, 0) + space.costs(gene)[pick.subnet[gene.key]]
        except (GlorasearchError, KeyError, TypeError, AttributeError, ValueError):
            continue
        if sum(found.values()) == pick.parameters:
            return found
    return {}


def _of_manifest(manifest: Path | None) -> list[LayerShape]:
    """The layers whose A or B has low-rank factors, `(out, r)` and `(r, in)`; those of C end in 1."""
    try:
        tensors = {} if manifest is None else json.loads(manifest.read_text(encoding="utf-8"))["tensors"]
        found: dict[str, LayerShape] = {}
        for name, tensor in tensors.items():
            up = tensors.get(f"{name.removesuffix('down')}up")
            if name.endswith((".A.down", ".B.down")) and up is not None:
                layer = name.removesuffix(".down").rpartition(".")[0]
                found[layer] = LayerShape(layer, up["shape"][1], tensor["shape"][0])
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return []
    return list(found.values())
