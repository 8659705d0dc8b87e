"""The fast training step: `glorasearch.fused` under the trainer's interface."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from glorasearch.errors import ConfigError, GlorasearchError, RunError
from glorasearch.fused import FusedStep, StepConfig, UnfusableError
from glorasearch.supernet import Supernet
from glorasearch.training.losses import path_loss, teacher_of
from glorasearch.training.paths import Path
from glorasearch.training.plain_step import PlainStep, Share, Step
from glorasearch.training.randomness import drop_probabilities, model_randomness
from glorasearch.training.world import World

_log = logging.getLogger(__name__)


class FastStep(Step):
    """The fused step, compiled and captured; where that fails in its first step, the plain step with a warning."""

    def __init__(
        self,
        supernet: Supernet,
        plain: PlainStep,
        peaks: Mapping[str, float],
        config: StepConfig,
        *,
        label_smoothing: float,
        seed: int,
        strict: bool,
    ) -> None:
        """`peaks` are the learning rates by group; `strict` raises what keeps a model from being compiled."""
        self._plain, self._peaks, self._seed, self._strict = plain, peaks, seed, strict
        self._drops = bool(drop_probabilities(supernet))
        self._paths, self._proven = config.paths, False
        self._fused: FusedStep | None = None
        try:
            loss = partial(path_loss, smoothing=label_smoothing)
            self._fused = FusedStep(supernet, config, loss=loss, teacher=teacher_of)
        except UnfusableError as error:
            if strict:
                raise ConfigError(f"{error}; set compile to auto or off") from error
            _log.warning("%s: training goes on with the plain step", error)

    def run(self, number: int, paths: Sequence[Path], images: Tensor, labels: Tensor, factor: float) -> Tensor:
        """See `Step.run`; the model's own randomness is drawn once a step for all its paths.

        Raises:
            ValueError: if these paths are not distilled as those of the first step were.
        """
        self._check(paths)
        if self._fused is not None:
            try:
                result = self._run(self._fused, number, paths, images, labels, factor)
                self._proven = True
                return result
            except (GlorasearchError, torch.OutOfMemoryError):
                raise
            except Exception as error:  # compilers and captures fail in many ways, and all in the first step
                if self._strict or self._proven:
                    raise
                done = self._give_up(self._fused, error)
                if done is not None:
                    return done
        return self._plain.run(number, paths, images, labels, factor)

    def run_ranks(self, number: int, shares: Sequence[Share], world: World, factor: float) -> Tensor:
        """See `Step.run_ranks`; the first step shows whether the model can be compiled and captured in every process.

        Raises:
            ValueError: if these paths are not distilled as those of the first step were.
            RunError: if the optimiser's part of the step cannot be compiled and captured.
        """
        for share in shares:
            self._check(share.paths)
        proven, self._proven = self._proven, True
        rows: Tensor | None = None
        if self._fused is not None:
            try:
                rows = torch.stack([self._gradient(self._fused, number, share) for share in shares])
            except (GlorasearchError, torch.OutOfMemoryError):
                raise
            except Exception as error:  # compilers and captures fail in many ways, and all in the first step
                if self._strict or proven:
                    raise
                self._give_up(self._fused, error)
        if not proven:
            failed = torch.tensor([[float(rows is None)]] * len(shares), device=shares[0].images.device)
            if float(world.sum(failed)) > 0 and self._fused is not None:
                self._give_up(self._fused, RuntimeError("another process of this training cannot"))
        if self._fused is None or rows is None:
            return self._plain.run_ranks(number, shares, world, factor)
        mean = world.sum(rows) / (len(shares) * world.size)
        try:
            return self._fused.move(mean, self._rates(factor))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            raise RunError(f"the optimiser's step cannot be compiled here ({error}); set compile to off") from error

    def _check(self, paths: Sequence[Path]) -> None:
        if tuple(path.distilled for path in paths) != self._paths:
            raise ValueError("the fused step was made for other paths: a strategy has as many in every step")

    def _give_up(self, fused: FusedStep, error: Exception) -> Tensor | None:
        """Go over to the plain step; the result of the step if it was done before the capture failed."""
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        _log.warning(
            "this model cannot be compiled and captured here (%s): training goes on with the plain step", first
        )
        self._plain.load_state(fused.optimizer.state())
        self._fused = None
        return fused.result.clone() if fused.steps_done else None

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

    def _run(
        self, fused: FusedStep, number: int, paths: Sequence[Path], images: Tensor, labels: Tensor, factor: float
    ) -> Tensor:
        with model_randomness(self._drops, self._seed, number, 0, images.device):
            return fused.run([path.subnet for path in paths], images, labels, self._rates(factor))

    def _gradient(self, fused: FusedStep, number: int, share: Share) -> Tensor:
        with model_randomness(self._drops, self._seed, number, 0, share.images.device, share.rank):
            return fused.gradient([path.subnet for path in share.paths], share.images, share.labels)

    def _rates(self, factor: float) -> dict[str, float]:
        return {group: peak * factor for group, peak in self._peaks.items()}
