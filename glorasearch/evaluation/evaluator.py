"""Scoring candidates: merged weights in one resident backbone, the plain forward on the resident search split."""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glorasearch.data import SearchSplit
from glorasearch.errors import DataError, GlorasearchError
from glorasearch.space import EvaluationResult, EvaluationTask, Subnet
from glorasearch.supernet import Supernet


class CandidateEvaluator:
    """Evaluates subnets of one supernet on the search split and nothing else.

    What is scored is what is exported: the merged model. One plain backbone stays resident; a candidate's merged
    weights are written into the layers whose choices differ from the candidate before. So the weights are those that
    the supernet has when the evaluator is made: after training on, make another evaluator.
    """

    def __init__(
        self,
        supernet: Supernet,
        split: SearchSplit,
        *,
        device: torch.device | str = "cpu",
        batch_size: int = 256,
        weights: str | None = None,
    ) -> None:
        """Build the resident backbone; the supernet's weights at this moment are the candidates' weights.

        `weights` is their digest in the weight store: tasks that ask for others are then refused.

        Raises:
            DataError: if the split is not a `SearchSplit`; in particular the test split is refused.
        """
        if not isinstance(split, SearchSplit):
            raise DataError(f"candidates are scored on the search split only, got a {type(split).__name__}")
        self._supernet = supernet.to(device).eval()
        self._device = torch.device(device)
        self._split, self._batch_size, self._weights = split, batch_size, weights
        self._resident = supernet.merged(supernet.space.largest()).to(device)
        self._layers = {name: _linear(self._resident, name) for name in supernet.adapted}
        self._current: dict[str, tuple[str, ...]] = {}

    def __call__(self, task: EvaluationTask) -> EvaluationResult:
        """Evaluate a task; what is wrong with one candidate is told in its result, programming errors are raised."""
        if self._weights not in (None, task.weights_digest):
            reason = f"asked for weights {task.weights_digest[:12]}, this evaluator holds {str(self._weights)[:12]}"
            return EvaluationResult(task.subnet_digest, error=reason)
        try:
            return self.evaluate(Subnet.from_json(task.subnet_json))
        except (GlorasearchError, torch.OutOfMemoryError) as error:
            return EvaluationResult(task.subnet_digest, error=f"{type(error).__name__}: {error}")

    @torch.inference_mode()
    def evaluate(self, subnet: Subnet) -> EvaluationResult:
        """Accuracy and mean cross-entropy of a subnet on the whole search split.

        Raises:
            SearchSpaceError: if the subnet is not of this space.
        """
        began = time.perf_counter()
        self._write(subnet)
        correct = torch.zeros((), dtype=torch.int64, device=self._device)
        entropy = torch.zeros((), dtype=torch.float64, device=self._device)
        total = len(self._split)
        for start in range(0, total, self._batch_size):
            images, labels = self._split.batch(slice(start, min(start + self._batch_size, total)), self._device)
            logits: Tensor = self._resident(images).float()
            correct += (logits.argmax(-1) == labels).sum()
            entropy += F.cross_entropy(logits, labels, reduction="sum").double()
        mean = float(entropy) / total
        return EvaluationResult(
            subnet.digest,
            correct=int(correct),
            total=total,
            cross_entropy=mean,
            seconds=time.perf_counter() - began,
            error=None if mean == mean and abs(mean) != float("inf") else f"the mean cross-entropy is {mean}",
        )

    def _write(self, subnet: Subnet) -> None:
        """Write the merged weights of the layers whose choices changed into the resident backbone."""
        self._supernet.space.check(subnet)
        for name, linear in self._layers.items():
            choices = subnet.layer(name)
            if self._current.get(name) == choices:
                continue
            weight, bias = self._supernet.merged_layer(name, subnet)
            linear.weight.copy_(weight)
            if linear.bias is not None:
                linear.bias.zero_() if bias is None else linear.bias.copy_(bias)
            self._current[name] = choices


def _linear(model: nn.Module, name: str) -> nn.Linear:
    module = model.get_submodule(name)
    assert isinstance(module, nn.Linear)
    return module
