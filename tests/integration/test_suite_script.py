"""`scripts/suite.py --quick`: every arm, killed and resumed, and what it writes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.processes import wait_until
from support.tiny_backbone import write_tiny_backbone

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from suite_parts.arms import ARMS  # noqa: E402
from suite_parts.augmentation import RECIPES  # noqa: E402
from suite_parts.summary import MEASUREMENTS  # noqa: E402

CORE = ("evolution", "yardstick", "race_only", "lora4_budget")
OTHERS = ARMS.keys() - set(CORE)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a backbone, a file of one task that the suite has never seen, and a README."""
    folder = tmp_path_factory.mktemp("suite")
    write_tiny_backbone(folder / "backbone")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    images = rng.integers(0, 64, (200, 32, 32, 3)) + 60 * labels[:, None, None, None]
    np.savez(folder / "unseen.npz", stripes_x=images.astype(np.uint8), stripes_y=labels)
    (folder / "docs").mkdir()
    for page in ("README.md", "docs/suite.md"):
        (folder / page).write_text("before\n<!-- suite: written by scripts/suite.py -->\nold\n<!-- end of suite -->\n")
    return folder


def start(place: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "scripts" / "suite.py"), "--quick", "--device", "cpu", "--out", "out"]
    command += ["--backbone", "backbone", "--tasks", "unseen.npz", "--seeds", "0,1", *more]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    output = subprocess.PIPE
    return subprocess.Popen(command, cwd=place, env=environment, stdout=output, stderr=subprocess.PIPE, text=True)


def call(place: Path, *more: str, code: int = 0) -> tuple[str, str]:
    process = start(place, *more)
    out, err = process.communicate(timeout=1_500)
    assert process.returncode == code, err
    return out, err


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_arms_killed_and_resumed(place: Path) -> None:
    units = place / "out" / "units"
    core = ("--arms", ",".join(CORE))
    killed = start(place, *core)
    wait_until(lambda: list(units.glob("*.json")) != [], "a unit")
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    before = {path: path.stat().st_mtime_ns for path in units.glob("*.json")}

    out, _ = call(place, *core, "--write-docs", ".")

    assert len(list(units.glob("*.json"))) == 2 * len(CORE)
    assert {path: path.stat().st_mtime_ns for path in before} == before  # nothing was done twice
    assert not list((place / "out" / "partial").glob("*"))
    summary: dict[str, Any] = json.loads((place / "docs" / "suite.json").read_text())
    assert summary["tasks"] == ["stripes"]
    assert summary["finished"] == summary["units"] == 2 * len(CORE)
    for key in ("winner_minus_yardstick", "winner_minus_race_only", "lora4_budget"):
        found = summary[key]
        assert found["pairs"] == 2
        assert found["mean_points"] == pytest.approx(np.mean([one["points"] for one in found["each"]]))
        assert 0.25 <= found["wilcoxon_p"] <= 1  # two pairs can give no less
        assert found["worst_task"]["task"] == "stripes"
    assert summary["cost_ratio"] > 0
    assert {pick["kind"] for pick in summary["picks"]["race_only"]} == {"method"}
    assert "<svg" in (place / "docs" / "suite.svg").read_text()
    for page in ("README.md", "docs/suite.md"):
        text = (place / page).read_text()
        assert text.startswith("before\n")
        assert "old" not in text
        assert "| the whole product |" in text
    assert "the whole product" in out
    check_units(units)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_every_other_arm(place: Path) -> None:
    call(place, "--seeds", "3", "--arms", ",".join(["evolution", *OTHERS]))
    summary: dict[str, Any] = json.loads((place / "out" / "suite.json").read_text())
    assert -1 <= summary["tau_tempered_inherited"] <= 1
    assert -1 <= summary["tau"]["ceiling"] <= 1
    assert set(summary["augmentation"]["minus_none"]) == RECIPES.keys() - {"none"}
    assert len(summary["tau_ideas"]) == 1 + 6 + 2, "as it is, other supernets, a short training from either start"
    assert all(-1 <= one["tempered"]["mean"] <= 1 for one in summary["tau_ideas"].values())
    assert summary["tau_ideas"]["as it is"]["tempered"]["mean"] == pytest.approx(summary["tau_tempered_inherited"])
    assert summary["ablations"].keys() == OTHERS - set(MEASUREMENTS)
    anew = json.loads((place / "out" / "units" / f"{summary['tasks'][0]}-3-cost.json").read_text())["sides"]
    assert anew.keys() == {"evolution", "yardstick", "yardstick_alone"}
    assert anew["evolution"]["stage_seconds"].keys() == {"train", "search", "race", "refit"}, "nothing was taken over"
    check_units(place / "out" / "units")


def check_units(units: Path) -> None:
    """What every unit records."""
    for content in map(json.loads, (path.read_text() for path in units.glob("*.json"))):
        assert content["versions"]["torch"]
        assert content["device"].startswith("CPU")
        assert content["model_steps"] > 0
        assert content["wall_seconds"] >= content["compile_seconds"] >= 0
        if content["arm"] not in MEASUREMENTS:
            assert content["test_accuracy"] == content["correct"].count("1") / len(content["correct"])
            assert len(content["correct"]) == 64
            assert content["parameters"] <= (3_072 if content["arm"] == "lora4_budget" else 12_288)


def test_it_stops_in_time_and_refuses_other_settings(place: Path) -> None:
    out = ("--out", "other", "--arms", "yardstick")
    _, err = call(place, *out, "--minutes", "0.0001")
    assert "0 of 2 units are done" in err
    _, err = call(place, *out, "--seeds", "0")
    assert "1 of 1 units are done" in err
    _, err = call(place, *out, "--seeds", "0", "--budget", "100000", code=2)
    assert "was made with other settings, tasks or another backbone" in err
    _, err = call(place, *out, "--only", "nothing", code=2)
    assert "no task 'nothing'; there are stripes" in err
    assert "Traceback" not in err
