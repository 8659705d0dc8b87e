"""The dashboard over a study as large as a search on ViT-B/16 makes it: 48 layers, 240 genes, 1,050 trials."""

import json
import os
import random
import re
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState

from dashboards import make_server
from glorasearch.db import TrialStorage
from glorasearch.errors import DatabaseError, InputError
from glorasearch.search import TrialRecord
from glorasearch.space import Score

CHOICES = {
    "A": ("none", "constant", "vector", "lora:8"),
    "B": ("none", "constant", "vector", "lora:8"),
    "C": ("none", "vector", "lora:8"),
    "D": ("none", "constant", "vector"),
    "E": ("none", "constant", "vector"),
}
GENES: dict[str, BaseDistribution] = {
    f"blocks.{block}.{layer}.{tensor}": CategoricalDistribution(choices)
    for block in range(12)
    for layer in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    for tensor, choices in CHOICES.items()
}
TRIALS = 1_050


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    storage = TrialStorage(f"sqlite:///{tmp_path_factory.mktemp('dashboard')}/trials.db")
    study_id = storage.create_new_study([StudyDirection.MAXIMIZE], "a search on ViT-B/16")
    draw = random.Random(0)
    for _ in range(TRIALS):
        trial_id = storage.create_new_trial(study_id)
        params = {name: draw.choice(CHOICES[name[-1]]) for name in GENES}
        attrs = {"subnet": f"{trial_id:064}", "parameters": draw.randrange(200_000, 900_000)}
        storage.set_trial_params(trial_id, params, GENES, attrs)
        accuracy = draw.random()
        score = Score(int(100 * accuracy), 100, cross_entropy=2 - accuracy, tempered=1 - accuracy, beta=0.5)
        scores = TrialRecord(0, attrs["subnet"], attrs["parameters"], score).to_attrs()
        storage.finish_trial(trial_id, TrialState.COMPLETE, [accuracy], scores)
    sampled, _ = storage.create_new_trial(study_id), storage.create_new_trial(study_id)
    storage.set_trial_params(sampled, dict.fromkeys(GENES, "none"), GENES, {"parameters": 0})
    storage.database.close()
    return storage.database.url.render_as_string()


@pytest.fixture(scope="module")
def address(url: str) -> Iterator[str]:
    with make_server(url, port=0) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        yield f"http://127.0.0.1:{server.port}"
        server.stop()
        thread.join()


def get(address: str, path: str) -> tuple[Any, int]:
    """The JSON at a path, and its size in bytes."""
    with urllib.request.urlopen(address + path) as response:
        body = response.read()
    return json.loads(body), len(body)


def test_the_study_request_is_small_and_quick(address: str) -> None:
    start = time.perf_counter()
    study, size = get(address, "/api/studies/1?after=0")
    print(f"{TRIALS} trials of {len(GENES)} genes: {size / 1e6:.1f} MB in {time.perf_counter() - start:.2f} s")
    assert len(study["trials"]) == TRIALS + 1
    assert size < 6_500 * TRIALS
    finished, running = study["trials"][0], study["trials"][-1]
    numbers = {param["name"]: float(param["param_external_value"]) for param in finished["params"]}
    assert len(numbers) == sum(map(len, CHOICES.values())) + 2
    assert {
        "A: share of lora",
        "B: share of none",
        "C: share of vector",
        "D: share of constant",
        "E: share of vector",
        "mean rank",
        "parameters",
    } <= numbers.keys()
    for tensor, choices in CHOICES.items():
        shares = [numbers[f"{tensor}: share of {choice.partition(':')[0]}"] for choice in choices]
        assert sum(shares) == pytest.approx(1, abs=0.0005 * len(shares))
    assert {attr["key"] for attr in finished["user_attrs"]} == {
        "accuracy", "cross_entropy", "tempered", "temperature", "origin",
    }  # fmt: skip
    assert (running["state"], len(running["params"])) == ("Running", len(numbers))
    assert {param["name"] for param in study["intersection_search_space"]} == numbers.keys()


def test_a_later_request_gets_what_is_new(address: str) -> None:
    study, _ = get(address, f"/api/studies/1?after={TRIALS - 1}")
    assert [trial["number"] for trial in study["trials"]] == [TRIALS - 1, TRIALS]
    assert study["best_trials"][0]["state"] == "Complete"


def test_requests_that_wait_leave_no_lines(address: str, caplog: pytest.LogCaptureFixture) -> None:
    with ThreadPoolExecutor(24) as pool:
        assert len(list(pool.map(lambda _: get(address, "/api/studies"), range(48)))) == 48
    assert [record.message for record in caplog.records if record.name.startswith("waitress")] == []


def test_studies_and_importances_are_answered(address: str) -> None:
    studies, _ = get(address, "/api/studies")
    assert [study["study_name"] for study in studies["study_summaries"]] == ["a search on ViT-B/16"]
    importances, _ = get(address, "/api/studies/1/param_importances")
    assert "parameters" in {param["name"] for param in importances["param_importances"][0]}


@pytest.mark.parametrize(
    ("method", "path"), [("DELETE", "/api/studies/1"), ("POST", "/api/studies"), ("PUT", "/api/studies/1/note")]
)
def test_nothing_can_be_changed(address: str, method: str, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(address + path, method=method, data=b"{}"))
    assert refused.value.code == 405
    assert json.loads(refused.value.read())["reason"].startswith("this dashboard is read-only; ")
    studies, _ = get(address, "/api/studies")
    assert len(studies["study_summaries"]) == 1


def test_a_port_in_use_and_a_missing_database_are_said(address: str, url: str, tmp_path: Path) -> None:
    port = int(address.rpartition(":")[2])
    with pytest.raises(InputError, match=f"cannot listen on 127.0.0.1:{port}"):
        make_server(url, port=port)
    with pytest.raises(DatabaseError, match="there is no such file"):
        make_server(f"sqlite:///{tmp_path}/none.db", port=0)


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_the_page_shows_the_study_in_a_browser(address: str, tmp_path: Path) -> None:
    command = [
        str(CHROMIUM),
        "--headless",
        "--disable-gpu",
        f"--user-data-dir={tmp_path}",
        "--virtual-time-budget=20000",
    ]
    # A sandbox needs rights that containers, where one is root, do not give.
    command += ["--no-sandbox"] if os.geteuid() == 0 else []
    page = subprocess.run(
        [*command, "--dump-dom", f"{address}/dashboard/studies/1"], capture_output=True, text=True, timeout=120
    ).stdout
    text = re.sub(r"<(style|script).*?</\1>|<[^>]+>", " ", page, flags=re.DOTALL)
    for expected in ("a search on ViT-B/16", "Best Trial", "mean rank", "A: share of lora", "parameters"):
        assert expected in text
