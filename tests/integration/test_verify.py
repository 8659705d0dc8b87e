"""A finished run vouches for its files: what is broken is found, said, and made again."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.runs import Bench

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def own(copied: Bench, call: Call) -> Bench:
    """The finished run in a workspace of its own, whose path would mean something in a URL."""
    moved = copied.workspace.with_name("w?a=1%41#b::c [x]")
    copied.workspace.rename(moved)
    copied.workspace = moved
    assert call(*copied.arguments("run", "--quiet"))[0] == 0  # the model is exported to where it is wanted now
    return copied


def verify(bench: Bench, call: Call) -> tuple[int, dict[str, str | None]]:
    code, out, _ = call("verify", "tiny", "--workspace", str(bench.workspace), "--json")
    found = json.loads(out)
    assert found["intact"] is (code == 0)
    return code, {f"{part['part']} {Path(part['place']).name[:12]}": part["damage"] for part in found["parts"]}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def test_what_is_broken_is_found_and_made_again(own: Bench, call: Call, caplog: pytest.LogCaptureFixture) -> None:
    export, report = own.workspace / "runs/tiny/export", own.workspace / "runs/tiny/report.json"
    before = {path.name: path.read_bytes() for path in (*export.iterdir(), report)}
    code, parts = verify(own, call)
    assert (code, set(parts.values())) == (0, {None})
    assert {"export config.json", "export model.safete", "export README.md", "report report.json"} <= parts.keys()
    assert {"table predictions.", "table splits.csv"} <= parts.keys()
    assert sum(part.startswith("weights of") for part in parts) == 3  # train, refit, baseline
    table = call("verify", "tiny", "--workspace", str(own.workspace))[1]
    for said in ("runs/tiny/export: 3 files", "weights/", "runs/tiny/report.json"):
        assert said in table
    kinds = {part.split()[0] for part in parts} - {"weights"}
    assert sum("intact" in line for line in table.splitlines()) == len(kinds) + 3, "a line a part"

    def broken(change: Callable[[], Any], said: str, part: str, damage: str) -> None:
        caplog.clear()
        change()
        (export / "notes.txt").write_text("mine")
        code, parts = verify(own, call)
        assert (code, [str(found)[: len(damage)] for found in parts.values() if found]) == (1, [damage])
        assert parts[part]
        assert call(*own.arguments("run", "--quiet"))[0] == 0
        assert any(said in record.getMessage() for record in caplog.records), caplog.records
        assert verify(own, call)[0] == 0
        assert (export / "notes.txt").read_text() == "mine"
        (export / "notes.txt").unlink()
        assert {path.name: path.read_bytes() for path in (*export.iterdir(), report)} == before

    weights = export / "model.safetensors"
    with caplog.at_level(logging.WARNING):
        broken(lambda: flip(weights), "model.safetensors: altered", "export model.safete", "altered: SHA-256")
        broken(lambda: weights.write_bytes(b"cut"), "making it again", "export model.safete", "altered: SHA-256")
        broken((export / "README.md").unlink, "README.md is missing", "export README.md", "missing")
        broken(lambda: report.write_text("{}"), "writing it again", "report report.json", "altered")
        broken(report.unlink, "writing it again", "report report.json", "missing")


def test_tables_are_vouched_for_and_not_made_again(own: Bench, call: Call) -> None:
    table = own.workspace / "runs/tiny/predictions.csv"
    flip(table)
    code, parts = verify(own, call)
    assert (code, str(parts["table predictions."])[:8]) == (1, "altered:")
    out = " ".join(call("verify", "tiny", "--workspace", str(own.workspace))[1].split())
    assert "tables come back with a copy of them alone: the test split is read once" in out
    assert call(*own.arguments("run", "--quiet"))[0] == 0
    assert verify(own, call)[0] == 1


def test_an_export_that_is_not_recognised_any_more_is_still_the_runs_own(own: Bench, call: Call) -> None:
    export = own.workspace / "runs/tiny/export"
    (export / "config.json").write_text("{")
    assert call(*own.arguments("export", "--quiet"))[0] == 0
    assert verify(own, call)[0] == 0
    (export / "config.json").unlink()
    (export / "thesis.tex").write_text("mine")
    code, _, said = call(*own.arguments("run", "--quiet"))
    assert (code, (export / "thesis.tex").read_text()) == (2, "mine")
    assert "is not an exported model" in said


def test_lost_and_damaged_weights_are_named(own: Bench, call: Call, caplog: pytest.LogCaptureFixture) -> None:
    digests = {stage: own.record.stages[stage]["weights"] for stage in ("train", "refit")}
    flip(own.workspace / "weights" / digests["train"] / "weights.safetensors")
    for file in (own.workspace / "weights" / digests["refit"]).iterdir():
        file.unlink()
    code, parts = verify(own, call)
    bad = {part: damage for part, damage in parts.items() if damage}
    assert (code, len(bad)) == (1, 2)
    assert bad[f"weights of refit {digests['refit'][:12]}"] == "missing"
    assert "altered" in str(bad[f"weights of train {digests['train'][:12]}"])
    code, out, _ = call("verify", "tiny", "--workspace", str(own.workspace))
    assert (code, "2 of " in out) == (1, True)
    assert call(*own.arguments("run", "--quiet"))[0] == 0  # which needs them no more
    assert "the weights of stage 'refit' are not in" in caplog.text
    for stage, digest in digests.items():  # what the advice says helps
        assert f"`glorasearch {stage} RUN_FILE` trains the weights of {stage} again" in " ".join(out.split())
        shutil.rmtree(own.workspace / "weights" / digest)
        assert call(*own.arguments(stage, "--quiet"))[0] == 0
    assert verify(own, call)[0] == 0


@pytest.mark.parametrize(
    ("change", "damage"),
    [
        ("DELETE FROM glorasearch_trials WHERE number = 1", "of the"),
        ("UPDATE glorasearch_trials SET objectives = '[0.123]' WHERE number = 1", "altered: SHA-256"),
        ("DELETE FROM glorasearch_studies", "missing"),
    ],
)
def test_trials_that_are_not_those_of_the_search_are_found(own: Bench, call: Call, change: str, damage: str) -> None:
    with sqlite3.connect(own.workspace / "glorasearch.db") as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(change)
    connection.close()
    code, parts = verify(own, call)
    ((part, found),) = ((part, found) for part, found in parts.items() if found)
    assert (code, part.split()[0], damage in found) == (1, "trials", True)


def test_an_unknown_run_is_refused(tmp_path: Path, call: Call) -> None:
    code, _, said = call("verify", "tiny", "--workspace", str(tmp_path))
    assert (code, "no run 'tiny'" in said) == (2, True)


def test_exported_files_have_one_mode(own: Bench, call: Call) -> None:
    export = own.workspace / "runs/tiny/export"
    (export / "README.md").unlink()
    umask = os.umask(0o027)
    try:
        assert call(*own.arguments("export", "--quiet"))[0] == 0
    finally:
        os.umask(umask)
    assert {oct(path.stat().st_mode & 0o777) for path in export.iterdir()} == {"0o640"}


def test_an_export_path_that_cannot_be_written_is_refused_before_the_work(
    make_bench: Callable[..., Bench], tmp_path: Path, call: Call
) -> None:
    bench = make_bench("export.path=/proc/model", workspace=tmp_path / "workspace")
    code, _, said = call(*bench.arguments("run", "--quiet"))
    assert code == 2
    assert "export.path: /proc/model cannot be written (/proc: " in said
    assert "give another path" in said
    code, out, _ = call("runs", "--workspace", str(bench.workspace), "--json")
    assert (code, json.loads(out)) == (0, [])


def test_a_damaged_run_is_listed_and_can_start_over(own: Bench, call: Call, tmp_path: Path) -> None:
    with sqlite3.connect(own.workspace / "glorasearch.db") as connection:
        connection.execute("UPDATE glorasearch_stages SET result = '{\"weights' WHERE stage = 'train'")
    connection.close()
    where = ("--workspace", str(own.workspace))
    code, out, _ = call("runs", *where, "--json")
    (row,) = json.loads(out)
    assert (code, row["run"], row["state"]) == (0, "tiny", "damaged")
    assert "stage=train (run 'tiny'), column result" in row["error"]
    for command in ("show", "verify", "compare"):
        code, _, said = call(command, "tiny", *where)
        assert (code, "Traceback" in said) == (1, False)
        assert "stage=train (run 'tiny'), column result" in said
    code, _, said = call(*own.arguments("run", "--quiet"))
    assert (code, "--fresh" in said) == (1, True)
    assert call(*own.arguments("train", "--quiet", "--fresh"))[::2] == (0, "")
    code, out, _ = call("runs", *where, "--json")
    assert [row["state"] for row in json.loads(out)] == ["stopped"]
