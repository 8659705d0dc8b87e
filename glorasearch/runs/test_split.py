"""The stage that measures on the test split: the only place that loads it, once a run."""

from __future__ import annotations

from typing import Any

import numpy as np

from glorasearch.adapters import adaptable_layers
from glorasearch.data import Splits, load_splits
from glorasearch.evaluation import accuracy_on_test, input_spec
from glorasearch.runs.baselines import baseline_space
from glorasearch.runs.fixed import is_fixed, other_baselines
from glorasearch.runs.run import Run
from glorasearch.space import BoundSpace, SearchSpace, Subnet, sample_within_budget

RANDOM_TAG = 23


def measure(job: Run) -> dict[str, Any]:
    """Test accuracy of the winner before and after the refit, of the baselines and of random subnets.

    Returns:
        `winner`, `winner_refitted` (accuracies), `baselines` (name → accuracy), `random_subnets`, `splits`. A fixed
        method has no random subnets, and none of its baselines is the method itself.
    """
    random_subnets = 0 if is_fixed(job) else job.run_file.report.random_subnets
    trained, refitted = job.weights("train"), job.weights("refit")
    fixed = {name: job.weights(f"baseline:{name}") for name in other_baselines(job)}
    splits = load_splits(job.data_config, input_spec(job.backbone, job.data_config))
    winner = Subnet.from_dict(job.require("search")["subnet"])
    with job.progress.task("test split", 2 + len(fixed) + random_subnets) as advance:
        result: dict[str, Any] = {
            "winner": _measure(job, splits, job.space, winner, trained),
            "winner_refitted": _measure(job, splits, job.space, winner, refitted),
            "baselines": {},
        }
        for name, weights in fixed.items():
            space = baseline_space(name, adaptable_layers(job.backbone))
            result["baselines"][name] = _measure(job, splits, space, space.largest(), weights)
            advance(2 + len(result["baselines"]), "")
        result["random_subnets"] = _random_subnets(job, splits, trained, random_subnets)
        advance(2 + len(fixed) + random_subnets, "")
    return result | {"splits": splits.describe()}


def _measure(job: Run, splits: Splits, space: SearchSpace | BoundSpace, subnet: Subnet, weights: str) -> float:
    model = job.load(job.supernet(space), weights).merged(subnet)
    return accuracy_on_test(model, splits.test, device=job.device, batch_size=_batch_size(job))


def _batch_size(job: Run) -> int:
    return job.run_file.search.eval_batch_size or 256


def _random_subnets(job: Run, splits: Splits, weights: str, count: int) -> dict[str, Any] | None:
    if not count:
        return None
    supernet = job.load(job.supernet(), weights)
    rng = np.random.default_rng([job.run_file.seed, RANDOM_TAG])
    subnets = [sample_within_budget(supernet.space, rng) for _ in range(count)]
    batch_size = _batch_size(job)
    scores = [
        accuracy_on_test(supernet.merged(subnet), splits.test, device=job.device, batch_size=batch_size)
        for subnet in subnets
    ]
    return {
        "count": count,
        "mean_parameters": float(np.mean([supernet.space.parameters(subnet) for subnet in subnets])),
        "mean_test_accuracy": float(np.mean(scores)),
        "std_test_accuracy": float(np.std(scores)),
    }
