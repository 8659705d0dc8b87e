"""Figures of real runs: finished, under way, without what they would be drawn from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.runs import NAME
from support.stored_runs import run

from glorasearch.db import RunState, RunStore
from glorasearch.errors import RunNotFoundError
from glorasearch.figures import RunFacts, draw, figures_of, lacking, theme
from glorasearch.figures.layers import layer_parameters
from glorasearch.runs.results import Pick
from glorasearch.space import SearchSpace
from glorasearch.space.known_backbones import known_layers
from glorasearch.statistics.intervals import wilson

Bench = Any


def read(bench: Bench) -> RunFacts:
    return RunFacts.read(bench.database_url, NAME, Path(bench.workspace) / "runs" / NAME)


def test_figures_have_the_recorded_numbers(undisturbed: Bench) -> None:
    facts = read(undisturbed)
    found = {figure.key: figure for figure in figures_of(facts, lambda number: f"/runs/{NAME}/trials/{number}")}
    assert {"winner", "front", "generations", "time", "confusion", "calibration", "losses", "rates", "cost"} <= set(
        found
    )
    search, tested = facts.results.search, facts.tested
    assert search is not None
    assert tested is not None
    assert facts.pick is not None

    points = found["front"].spec["data"]["values"]
    assert len(points) == search.trials - search.stopped_early
    assert {one["trial"] for one in points if one["kind"] != "other trial"} >= {search.trial}
    assert {one["href"] for one in points if one["trial"] == search.trial} == {f"/runs/{NAME}/trials/{search.trial}"}
    assert found["generations"].spec["data"]["values"][-1]["best_so_far"] == search.search_fitness

    cells = found["winner"].spec["data"]["values"]
    assert {(one["layer"], one["tensor"]): one["choice"] for one in cells} == dict(facts.pick.subnet.items())

    shares = found["winner"].spec["hconcat"][1]["data"]["values"]
    assert sum(one["parameters"] for one in shares) == facts.pick.parameters

    matrix = found["confusion"].spec["data"]["values"]
    assert sum(one["images"] for one in matrix) == tested.splits.test.images
    assert sum(one["images"] for one in matrix if one["class"] == one["prediction"]) == tested.correct.count
    bins = found["calibration"].spec["layer"], found["calibration"].spec["data"]["values"]
    assert sum(one["images"] for one in bins[1]) == tested.splits.test.images
    assert sum(round(one["right"] * one["images"]) for one in bins[1]) == tested.correct.count
    for one in bins[1]:
        assert (one["low"], one["high"]) == wilson(round(one["right"] * one["images"]), one["images"])


@pytest.mark.parametrize("look", ["light", "dark"])
def test_every_figure_draws(undisturbed: Bench, look: Any) -> None:
    for figure in figures_of(read(undisturbed)):
        picture = draw(figure, "svg", look).decode()
        assert theme(look)["background"] in picture
        assert "NaN" not in picture, figure.key
        json.dumps(figure.to_json(), allow_nan=False)
    assert draw(figure, "png", look).startswith(b"\x89PNG")


def test_a_run_gives_what_it_has(undisturbed: Bench) -> None:
    facts = RunFacts.read(undisturbed.database_url, NAME)  # no folder
    drawn = figures_of(facts)
    found = {figure.key for figure in drawn}
    assert "calibration" not in found
    assert "front" in found
    assert any("predictions.csv" in line for line in lacking(facts, drawn))
    with pytest.raises(RunNotFoundError, match="known are"):
        RunFacts.read(undisturbed.database_url, "other")


def test_layers_share_the_parameters_that_are_recorded() -> None:
    layers = known_layers("vit_tiny_patch16_224")
    assert layers is not None
    space = SearchSpace.load("lora").bind(layers)
    pick = Pick(
        name="lora", kind="method", space_key="space", parameters=space.parameters(space.largest()), rate=None,
        start=None, subnet=space.largest(), digest="", stored=0,
    )  # fmt: skip
    record = run("r", "backbone.name=vit_tiny_patch16_224")
    found = layer_parameters(record, pick, None)
    assert sum(found.values()) == pick.parameters
    assert found["blocks.3.mlp.fc1"] == found["blocks.11.mlp.fc2"] > found["blocks.3.attn.proj"] > 0
    assert layer_parameters(record, pick.model_copy(update={"parameters": 1}), None) == {}


def test_a_run_that_has_just_begun_has_none(tmp_path: Path) -> None:
    runs = RunStore(f"sqlite:///{tmp_path}/runs.db")
    runs.create("new", {}, "")
    runs.set_state("new", RunState.RUNNING)
    facts = RunFacts.read(runs.database, "new")
    assert figures_of(facts) == []
    assert len(lacking(facts, [])) == 14
