"""Rows, groups and warnings from what the database holds of runs."""

from __future__ import annotations

import dataclasses
from typing import Any

import click
import pytest
from support.stage_results import RACE_SUMMARY, candidate, result
from support.stored_runs import run

from glorasearch.cli.compare_command import command
from glorasearch.cli.compare_table import print_markdown
from glorasearch.db import RunRecord
from glorasearch.runs.compare import SORTS, Group, Row, compare


def test_a_finished_run() -> None:
    row = Row.of(run("a"))

    assert (row.method, row.parameters, row.adapter_bytes) == ("lora", 100, 400)
    assert (row.training_seconds, row.search_seconds) == (15.0, 3.0)
    assert row.search_interval == pytest.approx((0.43136, 0.56864), abs=1e-5)
    assert (row.search_tempered, row.search_temperature) == (0.9, 2.0)
    assert row.test_interval == pytest.approx((0.71884, 0.77876), abs=1e-5)
    assert row.test_accuracy_inherited == 0.5


def test_a_run_with_a_race_is_what_won_it_at_the_cost_of_all_that_was_trained() -> None:
    teachers = {"count": 8, "names": ["lora at 0.003"], "steps": 8000, "seconds": 40.0, "mixed": 100}
    refit = result("refit", seconds=5.0, teachers=teachers)
    raced = RACE_SUMMARY | {"candidates": [candidate("lora", "method", 0.75, parameters=600, stored=700)]}
    row = Row.of(run("a", race=result("race", **raced), refit=refit))

    assert (row.winner, row.parameters, row.stored) == ("lora at 0.003", 600, 700)
    assert (row.training_seconds, row.search_seconds) == (55.0, 7.0)
    assert row.out_of_fold_accuracy == 0.75
    assert (Row.of(run("a")).winner, Row.of(run("a", test=None, search=None)).winner) == ("trial 3", None)
    pilots = result("pilot", seconds=6.0)
    assert Row.of(run("a", pilot=pilots, race=result("race", **raced), refit=refit)).training_seconds == 61.0


def test_scores_with_inherited_weights_stand_beside_the_model_that_has_them_only() -> None:
    method, searched = candidate("lora", "method", 0.75), candidate("trial 3", "searched", 0.5)
    lost = run("a", race=result("race", candidates=[method, searched]))
    won = run("b", "seed=1", race=result("race", candidates=[searched, method]))

    row = Row.of(lost)
    assert (row.winner, row.test_accuracy) == ("lora at 0.003", 0.75)
    assert [row.search_accuracy, row.search_tempered, row.search_temperature, row.search_images] == [None] * 4
    assert (row.test_accuracy_inherited, row.search_interval) == (None, None)
    assert (Row.of(won).search_accuracy, Row.of(won).test_accuracy_inherited) == (0.5, 0.5)
    (group,) = compare([lost, won], group=True).to_dict()["rows"]
    assert (group["search_accuracy"], group["test_accuracy_inherited"]) == (None, None)
    assert group["out_of_fold_accuracy"]["each"] == [0.75, 0.5]
    (group,) = compare([won], group=True).to_dict()["rows"]
    assert group["search_accuracy"]["each"] == [0.5]


def test_the_tables_have_a_column_for_races_where_there_are_any(capsys: pytest.CaptureFixture[str]) -> None:
    raced = run("a", race=result("race"))
    for runs, group, there in (([raced, run("b")], False, True), ([run("b")], False, False), ([raced], True, True)):
        print_markdown(compare(runs, group=group))
        assert ("out of fold, %" in capsys.readouterr().out) == there


def test_a_run_that_has_only_been_trained_or_not_even_that() -> None:
    row = Row.of(run("a", test=None, search=None))
    assert (row.training_seconds, row.parameters, row.test_interval, row.adapter_bytes) == (10.0, None, None, None)

    empty = Row.of(run("a", test=None, search=None, train=None))
    assert (empty.training_seconds, empty.search_interval) == (None, None)


def test_runs_that_differ_in_seed_name_and_report_are_one_row() -> None:
    runs = [
        run("a", test=0.7, parameters=100),
        run("b", "seed=1", 'report.baselines=["bitfit"]', test=0.8, parameters=140),
        run("c", "space.name=ssf", test=0.6),
        run("d", "train.steps=7", test=0.1),
    ]
    result = compare(runs, group=True).to_dict()["rows"]

    assert [row["runs"] for row in result] == [["a", "b"], ["c"], ["d"]]
    assert result[0]["seeds"] == [0, 1]
    assert result[0]["test_accuracy"] == {
        "mean": pytest.approx(0.75),
        "std": pytest.approx(0.0707107),
        "each": [0.7, 0.8],
    }
    assert result[0]["adapter_bytes"]["mean"] == 480
    assert (result[0]["search_tempered"]["mean"], result[0]["search_temperature"]["each"]) == (0.9, [2.0, 2.0])
    assert result[1]["test_accuracy"] == {"mean": 0.6, "std": None, "each": [0.6]}


def test_a_run_that_is_not_tested_is_in_no_mean() -> None:
    result = compare([run("a"), run("b", "seed=1", test=None, parameters=900)], group=True)

    (group,) = result.to_dict()["rows"]
    assert (group["runs"], group["left_out"]) == (["a"], ["b"])
    assert group["parameters"]["each"] == [100]
    assert result.warnings == ("b: not tested yet, left out of the mean",)
    (alone,) = compare([run("b", test=None)], group=True).to_dict()["rows"]
    assert (alone["runs"], alone["left_out"], alone["test_accuracy"]) == (["b"], [], None)


@pytest.mark.parametrize(
    ("key", "order"),
    [
        (None, ["z", "none", "a", "m"]),
        ("method", ["m", "z", "none", "a"]),
        ("parameters", ["a", "m", "none", "z"]),
        ("search", ["z", "none", "a", "m"]),
        ("test", ["m", "z", "a", "none"]),
        ("seconds", ["z", "a", "m", "none"]),
    ],
)
def test_sorting(key: str | None, order: list[str]) -> None:
    train = run("x").stages["train"]
    runs = [
        run("z", test=0.7, parameters=900, train=train | {"seconds": 1.0}),
        run("none", test=None, parameters=300, train=None),
        run("a", test=0.7, parameters=100),
        run("m", "space.name=bitfit", test=0.9, parameters=200),
    ]

    rows = [row for row in compare(runs, sort=key).rows if isinstance(row, Row)]
    groups = [group for group in compare(runs, sort=key, group=True).rows if isinstance(group, Group)]

    assert [row.run for row in rows] == order
    assert len(groups) == 2
    assert sorted(row.run for group in groups for row in group.rows) == ["a", "m", "none", "z"]


def test_methods_on_an_equal_footing_need_no_warning() -> None:
    unlike = "train.strategy=sandwich", "train.probe_every=7", "search.trials=9", "data.max_memory_gib=1"
    assert compare([run("a"), run("b", "space.name=ssf", *unlike)]).warnings == ()
    groups = [
        run(f"{space}-{seed}", f"space.name={space}", f"seed={seed}") for space in ("ssf", "lora") for seed in (0, 1)
    ]
    assert compare(groups, group=True).warnings == ()


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.steps=7", ["train.steps: 6000 (a, b), 7 (c)"]),
        ("refit.start=fresh", ['refit.start: "inherited" (a, b), "fresh" (c)']),
        ("backbone.name=swin", ['backbone.name: "vit" (a, b), "swin" (c)']),
    ],
)
@pytest.mark.parametrize("group", [False, True])
def test_what_differs_is_told(override: str, expected: list[str], group: bool) -> None:
    assert list(compare([run("a"), run("b", "space.name=ssf"), run("c", override)], group=group).warnings) == expected


def test_other_images_are_told_by_their_splits() -> None:
    warnings = compare([run("a"), run("b", "data.source=folder:x")]).warnings

    assert warnings[0] == 'data.source: "digits" (a), "folder:x" (b)'
    assert [warning.partition(":")[0] for warning in warnings[1:]] == [
        f"images of the {role} split" for role in ("train", "search", "test")
    ]
    assert len(compare([run("a"), run("b", "data.source=folder:x")], group=True).warnings) == 4


def test_images_that_seeds_drew_are_no_surprise_within_a_group() -> None:
    runs = [run("a"), run("b", "seed=1"), run("c", "space.name=ssf")]

    (warning,) = compare(runs).warnings
    assert warning == (
        "images of the splits train, search, test, drawn by the seed: 0 (a, c), 1 (b); "
        "--group folds runs that differ in the seed only"
    )
    (warning,) = compare(runs, group=True).warnings
    assert warning == "seeds: 0, 1 (a+b), 0 (c)"


def test_images_of_one_seed_that_differ_are_told_in_groups_too() -> None:
    warnings = compare([run("a"), run("b", "space.name=ssf", "data.seed=4")], group=True).warnings

    assert [warning.partition(":")[0] for warning in warnings] == [
        f"images of the {role} split" for role in ("train", "search", "test")
    ]


def test_a_seed_that_counts_twice_is_told() -> None:
    (warning,) = compare([run("a"), run("again")], group=True).warnings

    assert warning == "a, again: a seed occurs more than once, so the standard deviation is too small"


def test_a_space_of_ones_own_is_called_by_its_files_name(tmp_path: Any) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[choices]\nB = ["lora:2"]\n')

    assert Row.of(run("a", f"space.name={path}")).method == "mine"


def test_the_command_offers_every_order() -> None:
    (option,) = (param for param in command.params if param.name == "sort")

    assert isinstance(option.type, click.Choice)
    assert tuple(option.type.choices) == SORTS


def test_a_number_that_stands_for_two_classes_is_told() -> None:
    def named(name: str, *classes: str) -> RunRecord:
        made = run(name)
        test = made.stages["test"]
        splits = test["splits"] | {"class_names": list(classes)}
        return dataclasses.replace(made, stages=made.stages | {"test": test | {"splits": splits}})

    assert compare([named("a", "x", "y"), named("b", "x", "y")]).warnings == ()
    (warning,) = compare([named("a", "x", "y"), named("b", "y", "x")]).warnings
    assert warning == "classes: x, y (a), y, x (b)"
    many = [str(number) for number in range(1000)]
    (warning,) = compare([named("a", *many), named("b", *many[:-1], "last")]).warnings
    assert len(warning) < 250
