"""What is refused before a unit starts: a backbone, budget, task or folder with which none could end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from suite_parts.arms import ARMS
from suite_parts.settings import Settings
from suite_parts.tasks import Tasks
from suite_parts.units import write_atomically

LEAST_METHOD = "lora"
"""A fixed method that the yardstick always has: the small budget is compared with it."""


def check_units(settings: Settings, tasks: Tasks, arms: Sequence[str], out: Path) -> None:
    """Build the backbone once, and bind to it what the arms need; imports torch.

    Raises:
        ValueError: if a budget fits no method, or a task cannot be split.
        InputError: if there is no such backbone, or it cannot be built.
    """
    from glorasearch import SearchSpace
    from glorasearch.backbone import build_backbone
    from suite_parts.lab import Folders, Lab

    for name in settings.task_digests:
        tasks.check_size(name, settings.sizes)
    lab = Lab(settings, Folders(out), tasks, threads=1)
    build_backbone(lab.backbone_config, classes=2)
    limit, small = lab.limit(settings.budget), lab.limit(settings.small_budget)
    if any(ARMS[arm].kind in ("yardstick", "cost") for arm in arms):
        space = lab.bind(SearchSpace.load(LEAST_METHOD))
        needed = space.parameters(space.largest())
        if needed > limit:
            raise ValueError(
                f"--budget {settings.budget} is {limit:,} parameters; the yardstick needs those of its method "
                f"{LEAST_METHOD!r}, {needed:,}: give a larger budget, or --arms without yardstick and cost"
            )
    if any(ARMS[arm].small for arm in arms) and small > limit:
        raise ValueError(
            f"--budget {settings.budget} is {limit:,} parameters, fewer than the {small:,} of the small budget "
            f"{settings.small_budget}: give a larger one, or --arms without "
            f"{', '.join(arm for arm in arms if ARMS[arm].small)}"
        )


def claim(out: Path, settings: Settings) -> None:
    """Make the folder that of these settings, or see that it is.

    Data, runs and stacks of a task that another setting has left there would be gone on with.

    Raises:
        ValueError: if it belongs to others, or cannot be written.
    """
    keys = out / "keys"
    try:
        keys.mkdir(parents=True, exist_ok=True)
        for task, key in settings.keys.items():
            path = keys / task
            if not path.exists():
                write_atomically(path, key)
            elif path.read_text("utf-8") != key:
                raise ValueError(
                    f"{out} has {task!r} that was made with other settings, tasks or another backbone; "
                    "give another --out, or delete it"
                )
    except OSError as error:
        raise ValueError(f"--out {out}: it cannot be written: {error.strerror} ({error.filename})") from error
