"""The stage that trains a fixed method alone, to compare the winner with."""

from __future__ import annotations

from glorasearch.runs.results import BaselineResult, stage_name
from glorasearch.runs.session import Session
from glorasearch.runs.training import TrainingTask, train_and_store
from glorasearch.training import Fixed


def baseline(session: Session, name: str) -> BaselineResult:
    """Train a space with one subnet on train + search, by the supernet's recipe and its own."""
    stage, space, config = stage_name(BaselineResult, name), session.baselines[name], session.config
    supernet = session.supernet(space, training=True)
    subnet = supernet.space.largest()
    task = TrainingTask(
        stage=stage,
        title=f"baseline {name}",
        supernet=supernet,
        space=space,
        split=session.data.train_and_search(),
        strategy=Fixed(subnet),
        config=space.recipe.apply(config.report.training(session.training)),
    )
    return train_and_store(session, task, BaselineResult, space=name, parameters=supernet.space.parameters(subnet))
