"""A search space as it is written: a strict TOML file, read into a frozen model."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import PrivateAttr

from glorasearch.choices import SUPPORT_TENSORS, LayerShape, plugin_sources
from glorasearch.errors import SearchSpaceError, did_you_mean
from glorasearch.identity import digest
from glorasearch.space.binding import bind_space
from glorasearch.space.bound import BoundSpace
from glorasearch.space.content import SpaceContent
from glorasearch.strict_toml import read_toml, validate


class SearchSpace(SpaceContent):
    """For every gene its choices, plus the budget: what one TOML file says, before any model is known.

    `bind` applies it to the layers of a backbone. The grammar is explained in `search_spaces/README.md`.
    """

    _source: str = PrivateAttr("search space")

    @classmethod
    def load(cls, name_or_path: str | Path) -> Self:
        """Read a search space by the name of a shipped one (`glora_small`) or by the path of a TOML file.

        Raises:
            SearchSpaceError: if there is no such space, or the file breaks the grammar; the message names the file and
                the key, what was found and what is allowed.
        """
        path = _locate(name_or_path)
        return cls.from_dict({"name": path.stem} | read_toml(path, SearchSpaceError), source=str(path))

    @classmethod
    def from_dict(cls, data: dict[str, Any], source: str = "search space") -> Self:
        """As `load`, from a dictionary; `source` names its origin in messages."""
        space = validate(data, cls, source, SearchSpaceError)
        space._source = source
        return space

    @property
    def is_fixed(self) -> bool:
        """Whether no support tensor has more than one choice: one subnet, whatever the layers."""
        lists = [part.of(tensor) for part in (self.choices, *self.groups) for tensor in SUPPORT_TENSORS]
        return all(len(choices) == 1 for choices in lists if choices is not None)

    def identity(self) -> dict[str, Any]:
        """What the space offers, as JSON: without name, description and defaults, with the digests of its plugins."""
        content = self.model_dump(mode="json", exclude={"name", "description"}, exclude_defaults=True)
        return content | ({"sources": plugin_sources(self.plugins)} if self.plugins else {})

    @property
    def digest(self) -> str:
        """SHA-256 of the identity."""
        return digest(self.identity())

    def bind(self, layers: Iterable[LayerShape], refused: Mapping[str, str] | None = None) -> BoundSpace:
        """Apply the space to the layers of a backbone, its head excluded.

        D is not offered on layers without a bias, where there is nothing to scale, and what would give them one only
        where the model has a place for it (`LayerShape.holds_bias`). A choice that is too large for a layer is not
        offered there; `BoundSpace.notices` says so.

        Args:
            layers: those that can be adapted.
            refused: those that cannot, and why, for messages.

        Raises:
            SearchSpaceError: if a pattern matches no layer, nothing is left to choose, a choice fits no layer, no
                subnet lies within the budget (the message gives the feasible range), or there is a recipe and more
                than one subnet.
        """
        try:
            return bind_space(self, list(layers), refused or {})
        except SearchSpaceError as error:
            raise SearchSpaceError(f"{self._source}: {error}") from error


def shipped_directory() -> Path:
    """Folder of the shipped search spaces: beside the package in a checkout, under `share` when installed."""
    checkout = Path(__file__).resolve().parents[2] / "search_spaces"
    return checkout if checkout.is_dir() else Path(sys.prefix) / "share" / "glorasearch" / "search_spaces"


def shipped_names() -> list[str]:
    """Names of the shipped search spaces."""
    return sorted(path.stem for path in shipped_directory().glob("*.toml"))


def _locate(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if path.is_file():
        return path
    shipped = shipped_directory() / f"{name_or_path}.toml"
    if path.suffix != ".toml" and len(path.parts) == 1 and shipped.is_file():
        return shipped
    near = did_you_mean(path.stem, shipped_names())
    raise SearchSpaceError(
        f"no search space {str(name_or_path)!r}{near}: it is neither a file nor a shipped space; shipped are "
        f"{', '.join(shipped_names())}"
    )
