"""Fixed methods trained alone, to compare the winner with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from glorasearch.adapters import adaptable_layers
from glorasearch.errors import ConfigError
from glorasearch.runs.fit import fit
from glorasearch.runs.run import Run
from glorasearch.space import BoundSpace, LayerShape, SearchSpace
from glorasearch.training import Fixed


def baseline(run: Run, name: str) -> dict[str, Any]:
    """Train a space with one subnet on train + search, by the supernet's recipe and for as many steps if not told.

    Returns:
        `weights` and `split` (digests), `steps`, `seconds`, `parameters`, `space`.
    """
    content = SearchSpace.load(name)
    supernet = run.supernet(baseline_space(name, adaptable_layers(run.backbone)), training=True)
    subnet = supernet.space.largest()
    split = run.data.train_and_search()
    steps = run.config.report.steps
    config = run.trainer_config(steps=run.config.train.steps if steps is None else steps)
    title = f"baseline {name}"
    result = fit(run, f"baseline:{name}", title, supernet, split, Fixed(subnet), config, space=content)
    weights = run.put(supernet, stage=f"baseline:{name}", steps=result.steps, run=run.name, split=split.digest)
    return {
        "weights": weights,
        "steps": result.steps,
        "seconds": result.seconds,
        "parameters": supernet.space.parameters(subnet),
        "space": name,
        "split": split.digest,
    }


def baseline_space(name: str, layers: Iterable[LayerShape]) -> BoundSpace:
    """The space of a baseline, on the layers of a backbone.

    Raises:
        ConfigError: if it has more than one subnet there.
        SearchSpaceError: if it does not fit the backbone.
    """
    space = SearchSpace.load(name).bind(layers)
    if space.size() > 1:
        raise ConfigError(f"report.baselines: {name!r} has more than one subnet; a baseline is a fixed method")
    return space
