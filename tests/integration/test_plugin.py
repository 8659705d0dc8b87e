"""The choice of `docs/methods.md`, from outside the package: its count, its start, its merging, whole runs of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from glorasearch.adapters import adaptable_layers
from glorasearch.choices import CHOICES, parse_choice
from glorasearch.cli.main import run as command_line
from glorasearch.db import TrialStorage
from glorasearch.runs import Run, RunConfig, Workspace
from glorasearch.runs.evaluation import evaluator_spec
from glorasearch.runs.results import RefitResult
from glorasearch.runs.session import Session
from glorasearch.space import BoundSpace, SearchSpace, Subnet, sample
from glorasearch.supernet import Supernet

Bench = Any
MakeBench = Callable[..., Bench]
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "methods.md").read_text("utf-8")
SECTION = PAGE.split("## Add a choice of your own\n", 1)[1].split("\n## ", 1)[0]
WIDTH = 64
BACKBONE = {"img_size": 28, "patch_size": 14, "embed_dim": WIDTH, "depth": 2, "num_heads": 2, "in_chans": 1}
SUMMARY = """
import sys
from glorasearch.db import SummarisingStorage

view = SummarisingStorage(sys.argv[1])
print(sorted(view.get_all_trials(view.get_study_id_from_name("tiny"))[0].params))
"""
WORKER = """
import json, sys
from glorasearch.evaluation import build_evaluator
from glorasearch.space import EvaluationTask

spec, task = json.loads(sys.argv[1])
result = build_evaluator(spec)(EvaluationTask(*task))
print(json.dumps([result.error, result.score.accuracy, result.score.cross_entropy]))
"""
CLEAN = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("glorasearch", "vera"):
            raise ImportError(name)

sys.meta_path.insert(0, Blocker())
import timm, torch
from safetensors.torch import load_file, save_file

model = timm.create_model("local-dir:" + sys.argv[1], pretrained=True).eval()
with torch.no_grad():
    save_file({"y": model(load_file(sys.argv[2])["x"])}, sys.argv[3])
"""


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)
    return str(found)


@pytest.fixture(scope="module")
def space_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The files of the page, in a folder that this process and those that it starts import from."""
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "vera.py").write_text(block("python"))
    (folder / "vera.toml").write_text(block("toml"))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep))
        yield folder / "vera.toml"
    CHOICES.pop("vera", None)
    sys.modules.pop("vera", None)
    parse_choice.cache_clear()


def without(space_file: Path) -> dict[str, str]:
    """The environment of a process that cannot import the plugin."""
    others = [place for place in os.environ["PYTHONPATH"].split(os.pathsep) if place != str(space_file.parent)]
    return os.environ | {"PYTHONPATH": os.pathsep.join(others), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def backbone() -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = timm.create_model("vit_tiny_patch16_224", num_classes=10, **BACKBONE)
    return model.eval()


@pytest.fixture
def bound(space_file: Path, backbone: nn.Module) -> BoundSpace:
    return SearchSpace.load(space_file).bind(adaptable_layers(backbone))


def images(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(1)).to(dtype)


def test_its_parameters_are_what_is_trained(bound: BoundSpace) -> None:
    assert {gene.choices for gene in bound.genes} == {("none", "vera:16", "vera:64")}
    rows = {"attn.qkv": 3 * WIDTH, "attn.proj": WIDTH, "mlp.fc1": 4 * WIDTH, "mlp.fc2": WIDTH}
    for gene in bound.genes:
        own = rows[gene.layer.split(".", 2)[2]]
        assert bound.costs(gene) == {"none": 0, "vera:16": own + 16, "vera:64": own + 64}


@torch.no_grad()
def test_it_begins_as_the_backbone_bit_for_bit(bound: BoundSpace, backbone: nn.Module) -> None:
    supernet = Supernet(backbone, bound)
    expected = backbone(images())
    rng = np.random.default_rng(0)
    for subnet in [bound.largest(), *(sample(bound, rng) for _ in range(5))]:
        with supernet.activate(subnet):
            assert torch.equal(supernet(images()), expected)
        assert torch.equal(supernet.merged(subnet)(images()), expected)


@torch.no_grad()
def test_merged_is_active_is_the_equation(bound: BoundSpace, backbone: nn.Module) -> None:
    supernet = Supernet(backbone.double(), bound)
    for parameter in supernet.adapter_parameters().values():
        parameter.normal_(std=0.3)
    rng = np.random.default_rng(0)
    for subnet in [bound.largest(), *(sample(bound, rng) for _ in range(5))]:
        merged = supernet.merged(subnet)
        with supernet.activate(subnet):
            assert (supernet(images(torch.float64)) - merged(images(torch.float64))).abs().max() <= 1e-12
        for (name, _), choice in subnet.items():
            rank = parse_choice(choice).rank
            kept = dict(supernet.adapted[name].support_of("B").named_parameters())
            b, d, p, q = (kept[f"vera_{part}"] for part in "bdpq")
            added = torch.diag(b) @ p[:, :rank] @ torch.diag(d[:rank]) @ q[:rank]
            base = backbone.get_submodule(name).weight
            assert (merged.get_submodule(name).weight - base - added).abs().max() <= 1e-12


def test_what_is_frozen_comes_of_the_option_and_of_nothing_else(space_file: Path, backbone: nn.Module) -> None:
    content = SearchSpace.load(space_file).model_dump(mode="json", exclude_none=True)
    frozen: list[dict[str, Tensor]] = []
    for seed, options in ((0, {}), (5, {}), (0, {"vera": {"seed": 1}})):
        supernet = Supernet(backbone, SearchSpace.from_dict(content | {"options": options}), seed=seed)
        state, trained = supernet.adapter_state(), supernet.adapter_parameters()
        assert not {name for name in trained if name.endswith(("vera_p", "vera_q"))}
        frozen.append({name: state[name] for name in state if name.endswith(("vera_p", "vera_q"))})
        assert torch.equal(state["blocks.0.mlp.fc1.B.vera_p"], state["blocks.1.mlp.fc1.B.vera_p"])
    first, another_supernet, another_option = frozen
    assert all(torch.equal(value, another_supernet[name]) for name, value in first.items())
    assert not any(torch.equal(value, another_option[name]) for name, value in first.items())


@pytest.fixture(scope="module")
def make_run(space_file: Path, make_bench: MakeBench) -> MakeBench:
    arguments = ", ".join(f"{key} = {value}" for key, value in BACKBONE.items())
    own = (f"backbone.args={{{arguments}}}", f"space.name={space_file}", "train.steps=80", "search.trials=24")
    short = ("search.population=8", "refit.steps=20", "report.baselines=[]", "report.random_subnets=0")
    return lambda *more, **place: make_bench(*own, *short, *more, **place)


@pytest.fixture(scope="module")
def finished(make_run: MakeBench) -> Bench:
    """A run in this process; not to be changed by any test."""
    bench = make_run()
    assert command_line(bench.arguments("run", "--quiet")) == 0
    return bench


def test_a_whole_run_ends_in_a_plain_model(finished: Bench, tmp_path: Path) -> None:
    report = finished.report
    assert (report["search"]["trials"], report["search"]["failed"]) == (24, 0)
    chosen = {choice for tensors in report["winner"]["subnet"].values() for choice in tensors.values()}
    assert chosen & {"vera:16", "vera:64"}

    session = session_of(finished)
    batch, _ = session.data.search.batch(slice(0, 16))
    save_file({"x": batch.contiguous()}, tmp_path / "images")
    files = [str(finished.folder / "export"), str(tmp_path / "images"), str(tmp_path / "outputs")]
    subprocess.run([sys.executable, "-I", "-c", CLEAN, *files], check=True)
    subnet = Subnet.from_dict(report["winner"]["subnet"])
    supernet = session.load(session.supernet(), RefitResult).eval()
    with torch.no_grad(), supernet.activate(subnet):
        expected = supernet(batch)
    found = load_file(tmp_path / "outputs")["y"]
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()
    with torch.no_grad():
        assert (found - session.backbone(batch)).abs().max() > 1e-2


def test_a_run_that_was_killed_goes_on_in_another_process(finished: Bench, make_run: MakeBench) -> None:
    bench = make_run()
    bench.stop_when(bench.checkpoint("train").exists, bench.start("train"))
    assert not bench.has_stage("train")
    assert "supernet: resumes at step " in bench.finish()
    assert bench.outcome() == finished.outcome()


def test_changed_code_is_another_method(make_run: MakeBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its weights are not taken over from those of the code before, and no run goes on with it."""
    code, space = tmp_path / "changing.py", tmp_path / "changing.toml"
    code.write_text(block("python"))
    space.write_text(block("toml").replace("vera:Vera", "changing:Vera"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    first = make_run(f"space.name={space}", "train.steps=4")
    first.finish("train")
    again, other = (
        make_run(f"space.name={space}", "train.steps=4", f"name={name}", workspace=first.workspace)
        for name in ("again", "other")
    )
    assert "taken over from run 'tiny'" in again.finish("train")

    code.write_text(code.read_text() + "# changed\n")
    assert "taken over" not in other.finish("train")
    assert first.start("train").wait(100) == 2
    assert "spaces.space.sources.changing:Vera" in first.errors()


def test_a_worker_is_told_of_it(finished: Bench) -> None:
    """As workers are made: from plain JSON, in a process that knows nothing yet."""
    storage = TrialStorage(finished.database_url)
    trials = storage.get_all_trials(storage.get_study_id_from_name("tiny"))
    trial = min(trials, key=lambda trial: trial.value or float("inf"))
    result = finished.record.stages["search"]
    weights = finished.record.stages["train"]["weights"]
    task = [json.dumps(result["subnet"]), result["digest"], weights]
    spec = evaluator_spec(session_of(finished)).to_json()
    worker = subprocess.run(
        [sys.executable, "-c", WORKER, json.dumps([spec, task])], capture_output=True, text=True, check=True
    )
    error, accuracy, cross_entropy = json.loads(worker.stdout)
    assert error is None
    assert accuracy == trial.user_attrs["accuracy"] == result["search_accuracy"]
    assert cross_entropy == pytest.approx(result["search_cross_entropy"], rel=1e-6)


@pytest.mark.parametrize("command", [["show", "tiny"], ["runs"], ["compare", "tiny"]])
def test_who_only_looks_need_not_import_it(finished: Bench, space_file: Path, command: list[str]) -> None:
    place = ["--workspace", str(finished.workspace)]
    done = subprocess.run(
        [sys.executable, "-m", "glorasearch", *command, *place],
        capture_output=True, text=True, env=without(space_file), cwd=finished.workspace,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "tiny" in done.stdout


def test_the_dashboard_tells_of_it_without_importing_it(finished: Bench, space_file: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SUMMARY, str(finished.database_url)],
        capture_output=True, text=True, env=without(space_file), cwd=finished.workspace, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "['B: share of none', 'B: share of vera', 'mean rank', 'parameters']"


def test_where_it_cannot_be_imported_its_space_is_refused(space_file: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "glorasearch", "space", str(space_file)],
        capture_output=True, text=True, env=without(space_file), cwd=space_file.parent.parent,
    )  # fmt: skip
    assert done.returncode == 2
    assert "plugin 'vera:Vera' cannot be imported" in done.stderr
    assert "PYTHONPATH" in done.stderr


def session_of(bench: Bench) -> Session:
    return Run(RunConfig.load(bench.run_file, bench.overrides), Workspace.open(bench.workspace)).session()
