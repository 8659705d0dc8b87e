"""Every command line of glorasearch and of Ray in the launch files is one that their parsers take."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from ray.scripts.scripts import cli as ray_commands

from glorasearch.cli.main import group as glorasearch_commands

LAUNCH = Path(__file__).resolve().parents[3] / "workers" / "launch"
FILES = sorted(path for path in LAUNCH.rglob("*") if path.is_file())
ENDS = re.compile(r"\s*(?:;|&&|\|\||[|}&)]|\d?&?>|$)\s*")
VALUES = {"$@": "flowers.toml --workers 2", "${options[@]}": ""}
"""What shell variables that stand for several words may be."""


def texts(value: Any) -> Iterator[str]:
    """Every text in YAML."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def shell_lines(path: Path) -> list[str]:
    """The lines of a file that a shell reads: a script's, those of YAML's texts, those of Markdown's blocks for sh."""
    content = path.read_text("utf-8")
    if path.suffix == ".yaml":
        parts = [text for document in yaml.safe_load_all(content) for text in texts(document)]
    elif path.suffix == ".md":
        parts = re.findall(r"^ *```sh\n(.*?)^ *```", content, re.MULTILINE | re.DOTALL)
        parts += re.findall(r"`((?:glorasearch|ray) [a-z-]+ [^`]+)`", content)  # more than a command's name
    else:
        parts = [content]
    return [
        line.strip()
        for part in parts
        for line in part.replace("\\\n", " ").splitlines()
        if not line.strip().startswith("#")
    ]


def command_lines(program: str) -> list[tuple[str, list[str]]]:
    """Where a program is called, and its arguments, with something in the place of variables."""
    found = []
    for path in FILES:
        for line in shell_lines(path):
            for call in re.finditer(
                rf"(?:^|[;&|(]\s*|\bexec |\bif |RAY_AUTH_MODE=token;? |/bin/){program} (?=[a-z-])", line
            ):
                rest = line[call.end() :]
                for name, value in VALUES.items():
                    rest = rest.replace(f'"{name}"', value)
                words: list[str] = []
                for word in re.findall(r"""(?:"[^"]*"|'[^']*'|[^\s;&|>"'])+|[;&|>]+""", rest):
                    if re.fullmatch(r"[;&|>\d]+", word) and not word.isdigit():
                        break
                    words += shlex.split(re.sub(r"\$\{?\w+[^}\s\"]*\}?", "1", word))
                found.append((f"{path.relative_to(LAUNCH)}: {line}", words))
    return found


def check(commands: click.Group, where: str, words: list[str]) -> click.Context:
    name, *arguments = words
    if name.startswith("-"):
        assert name == "--help"
        return click.Context(commands)
    parent = click.Context(
        commands, **commands.context_settings
    )  # a command keeps the help options of its first parent
    command = commands.get_command(parent, name)
    assert command is not None, f"{where}: no command {name!r}"
    try:
        return command.make_context(name, arguments, parent=parent)
    except click.ClickException as error:
        raise AssertionError(f"{where}: {error.format_message()}") from error


def test_glorasearch_takes_its_command_lines() -> None:
    found = command_lines("glorasearch")
    for where, words in found:
        context = check(glorasearch_commands, where, words)
        if words[0] == "run":
            assert context.params["executor"] == "ray", where
    names = [words[0] for _, words in found]
    assert names.count("run") >= 2
    assert names.count("submit") >= 3


def test_ray_takes_its_command_lines() -> None:
    found = command_lines("ray")
    for where, words in found:
        check(ray_commands, where, words)
    assert len([words for _, words in found if words[0] == "start"]) >= 8


def test_ray_takes_the_parameters_of_kuberay() -> None:
    found = 0
    for name in ("raycluster", "rayjob"):
        (document,) = yaml.safe_load_all((LAUNCH / "kuberay" / f"{name}.yaml").read_text("utf-8"))
        spec = document["spec"].get("rayClusterSpec", document["spec"])
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
            found += len(group["rayStartParams"])
            check(
                ray_commands, name, ["start", *(f"--{key}={value}" for key, value in group["rayStartParams"].items())]
            )
    assert found >= 4


def test_a_renamed_option_would_be_found() -> None:
    with pytest.raises(AssertionError, match="No such option"):
        check(glorasearch_commands, "here", ["submit", "flowers.toml", "--address", "http://head", "--wrokers", "2"])


def test_links_lead_to_files() -> None:
    found = 0
    for path in LAUNCH.rglob("*.md"):
        for link in re.findall(r"\]\(([^)]+)\)", path.read_text("utf-8")):
            assert (path.parent / link).is_file(), f"{path.name}: {link}"
            found += 1
    assert found >= 12
