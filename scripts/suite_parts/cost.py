"""What a whole run costs beside the yardstick: both sides anew, one after the other, on one device in one process.

Neither takes anything over from what the suite has done before. A short training before them takes what a device takes
once in a process; compilation is recorded by itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from suite_parts.alone import alone
from suite_parts.lab import Lab, compile_seconds
from suite_parts.product import product
from suite_parts.spent import spending
from suite_parts.units import Content, Unit
from suite_parts.yardstick import points_of, yardstick

SIDES: Mapping[str, Callable[[Lab, Unit], Content]] = {
    "evolution": product,
    "yardstick": yardstick,
    "yardstick_alone": alone,
}
"""By the arms that they are."""
KEPT = "model_steps", "seconds", "compile_seconds", "stage_seconds", "measured_steps", "test_accuracy"
"""Of what a side finds, if it does."""


WARM_STEPS = 5
"""Of a training that nobody looks at."""


def cost(lab: Lab, unit: Unit) -> Content:
    """What the arm `cost` finds: side → its seconds, as the side's own arm has them."""
    own = lab.beside(lab.folders.partial(unit) / "anew")
    _warm(own, unit)
    found: dict[str, dict[str, Any]] = {}
    for arm, measure in SIDES.items():
        with spending(
            lab.folders.partial(unit) / f"{arm}.json", lambda: {"compile_seconds": compile_seconds()}
        ) as spent:
            content = measure(own, unit._replace(arm=arm))
            found[arm] = spent() | {key: content[key] for key in KEPT if key in content}
        own.free()
    return {"sides": found}


def _warm(lab: Lab, unit: Unit) -> None:
    """A few steps of one model: libraries are loaded, and a step is captured, for the first time in this process."""
    point, split = points_of(lab)[0], lab.splits(unit).train
    lab.train(unit, f"warm-{os.getpid()}", [point.member(WARM_STEPS, 0, len(split))], split, search=True, test=False)
