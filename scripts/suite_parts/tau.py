"""How well the supernet's scores rank random subnets: by what they reach when each is trained alone.

The truth of a subnet is its mean test accuracy over several trainings alone, on the training split. Two trainings of
one subnet differ as well, which limits how far any score can agree with one of them: that is recorded, too.
What might rank them better is tried by `tau_ideas.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch

from glorasearch import CandidateEvaluator
from glorasearch.race import member_seed
from glorasearch.runs.results import TrainResult
from glorasearch.space import BoundSpace, Subnet, sample_within_budget
from glorasearch.stacked import Member
from glorasearch.statistics import kendall_tau
from glorasearch.supernet import Supernet
from glorasearch.training import TrainingConfig
from suite_parts.lab import Lab, correct_images
from suite_parts.product import run_of, unlocked
from suite_parts.units import Content, Unit

DRAW = 12
"""Seeds the draw of the subnets, together with the suite's seed."""
SCORES = ("tempered", "cross_entropy", "accuracy")


@dataclass(frozen=True)
class Ranked:
    """Random subnets, and what they reach."""

    supernet: Supernet
    """Of the arm `evolution`."""
    subnets: list[Subnet]
    rate: float
    """At which all are trained."""
    alone: list[list[float]]
    """`(trainings, subnets)` test accuracy."""
    seconds: float
    """Of these trainings."""

    @property
    def truth(self) -> list[float]:
        """Mean test accuracy of every subnet."""
        means: list[float] = np.mean(self.alone, axis=0).tolist()
        return means


def tau(lab: Lab, unit: Unit) -> Content:
    """What the arm `tau` finds; it uses the supernet of the arm `evolution`, and trains it if that is not done."""
    ranked = trained_alone(lab, unit)
    space, alone = ranked.supernet.space, ranked.alone
    inherited, spent = inherited_scores(lab, unit, ranked.supernet, ranked.subnets)
    return {
        "subnets": [subnet.digest for subnet in ranked.subnets],
        "parameters": [space.parameters(subnet) for subnet in ranked.subnets],
        "inherited": inherited,
        "test_accuracy_alone": alone,
        "tau": {name: agreement(inherited[name], ranked.truth) for name in SCORES},
        "tau_with_one_training": {
            name: float(np.mean([agreement(inherited[name], one) for one in alone])) for name in SCORES
        },
        "tau_of_two_trainings": float(np.mean([agreement(one, other) for one, other in combinations(alone, 2)])),
        "lr": ranked.rate,
        "model_steps": lab.settings.tau_steps * len(ranked.subnets) * len(alone),
        "seconds": {"training": ranked.seconds, "evaluation": spent},
    }


def trained_alone(lab: Lab, unit: Unit, known: list[list[float]] | None = None) -> Ranked:
    """The supernet, and the subnets with what they reach alone; `known` is that, if they have been trained."""
    run = run_of(lab, unit._replace(arm="evolution"))
    unlocked(lambda: run.execute("train"))
    session = run.session()
    supernet, rate = session.load(session.supernet(), TrainResult), session.training.lr
    rng = np.random.default_rng([unit.seed, DRAW])
    subnets = [sample_within_budget(supernet.space, rng) for _ in range(lab.settings.tau_subnets)]
    alone, seconds = (known, 0.0) if known is not None else _alone(lab, unit, supernet.space, subnets, rate)
    return Ranked(supernet, subnets, rate, alone, seconds)


def inherited_scores(
    lab: Lab, unit: Unit, supernet: Supernet, subnets: Sequence[Subnet]
) -> tuple[dict[str, list[float]], float]:
    """Score → what each subnet has by it with the supernet's weights, more is better; and seconds."""
    evaluator = CandidateEvaluator(supernet, lab.splits(unit).search, device=lab.device, compile="off")
    scores = [evaluator.evaluate(subnet) for subnet in subnets]
    found = {
        "tempered": [-score.tempered for score in scores],
        "cross_entropy": [-score.cross_entropy for score in scores],
        "accuracy": [score.accuracy for score in scores],
    }
    return found, sum(score.seconds for score in scores)


def agreement(first: Sequence[float], second: Sequence[float]) -> float:
    """Kendall's tau-b; 0 where all things have one score, which ranks nothing."""
    found = kendall_tau(first, second)
    return found if math.isfinite(found) else 0.0


def _alone(
    lab: Lab, unit: Unit, space: BoundSpace, subnets: Sequence[Subnet], rate: float
) -> tuple[list[list[float]], float]:
    """Test accuracy of every subnet in every training, `(trainings, subnets)`, and seconds."""
    splits, settings = lab.splits(unit), lab.settings
    found, seconds = [], 0.0
    for training in range(settings.tau_trainings):
        members = [
            Member(
                space=space,
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
