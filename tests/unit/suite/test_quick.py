"""`--quick` is quick unless it is asked for more."""

from __future__ import annotations

from suite_parts.arms import ARMS
from suite_parts.options import parse


def test_one_seed_and_one_arm_of_each_kind() -> None:
    options = parse(["--backbone", "x", "--quick"])
    assert options.seeds == [0]
    assert sorted(options.arms) == [
        "augmentation",
        "cost",
        "evolution",
        "tau",
        "tau_ideas",
        "yardstick",
        "yardstick_alone",
    ]
    more = parse(["--backbone", "x", "--quick", "--seeds", "1,2", "--arms", "random"])
    assert (more.seeds, more.arms) == ([1, 2], ["random"])


def test_a_suite_that_measures_has_all_arms_and_three_seeds() -> None:
    options = parse(["--backbone", "x"])
    assert (options.seeds, options.arms) == ([0, 1, 2], list(ARMS))
