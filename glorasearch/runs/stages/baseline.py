"""The stage that trains a fixed method alone, to compare the winner with."""

from __future__ import annotations

from typing import Any

from glorasearch.runs.results import BaselineResult, stage_name
from glorasearch.runs.session import Session
from glorasearch.runs.teachers import recipe_of
from glorasearch.runs.training import TrainingTask, train_and_store
from glorasearch.training import Fixed


def baseline(session: Session, name: str) -> BaselineResult:
    """Train a space with one subnet on train + search, by the supernet's recipe and its own.

    The best fixed method of the race is trained at its rate there. Where the refit has done just that, its weights are
    taken over.
    """
    method = session.baselines[name]
    supernet = session.supernet(method.space, training=True)
    subnet = supernet.space.largest()
    given = session.config.report.training(session.training, method.rate)
    config = method.space.recipe.apply(given)
    own: dict[str, Any] = {"space": method.label, "parameters": supernet.space.parameters(subnet), "lr": given.lr}
    refitted, pick = session.stored.results.refit, session.pick
    same = pick.space_key == method.space_key and recipe_of(session, pick, session.config.refit.steps) == config
    if same and refitted is not None and not refitted.taught and refitted.start == "fresh":
        session.progress.say(f"baseline {name}: {method.label} is what was refitted, not trained a second time")
        return BaselineResult.of(refitted, **own)
    task = TrainingTask(
        stage=stage_name(BaselineResult, name),
        title=f"baseline {name}" if name == method.label else f"baseline {name} ({method.label} at {given.lr:g})",
        supernet=supernet,
        space=method.space,
        split=session.data.train_and_search(),
        strategy=Fixed(subnet),
        config=config,
    )
    return train_and_store(session, task, BaselineResult, **own)
