"""What surrounds the code agrees with it: hooks, templates, the changelog, the package's metadata."""

from __future__ import annotations

import importlib
import inspect
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from glorasearch import __version__

ROOT = Path(__file__).resolve().parents[2]


def test_hooks_are_those_of_make_lint() -> None:
    content = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    hooks = [hook for repository in content["repos"] for hook in repository["hooks"]]
    assert {repository["repo"] for repository in content["repos"]} == {"local"}  # nothing is fetched
    hooked = {hook["entry"].replace(" --force-exclude", "") for hook in hooks}
    recipe = (ROOT / "Makefile").read_text("utf-8").split("\nlint:", 1)[1].split("\n\n", 1)[0]
    linted = {line.strip().removesuffix(" .") for line in recipe.splitlines()[1:]}
    assert hooked == {line.replace("$(BIN)", ".venv/bin") for line in linted}


def test_templates_are_forms() -> None:
    forms = [path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml"]
    assert len(forms) == 2
    for form in forms:
        content = yaml.safe_load(form.read_text("utf-8"))
        assert {"name", "description", "body"} <= content.keys()
        identifiers = [field["id"] for field in content["body"]]
        assert len(set(identifiers)) == len(identifiers)


def test_a_released_version_is_in_the_changelog() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    sections = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
    assert sections[0] == "Unreleased"
    for section in sections[1:]:
        assert re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d{2}-\d{2}", section)
    assert len(sections) == 1 or sections[1].startswith(__version__)


def test_extras_that_the_documentation_names_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")]:
        for named in re.findall(r"""(?:glorasearch|-e "?\.)\[([a-z0-9,]+)\]""", page.read_text("utf-8")):
            assert set(named.split(",")) <= extras.keys(), page


def walks() -> list[str]:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8").split("## Seven walks\n", 1)[1]
    return re.findall(r"`([a-z_][a-z_.]*:[A-Za-z_][\w.]*(?::\w+)?)`", text.split("\n\n", 2)[2])


@pytest.mark.parametrize("name", walks())
def test_every_name_of_the_seven_walks_exists(name: str) -> None:
    module, path, *parameter = name.split(":")
    found: Any = importlib.import_module(f"glorasearch.{module}")
    for part in path.split("."):
        found = getattr(found, part)
    if parameter:
        fields = {*getattr(found, "model_fields", ()), *getattr(found, "__annotations__", ())}
        known = fields | ({*inspect.signature(found).parameters} if callable(found) else set())
        assert parameter[0] in known, f"{name}: known are {', '.join(sorted(known))}"


def test_there_are_seven_walks() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8").split("## Seven walks\n", 1)[1]
    assert len(re.findall(r"^\*\*", text, flags=re.MULTILINE)) == 7
    assert len(walks()) >= 40


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/design.md"])
def test_the_direction_of_dependencies_is_that_of_the_contract(page: str) -> None:
    (drawn,) = re.findall(r"^```text\n(cli \|.*?)^```", (ROOT / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    layers = next(contract["layers"] for contract in settings["contracts"] if contract["type"] == "layers")
    assert " ".join(drawn.split()).split(" -> ") == [layer.replace("glorasearch.", "") for layer in layers]


def test_files_that_contributing_names_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8").split("## Seven walks\n", 1)[0]
    named = [name for name in re.findall(r"`([\w./]+)`", text) if "/" in name and not name.endswith("site/")]
    for name in named:
        assert any((folder / name).exists() for folder in (ROOT, ROOT / "glorasearch")), name
    assert len(named) >= 20
