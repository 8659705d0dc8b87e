"""Which pretrained model a run starts from: the `[backbone]` section of a run file."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Self

from pydantic import Field, model_validator

from glorasearch.assets import quickstart_backbone_path
from glorasearch.config import Config, ListOf

QUICKSTART = "quickstart"
_OWN: Final = {
    "num_classes": "it is what the data has",
    "pretrained": "set backbone.pretrained",
    "checkpoint_path": "set backbone.checkpoint",
    "features_only": "a model with a classifier is needed",
}
"""Arguments of `timm.create_model` that are not for `args`, and what is in their place."""


class BackboneConfig(Config):
    """The frozen pretrained model."""

    section: ClassVar[str] = "backbone"
    name: str = Field(min_length=1, examples=["vit_base_patch16_224.augreg_in21k"])
    """A timm name, `local-dir:<path>`, or `quickstart` for the small shipped one."""
    pretrained: bool = True
    """Load the pretrained weights of that name; they must be local or downloadable."""
    checkpoint: str | None = Field(default=None, examples=["weights.npz"])
    """A local file with the weights, in any form that timm loads, where there is no network. Prefixes and keys that
    trainers put around a model's names, such as `module.` and `teacher`, are taken off."""
    args: dict[str, Any] = Field(default={}, examples=[{"img_size": 224}])
    """Further arguments of `timm.create_model`."""
    allow_missing: ListOf[str] = Field(default=(), examples=[["fc_norm.*"]])
    """Patterns of tensors outside the head that only the model has, or only the file; the model's stay random. Without
    them weights that do not fit are refused."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for key, instead in _OWN.items():
            if key in self.args:
                raise ValueError(f"args has {key!r}, which is not set there: {instead}")
        if self.checkpoint is not None and not self.pretrained:
            raise ValueError(f"checkpoint is {self.checkpoint!r}, but pretrained is false, so it would not be loaded")
        return self

    @property
    def timm_name(self) -> str:
        """What `timm.create_model` takes."""
        return f"local-dir:{quickstart_backbone_path()}" if self.name == QUICKSTART else self.name
