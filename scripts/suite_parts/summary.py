"""What the finished units say together: the content of `docs/suite.json`."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from glorasearch.statistics import PairedImages, PairedRuns, holm
from glorasearch.statistics.ranks import mid_ranks
from suite_parts.arms import ARMS
from suite_parts.units import Content, Unit

MEASUREMENTS = ("tau", "tau_ideas", "yardstick_alone", "cost", "augmentation")
"""Arms whose models nobody would export."""
Found = Mapping[Unit, Content]
Pair = tuple[str, int]


def summarise(found: Found) -> dict[str, Any]:
    """All of it, as JSON; what lacks units is None."""
    arms = _by_arm(found)
    winner, yardstick = arms.get("evolution", {}), arms.get("yardstick", {})
    small, lora = arms.get("lora4_budget", {}), {pair: unit["lora4"] for pair, unit in yardstick.items()}
    tau, cost = _tau(arms.get("tau", {})), _cost(arms, "yardstick")
    named = _comparable({name: one for name, one in arms.items() if name not in MEASUREMENTS})
    return {
        "winner_minus_yardstick": difference(winner, yardstick),
        "winner_minus_race_only": difference(winner, arms.get("race_only", {})),
        "winner_minus_tempered_pick": difference(
            winner, {pair: unit["tempered_pick"] for pair, unit in yardstick.items()}
        ),
        "lora4_budget": difference(small, lora),
        "tau_tempered_inherited": None if tau is None else tau["mean"],
        "tau": tau,
        "tau_ideas": _tau_ideas(arms.get("tau_ideas", {})),
        "cost_ratio": None if cost is None else cost["ratio"],
        "cost": cost,
        "cost_one_by_one": _cost(arms, "yardstick_alone"),
        "ablations": _ablations(arms),
        "augmentation": _augmentation(arms.get("augmentation", {})),
        "arms": {name: _arm(name, one) for name, one in named.items()},
        "ranks": _ranks(named),
        "picks": {name: _picks(one) for name, one in named.items()},
        "devices": sorted({unit["device"] for unit in found.values()}),
        "versions": _versions(found.values()),
    }


def _by_arm(found: Found) -> dict[str, dict[Pair, Content]]:
    """Arm → (task, seed) → what was found, in the order of `ARMS`."""
    arms: dict[str, dict[Pair, Content]] = defaultdict(dict)
    for unit, content in found.items():
        arms[unit.arm][unit.task, unit.seed] = content
    return {name: arms[name] for name in ARMS if name in arms}


def _comparable(arms: Mapping[str, dict[Pair, Content]]) -> dict[str, dict[Pair, Content]]:
    """The arms on the pairs that product and yardstick have both done: means over others do not stand side by side."""
    main = [arms[name] for name in ("evolution", "yardstick") if name in arms]
    shared = {pair for pair in (main or [{}])[0] if all(pair in units for units in main)}
    found = {name: {pair: unit for pair, unit in units.items() if pair in shared} for name, units in arms.items()}
    return {name: units or dict(arms[name]) for name, units in found.items()}


def difference(first: Mapping[Pair, Content], second: Mapping[Pair, Content]) -> dict[str, Any] | None:
    """First minus second over the pairs that both have, in points of test accuracy; None if there is none."""
    pairs = [pair for pair in first if pair in second]
    if not pairs:
        return None
    points = [100 * (first[pair]["test_accuracy"] - second[pair]["test_accuracy"]) for pair in pairs]
    runs = PairedRuns(tuple(points))
    tasks = list(dict.fromkeys(task for task, _ in pairs))
    per_task = {
        task: statistics.fmean(p for p, (t, _) in zip(points, pairs, strict=True) if t == task) for task in tasks
    }
    worst = min(per_task, key=lambda task: per_task[task])
    ps = [_images(first[pair], second[pair]).p for pair in pairs]
    return {
        "mean_points": runs.mean,
        "interval": runs.interval,
        "wilcoxon_p": runs.p_better,
        "wilcoxon_p_worse": runs.p_worse,
        "pairs": runs.pairs,
        "better": sum(point > 0 for point in points),
        "per_task": per_task,
        "worst_task": {"task": worst, "mean_points": per_task[worst]},
        "each": [
            {"task": task, "seed": seed, "points": point, "mcnemar_p": p, "mcnemar_p_holm": adjusted}
            for (task, seed), point, p, adjusted in zip(pairs, points, ps, holm(ps), strict=True)
        ],
    }


def _images(first: Content, second: Content) -> PairedImages:
    """The two models of a pair on its test images."""
    right = Counter(zip(first["correct"], second["correct"], strict=True))
    return PairedImages(
        images=right.total(), both=right["1", "1"], only_first=right["1", "0"], only_second=right["0", "1"]
    )


def _cost(arms: Mapping[str, Mapping[Pair, Content]], other: str) -> dict[str, Any] | None:
    """`costs` of a whole run and another arm: of pairs that were measured together (`cost`) if there are such, unless
    only the arms themselves had a device for themselves."""

    def together(side: str) -> dict[Pair, Content]:
        units = arms.get("cost", {})
        return {pair: unit["sides"][side] | {"device": unit["device"], "sharing": unit["sharing"]}
                for pair, unit in units.items()}  # fmt: skip

    found = costs(together("evolution"), together(other)), costs(arms.get("evolution", {}), arms.get(other, {}))
    return min((one for one in found if one is not None), key=lambda one: one["units_at_a_time"], default=None)


def costs(first: Mapping[Pair, Content], second: Mapping[Pair, Content]) -> dict[str, Any] | None:
    """Device seconds of the first side over those of the second, over the pairs that both have on one kind of device.

    Where some pairs had a device for themselves, only these count.
    """
    pairs = [pair for pair in first if pair in second and first[pair]["device"] == second[pair]["device"]]
    sharing = {pair: max(first[pair]["sharing"], second[pair]["sharing"]) for pair in pairs}
    pairs = [pair for pair in pairs if sharing[pair] == min(sharing.values())]
    if not pairs:
        return None

    def total(side: Mapping[Pair, Content], *, compiling: bool) -> float:
        return sum(seconds(side[pair], compiling=compiling) for pair in pairs)

    ratios = {
        "ratio": total(first, compiling=False) / total(second, compiling=False),
        "ratio_with_compilation": total(first, compiling=True) / total(second, compiling=True),
        "model_steps_ratio": sum(first[pair]["model_steps"] for pair in pairs)
        / sum(second[pair]["model_steps"] for pair in pairs),
    }
    return ratios | {"pairs": len(pairs), "units_at_a_time": sharing[pairs[0]]}


def seconds(content: Content, *, compiling: bool = False) -> float:
    """Of training and evaluation, in which compilation happens."""
    spent = float(content["seconds"]["training"] + content["seconds"]["evaluation"])
    return spent if compiling else spent - min(spent, float(content["compile_seconds"]))


def _tau(taus: Mapping[Pair, Content]) -> dict[str, Any] | None:
    if not taus:
        return None

    def mean(key: str, score: str | None = None) -> float:
        return statistics.fmean(unit[key] if score is None else unit[key][score] for unit in taus.values())

    def per_task(value: Callable[[Content], float]) -> dict[str, float]:
        """Means over the seeds of each task."""
        tasks = dict.fromkeys(task for task, _ in taus)
        return {name: statistics.fmean(value(unit) for (own, _), unit in taus.items() if own == name) for name in tasks}

    return {
        "mean": mean("tau", "tempered"),
        "per_task": per_task(lambda unit: unit["tau"]["tempered"]),
        "with_one_training": mean("tau_with_one_training", "tempered"),
        "ceiling": mean("tau_of_two_trainings"),
        "ceiling_per_task": per_task(lambda unit: unit["tau_of_two_trainings"]),
        "cross_entropy": mean("tau", "cross_entropy"),
        "accuracy": mean("tau", "accuracy"),
    }


def _tau_ideas(units: Mapping[Pair, Content]) -> dict[str, Any] | None:
    """Idea → score → tau, the mean of all pairs and each."""
    if not units:
        return None
    ideas: Mapping[str, Mapping[str, float]] = next(iter(units.values()))["ideas"]
    return {
        idea: {
            score: {
                "mean": statistics.fmean(unit["ideas"][idea][score] for unit in units.values()),
                "each": [
                    {"task": task, "seed": seed, "tau": unit["ideas"][idea][score]}
                    for (task, seed), unit in units.items()
                ],
            }
            for score in scores
        }
        for idea, scores in ideas.items()
    }


def _augmentation(units: Mapping[Pair, Content]) -> dict[str, Any] | None:
    """Each recipe minus `none`, in points: means of the same methods, pair by pair."""
    if not units:
        return None
    plain, others = "none", [recipe for recipe in next(iter(units.values()))["recipes"] if recipe != "none"]
    found = {}
    for recipe in others:
        points = {pair: 100 * (unit["recipes"][recipe] - unit["recipes"][plain]) for pair, unit in units.items()}
        runs = PairedRuns(tuple(points.values()))
        tasks = dict.fromkeys(task for task, _ in points)
        found[recipe] = {
            "mean_points": runs.mean,
            "interval": runs.interval,
            "wilcoxon_p": runs.p_better,
            "pairs": runs.pairs,
            "per_task": {task: statistics.fmean(p for (own, _), p in points.items() if own == task) for task in tasks},
        }
    accuracy = {
        recipe: statistics.fmean(unit["recipes"][recipe] for unit in units.values()) for recipe in [plain, *others]
    }
    return {"test_accuracy": accuracy, "minus_none": found}


def _ablations(arms: Mapping[str, Mapping[Pair, Content]]) -> dict[str, Any]:
    """The whole product minus each arm that lacks a part of it."""
    whole = arms.get("evolution", {})
    others = [name for name in arms if name not in ("evolution", "yardstick", "lora4_budget", *MEASUREMENTS)]
    return {name: difference(whole, arms[name]) for name in others}


def _arm(name: str, units: Mapping[Pair, Content]) -> dict[str, Any]:
    tasks = list(dict.fromkeys(task for task, _ in units))

    def mean(values: Iterable[float]) -> float:
        return statistics.fmean(values)

    return {
        "title": ARMS[name].title,
        "pairs": len(units),
        "test_accuracy": mean(unit["test_accuracy"] for unit in units.values()),
        "per_task": {
            task: mean(unit["test_accuracy"] for (own, _), unit in units.items() if own == task) for task in tasks
        },
        "seeds_per_task": {task: [seed for own, seed in units if own == task] for task in tasks},
        "parameters": mean(unit["parameters"] for unit in units.values()),
        "steps": mean(unit["steps"] for unit in units.values()),
        "model_steps": mean(unit["model_steps"] for unit in units.values()),
        "training_seconds": mean(unit["seconds"]["training"] for unit in units.values()),
        "other_seconds": mean(unit["seconds"]["evaluation"] for unit in units.values()),
        "compile_seconds": mean(unit["compile_seconds"] for unit in units.values()),
        "wall_seconds": mean(unit["wall_seconds"] for unit in units.values()),
    }


def _ranks(arms: Mapping[str, Mapping[Pair, Content]]) -> dict[str, float]:
    """Mean rank of each arm over the pairs that all of them have; 1 is the best."""
    full = max((len(units) for units in arms.values()), default=0)
    compared = {name: units for name, units in arms.items() if len(units) == full and name != "lora4_budget"}
    pairs = [pair for pair in next(iter(compared.values()), {}) if all(pair in units for units in compared.values())]
    ranks = [mid_ranks([-units[pair]["test_accuracy"] for units in compared.values()]) for pair in pairs]
    return {name: statistics.fmean(one[place] for one in ranks) for place, name in enumerate(compared)} if pairs else {}


def _picks(units: Mapping[Pair, Content]) -> list[dict[str, Any]]:
    """What was chosen for each pair, and how good it is."""
    return [
        {"task": task, "seed": seed, "test_accuracy": unit["test_accuracy"], **unit["pick"]}
        for (task, seed), unit in units.items()
    ]


def _versions(contents: Iterable[Content]) -> dict[str, list[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for content in contents:
        for name, version in content["versions"].items():
            found[name].add(version)
    return {name: sorted(versions) for name, versions in found.items()}
