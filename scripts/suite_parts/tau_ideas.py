"""What might rank subnets better than the supernet does: other supernets, and a short training of each subnet.

Every idea scores the subnets of the arm `tau`, whose trainings alone are the truth; where that arm was not done with
the seed, they are trained here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from glorasearch.evaluation.scoring import tempered_of
from glorasearch.race import member_seed
from glorasearch.runs.results import TrainResult
from glorasearch.space import Subnet
from glorasearch.stacked import Member
from glorasearch.supernet import Supernet
from glorasearch.training import TrainingConfig
from suite_parts.lab import Lab
from suite_parts.product import run_of, unlocked
from suite_parts.tau import agreement, inherited_scores, trained_alone
from suite_parts.units import Content, Unit, UnitStore

PARTS = 8, 2
"""Of the steps of a training alone, what the short trainings of each subnet have."""


def supernets(steps: int, rate: float) -> dict[str, tuple[str, ...]]:
    """Idea → overrides of the supernet's training, which has so many steps and this rate without them."""
    return {
        "sandwich with self-distillation": ("train.strategy=sandwich",),
        "twice the steps": (f"train.steps={2 * steps}",),
        "a third of the rate": (f"train.lr={rate / 3!r}",),
        "head at three times the rate": (f"train.head_lr={3 * rate!r}",),
        "drop path 0.1": ("train.drop_path=0.1",),
        "moving average of the weights": ("train.ema_decay=0.999",),
    }


def tau_ideas(lab: Lab, unit: Unit) -> Content:
    """What the arm `tau_ideas` finds: idea → score → tau with the truth."""
    done = UnitStore(lab.folders.units, lab.settings.keys).read(unit._replace(arm="tau"))
    ranked = trained_alone(lab, unit, None if done is None else done["test_accuracy_alone"])
    found: dict[str, dict[str, float]] = {}
    spent = {"training": ranked.seconds, "evaluation": 0.0}

    def take(idea: str, scores: Mapping[str, Sequence[float]]) -> None:
        found[idea] = {name: agreement(score, ranked.truth) for name, score in scores.items()}

    def inherited(idea: str, supernet: Supernet) -> None:
        scores, seconds = inherited_scores(lab, unit, supernet, ranked.subnets)
        spent["evaluation"] += seconds
        take(idea, scores)

    inherited("as it is", ranked.supernet)
    base = run_of(lab, unit._replace(arm="evolution")).config.train
    for number, (idea, overrides) in enumerate(supernets(base.steps, ranked.rate).items()):
        run = run_of(lab, unit, f"name=tau-idea-{number}", f"train.lr={ranked.rate!r}", *overrides)
        unlocked(lambda run=run: run.execute("train"))  # type: ignore[misc]
        session = run.session()
        inherited(idea, session.load(session.supernet(), TrainResult))
        spent["training"] += session.require(TrainResult).seconds
    lengths = sorted({max(1, lab.settings.tau_steps // part) for part in PARTS})
    for start in (ranked.supernet.adapter_state(), None):
        for steps in lengths:
            scores, seconds = _trained(lab, unit, ranked.supernet, ranked.subnets, steps, ranked.rate, start)
            spent["training"] += seconds
            take(f"{steps} steps of each, {'fresh' if start is None else 'from its inherited weights'}", scores)
    return {
        "ideas": found,
        "truth": "trained here" if done is None else "that of the arm tau",
        "lr": ranked.rate,
        "model_steps": 2 * sum(lengths) * len(ranked.subnets),
        "seconds": spent,
    }


def _trained(
    lab: Lab,
    unit: Unit,
    supernet: Supernet,
    subnets: Sequence[Subnet],
    steps: int,
    rate: float,
    start: Mapping[str, Tensor] | None,
) -> tuple[dict[str, list[float]], float]:
    """Scores of subnets after a short training of each, side by side; and its seconds."""
    splits, part = lab.splits(unit), f"{'fresh' if start is None else 'inherited'}{steps}"
    members = [
        Member(
            space=supernet.space,
            subnet=subnet,
            config=TrainingConfig(steps=steps, lr=rate, seed=member_seed(unit.seed, subnet.digest, part)),
            images=torch.arange(len(splits.train)),
            start=start,
        )
        for subnet in subnets
    ]
    scored = lab.train(unit, part, members, splits.train, search=True, test=False)
    labels = splits.search.labels
    logits = [torch.from_numpy(one) for one in scored.search]
    return {
        "tempered": [-tempered_of(one, labels)[0] for one in logits],
        "accuracy": [float((one.argmax(-1) == labels).double().mean()) for one in logits],
    }, scored.seconds
