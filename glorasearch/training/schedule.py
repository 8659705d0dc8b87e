"""The learning-rate schedule: linear warm-up, then a cosine; a pure function of the step."""

from __future__ import annotations

import math


def schedule_factor(step: int, steps: int, warmup_steps: int, final: float = 0.0) -> float:
    """Factor on the peak learning rate at a step, 0 ≤ step < steps: up to 1 over the warm-up, then down to `final`."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))
