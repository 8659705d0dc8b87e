"""What the yardstick's trainings cost one by one, as somebody has it who trains a model at a time.

Every fixed method is trained alone twice, for a tenth and for three tenths of the yardstick's steps, at one rate, which
does not change what a step costs. What a training costs before its first step and what a step costs follow from the
two; the cost of all trainings, at all rates and of the final one, from these. On a GPU each step is captured in a
graph, as a stack's is.
"""

from __future__ import annotations

from typing import Any

from glorasearch.race import member_seed
from suite_parts.lab import Lab, Scored, compile_seconds
from suite_parts.units import Content, Unit
from suite_parts.yardstick import points_of

SHARES = (0.1, 0.3)
"""Of the yardstick's steps."""


def alone(lab: Lab, unit: Unit) -> Content:
    """What the arm `yardstick_alone` finds: seconds, by the steps that were trained."""
    splits, whole = lab.splits(unit), lab.settings.steps
    points = {point.name: point for point in points_of(lab)}  # one rate each
    lengths = [max(number, round(whole * share)) for number, share in enumerate(SHARES, 1)]
    methods: dict[str, dict[str, float]] = {}
    for name, point in points.items():

        def trained(steps: int, name: str = name, point: Any = point) -> Scored:
            member = point.member(steps, member_seed(unit.seed, name, "alone"), len(splits.train))
            return lab.train(unit, f"{name}-{steps}", [member], splits.train, search=True, test=False)

        before = compile_seconds()
        short = trained(lengths[0])
        compiling = compile_seconds() - before
        long = trained(lengths[1])
        step = max(0.0, long.seconds - short.seconds) / (lengths[1] - lengths[0])
        methods[name] = {
            "step": step,
            "training": short.seconds + step * (whole - lengths[0]),
            "evaluation": (short.other_seconds + long.other_seconds) / 2,
            "compiling": compiling,
        }
    rates = len(lab.settings.rates)

    def total(key: str) -> float:
        """Of all methods at all rates, and of the final training, which is one of them."""
        found = [method[key] for method in methods.values()]
        return sum(found) * rates + sum(found) / len(found)

    return {
        "methods": methods,
        "measured_steps": lengths,
        "model_steps": whole * (len(points) * rates + 1),
        "seconds": {"training": total("training"), "evaluation": total("evaluation")},
        "compile_seconds": total("compiling"),
    }
