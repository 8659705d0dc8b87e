"""On a real GPU a new process compiles no graph and no kernel again, and its steps are those of the first one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.gpu
STEP = """
import json, os, sys, time
from functools import partial
from pathlib import Path
import numpy as np, timm, torch
from torch._dynamo.utils import counters
from glorasearch.code_cache import use_code_cache
from glorasearch.evaluation.captured_model import CapturedModel
from glorasearch.fused import FusedStep, StepConfig
from glorasearch.space import SearchSpace, sample
from glorasearch.supernet import Supernet
from glorasearch.tasks import CLASSIFY
use_code_cache(Path(sys.argv[1]), "cuda")
torch.manual_seed(0)
backbone = timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=5, depth=4).cuda()
supernet = Supernet(backbone, SearchSpace.load("glora_medium"), seed=3).train()
loss = partial(CLASSIFY.subnet_loss, smoothing=0.1, weights=None)
fused = FusedStep(supernet, StepConfig(), loss=loss, teacher=CLASSIFY.teacher_of)
images, labels = torch.randn(16, 3, 64, 64, device="cuda"), torch.randint(0, 5, (16,), device="cuda")
rng, results = np.random.default_rng(0), []
began = time.perf_counter()
for _ in range(5):
    rates = {"factor": 1e-3, "vector": 1e-3, "head": 1e-3}
    results.append(fused.run([sample(supernet.space, rng)], images, labels, rates).tolist())
seconds = time.perf_counter() - began
CapturedModel(supernet.eval(), "cuda").prove(images)
found = {"results": results, "seconds": seconds, "folder": os.environ["TRITON_CACHE_DIR"]}
print(json.dumps(found | {group: counters[group] for group in ("inductor", "aot_autograd")}))
"""


def steps(folder: Path) -> dict[str, Any]:
    given = {key: value for key, value in os.environ.items() if not key.startswith(("TORCHINDUCTOR", "TRITON_CACHE"))}
    done = subprocess.run(
        [sys.executable, "-c", STEP, str(folder)], env=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "not as they were left" not in done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def own_kernels(folder: str) -> set[Path]:
    """Those that we wrote; Inductor's, which begin with `triton_`, come out of the bundles of its graphs again."""
    return {path for path in Path(folder).rglob("*.cubin") if not path.name.startswith("triton_")}


def test_a_new_process_compiles_nothing_again(tmp_path: Path) -> None:
    cold = steps(tmp_path / "compiled")
    kernels = own_kernels(cold["folder"])
    assert any("merge" in path.name for path in kernels)
    assert cold["inductor"]["fxgraph_cache_miss"] > 0
    assert not any("bypass" in name for group in ("inductor", "aot_autograd") for name in cold[group])

    warm = steps(tmp_path / "compiled")
    print(f"five steps: {cold['seconds']:.1f} s, then {warm['seconds']:.1f} s in a new process")
    assert "fxgraph_cache_miss" not in warm["inductor"]
    assert "autograd_cache_miss" not in warm["aot_autograd"]
    assert warm["aot_autograd"]["autograd_cache_hit"] == cold["aot_autograd"]["autograd_cache_miss"]
    assert own_kernels(cold["folder"]) == kernels
    for expected, found in zip(cold["results"], warm["results"], strict=True):
        assert found == pytest.approx(expected, rel=1e-2)
