"""What varying the images is worth, and a moving average of the weights: plain trainings, side by side.

A fixed method at one rate is trained on train + search with every recipe from the same start; the models are tested. It
says which preset should be the default of a training that learns from labels, at a small part of what an arm of the
whole product costs.
"""

from __future__ import annotations

import statistics
from typing import Any

import torch

from glorasearch.race import member_seed
from glorasearch.space import SearchSpace
from glorasearch.stacked import Member
from glorasearch.training import TrainingConfig
from suite_parts.lab import Lab, Scored, correct_images
from suite_parts.units import Content, Unit

POINTS = (("lora_r8", 1e-3),)
"""Methods and rates: one that is good on most tasks. Each costs 12,000 model-steps a task and seed."""
RECIPES: dict[str, dict[str, Any]] = {
    "none": {},
    "light": {"augment": "light"},
    "light, no crops": {"augment": "light", "scale": (1.0, 1.0)},
    "light, flips": {"augment": "light", "hflip": 0.5},
    "timm, no flips": {"augment": "timm", "hflip": 0.0},
    "moving average": {"ema_decay": 0.999},
}
"""Keys of `[train]`."""


def augmentation(lab: Lab, unit: Unit) -> Content:
    """What the arm `augmentation` finds: test accuracy by recipe, and of every training."""
    splits = lab.splits(unit, crops=True)
    everything, steps = splits.train_and_search(), lab.settings.steps

    def member(name: str, rate: float, recipe: str) -> Member:
        space = SearchSpace.load(name)
        bound = lab.bind(space)
        config = TrainingConfig(
            steps=steps,
            lr=rate,
            seed=member_seed(unit.seed, f"{name} {rate!r}", "augmentation"),
            checkpoint_every=max(1, steps // 5),
            **RECIPES[recipe],
        )
        images = torch.arange(len(everything))
        return Member(space=bound, subnet=bound.largest(), config=space.recipe.apply(config), images=images)

    def trained(part: str, recipes: list[str]) -> tuple[Scored, dict[str, list[str]]]:
        members = [member(name, rate, recipe) for recipe in recipes for name, rate in POINTS]
        scored = lab.train(unit, part, members, everything, search=False, test=True)
        right = [correct_images(logits, splits.test.labels) for logits in scored.test]
        count = len(POINTS)
        return scored, {recipe: right[at * count : (at + 1) * count] for at, recipe in enumerate(recipes)}

    averaged = [recipe for recipe, keys in RECIPES.items() if "ema_decay" in keys]  # members of a stack share it
    first, found = trained("augmented", [recipe for recipe in RECIPES if recipe not in averaged])
    second, more = trained("averaged", averaged)
    found |= more
    return {
        "points": [list(point) for point in POINTS],
        "recipes": {
            recipe: statistics.fmean(correct.count("1") / len(correct) for correct in one)
            for recipe, one in found.items()
        },
        "each": {recipe: [correct.count("1") / len(correct) for correct in one] for recipe, one in found.items()},
        "model_steps": steps * len(POINTS) * len(RECIPES),
        "seconds": {
            "training": first.seconds + second.seconds,
            "evaluation": first.other_seconds + second.other_seconds,
        },
    }
