"""A backbone of which nothing is drawn that its file replaces is, to the bit, the one that is drawn first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from glorasearch.backbone import BackboneConfig, build_backbone, undrawn
from glorasearch.backbone.undrawn import Undrawn

MODELS = ("vit_tiny_patch16_224", "resnet18", "convnext_atto", "beit_base_patch16_224", "eva02_tiny_patch14_224")


@pytest.fixture
def makes(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each model that is made, whether it is drawn."""
    found: list[bool] = []
    known = timm.create_model

    def create(*given: Any, **named: Any) -> Any:
        weight = nn.Parameter(torch.full((undrawn.LARGE,), 7.0))
        with torch.no_grad():
            weight.uniform_()
        found.append(bool((weight != 7.0).any()))
        return known(*given, **named)

    monkeypatch.setattr(timm, "create_model", create)
    return found


def write(path: Path, name: str, *without: str) -> str:
    """A file of the model with values of its own."""
    torch.manual_seed(5)
    state = {key: value.clone() for key, value in timm.create_model(name).state_dict().items()}
    for key in without:
        del state[key]
    save_file({key: value + 1 if value.is_floating_point() else value for key, value in state.items()}, path)
    return str(path)


def state_of(config: BackboneConfig) -> dict[str, Tensor]:
    model = build_backbone(config, 10, seed=3)
    return {**model.state_dict(), **dict(model.named_buffers())}


def drawn(config: BackboneConfig, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """The model, all of whose values are drawn before they are replaced."""
    with monkeypatch.context() as patch:
        patch.setattr("glorasearch.backbone.build.build_undrawn", lambda make: make(None))
        return state_of(config)


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize("name", MODELS)
def test_it_is_the_same_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, makes: list[bool], name: str) -> None:
    config = BackboneConfig(name=name, checkpoint=write(tmp_path / "weights.safetensors", name))
    makes.clear()
    found = state_of(config)
    assert makes == [False], "made once, without draws"
    assert same(found, drawn(config, monkeypatch))


def test_what_the_file_lacks_is_drawn_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, makes: list[bool]
) -> None:
    lacking = "layer4.1.conv2.weight"
    config = BackboneConfig(
        name="resnet18",
        checkpoint=write(tmp_path / "weights.safetensors", "resnet18", lacking),
        allow_missing=[lacking],
    )
    makes.clear()
    found = state_of(config)
    assert makes == [False, True], "made again"
    assert same(found, drawn(config, monkeypatch))
    assert found[lacking].std() > 0


def test_without_a_file_all_is_drawn(makes: list[bool]) -> None:
    found = state_of(BackboneConfig(name="resnet18", pretrained=False))
    assert makes == [True]
    assert min(value.std() for name, value in found.items() if name.endswith("conv2.weight")) > 0


@pytest.mark.parametrize("draw", [lambda: torch.randn(3), lambda: torch.empty(3).normal_(), lambda: torch.randperm(3)])
def test_a_draw_of_something_else_is_not_trusted(draw: Callable[[], Tensor]) -> None:
    """What is drawn after one that was left out is another number than otherwise; no file is read for that model."""
    loaded: list[bool] = []

    def make(draws: Undrawn | None) -> nn.Module:
        layer = nn.Linear(400, 400)
        draw()
        if draws is not None:
            draws.end(layer)
        loaded.append(draws is None)
        return layer

    assert undrawn.build(make).weight.std() > 0
    assert loaded == [True]


def test_every_parameter_has_to_be_written() -> None:
    draws = Undrawn()
    with draws:
        layer = nn.Linear(400, 400)
        draws.end(layer)
        assert not draws.is_covered(layer)
        with torch.no_grad():
            layer.weight.copy_(torch.ones(400, 400))
            assert not draws.is_covered(layer)
            layer.bias.zero_()
    assert draws.is_covered(layer)
    with torch.no_grad():
        layer.weight.normal_()
    assert layer.weight.std() > 0, "after the end everything is drawn"
