"""`glorasearch report`: a finished run, one that is not, and places that cannot be written."""

from __future__ import annotations

import html
import json
import os
import shlex
import tomllib
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

from click.testing import CliRunner
from support.runs import NAME

from dashboards import make_app
from glorasearch.cli.main import group
from glorasearch.db import RunState, RunStore
from glorasearch.figures import RunFacts
from glorasearch.figures.paper import plain
from glorasearch.figures.told import commands, run_file, run_files
from glorasearch.runs.config import RunConfig
from glorasearch.runs.metric_rows import metric_rows
from glorasearch.runs.remembered import given_config

Bench = Any


def ask(bench: Bench, *more: str) -> Any:
    where = ["--workspace", str(bench.workspace), "--database", str(bench.database_url)]
    return CliRunner().invoke(group, ["report", *where, *more])


def page_of(bench: Bench, run: str) -> str:
    """The page of a run in the dashboard."""
    environ = {"PATH_INFO": f"/runs/{run}", "HTTP_HOST": "localhost"}
    setup_testing_defaults(environ)
    return b"".join(make_app(bench.database_url)(environ, lambda *_: None)).decode()


def test_a_finished_run_leaves_as_files(undisturbed: Bench, tmp_path: Path) -> None:
    page, paper, pictures = tmp_path / "r.html", tmp_path / "r.pdf", tmp_path / "png"
    said = ask(undisturbed, NAME, "--output", str(page), "--pdf", str(paper), "--png", str(pictures), "--json")
    assert said.exit_code == 0, said.output
    content = json.loads(said.stdout)
    assert len(content["files"]) == 2 + 2 * len(content["figures"])
    assert all(Path(file).stat().st_size for file in content["files"])
    assert paper.read_bytes().startswith(b"%PDF")
    assert paper.read_bytes().count(b"/Type /Page\n") <= len(content["figures"])  # small figures share a page
    assert (pictures / "front-dark.png").read_bytes().startswith(b"\x89PNG")
    facts = RunFacts.read(undisturbed.database_url, NAME, Path(undisturbed.workspace) / "runs" / NAME)
    written = page.read_text()
    assert facts.report is not None
    report = facts.report
    rows = [[cell.partition("</tr>")[0] for cell in row.split("<td>")[1:]] for row in written.split("<tr>")]
    tested = {row[0]: row[1:3] for row in rows if len(row) == 4}
    assert report.baselines
    for name, one in report.baselines.items():
        label = name if name == one.space else f"{name}: {one.space} at {one.lr:g}"
        assert tested[label] == [f"{one.parameters:,}", f"{100 * one.test_accuracy:.1f} %"]
    assert [f"{report.winner.parameters:,}", f"{100 * report.winner.test_accuracy:.1f} %"] in tested.values()
    random = report.random_subnets
    assert (random is not None) == any("random subnets (mean)" in label for label in tested)
    assert "<script src" not in written
    assert "<link" not in written
    assert facts.record.digest in written
    cells = {row[0]: row[1:] for row in rows if len(row) == 3 + len(report.baselines)}
    for row in metric_rows(report):
        assert cells[row.label] == [row.value, row.interval, *row.others]
    assert report.latency is not None
    assert report.latency.sentence[1:] in written


def test_the_run_file_is_that_of_the_run(undisturbed: Bench) -> None:
    record = RunStore(undisturbed.database_url).get(NAME)
    assert record is not None
    again = RunConfig.from_dict(tomllib.loads(run_file(record)), (), "again")
    assert again == given_config(record.config, "recorded")


def test_refusals_are_in_words(undisturbed: Bench, tmp_path: Path) -> None:
    assert "nowhere" in str(ask(undisturbed, "nowhere").exception or ask(undisturbed, "nowhere").output)
    (tmp_path / "file").write_text("")
    refused = ask(undisturbed, NAME, "--output", str(tmp_path / "file" / "r.html"))
    assert refused.exit_code != 0
    assert "cannot be written" in f"{refused.output}{refused.exception}"
    for options, said in (
        (["--output", os.devnull], "is no file that can be replaced"),
        (["--output", str(tmp_path / "r"), "--pdf", str(tmp_path / "r")], "give two files"),
        (["--pdf", "/proc/r.pdf"], "--pdf: /proc/r.pdf cannot be written"),
    ):
        refused = ask(undisturbed, NAME, *options)
        assert said in f"{refused.output}{refused.exception}"
    assert not Path(os.devnull).is_file()
    assert not (tmp_path / "r").exists()


def test_a_run_without_results_has_what_is_known(copied: Bench, tmp_path: Path) -> None:
    RunStore(copied.database_url).create("begun", {"seed": 3}, "digest")
    said = ask(copied, "begun", "--output", str(tmp_path / "r.html"), "--pdf", str(tmp_path / "r.pdf"))
    assert said.exit_code == 0, f"{said.output}{said.exception!r}"
    assert "lacks the winner as a picture" in said.output
    assert "another version" in (tmp_path / "r.html").read_text()


def test_the_page_of_a_run_says_what_its_report_says(undisturbed: Bench) -> None:
    report = json.loads((undisturbed.workspace / "runs" / NAME / "report.json").read_text())
    page = html.unescape(page_of(undisturbed, NAME))
    assert any(
        "No difference between the winner and" in line or "The winner is" in line for line in report["statements"]
    )
    for line in report["statements"]:
        assert f"<li>{line}</li>" in page


def test_a_run_that_takes_over_from_another_is_repeated_after_it(copied: Bench, tmp_path: Path) -> None:
    runs = RunStore(copied.database_url)
    whole = runs.get(NAME)
    assert whole is not None
    runs.create("tiny-trial", whole.config | {"name": "tiny-trial", "point": {"run": NAME, "trial": 3}}, "digest")
    runs.set_state("tiny-trial", RunState.STOPPED)
    facts = RunFacts.read(copied.database_url, "tiny-trial")
    assert [tomllib.loads(content)["name"] for _, content in run_files(facts)] == [NAME, "tiny-trial"]
    goes_on, first, second = (shlex.split(line, comments=True) for line in commands(facts))
    assert goes_on == ["glorasearch", "run", "tiny-trial"]
    assert [first[2], second[2]] == [name for name, _ in run_files(facts)]
    assert first[3:] == second[3:] == ["--workspace", "repeated"]
    assert f'<a href="/runs/{NAME}">{NAME}</a>, of whose search this run is a point' in page_of(copied, "tiny-trial")
    runs.delete(NAME)
    assert "is gone: it has to be there first" in commands(RunFacts.read(copied.database_url, "tiny-trial"))[1]
    assert (
        ask(copied, "tiny-trial", "--output", str(tmp_path / "r.html"), "--pdf", str(tmp_path / "r.pdf")).exit_code == 0
    )


def test_a_run_file_in_a_pdf_stays_one() -> None:
    assert tomllib.loads(plain('name = "Łódź 图"')) == {"name": "Łódź 图"}
