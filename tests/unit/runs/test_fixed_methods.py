"""What may be a baseline: a space that has one subnet on the layers at hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from glorasearch.errors import ConfigError
from glorasearch.runs.fixed_methods import bind_method
from glorasearch.space import LayerShape, SearchSpace

LAYERS = [LayerShape("blocks.0.attn.qkv", 4, 12), LayerShape("blocks.0.mlp.fc1", 4, 8, bias=False)]


@pytest.mark.parametrize(
    "text",
    [
        '[choices]\nB = ["lora:2"]\n',
        '[choices]\nB = ["none", "lora:2"]\n[[groups]]\nlayers = ["*"]\nB = ["lora:2"]\n',
        '[choices]\nE = ["vector"]\n[[groups]]\nlayers = ["*.fc1"]\nD = ["none", "vector"]\n',
    ],
)
def test_one_subnet_is_a_baseline_however_it_is_written(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    assert bind_method("report.baselines", str(path), SearchSpace.load(str(path)), LAYERS).size() == 1


@pytest.mark.parametrize(
    "text",
    [
        '[choices]\nB = ["none", "lora:2"]\n',
        '[choices]\nB = ["lora:2"]\n[[groups]]\nlayers = ["*.qkv"]\nD = ["none", "vector"]\n',
    ],
)
def test_more_than_one_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"report\.baselines: .* has more than one subnet; expected a fixed method"):
        bind_method("report.baselines", str(path), SearchSpace.load(str(path)), LAYERS)
