"""The splits that a source has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from glorasearch.data.input_spec import InputSpec
from glorasearch.data.records import Records
from glorasearch.tasks.kinds import TaskKind


@dataclass(frozen=True)
class SourceSplits:
    """The splits of a source itself; those that it lacks are carved out of `train`."""

    subject: str
    """The source's name in messages."""
    train: Records
    class_names: tuple[str, ...]
    """In the order of the outputs."""
    task: TaskKind = "classify"
    search: Records | None = None
    test: Records | None = None
    fixed: bool = False
    """Whether a published protocol fixes the splits: sizes cannot be chosen, and a class may lack images in a split."""
    default_train: int | None = None
    """Default size of the training split; None: what is left."""
    default_search: int | None = None
    """Default size of the search split; None: a fifth."""
    rest_is_test: bool = False
    """Whether the test split is what the other splits leave."""
    origins: dict[str, str] = field(default_factory=dict)
    """Where each split comes from, for the report."""
    ignored: Mapping[str, int] = field(default_factory=dict)
    """Reason → how many files or folders were not used for it."""
    whole_image: bool = False
    """Whether the images are tiny and filled to the edge, so that they are resized (bicubic) and never cropped."""

    def adapt(self, spec: InputSpec) -> InputSpec:
        """The input specification for this source's images."""
        if not self.whole_image:
            return spec
        return InputSpec(spec.channels, spec.height, spec.width, spec.mean, spec.std, crop_mode="squash")
