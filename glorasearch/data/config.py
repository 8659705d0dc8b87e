"""What the user says about the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from glorasearch.errors import DataError


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the images come from and how they are split.

    Sizes are counts (int) or fractions (float, above 0 and below 1) of the source's split that they are taken out of.

    Raises:
        DataError: (on creation) if a value cannot be used.
    """

    source: str
    """`digits`, `vtab:<root>/<task>`, `folder:<path>`, or a name that timm's `create_dataset` takes."""
    root: str | None = None
    """Root folder of a data set that is named in timm's way; for `hfds/` the cache."""
    seed: int = 0
    """Of the splits that are drawn here."""
    train: int | None = None
    """Images of the training split; None: what is left (digits: 800)."""
    search: int | float | None = None
    """Images of the search split; None: all of the source's, or a fifth of its training split (digits: 200)."""
    test: int | float | None = None
    """Images of the test split; None: all of the source's, or a fifth of its training split (digits: what is left)."""
    train_split: str | None = None
    """timm's name of the training split, where `train` is not it. Only for names in timm's way, as the next two."""
    search_split: str | None = None
    """timm's name of the search split, where it has another one than `validation`."""
    test_split: str | None = None
    """timm's name of the test split, where it has another one than `test`."""
    size: int | tuple[int, int] | None = None
    """Image edge, or (height, width), in pixels, in place of the backbone's."""
    mean: tuple[float, ...] | None = None
    """In place of the backbone's, one for all channels or one for each, on the scale 0 to 1."""
    std: tuple[float, ...] | None = None
    """In place of the backbone's, likewise."""
    allow_overlap: bool = False
    """Go on although more than 1 % of a split's images stand in another split too."""
    max_memory_gib: float = 4.0
    """Splits are decoded once and kept as long as they fit into this; the others are decoded when they are used."""

    def __post_init__(self) -> None:
        if not self.source:
            raise DataError("data.source is empty; allowed are digits, vtab:<root>/<task>, folder:<path>, a timm name")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise DataError(f"data.seed is {self.seed!r}; allowed is a whole number from 0")
        if isinstance(self.train, float):
            raise DataError(f"data.train is {self.train!r}; allowed is a count of images, or leave it out")
        for name, value in (("train", self.train), ("search", self.search), ("test", self.test)):
            _check_size(f"data.{name}", value)
        _check_numbers(self)
        if not self.max_memory_gib >= 0:
            raise DataError(f"data.max_memory_gib is {self.max_memory_gib!r}; allowed is a number from 0")
        if self.root is not None and self.is_own_source:
            raise DataError(f"data.root belongs to names in timm's way; {self.source!r} has its path in data.source")
        named = {"train_split": self.train_split, "search_split": self.search_split, "test_split": self.test_split}
        given = [name for name, value in named.items() if value is not None]
        if given and self.is_own_source:
            raise DataError(f"data.{given[0]} belongs to names in timm's way; {self.source!r} has no named splits")

    @property
    def is_own_source(self) -> bool:
        """Whether the source is one of glorasearch's own, not a name in timm's way."""
        return self.source == "digits" or self.source.startswith(("vtab:", "folder:"))


def _check_numbers(config: DataConfig) -> None:
    """Overrides of the input; lists, as JSON and TOML have them, become tuples."""
    for name in ("size", "mean", "std"):
        value = getattr(config, name)
        if isinstance(value, (list, tuple)):
            object.__setattr__(config, name, tuple(value))
    size = config.size if isinstance(config.size, tuple) else (config.size, config.size)
    if config.size is not None and (len(size) != 2 or not all(type(edge) is int and edge > 0 for edge in size)):
        raise DataError(f"data.size is {config.size!r}; allowed is a number of pixels, or [height, width]")
    for name in ("mean", "std"):
        value = getattr(config, name)
        if value is not None and not (isinstance(value, tuple) and all(type(part) in (int, float) for part in value)):
            raise DataError(f"data.{name} is {value!r}; allowed is a list of numbers, one for all channels or for each")


def _check_size(name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise DataError(f"{name} is {value!r}; allowed is a count of images")
    if isinstance(value, float) and not 0 < value < 1:
        raise DataError(f"{name} is {value!r}; a fraction is above 0 and below 1, a count is a whole number")
    if isinstance(value, int) and value < 1:
        raise DataError(f"{name} is {value!r}; a split needs at least 1 image")
