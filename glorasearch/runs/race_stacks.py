"""Stacks of a race: models trained together, each on all images but those of its fold, and judged on these."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from glorasearch.adapters import adaptable_layers
from glorasearch.backbone import BackboneConfig, build_backbone
from glorasearch.code_cache import keep_code
from glorasearch.config import Compile, Config
from glorasearch.data import DataConfig, InputSpec, TrainSplit, load_search_data
from glorasearch.errors import RunError
from glorasearch.evaluation.class_metrics import area_under_curve, device_counts
from glorasearch.evaluation.scoring import PendingSums, device_sums
from glorasearch.race import OF_CLASSES, FoldScore, Judge
from glorasearch.runs.memory import free_steps, in_halves
from glorasearch.runs.race_images import RaceImages
from glorasearch.space import BoundSpace, LayerShape, SearchSpace, Subnet
from glorasearch.space.score import BETAS
from glorasearch.stacked import Member, Order, StackedTrainer, Supernets, takes_turns
from glorasearch.training import TrainingConfig
from glorasearch.training.build import prepare_process
from glorasearch.weights import WeightStore


class MemberSpec(Config):
    """One training of a race, as JSON."""

    space: SearchSpace
    subnet: dict[str, dict[str, str]]
    config: TrainingConfig
    fold: int
    inherited: bool = False
    """Start from the supernet's weights."""


@dataclass(frozen=True)
class StackOutcome:
    """What a stack found."""

    scores: tuple[FoldScore, ...]
    """Of its members, in their order."""
    seconds: float


class StackMaker:
    """Trains stacks on one backbone and one set of images.

    Args:
        build: the backbone, with a drop path.
        images: of the race.
        device: where to train.
        compile: as for `StackedTrainer`.
        start: the supernet's adapter state, for members that start from it.
        judge: of the race; a metric that takes classes alike needs more than others.
    """

    def __init__(
        self,
        build: Callable[[float], nn.Module],
        images: RaceImages,
        *,
        device: str,
        compile: Compile,
        start: Callable[[], Mapping[str, Tensor]],
        judge: Judge = "accuracy",
    ) -> None:
        self._judge: Judge = judge
        self._build, self.images, self._device, self._compile, self._start = build, images, device, compile, start
        self._supernets: dict[float, Supernets] = {}
        self._layers: list[LayerShape] = []
        self._bound: list[tuple[SearchSpace, BoundSpace]] = []

    def supernets(self, members: Sequence[MemberSpec]) -> Supernets:
        """Those on the backbone with the largest drop path of some members."""
        largest = max(member.config.drop_path for member in members)
        if largest not in self._supernets:
            self._supernets[largest] = Supernets(self._build(largest))
        return self._supernets[largest]

    def members(self, specs: Sequence[MemberSpec]) -> list[Member]:
        """What a `StackedTrainer` takes."""
        backbone = self.supernets(specs).backbone
        return [
            Member(
                space=self._bind(spec.space, backbone),
                subnet=Subnet.from_dict(spec.subnet),
                config=spec.config,
                images=torch.from_numpy(np.flatnonzero(self.images.folds != spec.fold)),
                start=self._inherited if spec.inherited else None,
            )
            for spec in specs
        ]

    def takes_turns(self, specs: Sequence[MemberSpec], device: str) -> bool:
        """Whether a stack of these takes turns on such a device (`glorasearch.stacked`)."""
        order = Order(
            supernets=self.supernets(specs),
            members=self.members(specs),
            data=self.images.split,
            device=torch.device(device),
            compile=self._compile,
        )
        return takes_turns(order)

    def _bind(self, space: SearchSpace, backbone: nn.Module) -> BoundSpace:
        """A space on the backbone's layers, which are the same with any drop path: bound once."""
        for known, bound in self._bound:
            if known is space or known == space:
                return bound
        self._layers = self._layers or list(adaptable_layers(backbone))
        self._bound.append((space, bound := space.bind(self._layers)))
        return bound

    @cached_property
    def _inherited(self) -> Mapping[str, Tensor]:
        """What members start from that do not start afresh: read and verified once."""
        return self._start()

    def train(
        self,
        specs: Sequence[MemberSpec],
        *,
        checkpoint: Path | None = None,
        on_step: Callable[[int], None] | None = None,
    ) -> StackOutcome:
        """Train a stack, from its checkpoint if there is one, and judge its members out of fold.

        What does not fit into a GPU's memory is trained in halves, without checkpoints.
        """

        def work(part: Sequence[MemberSpec]) -> StackOutcome:
            whole = len(part) == len(specs)
            return self._train(part, checkpoint=checkpoint if whole else None, on_step=on_step if whole else None)

        found = [outcome for _, outcome in in_halves(work, specs, "set a smaller race.stack")]
        scores = tuple(score for outcome in found for score in outcome.scores)
        return StackOutcome(scores, sum(outcome.seconds for outcome in found))

    def _train(
        self, specs: Sequence[MemberSpec], *, checkpoint: Path | None, on_step: Callable[[int], None] | None
    ) -> StackOutcome:
        trainer = StackedTrainer(
            self.supernets(specs),
            self.members(specs),
            self.images.split,
            device=self._device,
            compile=self._compile,
            checkpoint=checkpoint,
            on_step=on_step,
        )
        done = trainer.run()
        chosen = [torch.from_numpy(self._judging(spec.fold)) for spec in specs]
        widest = max(len(positions) for positions in chosen)
        padded = torch.stack([torch.cat([one, one.new_zeros(widest - len(one))]) for one in chosen])
        logits = trainer.logits(self.images.split, padded) if widest else torch.zeros(len(specs), 0, 1)
        del trainer
        free_steps(self._device)
        scores = tuple(
            _score(own[: len(positions)], self.images.split, positions, bool(finite), self._judge)
            for own, positions, finite in zip(logits, chosen, done.finite, strict=True)
        )
        return StackOutcome(scores, done.seconds)

    def _judging(self, fold: int) -> NDArray[np.int64]:
        """The positions that judge the models of a fold."""
        return np.flatnonzero((self.images.folds == fold) & self.images.judging)


def _score(logits: Tensor, split: TrainSplit, positions: Tensor, finite: bool, judge: Judge) -> FoldScore:
    """Of logits `(n, outputs)` of images at positions `(n,)`; nothing is right of a training that diverged."""
    labels, task = split.labels[positions], split.task
    if not finite or not bool(torch.isfinite(logits).all()):
        return FoldScore(len(labels), 0, None)
    if not len(labels):
        return FoldScore(0, 0, (0.0,) * (len(BETAS) if task.right_or_wrong else 1))
    sums = PendingSums(device_sums(logits, labels, task)).wait()
    if not task.right_or_wrong:
        return FoldScore(len(labels), 0, (sums.cross_entropy,))
    counts = (
        device_counts(logits, labels).view(3, -1).int().tolist() if judge in OF_CLASSES and judge != "auc" else None
    )
    area = area_under_curve(logits, labels) if judge == "auc" else math.nan
    return FoldScore(
        len(labels),
        sums.correct,
        tuple(sums.nats),
        None if counts is None else tuple(map(tuple, counts)),
        area if math.isfinite(area) else None,
    )


class RaceTask(Config):
    """Some stacks of a race, as JSON, for a process that has nothing yet."""

    backbone: BackboneConfig
    classes: int
    data: DataConfig
    stacks: tuple[tuple[MemberSpec, ...], ...]
    folds: int
    seed: int
    """Of the run."""
    search_only: bool
    judge: Judge = "accuracy"
    split: str
    """Digest of train + search, which must be found here."""
    store: str
    weights: str | None
    """Digest of the supernet's weights, for members that start from them."""
    device: str
    compile: Compile
    code_cache: str | None = None
    """Folder of compiled code; None keeps none."""
    threads: int | None
    torch: str
    """Version of torch, on which the numbers depend."""

    def to_json(self) -> dict[str, Any]:
        """As a dictionary of JSON values."""
        return self.model_dump(mode="json")


def run_task(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Train the stacks of a `RaceTask`, given as JSON, and return their outcomes as JSON.

    Raises:
        RunError: if this machine has another version of torch, or other images.
    """
    task = RaceTask.model_validate_json(json.dumps(content))
    prepare_process(task.torch, task.threads)
    plugins = {path for stack in task.stacks for member in stack for path in member.space.plugins}
    keep_code(task.code_cache, task.device, task.compile, plugins)

    def build(drop_path: float) -> nn.Module:
        return build_backbone(task.backbone, task.classes, drop_path=drop_path, seed=task.seed).to(task.device)

    crops = any(member.config.augmentation.crops for stack in task.stacks for member in stack)
    data = load_search_data(task.data, InputSpec.from_backbone(build(0.0)), crops=crops)
    images = RaceImages.of(data, task.folds, task.seed, search_only=task.search_only)
    if images.split.digest != task.split:
        raise RunError(
            "this machine does not have the images that the run was started with: make sure that every machine finds "
            "the same files"
        )
    maker = StackMaker(
        build,
        images,
        device=task.device,
        compile=task.compile,
        start=lambda: WeightStore(task.store).get(str(task.weights)).tensors,
        judge=task.judge,
    )
    outcomes = [maker.train(stack) for stack in task.stacks]
    return [
        {"scores": [list(astuple(one)) for one in outcome.scores], "seconds": outcome.seconds} for outcome in outcomes
    ]


def outcome_from_json(content: Mapping[str, Any]) -> StackOutcome:
    """One of the outcomes that `run_task` returns."""
    scores = (
        FoldScore(
            images,
            correct,
            None if nats is None else tuple(nats),
            None if classes is None else tuple(map(tuple, classes)),
            auc,
        )
        for images, correct, nats, classes, auc in content["scores"]
    )
    return StackOutcome(tuple(scores), content["seconds"])
