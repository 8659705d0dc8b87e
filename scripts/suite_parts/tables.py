"""The summary as Markdown: in full for `docs/suite.md`, in short for the README."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Summary = Mapping[str, Any]
TARGETS = (
    ("winner_minus_yardstick", "exported winner minus the yardstick, points", "at least +0.5, p < 0.05"),
    ("winner_minus_race_only", "exported winner minus the race without search, points", "above 0"),
    ("lora4_budget", "winner at LoRA r=4's size minus LoRA r=4 at its best rate, points", "at least 0"),
)

PARTIAL = (
    "(1 of 3): of so many of the seeds that other arms have on that task. It does not compare with what is above and "
    "below it; differences over the pairs that two arms share are in the other tables."
)

BESIDES = {
    "winner_minus_race_only": "Minus the same product without search, its race of the fixed methods alone",
    "lora4_budget": "With no more parameters than LoRA r=4 has, minus LoRA r=4 at its best rate",
}
"""Differences that the README has besides → words for them."""


def full(summary: Summary) -> str:
    """All tables."""
    parts = [
        f"Tasks: {', '.join(summary['tasks'])}. Seeds: {', '.join(map(str, summary['seeds']))}. Budget: "
        f"{summary['budget']}. Machine: {', '.join(summary['devices'])}. "
        + ", ".join(f"{name} {'/'.join(found)}" for name, found in summary["versions"].items())
        + f". {summary['date']}, revision {summary['revision']}.",
        "### Targets",
        targets(summary),
        "### Test accuracy, %",
        accuracies(summary),
        "### What each part is worth",
        "The whole product minus the product without a part, points of test accuracy. Arms take over what is the same: "
        "supernet, trainings of the race.",
        ablations(summary),
        "### Cost of one task and seed",
        costs(summary),
    ]
    if summary["tau"] is not None:
        parts += ["### How the supernet ranks random subnets", ranking(summary)]
    if summary["tau_ideas"] is not None:
        parts += ["### What might rank them better", ideas(summary)]
    if summary["augmentation"] is not None:
        parts += [
            "### Varied images",
            "A fixed method trained on labels with each recipe minus the same without, points of test accuracy.",
            augmentation(summary),
        ]
    parts += ["### Every pair", "Winner minus yardstick; p of McNemar's exact test, Holm's correction.", pairs(summary)]
    return "\n\n".join(part for part in parts if part) + "\n"


def short(summary: Summary) -> str:
    """What the README says."""
    found = summary["winner_minus_yardstick"]
    table = accuracies(summary, [name for name in ("evolution", "race_only", "yardstick") if _whole(summary, name)])
    if found is None:
        return table
    return table + (
        f"\n\nThe exported winner minus the yardstick (every fixed method at three rates, the best by search split): "
        f"**{found['mean_points']:+.2f} points** (95 % interval {_interval(found) or 'unknown'}; one-sided Wilcoxon "
        f"p = {_p(found['wilcoxon_p'])}; {_pairs(found)})."
        + "".join(
            f" {words}: {one['mean_points']:+.2f} ({_interval(one) or 'unknown'}; p = {_p(one['wilcoxon_p'])}; "
            f"{_pairs(one)})."
            for words, one in ((words, summary[key]) for key, words in BESIDES.items())
            if one is not None
        )
        + _aims(summary)
    )


def _aims(summary: Summary) -> str:
    """What was aimed at besides, in sentences."""
    found, (cost, tau) = "", (summary["cost"], summary["tau"])
    if cost is not None:
        missed = "; at most 1.0 was the aim, which is missed" if cost["ratio"] > 1 else ""
        found += f" Its device seconds were {_number(cost['ratio'])} of the yardstick's ({_pairs(cost)}{missed})."
    if tau is not None:
        missed = "; at least 0.6 was the aim, which is missed" if tau["mean"] < 0.6 else ""
        found += (
            f" The supernet's scores rank random subnets with tau {tau['mean']:.2f}, where two trainings agree to "
            f"{tau['ceiling']:.2f}{missed}."
        )
    return found


def targets(summary: Summary) -> str:
    """What was to be shown, and what was found."""
    rows = []
    for key, title, target in TARGETS:
        found = summary[key]
        if found is not None:
            text = f"{found['mean_points']:+.2f}, p = {_p(found['wilcoxon_p'])}, {_pairs(found)}"
            rows.append((title, target, text))
    worst = summary["winner_minus_yardstick"]
    if worst is not None:
        task = worst["worst_task"]
        rows.insert(
            1, ("worst task, mean over seeds, points", "at least -0.5", f"{task['mean_points']:+.2f} ({task['task']})")
        )
    tau, text = summary["tau"], "not measured"
    if tau is not None:
        text = f"{tau['mean']:.2f}; two trainings agree to {tau['ceiling']:.2f}"
    rows.append(("tau of the inherited tempered score with stand-alone test accuracy", "at least 0.6", text))
    rows.append(("cost of a whole run over the yardstick's, device seconds", "at most 1.0", _cost(summary["cost"])))
    if summary["cost_one_by_one"] is not None:
        title = "cost over that of the yardstick's trainings one by one, each captured in a graph"
        rows.append((title, "", _cost(summary["cost_one_by_one"])))
    return _table(("", "target", "found"), rows, "left")


def _pairs(cost: Summary) -> str:
    return f"{cost['pairs']} pair" + ("" if cost["pairs"] == 1 else "s")


def _cost(cost: Summary | None) -> str:
    if cost is None:
        return "not measured"
    text = f"{_number(cost['ratio'])}; {_number(cost['ratio_with_compilation'])} with compilation"
    shared = cost["units_at_a_time"]
    steps = f"; {_number(cost['model_steps_ratio'])} by model-steps"
    return f"{text}{steps}; {_pairs(cost)}" + ("" if shared == 1 else f", {shared} units at a time on a GPU")


def accuracies(summary: Summary, only: Iterable[str] | None = None) -> str:
    """Test accuracy of the arms by task."""
    arms = summary["arms"]
    names = [name for name in (only or arms) if name in arms]
    tasks = summary["tasks"]
    most = {task: max((len(arms[name]["seeds_per_task"].get(task, ())) for name in names), default=0) for task in tasks}
    rows, partial = [], False
    for name in names:
        arm = arms[name]
        cells = []
        for task in tasks:
            seeds = len(arm["seeds_per_task"].get(task, ()))
            of = f" ({seeds} of {most[task]})" if 0 < seeds < most[task] else ""
            cells.append(f"{100 * arm['per_task'][task]:.2f}{of}" if seeds else "")
            partial = partial or bool(of)
        rank = summary["ranks"].get(name)
        rows.append(
            (
                arm["title"],
                *cells,
                f"{100 * arm['test_accuracy']:.2f}" if _whole(summary, name) else "",
                "" if rank is None else f"{rank:.1f}",
                f"{arm['parameters']:,.0f}",
                str(arm["pairs"]),
            )
        )
    table = _table(("arm", *tasks, "mean", "rank", "parameters", "pairs"), rows)
    return f"{table}\n\n{PARTIAL}" if partial else table


def _whole(summary: Summary, name: str) -> bool:
    """Whether an arm has as many pairs as any: means over others do not stand side by side."""
    arms = summary["arms"]
    return name in arms and arms[name]["pairs"] == max(arm["pairs"] for arm in arms.values())


def ablations(summary: Summary) -> str:
    """The whole product minus each arm."""
    rows = []
    for name, found in summary["ablations"].items():
        if found is not None:
            interval = _interval(found)
            p = _p(found["wilcoxon_p"])
            title = summary["arms"][name]["title"]
            rows.append((title, f"{found['mean_points']:+.2f}", interval, p, str(found["pairs"])))
    return _table(("against", "points", "95 % interval", "p", "pairs"), rows) if rows else ""


def augmentation(summary: Summary) -> str:
    """Each recipe minus none, by task."""
    tasks = summary["tasks"]
    rows = [
        (
            recipe,
            *(f"{found['per_task'][task]:+.2f}" if task in found["per_task"] else "" for task in tasks),
            f"{found['mean_points']:+.2f}",
            _interval(found),
            _p(found["wilcoxon_p"]),
            str(found["pairs"]),
        )
        for recipe, found in summary["augmentation"]["minus_none"].items()
    ]
    return _table(("recipe", *tasks, "mean", "95 % interval", "p", "pairs"), rows)


def costs(summary: Summary) -> str:
    """Means over tasks and seeds."""
    keys = ("training_seconds", "other_seconds", "compile_seconds", "wall_seconds")
    rows = [
        (
            arm["title"],
            *(f"{arm[key]:.1f}" for key in keys),
            f"{arm['steps']:,.0f}",
            f"{arm['model_steps']:,.0f}",
            str(arm["pairs"]),
        )
        for arm in summary["arms"].values()
    ]
    header = (
        "arm",
        "training, s",
        "all else but the test, s",
        "of these compiling, s",
        "whole unit, s",
        "steps",
        "model-steps",
        "pairs",
    )
    return _table(header, rows)


def ranking(summary: Summary) -> str:
    """Kendall's tau by task."""
    tau = summary["tau"]
    tasks = list(tau["per_task"])
    rows = [
        ("inherited tempered score", *(f"{tau['per_task'][task]:.2f}" for task in tasks), f"{tau['mean']:.2f}"),
        ("two trainings", *(f"{tau['ceiling_per_task'][task]:.2f}" for task in tasks), f"{tau['ceiling']:.2f}"),
    ]
    return _table(("tau with test accuracy alone", *tasks, "mean"), rows)


def ideas(summary: Summary) -> str:
    """What might rank better: tau of each score, means over tasks and seeds."""
    found = summary["tau_ideas"]
    names = ("tempered", "accuracy", "cross_entropy")
    rows = [
        (idea, *(f"{scores[name]['mean']:.2f}" if name in scores else "" for name in names))
        for idea, scores in found.items()
    ]
    each = next(iter(found.values()))["tempered"]["each"]
    seeds = ", ".join(str(seed) for seed in sorted({one["seed"] for one in each}))
    return _table((f"tau, {_pairs({'pairs': len(each)})}, seed {seeds}", "tempered", "accuracy", "cross-entropy"), rows)


def pairs(summary: Summary) -> str:
    """Winner and yardstick, pair by pair."""
    found = summary["winner_minus_yardstick"]
    if found is None:
        return ""
    yardstick, winner = (_chosen(summary, arm) for arm in ("yardstick", "evolution"))
    rows = [
        (
            one["task"],
            str(one["seed"]),
            yardstick.get((one["task"], one["seed"]), ""),
            winner.get((one["task"], one["seed"]), ""),
            f"{one['points']:+.2f}",
            _p(one["mcnemar_p_holm"]),
        )
        for one in found["each"]
    ]
    return _table(("task", "seed", "the yardstick's pick", "the product's", "points", "p"), rows)


def _chosen(summary: Summary, arm: str) -> dict[tuple[str, int], str]:
    """(task, seed) → what an arm chose."""

    def text(pick: Mapping[str, Any]) -> str:
        return pick["name"] if pick["rate"] is None else f"{pick['name']} at {pick['rate']:g}"

    return {(pick["task"], pick["seed"]): text(pick) for pick in summary["picks"].get(arm, [])}


def _table(header: Iterable[str], rows: Iterable[Iterable[str]], align: str = "right") -> str:
    names = list(header)
    rule = ["---", *(["---:" if align == "right" else "---"] * (len(names) - 1))]
    lines = [names, rule, *(list(row) for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _interval(found: Mapping[str, Any]) -> str:
    """Of a mean difference; one pair has none."""
    return "" if found["interval"] is None else "{:+.2f} to {:+.2f}".format(*found["interval"])


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2f}"
