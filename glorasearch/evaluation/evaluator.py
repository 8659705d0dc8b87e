"""Scoring candidates: merged weights in one resident backbone, the plain forward on the resident search split."""

from __future__ import annotations

import time
from functools import cached_property
from typing import Final, NamedTuple

import torch

from glorasearch.data import SearchSplit
from glorasearch.errors import DataError, EvaluationError, GlorasearchError
from glorasearch.evaluation.chunks import Chunks
from glorasearch.evaluation.order import hardest_first, natural_order
from glorasearch.evaluation.residents import Compile, resident_of
from glorasearch.evaluation.scores import PendingScores, Scores
from glorasearch.space import EvaluationResult, EvaluationTask, Score, StopThreshold, Subnet
from glorasearch.supernet import Supernet

CHUNK: Final = 25
"""Images that are scored between two checks of the threshold (`benchmarks/bench_early_stopping.py`)."""


class CandidateEvaluator:
    """Evaluates subnets of one supernet on the search split and nothing else.

    What is scored is what is exported: the merged model. One plain backbone stays resident; a candidate's merged
    weights are written into the layers whose choices differ from the candidate before. So the weights are those that
    the supernet has when the evaluator is made: after training on, make another evaluator.

    Images are scored in chunks of one size and always the same ones, so that the scores of an image are the same bits
    with and without a stop threshold. (Measured on this project's CPUs, with 1 and 2 threads, for the quickstart's
    backbone and a ViT-Ti/16 at 224 pixels: an image's logits do not even depend on which images are in its chunk, nor
    where it stands there, nor on the chunk's size.)
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
        mixed: bool | None = None,
    ) -> None:
        """Build the resident backbone. The supernet's weights must not change while it is used, but for `refresh`.

        Args:
            supernet: holds the weights.
            split: the search split.
            device: where to evaluate.
            batch_size: images of a chunk; `CHUNK` if not given.
            weights: their digest in the weight store: tasks that ask for others are then refused.
            hardest_first: score the images in the order that stops hopeless candidates soonest. It costs the evaluation
                of a few candidates, before the first one.
            compile: on a GPU in bfloat16, whether the forward is compiled and captured (`resident_of`).
            mixed: score in bfloat16; on GPUs only, if not given.

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
        self.resident = resident_of(supernet, device, example, compile=compile, mixed=mixed)
        """What computes: one candidate at a time."""
        self._parsed: dict[str, Subnet] = {}
        self._started: _Started | None = None
        self._idle_since = 0.0
        """When the last result was there: what is queued behind a candidate does not cost that candidate's time."""

    @property
    def ahead(self) -> bool:
        """Whether the next candidate is worth starting before the results of this one are dealt with."""
        return self.resident.device.type == "cuda"

    @property
    def healthy(self) -> bool:
        """Whether the device still works: some errors of a kernel end a process's use of a GPU for good."""
        if self.resident.device.type != "cuda":
            return True
        try:
            torch.cuda.synchronize(self.resident.device)
            return bool(torch.ones(1, device=self.resident.device).sum() == 1)
        except torch.OutOfMemoryError:
            return True
        except RuntimeError:
            return False

    def refresh(self) -> None:
        """Take the supernet's weights as they are now as the candidates' weights."""
        self._started = None
        self.resident.refresh()

    def prepare(self, task: EvaluationTask) -> None:
        """Do what can be done for a task without the device, while that is busy; errors wait for its evaluation."""
        if self._weights not in (None, task.weights_digest):
            return
        try:
            subnet = Subnet.from_json(task.subnet_json)
            self.resident.prepare(subnet)
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
        """Begin ahead; what is wrong with this candidate is told when it is evaluated, not while another one is."""
        try:
            return self._begin(subnet)
        except Exception:
            return None

    def _begin(self, subnet: Subnet) -> _Started:
        chunks = self.chunks
        began = time.perf_counter()
        self.resident.write(subnet)
        return _Started(subnet, began, self.resident.forward(chunks.first))

    def __call__(self, task: EvaluationTask) -> EvaluationResult:
        """Evaluate a task; what is known to be wrong with a candidate is told in its result, the rest is raised."""
        parsed = self._parsed.pop(task.subnet_digest, None)
        if self._weights not in (None, task.weights_digest):
            reason = f"asked for weights {task.weights_digest[:12]}, this evaluator holds {str(self._weights)[:12]}"
            return EvaluationResult(task.subnet_digest, error=reason)
        try:
            subnet = parsed or Subnet.from_json(task.subnet_json)
            return EvaluationResult(task.subnet_digest, self.evaluate(subnet, task.threshold))
        except EvaluationError as error:
            return EvaluationResult(task.subnet_digest, error=str(error))
        except (GlorasearchError, torch.OutOfMemoryError) as error:
            return EvaluationResult(task.subnet_digest, error=f"{type(error).__name__}: {error}")

    @torch.inference_mode()
    def evaluate(self, subnet: Subnet, threshold: StopThreshold | None = None) -> Score:
        """Score a subnet on the search split, until it is certain to be worse than the threshold, if there is one.

        Raises:
            SearchSpaceError: if the subnet is not of this space.
        """
        chunks = self.chunks
        started, self._started = self._started, None
        if started is None or started.subnet != subnet:
            started = self._begin(subnet)
        began = max(started.began, self._idle_since)
        logits: torch.Tensor | None = None
        for index, images in enumerate(chunks):
            found = self.resident.forward(images) if index else started.logits
            if logits is None:
                logits = found.new_empty(chunks.count * chunks.size, found.shape[1])
            seen = (index + 1) * chunks.size
            logits[seen - chunks.size : seen] = found
            last = seen >= chunks.images
            if threshold is None and not last:
                continue
            seen = min(seen, chunks.images)
            pending = PendingScores(logits[:seen], chunks.labels[:seen])
            if last and self.ahead:
                self._begin_next(subnet)
            scores = pending.wait()
            if last or threshold is None:
                return self._score(scores, began)
            bound = threshold.bound(scores.correct, scores.nats, seen, chunks.images)
            if scores.finite and threshold.excludes(bound):
                return self._score(scores, began, bound, seen)
        raise AssertionError("the last chunk has a result")

    def _begin_next(self, current: Subnet) -> None:
        """Queue the candidate that was prepared after this one behind it."""
        following = next((subnet for subnet in self._parsed.values() if subnet is not current), None)
        if following is not None:
            self._started = self._try_begin(following)

    def _score(self, scores: Scores, began: float, bound: float | None = None, seen: int | None = None) -> Score:
        self._idle_since = time.perf_counter()
        total = self.chunks.images
        return Score(
            correct=scores.correct,
            total=total,
            cross_entropy=scores.nats / (seen or total),
            seconds=self._idle_since - began,
            bound=bound,
            stopped_after=seen,
        )

    @cached_property
    def order(self) -> torch.Tensor:
        """`(N,)` positions of the images in the split, in the order in which they are scored; may be set before use."""
        if self._hardest_first:
            return hardest_first(self.resident, self._space, self._split, self._size)
        return natural_order(self._split)

    @cached_property
    def chunks(self) -> Chunks:
        """The images in their order; made when the first candidate is evaluated."""
        return Chunks(self._split, self._size, self.order, self.resident.device, self.resident.dtype)

    def warm_up(self) -> None:
        """Do now what is otherwise done when the first candidate is evaluated: order and load the images."""
        with torch.inference_mode():
            _ = self.chunks.first


class _Started(NamedTuple):
    """A candidate whose first chunk is under way."""

    subnet: Subnet
    began: float
    logits: torch.Tensor
