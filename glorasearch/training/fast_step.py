"""The fast training step: `glorasearch.fused` under the trainer's interface."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from glorasearch.errors import ConfigError, GlorasearchError, RunError, first_line
from glorasearch.fused import FusedStep, StepConfig, UnfusableError, pool_of
from glorasearch.supernet import Supernet
from glorasearch.training.communicator import Communicator
from glorasearch.training.config import TrainingConfig
from glorasearch.training.plain_step import PlainStep
from glorasearch.training.sampling import SampledSubnet, SamplingStrategy
from glorasearch.training.step import RankBatch, Step, drop_probabilities, model_randomness

_log = logging.getLogger(__name__)


def check_covered(supernet: Supernet, config: TrainingConfig) -> None:
    """Raise `UnfusableError` unless the fused step covers model, space and recipe."""
    if config.dropout:
        raise UnfusableError("the fused step has no dropout of hidden units")
    pool_of(supernet)


class FastStep(Step):
    """The fused step, compiled and captured; if that fails in the first step, the plain step, with a warning."""

    def __init__(
        self,
        supernet: Supernet,
        plain: PlainStep,
        peaks: Mapping[str, float],
        strategy: SamplingStrategy,
        config: TrainingConfig,
        *,
        strict: bool,
    ) -> None:
        """Fuse the step of which `plain` is the fallback.

        Args:
            supernet: what is trained.
            plain: the fallback; it says whether the step runs in bfloat16, and what weights classes have in the loss.
            peaks: the peak learning rates by group.
            strategy: how many subnets a step has, and which of them are distilled.
            config: the recipe.
            strict: raise if the model cannot be compiled, in place of falling back.

        Raises:
            ConfigError: if `strict` and the fused step does not cover the model or the space.
        """
        self._plain, self._peaks, self._seed, self._strict = plain, peaks, config.seed, strict
        self._drops = bool(drop_probabilities(supernet))
        self._distilled = tuple(each.distilled for each in strategy.sample(0))
        self._proven = False
        self._fused: FusedStep | None = None
        fused = StepConfig(
            paths=self._distilled,
            clip_norm=config.clip_norm,
            weight_decay=config.weight_decay,
            dtype=torch.bfloat16 if plain.mixed else torch.float32,
        )
        try:
            check_covered(supernet, config)
            loss = partial(plain.task.subnet_loss, smoothing=config.label_smoothing, weights=plain.class_weights)
            self._fused = FusedStep(supernet, fused, loss=loss, teacher=plain.task.teacher_of)
        except UnfusableError as error:
            if strict:
                raise ConfigError(f"{error}; set compile to auto or off") from error
            _log.warning("%s: training uses the plain step", error)

    def run(
        self, number: int, sampled: Sequence[SampledSubnet], images: Tensor, labels: Tensor, lr_scale: float
    ) -> Tensor:
        """See `Step.run`; the model's own randomness is the same for all subnets of a step.

        Raises:
            ValueError: if the strategy distils other subnets than in the first step.
        """
        self._check(sampled)
        if self._fused is not None:
            try:
                with model_randomness(self._drops, self._seed, number, 0, images.device):
                    subnets = [each.subnet for each in sampled]
                    result = self._fused.run(subnets, images, labels, self._rates(lr_scale))
                self._proven = True
                return result
            except (GlorasearchError, torch.OutOfMemoryError):
                raise
            except Exception as error:  # compilation and capture fail in many ways, all of them in the first step
                if self._strict or self._proven:
                    raise
                done = self._fall_back(self._fused, first_line(error))
                if done is not None:
                    return done
        return self._plain.run(number, sampled, images, labels, lr_scale)

    def run_ranks(
        self, number: int, batches: Sequence[RankBatch], communicator: Communicator, lr_scale: float
    ) -> Tensor:
        """See `Step.run_ranks`; the first step shows whether every process can compile and capture the model.

        Raises:
            ValueError: if the strategy distils other subnets than in the first step.
            RunError: if the optimiser's part of the step cannot be compiled and captured.
        """
        for batch in batches:
            self._check(batch.sampled)
        proven, self._proven = self._proven, True
        rows: Tensor | None = None
        if self._fused is not None:
            try:
                rows = torch.stack([self._gradient(self._fused, number, batch) for batch in batches])
            except (GlorasearchError, torch.OutOfMemoryError):
                raise
            except Exception as error:  # compilation and capture fail in many ways, all of them in the first step
                if self._strict or proven:
                    raise
                self._fall_back(self._fused, first_line(error))
        if not proven:
            failed = torch.tensor([[float(rows is None)]] * len(batches), device=batches[0].images.device)
            if float(communicator.sum(failed)) > 0 and self._fused is not None:
                self._fall_back(self._fused, "another process of this training cannot")
        if self._fused is None or rows is None:
            return self._plain.run_ranks(number, batches, communicator, lr_scale)
        mean = communicator.sum(rows) / (len(batches) * communicator.size)
        try:
            return self._fused.move(mean, self._rates(lr_scale))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            raise RunError(f"the optimiser's step cannot be compiled here ({error}); set compile to off") from error

    def recompute(self) -> None:
        """See `Step.recompute`; a model that drops at random takes the plain step then.

        Raises:
            ConfigError: if it does, and the fast step is asked for.
        """
        self._plain.recompute()
        if self._fused is None:
            return
        if not self._drops:
            self._fused.recompute()
            return
        reason = "what drops at random is not computed again in a captured step"
        if self._strict:
            raise ConfigError(f"{reason}; set compile to auto or off, or train.recompute to off")
        self._fall_back(self._fused, reason)

    def forget(self, names: Sequence[str]) -> None:
        """See `Step.forget`."""
        if self._fused is None:
            self._plain.forget(names)
        else:
            self._fused.optimizer.forget(names)

    def state(self) -> dict[str, Tensor]:
        """See `Step.state`."""
        return self._plain.state() if self._fused is None else self._fused.optimizer.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """See `Step.load_state`."""
        if self._fused is None:
            self._plain.load_state(state)
        else:
            self._fused.optimizer.load_state(state)

    def _check(self, sampled: Sequence[SampledSubnet]) -> None:
        if tuple(each.distilled for each in sampled) != self._distilled:
            raise ValueError("the fused step was built for other subnets: which ones are distilled may not change")

    def _fall_back(self, fused: FusedStep, reason: str) -> Tensor | None:
        """Switch to the plain step; returns the step's result if it was completed before the capture failed."""
        _log.warning("this model cannot be compiled and captured here (%s): training uses the plain step", reason)
        self._plain.load_state(fused.optimizer.state())
        self._fused = None
        return fused.result.clone() if fused.steps_done else None

    def _gradient(self, fused: FusedStep, number: int, batch: RankBatch) -> Tensor:
        with model_randomness(self._drops, self._seed, number, 0, batch.images.device, batch.rank):
            return fused.gradient([each.subnet for each in batch.sampled], batch.images, batch.labels)

    def _rates(self, lr_scale: float) -> dict[str, float]:
        return {group: peak * lr_scale for group, peak in self._peaks.items()}
