"""Every command and every Python block of README and documentation is executed, in the order in which they stand there.

A block is executed here in one shared folder, or covered by another test that `COVERED` names, or listed in
`NOT_HERE` with the reason why it cannot run here. What cannot be had on a machine without a network is replaced: the
ViT-B/16 of the examples by the shipped backbone, the flowers by images drawn here, long trainings by short ones.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import pytest
from PIL import Image
from support.programs import Program
from support.vtab_toy import write_task

from glorasearch.assets import quickstart_backbone_path
from glorasearch.cli.main import COMMANDS, group

ROOT = Path(__file__).resolve().parents[2]
ORDER = ["README.md", "docs/getting-started.md", "docs/run-files.md", "docs/cluster.md"]
PAGES = [
    *ORDER,
    *sorted({str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md")} - set(ORDER)),
    "CONTRIBUTING.md",
    "search_spaces/README.md",
    *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("workers/launch/**/*.md")),
]
TEXTS = {page: (ROOT / page).read_text("utf-8") for page in PAGES}
SHORT = {
    "train.steps": 6, "train.lr": 1e-3, "search.trials": 12, "search.population": 6, "search.parents": 3,
    "race.enabled": "false", "refit.steps": 4,
}  # fmt: skip
OVERRIDES = [part for key, value in SHORT.items() for part in ("--set", f"{key}={value}")]

FEWER = [
    *("--set", "train.steps=10", "--set", "search.trials=24", "--set", "race.steps=5", "--set", "refit.steps=10"),
    *("--set", "report.steps=10"),
]
"""Of the quickstart."""

COVERED = {
    r".* --address http://head:8265.*": "tests/integration/test_submit.py::test_the_commands_of_the_documentation",
    r"make quickstart|glorasearch quickstart": f"tests/integration/{Path(__file__).name}::test_make_quickstart",
    r"(?s).*class Vera\(Choice\):.*": "tests/integration/test_plugin.py::test_a_whole_run_ends_in_a_plain_model",
    r"python scripts/suite\.py .*": "tests/integration/test_suite_script.py::test_arms_killed_and_resumed",
    r"(export GLORASEARCH_DASHBOARD_TOKEN=|glorasearch dashboard --host ).*": (
        "tests/unit/dashboards/test_tokens.py::test_the_lines_of_the_documentation"
    ),
    r"make test-gpu": "tests/unit/gpu_tests/test_driver.py::test_cards_work_side_by_side_and_both_for_what_needs_two",
    r"make docs": "tests/integration/test_site.py::test_the_site_builds_without_a_warning",
}
"""Blocks of Python and lines of a shell, as patterns, that another test executes."""
COVERED_PAGES = {
    "workers/launch/": "tests/unit/workers/test_launch_commands.py::test_glorasearch_takes_its_command_lines",
    "search_spaces/": "tests/unit/space/test_readme.py::test_the_worked_example_prints_what_is_said",
}
"""Pages whose commands are checked elsewhere."""
NOT_HERE = {
    r"make test|pytest.*|make lint": "these run this very test, or the linters beside it",
    r"pip install .*": "needs a package index, and changes the environment of the tests",
    r"make results": "takes an hour",
    r"tensorboard .*": "a server; tests/integration/test_curves.py reads the files with its package",
    r"make bench( .*)?": "takes minutes; with a GPU another machine",
}
"""Lines of a shell, as patterns, that are not executed, and why."""


class Block(NamedTuple):
    """One fenced block of a page."""

    page: str
    language: str
    text: str


def blocks(*languages: str) -> Iterator[Block]:
    """All blocks in these languages, without those that stood before word for word."""
    found = [
        Block(page, language, text)
        for page, content in TEXTS.items()
        for language, text in re.findall(r"^```(\w+)[^\n]*\n(.*?)^```", content, flags=re.MULTILINE | re.DOTALL)
        if language in languages and not any(page.startswith(prefix) for prefix in COVERED_PAGES)
    ]
    yield from {block.text: block for block in reversed(found)}.values().__reversed__()


def commands() -> list[str]:
    """The lines of all shell blocks, each once; of a console block those behind its prompt."""
    lines: dict[str, None] = {}
    for block in blocks("sh", "bash", "shell", "console"):
        for line in block.text.replace("\\\n", " ").splitlines():
            if block.language == "console" and not line.startswith("$ "):
                continue
            command = line.removeprefix("$ ").partition("  #")[0].strip()
            if command and not command.startswith("#"):
                lines[command] = None
    return list(lines)


def elsewhere(text: str) -> bool:
    """Whether a command or a Python block is not for this test to execute."""
    return any(re.fullmatch(pattern, text.strip()) for pattern in (*COVERED, *NOT_HERE))


def call(command: list[str], folder: Path) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=400)
    assert result.returncode == 0, f"{shlex.join(command)}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def finish(program: list[str] | str, folder: Path) -> None:
    """A command line or a program of Python that uses glorasearch, in a process of its own."""
    out, err = folder / "out", folder / "err"
    code = Program(program, out, err, folder=folder).wait(400)
    assert code == 0, f"{program}\n{out.read_text()}\n{err.read_text()}"


def glorasearch(arguments: list[str], folder: Path) -> None:
    """A command line in a process of its own, with one worker; a run file that it writes is made short."""
    before = set(folder.glob("*.toml"))
    if "--workers" in arguments:  # each imports torch
        arguments[arguments.index("--workers") + 1] = "1"
    if arguments[0] in ("run", "sweep"):
        arguments = [*arguments, *OVERRIDES]
    finish(arguments, folder)
    for path in set(folder.glob("*.toml")) - before:
        path.write_text(shortened(path.read_text("utf-8")), "utf-8")


def shortened(run_file: str) -> str:
    """A run file with the values of `SHORT`."""
    for key, value in SHORT.items():
        section, name = key.split(".")
        pattern = rf"(^\[{section}\].*\n(?:(?!\[).*\n)*?{name} = )\S+"
        run_file, count = re.subn(pattern, rf"\g<1>{value}", run_file, flags=re.MULTILINE)
        assert count == 1, key
    return run_file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the reader has: images of flowers, and of three tasks of VTAB-1k."""
    folder = tmp_path_factory.mktemp("reader")
    rng = np.random.default_rng(0)
    for number, name in enumerate(("daisy", "rose", "tulip")):
        (folder / "flowers" / name).mkdir(parents=True)
        for image in range(12):
            pixels = rng.integers(0, 80, (32, 32, 3)) + np.array([60 * number, 120, 40])
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "flowers" / name / f"{image}.png")
    for task in ("cifar", "dtd", "svhn"):
        write_task(folder / "vtab-1k", task)
    return folder


def localised(text: str) -> str:
    """A command or a block of Python for this machine; steps, and trials of the latter, are few."""
    local = text.replace("vit_base_patch16_224.augreg_in21k", f"local-dir:{quickstart_backbone_path()}")
    local = re.sub(r"steps=[\d_]+(?=,|$)", "steps=6", local.replace("/data/vtab-1k", "vtab-1k"))
    return re.sub(r"trials=[\d_]+\)", "trials=12, population=6, parents=3)", local)


@pytest.mark.parametrize("overrides", [FEWER, pytest.param([], marks=pytest.mark.slow)], ids=["short", "whole"])
def test_make_quickstart(folder: Path, overrides: list[str]) -> None:
    """All its stages, with the environment that runs this test in the place of a new one."""
    workspace = folder / ("glorasearch-runs" if overrides else "whole-runs")
    binaries = Path(sys.executable).parent
    stamp = binaries.parent / ".installed"
    output = call(
        ["make", "-C", str(ROOT), "-o", str(stamp), "quickstart", f"VENV={binaries.parent}",
         f"QUICKSTART_OPTIONS=--workspace {workspace} {shlex.join(overrides)}"],
        folder,
    )  # fmt: skip
    assert "won the race with" in output
    assert "winner, " in output
    assert (workspace / "runs" / "quickstart" / "report.json").is_file()


def test_commands(folder: Path) -> None:
    executed = 0
    for line in commands():
        if elsewhere(line):
            continue
        program, *arguments = shlex.split(localised(line))
        assert program == "glorasearch", f"a command that is neither executed nor listed: {line}"
        glorasearch(arguments, folder)
        executed += 1
    assert executed >= 10


def test_python_blocks(folder: Path) -> None:
    """Those that do not need glorasearch are executed without the reader's environment."""
    executed = 0
    for block in blocks("python"):
        if not elsewhere(block.text):
            if "glorasearch" in re.findall(r"^(?:from|import) (\w+)", block.text, re.MULTILINE):
                finish(localised(block.text), folder)
            else:
                call([sys.executable, "-I", "-c", localised(block.text)], folder)
            executed += 1
    assert executed >= 3


def test_run_file_of_the_readme(folder: Path) -> None:
    text = next(block.text for block in blocks("toml") if block.page == "README.md")
    (folder / "readme.toml").write_text(localised(text).replace('name = "flowers"', 'name = "readme"'))
    glorasearch(["run", "readme.toml", "--quiet"], folder)


def test_what_is_said_to_be_covered_is_covered() -> None:
    for test in (*COVERED.values(), *COVERED_PAGES.values()):
        path, name = test.split("::")
        assert f"def {name}(" in (ROOT / path).read_text("utf-8"), test
    everything = [*commands(), *(block.text for block in blocks("python"))]
    for pattern in COVERED:
        assert any(re.fullmatch(pattern, text.strip()) for text in everything), f"nothing is covered by {pattern}"


def test_no_shell_block_hides_behind_an_unknown_language() -> None:
    known = {"sh", "console", "python", "toml", "yaml", "text"}
    for page, content in TEXTS.items():
        languages = set(re.findall(r"^ *```(\w+)", content, flags=re.MULTILINE))
        assert languages <= known, page


def test_every_command_is_in_the_readme() -> None:
    for page in ("README.md", "docs/getting-started.md"):
        missing = [name for name in COMMANDS if not re.search(rf"`(glorasearch )?{name}\b", TEXTS[page])]
        assert not missing, page


def test_commands_in_the_prose_have_arguments_that_are_known() -> None:
    found = 0
    for page, content in TEXTS.items():
        prose = re.sub(r"^```.*?^```", "", content, flags=re.MULTILINE | re.DOTALL)
        for text in re.findall(r"(?<!`)`(glorasearch [a-z]+\s[^`]+)`", prose):
            words = shlex.split(text)[1:]
            command = group.get_command(click.Context(group), words[0])
            assert command is not None, f"{page}: {text}"
            try:
                command.make_context(words[0], words[1:], help_option_names=["-h", "--help"])  # click keeps the names
            except click.ClickException as error:
                pytest.fail(f"{page}: {text}: {error.format_message()}")
            found += 1
    assert found >= 10


def test_scripts_in_the_prose_exist_and_have_these_options() -> None:
    found = 0
    for page, content in TEXTS.items():
        for script, arguments in re.findall(r"(?<!`)`python ((?:scripts|benchmarks)/\w+\.py)([^`]*)`", content):
            path = ROOT / script
            files = [path, *path.with_name(f"{path.stem}_parts").glob("*.py")]
            source = "".join(file.read_text("utf-8") for file in files)
            unknown = [option for option in re.findall(r"--[a-z-]+", arguments) if f'"{option}"' not in source]
            assert not unknown, f"{page}: {script}{arguments}"
            found += 1
    assert found >= 4


def test_the_readme_is_short() -> None:
    assert len(TEXTS["README.md"].encode()) <= 10_000
