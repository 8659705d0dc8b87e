"""What a run that is a point of another one takes over from it, in place of its own stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from glorasearch.errors import InputError
from glorasearch.runs.evaluation import single_executor
from glorasearch.runs.points import Searched
from glorasearch.runs.results import SearchResult, TrainResult
from glorasearch.runs.seen import check_data
from glorasearch.runs.session import Session
from glorasearch.runs.stage_result import StageResult
from glorasearch.runs.stages.search import search_scores
from glorasearch.search import Executor, TrialRecord
from glorasearch.search.trials import rank, worth
from glorasearch.space import EvaluationTask, Score


def take_over(session: Session, stage: str, work: Callable[[], StageResult]) -> StageResult:
    """The result of a stage: the other run's where it has done it, else of the work that is done here."""
    searched = session.stored.searched
    assert searched is not None
    if stage == "pilot" and searched.results.pilot is not None:
        return searched.results.pilot
    if stage == "train":
        return _trained(session, searched)
    if stage == "search":
        return _search(session, searched)
    kind, _, part = stage.partition(":")
    known = searched.baseline(part, session.stored.configuration) if kind == "baseline" else None
    if known is None or known.weights not in session.store:
        return work()
    session.progress.say(f"baseline {part}: taken over from run {searched.name!r}")
    return known


def check_point(session: Session) -> None:
    """Refuse a point that the other run cannot give.

    Raises:
        InputError: saying what is missing, or differs.
    """
    searched, number = session.stored.searched, session.config.point.trial
    if searched is None or number is None:
        return
    searched.check(session.stored.configuration)
    searched.trial(number)
    if "train" not in session.stored.results:
        _trained(session, searched)


def best_within(session: Session, searched: Searched, parameters: int) -> TrialRecord:
    """The best trial of at most so many trainable parameters, as if no evaluation had been stopped early.

    Those that were stopped and might be better are evaluated to the end, the most promising first, until none is left.

    Args:
        session: of the run that searched.
        searched: that run.
        parameters: at most.

    Raises:
        InputError: if none is that small, or the run's weights or images are not there any more.
    """
    best = searched.best_within(parameters)
    waiting = searched.undecided(parameters, best)
    _trained(session, searched)
    check_data(session)
    with (
        session.progress.task("trials that were stopped early, at most", len(waiting)) as advance,
        single_executor(session) as executor,
    ):
        for done, record in enumerate(waiting, 1):
            if not searched.may_beat(record, best):
                break
            score = _evaluated(executor, session, record.number, searched)
            best = min(best, replace(record, score=score), key=lambda one: rank(searched.fitness, one))
            advance(done, "")
    return best


def _trained(session: Session, searched: Searched) -> TrainResult:
    """The supernet's training, whose weights must be there."""
    if searched.train.weights not in session.store:
        raise InputError(
            f"the weights of the supernet of run {searched.name!r} are not in the weight store {session.store.name}; "
            "`glorasearch train` with its run file trains them again"
        )
    return searched.train.model_copy(update={"from_run": searched.name})


def _search(session: Session, searched: Searched) -> SearchResult:
    """The other run's search, with the point in place of its winner."""
    number = session.config.point.trial
    assert number is not None
    record, subnet, space = searched.trial(number), searched.subnet(number), session.bound_space
    score = record.score
    if score.stopped_early:
        with single_executor(session) as executor:
            score = _evaluated(executor, session, number, searched)
    start, share = searched.origin(space, subnet)
    session.progress.say(f"trial {number} of run {searched.name!r}: its supernet and search are taken over")
    return searched.search.model_copy(
        update={
            "trial": number,
            "start": start,
            "start_share": share,
            "subnet": subnet,
            "digest": subnet.digest,
            "parameters": record.parameters,
            "stored": space.stored(subnet),
            **search_scores(score),
            "search_fitness": worth(searched.fitness, score),
            "chance": searched.search.chance if number == searched.search.trial else None,
            "trials_digest": None,
        }
    )


def _evaluated(executor: Executor, session: Session, number: int, searched: Searched) -> Score:
    """The score of a trial that the search had stopped early, now on all images.

    Raises:
        InputError: if its evaluation fails.
    """
    subnet, weights = searched.subnet(number), session.require(TrainResult).weights
    executor.submit(EvaluationTask(subnet.to_json(), subnet.digest, weights, metrics=searched.metrics))
    result = executor.next_result()
    if result.score is None:
        raise InputError(f"point.trial: trial {number} cannot be evaluated: {result.failure}")
    return result.score
