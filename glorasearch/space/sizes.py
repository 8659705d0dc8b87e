"""How large the subnets of a space are: the distribution of trainable parameters, from random draws."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from glorasearch.space.bound import BoundSpace
from glorasearch.space.operators import sample, sample_within_budget

QUANTILES: Final = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
BINS: Final = 20


@dataclass(frozen=True, slots=True)
class Sizes:
    """Trainable parameters of subnets that were drawn."""

    mean: float
    quantiles: dict[str, int]
    """Share of the subnets, such as `0.05` → the size that they do not exceed."""
    counts: tuple[int, ...]
    """Subnets in each bin."""


@dataclass(frozen=True, slots=True)
class SimulatedSizes:
    """The sizes of random subnets, with every choice drawn uniformly, and of those that a search would draw."""

    draws: int
    seed: int
    edges: tuple[float, ...]
    """Of the bins, equally wide, common to both distributions; each bin holds its lower edge."""
    uniform: Sizes
    """Whatever the budget."""
    within_budget: float
    """The share of these that lie within it."""
    searched: Sizes
    """Drawn as a search draws its random trials: within the budget, by rejection and then by repair."""

    def to_json(self) -> dict[str, Any]:
        """As a dictionary of JSON values."""
        return asdict(self)


def simulate_sizes(space: BoundSpace, draws: int, seed: int = 0) -> SimulatedSizes:
    """Draw subnets, and count their parameters, the head excluded.

    Args:
        space: what is drawn from.
        draws: subnets of each kind.
        seed: of the draws.

    Raises:
        SearchSpaceError: if no subnet lies within the budget.
    """
    space.check_budget()
    rng = np.random.default_rng(seed)
    drawn_uniformly = [sample(space, rng) for _ in range(draws)]
    uniform = np.array([space.parameters(subnet) for subnet in drawn_uniformly])
    inside = np.array([space.fits(subnet) for subnet in drawn_uniformly])
    searched = uniform
    if not inside.all():
        searched = np.array([space.parameters(sample_within_budget(space, rng)) for _ in range(draws)])
    drawn = np.concatenate([uniform, searched])
    edges = np.histogram_bin_edges(drawn, BINS if np.ptp(drawn) else 1)
    return SimulatedSizes(
        draws=draws,
        seed=seed,
        edges=tuple(edges.tolist()),
        uniform=_sizes(uniform, edges),
        within_budget=float(inside.mean()),
        searched=_sizes(searched, edges),
    )


def _sizes(drawn: np.ndarray, edges: np.ndarray) -> Sizes:
    found = np.quantile(drawn, QUANTILES, method="inverted_cdf").tolist()
    return Sizes(
        mean=float(drawn.mean()),
        quantiles={f"{share:g}": int(size) for share, size in zip(QUANTILES, found, strict=True)},
        counts=tuple(np.histogram(drawn, edges)[0].tolist()),
    )
