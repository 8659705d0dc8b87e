"""Where the images come from and how they are split: the `[data]` section of a run file."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import BeforeValidator, Field, model_validator

from glorasearch.config import Config, ListOf, Role, Seed
from glorasearch.strict_toml import brief
from glorasearch.tasks.kinds import TaskKind, words_of

NPZ = "npz:"
CSV = "csv:"
OWN_SCHEMES = ("vtab:", "folder:", NPZ, CSV)
"""What stands before the path of glorasearch's own sources."""

MOST_PIXELS: Final = 4_096
"""Edge of an image; a batch of 64 of these takes 13 GB."""


def _check_split_size(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"expected a count of images, or a fraction of them, found {brief(value)}")
    if isinstance(value, float) and not 0 < value < 1:
        raise ValueError(f"found {brief(value)}; a fraction is above 0 and below 1, a count is a whole number")
    if value < 1 and isinstance(value, int):
        raise ValueError(f"found {brief(value)}; a split needs at least 1 image")
    return value


def _check_image_size(value: Any) -> Any:
    edges = value if isinstance(value, list | tuple) else (value, value)
    if len(edges) != 2 or not all(type(edge) is int and edge > 0 for edge in edges):
        raise ValueError(f"expected a number of pixels, or [height, width], found {brief(value)}")
    if max(edges) > MOST_PIXELS:
        raise ValueError(f"found {brief(value)}; at most {MOST_PIXELS} pixels on an edge are allowed")
    return tuple(value) if isinstance(value, list) else value


SplitSize = Annotated[int | float, BeforeValidator(_check_split_size)]
"""A count of images, or a fraction, above 0 and below 1, of the source's split that they are taken out of."""
ImageSize = Annotated[int | tuple[int, int], BeforeValidator(_check_image_size)]
"""Edge, or (height, width), in pixels."""


class DataConfig(Config):
    """Where the images come from and how they are split."""

    section: ClassVar[str] = "data"
    source: str = Field(min_length=1, examples=["folder:./images"])
    """`digits`, `vtab:<root>/<task>`, `folder:<path>`, `csv:<file>.csv`, `npz:<file>.npz#<task>`, or a name of timm's
    `create_dataset`."""
    task: TaskKind = "classify"
    """What is asked of an image: `classify`, which one of the classes; `multilabel`, which of the labels, of any number
    that it has; `regress`, one or several numbers (the last two of `csv:` and `npz:`)."""
    root: str | None = Field(default=None, examples=["data"])
    """Root folder of a data set with a timm name, for `hfds/` the cache; of the files in a `csv:`, the CSV's folder if
    not given."""
    seed: Seed = 0
    """Seed of the splits that have to be drawn."""
    train: int | None = Field(default=None, ge=1, examples=[800])
    """Images of the training split, where it is drawn; what is left if not given (digits: 800)."""
    search: SplitSize | None = Field(default=None, examples=[200])
    """Images of the search split, likewise, or a fraction. If not given, all of the source's, or a fifth of its
    training split (digits: 200)."""
    test: SplitSize | None = Field(default=None, examples=[0.2])
    """Images of the test split, likewise, or a fraction. If not given, all of the source's, or a fifth of its
    training split (digits: what is left)."""
    train_split: str | None = Field(default=None, examples=["train"])
    """timm's name of the training split, where it has another one."""
    search_split: str | None = Field(default=None, examples=["validation"])
    """timm's name of the search split, where it has another one."""
    test_split: str | None = Field(default=None, examples=["test"])
    """timm's name of the test split, where it has another one."""
    size: ImageSize | None = Field(default=None, examples=[224])
    """Image edge, or [height, width], pixels; the backbone's if not given."""
    mean: ListOf[float] | None = Field(default=None, examples=[[0.485, 0.456, 0.406]])
    """Mean of each channel, or of all, on the scale 0 to 1; the backbone's if not given."""
    std: ListOf[float] | None = Field(default=None, examples=[[0.229, 0.224, 0.225]])
    """Standard deviation, likewise."""
    exif: bool = True
    """Turn images upright as their EXIF says, as cameras mean it."""
    pixel_range: ListOf[float] | None = Field(default=None, min_length=2, max_length=2, examples=[[0, 4095]])
    """Values of black and white in images of more than 8 bits a pixel; [0, 65535] for 16 bits if not given."""
    allow_overlap: Annotated[bool, Role.BOOKKEEPING] = False
    """Continue even if more than 1 % of a split's images are in another split too."""
    max_memory_gib: Annotated[float, Role.BOOKKEEPING] = Field(default=4.0, ge=0)
    """Splits that fit into this, GiB, are decoded once and kept. The others are decoded when they are used."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.pixel_range is not None and not self.pixel_range[0] < self.pixel_range[1]:
            raise ValueError(f"pixel_range is {list(self.pixel_range)}; black must be below white, as in [0, 4095]")
        if self.task != "classify" and not self.source.startswith((CSV, NPZ)):
            outputs = words_of(self.task).outputs
            raise ValueError(
                f"task is {self.task!r}, but the images of {self.source!r} have one class each; list files and their "
                f"{outputs} in a csv:, or give an npz: with a matrix of {outputs}"
            )
        if not self.is_own_source:
            return self
        if self.root is not None and not self.source.startswith(CSV):
            raise ValueError(f"root belongs to data sets with timm names; {self.source!r} has its path in source")
        named = [name for name in ("train_split", "search_split", "test_split") if getattr(self, name) is not None]
        if named:
            raise ValueError(f"{named[0]} belongs to data sets with timm names; {self.source!r} has no named splits")
        return self

    @property
    def is_own_source(self) -> bool:
        """Whether the source is one of glorasearch's own, not a data set with a timm name."""
        return self.source == "digits" or self.source.startswith(OWN_SCHEMES)


def split_location(location: str) -> tuple[str, str]:
    """(path, task) of `<path>.npz#<task>`; the task is empty if there is none."""
    if location.endswith(".npz") or "#" not in location:
        return location, ""
    path, _, task = location.rpartition("#")
    return path, task
