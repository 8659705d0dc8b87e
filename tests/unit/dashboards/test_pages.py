"""The pages over a real database: what they show, that names stay text, and what a browser is told."""

import json
import random
import re
import subprocess
import sys
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState

from dashboards import make_app
from dashboards.pages.numbers import number, seconds
from dashboards.pages.plots import plot, sparkline, ticks
from glorasearch.db import Database, RunStore, StageProgress, StageState, TrialStorage
from glorasearch.db.worker_table import WorkerRecord, WorkerStore
from glorasearch.runs.config import RunConfig
from glorasearch.search import TrialRecord
from glorasearch.space import Score

EVIL = "<script>alert(1)</script>"
GENES: dict[str, BaseDistribution] = {
    f"blocks.{block}.fc.{tensor}": CategoricalDistribution(("none", "vector", "lora:4"))
    for block in (2, 10)
    for tensor in "AE"
}


class Tags(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


class Site:
    """The application, asked without a server."""

    def __init__(self, url: str, folder: Path) -> None:
        self.application: Any = make_app(url, folder=folder)

    def get(self, path: str, query: str = "", **headers: str) -> tuple[int, dict[str, str], str]:
        told: dict[str, Any] = {}

        def start(status: str, given: list[tuple[str, str]], *_: Any) -> None:
            told.update(status=int(status[:3]), headers=dict(given))

        environ: dict[str, Any] = {"PATH_INFO": path, "QUERY_STRING": query, "HTTP_HOST": "localhost"}
        environ |= {f"HTTP_{name.upper()}": value for name, value in headers.items()}
        setup_testing_defaults(environ)
        body = b"".join(self.application(environ, start))
        return told["status"], told["headers"], body.decode()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("pages")
    database = Database(f"sqlite:///{folder}/glorasearch.db")
    runs, storage, draw = RunStore(database), TrialStorage(database), random.Random(0)
    config = RunConfig.model_validate(
        {
            "backbone": {"name": "quickstart"},
            "data": {"source": "digits"},
            "space": {"name": "lean"},
            "search": {"fitness": "accuracy"},
        }
    ).model_dump(mode="json")
    for name in ("first", EVIL):
        runs.create(name, config, "d" * 64)
    for step, loss in enumerate((2.0, 1.0, 0.5)):
        runs.record_metrics("first", "train", step, {"loss": loss, "lr": 0.01})
    with runs.lock("first"):
        runs.set_state("first", "running")
        now = runs.list()[0].created
        progress = StageProgress(
            stage="search", state=StageState.RUNNING, started=now, updated=now, done=7, total=40, note=EVIL
        )
        runs.set_progress("first", progress)
        place = {"host": f"gpu1{EVIL}", "process": 42, "ready": True, "tasks": 7, "busy": 5.0}
        WorkerStore(database).record(
            "first", [WorkerRecord(number=0, since=now, updated=now + timedelta(seconds=10), **place)]
        )
    study = storage.create_new_study([StudyDirection.MAXIMIZE], "first")
    for index in range(8):
        trial_id = storage.create_new_trial(study)
        params = {name: draw.choice(("none", "vector", "lora:4")) for name in GENES}
        attrs: dict[str, Any] = {"subnet": f"{index:064}", "parameters": 100 * (index + 1)}
        attrs |= {"parents": [0, 1]} if index == 5 else {"start": f"{EVIL} everywhere"} if index == 0 else {}
        storage.set_trial_params(trial_id, params, GENES, attrs)
        score = Score(50 + index, 100, cross_entropy=1.0, tempered=0.9, beta=0.5)
        scores = TrialRecord(index, attrs["subnet"], attrs["parameters"], score).to_attrs()
        storage.finish_trial(trial_id, TrialState.COMPLETE, [score.accuracy], scores)
    (folder / "runs" / "first").mkdir(parents=True)
    (folder / "runs" / "first" / "report.json").write_text("{}")
    (folder / "runs" / "first" / "secret.txt").write_text("no")
    database.close()
    return f"sqlite:///{folder}/glorasearch.db"


@pytest.fixture(scope="module")
def site(url: str) -> Site:
    return Site(url, Path(url.removeprefix("sqlite:///")).parent / "runs")


PAGES = (
    ("/runs", ""),
    ("/runs/first", ""),
    ("/runs/first/trials", ""),
    ("/runs/first/trials/5", ""),
    (f"/runs/{EVIL}", ""),
    ("/compare", "run=first&run=%3Cscript%3Ealert(1)%3C/script%3E&run=gone"),
    (f"/{EVIL}", ""),
    (f"/runs/no{EVIL}", ""),
)


@pytest.mark.parametrize(("path", "query"), PAGES)
def test_a_page_has_no_inline_script_or_style_and_names_stay_text(site: Site, path: str, query: str) -> None:
    _, headers, page = site.get(path, query)
    policy = headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert EVIL not in page
    tags = Tags(page).found
    for tag, attrs in tags:
        assert "style" not in attrs
        assert tag != "style"
        assert not any(name.startswith("on") for name in attrs)
        for key in ("src", "href"):
            assert (attrs.get(key) or "/")[:1] in "/#"
            assert not (attrs.get(key) or "").startswith("//")
    assert all(attrs.get("src") for tag, attrs in tags if tag == "script")
    assert re.search(r"<title>\s*\S", page)
    assert sum(tag == "h1" for tag, _ in tags) == 1


def test_the_start_leads_to_the_runs_and_optunas_pages_stay(site: Site) -> None:
    status, headers, _ = site.get("/")
    assert (status, headers["Location"]) == (302, "/runs")
    assert "Optuna" in site.get("/dashboard")[2]


def test_a_run_under_way_is_listed_with_its_stage(site: Site) -> None:
    status, _, page = site.get("/runs")
    assert status == 200
    assert 'href="/runs/first"' in page
    assert 'data-refresh="2"' in page
    assert "57.0 %" in page  # the best of the search
    run = site.get("/runs/first")[2]
    assert "7/40" in run
    assert "50.0 %" in run  # of the worker's time
    assert "process 42" in run
    drawn = {one["key"]: one for one in json.loads(site.get("/runs/first/figures.json")[2])["figures"]}
    assert "train" in json.dumps(drawn["losses"]["spec"])
    assert 'href="/runs/first/trials/7"' in run


def test_a_trial_shows_its_genes_in_order_of_depth_its_parents_and_what_differs(site: Site, url: str) -> None:
    status, _, page = site.get("/runs/first/trials/5")
    assert status == 200
    assert page.index("blocks.2.fc") < page.rindex("blocks.10.fc")
    assert 'href="/runs/first/trials/0"' in page
    assert 'href="/runs/first/trials/1"' in page
    assert 'rel="next"' in page
    storage = TrialStorage(Database(url, read_only=True))
    trials = storage.get_all_trials(storage.get_study_id_from_name("first"), deepcopy=False)
    differing = sum(trials[5].params[name] != trials[7].params[name] for name in GENES)
    assert f"{differing} of {len(GENES)} genes differ" in page
    assert page.count(' changed"') == differing


def test_what_has_not_changed_is_not_sent_again(site: Site) -> None:
    _, headers, _ = site.get("/runs/first")
    status, _, body = site.get("/runs/first", if_none_match=headers["Etag"])
    assert (status, body) == (304, "")


def test_new_trials_change_the_tag(tmp_path: Path, url: str) -> None:
    copied = tmp_path / "copy.db"
    copied.write_bytes(Path(url.removeprefix("sqlite:///")).read_bytes())
    site = Site(f"sqlite:///{copied}", tmp_path)
    _, headers, _ = site.get("/runs/first")
    storage = TrialStorage(f"sqlite:///{copied}")
    storage.create_new_trial(storage.get_study_id_from_name("first"))
    status, _, page = site.get("/runs/first", if_none_match=headers["Etag"])
    assert status == 200
    assert "running" in page


def test_what_is_not_there_is_said_with_what_may_have_been_meant(site: Site) -> None:
    status, _, page = site.get("/runs/firts")
    assert status == 404
    assert 'href="/runs/first"' in page
    status, _, page = site.get("/runs/first/trials/99")
    assert status == 404
    assert "0 to 7" in page
    assert site.get("/nowhere")[0] == 404


def test_a_database_that_is_gone_is_said_and_not_taken_for_a_run_that_never_was(tmp_path: Path, url: str) -> None:
    copied = tmp_path / "copy.db"
    copied.write_bytes(Path(url.removeprefix("sqlite:///")).read_bytes())
    site = Site(f"sqlite:///{copied}", tmp_path)
    site.get("/runs/first")
    copied.write_bytes(b"no database " * 1000)
    status, headers, page = site.get("/runs/first")
    assert status == 500
    assert "script-src 'self'" in headers["Content-Security-Policy"]
    assert "database" in page
    assert "There is no run" not in page


def test_only_named_files_of_a_run_are_served(site: Site) -> None:
    assert site.get("/runs/first/files/report.json")[::2] == (200, "{}")
    for file in ("secret.txt", "..%2f..%2fglorasearch.db", "predictions.csv"):
        assert site.get(f"/runs/first/files/{file}")[0] == 404


def test_pages_need_no_torch(url: str) -> None:
    code = (
        "import sys, dashboards\n"
        f"app = dashboards.make_app({url!r})\n"
        "env = {'REQUEST_METHOD': 'GET', 'PATH_INFO': '/runs/first', 'HTTP_HOST': 'localhost', 'QUERY_STRING': '',"
        " 'SERVER_PROTOCOL': 'HTTP/1.1', 'wsgi.url_scheme': 'http'}\n"
        "found = []\n"
        "list(app(env, lambda status, headers, *rest: found.append(status)))\n"
        "import json; print(json.dumps([found, 'torch' in sys.modules]))"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert json.loads(said) == [["200 OK"], False]


def test_numbers_have_three_digits_and_a_unit() -> None:
    assert [number(value) for value in (0.10518191969447386, 73_728, 9_999, 12.0, 123.456, None)] == [
        "0.105", "73.7 k", "9999", "12", "123", "–",
    ]  # fmt: skip
    assert seconds(64.6) == "1.08 min"


def test_plots_have_round_ticks_and_leave_out_what_is_not_finite() -> None:
    assert ticks(-0.04, 1.04) == pytest.approx([0, 0.5, 1])
    drawn = plot("t", "x", "y", [("line", [(0.0, 1.0), (1.0, float("nan")), (2.0, 3.0)])])
    assert drawn is not None
    assert drawn.lines[0].path.count("L") == 1
    assert plot("t", "x", "y", [("line", [(0.0, float("inf"))])]) is None
    assert sparkline([1.0]) == ""
    assert sparkline([1.0, 1.0, 1.0]).startswith("M")


def test_exports_in_other_formats_are_named_in_words_with_what_they_took(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/glorasearch.db"
    database = Database(url)
    runs = RunStore(database)
    config = RunConfig.model_validate(
        {"backbone": {"name": "quickstart"}, "data": {"source": "digits"}, "space": {"name": "lean"}}
    )
    runs.create("first", config.model_dump(mode="json"), "d" * 64)
    runs.set_stage("first", "format:onnx", {"seconds": 66.2})
    runs.set_state("first", "finished")
    database.close()
    _, _, page = Site(url, tmp_path / "runs").get("/runs/first")
    row = re.search(r"<tr><th scope=\"row\">export to onnx</th>.*?</tr>", page, re.DOTALL)
    assert row is not None
    assert f'<td class="num">{seconds(66.2)}</td>' in row[0]
    assert ">format:onnx<" not in page
