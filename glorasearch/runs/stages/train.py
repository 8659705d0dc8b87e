"""The stage that trains the supernet, or the one subnet of a fixed method, and stores its weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from glorasearch.choices import plugin_sources
from glorasearch.runs.config import recipe
from glorasearch.runs.fit import fit
from glorasearch.runs.fit_elsewhere import training_device
from glorasearch.runs.fixed import FIXED, only_subnet
from glorasearch.runs.run import Run
from glorasearch.space import BoundSpace, Subnet, sample_within_budget
from glorasearch.supernet import Supernet
from glorasearch.training import Fixed, SamplingStrategy, Sandwich, Uniform
from glorasearch.weights import frozen_digest


def train(run: Run) -> dict[str, Any]:
    """Train the supernet on the training split, unless a run of this workspace has done just that.

    The subnet of a space that has one is trained alone: every step is its own, whatever the strategy.

    Returns:
        `weights` and `split` (digests), `steps`, `seconds`, `loss`, `key` (digest of all that the weights depend on),
        `from_run` (the run that was taken over, or None) and `fixed_method` (whether the space has one subnet).
    """
    supernet = run.supernet(training=True)
    alone = only_subnet(supernet.space)
    title = "supernet" if alone is None else supernet.space.name
    if alone is not None:
        run.progress.say(f"{title} has one subnet: trained alone, nothing to search")
    key = _key(run, supernet)
    known = _trained_before(run, key)
    if known is not None:
        name, result_of_run = known
        run.progress.say(f"{title}: taken over from run {name!r}, which trained the same")
        return {**result_of_run, "from_run": name}
    config = replace(run.trainer_config(steps=run.config.train.steps), ranks=run.config.train.ranks)
    strategy = _strategy(run, supernet.space)
    probed = probed_subnets(supernet.space, run.config.seed)
    result = fit(run, "train", title, supernet, run.data.train, strategy, config, probed=probed)
    weights = run.put(supernet, stage="train", steps=result.steps, run=run.name, split=run.data.train.digest)
    loss = result.loss if result.steps else None
    return {
        "weights": weights,
        "steps": result.steps,
        "seconds": result.seconds,
        "loss": loss,
        "split": run.data.train.digest,
        "key": key,
        "from_run": None,
        FIXED: alone is not None,
    }


def _key(run: Run, supernet: Supernet) -> str:
    content = {
        "backbone": frozen_digest(supernet),
        "space": supernet.space.digest,
        "split": run.data.train.digest,
        "train": recipe(run.config.train.model_dump(mode="json")),
        "seed": run.config.seed,
        "threads": run.config.threads,
        "device": training_device(run),
        "versions": run.versions(),
    }
    if run.space.plugins:  # weights from code without a digest belong to this run alone
        sources = plugin_sources(run.space.plugins)
        content["plugins"] = {path: source or f"of run {run.name}" for path, source in sources.items()}
    if only_subnet(supernet.space) is not None:
        content[FIXED] = True  # it was not always trained alone
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _trained_before(run: Run, key: str) -> tuple[str, Mapping[str, Any]] | None:
    """The name of another run that trained the same supernet, and its result, if its weights are still there."""
    for record in run.runs.list() if run.reuse else []:
        result = record.stages.get("train", {})
        if record.name != run.name and result.get("key") == key and result["weights"] in run.store:
            return record.name, result
    return None


def _strategy(run: Run, space: BoundSpace) -> SamplingStrategy:
    section, alone = run.config.train, only_subnet(space)
    if alone is not None:
        return Fixed(alone)
    if section.strategy == "sandwich":
        return Sandwich(space, run.config.seed, section.middle)
    return Uniform(space, run.config.seed)


def probed_subnets(space: BoundSpace, seed: int) -> dict[str, Subnet]:
    """Name of a metric → the subnet whose search accuracy it is, followed during the training; few of them."""
    alone = only_subnet(space)
    if alone is not None:
        return {"search_accuracy": alone}
    rng = np.random.default_rng([seed, 17])
    return {
        "search_accuracy_largest": space.largest(),
        "search_accuracy_smallest": space.smallest(),
        "search_accuracy_random_1": sample_within_budget(space, rng),
        "search_accuracy_random_2": sample_within_budget(space, rng),
    }
