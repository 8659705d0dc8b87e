"""Fixed methods: search spaces with one subnet. A run of such a space trains it alone, and there is nothing to search.

Stage by stage, a run of a fixed method does what a searched run does, on the same splits and for as many steps: `train`
trains the one subnet for `train.steps` on train, `search` scores it once on the search split, `refit` trains it for
`refit.steps` on train + search. So the two are compared at the same cost of training. A baseline is a fixed method that
a run trains beside its winner.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from glorasearch.errors import ConfigError
from glorasearch.space import BoundSpace, LayerShape, SearchSpace, Subnet
from glorasearch.space.search_space import shipped_names

BEST_FIXED: Final = "best_fixed"
"""Name of the baseline that is the best fixed method of the race."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """A fixed method that is trained to compare the winner with."""

    label: str
    """Name of the method."""
    space: SearchSpace
    rate: float | None = None
    """Peak learning rate; that of the supernet if not given."""
    space_key: str = ""
    """Key of its space where it comes from the race."""


def only_subnet(space: BoundSpace) -> Subnet | None:
    """The subnet of a space with a single one; None if there is something to search."""
    return space.largest() if space.size() == 1 else None


def bind_method(key: str, name: str, space: SearchSpace, layers: Iterable[LayerShape]) -> BoundSpace:
    """The space of a fixed method that `key` of the run file names, on the layers of a backbone.

    Raises:
        ConfigError: if it has more than one subnet there.
        SearchSpaceError: if it does not fit the backbone.
    """
    bound = space.bind(layers)
    if bound.size() > 1:
        raise ConfigError(f"{key}: {name!r} has more than one subnet; expected a fixed method")
    return bound


def shipped_methods() -> dict[str, SearchSpace]:
    """The shipped search spaces with a single subnet, whatever the backbone, by name."""
    spaces = {name: SearchSpace.load(name) for name in shipped_names()}
    return {name: space for name, space in spaces.items() if space.is_fixed}
