"""Scores of a few fixed subnets while a supernet trains."""

from __future__ import annotations

import math
from collections.abc import Mapping

from glorasearch.errors import NonFiniteLossError
from glorasearch.evaluation.evaluator import CandidateEvaluator
from glorasearch.space import CLASS_METRICS, Fitness, Subnet


def probe(evaluator: CandidateEvaluator, subnets: Mapping[str, Subnet], measure: Fitness) -> dict[str, float]:
    """A part of the score of each subnet, by the same names.

    Raises:
        NonFiniteLossError: if one of them is not finite.
    """
    found: dict[str, float] = {}
    metrics = [measure] if measure in CLASS_METRICS else []
    for name, subnet in subnets.items():
        found[name] = float(getattr(evaluator.evaluate(subnet, metrics=metrics), measure))
        if not math.isfinite(found[name]):
            raise NonFiniteLossError(f"{name} is {found[name]} on the search split: the training has diverged")
    return found
