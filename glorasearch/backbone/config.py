"""Which pretrained model a run starts from: the `[backbone]` section of a run file."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from glorasearch.assets import quickstart_backbone_path
from glorasearch.config import Config

QUICKSTART = "quickstart"


class BackboneConfig(Config):
    """The frozen pretrained model."""

    section: ClassVar[str] = "backbone"
    name: str = Field(min_length=1, examples=["vit_base_patch16_224.augreg_in21k"])
    """A timm name, `local-dir:<path>`, or `quickstart` for the small shipped one."""
    pretrained: bool = True
    """Load the pretrained weights of that name; they must be local or downloadable."""
    checkpoint: str | None = Field(default=None, examples=["weights.npz"])
    """A local file with the weights, in any form that timm loads, where there is no network."""
    args: dict[str, Any] = Field(default={}, examples=[{"img_size": 224}])
    """Further arguments of `timm.create_model`."""

    @property
    def timm_name(self) -> str:
        """What `timm.create_model` takes."""
        return f"local-dir:{quickstart_backbone_path()}" if self.name == QUICKSTART else self.name
