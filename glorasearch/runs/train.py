"""The stage that trains the supernet, or the one subnet of a fixed method, and stores its weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from glorasearch.choices import method_sources
from glorasearch.runs.config import recipe
from glorasearch.runs.fit import fit
from glorasearch.runs.fit_elsewhere import training_device
from glorasearch.runs.fixed import FIXED, only_subnet
from glorasearch.runs.run import Run
from glorasearch.space import BoundSpace, Subnet, sample_within_budget
from glorasearch.supernet import Supernet
from glorasearch.training import Fixed, PathStrategy, Sandwich, Uniform
from glorasearch.weights import frozen_digest


def train(job: Run) -> dict[str, Any]:
    """Train the supernet on the training split, unless a run of this workspace has done just that.

    The subnet of a space that has one is trained alone: every step is its own, whatever the strategy.

    Returns:
        `weights` and `split` (digests), `steps`, `seconds`, `loss`, `key` (digest of all that the weights depend on),
        `from_run` (the run that was taken over, or None) and `fixed_method` (whether the space has one subnet).
    """
    supernet = job.supernet(training=True)
    alone = only_subnet(supernet.space)
    title = "supernet" if alone is None else supernet.space.name
    if alone is not None:
        job.progress.say(f"{title} has one subnet: trained alone, nothing to search")
    key = _key(job, supernet)
    known = _trained_before(job, key)
    if known is not None:
        name, result_of_run = known
        job.progress.say(f"{title}: taken over from run {name!r}, which trained the same")
        return {**result_of_run, "from_run": name}
    config = replace(job.trainer_config(steps=job.run_file.train.steps), ranks=job.run_file.train.ranks)
    strategy = _strategy(job, supernet.space)
    probed = probed_subnets(supernet.space, job.run_file.seed)
    result = fit(job, "train", title, supernet, job.data.train, strategy, config, probed=probed)
    weights = job.put(supernet, stage="train", steps=result.steps, run=job.name, split=job.data.train.digest)
    loss = result.loss if result.steps else None
    return {
        "weights": weights,
        "steps": result.steps,
        "seconds": result.seconds,
        "loss": loss,
        "split": job.data.train.digest,
        "key": key,
        "from_run": None,
        FIXED: alone is not None,
    }


def _key(job: Run, supernet: Supernet) -> str:
    content = {
        "backbone": frozen_digest(supernet),
        "space": supernet.space.digest,
        "split": job.data.train.digest,
        "train": recipe(job.run_file.train.model_dump(mode="json")),
        "seed": job.run_file.seed,
        "threads": job.run_file.threads,
        "device": training_device(job),
        "versions": job.versions(),
    }
    if job.space.methods:  # code of a method that cannot be told is this run's alone
        sources = method_sources(job.space.methods)
        content["methods"] = {path: source or f"of run {job.name}" for path, source in sources.items()}
    if only_subnet(supernet.space) is not None:
        content[FIXED] = True  # it was not always trained alone
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _trained_before(job: Run, key: str) -> tuple[str, Mapping[str, Any]] | None:
    """The name of another run that trained the same supernet, and its result, if its weights are still there."""
    for run in job.runs.list() if job.reuse else []:
        result = run.stages.get("train", {})
        if run.name != job.name and result.get("key") == key and result["weights"] in job.store:
            return run.name, result
    return None


def _strategy(job: Run, space: BoundSpace) -> PathStrategy:
    section, alone = job.run_file.train, only_subnet(space)
    if alone is not None:
        return Fixed(alone)
    if section.strategy == "sandwich":
        return Sandwich(space, job.run_file.seed, section.middle)
    return Uniform(space, job.run_file.seed)


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
