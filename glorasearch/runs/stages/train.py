"""The stage that trains the supernet, or the one subnet of a fixed method, and stores its weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from glorasearch.evaluation import load_weights
from glorasearch.identity import digest, identity
from glorasearch.runs.fixed_methods import only_subnet
from glorasearch.runs.results import Results, TrainResult
from glorasearch.runs.session import Session, versions
from glorasearch.runs.training import TrainingTask, train_and_store, training_backend
from glorasearch.space import BoundSpace, Fitness, Subnet, sample_within_budget
from glorasearch.supernet import Supernet
from glorasearch.training import TrainingConfig, make_strategy
from glorasearch.weights import frozen_digest

PROBE_STREAM = 17
"""Seeds the draw of the probed subnets, together with the run's seed, so that it is independent of all other draws."""


def train(session: Session) -> TrainResult:
    """Train the supernet on the training split, or reuse the same training of another run of the workspace.

    A fixed method is trained alone: every step trains its one subnet, whatever the strategy, by its space's recipe.
    """
    config = session.config
    recipe = session.space.recipe.apply(session.training)
    supernet = session.supernet(training=True)
    earlier = session.stored.earlier
    if earlier is not None:
        recipe = recipe.replace(steps=recipe.steps - earlier.steps, seed=(recipe.seed + earlier.steps) % 2**64)
    alone = only_subnet(supernet.space)
    title = "supernet" if alone is None else supernet.space.name
    if alone is not None:
        session.progress.say(f"{title} has one subnet: trained alone, nothing to search")
    measure: Fitness = "accuracy" if session.data.train.task.right_or_wrong else "squared_error"
    key = _key(session, supernet, recipe)
    known = _trained_before(session, key)
    if known is not None:
        session.progress.say(f"{title}: taken over from run {known.from_run!r}, which trained the same")
        return known
    own: dict[str, Any] = {}
    if earlier is not None:
        load_weights(supernet, session.store, earlier.train.weights)
        supernet.warm_ups.hold_restarts()  # they were made in the earlier training
        own = {"continues": earlier.name, "steps_before": earlier.steps}
        session.progress.say(
            f"{title}: {recipe.steps:,} steps more than the {earlier.steps:,} of run {earlier.name!r}, from its "
            "weights, with a warm-up and a decay of their own"
        )
    task = TrainingTask(
        stage=TrainResult.stage,
        title=title,
        supernet=supernet,
        space=session.space,
        split=session.data.train,
        strategy=make_strategy(recipe, supernet.space),
        config=recipe,
        probed=_probed_subnets(supernet.space, config.seed, measure),
        measure=measure,
    )
    return train_and_store(session, task, TrainResult, key=key, fixed_method=alone is not None, **own)


def _key(session: Session, supernet: Supernet, recipe: TrainingConfig) -> str:
    """Digest of all that the weights depend on."""
    config = session.config
    content: dict[str, Any] = {
        "backbone": frozen_digest(supernet),
        "space": supernet.space.digest,
        "split": session.data.train.digest,
        "train": identity(recipe),
        "seed": config.seed,
        "threads": config.threads,
        "device": training_backend(session, recipe.ranks).device(session),
        "versions": versions(),
    }
    if session.stored.earlier is not None:
        content["from"] = session.stored.earlier.train.weights
    if session.space.plugins:
        content["plugins"] = session.plugins_of(session.space)
    return digest(content)


def _trained_before(session: Session, key: str) -> TrainResult | None:
    """The result of another run that trained the same supernet, if its weights are still there."""
    for record in [] if session.fresh else session.runs.list():
        result = Results(record.stages, record.name).readable(TrainResult)
        if record.name != session.name and result is not None and result.key == key and result.weights in session.store:
            return result.model_copy(update={"from_run": record.name})
    return None


def _probed_subnets(space: BoundSpace, seed: int, measure: Fitness) -> dict[str, Subnet]:
    """Name of a metric → a subnet whose accuracy (or error) on the search split is measured during the training."""
    alone = only_subnet(space)
    if alone is not None:
        return {f"search_{measure}": alone}
    rng = np.random.default_rng([seed, PROBE_STREAM])
    return {
        f"search_{measure}_largest": space.largest(),
        f"search_{measure}_smallest": space.smallest(),
        f"search_{measure}_random_1": sample_within_budget(space, rng),
        f"search_{measure}_random_2": sample_within_budget(space, rng),
    }
