"""Pairs of runs: on the same images, and over seeds and tasks."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from support.stage_results import result
from support.stored_runs import IMAGES, run

from glorasearch.cli.compare_table import print_markdown
from glorasearch.cli.pair_table import pair_cells
from glorasearch.db import RunRecord
from glorasearch.runs.compare import compare
from glorasearch.runs.results import Correct


def right(name: str, first: int, count: int, *overrides: str, **changes: Any) -> RunRecord:
    """A run whose model classifies `count` test images correctly, from the given one on."""
    found = run(name, *overrides)
    flags = [first <= index < first + count for index in range(IMAGES["test"])]
    accuracy = count / IMAGES["test"]
    tested = found.stages["test"] | {"test_accuracy": accuracy, "correct": Correct.pack(flags).to_json()} | changes
    stages = dict(found.stages) | {"test": result("test", **tested)}
    return dataclasses.replace(found, stages=stages)


def test_single_runs_are_paired_with_the_first_tested_one() -> None:
    runs = [run("none", test=None), right("a", 0, 600), right("b", 2, 610, "space.name=ssf"), run("c", "seed=1")]
    found = compare(runs, sort="test").to_dict()

    (pair,) = found["paired"]
    assert pair == {
        "run": "b",
        "against": "a",
        "images": 800,
        "both": 598,
        "only_run": 12,
        "only_against": 2,
        "difference": 10 / 800,
        "interval": pair["interval"],
        "p": pytest.approx(2 * (1 + 14 + 91) / 2**14),
        "p_adjusted": pair["p"],
        "verdict": "better",
    }
    assert pair["interval"][0] > 0
    assert found["unpaired"] == {"none": "not tested", "c": "other test images than a"}


def test_several_models_are_adjusted() -> None:
    runs = [right("a", 0, 600), *(right(name, 2, 610, f"space.name={name}") for name in ("ssf", "bitfit", "lora_r8"))]
    found = compare(runs).to_dict()["paired"]

    p = 2 * (1 + 14 + 91) / 2**14
    assert [row["p_adjusted"] for row in found] == pytest.approx([3 * p] * 3)
    assert {row["verdict"] for row in found} == {"better"}


def test_one_run_has_no_pair() -> None:
    assert compare([run("a")]).to_dict()["paired"] == []
    assert compare([run("a", test=None), run("b", "space.name=ssf", test=None)]).to_dict()["paired"] == []


def seeds(space: str, accuracies: list[float], *overrides: str, first: int = 0) -> list[RunRecord]:
    """Runs of a method, a seed each."""
    return [
        run(f"{space}-{seed}{'-x' * len(overrides)}", f"space.name={space}", f"seed={seed}", *overrides, test=accuracy)
        for seed, accuracy in enumerate(accuracies, first)
    ]


def test_methods_are_paired_by_seed() -> None:
    lora, ssf = seeds("lora", [0.7, 0.6, 0.8, 0.75, 0.5]), seeds("ssf", [0.71, 0.62, 0.83, 0.79, 0.55])
    (pair,) = compare([*lora, *reversed(ssf)], group=True).to_dict()["paired"]

    assert (pair["method"], pair["against"], pair["pairs"]) == ("ssf", "lora", 5)
    assert pair["mean"] == pytest.approx(0.03)
    # The standard deviation of 1, 2, 3, 4, 5 is √2.5, and Student's quantile with four degrees of freedom 2.776.
    assert pair["interval"] == pytest.approx((0.03 - 0.01963, 0.03 + 0.01963), abs=1e-5)
    assert (pair["wilcoxon_p"], pair["wilcoxon_p_worse"], pair["least_p"]) == (1 / 32, 1.0, 1 / 32)
    assert pair["verdict"] == "better"
    assert [(each["seed"], each["runs"]) for each in pair["each"]] == [
        (seed, [f"ssf-{seed}", f"lora-{seed}"]) for seed in (4, 3, 2, 1, 0)
    ]


def test_tasks_and_seeds_are_pairs_of_one_test() -> None:
    other = "data.source=folder:x"
    lora = [*seeds("lora", [0.7, 0.6]), *seeds("lora", [0.3, 0.4], other)]
    ssf = [*seeds("ssf", [0.6, 0.5]), *seeds("ssf", [0.1, 0.2], other)]
    found = compare([*lora, *ssf], group=True)
    (pair,) = found.to_dict()["paired"]

    assert found.warnings == ()
    assert [(row["method"], row["task"]) for row in found.to_dict()["rows"]] == [
        ("lora", "digits"), ("lora", "folder:x"), ("ssf", "digits"), ("ssf", "folder:x")
    ]  # fmt: skip
    assert (pair["pairs"], pair["mean"]) == (4, pytest.approx(-0.15))
    assert {(each["task"], each["seed"]) for each in pair["each"]} == {
        (task, seed) for task in ("digits", "folder:x") for seed in (0, 1)
    }
    assert (pair["wilcoxon_p"], pair["wilcoxon_p_worse"], pair["verdict"]) == (1.0, 1 / 16, "no difference")


def test_within_a_task_what_differs_is_still_told(capsys: pytest.CaptureFixture[str]) -> None:
    other = "data.source=folder:x"
    runs = [run("a"), run("b", other), run("c", "space.name=ssf", "train.steps=7"), run("d", "space.name=ssf", other)]
    runs.append(run("e", "space.name=ssf", other, "train.steps=7"))
    found = compare(runs, group=True)  # `ssf` has two recipes, so not every method has every task

    assert any(line.startswith("data.source") for line in found.warnings)
    whole = compare([*runs[:2], runs[2], runs[4]], group=True)
    assert list(whole.warnings) == ["train.steps: 6000 (a), 7 (c)", "train.steps: 6000 (b), 7 (e)"]
    print_markdown(whole)
    assert capsys.readouterr().out.startswith("| task | method | seeds |")


def test_what_has_no_partner_is_told() -> None:
    runs = [*seeds("lora", [0.7, 0.6, 0.5]), *seeds("ssf", [0.8, 0.7, 0.6], first=1), run("x", "seed=9", test=None)]
    found = compare(runs, group=True).to_dict()

    (pair,) = found["paired"]
    assert (pair["pairs"], pair["mean"]) == (2, pytest.approx(0.2))
    alone = "no run to compare it with has its seed, task and test images"
    assert found["unpaired"] == {"x": "not tested", "ssf-3": alone, "lora-0": alone}


def test_other_test_images_of_one_seed_are_no_pair() -> None:
    runs = [run("a"), run("b", "space.name=ssf", "data.seed=4")]
    found = compare(runs, group=True).to_dict()

    assert found["paired"] == []
    assert found["unpaired"].keys() == {"a", "b"}


def test_a_method_is_compared_with_the_baselines_of_its_runs() -> None:
    runs = [right(f"r{seed}", 0, 700 + seed, f"seed={seed}", baselines={"ssf": 0.8}) for seed in range(3)]
    (pair,) = compare(runs, group=True).to_dict()["paired"]

    assert (pair["method"], pair["against"]) == ("lora", "its baseline ssf")
    assert pair["mean"] == pytest.approx(701 / 800 - 0.8)
    assert [each["runs"] for each in pair["each"]] == [["r0"], ["r1"], ["r2"]]


def test_a_seed_that_occurs_twice_is_one_pair() -> None:
    runs = [run("a", test=0.5), run("again", test=0.7), run("b", "space.name=ssf", test=0.7)]
    (pair,) = compare(runs, group=True).to_dict()["paired"]

    assert (pair["pairs"], pair["mean"]) == (1, pytest.approx(0.1))
    assert pair["interval"] is None


def test_methods_of_one_name_say_their_runs() -> None:
    runs = [run("a"), run("b", "train.steps=7", test=0.5)]
    (pair,) = compare(runs, group=True).to_dict()["paired"]

    assert (pair["method"], pair["against"]) == ("lora (b)", "lora (a)")


def test_several_methods_are_adjusted() -> None:
    steps = [0.01, 0.02, 0.03, 0.04, 0.05]
    first = seeds("lora", [0.5] * 5)
    others = [seeds(name, [0.5 + step for step in steps]) for name in ("ssf", "bitfit")]
    found = compare([*first, *others[0], *others[1]], group=True)

    rows = found.to_dict()["paired"]
    assert [row["wilcoxon_p"] for row in rows] == [1 / 32] * 2
    assert [row["wilcoxon_p_adjusted"] for row in rows] == [2 / 32] * 2
    assert {row["verdict"] for row in rows} == {"no difference"}
    assert pair_cells(found.paired.rows)[2][0][-1] == "no difference can be told (p = 0.062 after Holm)"


def test_cells_of_models_and_of_methods() -> None:
    models = compare([right("a", 0, 600), right("b", 2, 610, "space.name=ssf")])
    heads, texts, ((*cells,),) = pair_cells(models.paired.rows)
    assert (len(heads), texts) == (8, 2)
    assert cells == ["b", "a", "+1.2", "+0.4 to +2.4", "12", "2", "p = 0.013", "better"]

    few = compare([*seeds("lora", [0.5, 0.5]), *seeds("ssf", [0.6, 0.62])], group=True)
    heads, texts, ((*cells,),) = pair_cells(few.paired.rows)
    assert (len(heads), texts) == (8, 2)
    assert cells == [
        "ssf", "lora", "2", "+11.00", "-1.71 to +23.71", "p = 0.25", "p = 1",
        "too few pairs to tell (at best p = 0.25)",
    ]  # fmt: skip


def test_worse_is_said_of_the_second(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [
        *seeds("lora", [0.71, 0.62, 0.83, 0.79, 0.55]),
        *seeds("ssf", [0.7, 0.6, 0.8, 0.75, 0.5]),
        run("z", "seed=7"),
    ]
    print_markdown(compare(runs, group=True))
    rows, pairs = capsys.readouterr().out.split("\n\n")

    assert len(rows.splitlines()) == 4
    assert pairs.splitlines()[2] == ("| ssf | lora | 5 | -3.00 | -4.96 to -1.04 | p = 1 | p = 0.031 | worse |")
    assert pairs.splitlines()[3] == "not paired: z (no run to compare it with has its seed, task and test images)"
