"""What is tried with one model: everything between a backbone and an export that timm loads."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import timm
import torch
from torch import Tensor, nn

from family_parts.members import Member
from glorasearch.adapters import adaptable_layers, frozen_tensors
from glorasearch.backbone import BackboneConfig, build_backbone
from glorasearch.data import DataConfig, InputSpec, SearchData, load_search_data
from glorasearch.errors import GlorasearchError, first_line
from glorasearch.export import export_subnet
from glorasearch.space import SearchSpace, Subnet, sample
from glorasearch.supernet import Supernet
from glorasearch.training import SupernetTrainer, Uniform
from glorasearch.weights import tensor_digest

STEPS: Final = 2
TOLERANCE: Final = 1e-3
"""Of outputs, relative to the largest: that of a run."""
ALL_LAYERS: Final[dict[str, Any]] = {
    "name": "all linear layers and convolutions",
    "layers": {"include": ["*"], "types": ["linear", "conv2d"]},
    "choices": {
        "A": ["none", "vector", "lora:1"],
        "B": ["none", "constant", "lora:1"],
        "C": ["none", "vector"],
        "D": ["none", "vector"],
        "E": ["none", "vector"],
    },
}
"""Every linear layer and convolution outside the head."""


class TrialError(Exception):
    """Something that has to hold does not."""


@dataclass(frozen=True)
class Outcome:
    """What came of one model."""

    family: str
    model: str
    space: str
    layers: int = 0
    """Adapted."""
    of: int = 0
    """Linear layers and convolutions outside the head."""
    read: int = 0
    """Adapted layers whose weight the model reads in place of calling them."""
    difference: float = math.nan
    """Of the merged and the active model's outputs, relative to the largest."""
    seconds: float = 0.0
    problem: str = ""
    """What did not work; empty if everything did."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self) | {"difference": None if math.isnan(self.difference) else self.difference}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Outcome:
        """The inverse of `to_dict`."""
        difference = math.nan if found["difference"] is None else found["difference"]
        return cls(**{**found, "difference": difference})


def try_member(member: Member, space: SearchSpace) -> Outcome:
    """The whole way with one model; whatever fails is the outcome's problem."""
    began = time.perf_counter()
    try:
        found = run_member(member, space)
    except Exception as error:
        kind = "" if isinstance(error, (GlorasearchError, TrialError)) else f"{type(error).__name__}: "
        found = {"problem": f"{kind}{first_line(error)}"}
    return Outcome(member.family, member.name, space.name, **found, seconds=round(time.perf_counter() - began, 1))


def run_member(member: Member, space: SearchSpace) -> dict[str, Any]:
    """Build, bind, inject, start as the backbone, train, merge, export, and load by timm; raises whatever fails."""
    backbone = build_backbone(BackboneConfig(name=member.name, pretrained=False, args=member.arguments), 10)
    roughen(backbone)
    backbone.requires_grad_(False)  # torch takes other products where a gradient is wanted
    before = tensor_digest(frozen_tensors(backbone))
    data = few_images(backbone, member.size)
    images, _ = data.search.batch(slice(0, 2))
    layers = adaptable_layers(backbone)
    supernet = Supernet(backbone, space.bind(layers))
    supernet.check_reached(images)
    subnet = sample(supernet.space, np.random.default_rng(0))
    with torch.no_grad():
        expect(torch.equal(active(supernet, subnet, images), backbone(images)), "a new supernet is not its backbone")
    config = SupernetTrainer.Config(steps=STEPS, batch_size=2, lr=1e-3, warmup_steps=0)
    SupernetTrainer(supernet, data.train, Uniform(supernet.space, 0), config).run()
    expect(tensor_digest(supernet.frozen_state()) == before, "training changed what is frozen")
    outputs = active(supernet, subnet, images)
    with torch.no_grad():
        expect(not torch.equal(outputs, supernet(images)), "what was trained changes nothing")
    with tempfile.TemporaryDirectory() as folder:
        report = export_subnet(supernet, subnet, Path(folder) / "export", data, tolerance=TOLERANCE)
        loaded = timm.create_model(f"local-dir:{report.path}", pretrained=True).eval()
    with torch.no_grad():
        difference = float((loaded(images) - outputs).abs().max() / outputs.abs().max())
    expect(difference <= TOLERANCE, f"the exported model differs from the active one by {difference:.2g}")
    return {
        "layers": len(supernet.adapted),
        "of": sum(layer.kind != "norm" for layer in layers),
        "read": len(supernet.read),
        "difference": float(f"{difference:.2g}"),
    }


@torch.no_grad()
def roughen(backbone: nn.Module) -> None:
    """Give values to vectors that timm starts at nothing: scales of branches, biases; and statistics to batch norms.

    Zeros would hide what adapters do behind them.
    """
    generator = torch.Generator().manual_seed(0)
    for parameter in backbone.parameters():
        if parameter.numel() == max(parameter.shape, default=1) and float(parameter.abs().max()) < 0.01:
            parameter.normal_(std=0.02, generator=generator)
    for module in backbone.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            assert module.running_var is not None
            module.running_mean.normal_(std=0.05, generator=generator)
            module.running_var.uniform_(0.8, 1.25, generator=generator)


def few_images(backbone: nn.Module, size: int) -> SearchData:
    """Some digits at a size, normalised as the backbone wants it."""
    spec = InputSpec.from_backbone(backbone).override(size=size)
    return load_search_data(DataConfig(source="digits", train=10, search=10), spec)


@torch.no_grad()
def active(supernet: Supernet, subnet: Subnet, images: Tensor) -> Tensor:
    """The outputs of a subnet of the supernet."""
    with supernet.eval().activate(subnet):
        outputs: Tensor = supernet(images)
    return outputs


def expect(holds: bool, otherwise: str) -> None:
    """Raise `TrialError` unless something holds."""
    if not holds:
        raise TrialError(otherwise)
