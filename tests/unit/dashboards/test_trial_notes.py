"""Optuna's page of a trial says what its subnet is, where it comes from and how it compares."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState

from dashboards import make_server
from glorasearch.db import Database, RunStore, TrialStorage
from glorasearch.figures import subnet
from glorasearch.runs.config import RunConfig
from glorasearch.search import TrialRecord
from glorasearch.search.trials import PARENTS, REASON
from glorasearch.space import Score

RUN = "a_b"
GENES: dict[str, BaseDistribution] = {
    f"blocks.{layer}.fc.{tensor}": CategoricalDistribution(("none", "lora:4", "lora:8"))
    for layer in (10, 9)
    for tensor in "AB"
}
FIRST = dict(zip(GENES, ("none", "none", "lora:8", "none"), strict=True))
SECOND = dict(zip(GENES, ("lora:4", "none", "lora:8", "lora:4"), strict=True))
CHILD = dict(zip(GENES, ("lora:4", "none", "none", "none"), strict=True))


def add(
    storage: TrialStorage, study: int, genes: Mapping[str, str], correct: int, parents: tuple[int, ...] = ()
) -> int:
    trial = storage.create_new_trial(study)
    parameters = 64 * sum(int(choice.partition(":")[2] or 0) for choice in genes.values())
    storage.set_trial_params(
        trial, genes, GENES, {PARENTS: parents, "subnet": f"{trial:064}", "parameters": parameters}
    )
    score = Score(correct, 100, cross_entropy=1 - correct / 100, tempered=1 - correct / 100, beta=0.5)
    record = TrialRecord(0, f"{trial:064}", parameters, score, parents=parents)
    storage.finish_trial(trial, TrialState.COMPLETE, [1 - correct / 100], record.to_attrs())
    return trial


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    found = Database(f"sqlite:///{tmp_path}/glorasearch.db")
    config = RunConfig.model_validate(
        {"backbone": {"name": "quickstart"}, "data": {"source": "digits"}, "space": {"name": "lean"}}
    )
    RunStore(found).create(RUN, config.model_dump(mode="json"), "d" * 64)
    storage = TrialStorage(found)
    study = storage.create_new_study([StudyDirection.MINIMIZE], RUN)
    for genes, correct, parents in ((FIRST, 50, ()), (SECOND, 90, ()), (CHILD, 70, (0, 1))):
        add(storage, study, genes, correct, parents)
    yield found
    found.close()


@pytest.fixture
def address(database: Database) -> Iterator[str]:
    with make_server(database.url, port=0) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        yield f"http://127.0.0.1:{server.port}"
        server.stop()
        thread.join()


def trials(address: str, after: int = 0) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{address}/api/studies/1?after={after}") as response:
        found: list[dict[str, Any]] = json.loads(response.read())["trials"]
    return found


def note(address: str, trial: int) -> str:
    return str(trials(address, trial)[0]["note"]["body"])


def test_a_trial_says_its_genes_what_it_changed_and_where_it_stands(address: str) -> None:
    said = note(address, 2)
    assert said.startswith("| Trial 2 | evaluated |\n|---|---|\n")
    assert "| Tempered cross-entropy, nats | 0.3; the best, [trial 1](/runs/a_b/trials/1), has 0.1 |" in said
    assert "| Place | 2 of 3 evaluated to the end; **on the front**: " in said  # the cheapest
    assert "| Descent | bred from [trial 0](/runs/a_b/trials/0) and [trial 1](/runs/a_b/trials/1) |" in said
    against_first = r"blocks.9.fc.A lora:8 → none, blocks.10.fc.A none → lora:4"
    against_best = r"blocks.9.fc.A lora:8 → none, blocks.9.fc.B lora:4 → none"
    assert f"| Changed against trial 0 | 2 genes: {against_first} |" in said
    assert f"| Changed against trial 1 | 2 genes: {against_best} |" in said
    assert f"| Apart from the best, trial 1 | 2 genes: {against_best} |" in said
    assert "| A of the layers | lora:4 in 1, none in 1 |\n| B of the layers | none in 2 |" in said
    assert "[The page of the trial](/runs/a_b/trials/2)" in said
    assert "A dot: trial 1, the best, has another choice there." in said
    assert said.endswith("![Trial 2, gene by gene](/runs/a_b/trials/2/genes.png)")


def test_the_best_and_those_without_parents_have_nothing_to_be_compared_with(address: str) -> None:
    best, first = note(address, 1), note(address, 0)
    assert "Apart from the best" not in best
    assert "A dot" not in best
    assert "| Place | 1 of 3 evaluated to the end; **on the front**" in best
    assert "| Descent | drawn at random |" in best
    assert "Changed against" not in best
    assert "| Place | 3 of 3 evaluated to the end |" in first  # beaten in both


def test_a_trial_that_failed_says_why_without_markup(database: Database, address: str) -> None:
    storage = TrialStorage(database)
    trial = storage.create_new_trial(1)
    storage.set_trial_params(trial, CHILD, GENES, {"subnet": "f" * 64, "parameters": 5})
    storage.finish_trial(trial, TrialState.FAIL, None, {REASON: "no *memory* <img src=x>"})
    said = note(address, 3)
    assert said.startswith("| Trial 3 | failed |")
    assert "**Failed**: no \\*memory\\* \\<img src=x\\>" in said


def test_what_somebody_wrote_to_a_trial_stands_below_ours_and_at_no_other(database: Database, address: str) -> None:
    storage = TrialStorage(database)
    for key, value in (("note_ver", 2), ("note_str:0", "keep "), ("note_str:1", "this")):
        storage.set_study_system_attr(1, f"dashboard:3:{key}", value)  # trial 2 has id 3
    assert note(address, 2).endswith("genes.png)\n\n---\n\nkeep this")
    assert "keep" not in note(address, 1)
    assert storage.get_study_system_attrs(1)["dashboard:3:note_str:0"] == "keep "


def test_a_new_best_is_named_by_the_notes_that_are_read_after_it(database: Database, address: str) -> None:
    assert "the best, [trial 1]" in note(address, 0)
    add(TrialStorage(database), 1, FIRST, 95)
    assert "the best, [trial 3]" in note(address, 0)


def test_the_picture_of_a_subnet_is_drawn_as_it_is_asked_for(address: str) -> None:
    with urllib.request.urlopen(f"{address}/runs/a_b/trials/2/genes.png") as response:
        assert response.headers["Content-Type"] == "image/png"
        assert response.read().startswith(b"\x89PNG")
    for missing in ("/runs/a_b/trials/9/genes.png", "/runs/other/trials/2/genes.png"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(address + missing)


def test_the_picture_marks_the_genes_in_which_the_best_differs() -> None:
    rows = subnet(2, CHILD, SECOND).spec["data"]["values"]
    assert {f"{row['layer']}.{row['tensor']}": row["choice"] for row in rows} == CHILD
    marked = {f"{row['layer']}.{row['tensor']}" for row in rows if row["differs"]}
    assert marked == {"blocks.9.fc.A", "blocks.9.fc.B"}
    assert not any(row["differs"] for row in subnet(1, SECOND).spec["data"]["values"])
