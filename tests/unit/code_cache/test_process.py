"""What compilers make is found again by a new process: with Inductor's backend for CPUs, which compiles here, too."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from glorasearch.code_cache import CodeFolder, process, use_code_cache
from glorasearch.code_cache.process import keep_code, versions_of_code

COMPILE = """
import json, sys, logging, os
from pathlib import Path
logging.basicConfig(format="%(message)s")
from glorasearch.code_cache import use_code_cache

said = use_code_cache(None if sys.argv[1] == "off" else Path(sys.argv[1]), "cpu")
folder = os.environ["TORCHINDUCTOR_CACHE_DIR"]
if len(sys.argv) > 2:
    print(json.dumps({"said": said, "folder": folder, "there": Path(folder).parent.exists()}))
    raise SystemExit

import torch
from torch import nn
from torch._dynamo.utils import counters
from glorasearch.fused import compile_blocks
from glorasearch.fused.linear import FusedLinear
from glorasearch.fused.layout import PLAN, Shape

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        shape = Shape(8, 8, 0, 0)
        self.norm = nn.LayerNorm(8)
        self.factors = torch.randn(sum(shape.sizes)).requires_grad_()
        weight, plan, none = torch.randn(8, 8), torch.ones(len(PLAN), dtype=torch.int32), torch.zeros(8, 0)
        self.layer = FusedLinear(weight, torch.zeros(8), self.factors, weight, plan, shape, (none, none.T))
    def forward(self, x):
        return x + nn.functional.gelu(self.layer(self.norm(x)))

torch.manual_seed(0)
model = nn.ModuleList([nn.Sequential(Block(), Block())])
model.forward = lambda x: model[0](x)
assert compile_blocks(model) == 2
loss = model(torch.ones(4, 8)).square().mean()
loss.backward()
gradient = model[0].stack[0].factors.grad.tolist()
found = {"said": said, "folder": folder, "loss": loss.item(), "gradient": gradient}
print(json.dumps(found | {group: counters[group] for group in ("inductor", "aot_autograd")}))
"""
compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler for Inductor")


def compiled(folder: Path | str, *how: str, **environment: str) -> tuple[dict[str, Any], str]:
    """What a new process says that compiles, or finds, a small model of fused layers; and its warnings."""
    given = {key: value for key, value in os.environ.items() if not key.startswith(("TORCHINDUCTOR", "TRITON_CACHE"))}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, str(folder), *how],
        env=given | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


@compiler
def test_a_new_process_compiles_nothing_again_and_trusts_nothing_that_is_damaged(tmp_path: Path) -> None:
    root = tmp_path / "compiled"
    cold, _ = compiled(root)
    assert "none yet for these versions" in cold["said"]
    assert cold["inductor"]["fxgraph_cache_miss"] > 0
    assert not any("bypass" in name for group in ("inductor", "aot_autograd") for name in cold[group])

    warm, warnings = compiled(root)
    assert warm["inductor"]["fxgraph_cache_hit"] == cold["inductor"]["fxgraph_cache_miss"]
    assert warm["aot_autograd"]["autograd_cache_hit"] == cold["aot_autograd"]["autograd_cache_miss"]
    assert "fxgraph_cache_miss" not in warm["inductor"]
    assert (warm["loss"], warm["gradient"]) == (cold["loss"], cold["gradient"])
    assert "not as they were left" not in warnings

    part = Path(cold["folder"]).parent
    for kind in ("fxgraph", "main.so"):
        path = min(path for path in (part / "inductor").rglob("*") if path.is_file() and kind in str(path))
        path.write_bytes(b"\x00" + path.read_bytes()[1:-1])
    again, warnings = compiled(root)
    assert f"2 files of the compiled code in {part} are not as they were left" in warnings
    assert again["inductor"]["fxgraph_cache_miss"] >= 1
    assert (again["loss"], again["gradient"]) == (cold["loss"], cold["gradient"])


def test_off_keeps_nothing_and_what_the_environment_says_stands(tmp_path: Path) -> None:
    off, _ = compiled("off", "said")
    assert off["said"] == "compiled code is not kept"
    assert off["there"]
    assert not Path(off["folder"]).parent.exists()

    own = tmp_path / "own"
    given, _ = compiled(tmp_path / "compiled", "said", TORCHINDUCTOR_CACHE_DIR=str(own))
    assert given["said"] == f"compiled code is in {own}, as TORCHINDUCTOR_CACHE_DIR says"
    assert given["folder"] == str(own)
    assert not (tmp_path / "compiled").exists()


def test_a_folder_that_cannot_be_used_is_said_and_not_used(tmp_path: Path) -> None:
    (tmp_path / "compiled").mkdir()
    (tmp_path / "compiled").chmod(0o777)
    found, warnings = compiled(tmp_path / "compiled", "said")
    assert found["said"] == "compiled code is not kept"
    assert "can be written by other users" in warnings
    assert "--code-cache" in warnings


def test_a_workspace_that_is_not_on_this_machine_has_a_folder_of_this_node(tmp_path: Path) -> None:
    found, _ = compiled(tmp_path / "elsewhere" / "compiled", "said", GLORASEARCH_CACHE=str(tmp_path / "node"))
    assert Path(found["folder"]).is_relative_to(tmp_path / "node" / "compiled")
    assert not (tmp_path / "elsewhere").exists()


def test_versions_count(tmp_path: Path) -> None:
    """The operators' gradients are code of ours, of which the compilers' keys hold no more than the names."""
    versions = versions_of_code("cpu")
    assert {"glorasearch", "torch", "triton", "cuda", "device", "python"} == versions.keys()
    places = {CodeFolder.place(tmp_path, versions | {name: "other"}) for name in versions}
    assert len(places) == len(versions)
    assert CodeFolder.place(tmp_path, versions) not in places


def test_where_nothing_is_compiled_nothing_is_made(tmp_path: Path) -> None:
    assert keep_code(tmp_path / "compiled", "cpu", "auto") is None
    assert keep_code(tmp_path / "compiled", "cuda", "off") is None
    assert list(tmp_path.iterdir()) == []


def test_few_processes_compile_where_most_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch starts them all before it looks into its cache."""
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "GLORASEARCH_CODE_CACHE_IN_USE"):
        monkeypatch.setenv(name, "")  # so that what is set below is taken back
        monkeypatch.delenv(name)
    monkeypatch.delenv("TORCHINDUCTOR_COMPILE_THREADS", raising=False)
    monkeypatch.setattr(process, "_current", [])
    process._usual_processes.cache_clear()
    try:
        # Not by monkeypatch, which would delete it at the end: torch has it in no `__dict__`.
        with torch._inductor.config.patch(compile_threads=24):
            counts = []
            for _ in range(2):
                said = use_code_cache(tmp_path / "compiled", "cpu")
                counts.append((said.partition(":")[0], torch._inductor.config.compile_threads))
                Path(os.environ["TORCHINDUCTOR_CACHE_DIR"], "graph").write_bytes(b"x" * 2_000_000)
            assert counts == [(f"compiled code is kept in {tmp_path / 'compiled'}", 24), ("compiled code", 8)]
            assert use_code_cache(None, "cpu") == "compiled code is not kept"
            assert torch._inductor.config.compile_threads == 24
            use_code_cache(tmp_path / "compiled", "cpu")
            assert use_code_cache(tmp_path / "other", "cpu").endswith("longer")
            assert torch._inductor.config.compile_threads == 24
            monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "24")
            use_code_cache(tmp_path / "compiled", "cpu")
            assert torch._inductor.config.compile_threads == 24
    finally:
        process._usual_processes.cache_clear()
