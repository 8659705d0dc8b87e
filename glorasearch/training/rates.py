"""The peak learning rates of a training by group of parameters."""

from __future__ import annotations

import statistics
from typing import Final

from glorasearch.choices import parse_choice
from glorasearch.space import BoundSpace

SPECTRUM_SHARE: Final = 0.04
"""Of a step of a low-rank factor, what a step of one coefficient of a spectrum moves an entry of the weight by.

An entry moves by lr·α / (out·in). With the factors' 1e-3, on a ViT-B/16, that makes 0.24 at α = 300 (published are 0.05
to 0.3); with 1e-2, on the quickstart's backbone, 0.04 (measured: 98.1 % at 0.03, 95.2 at 0.003, 70.1 at 0.3)."""


def peak_rates(
    space: BoundSpace, *, lr: float, vector_lr: float, spectrum_lr: float | None, head_lr: float
) -> dict[str, float]:
    """By `Part.rate`, and of the head; that of spectra follows from the sizes of their layers if it is not given."""
    return {
        "factor": lr,
        "vector": vector_lr,
        "spectrum": _spectrum_rate(space, lr) if spectrum_lr is None else spectrum_lr,
        "head": head_lr,
    }


def _spectrum_rate(space: BoundSpace, lr: float) -> float:
    """`SPECTRUM_SHARE` · lr · out·in / α, the mean over the layers that offer a spectrum; `lr` where none does."""
    sizes: list[float] = []
    for gene in space.genes:
        for choice in map(parse_choice, gene.choices):
            site = space.site(gene, choice.kind)
            if any(part.rate == "spectrum" for part in choice.parts(site, **choice.given).values()):
                sizes.append(site.layer.out_features * site.layer.in_features / site.options.get("scale", 1.0))
    return SPECTRUM_SHARE * lr * statistics.fmean(sizes) if sizes else lr
