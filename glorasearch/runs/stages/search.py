"""The stage that searches the best subnet with the supernet's weights, on the search split."""

from __future__ import annotations

from glorasearch.db import TrialStorage
from glorasearch.runs.chance import search_chance
from glorasearch.runs.curves.search_curve import SearchCurve
from glorasearch.runs.evaluation import make_executor, single_executor
from glorasearch.runs.model_costs import model_costs
from glorasearch.runs.results import ParetoPoint, SearchChance, SearchResult, TrainResult, stage_name
from glorasearch.runs.session import Session
from glorasearch.search import Executor, SearchConfig, SearchDriver, SearchOutcome, SearchProgress, TrialRecord
from glorasearch.search.objectives import DEFAULT_OBJECTIVES
from glorasearch.search.trials import worth
from glorasearch.space import Score, fitness_name

NO_SAMPLER = "none"
"""Sampler in the result of a fixed method."""


def search(session: Session) -> SearchResult:
    """Search the best subnet.

    The subnet of a fixed method is scored once, as the only trial of the study, in this process whatever the executor.
    """
    config, space, alone = session.config.search, session.bound_space, session.only_subnet is not None
    if alone:
        config = config.for_one_subnet()
        title = "search split"
        session.progress.say(f"{space.name} has one subnet: scored once, nothing to search")
    else:
        title = f"search ({config.sampler}{', steady' if config.steady else ''})"
    begun = False
    storage = TrialStorage(session.stored.workspace.database)
    settings = session.config.model_dump(mode="json")
    curve = SearchCurve(storage.database, session.name, settings["search"], settings["log"])
    session.curves.add(curve.stored())
    with (
        session.progress.task(title, config.trials) as advance,
        single_executor(session) if alone else make_executor(session) as executor,
    ):

        def show(state: SearchProgress) -> None:
            nonlocal begun
            if not begun and state.done > 1:
                session.progress.say(f"search: resumes at trial {state.done}")
            begun = True
            session.curves.add(curve.add(state.latest))
            session.progress.searched(state, executor)
            advance(state.done, ", ".join(filter(None, (_best(state, config), executor.status))))

        session.progress.searching(executor)
        driver = SearchDriver(
            space,
            storage,
            executor,
            session.require(TrainResult).weights,
            session.name,
            config,
            starts=session.starts,
            costs={} if alone else model_costs(session),
            split_digest=session.data.search.digest,
            on_progress=show,
        )
        outcome = driver.run()
        chance = None if alone else _chance(session, executor, outcome)
    best, subnet = outcome.best, outcome.subnet
    return SearchResult.of(
        outcome,
        trial=best.number,
        digest=subnet.digest,
        parameters=best.parameters,
        stored=space.stored(subnet),
        **search_scores(best.score),
        search_fitness=worth(config.fitness, best.score),
        images=best.score.total,
        split=session.data.search.digest,
        chance=chance,
        trials_digest=storage.finished_digest(session.name),
        pareto=tuple(
            ParetoPoint(
                trial=trial.number,
                parameters=trial.parameters,
                search_accuracy=trial.score.accuracy if trial.score.right_or_wrong else None,
                objectives=_of_front(trial, config),
            )
            for trial in outcome.pareto
        ),
        sampler=NO_SAMPLER if alone else config.sampler,
        fitness=config.fitness,
        seconds=max(outcome.seconds, outcome.evaluation_seconds),
    )


def search_scores(score: Score) -> dict[str, float | None]:
    """The parts of a score that a search's result has, by their names there; none of numbers, which have a fitness."""
    names = ("accuracy", "cross_entropy", "tempered", "temperature")
    return {f"search_{name}": getattr(score, name) if score.right_or_wrong else None for name in names}


def _of_front(trial: TrialRecord, config: SearchConfig) -> dict[str, float]:
    """What the front is of, beside the parameters, unless that is accuracy alone."""
    if set(config.front) == set(DEFAULT_OBJECTIVES):
        return {}
    return {name: trial.value(name) for name in config.front if name != "parameters"}


def _best(state: SearchProgress, config: SearchConfig) -> str:
    """What is known of the best trial so far."""
    best = state.best
    if best is None:
        return ""
    if not best.score.right_or_wrong:
        return f"best {fitness_name(config.fitness)} {state.best_fitness:.3f}, {best.parameters:,} parameters"
    fitness = f", {fitness_name(config.fitness)} {state.best_fitness:.3f}" if config.metrics else ""
    return f"best {100 * best.score.accuracy:.1f} %{fitness}, {best.parameters:,} parameters"


def _chance(session: Session, executor: Executor, outcome: SearchOutcome) -> SearchChance | None:
    count = session.config.report.chance_subnets
    if not count:
        return None
    with (
        session.progress.stage(stage_name(SearchResult, "chance")),
        session.progress.task("random subnets, search split", count) as advance,
    ):
        return search_chance(
            executor,
            session.bound_space,
            session.require(TrainResult).weights,
            outcome,
            fitness=session.config.search.fitness,
            seed=session.config.seed,
            count=count,
            on_score=lambda done: advance(done, ""),
        )
