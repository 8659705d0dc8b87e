"""Relative paths of a run file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from glorasearch.errors import ConfigError
from glorasearch.runs.config import RunConfig

SPACE = '[choices]\nB = ["none", "lora:2"]\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of run files, and another one, which is the current directory."""
    folder, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    for place in (folder, elsewhere):
        (place / "images" / "caltech101").mkdir(parents=True)
    (folder / "both.toml").write_text(SPACE)
    (elsewhere / "both.toml").write_text(SPACE)
    (elsewhere / "here.toml").write_text(SPACE)
    (folder / "model").mkdir()
    (folder / "weights.npz").write_bytes(b"")
    monkeypatch.chdir(elsewhere)
    return folder


def load(folder: Path, overrides: tuple[str, ...] = (), **sections: dict[str, Any]) -> RunConfig:
    defaults: dict[str, dict[str, Any]] = {"backbone": {"name": "vit"}, "data": {"source": "digits"}}
    lines = []
    for section, values in (defaults | sections).items():
        lines += [f"[{section}]", *(f"{key} = {value!r}" for key, value in values.items())]
    (folder / "run.toml").write_text("\n".join(lines))
    return RunConfig.load(Path("../project/run.toml"), overrides)


@pytest.mark.parametrize(
    ("section", "key", "text", "expected"),
    [
        ("space", "name", "both.toml", "{project}/both.toml"),
        ("space", "name", "here.toml", "here.toml"),
        ("space", "name", "glora_medium", "glora_medium"),
        ("data", "source", "folder:images", "folder:{project}/images"),
        ("data", "source", "folder:./images", "folder:{project}/images"),
        ("data", "source", "vtab:images/caltech101", "vtab:{project}/images/caltech101"),
        ("data", "source", "vtab:nowhere/caltech101", "vtab:nowhere/caltech101"),
        ("data", "source", "folder:~/images", "folder:~/images"),
        ("data", "source", "folder:/images", "folder:/images"),
        ("data", "source", "npz:weights.npz", "npz:{project}/weights.npz"),
        ("data", "source", "npz:weights.npz#digits", "npz:{project}/weights.npz#digits"),
        ("data", "source", "npz:nowhere.npz#digits", "npz:nowhere.npz#digits"),
        ("data", "source", "torch/cifar100", "torch/cifar100"),
        ("data", "root", "images", "{project}/images"),
        ("data", "root", "nowhere", "nowhere"),
        ("backbone", "name", "local-dir:model", "local-dir:{project}/model"),
        ("backbone", "name", "model", "model"),
        ("backbone", "checkpoint", "weights.npz", "{project}/weights.npz"),
        ("export", "path", "exported", "{project}/exported"),
        ("export", "path", "~/exported", "~/exported"),
    ],
)
def test_a_path_is_taken_from_the_run_files_folder_if_it_exists_there(
    section: str, key: str, text: str, expected: str, project: Path
) -> None:
    needed = {"backbone": {"name": "vit"}, "data": {"source": "torch/own" if key == "root" else "digits"}}.get(
        section, {}
    )

    found = load(project, **{section: needed | {key: text}})

    assert getattr(getattr(found, section), key) == expected.format(project=project)


def test_baselines_are_paths_too(project: Path) -> None:
    found = load(project, report={"baselines": ["lora", "both.toml", "here.toml"]})

    assert found.report.baselines == ("lora", str(project / "both.toml"), "here.toml")


def test_a_path_of_the_command_line_means_the_current_directory(project: Path) -> None:
    found = load(project, ("space.name=both.toml", "export.path=exported"))

    assert found.space.name == "both.toml"
    assert found.export.path == "exported"


def test_what_is_no_text_is_left_to_the_strict_check(project: Path) -> None:
    with pytest.raises(ConfigError, match=r"'data\.source'"):
        load(project, data={"source": 3})
    (project / "run.toml").write_text('space = "lora"\n[backbone]\nname = "vit"\n[data]\nsource = "digits"')
    with pytest.raises(ConfigError, match="'space'"):
        RunConfig.load(project / "run.toml")
