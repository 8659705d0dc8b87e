"""The stage that trains the winner alone on train + search.

A fixed method is its own winner: its training goes on, or starts afresh, as the run file says of the refit. So it is
trained for as many steps as the winner of a searched run with the same `train.steps` and `refit.steps`.
"""

from __future__ import annotations

from typing import Any

from glorasearch.runs.fit import fit
from glorasearch.runs.fixed import is_fixed
from glorasearch.runs.run import Run
from glorasearch.space import Subnet
from glorasearch.training import Fixed


def refit(run: Run) -> dict[str, Any]:
    """Refit the winner; returns `weights` and `split` (digests), `steps`, `seconds`, `loss`, `start`.

    With 0 steps the inherited weights are kept.
    """
    section = run.config.refit
    winner = Subnet.from_dict(run.require("search")["subnet"])
    inherited = run.weights("train")
    if section.steps == 0:
        return {"weights": inherited, "steps": 0, "seconds": 0.0, "loss": None, "start": "inherited", "split": None}
    supernet = run.supernet(training=True)
    if section.start == "inherited":
        run.load(supernet, inherited)
        supernet.warm_ups.hold_restarts()  # the winner was scored as it is
    split = run.data.train_and_search()
    config = run.trainer_config(steps=section.steps, lr=section.lr, warmup=section.warmup_steps)
    title = f"refit of {supernet.space.name if is_fixed(run) else 'the winner'}"
    result = fit(run, "refit", title, supernet, split, Fixed(winner), config)
    weights = run.put(
        supernet, stage="refit", steps=result.steps, run=run.name, subnet=winner.digest, split=split.digest
    )
    return {
        "weights": weights,
        "steps": result.steps,
        "seconds": result.seconds,
        "loss": result.loss,
        "start": section.start,
        "split": split.digest,
    }
