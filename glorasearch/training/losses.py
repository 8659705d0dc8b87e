"""Losses of a training step."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def label_loss(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Mean cross-entropy of `(N, classes)` logits against `(N,)` labels, with label smoothing; a scalar in nats."""
    return F.cross_entropy(logits.float(), labels, label_smoothing=smoothing)


def distillation_loss(logits: Tensor, teacher: Tensor) -> Tensor:
    """Mean cross-entropy of `(N, classes)` logits against the teacher's softmax `(N, classes)`; a scalar in nats."""
    return -(teacher * F.log_softmax(logits.float(), dim=-1)).sum(-1).mean()
