"""Metrics of a candidate that take classes alike: counts that add up over chunks, and areas under ROC curves.

All of them are quotients of whole numbers, so they depend neither on the order of the images nor on their chunks.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK: Final = 2**24
"""Probabilities that are ranked at once."""


def device_counts(logits: Tensor, labels: Tensor) -> Tensor:
    """`(3 * classes,)` float64: images by label, by the class they are taken for, and those that are right, by label.

    Of logits `(n, classes)` and labels `(n,)`; does not wait.
    """
    taken = logits.argmax(-1)
    counts = logits.new_zeros(3, logits.shape[1], dtype=torch.float64)
    ones = torch.ones_like(labels, dtype=torch.float64)
    counts[0].index_add_(0, labels, ones)
    counts[1].index_add_(0, taken, ones)
    counts[2].index_add_(0, labels, (taken == labels).double())
    return counts.flatten()


def area_under_curve(logits: Tensor, labels: Tensor) -> float:
    """The mean over the classes that have images of the area under the ROC curve of one class against the rest.

    Of logits `(N, classes)` and labels `(N,)`; nan if all have one label. The area is the share of pairs of an image of
    the class and one of the rest in which the former has the larger probability; equal ones count one half.
    """
    images, classes = logits.shape
    outputs = logits.double().softmax(-1).T.contiguous()
    twice_ranks = []
    for start in range(0, classes, size := max(1, BLOCK // images)):
        block = outputs[start : start + size]
        ascending = block.sort(-1).values
        own = labels == torch.arange(start, start + len(block), device=labels.device)[:, None]
        below, up_to = (torch.searchsorted(ascending, block, right=right) for right in (False, True))
        twice_ranks.append(((below + up_to + 1) * own).sum(-1))
    found = torch.cat(twice_ranks)
    own_images = F.one_hot(labels, classes).sum(0)
    pairs = own_images * (images - own_images)
    areas = (found - own_images * (own_images + 1)) / (2 * pairs).double()
    known = areas[pairs > 0].tolist()
    return sum(known) / len(known) if known else float("nan")
