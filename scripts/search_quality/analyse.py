"""The numbers of docs/search-quality.json, from what the workers of the three phases left.

    python analyse.py TASKS.npz OUT.json --grid DIR... --crossfit DIR --recipe DIR [--plan plan.json]

`--plan` writes what the phase `recipe` reads: the two best points of each task by cross-fitting.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest, kendalltau, wilcoxon
from suite import METHODS, RATES, TASKS, Tasks, tempered

Row = dict[str, Any]
POINTS = [(method, rate) for method in METHODS for rate in RATES]
FOLDS = 5


class Phase:
    """The rows, notes and logits of the workers of one or several runs."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.rows: list[Row] = []
        self.notes: dict[str, Any] = {}
        self._logits: dict[tuple[str, str], np.ndarray] = {}
        for path in sorted(found for folder in folders for found in folder.glob("rows*.json")):
            read, worker = json.loads(path.read_text()), path.stem.removeprefix("rows")
            self.rows += [row | {"file": str(path)} for row in read["rows"]]
            for key, value in read["notes"].items():
                if isinstance(value, dict):
                    self.notes.setdefault(key, {}).update(value)
                elif isinstance(value, list):
                    self.notes.setdefault(key, []).extend(value)
                else:
                    self.notes[key] = value
            for archive in path.parent.glob(f"logits{worker}*.npz"):
                with np.load(archive) as stored:
                    self._logits |= {(str(path), name): stored[name] for name in stored.files}

    def select(self, **wanted: object) -> list[Row]:
        """The rows with these values."""
        return [row for row in self.rows if all(row.get(key) == value for key, value in wanted.items())]

    def logits(self, row: Row, kind: str) -> np.ndarray:
        """Held-out (`h`) or test (`t`) logits of a row."""
        return self._logits[row["file"], f"{kind}{row['number']}"].astype(np.float64)


def percent(values: Sequence[float] | np.ndarray) -> list[float]:
    """Percent with two decimals."""
    return [round(100 * float(value), 2) for value in values]


def by_task(values: Sequence[float]) -> dict[str, Any]:
    """Per task and their mean, in percent."""
    return {"tasks": percent(values), "mean": percent([float(np.mean(values))])[0]}


def tau(one: Sequence[float] | np.ndarray, two: Sequence[float] | np.ndarray) -> float:
    """Kendall's tau."""
    return float(kendalltau(one, two).statistic)


def cross_fitted(phase: Phase, tasks: Tasks, seed: int) -> dict[str, dict[str, np.ndarray]]:
    """For each task, of each point and fold: accuracy and tempered score on the fold, test accuracy."""
    found = {}
    for task in TASKS:
        labels = tasks.labels[tasks.split(task, seed)[:1000]]
        own = {name: np.zeros((len(POINTS), FOLDS)) for name in ("acc", "tempered", "ce", "test")}
        pooled = np.zeros((len(POINTS), 1000, tasks.classes[task]))
        for row in phase.select(set="grid", task=task):
            point, fold = POINTS.index((row["name"], row["lr"])), int(row["data"][5])
            for name, values in own.items():
                values[point, fold] = row[name]
            pooled[point, fold::FOLDS] = phase.logits(row, "h")
        fits = [tempered(z, labels) for z in pooled]
        own["pooled"], own["beta"] = np.array([fit[0] for fit in fits]), np.array([fit[1] for fit in fits])
        found[task] = own
    return found


def pick_rules(fitted: dict[str, dict[str, np.ndarray]]) -> dict[str, Any]:
    """Test accuracy (mean over folds, 400 steps, 800 images) of what each rule picks."""

    def halving(plan: Sequence[tuple[int, int]], own: dict[str, np.ndarray]) -> float:
        got = []
        for order in itertools.permutations(range(FOLDS)):
            alive = list(range(len(POINTS)))
            for folds, keep in plan:
                seen = list(order[:folds])
                score = own["acc"][:, seen].mean(1) - 1e-3 * own["tempered"][:, seen].mean(1)
                alive = sorted(alive, key=lambda point: -score[point])[:keep]
            got.append(own["test"][alive[0]].mean())
        return float(np.mean(got))

    rules: dict[str, list[float]] = {}
    for own in fitted.values():
        truth = own["test"].mean(1)
        ranks = sum(np.argsort(np.argsort(value)) for value in (-own["acc"].mean(1), own["tempered"].mean(1)))
        made = {
            "one fold, tempered": float(np.mean([truth[own["tempered"][:, f].argmin()] for f in range(FOLDS)])),
            "one fold, accuracy": halving([(1, 1)], own),
            "two folds, accuracy": halving([(2, 1)], own),
            "three folds, accuracy": halving([(3, 1)], own),
            "five folds, cross-entropy": truth[own["ce"].mean(1).argmin()],
            "five folds, tempered": truth[own["pooled"].argmin()],
            "five folds, accuracy": halving([(5, 1)], own),
            "five folds, rank of accuracy + rank of tempered": truth[np.asarray(ranks).argmin()],
            "halving: two folds, best 8 on five, accuracy": halving([(2, 8), (5, 1)], own),
            "best point by test (oracle)": truth.max(),
        }
        for name, value in made.items():
            rules.setdefault(name, []).append(float(value))
    return {name: by_task(values) for name, values in rules.items()}


def random_subnets(phase: Phase, recipe: Phase, fitted: dict[str, dict[str, np.ndarray]]) -> dict[str, Any]:
    """What random subnets reach alone, how well two trainings agree, and what short ones tell."""
    made: dict[str, Any] = {}
    for task in TASKS:
        test = {
            (kind, fold): np.array([r["test"] for r in phase.select(set=kind, task=task, data=f"fold:{fold}/{FOLDS}")])
            for kind, fold in (("gene", 0), ("gene", 1), ("type", 0))
        }
        slow = np.array([row["test"] for row in recipe.select(set="type-slow", task=task)])
        mean = (test["gene", 0] + test["gene", 1]) / 2
        fixed = fitted[task]["test"]
        made[task] = {
            "by gene, mean of two folds: mean, sd, max": percent([mean.mean(), mean.std(ddof=1), mean.max()]),
            "best fixed on these folds": percent([fixed[:, :2].mean(1).max()])[0],
            "by gene: tau between the test accuracies of two trainings": round(
                tau(test["gene", 0], test["gene", 1]), 2
            ),
            "tau of short trainings alone (50, 100, 200 steps)": [
                round(tau([-row["tempered"] for row in phase.select(set=f"short{steps}", task=task)], mean), 2)
                for steps in (50, 100, 200)
            ],
            "by type, fold 0, 3e-3: mean, sd, max": percent(
                [test["type", 0].mean(), test["type", 0].std(ddof=1), test["type", 0].max()]
            ),
            "best fixed on fold 0": percent([fixed[:, 0].max()])[0],
        }
        if len(slow):
            made[task]["by type, fold 0, 1e-3: mean, sd, max"] = percent([slow.mean(), slow.std(ddof=1), slow.max()])
            made[task]["by type: tau between 1e-3 and 3e-3"] = round(tau(slow, test["type", 0]), 2)
    return made


def inherited(phase: Phase, recipe: Phase) -> dict[str, Any]:
    """Tau of scores with inherited weights against test accuracy alone (by gene: the mean of two trainings)."""
    made = {}
    for name in dict.fromkeys(row["set"] for row in recipe.rows if str(row["set"]).startswith(("inherit", "warm"))):
        kind, folds = ("type", (0,)) if "-type-" in name else ("gene", (0, 1))
        scores: dict[str, list[float]] = {"tempered": [], "ce": [], "acc": []}
        for task in TASKS:
            truth = np.mean(
                [[r["test"] for r in phase.select(set=kind, task=task, data=f"fold:{f}/{FOLDS}")] for f in folds], 0
            )
            for score, values in scores.items():
                sign = 1 if score == "acc" else -1
                values.append(tau([sign * row[score] for row in recipe.select(set=name, task=task)], truth))
        made[name] = {score: round(float(np.mean(values)), 2) for score, values in scores.items()}
    return made


def against_yardstick(recipe: Phase, tasks: Tasks, seed: int) -> dict[str, Any]:
    """The student of the cross-fitted pick against what the yardstick picks: points, exact McNemar tests."""
    made: dict[str, Any] = {}
    for kind in ("yard_tempered", "yard_acc"):
        points, tests = [], []
        for task in TASKS:
            one = recipe.select(set="retrain", kind=kind, task=task)[0]
            two = recipe.select(set="taught", kind="P1", order=0, task=task)[0]
            labels = tasks.labels[tasks.split(task, seed)[1000:2500]]
            before, after = (recipe.logits(row, "t").argmax(1) == labels for row in (one, two))
            gains, losses = int((after & ~before).sum()), int((before & ~after).sum())
            points.append(two["test"] - one["test"])
            tests.append({"gains": gains, "losses": losses, "p": float(binomtest(gains, gains + losses).pvalue)})
        p = float(wilcoxon(points, alternative="greater").pvalue)
        made[kind] = by_task(points) | {"mcnemar (1,500 test images)": tests, "wilcoxon_p": p, "pairs": len(points)}
    return made


def means(phase: Phase, names: Sequence[str], **wanted: object) -> dict[str, Any]:
    """Test accuracy by the values of some columns."""
    groups: dict[str, dict[str, list[float]]] = {}
    for row in phase.select(**wanted):
        key = " ".join(str(row.get(name, "")) for name in names).strip()
        groups.setdefault(key, {}).setdefault(row["task"], []).append(row["test"])
    return {
        key: by_task([float(np.mean(found[task])) for task in TASKS])
        for key, found in groups.items()
        if len(found) == len(TASKS)
    }


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("tasks", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--grid", type=Path, nargs="+", required=True)
    parser.add_argument("--crossfit", type=Path, required=True)
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--plan", type=Path)
    parser.add_argument("--seed", type=int, default=3)
    given = parser.parse_args()
    tasks = Tasks(given.tasks)
    grid, phase, recipe = Phase(given.grid), Phase([given.crossfit]), Phase([given.recipe])
    fitted = cross_fitted(phase, tasks, given.seed)
    if given.plan:
        plan = {}
        for task, own in fitted.items():
            score = own["acc"].mean(1) - 1e-3 * own["pooled"]
            order = np.argsort(-score)
            first = int(order[0])
            second = next(int(point) for point in order if POINTS[int(point)][0] != POINTS[first][0])
            plan[task] = {
                name: [*POINTS[point], float(own["beta"][point])] for name, point in (("P1", first), ("P2", second))
            }
        given.plan.write_text(json.dumps(plan, indent=1))
    long = [row for row in [*grid.rows, *recipe.rows] if row["set"] == "grid" and row["data"] == "train"]
    seconds = {
        "24 trainings of 2,000 steps": [row["seconds"] for row in long],
        "24 trainings of 400 steps": [row["seconds"] for row in phase.select(set="grid")],
        "24 trainings of 1,000 steps": [row["seconds"] for row in recipe.select(set="final")],
        "24 trainings of 1,500 steps": [row["seconds"] for row in recipe.select(set="taught")],
    }
    result = {
        "tasks": list(TASKS),
        "seed": given.seed,
        "device": grid.notes.get("device"),
        "step": grid.notes.get("bench"),
        "check": grid.notes.get("check"),
        "seconds": {name: round(24 * float(np.min(values)), 2) for name, values in seconds.items()},
        "grid, 2,000 steps on 800: test by task and point": {
            f"{method} {rate:g}": percent([r["test"] for task in TASKS for r in long
                                           if r["task"] == task and (r["name"], r["lr"]) == (method, rate)])
            for method, rate in POINTS
        },
        "grid, 400 steps on 800, mean of five folds": {
            f"{method} {rate:g}": by_task([float(fitted[task]["test"][i].mean()) for task in TASKS])
            for i, (method, rate) in enumerate(POINTS)
        },
        "what a rule picks": pick_rules(fitted),
        "plan": recipe.notes.get("plan"),
        "recipes, 1,000 steps on 800": means(phase, ["recipe", "averaged", "name", "lr"], set="recipe"),
        "soup of five folds minus a fold's model, mean over methods, by rate": {
            f"{rate:g}": percent(
                [
                    np.mean([phase.notes["folds"][task]["soups"][str(i)] - fitted[task]["test"][i].mean()
                             for i, point in enumerate(POINTS) if point[1] == rate])
                    for task in TASKS
                ]
            )
            for rate in RATES
        },
        "students, 400 steps on 1,000": means(phase, ["kind", "name", "lr"], set="student"),
        "retrained, 2,000 steps on 1,000": means(recipe, ["kind"], set="retrain"),
        "finalists, drop path 0.1, 1,000 steps on 1,000": means(recipe, ["kind"], set="final"),
        "averages": [
            {"name": name, "members": members}
            | {key: by_task([next(m[key] for m in recipe.notes["mixtures"]
                                  if (m["task"], m["name"], m["members"]) == (task, name, members)) for task in TASKS])
               for key in ("single", "soup", "outputs")}
            for name, members in dict.fromkeys((m["name"], m["members"]) for m in recipe.notes["mixtures"])
        ],
        "students of the finalists, 1,500 steps": means(recipe, ["kind"], set="taught"),
        "student minus yardstick": against_yardstick(recipe, tasks, given.seed),
        "random subnets": random_subnets(phase, recipe, fitted),
        "tau of inherited scores": inherited(phase, recipe),
    }  # fmt: skip
    given.out.write_text(json.dumps(result, indent=1, default=float) + "\n")


if __name__ == "__main__":
    main()
