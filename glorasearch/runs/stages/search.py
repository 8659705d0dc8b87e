"""The stage that searches the best subnet with the supernet's weights, on the search split."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

from glorasearch.db import TrialStorage
from glorasearch.errors import InputError
from glorasearch.runs.fixed import NO_SAMPLER, only_subnet
from glorasearch.runs.resources import EXECUTORS
from glorasearch.runs.run import Run
from glorasearch.runs.scoring import evaluator_of, evaluator_spec
from glorasearch.search import Executor, InProcessExecutor, SearchConfig, SearchDriver, SearchProgress

EVALUATOR = "glorasearch.evaluation:build_evaluator"


def search(run: Run) -> dict[str, Any]:
    """Search; returns `trial`, `subnet`, `digest`, `parameters`, scores, and how many trials were made and how.

    Of a space that has one subnet no trials are asked for: the subnet is scored once, as the study's one trial, in this
    process whatever the executor.
    """
    weights, calls = run.weights("train"), 0
    config = search_config(run)
    space = run.supernet().space
    alone = only_subnet(space) is not None
    if alone:
        config = replace(config, sampler="random", mode="generational", batch=1, trials=1, early_stopping=False)
        title = "search split"
        run.progress.say(f"{space.name} has one subnet: scored once, nothing to search")
    else:
        title = f"search ({config.sampler}{', steady' if config.steady else ''})"
    with (
        run.progress.task(title, config.trials) as advance,
        _scorer(run, weights) if alone else _executor(run, weights) as executor,
    ):

        def report(state: SearchProgress) -> None:
            nonlocal calls
            calls += 1
            if calls == 1 and state.done > 1:
                run.progress.say(f"search: goes on at trial {state.done}")
            best = state.best
            note = "" if best is None else f"best {100 * best.score.accuracy:.1f} %, {best.parameters:,} parameters"
            advance(state.done, ", ".join(filter(None, (note, executor.status))))

        driver = SearchDriver(
            space,
            TrialStorage(run.database),
            executor,
            weights,
            run.name,
            config,
            split_digest=run.data.search.digest,
            on_progress=report,
        )
        outcome = driver.run()
    return {
        "trial": outcome.best.number,
        "subnet": outcome.subnet.to_dict(),
        "digest": outcome.subnet.digest,
        "parameters": outcome.best.parameters,
        "stored": space.stored(outcome.subnet),
        "search_accuracy": outcome.best.score.accuracy,
        "search_cross_entropy": outcome.best.score.cross_entropy,
        "images": outcome.best.score.total,
        "sampler": NO_SAMPLER if alone else config.sampler,
        "fitness": config.fitness,
        "trials": outcome.trials,
        "evaluated": outcome.evaluated,
        "reused": outcome.reused,
        "stopped_early": outcome.stopped_early,
        "images_share": outcome.images_share,
        "failed": outcome.failed,
        "seconds": max(outcome.seconds, outcome.evaluation_seconds),
        "evaluation_seconds": outcome.evaluation_seconds,
        "split": run.data.search.digest,
        "pareto": [[record.number, record.parameters, record.score.accuracy] for record in outcome.pareto],
    }


def search_config(run: Run) -> SearchConfig:
    """The search section as the driver wants it."""
    return SearchConfig(**run.config.search.model_dump(), seed=run.config.seed)


def _scorer(run: Run, weights: str) -> Executor:
    """Scores one candidate; compiling a model for it would take longer than that."""
    return InProcessExecutor(evaluator_of(run, run.load(run.supernet(), weights), weights=weights, compile="off"))


def _executor(run: Run, weights: str) -> Executor:
    resources = run.resources
    if resources.local:
        evaluator = evaluator_of(run, run.load(run.supernet(), weights), weights=weights, hardest_first=True)
        return InProcessExecutor(evaluator)
    module, _, name = EXECUTORS[resources.executor].partition(":")
    try:
        factory = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise InputError(
            f"executor {resources.executor!r} cannot be loaded ({error}); install it by pip install 'glorasearch[ray]'"
        ) from error
    executor: Executor = factory(
        EVALUATOR,
        evaluator_spec(run, weights).to_json(),
        workers=resources.evaluators,
        address=resources.address,
        gpus_per_worker=resources.gpus_per_worker,
        evaluation_timeout=resources.evaluation_timeout,
    )
    return executor
