"""Every command and every Python block of the README is executed, in the order in which they stand there.

What cannot be had on a machine without a network is put in its place: the ViT-B/16 of the example becomes the shipped
backbone, the flowers are images that are drawn here, and the long defaults are shortened by `--set`. Installing and
testing (`make test`, `pip install`, `pytest`) is what surrounds this very test.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glorasearch.assets import quickstart_backbone_path
from glorasearch.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
AROUND = {"make test", 'pip install -e ".[dev]"', "pytest", "make quickstart", "make results", "glorasearch quickstart"}
CLUSTER = "--address http://head:8265"
SHORT = ["train.steps=6", "search.trials=12", "search.population=6", "search.parents=3", "refit.steps=4"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    lines = [line.partition("  #")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def call(command: list[str], folder: Path) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=400)
    assert result.returncode == 0, f"{shlex.join(command)}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the README's user has: images of flowers, and of three tasks of VTAB-1k."""
    folder = tmp_path_factory.mktemp("readme")
    rng = np.random.default_rng(0)
    for number, name in enumerate(("daisy", "rose", "tulip")):
        (folder / "flowers" / name).mkdir(parents=True)
        for image in range(12):
            pixels = rng.integers(0, 80, (32, 32, 3)) + np.array([60 * number, 120, 40])
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "flowers" / name / f"{image}.png")
    toy = Path(__file__).with_name("vtab_toy.py")
    subprocess.run([sys.executable, str(toy), str(folder / "vtab-1k"), "cifar", "dtd", "svhn"], check=True)
    return folder


def localised(text: str) -> str:
    local = text.replace("vit_base_patch16_224.augreg_in21k", f"local-dir:{quickstart_backbone_path()}")
    return local.replace("/data/vtab-1k", "vtab-1k")


def test_quickstart_as_make_runs_it(folder: Path) -> None:
    """The whole of it, with the environment that runs this test in the place of a new one."""
    binaries = Path(sys.executable).parent
    stamp = binaries.parent / ".installed"
    output = call(
        ["make", "-C", str(ROOT), "-o", str(stamp), "quickstart", f"VENV={binaries.parent}",
         f"QUICKSTART_OPTIONS=--workspace {folder / 'glorasearch-runs'}"],
        folder,
    )  # fmt: skip
    assert "winner, refitted" in output
    assert (folder / "glorasearch-runs" / "runs" / "quickstart" / "report.json").is_file()


def test_commands(folder: Path) -> None:
    executed = 0
    for line in commands():
        if line in AROUND or line.startswith("pip install"):
            continue
        if CLUSTER in line:  # test_submit.py has one
            continue
        words = shlex.split(localised(line))
        assert words[0] == "glorasearch", f"the README has a command that this test does not know: {line}"
        command = [sys.executable, "-m", *words]
        if words[1] in ("run", "sweep"):
            command += [part for override in SHORT for part in ("--set", override)]
        call(command, folder)
        executed += 1
    assert executed >= 5


def test_python_blocks_in_a_process_without_glorasearch(folder: Path) -> None:
    for block in blocks("python"):
        call([sys.executable, "-I", "-c", block], folder)


def test_run_file_of_the_readme(folder: Path) -> None:
    (folder / "readme.toml").write_text(localised(blocks("toml")[0]).replace('name = "flowers"', 'name = "readme"'))
    command = [sys.executable, "-m", "glorasearch", "run", "readme.toml", "--quiet"]
    call(command + [part for override in SHORT for part in ("--set", override)], folder)


def test_every_command_is_in_the_readme() -> None:
    missing = [name for name in COMMANDS if not re.search(rf"`(glorasearch )?{name}\b", README)]
    assert not missing


def test_files_that_the_readme_names_exist() -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)]+)\)", README):
        assert (ROOT / target).exists(), target
