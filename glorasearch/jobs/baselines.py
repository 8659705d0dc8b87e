"""Fixed methods trained alone, to compare the winner with."""

from __future__ import annotations

from typing import Any

from glorasearch.errors import RunFileError
from glorasearch.jobs.fit import fit
from glorasearch.jobs.job import Job
from glorasearch.space import SearchSpace
from glorasearch.training import Fixed


def baseline(job: Job, name: str) -> dict[str, Any]:
    """Train a space with one subnet on train + search, by the supernet's recipe and for as many steps if not told.

    Returns:
        `weights` and `split` (digests), `steps`, `seconds`, `parameters`, `space`.
    """
    space = baseline_space(name)
    supernet = job.supernet(space, training=True)
    subnet = supernet.space.largest()
    split = job.data.train_and_search()
    steps = job.run_file.report.steps
    config = job.trainer_config(steps=job.run_file.train.steps if steps is None else steps)
    result = fit(job, f"baseline:{name}", f"baseline {name}", supernet, split, Fixed(subnet), config)
    weights = job.put(supernet, stage=f"baseline:{name}", steps=result.steps, run=job.name, split=split.digest)
    return {
        "weights": weights,
        "steps": result.steps,
        "seconds": result.seconds,
        "parameters": supernet.space.parameters(subnet),
        "space": name,
        "split": split.digest,
    }


def baseline_space(name: str) -> SearchSpace:
    """The space of a baseline.

    Raises:
        RunFileError: if it has more than one subnet.
    """
    space = SearchSpace.load(name)
    lists = [space.choices, *space.groups]
    if any(len(part.of(tensor) or ()) > 1 for part in lists for tensor in "ABCDE"):
        raise RunFileError(f"report.baselines: {name!r} has more than one subnet; a baseline is a fixed method")
    return space
