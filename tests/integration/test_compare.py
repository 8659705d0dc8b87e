"""`glorasearch compare` on runs that were made: the numbers are those of their reports."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_1samp

from glorasearch.api import load_export
from glorasearch.cli.main import run as command_line
from glorasearch.data import DataConfig, InputSpec, load_splits
from glorasearch.evaluation import correct_on_test

Bench = Any
Report = dict[str, Any]
SMALL = ("train.steps=12", "train.probe_every=0", "search.trials=16", "refit.steps=4", "report.baselines=[]")
FINISHED = {f"{space}-{seed}": (space, seed) for seed in (0, 1) for space in ("lora", "ssf", "glora_small")}
WITHOUT_TORCH = """
import sys
from glorasearch.cli.main import run

code = run(sys.argv[1:])
assert "torch" not in sys.modules, "torch was imported"
sys.exit(code)
"""


@pytest.fixture(scope="module")
def compared(make_bench: Callable[..., Bench]) -> tuple[Bench, dict[str, Report]]:
    """A workspace with two seeds of three spaces, one run that was only trained, and one of fewer steps."""
    bench, reports = make_bench(), {}
    for name, (space, seed) in FINISHED.items():
        one = make_bench(*SMALL, f"name={name}", f"space.name={space}", f"seed={seed}", workspace=bench.workspace)
        assert command_line(one.arguments("run", "--quiet")) == 0
        reports[name] = json.loads((bench.workspace / "runs" / name / "report.json").read_text())
    trained = make_bench(*SMALL, "name=trained", "space.name=bitfit", workspace=bench.workspace)
    assert command_line(trained.arguments("train", "--quiet")) == 0
    shorter = make_bench(*SMALL, "name=shorter", "train.steps=5", "space.name=lora", workspace=bench.workspace)
    assert command_line(shorter.arguments("train", "--quiet")) == 0
    return bench, reports


@pytest.fixture
def compare(
    compared: tuple[Bench, dict[str, Report]], capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[str, list[str]]]:
    """Compares runs; gives standard output and the warnings."""

    def compare(*arguments: str) -> tuple[str, list[str]]:
        capsys.readouterr()
        code = command_line(["compare", *arguments, "--workspace", str(compared[0].workspace)])
        written = capsys.readouterr()
        assert code == 0, written.err
        return written.out, written.err.splitlines()

    return compare


def test_a_row_says_what_the_report_says(compared: tuple[Bench, dict[str, Report]], compare: Any) -> None:
    names = ["ssf-0", "glora_small-0", "lora-0"]
    content = json.loads(compare(*names, "--json")[0])

    assert content["warnings"] == []
    assert [row["run"] for row in content["rows"]] == names
    for row in content["rows"]:
        report = compared[1][row["run"]]
        winner = report["winner"]
        assert row["method"] == report["space"]
        assert row["fixed_method"] == (report["space"] != "glora_small")
        assert row["parameters"] == winner["parameters"]
        assert row["adapter_bytes"] == 4 * winner["parameters"]
        assert row["training_seconds"] == report["supernet"]["seconds"] + report["refit"]["seconds"] > 0
        assert row["search_seconds"] == report["search"]["seconds"] > 0
        for key, accuracy, images in (
            ("search", winner["search_accuracy"], 100),
            ("test", winner["test_accuracy"], 200),
        ):
            assert row[f"{key}_accuracy"] == accuracy
            expected = binomtest(round(accuracy * images), images).proportion_ci(0.95, method="wilson")
            assert row[f"{key}_interval"] == pytest.approx([expected.low, expected.high])


def test_seeds_are_folded(compared: tuple[Bench, dict[str, Report]], compare: Any) -> None:
    content = json.loads(compare(*FINISHED, "--group", "--json")[0])

    assert content["warnings"] == []
    assert [row["method"] for row in content["rows"]] == ["lora", "ssf", "glora_small"]
    for row in content["rows"]:
        each = [compared[1][f"{row['method']}-{seed}"]["winner"]["test_accuracy"] for seed in (0, 1)]
        assert row["runs"] == [f"{row['method']}-0", f"{row['method']}-1"]
        assert row["test_accuracy"]["mean"] == pytest.approx(np.mean(each))
        assert row["test_accuracy"]["std"] == pytest.approx(np.std(each, ddof=1))


def _column(table: str, run: str) -> dict[str, str]:
    """What a table that stands upright says of a run."""
    lines = [[cell.strip() for cell in re.split("[┃│]", line)[1:-1]] for line in table.splitlines() if line[:1] in "┃│"]
    place = lines[0].index(run)
    return {line[0]: line[place] for line in reversed(lines) if len(line) > place}  # the first table counts


def test_tables(compared: tuple[Bench, dict[str, Report]], compare: Any) -> None:
    report = compared[1]["lora-0"]
    percent = f"{100 * report['winner']['test_accuracy']:.1f} ("
    table, warnings = compare("lora-0", "ssf-0")
    assert warnings == []
    column = _column(table, "lora-0")
    tempered = f"{report['winner']['search_tempered']:.3f} (T {report['winner']['search_temperature']:.2f})"
    assert (column["parameters"], column["bytes"], column["tempered"]) == ("3,072", "12,288", tempered)
    assert column["test, %"].startswith(percent), "a table that is too wide stands upright, and is not wrapped"

    markdown, _ = compare("lora-0", "ssf-0", "--markdown")
    heads, marks, *rows = markdown.split("\n\n")[0].splitlines()
    assert marks == "|---|---|---:|---:|---:|---:|---:|---:|---:|"
    assert (
        heads == "| run | method | parameters | search, % | tempered | test, % | training, s | searching, s | bytes |"
    )
    assert [row.split(" | ")[0] for row in rows] == ["| lora-0", "| ssf-0"]
    assert percent in rows[0]
    assert all(row.count("|") == marks.count("|") for row in rows)


def test_models_are_paired_by_test_image(
    compared: tuple[Bench, dict[str, Report]], compare: Any, tmp_path: Any
) -> None:
    """The counts of a pair, from the exported models themselves."""
    right = {}
    for name in ("lora-0", "glora_small-0"):
        model = load_export(compared[0].workspace / "runs" / name / "export")
        config = DataConfig(source="digits", train=200, search=100, test=200)
        right[name] = correct_on_test(model, load_splits(config, InputSpec.from_backbone(model)).test)
    first, second = right["glora_small-0"], right["lora-0"]

    (pair,) = json.loads(compare("lora-0", "glora_small-0", "--json")[0])["paired"]

    assert (pair["run"], pair["against"], pair["images"]) == ("glora_small-0", "lora-0", 200)
    assert pair["both"] == int((first & second).sum())
    assert pair["only_run"] == int((first & ~second).sum())
    assert pair["only_against"] == int((second & ~first).sum())
    discordant = pair["only_run"] + pair["only_against"]
    assert discordant
    assert pair["p"] == pytest.approx(binomtest(pair["only_run"], discordant).pvalue)
    table, _ = compare("lora-0", "glora_small-0")
    assert "McNemar" in table


def test_methods_are_paired_by_seed(compared: tuple[Bench, dict[str, Report]], compare: Any) -> None:
    names = [*FINISHED, "trained"]
    content = json.loads(compare(*names, "--group", "--json")[0])

    assert [(row["method"], row["against"], row["pairs"]) for row in content["paired"]] == [
        ("ssf", "lora", 2),
        ("glora_small", "lora", 2),
    ]
    for row in content["paired"]:
        each = {
            seed: compared[1][f"{row['method']}-{seed}"]["winner"]["test_accuracy"]
            - compared[1][f"lora-{seed}"]["winner"]["test_accuracy"]
            for seed in (0, 1)
        }
        assert {pair["seed"]: pair["difference"] for pair in row["each"]} == pytest.approx(each)
        expected = ttest_1samp(list(each.values()), 0).confidence_interval(0.95)
        assert row["interval"] == pytest.approx([expected.low, expected.high])
        assert row["verdict"] == "no difference"
    assert content["unpaired"] == {"trained": "not tested"}
    table, _ = compare(*names, "--group")
    assert table.count("too few pairs to tell (at best p = 0.25)") == 2


def test_a_table_of_groups_has_the_spread(compared: tuple[Bench, dict[str, Report]], compare: Any) -> None:
    each = [100 * compared[1][f"ssf-{seed}"]["winner"]["test_accuracy"] for seed in (0, 1)]

    _, _, *rows = compare(*FINISHED, "--group", "--markdown", "--sort", "parameters")[0].split("\n\n")[0].splitlines()

    assert rows[0].startswith("| ssf | 2 | 1,152 |"), "scale and shift of every layer; less than LoRA's 3,072"
    assert f"| {np.mean(each):.2f} ± {np.std(each, ddof=1):.2f} |" in rows[0]


def test_a_run_that_has_not_finished_is_shown_with_what_is_there(compare: Any) -> None:
    table, warnings = compare("trained", "lora-0")
    assert "not paired: trained (not tested)" in table.splitlines()

    column = _column(table, "trained")
    assert float(column.pop("training, s")) >= 0
    assert (column.pop("run"), column.pop("state"), column.pop("method")) == ("trained", "stopped", "bitfit")
    assert set(column.values()) == {"-"}
    assert list(column)[-1] == "test, %"
    assert warnings == []


def test_what_differs_is_a_warning(compare: Any) -> None:
    _, warnings = compare("shorter", "ssf-0", "lora-0", "--markdown")
    assert warnings == ["warning: train.steps: 5 (shorter), 12 (ssf-0, lora-0)"]

    table, warnings = compare("lora-0", "lora-1")
    assert "lora-1" in table
    (warning,) = warnings
    assert "images of the splits train, search, test, drawn by the seed: 0 (lora-0), 1 (lora-1)" in warning


def test_unknown_runs_are_named_and_the_known_ones_listed(
    compared: tuple[Bench, dict[str, Report]], capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--workspace", str(compared[0].workspace)]

    assert command_line(["compare", "lora-0", "lara", "ssv", *place]) == 2
    error = capsys.readouterr().err
    assert "no run 'lara' (did you mean 'lora-1'?), 'ssv' in" in error
    assert f"known are: {', '.join([*FINISHED, 'trained', 'shorter'])}" in error
    assert command_line(["compare", *place]) == 2
    assert "Missing argument 'RUN...'" in capsys.readouterr().err
    assert command_line(["compare", "lora-0", "--json", "--markdown", *place]) == 2
    assert "--json and --markdown: give one of them" in capsys.readouterr().err
    assert command_line(["compare", "mine", "--workspace", f"{place[1]}-typo"]) == 2
    assert "known are: none" in capsys.readouterr().err


def test_a_run_counts_once(compare: Any) -> None:
    assert len(json.loads(compare("lora-0", "ssf-0", "lora-0", "--json")[0])["rows"]) == 2


def test_comparing_needs_neither_torch_nor_files(compared: tuple[Bench, dict[str, Report]], tmp_path: Any) -> None:
    for path in compared[0].workspace.glob("glorasearch.db*"):
        shutil.copy(path, tmp_path)

    answer = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "compare", "lora-0", "ssf-0", "--json", "--workspace", str(tmp_path)],
        capture_output=True,
        text=True,
    )

    assert answer.returncode == 0, answer.stderr
    assert len(json.loads(answer.stdout)["rows"]) == 2
