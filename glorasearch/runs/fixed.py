"""Fixed methods: search spaces with one subnet. A run of such a space trains it alone, and there is nothing to search.

Stage by stage, a run of a fixed method does what a searched run does, on the same splits and for as many steps: `train`
trains the one subnet for `train.steps` on train, `search` scores it once on the search split, `refit` trains it for
`refit.steps` on train + search. So the two are compared at the same cost of training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from glorasearch.adapters import adaptable_layers
from glorasearch.runs.stages.baseline import baseline_space
from glorasearch.space import BoundSpace, Subnet

if TYPE_CHECKING:
    from glorasearch.runs.run import Run

FIXED = "fixed_method"
"""Under this name the results of the stages, and the report, say whether the run is one of a fixed method."""
NO_SAMPLER = "none"
"""What the search stage of a fixed method gives as its sampler."""


def only_subnet(space: BoundSpace) -> Subnet | None:
    """The subnet of a space that has just one; None if there is something to search."""
    return space.largest() if space.size() == 1 else None


def has_one_subnet(run: Run) -> bool:
    """Whether the space of a run has one subnet on its backbone."""
    return only_subnet(run.space.bind(adaptable_layers(run.backbone))) is not None


def is_fixed(run: Run) -> bool:
    """Whether the training of a run, which must have finished, was that of a fixed method."""
    return bool(run.require("train").get(FIXED, False))


def other_baselines(run: Run) -> tuple[str, ...]:
    """The baselines of the run file that have to be trained: a run's own method is not trained a second time."""
    layers = adaptable_layers(run.backbone)
    own = run.space.bind(layers).digest
    return tuple(name for name in run.config.report.baselines if baseline_space(name, layers).digest != own)
