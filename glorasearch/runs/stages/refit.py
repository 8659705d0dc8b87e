"""The stage that trains the winner alone on train + search.

A fixed method is its own winner, and is refitted likewise. So it is trained for as many steps as the winner of a
searched run with the same `train.steps` and `refit.steps`.
"""

from __future__ import annotations

from glorasearch.runs.results import RefitResult, SearchResult, TrainResult
from glorasearch.runs.session import Session
from glorasearch.runs.training import TrainingTask, train_and_store
from glorasearch.training import Fixed


def refit(session: Session) -> RefitResult:
    """Refit the winner; with 0 steps the inherited weights are kept."""
    section = session.config.refit
    winner = session.require(SearchResult).subnet
    if section.steps == 0:
        inherited = session.verify(TrainResult)
        return RefitResult(weights=inherited, steps=0, seconds=0.0, loss=None, split=None, start="inherited")
    supernet = session.supernet(training=True)
    if section.start == "inherited":
        session.load(supernet, TrainResult)
        supernet.warm_ups.hold_restarts()  # the winner was scored as it is
    task = TrainingTask(
        stage=RefitResult.stage,
        title=f"refit of {'the winner' if session.only_subnet is None else supernet.space.name}",
        supernet=supernet,
        space=session.space,
        split=session.data.train_and_search(),
        strategy=Fixed(winner),
        config=session.space.recipe.apply(section.training(session.training)),
    )
    return train_and_store(session, task, RefitResult, {"subnet": winner.digest}, start=section.start)
