"""What every format is written from: a trained subnet of a supernet, with images to check on and facts to keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Self

import torch
from torch import Tensor, nn

from glorasearch.adapters.rebuild import as_json
from glorasearch.data import SearchData, Splits
from glorasearch.export.backbone_facts import BackboneFacts
from glorasearch.export.verify import check_finite, check_nothing_left, compare_tensors
from glorasearch.space import Subnet
from glorasearch.supernet import Supernet
from glorasearch.tasks import Standard
from glorasearch.tasks.kinds import TaskKind
from glorasearch.weights import frozen_digest

REAL_INPUTS: Final = 64
"""Images of the search split on which outputs are compared."""


@dataclass(frozen=True)
class AdaptedModel:
    """A trained subnet, in evaluation mode."""

    supernet: Supernet
    """Holds the weights."""
    subnet: Subnet
    images: Tensor
    """Real, preprocessed images, `(N, C, H, W)`, on the supernet's device."""
    facts: BackboneFacts
    backbone: nn.Module
    """The backbone that was adapted, with a head of as many classes; it is not changed."""
    class_names: tuple[str, ...] = ()
    task: TaskKind = "classify"
    standard: Standard | None = None
    """Of outputs that are numbers: by what they are made comparable."""
    reading: Mapping[str, Any] | None = None
    """How stored pixels were read, where they were files."""
    source: Mapping[str, Any] = field(default_factory=dict)
    """How the backbone is built again: `name`, and `args` where there are some, of the run file's section."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    statements: Sequence[str] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-3
    """Allowed difference of outputs, relative to the largest."""

    @classmethod
    def of(
        cls, supernet: Supernet, subnet: Subnet, backbone: nn.Module, data: SearchData | Splits, **given: Any
    ) -> Self:
        """With preprocessing, class names and images of the search split; `given` are further fields."""
        split, device = data.search, next(supernet.parameters()).device
        images, _ = split.batch(slice(0, min(REAL_INPUTS, len(split))), device)
        return cls(
            supernet.eval(),
            subnet,
            images,
            BackboneFacts.from_model(supernet.model, **split.spec.preprocessing()),
            backbone,
            tuple(data.class_names),
            split.task.kind,
            split.task.standard,
            None if data.reading is None else data.reading.describe(),
            **given,
        )

    @cached_property
    def model(self) -> nn.Module:
        """Merged: plain, checked to be finite, in evaluation mode.

        Raises:
            ExportError: if it is not.
        """
        model = self.supernet.merged(self.subnet)
        check_nothing_left(model)
        check_finite(model)
        return model

    @torch.no_grad()
    def active(self, inputs: Tensor) -> Tensor:
        """Outputs `(N, classes)` of the subnet that is not merged."""
        with self.supernet.activate(self.subnet):
            outputs: Tensor = self.supernet(inputs)
        return outputs

    def compare(self, outputs: Callable[[Tensor], Tensor], what: str, *, loss: float = 0.0) -> float:
        """Largest absolute difference of outputs `(N, classes)` on the images and those of the active subnet.

        Of numbers it is one of standardised ones.

        Raises:
            ExportError: if it is too large; the message says of `what`. A `loss` that is known, relative to the largest
                output, is allowed beside the tolerance.
        """
        allowed = self.tolerance + 1.01 * loss
        with torch.no_grad():
            return compare_tensors(outputs(self.images), self.active(self.images), allowed, what, self.standard)

    def comparable(self, outputs: Tensor) -> Tensor:
        """Outputs `(N, classes)` on one scale: numbers are standardised."""
        return outputs if self.standard is None else self.standard.of_outputs(outputs)

    @property
    def input_size(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    @cached_property
    def cfg(self) -> dict[str, Any]:
        """timm's `pretrained_cfg` of the merged model, with its preprocessing."""
        return self.facts.export_cfg(self.input_size)

    @cached_property
    def backbone_digest(self) -> str:
        """Digest of the backbone's frozen tensors."""
        return frozen_digest(self.supernet)

    def described(self) -> dict[str, Any]:
        """What the manifests of all formats say of it; JSON data."""
        return {
            "architecture": self.facts.architecture,
            "model_args": self.facts.export_args(self.input_size),
            "num_classes": self.facts.num_classes,
            **({"label_names": list(self.class_names)} if self.class_names else {}),
            "task": self.task,
            "pretrained_cfg": self.cfg,
            "reading": None if self.reading is None else dict(self.reading),
            "backbone": {**self.source, "digest": self.backbone_digest},
            "subnet": self.subnet.to_dict(),
            "subnet_digest": self.subnet.digest,
            "metrics": as_json(self.metrics, "metric"),
            "statements": list(self.statements),
            "provenance": as_json(self.provenance, "provenance"),
        }
