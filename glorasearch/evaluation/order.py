"""Which images first: the hardest, so that a candidate that is not good enough shows it early."""

from __future__ import annotations

from typing import Final

import torch
from numpy.random import default_rng
from torch import Tensor

from glorasearch.data import SearchSplit
from glorasearch.evaluation.chunks import Chunks
from glorasearch.evaluation.resident import Resident
from glorasearch.evaluation.scores import cross_entropies
from glorasearch.space import BoundSpace, sample_within_budget

REFERENCES: Final = 4
"""Random subnets by which images are judged. More of them cost more than they save (`bench_early_stopping.py`)."""
_SEED: Final = 2306_07967


def natural_order(split: SearchSplit) -> Tensor:
    """The positions 0 to N − 1."""
    return torch.arange(len(split))


@torch.inference_mode()
def hardest_first(
    resident: Resident, space: BoundSpace, split: SearchSplit, size: int, references: int = REFERENCES
) -> Tensor:
    """The positions of the images, those of the largest cross-entropy first.

    A pure function of weights, space and split: the mean is taken over random subnets that a fixed seed draws. Which
    order it is decides how early a candidate is stopped, never whether it may be.
    """
    chunks = Chunks(split, size, natural_order(split), resident.device, resident.dtype)
    hardness = torch.zeros(chunks.images, dtype=torch.float64, device=resident.device)
    rng = default_rng(_SEED)
    for _ in range(references):
        resident.write(sample_within_budget(space, rng))
        logits = torch.cat([resident.forward(images).clone() for images in chunks])[: chunks.images]
        hardness += cross_entropies(logits, chunks.labels).nan_to_num(0.0, 0.0, 0.0)
    return hardness.cpu().argsort(descending=True, stable=True)
