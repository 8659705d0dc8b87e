"""What the command line prints: progress, the final table, JSON."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from rich.console import Console
from support.stage_results import WINNER, report

import glorasearch.runs
from glorasearch.cli.output import echo_json
from glorasearch.cli.report_table import print_report
from glorasearch.runs.bars import ProgressBars
from glorasearch.runs.results import ClassTest
from glorasearch.tasks import CLASSIFY


def bars(*, terminal: bool, interval: float = 3600.0) -> tuple[ProgressBars, io.StringIO]:
    written = io.StringIO()
    return ProgressBars(Console(file=written, force_terminal=terminal, width=100), interval), written


def test_a_file_gets_a_line_for_each_piece_of_work() -> None:
    shown, written = bars(terminal=False)
    with shown.task("supernet", 3) as advance:
        for step in range(1, 4):
            advance(step, f"loss {step}")

    assert written.getvalue() == "supernet: 3/3, 0 s, loss 3\n"


def test_long_work_gets_lines_in_between() -> None:
    shown, written = bars(terminal=False, interval=0.0)
    with shown.task("search", 2) as advance:
        advance(1)
    assert written.getvalue() == "search: 1/2, 0 s\n" * 2


def test_work_that_fails_does_not_claim_its_end() -> None:
    def work() -> None:
        with shown.task("supernet", 3) as advance:
            advance(2)
            raise KeyboardInterrupt

    shown, written = bars(terminal=False)
    with pytest.raises(KeyboardInterrupt):
        work()
    assert written.getvalue() == ""


def test_a_terminal_gets_bars() -> None:
    shown, written = bars(terminal=True)
    with shown.task("supernet", 3) as advance:
        advance(3, "loss 1")
        shown.say("a line that stays, however long it is: " + "x" * 100)

    assert "supernet" in written.getvalue()
    assert "3/3" in written.getvalue()
    assert "x" * 100 in written.getvalue()


def test_the_final_table(capsys: pytest.CaptureFixture[str]) -> None:
    lora = {"space": "lora", "lr": 1e-3, "parameters": 600, "test_accuracy": 0.25, "steps": 5, "seconds": 1.0}
    random = {"count": 3, "mean_parameters": 1000.4, "mean_test_accuracy": 0.125, "std_test_accuracy": 0.0}
    print_report(report(baselines={"lora": lora}, random_subnets=random))

    text = capsys.readouterr().out
    for expected in ("lora", "25.0 %", "3 random subnets (mean)", "1,000", "12.5 %", "1,234", "50.0 %", "62.5 %"):
        assert expected in text


def test_the_final_table_of_a_run_without_comparisons(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(report())

    assert "winner, refitted" in capsys.readouterr().out


def test_the_final_table_of_a_fixed_method(capsys: pytest.CaptureFixture[str]) -> None:
    best = WINNER | {"search_accuracy": 0.375}
    print_report(report(fixed_method=True, space="/some/where/mine.toml", best_searched=best))

    text = " ".join(capsys.readouterr().out.split())
    assert "mine, refitted" in text
    scores = "37.5 %, cross-entropy 1.000, tempered cross-entropy 0.900 at temperature 2.00"
    assert f"trained alone for 5 steps in 1 s; on the search split: {scores}; nothing was searched" in text
    assert "winner" not in text


def test_what_early_stopping_saved_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(report())
    assert "stopped early" not in capsys.readouterr().out, "nothing was stopped early"
    print_report(report(search={"stopped_early": 4, "images_share": 0.625}))
    assert "0 failed; 4 of them stopped early, 62 % of the images scored)" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("start", "share", "said"),
    [
        ("lora:8 everywhere", 1.0, "trial 3, a start of the search: lora:8 everywhere"),
        ("ssf mlp", 0.75, "trial 3, which descends from ssf mlp and shares 75 % of its genes with it"),
        (None, None, "trial 3, with no start among its ancestors"),
    ],
)
def test_where_the_winner_comes_from(
    capsys: pytest.CaptureFixture[str], start: str | None, share: float | None, said: str
) -> None:
    best = {key: value for key, value in WINNER.items() if key != "subnet"}
    print_report(report(best_searched=best | {"start": start, "start_share": share}))
    assert said in " ".join(capsys.readouterr().out.split())


def test_a_winner_that_was_not_refitted_is_not_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(report(refit={"steps": 0}))

    text = capsys.readouterr().out
    assert "winner, inherited weights" in text
    assert "refitted" not in text


def test_json_has_no_numbers_that_json_does_not_have(capsys: pytest.CaptureFixture[str]) -> None:
    echo_json({"a": float("nan"), "b": [float("inf"), 1.5, {"c": (float("-inf"), True, None, "x")}]})

    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5, {"c": [None, True, None, "x"]}]}


def test_names_of_the_package_of_runs() -> None:
    assert all(getattr(glorasearch.runs, name).__name__ for name in glorasearch.runs.__all__ if name != "Advance")
    unknown = "Runs"
    with pytest.raises(AttributeError, match="no attribute 'Runs'"):
        getattr(glorasearch.runs, unknown)


def test_the_hardest_classes_are_named_as_they_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    labels, predicted = np.array([0, 0, 1, 1, 2, 3]), np.array([0, 1, 0, 3, 2, 3])
    tests = ClassTest.each(["pl[ai]n", "[/red]", "c", "d", "e"], CLASSIFY.by_output(np.eye(5), predicted, labels))
    assert [(one.name, one.correct, one.images, one.predicted) for one in tests] == [
        ("pl[ai]n", 1, 2, 2), ("[/red]", 0, 2, 1), ("c", 1, 1, 1), ("d", 1, 1, 2)
    ]  # fmt: skip
    print_report(report().model_copy(update={"by_class": tests}))
    assert "hardest classes: [/red] (0 of 2 correct), pl[ai]n (1 of 2 correct)\n" in capsys.readouterr().out


def test_what_is_unusual_about_the_data_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(report())
    assert "of the data" not in capsys.readouterr().out
    found = report()
    splits = found.splits.model_copy(
        update={
            "ignored": {"files that end in .[b]": 2, "hidden files": 1},
            "scale": "40 images have pixels of 16 bits: 0 is black and 4095 white in all of them",
            "reading": {"exif": True, "pixel_range": [0, 4095], "turned": 1234},
        }
    )
    print_report(found.model_copy(update={"splits": splits}))
    assert (
        "not used of the data: 2 files that end in .[b], 1 hidden files\n"
        "40 images have pixels of 16 bits: 0 is black and 4095 white in all of them\n"
        "1,234 images are turned upright as their EXIF says\n"
    ) in capsys.readouterr().out
