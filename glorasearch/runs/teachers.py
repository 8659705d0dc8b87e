"""Distillation of the race's best into the pick: teachers, mixed images, and a student of them.

Teachers are the best candidates of different methods, each trained several times with another seed. Their mean
probabilities (of classes, or of each label) or numbers, each at the temperature of its candidate's out-of-fold fit but
never below 1, are what the student learns on mixed images (mixup, Zhang et al. 2018, with soft targets as in Beyer et
al. 2022) and on the originals.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from glorasearch.adapters import adaptable_layers
from glorasearch.data import TrainSplit
from glorasearch.errors import RunError
from glorasearch.identity import digest, identity
from glorasearch.race import member_seed
from glorasearch.runs.memory import free_steps, in_halves
from glorasearch.runs.refit_config import RefitConfig
from glorasearch.runs.results import (
    Pick,
    RaceCandidate,
    RaceResult,
    RefitResult,
    TeacherSummary,
    TrainResult,
    stage_name,
)
from glorasearch.runs.session import Session
from glorasearch.runs.training import keep
from glorasearch.stacked import Member, MixedImages, StackedTrainer, stack_size
from glorasearch.training import TrainingConfig
from glorasearch.weights import load_checkpoint, save_checkpoint

_log = logging.getLogger(__name__)
ASKED: Final = 2_048
"""Images whose answers are kept at once for all teachers."""
_MIXED_TAG: Final = 43
"""Seeds the mixed images, together with the run's seed."""


@dataclass(frozen=True)
class Teacher:
    """One training of a candidate."""

    candidate: RaceCandidate
    order: int
    """Which of the candidate's trainings; it seeds start and order of images."""


def choose_teachers(race: RaceResult, count: int, orders: int) -> list[Teacher]:
    """The best candidates of different names, `orders` times each; of one name only if there are too few others.

    Those that were judged on fewer folds, or that diverged, do not teach.
    """
    folds = race.candidates[0].last.folds
    able = [one for one in race.candidates if one.last.folds == folds and not one.last.diverged]
    first = {one.name: one for one in reversed(able)}
    ordered = [one for one in able if first[one.name] is one]
    ordered += [one for one in able if first[one.name] is not one]
    chosen = ordered[: max(1, count // orders)]
    return [Teacher(candidate, order) for candidate in chosen for order in range(orders)]


@dataclass(frozen=True)
class Mixture:
    """Pairs of images of a split, mixed; a split of its own for a model's forward pass."""

    split: TrainSplit
    first: Tensor
    second: Tensor
    share: Tensor

    @classmethod
    def draw(cls, split: TrainSplit, mixed: int, seed: int) -> Mixture:
        """`mixed` random pairs with shares from 0 to 1, then every image alone."""
        rng = np.random.default_rng([seed, _MIXED_TAG])
        count = len(split)
        first, second = rng.integers(count, size=(2, mixed))
        alone = np.arange(count)
        share = np.concatenate([rng.random(mixed), np.ones(count)])
        return cls(
            split,
            torch.from_numpy(np.concatenate([first, alone])),
            torch.from_numpy(np.concatenate([second, alone])),
            torch.from_numpy(share),
        )

    def __len__(self) -> int:
        return len(self.first)

    def batch(self, indices: Tensor, device: torch.device | str) -> tuple[Tensor, Tensor]:
        """Mixed images `(n, C, H, W)`, and the targets `(n, ...)` of the first of each pair."""
        first, labels = self.split.batch(self.first[indices], device)
        second, _ = self.split.batch(self.second[indices], device)
        share = self.share[indices].to(first).view(-1, 1, 1, 1)
        return share * first + (1 - share) * second, labels

    def with_targets(self, targets: Tensor) -> MixedImages:
        """With what is to be learnt on each."""
        return MixedImages(first=self.first, second=self.second, share=self.share, targets=targets)


def teach(session: Session) -> tuple[MixedImages, TeacherSummary]:
    """Train the teachers of a run, and ask them; their answers are kept, so that an interrupted refit goes on."""
    section, config = session.config.refit, session.config
    teachers = choose_teachers(session.require(RaceResult), section.teachers, section.orders)
    if not teachers:
        raise RunError(
            "everything that raced on all folds diverged: leave the highest of race.rates out, and start over with "
            "--fresh"
        )
    if len(teachers) < section.teachers:
        _log.warning("%s", too_few(section, len(teachers), config.race.folds))
    mixture = Mixture.draw(session.data.train_and_search(), section.mixed, config.seed)
    recipes = [_recipe(session, teacher) for teacher in teachers]
    key = digest({"teachers": [identity(recipe) for recipe in recipes], "split": mixture.split.digest})
    path = session.files.checkpoint(stage_name(RefitResult, "targets"))
    found = load_checkpoint(path)
    if found is None or found[1]["key"] != key:
        targets, seconds = _ask(session, teachers, recipes, mixture)
        save_checkpoint(path, {"targets": targets}, {"key": key, "seconds": seconds})
    else:
        targets, seconds = found[0]["targets"], float(found[1]["seconds"])
    summary = TeacherSummary(
        count=len(teachers),
        names=tuple(dict.fromkeys(teacher.candidate.label for teacher in teachers)),
        steps=sum(recipe.steps for recipe in recipes),
        seconds=seconds,
        mixed=section.mixed,
    )
    return mixture.with_targets(targets), summary


def too_few(section: RefitConfig, found: int, folds: int) -> str:
    """Says why there are fewer teachers than `refit.teachers`."""
    able = found // section.orders
    return (
        f"{found} models teach, not {section.teachers} as refit.teachers says: {able} candidate{'s' * (able > 1)} of "
        f"the race could be judged on all {folds} folds, and each teaches refit.orders = {section.orders} times; "
        "race.keep sets how many are"
    )


def _recipe(session: Session, teacher: Teacher) -> TrainingConfig:
    section, candidate = session.config.refit, teacher.candidate
    assert candidate.rate is not None
    config = recipe_of(session, Pick.of(candidate), section.steps_of_teachers, min(candidate.rate, section.teacher_lr))
    seed = member_seed(session.config.seed, f"{candidate.space_key} {candidate.digest}", f"teacher {teacher.order}")
    return config.replace(drop_path=section.teacher_drop_path, seed=seed, patience=0)


def recipe_of(session: Session, pick: Pick, steps: int, lr: float | None = None) -> TrainingConfig:
    """The run's recipe for a pick alone, at the race's rate unless another is given, with what its method wants."""
    rate = pick.rate if lr is None else lr
    config = session.config.refit.training(session.training, steps=steps, lr=rate)
    return session.stored.spaces[pick.space_key].recipe.apply(config)


def _ask(
    session: Session, teachers: Sequence[Teacher], recipes: Sequence[TrainingConfig], mixture: Mixture
) -> tuple[Tensor, float]:
    """The teachers' mean probabilities `(n, classes)` on mixed images, and the seconds of their trainings."""
    section = session.config.refit
    backbone = session.fresh_backbone(drop_path=section.teacher_drop_path)
    every = torch.arange(len(mixture.split))
    members = [
        member_of(session, backbone, Pick.of(teacher.candidate), recipe, every)
        for teacher, recipe in zip(teachers, recipes, strict=True)
    ]
    size = stack_size(backbone, members, session.device)
    probabilities = torch.zeros(len(mixture), session.data.classes, dtype=torch.float64)
    seconds, able, total = 0.0, 0, section.steps_of_teachers * len(members)
    with (
        session.progress.stage(stage_name(RefitResult, "teachers")),
        session.progress.task(f"{len(members)} teachers", total) as advance,
    ):

        def train(chosen: Sequence[int]) -> tuple[float, int, Tensor]:
            stage = stage_name(RefitResult, _part(chosen, len(members), size))
            trainer = StackedTrainer(
                backbone,
                [members[number] for number in chosen],
                mixture.split,
                device=session.device,
                compile=session.config.compile,
                checkpoint=session.files.checkpoint(stage),
                on_record=lambda row: keep(session, stage, row),
                on_step=lambda step: advance(section.steps_of_teachers * chosen[0] + step * len(chosen), ""),
            )
            done = trainer.run()
            answers = _answers(trainer, mixture, [_beta(teachers[number]) for number in chosen], done.finite)
            del trainer
            free_steps(session.device)
            return done.seconds, int(done.finite.sum()), answers

        for first in range(0, len(members), size):
            stack = range(first, min(first + size, len(members)))
            for _, (spent, finite, answers) in in_halves(train, stack, "set fewer refit.teachers"):
                seconds, able = seconds + spent, able + finite
                probabilities += answers
    if not able:
        raise RunError("all teachers diverged: lower refit.teacher_lr, or set refit.teachers = 0 for a plain refit")
    return (probabilities / able).float(), seconds


def _part(chosen: Sequence[int], members: int, size: int) -> str:
    """Names the checkpoint of a stack of teachers; that of a part of one says how many it has."""
    whole = len(chosen) == min(size, members - chosen[0])
    return f"teachers-{chosen[0]}" if whole else f"teachers-{chosen[0]}-of-{len(chosen)}"


def _beta(teacher: Teacher) -> float:
    """The inverse temperature of its candidate, at most 1: a teacher's answers are softened, never sharpened. Numbers
    have none: they stay.

    The fits were 0.3 to 0.8 in our measurements (`docs/search-quality-notes.md`); none above 1 was tried.
    """
    beta = teacher.candidate.last.beta
    return 1.0 if beta is None else min(beta, 1.0)


def _answers(trainer: StackedTrainer, mixture: Mixture, betas: Sequence[float], finite: Tensor) -> Tensor:
    """`(n, classes)` float64: the sum of the probabilities of the members that are finite, each at its temperature.

    `betas` are the inverse temperatures.
    """
    parts = []
    scale = torch.tensor(betas, dtype=torch.float64)[finite, None, None]
    for positions in torch.arange(len(mixture)).split(ASKED):  # type: ignore[no-untyped-call]
        logits = trainer.logits(mixture, positions)[finite].double()
        parts.append(mixture.split.task.probabilities(logits * scale).sum(0))
    return torch.cat(parts)


def member_of(session: Session, backbone: nn.Module, pick: Pick, recipe: TrainingConfig, images: Tensor) -> Member:
    """A model of a stack, from the start that it raced from."""
    space = session.stored.spaces[pick.space_key].bind(adaptable_layers(backbone))
    start = session.store.get(session.verify(TrainResult)).tensors if pick.start == "inherited" else None
    return Member(space=space, subnet=pick.subnet, config=recipe, images=images, start=start)
