"""Early stopping: a training is judged on images of its own split that it does not learn from, and ends when it stalls.

Never on the search split: a stop that is chosen by it would make the scores there too good, and these are compared.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glorasearch.data import TrainSplit
from glorasearch.errors import ConfigError
from glorasearch.space import Subnet, sample_within_budget
from glorasearch.space.early_stopping import UNIT
from glorasearch.space.score import BETAS
from glorasearch.supernet import Supernet
from glorasearch.training.communicator import Communicator
from glorasearch.training.config import TrainingConfig
from glorasearch.training.sampling import Fixed, SamplingStrategy, Sandwich, Uniform, step_generator

_TAG: Final = 71
"""Seeds the choice of images and subnets, together with the training's seed."""
SUBNETS: Final = 8
"""Random subnets by which a supernet is judged."""
BATCH: Final = 256
"""Images that are judged at once."""


def hold_out(data: TrainSplit, config: TrainingConfig) -> tuple[TrainSplit, TrainSplit | None]:
    """The images to learn from, and those to judge by; None and all of them to learn from if there is no patience.

    Of every class `config.patience_share` is held out, to one image, and never all. Equal images stay together. Where
    all classes are too small for an image of their own, as many classes as make up the share give one.

    Raises:
        ConfigError: if no class has two different images, or the share is less than half an image.
    """
    if not config.patience:
        return data, None
    rng = step_generator(config.seed, 0, _TAG)
    first, labels = np.array(data.first_equals()), data.task.strata(data.labels.cpu().numpy())
    held = np.zeros(len(data), dtype=bool)
    groups = [np.unique(first[labels[first] == label]) for label in np.unique(labels[first])]
    for own in groups:
        held[rng.permutation(own)[: min(len(own) - 1, _share(len(own), config))]] = True
    if not held.any():
        give = [own for own in groups if len(own) > 1]
        for number in rng.permutation(len(give))[: _share(sum(map(len, groups)), config)]:
            held[rng.choice(give[number])] = True
        if not held.any():
            raise _none_held(groups, config)
    held = held[first]
    learnt, judged = (data.chosen(torch.from_numpy(np.flatnonzero(which))) for which in (~held, held))
    return learnt, judged


def _share(images: int, config: TrainingConfig) -> int:
    """How many of so many images judge."""
    return math.floor(images * config.patience_share + 0.5)


def _none_held(groups: Sequence[npt.NDArray[np.int64]], config: TrainingConfig) -> ConfigError:
    """The error where no image judges, of these different images by class."""
    without = "leave patience out (train.patience = 0)"
    if all(len(own) < 2 for own in groups):
        return ConfigError(
            f"train.patience is {config.patience}, but no class has two different training images, one to learn from "
            f"and one to judge by: {without}"
        )
    images = sum(map(len, groups))
    return ConfigError(
        f"train.patience_share is {config.patience_share:g}, which is no image of {images} different ones: raise it, "
        f"or {without}"
    )


def judged_subnets(strategy: SamplingStrategy, seed: int) -> list[Subnet]:
    """The one subnet that is trained, or random ones within the budget: what a search draws from."""
    match strategy:
        case Fixed(subnet):
            return [subnet]
        case Uniform(space, _) | Sandwich(space, _, _):
            rng = step_generator(seed, 1, _TAG)
            return [sample_within_budget(space, rng) for _ in range(SUBNETS)]
    raise ConfigError(f"patience: a strategy of one's own, {type(strategy).__name__}, does not say what to judge")


class Patience:
    """Judges a training at regular steps, keeps its best weights, and says when it is over."""

    def __init__(
        self, judged: TrainSplit | None, strategy: SamplingStrategy, config: TrainingConfig, *, mixed: bool
    ) -> None:
        """Judge by these images; never without them. `mixed` runs the model under bfloat16 autocast."""
        self._judged, self._config, self._mixed = judged, config, mixed
        self._subnets = [] if judged is None else judged_subnets(strategy, config.seed)
        self._every = config.patience_every or max(1, config.steps // 20)
        self._best: dict[str, Tensor] = {}
        self._score, self._kept, self._stalled = math.inf, 0, 0

    @property
    def over(self) -> bool:
        """Whether so many checks have found nothing better that the training ends."""
        return self._judged is not None and self._stalled >= self._config.patience

    @property
    def kept_step(self) -> int | None:
        """The step whose weights are kept; None if nothing was judged."""
        return self._kept if self._best else None

    @property
    def images(self) -> int:
        """Images that judge."""
        return 0 if self._judged is None else len(self._judged)

    def due(self, done: int) -> bool:
        """Whether to check after so many steps."""
        return self._judged is not None and (done % self._every == 0 or done == self._config.steps)

    def check(self, done: int, supernet: Supernet, communicator: Communicator) -> float:
        """Judge the supernet after a step: its tempered cross-entropy, nats. The judge of process 0 is that of all."""
        score = self._measure(supernet) if communicator.process == 0 else math.nan
        (score,) = struct.unpack("<d", communicator.broadcast(struct.pack("<d", score)))
        if score < self._score:
            self._score, self._kept, self._stalled = score, done, 0
            self._best = {name: value.detach().clone() for name, value in supernet.adapter_state().items()}
        else:
            self._stalled += 1
        return float(score)

    def finish(self, supernet: Supernet) -> bool:
        """Give the supernet the best weights; whether there are any."""
        if self._best:
            supernet.load_adapter_state(self._best)
        return bool(self._best)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The best weights, and numbers as JSON; nothing without patience."""
        if self._judged is None:
            return {}, {}
        numbers = {"score": self._score if self._best else None, "kept": self._kept, "stalled": self._stalled}
        return self._best, {"patience": numbers, "over": self.over}

    def load_state(self, best: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Restore a copy of a result of `state`."""
        numbers = meta.get("patience")
        if self._judged is None or numbers is None:
            return
        self._best = {name: value.clone() for name, value in best.items()}
        self._score = math.inf if numbers["score"] is None else numbers["score"]
        self._kept, self._stalled = numbers["kept"], numbers["stalled"]

    @torch.no_grad()
    def _measure(self, supernet: Supernet) -> float:
        """The mean over the subnets, each at its own best temperature, in evaluation mode."""
        assert self._judged is not None
        training, device = supernet.training, next(supernet.parameters()).device
        supernet.eval()
        scores = [_tempered(self._losses(supernet, subnet, device)) for subnet in self._subnets]
        supernet.train(training)
        return sum(scores) / len(scores)

    def _losses(self, supernet: Supernet, subnet: Subnet, device: torch.device) -> Sequence[Tensor]:
        """For each batch the losses at each of `BETAS`, `(K, n)`."""
        assert self._judged is not None
        found, task = [], self._judged.task.trained_by(self._config.huber_delta)
        betas = torch.tensor(BETAS, dtype=torch.float64, device=device)
        for positions in torch.arange(len(self._judged)).split(BATCH):  # type: ignore[no-untyped-call]
            images, labels = self._judged.batch(positions, device)
            with supernet.activate(subnet), torch.autocast(device.type, torch.bfloat16, enabled=self._mixed):
                logits = supernet(images)
            found.append(task.tempered_losses(logits, labels, betas) * UNIT)
        return found


def _tempered(losses: Sequence[Tensor]) -> float:
    """The least of the means over all images."""
    return float(torch.cat(list(losses), dim=1).mean(1).min())
