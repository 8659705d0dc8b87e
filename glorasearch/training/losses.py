"""Losses of a training step."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def label_loss(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Mean cross-entropy of `(N, classes)` logits against `(N,)` labels, with label smoothing; a scalar in nats."""
    return F.cross_entropy(_wide(logits), labels, label_smoothing=smoothing)


def distillation_loss(logits: Tensor, teacher: Tensor) -> Tensor:
    """Mean cross-entropy of `(N, classes)` logits against the teacher's softmax `(N, classes)`; a scalar in nats."""
    return -(teacher * F.log_softmax(_wide(logits), dim=-1)).sum(-1).mean()


def teacher_of(logits: Tensor) -> Tensor:
    """What others are distilled from: the softmax of `(N, classes)` logits, without a gradient."""
    return _wide(logits.detach()).softmax(-1)


def path_loss(logits: Tensor, labels: Tensor, teacher: Tensor | None, *, smoothing: float) -> Tensor:
    """The loss of one path of a step: against the teacher where there is one, else against the labels."""
    return label_loss(logits, labels, smoothing) if teacher is None else distillation_loss(logits, teacher)


def _wide(logits: Tensor) -> Tensor:
    """In float32 at least."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
