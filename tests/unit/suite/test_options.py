"""What the command line of the suite refuses, and in which words."""

from __future__ import annotations

from pathlib import Path

import pytest
from suite_parts.options import ROOT, parse

BACKBONE = ["--backbone", "x"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--seeds x", "--seeds: 'x': expected whole numbers of at least 0"),
        ("--seeds -1", "--seeds: '-1': expected whole numbers of at least 0"),
        ("--seeds=", "--seeds: '': expected names with commas"),
        ("--seeds 0,1,0", "--seeds: 0 is there twice"),
        ("--seeds 4294967295", "--seeds: '4294967295': expected whole numbers"),
        ("--minutes 0", "--minutes: '0': expected a number above 0"),
        ("--minutes -3", "--minutes: '-3': expected a number above 0"),
        ("--minutes nan", "--minutes: 'nan': expected a number above 0"),
        ("--minutes soon", "--minutes: 'soon': expected a number above 0"),
        ("--jobs 0", "--jobs: '0': expected a whole number of at least 1"),
        ("--jobs 1.5", "--jobs: '1.5': expected a whole number of at least 1"),
        ("--arms evolutoin", "no arm 'evolutoin' (did you mean 'evolution'?); there are evolution, yardstick"),
        ("--arms=", "--arms: '': expected names with commas"),
        ("--only a,,b", "--only: 'a,,b': expected names with commas"),
        ("--only a,a", "--only: a is there twice"),
        ("--budget lora0", "--budget: 'lora0': expected a number of parameters above 0, or lora<rank>"),
        ("--budget abc", "--budget: 'abc': expected a number of parameters above 0, or lora<rank>"),
        ("--budget -5", "--budget: '-5': expected a number of parameters above 0"),
        ("--quick --write-docs", "--write-docs with --quick: a few steps measure nothing"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse([*BACKBONE, *arguments.split()])
    assert end.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_what_can_be_meant_is_read() -> None:
    options = parse(
        [*BACKBONE, *["--seeds", "2,0", "--minutes", "0.001", "--jobs", "3", "--only", "a,b", "--budget", "12_288"]]
    )
    assert (options.seeds, options.minutes, options.jobs, options.only) == ([2, 0], 0.001, 3, ["a", "b"])
    assert options.budget == "12_288"
    assert parse([*BACKBONE, "--write-docs"]).write_docs == ROOT
    assert parse([*BACKBONE, "--quick", "--write-docs", "there"]).write_docs == Path("there")
