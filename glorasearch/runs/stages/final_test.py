"""The stage that measures on the test split: the only place that loads it, once a run."""

from __future__ import annotations

from typing import Any

import numpy as np

from glorasearch.adapters import adaptable_layers
from glorasearch.data import Splits, load_splits
from glorasearch.evaluation import accuracy_on_test, input_spec
from glorasearch.runs.fixed import is_fixed, other_baselines
from glorasearch.runs.run import Run
from glorasearch.runs.stages.baseline import baseline_space
from glorasearch.space import BoundSpace, SearchSpace, Subnet, sample_within_budget

RANDOM_TAG = 23


def measure(run: Run) -> dict[str, Any]:
    """Test accuracy of the winner before and after the refit, of the baselines and of random subnets.

    Returns:
        `winner`, `winner_refitted` (accuracies), `baselines` (name → accuracy), `random_subnets`, `splits`. A fixed
        method has no random subnets, and none of its baselines is the method itself.
    """
    random_subnets = 0 if is_fixed(run) else run.config.report.random_subnets
    trained, refitted = run.weights("train"), run.weights("refit")
    fixed = {name: run.weights(f"baseline:{name}") for name in other_baselines(run)}
    splits = load_splits(run.data_config, input_spec(run.backbone, run.data_config))
    winner = Subnet.from_dict(run.require("search")["subnet"])
    with run.progress.task("test split", 2 + len(fixed) + random_subnets) as advance:
        result: dict[str, Any] = {
            "winner": _measure(run, splits, run.space, winner, trained),
            "winner_refitted": _measure(run, splits, run.space, winner, refitted),
            "baselines": {},
        }
        for name, weights in fixed.items():
            space = baseline_space(name, adaptable_layers(run.backbone))
            result["baselines"][name] = _measure(run, splits, space, space.largest(), weights)
            advance(2 + len(result["baselines"]), "")
        result["random_subnets"] = _random_subnets(run, splits, trained, random_subnets)
        advance(2 + len(fixed) + random_subnets, "")
    return result | {"splits": splits.describe()}


def _measure(run: Run, splits: Splits, space: SearchSpace | BoundSpace, subnet: Subnet, weights: str) -> float:
    model = run.load(run.supernet(space), weights).merged(subnet)
    return accuracy_on_test(model, splits.test, device=run.device, batch_size=_batch_size(run))


def _batch_size(run: Run) -> int:
    return run.config.search.eval_batch_size or 256


def _random_subnets(run: Run, splits: Splits, weights: str, count: int) -> dict[str, Any] | None:
    if not count:
        return None
    supernet = run.load(run.supernet(), weights)
    rng = np.random.default_rng([run.config.seed, RANDOM_TAG])
    subnets = [sample_within_budget(supernet.space, rng) for _ in range(count)]
    batch_size = _batch_size(run)
    scores = [
        accuracy_on_test(supernet.merged(subnet), splits.test, device=run.device, batch_size=batch_size)
        for subnet in subnets
    ]
    return {
        "count": count,
        "mean_parameters": float(np.mean([supernet.space.parameters(subnet) for subnet in subnets])),
        "mean_test_accuracy": float(np.mean(scores)),
        "std_test_accuracy": float(np.std(scores)),
    }
