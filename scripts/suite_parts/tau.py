"""How well the supernet's scores rank random subnets: by what they reach when each is trained alone.

The truth of a subnet is its mean test accuracy over several trainings alone, on the training split. Two trainings of
one subnet differ as well, which limits how far any score can agree with one of them: that is recorded, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch

from glorasearch import CandidateEvaluator
from glorasearch.race import member_seed
from glorasearch.runs.results import TrainResult
from glorasearch.space import Subnet, sample_within_budget
from glorasearch.stacked import Member
from glorasearch.statistics import kendall_tau
from glorasearch.training import TrainingConfig
from suite_parts.lab import Lab, correct_images
from suite_parts.product import run_of, unlocked
from suite_parts.units import Content, Unit

DRAW = 12
"""Seeds the draw of the subnets, together with the suite's seed."""
SCORES = ("tempered", "cross_entropy", "accuracy")


def tau(lab: Lab, unit: Unit) -> Content:
    """What the arm `tau` finds; it uses the supernet of the arm `evolution`, and trains it if that is not done."""
    run = run_of(lab, unit._replace(arm="evolution"))
    unlocked(lambda: run.execute("train"))
    session = run.session()
    supernet = session.load(session.supernet(), TrainResult)
    rng = np.random.default_rng([unit.seed, DRAW])
    subnets = [sample_within_budget(supernet.space, rng) for _ in range(lab.settings.tau_subnets)]
    evaluator = CandidateEvaluator(supernet, lab.splits(unit).search, device=lab.device, compile="off")
    scores = [evaluator.evaluate(subnet) for subnet in subnets]
    inherited = {
        "tempered": [-score.tempered for score in scores],
        "cross_entropy": [-score.cross_entropy for score in scores],
        "accuracy": [score.accuracy for score in scores],
    }
    alone, seconds = _alone(lab, unit, supernet.space, subnets, session.training.lr)
    means = np.mean(alone, axis=0).tolist()
    return {
        "subnets": [subnet.digest for subnet in subnets],
        "parameters": [supernet.space.parameters(subnet) for subnet in subnets],
        "inherited": inherited,
        "test_accuracy_alone": alone,
        "tau": {name: _tau(inherited[name], means) for name in SCORES},
        "tau_with_one_training": {
            name: float(np.mean([_tau(inherited[name], one) for one in alone])) for name in SCORES
        },
        "tau_of_two_trainings": float(np.mean([_tau(one, other) for one, other in combinations(alone, 2)])),
        "lr": session.training.lr,
        "model_steps": lab.settings.tau_steps * len(subnets) * len(alone),
        "seconds": {"training": seconds, "evaluation": sum(score.seconds for score in scores)},
    }


def _tau(first: Sequence[float], second: Sequence[float]) -> float:
    """Kendall's tau-b; 0 where all things have one score, which ranks nothing."""
    found = kendall_tau(first, second)
    return found if math.isfinite(found) else 0.0


def _alone(lab: Lab, unit: Unit, space: object, subnets: list[Subnet], rate: float) -> tuple[list[list[float]], float]:
    """Test accuracy of every subnet in every training, `(trainings, subnets)`, and seconds."""
    splits, settings = lab.splits(unit), lab.settings
    found, seconds = [], 0.0
    for training in range(settings.tau_trainings):
        members = [
            Member(
                space=space,  # type: ignore[arg-type]
                subnet=subnet,
                config=TrainingConfig(
                    steps=settings.tau_steps, lr=rate, seed=member_seed(unit.seed, subnet.digest, training)
                ),
                images=torch.arange(len(splits.train)),
            )
            for subnet in subnets
        ]
        scored = lab.train(unit, f"alone{training}", members, splits.train, search=False, test=True)
        right = [correct_images(logits, splits.test.labels) for logits in scored.test]
        found.append([correct.count("1") / len(correct) for correct in right])
        seconds += scored.seconds
    return found, seconds
