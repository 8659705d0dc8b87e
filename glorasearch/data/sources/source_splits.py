"""What a source has."""

from __future__ import annotations

from dataclasses import dataclass, field

from glorasearch.data.input_spec import InputSpec
from glorasearch.data.records import Records


@dataclass(frozen=True)
class SourceSplits:
    """The splits that a source has by itself; what it lacks is taken out of `train`."""

    subject: str
    """The source's name in messages."""
    train: Records
    class_names: tuple[str, ...]
    search: Records | None = None
    test: Records | None = None
    fixed: bool = False
    """A published protocol: sizes cannot be chosen, and a class may lack images in a split."""
    default_train: int | None = None
    """Size of the training split unless the user says otherwise; None: what is left."""
    default_search: int | None = None
    """Size of the search split likewise; None: a fifth."""
    rest_is_test: bool = False
    """Whether the test split is what the others leave."""
    origins: dict[str, str] = field(default_factory=dict)
    """Where each split that is there comes from, for the report."""
    whole_image: bool = False
    """The images are tiny and filled to the edge: they are resized (bicubic) and never cropped."""

    def adapt(self, spec: InputSpec) -> InputSpec:
        """The input as this source's images are brought to it."""
        if not self.whole_image:
            return spec
        return InputSpec(spec.channels, spec.height, spec.width, spec.mean, spec.std, crop_mode="squash")
