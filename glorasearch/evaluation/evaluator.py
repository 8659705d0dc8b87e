"""Scoring candidates: merged weights in one plain backbone, the plain forward on the search split."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import cached_property
from typing import Final, NamedTuple

import torch

from glorasearch.config import Compile, Precision
from glorasearch.data import SearchSplit
from glorasearch.errors import DataError, EvaluationError, GlorasearchError, reason
from glorasearch.evaluation.class_metrics import area_under_curve, device_counts
from glorasearch.evaluation.make_model import make_merged_model
from glorasearch.evaluation.scoring import Chunks, PendingSums, device_sums, hardest_first, natural_order
from glorasearch.space import EvaluationResult, EvaluationTask, Fitness, Score, StopThreshold, Subnet
from glorasearch.supernet import Supernet

CHUNK: Final = 25
"""Images scored between two checks of the threshold (`benchmarks/bench_early_stopping.py`)."""


class CandidateEvaluator:
    """Evaluates subnets of one supernet on the search split, and on no other.

    What is scored is what is exported: the merged model. One plain backbone stays in memory; a candidate's merged
    weights are written into the layers whose choices differ from the previous candidate's. So the weights are those of
    the supernet when the evaluator was made: after further training, make another evaluator or `refresh` it.

    Images are always scored in the same chunks of one size, so the scores of an image are the same bits with and
    without a stop threshold. (Measured on this project's CPUs, with 1 and 2 threads, for the quickstart's backbone and
    a ViT-Ti/16 at 224 pixels: an image's logits depend neither on the other images of its chunk, nor on its position in
    it, nor on the chunk's size.)
    """

    def __init__(
        self,
        supernet: Supernet,
        split: SearchSplit,
        *,
        device: torch.device | str = "cpu",
        batch_size: int | None = None,
        weights: str | None = None,
        hardest_first: bool = False,
        compile: Compile = "auto",
        precision: Precision = "auto",
    ) -> None:
        """Build the merged model. The supernet's weights must not change while it is in use, except before `refresh`.

        Args:
            supernet: holds the weights.
            split: the search split.
            device: where to evaluate.
            batch_size: images per chunk; `CHUNK` by default.
            weights: their digest in the weight store; tasks that name another digest are refused.
            hardest_first: score the images in the order that stops hopeless candidates soonest. Finding it costs the
                evaluation of a few candidates, before the first one.
            compile: on a GPU in bfloat16, whether the forward is compiled and captured (`make_merged_model`).
            precision: of the forward pass; `auto` is bfloat16 on GPUs.

        Raises:
            DataError: if the split is not a `SearchSplit`; in particular the test split is refused.
        """
        if not isinstance(split, SearchSplit):
            raise DataError(f"candidates are scored on the search split only, got a {type(split).__name__}")
        supernet.to(device).eval()
        self._space = supernet.space
        self._split, self._weights, self._hardest_first = split, weights, hardest_first
        self._size = batch_size or CHUNK
        spec = split.spec
        example = torch.zeros(min(self._size, len(split)), spec.channels, spec.height, spec.width, device=device)
        self.model = make_merged_model(supernet, device, example, compile=compile, precision=precision)
        """Holds one candidate at a time."""
        self._parsed: dict[str, Subnet] = {}
        self._started: _Started | None = None
        self._idle_since = 0.0
        """When the last result arrived: time spent on a candidate is not charged to the one queued behind it."""

    @property
    def ahead(self) -> bool:
        """Whether it pays to start the next candidate before the results of this one are handled."""
        return self.model.device.type == "cuda"

    @property
    def healthy(self) -> bool:
        """Whether the device still works: after some kernel errors a process cannot use its GPU any more."""
        if self.model.device.type != "cuda":
            return True
        try:
            torch.cuda.synchronize(self.model.device)
            return bool(torch.ones(1, device=self.model.device).sum() == 1)
        except torch.OutOfMemoryError:
            return True
        except RuntimeError:
            return False

    def refresh(self) -> None:
        """Take over the supernet's current weights."""
        self._started = None
        self.model.refresh()

    def prepare(self, task: EvaluationTask) -> None:
        """Prepare a task on the host while the device is busy; errors are raised when the task is evaluated."""
        if self._weights not in (None, task.weights_digest):
            return
        try:
            subnet = Subnet.from_json(task.subnet_json)
            self.model.prepare(subnet)
        except Exception:
            return
        self._parsed[task.subnet_digest] = subnet

    @torch.inference_mode()
    def start(self, task: EvaluationTask) -> None:
        """Queue a prepared task's first chunk on the device, without waiting for it."""
        subnet = self._parsed.get(task.subnet_digest)
        if self._started is None and subnet is not None:
            self._started = self._try_begin(subnet)

    def _try_begin(self, subnet: Subnet) -> _Started | None:
        """Begin ahead of time; an error is raised when this candidate is evaluated, not during another one."""
        try:
            return self._begin(subnet)
        except Exception:
            return None

    def _begin(self, subnet: Subnet) -> _Started:
        chunks = self.chunks
        began = time.perf_counter()
        self.model.write(subnet)
        return _Started(subnet, began, self.model.forward(chunks.first))

    def __call__(self, task: EvaluationTask) -> EvaluationResult:
        """Evaluate a task; a known error of a candidate is returned in its result, any other is raised."""
        parsed = self._parsed.pop(task.subnet_digest, None)
        if self._weights not in (None, task.weights_digest):
            mismatch = f"asked for weights {task.weights_digest[:12]}, this evaluator holds {str(self._weights)[:12]}"
            return EvaluationResult(task.subnet_digest, error=mismatch)
        try:
            subnet = parsed or Subnet.from_json(task.subnet_json)
            return EvaluationResult(task.subnet_digest, self.evaluate(subnet, task.threshold, task.metrics))
        except EvaluationError as error:
            return EvaluationResult.of_error(task, error, str(error))
        except (GlorasearchError, torch.OutOfMemoryError) as error:
            return EvaluationResult.of_error(task, error, f"{type(error).__name__}: {reason(error)}")

    @torch.inference_mode()
    def evaluate(
        self, subnet: Subnet, threshold: StopThreshold | None = None, metrics: Sequence[Fitness] = ()
    ) -> Score:
        """Score a subnet on the search split; with a threshold, stop once the subnet is certain to be worse.

        Args:
            subnet: what is scored.
            threshold: what it has to reach.
            metrics: of `CLASS_METRICS` those that the score is to have.

        Raises:
            SearchSpaceError: if the subnet is not of this space.
            EvaluationError: if a metric does not exist: an area under the curve if all images have one label.
        """
        if metrics and not self._split.task.exclusive:
            raise EvaluationError(f"{', '.join(metrics)}: {self._split.task.words.because}")
        chunks = self.chunks
        counted, ranked, numbers = bool(set(metrics) - {"auc"}), "auc" in metrics, not self._split.task.right_or_wrong
        outputs: list[torch.Tensor] = []
        started, self._started = self._started, None
        if started is None or started.subnet != subnet:
            started = self._begin(subnet)
        began = max(started.began, self._idle_since)
        found: torch.Tensor | None = None
        for index, images in enumerate(chunks):
            logits = self.model.forward(images) if index else started.logits
            labels = chunks.labels[index * chunks.size : (index + 1) * chunks.size]
            part = device_sums(logits[: len(labels)], labels, self._split.task)
            if counted:
                part = torch.cat([part, device_counts(logits[: len(labels)], labels)])
            if ranked:
                outputs.append(logits[: len(labels)].clone())
            found = part if found is None else found + part
            seen = index * chunks.size + len(labels)
            last = seen == chunks.images
            if threshold is None and not last:
                continue
            pending = PendingSums(found, chunks.by_class(logits.shape[1]) if counted else None)
            if last and self.ahead:
                self._begin_next(subnet)
            sums = pending.wait()
            if last and ranked and sums.finite:
                sums = sums._replace(auc=_area(torch.cat(outputs), chunks.labels))
            if last or threshold is None:
                return Score.of(sums, seen, seconds=self._seconds(began), numbers=numbers)
            bound = threshold.bound(sums, seen, chunks.images)
            if sums.finite and threshold.excludes(bound):
                return Score.of(
                    sums, chunks.images, seconds=self._seconds(began), bound=bound, seen=seen, numbers=numbers
                )
        raise AssertionError("the last chunk returns a result")

    def _begin_next(self, current: Subnet) -> None:
        """Queue the candidate that was prepared after this one behind it."""
        following = next((subnet for subnet in self._parsed.values() if subnet is not current), None)
        if following is not None:
            self._started = self._try_begin(following)

    def _seconds(self, began: float) -> float:
        self._idle_since = time.perf_counter()
        return self._idle_since - began

    @cached_property
    def order(self) -> torch.Tensor:
        """`(N,)` positions of the images in the split, in the order of scoring; may be set before the first use."""
        if self._hardest_first:
            return hardest_first(self.model, self._space, self._split, self._size)
        return natural_order(self._split)

    @cached_property
    def chunks(self) -> Chunks:
        """The images in this order, loaded when the first candidate is evaluated."""
        return Chunks(self._split, self._size, self.order, self.model.device, self.model.dtype)

    def warm_up(self) -> None:
        """Order and load the images now; otherwise the first candidate does."""
        with torch.inference_mode():
            _ = self.chunks.first


def _area(logits: torch.Tensor, labels: torch.Tensor) -> float:
    area = area_under_curve(logits, labels)
    if not math.isfinite(area):
        raise EvaluationError("there is no area under the curve: all images of the search split have one label")
    return area


class _Started(NamedTuple):
    """A candidate whose first chunk is queued."""

    subnet: Subnet
    began: float
    logits: torch.Tensor
