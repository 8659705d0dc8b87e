"""What counts the costs of a subnet that a search compares trials by."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from glorasearch.errors import ConfigError
from glorasearch.search.config import SearchConfig
from glorasearch.search.objectives import Cost
from glorasearch.space import BYTES_PER_NUMBER, BoundSpace, Subnet

CostOf = Callable[[Subnet], float]


def make_costs(space: BoundSpace, config: SearchConfig, given: Mapping[Cost, CostOf]) -> dict[Cost, CostOf]:
    """The costs among the objectives, beside the parameters, which every trial has.

    Raises:
        ConfigError: if one needs the model, and nothing that counts it is given.
    """
    known = {"bytes": lambda subnet: float(BYTES_PER_NUMBER * space.stored(subnet))} | dict(given)
    missing = [cost for cost in config.costs if cost not in known]
    if missing:
        raise ConfigError(f"search.objectives: nothing here counts {', '.join(missing)}")
    return {cost: known[cost] for cost in config.costs}
