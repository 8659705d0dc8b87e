from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from glorasearch.space import LayerShape

SpaceWriter = Callable[[str], Path]


@pytest.fixture
def write_space(tmp_path: Path) -> SpaceWriter:
    """Writes the text of a search space to `mine.toml`; returns the path."""

    def write(text: str) -> Path:
        path = tmp_path / "mine.toml"
        path.write_text(text, "utf-8")
        return path

    return write


@pytest.fixture
def layers() -> list[LayerShape]:
    """Two blocks, a layer without a bias, and one outside the blocks."""
    return [
        LayerShape("stem.proj", 12, 8),
        LayerShape("blocks.0.attn.qkv", 8, 24, bias=False),
        LayerShape("blocks.0.attn.proj", 8, 8),
        LayerShape("blocks.0.mlp.fc1", 8, 32),
        LayerShape("blocks.1.attn.qkv", 8, 24, bias=False),
        LayerShape("blocks.1.attn.proj", 8, 8),
        LayerShape("blocks.1.mlp.fc1", 8, 32),
    ]
