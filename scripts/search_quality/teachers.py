"""Which teachers make the best student, and does a search find any? For one task of the suite, with a seed for tuning.

    python scripts/search_quality/teachers.py OUT.json --backbone SUITE/backbone --tasks SUITE/tasks.npz --task count

Runs the arms `evolution` and `race_only` up to their races, keeps what every model answered out of fold, trains each
candidate that was judged on all folds twice on train + search as a teacher (the best two of each race four times), and
tests ensembles of them, and students that learn from these. 10 minutes on a GPU at most; `--quick` proves the path.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from suite_parts.lab import Folders, Lab  # noqa: E402
from suite_parts.product import run_of  # noqa: E402
from suite_parts.settings import QUICK, Settings, backbone_digest  # noqa: E402
from suite_parts.tasks import Tasks  # noqa: E402
from suite_parts.units import Unit  # noqa: E402

from glorasearch.data import load_splits  # noqa: E402
from glorasearch.runs import race_stacks  # noqa: E402
from glorasearch.runs.pipeline import run_stages  # noqa: E402
from glorasearch.runs.race_images import race_folds  # noqa: E402
from glorasearch.runs.results import Pick, RaceCandidate, RaceResult  # noqa: E402
from glorasearch.runs.session import Session  # noqa: E402
from glorasearch.runs.teachers import Mixture, Teacher, _recipe, choose_teachers, member_of, recipe_of  # noqa: E402
from glorasearch.space import Subnet  # noqa: E402
from glorasearch.stacked import Member, MixedImages, StackedTrainer, stack_size  # noqa: E402

ORDERS, CHOSEN, SEEDS = 2, 8, 2


class Key(NamedTuple):
    """A candidate, in either race."""

    digest: str
    rate: float


@contextmanager
def out_of_fold() -> Iterator[dict[tuple[str, float, int], Tensor]]:
    """What every model of the races inside answers on the fold that it has not seen, by subnet, own rate and fold."""
    found: dict[tuple[str, float, int], Tensor] = {}
    train, score = race_stacks.StackMaker._train, race_stacks._score

    def keeping(self: Any, specs: Any, **options: Any) -> Any:
        answers: list[Tensor] = []

        def keep(logits: Tensor, labels: Tensor, finite: bool) -> Any:
            answers.append(logits.clone())
            return score(logits, labels, finite)

        race_stacks._score = keep
        try:
            outcome = train(self, specs, **options)
        finally:
            race_stacks._score = score
        for spec, logits in zip(specs, answers, strict=True):
            found[Subnet.from_dict(spec.subnet).digest, spec.config.lr, spec.fold] = logits
        return outcome

    race_stacks.StackMaker._train = keeping  # type: ignore[method-assign]
    try:
        yield found
    finally:
        race_stacks.StackMaker._train = train  # type: ignore[method-assign]


def finalists(race: RaceResult) -> list[RaceCandidate]:
    """Those that were judged on all folds, the best first."""
    folds = race.candidates[0].last.folds
    return [one for one in race.candidates if one.last.folds == folds and one.last.beta is not None]


def key_of(candidate: RaceCandidate) -> Key:
    assert candidate.rate is not None
    return Key(candidate.digest, candidate.rate)


def beta(candidate: RaceCandidate) -> float:
    return min(1.0, candidate.last.beta or 1.0)


def greedy(pool: Sequence[RaceCandidate], answers: dict[Key, Tensor], labels: Tensor, count: int) -> dict[Key, float]:
    """Ensemble selection with replacement (Caruana et al. 2004), by the cross-entropy of the mean out of fold."""
    probabilities = {key_of(one): (beta(one) * answers[key_of(one)].double()).softmax(-1) for one in pool}
    chosen: dict[Key, float] = {}
    total = torch.zeros_like(next(iter(probabilities.values())))
    for number in range(count):

        def loss(key: Key) -> float:
            mean = (total + probabilities[key]) / (number + 1)  # noqa: B023
            return float(-mean.gather(1, labels[:, None]).clamp_min(1e-12).log().mean())

        best = min(probabilities, key=loss)
        total = total + probabilities[best]
        chosen[best] = chosen.get(best, 0.0) + 1.0
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--tasks", type=Path, required=True)
    parser.add_argument("--task", required=True)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:.0f}s] {text}", flush=True)

    quick: dict[str, Any] = dict(QUICK) if options.quick else {}
    backbone = f"local-dir:{Path(options.backbone).resolve()}"
    tasks = Tasks(options.tasks.resolve(), options.work)
    settings = Settings(
        backbone=backbone, backbone_digest=backbone_digest(backbone), task_digests={}, device=options.device,
        budget="lora16", **quick,
    )  # fmt: skip
    lab = Lab(settings, Folders(options.work.resolve()), tasks, 4 if options.device == "cuda" else 2)
    sessions: dict[str, Session] = {}
    with out_of_fold() as answers:
        for arm in ("evolution", "race_only"):
            session = run_of(lab, Unit(options.task, options.seed, arm)).session()
            for command in ("train", "search", "race"):
                run_stages(session, command)
            sessions[arm] = session
            say(f"{arm}: {session.require(RaceResult).verdict()}")
    races = {arm: session.require(RaceResult) for arm, session in sessions.items()}
    session = sessions["evolution"]
    section, config = session.config.refit, session.config
    split = session.data.train_and_search()
    labels, folds = split.labels, torch.from_numpy(race_folds(split, config.race.folds, config.seed))
    test = load_splits(config.data, split.spec).test

    pools = {arm: finalists(race) for arm, race in races.items()}
    unseen: dict[Key, Tensor] = {}
    for arm, pool in pools.items():
        for one in pool:
            own = sessions[arm].training.for_one_subnet(steps=1, lr=one.rate)
            lr = sessions[arm].stored.spaces[one.space_key].recipe.apply(own).lr
            whole = torch.zeros(len(labels), session.data.classes)
            for fold in range(config.race.folds):
                whole[folds == fold] = answers[one.digest, lr, fold]
            unseen[key_of(one)] = whole

    # Teachers
    wanted: dict[tuple[Key, int], tuple[Session, Teacher]] = {}
    for arm, pool in pools.items():
        own_session = sessions[arm]
        chosen = [Teacher(one, order) for one in pool for order in range(ORDERS)]
        chosen += choose_teachers(races[arm], section.teachers, section.orders)
        for teacher in chosen:
            wanted.setdefault((key_of(teacher.candidate), teacher.order), (own_session, teacher))
    mixture = Mixture.draw(split, section.mixed, config.seed)
    body = session.fresh_backbone(drop_path=section.teacher_drop_path)
    every = torch.arange(len(split))
    members = [member_of(own, body, Pick.of(one.candidate), _recipe(own, one), every) for own, one in wanted.values()]
    size = stack_size(body, members, session.device)
    on_mixture, on_test = [], []
    for first in range(0, len(members), size):
        trainer = StackedTrainer(body, members[first : first + size], split, device=session.device)
        trainer.run()
        parts = [trainer.logits(mixture, part) for part in torch.arange(len(mixture)).split(2_048)]  # type: ignore[no-untyped-call]
        on_mixture.append(torch.cat(parts, 1))
        on_test.append(trainer.logits(test, torch.arange(len(test))))
        say(f"{len(members)} teachers, {size} at a time: {first + len(members[first : first + size])} trained")
    teachers = dict(zip(wanted, zip(torch.cat(on_mixture), torch.cat(on_test), strict=True), strict=True))
    betas = {key_of(one): beta(one) for pool in pools.values() for one in pool}

    def model_weights(candidates: dict[Key, float], orders: int) -> dict[tuple[Key, int], float]:
        found: dict[tuple[Key, int], float] = {}
        for key, weight in candidates.items():
            able = [place for place in teachers if place[0] == key][:orders]
            found |= {place: weight / len(able) for place in able}
        return found

    def names(pool: Sequence[RaceCandidate]) -> list[RaceCandidate]:
        return list({one.name: one for one in reversed(pool)}.values())[::-1]

    schemes: dict[str, dict[tuple[Key, int], float]] = {}
    for arm, pool in pools.items():
        now = [key_of(one.candidate) for one in choose_teachers(races[arm], section.teachers, section.orders)]
        distinct = [key_of(one) for one in names(pool)]
        schemes[f"{arm}: now"] = model_weights(dict.fromkeys(now, 1.0), section.orders)
        schemes[f"{arm}: 4 x 2"] = model_weights(dict.fromkeys(distinct[:4], 1.0), 2)
        schemes[f"{arm}: 8 x 1"] = model_weights(dict.fromkeys(map(key_of, pool), 1.0), 1)
        schemes[f"{arm}: 8 x 2"] = model_weights(dict.fromkeys(map(key_of, pool), 1.0), 2)
        schemes[f"{arm}: greedy"] = model_weights(greedy(pool, unseen, labels, CHOSEN), 4)
    both = {key_of(one): one for pool in pools.values() for one in pool}
    schemes["both: all x 2"] = model_weights(dict.fromkeys(both, 1.0), 2)

    def ensemble(weights: dict[tuple[Key, int], float], which: int) -> Tensor:
        parts = [
            weight * (betas[place[0]] * teachers[place][which].double()).softmax(-1)
            for place, weight in weights.items()
        ]
        return (torch.stack(parts).sum(0) / sum(weights.values())).float()

    def accuracy(scores: Tensor) -> float:
        return float((scores.argmax(-1) == test.labels).double().mean())

    content: dict[str, Any] = {
        "task": options.task,
        "seed": options.seed,
        "candidates": {
            arm: [
                {
                    "name": one.name, "kind": one.kind, "rate": one.rate, "parameters": one.parameters,
                    "accuracy": one.last.accuracy, "tempered": one.last.tempered,
                    "teachers": [accuracy(teachers[place][1]) for place in teachers if place[0] == key_of(one)],
                }
                for one in pool
            ]
            for arm, pool in pools.items()
        },
        "ensembles": {name: accuracy(ensemble(weights, 1)) for name, weights in schemes.items()},
        "weights": {
            name: {f"{both[key].label} #{order}": weight for (key, order), weight in weights.items()}
            for name, weights in schemes.items()
        },
        "seconds": time.monotonic() - began,
    }  # fmt: skip
    options.out.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    np.savez(
        options.out.with_suffix(".npz"),
        labels=labels.numpy(), test_labels=test.labels.numpy(),
        unseen=np.stack([unseen[key].numpy() for key in both]),
        test=np.stack([one[1].numpy() for one in teachers.values()]).astype(np.float16),
        keys=np.array([f"{both[key].label} #{order}" for key, order in teachers]),
        unseen_keys=np.array([one.label for one in both.values()]),
        betas=np.array([betas[key] for key in both]),
    )  # fmt: skip
    say(json.dumps(content["ensembles"]))

    # Students
    picks = {arm: (sessions[arm], Pick.of(races[arm].candidates[0])) for arm in sessions}
    plan = [
        (scheme, arm)
        for scheme in schemes
        for arm in (("evolution", "race_only") if scheme == "evolution: greedy" else (scheme.partition(":")[0],))
        if arm in picks and not scheme.endswith("8 x 1")
    ] + [("both: all x 2", "evolution")]
    targets, students = [], []
    for number, (scheme, arm) in enumerate(plan):
        targets.append(ensemble(schemes[scheme], 0))
        home, pick = picks[arm]
        recipe = recipe_of(home, pick, section.steps)
        own_images = torch.arange(number * len(mixture), (number + 1) * len(mixture))
        students += [
            member_of(home, body, pick, recipe.replace(seed=recipe.seed + 100 * seed), own_images)
            for seed in range(SEEDS)
        ]
    plain = session.fresh_backbone(drop_path=max(student.config.drop_path for student in students))
    count = len(plan)
    mixed = MixedImages(
        first=mixture.first.repeat(count), second=mixture.second.repeat(count), share=mixture.share.repeat(count),
        targets=torch.cat(targets),
    )  # fmt: skip
    size, results = stack_size(plain, students, session.device), []
    for first in range(0, len(students), size):
        stack: list[Member] = students[first : first + size]
        trainer = StackedTrainer(plain, stack, split, device=session.device, targets=mixed)
        trainer.run()
        results += [accuracy(logits) for logits in trainer.logits(test, torch.arange(len(test)))]
        say(f"{len(results)} of {len(students)} students trained")

    content["students"] = [
        {"scheme": scheme, "pick": arm, "accuracies": results[SEEDS * number : SEEDS * (number + 1)]}
        for number, (scheme, arm) in enumerate(plan)
    ]
    content["seconds"] = time.monotonic() - began
    options.out.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    for row in content["students"]:
        say(f"{row['scheme']} -> {row['pick']}: {row['accuracies']}")


if __name__ == "__main__":
    main()
