"""Results of stages: their JSON, and access by class and by stage."""

from __future__ import annotations

import json
import math

import pytest
from pydantic import ValidationError
from support.stage_results import RACE_SUMMARY, RESULTS, SUBNET, candidate, report, result

from glorasearch.runs import results as stage_results
from glorasearch.runs.results import (
    BaselineResult,
    RefitSummary,
    Report,
    Results,
    SearchResult,
    SearchSummary,
    TrainResult,
)
from glorasearch.runs.stage_result import StageResult
from glorasearch.training import TrainingResult


@pytest.mark.parametrize("stage", RESULTS)
def test_json_and_back(stage: str) -> None:
    kind = StageResult.types[stage]
    found = kind.from_json(RESULTS[stage])

    assert found == kind.from_json(found.to_json())
    assert RESULTS[stage].items() <= found.to_json().items()
    with pytest.raises(ValidationError, match="frozen"):
        setattr(found, next(iter(kind.model_fields)), None)


def test_every_stage_has_a_class_of_its_own() -> None:
    assert StageResult.types.keys() == RESULTS.keys()


def test_a_report_of_an_earlier_version_is_written_as_it_was() -> None:
    earlier = report().to_json()
    del earlier["latency"]
    assert json.loads(Report.from_json(earlier).encode()) == earlier
    pair = {"original": 1.0, "merged": 1.0, "ratio": 1.0, "interval": (0.9, 1.1), "pairs": 5, "images": 1}
    measured = report(latency=pair | {"device": "cpu", "threads": 1})
    assert json.loads(measured.encode()) == json.loads(json.dumps(measured.to_json()))


def test_a_stored_subnet_needs_no_plugins() -> None:
    subnet = {"blocks.0.attn.qkv": {"B": "of_a_plugin:4"}}

    assert SearchResult.from_json(result("search", subnet=subnet)).to_json()["subnet"] == subnet
    assert SearchResult.from_json(result("search")).subnet == SUBNET


def test_a_loss_may_be_no_number() -> None:
    loss = TrainResult.from_json(result("train", loss=math.nan)).to_json()["loss"]

    assert math.isnan(loss)


def test_results_by_stage_and_by_class() -> None:
    stages = {"train": result("train"), "baseline:lora": result("baseline"), "report": report().to_json()}
    found = Results(stages)

    assert found.train == found.get(TrainResult) == found.named("train")
    assert found.baselines == {"lora": found.get(BaselineResult, "lora")}
    assert found.search is None
    assert found.named("baseline:ssf") is None
    assert [(stage, type(content)) for stage, content in found.items()] == [
        ("train", TrainResult),
        ("baseline:lora", BaselineResult),
        ("report", Report),
    ]


def test_the_temperature_is_that_of_images_held_out() -> None:
    stages = {"search": result("search", search_temperature=1.25)}
    assert Results({}).temperature is None
    searched = Results(stages).temperature
    assert searched is not None
    assert (searched.value, searched.images) == (1.25, "search split")
    raced = Results(stages | {"race": result("race")}).temperature
    assert raced is not None
    assert (raced.value, raced.images) == (2.0, "out of fold")
    lost = candidate("lora", "method", 0.75)
    lost["scores"][-1]["beta"] = None
    assert (
        Results(stages | {"race": result("race", candidates=[lost, *RACE_SUMMARY["candidates"]])}).temperature is None
    )


def test_what_a_refit_adds_to_confidence_is_not_added_twice() -> None:
    surer = {"search": result("search", search_temperature=0.5)}
    assert Results(surer).temperature is None
    assert Results(surer | {"refit": result("refit")}).temperature is None
    kept = Results(surer | {"refit": result("refit", steps=0)}).temperature
    assert kept is not None
    assert (kept.value, kept.images) == (0.5, "search split")
    taught = {"count": 8, "names": ["lora"], "steps": 9, "seconds": 1.0, "mixed": 9}
    stages = {"search": result("search"), "race": result("race")}
    assert Results(stages | {"refit": result("refit", teachers=taught)}).temperature is None
    assert Results(stages | {"refit": result("refit", teachers=taught | {"discarded": True})}).temperature is not None
    folds = {"folds": 2, "images": 9, "correct": 5, "correct_inherited": 4, "steps": 2, "seconds": 1.0}
    judged = Results(surer | {"refit": result("refit", judged=folds | {"temperature": 0.75})}).temperature
    assert judged is not None
    assert (judged.value, judged.images) == (0.75, "out of fold")
    assert Results(surer | {"refit": result("refit", judged=folds)}).temperature is None  # of an earlier version


def test_a_result_takes_the_fields_of_another_object_that_are_not_given() -> None:
    training = TrainingResult(steps=3, seconds=2.5, loss=0.5)

    found = BaselineResult.of(training, weights="w", loss=None, split=None, space="lora", parameters=7, lr=0.1)

    assert (found.steps, found.seconds, found.loss, found.parameters) == (3, 2.5, None, 7)
    with pytest.raises(ValidationError, match=r"weights\n  Field required"):
        BaselineResult.of(training, split=None, space="lora", parameters=7, lr=0.1)


def test_the_report_keeps_what_it_declares_of_a_result() -> None:
    search = SearchResult.from_json(result("search"))
    content = Report.from_json(report().to_json() | {"search": search, "refit": RefitSummary.of(
        stage_results.RefitResult.from_json(result("refit"))
    )}).to_json()  # fmt: skip

    assert content["search"] == SearchSummary.of(search).to_json()
    assert "subnet" not in content["search"]
    kept = {"steps": 5, "seconds": 1.0, "start": "inherited", "lr": 1e-3}
    kept |= dict.fromkeys(("kept_step", "teachers", "judged"))
    assert content["refit"] == kept
