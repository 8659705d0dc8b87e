"""Fixed methods: search spaces with one subnet. A run of such a space trains it alone, and there is nothing to search.

Stage by stage, a run of a fixed method does what a searched run does, on the same splits and for as many steps: `train`
trains the one subnet for `train.steps` on train, `search` scores it once on the search split, `refit` trains it for
`refit.steps` on train + search. So the two are compared at the same cost of training. A baseline is a fixed method that
a run trains beside its winner.
"""

from __future__ import annotations

from collections.abc import Iterable

from glorasearch.errors import ConfigError
from glorasearch.space import BoundSpace, LayerShape, SearchSpace, Subnet


def only_subnet(space: BoundSpace) -> Subnet | None:
    """The subnet of a space with a single one; None if there is something to search."""
    return space.largest() if space.size() == 1 else None


def bind_baseline(name: str, space: SearchSpace, layers: Iterable[LayerShape]) -> BoundSpace:
    """The space of a baseline, on the layers of a backbone.

    Raises:
        ConfigError: if it has more than one subnet there.
        SearchSpaceError: if it does not fit the backbone.
    """
    bound = space.bind(layers)
    if bound.size() > 1:
        raise ConfigError(f"report.baselines: {name!r} has more than one subnet; a baseline is a fixed method")
    return bound
