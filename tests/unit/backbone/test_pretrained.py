"""Weights that do not fit are refused: every tensor outside the head comes from the file."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from support.models import TINY_VIT, tiny_vit
from support.pretrained import NAME, State, assert_loaded, build, prefixed, without
from timm.models import register_model
from torch import Tensor, nn

from glorasearch.backbone import BackboneConfig, build_backbone
from glorasearch.errors import BackboneError, ConfigError


@pytest.fixture(scope="module")
def state() -> State:
    return {name: value.clone() for name, value in tiny_vit().state_dict().items()}


@pytest.mark.parametrize("classes", [10, 3, 1000])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: without(state, "head."),
        lambda state: state | {"head.weight": torch.ones(7, 24), "head.bias": torch.ones(7)},
        lambda state: state | {"projector.0.weight": torch.ones(2, 2), "mask_token": torch.ones(2)},
        lambda state: {"state_dict": prefixed(state, "module."), "epoch": 3, "args": argparse.Namespace(lr=1.0)},
        lambda state: {"state_dict": state, "state_dict_ema": {}, "model_ema": without(state, "blocks.1.")},
        lambda state: {"state_dict": prefixed(state, "backbone.") | {"queue": torch.ones(2)}},
        lambda state: {"state_dict": prefixed(state, "module.base_encoder.")},
        lambda state: {"state_dict": prefixed(state, "module.encoder_q.")},
        lambda state: {"teacher": prefixed(state, "backbone."), "student": prefixed(state, "module.backbone.")},
        lambda state: {"model": {"network": prefixed(state, "model.vit.")}, "optimizer": {"lr": 1.0}},
        lambda state: (
            prefixed({name: 0 * value for name, value in state.items()}, "student.") | prefixed(state, "teacher.")
        ),
    ],
)
def test_known_keys_and_prefixes_are_taken_off(
    wrap: Callable[[State], dict[str, Any]], classes: int, state: State, tmp_path: Path
) -> None:
    torch.save(wrap(state), tmp_path / "weights.pth")
    assert_loaded(build(tmp_path / "weights.pth", classes), state)


@pytest.mark.parametrize(
    ("wrap", "taken"),
    [
        (
            lambda state: {"teacher": prefixed(state, "backbone.") | {"head.mlp.0.weight": Tensor(2)}},
            "'teacher' 'backbone.'",
        ),
        (lambda state: {"state_dict": prefixed(state, "module.")}, "'state_dict' 'module.'"),
        (lambda state: prefixed(state, "_orig_mod."), "'_orig_mod.'"),
    ],
)
def test_what_is_taken_off_is_said_once(
    wrap: Callable[[State], dict[str, Any]], taken: str, state: State, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "weights.pth"
    torch.save(wrap(state), path)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            build(path)
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        f"backbone {NAME!r}: of the names in {str(path)!r} {taken} is taken off, and {len(state)} tensors are left"
    ]


@pytest.mark.parametrize("classes", [10, 3, 1000])
@pytest.mark.parametrize(
    ("wrap", "args", "found"),
    [
        (
            lambda state: {"x": torch.zeros(3)},
            {},
            r"30 of the 30 tensors outside the head are not in it: cls_token.*1 of the file have no place .*: x\.",
        ),
        (
            lambda state: prefixed(state, "someones."),
            {},
            r"30 of the 30 .*: cls_token, pos_embed, .*; 32 of the file have no place .*: someones\.cls_token",
        ),
        (
            lambda state: without(state, "blocks.1."),
            {},
            r"12 of the 30 .*: blocks\.1\.norm1\.weight, .*allow_missing = \[\"blocks\.1\.\*\"\]",
        ),
        (lambda state: state, {"depth": 3}, r"12 of the 42 tensors .*: blocks\.2\.norm1\.weight"),
        (lambda state: state, {"depth": 1}, r"12 of the file have no place in the model: blocks\.1\.norm1"),
        (
            lambda state: state,
            {"global_pool": "avg"},
            r"2 of .*: fc_norm\.weight, fc_norm\.bias; 2 of the file have no place .*: norm\.weight, norm\.bias",
        ),
        (
            lambda state: without(state, "pos_embed") | {"pos_embed": state["pos_embed"][:, 1:]},
            {"class_token": False, "global_pool": "avg", "fc_norm": False},
            r"1 of the file have no place .*: cls_token",
        ),
        (lambda state: state, {"qkv_bias": False}, r"2 of the file have no place .*: blocks\.0\.attn\.qkv\.bias"),
        (lambda state: state, {"init_values": 0.1}, r"4 of .*: blocks\.0\.ls1\.gamma"),
        (
            lambda state: state,
            {"embed_dim": 48},
            r"have another shape or kind: .*\(1, 1, 24\) in the file and \(1, 1, 48\) in the model.*\(now .*embed_dim",
        ),
        (
            lambda state: state | {"norm.weight": torch.full((24,), torch.nan)},
            {},
            r"values that are not finite, in norm\.weight",
        ),
        (
            lambda state: state | {"blocks.1.attn.qkv.weight": torch.ones(72, 24, dtype=torch.int8)},
            {},
            r"1 tensors have another shape or kind: blocks\.1\.attn\.qkv\.weight \(72, 24\) int8 in the file and \(72",
        ),
        (lambda state: {"state_dict": [1, 2]}, {}, r"cannot convert .*: it has state_dict; the model has cls_token"),
        (lambda state: [state], {}, "holds a list, not tensors by name"),
        (lambda state: state | {"best": np.float64(1.5)}, {}, r"holds Python objects \(numpy\S+scalar, .*run code"),
        (lambda state: nn.Linear(2, 2), {}, r"holds Python objects \(torch\.nn\S+Linear\).* model\.state_dict\(\)"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(
    wrap: Callable[[State], dict[str, Any]],
    args: dict[str, Any],
    found: str,
    classes: int,
    state: State,
    tmp_path: Path,
) -> None:
    torch.save(wrap(state), tmp_path / "weights.pth")
    with pytest.raises(BackboneError, match=found):
        build(tmp_path / "weights.pth", classes, TINY_VIT | args)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".npz"])
@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02cos\nsystem\n."])
@pytest.mark.parametrize("name", [NAME, "resnet18"])
def test_files_without_weights_are_refused(name: str, content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(BackboneError, match=r"weights\S+ has no weights that can be read .* Allowed are \.safetensors"):
        build_backbone(BackboneConfig(name=name, checkpoint=str(path)), 3)


def test_who_knows_may_leave_tensors_out_on_both_sides(state: State, tmp_path: Path) -> None:
    torch.save(without(state, "pos_embed"), tmp_path / "weights.pth")
    args = TINY_VIT | {"global_pool": "avg", "embed_dim": 24}
    models = [
        build_backbone(
            BackboneConfig(
                name=NAME,
                checkpoint=str(tmp_path / "weights.pth"),
                args=args,
                allow_missing=["fc_norm.*", "norm.*", "pos_embed"],
            ),
            3,
            seed=seed,
        )
        for seed in (0, 7)
    ]
    for model in models:
        assert_loaded(model, without(state, "pos_embed", "norm."))
    first, second = (without(model.state_dict(), "head.") for model in models)
    assert all(torch.equal(value, second[name]) for name, value in first.items())  # the seed of a run is not theirs
    assert first["pos_embed"].std() > 0


def test_a_tensor_of_another_shape_may_be_left_out(state: State, tmp_path: Path) -> None:
    torch.save(state | {"norm.weight": torch.ones(5)}, tmp_path / "weights.pth")
    model = build(tmp_path / "weights.pth", allow_missing=["norm.weight"])
    assert_loaded(model, without(state, "norm.weight"))


@pytest.mark.parametrize(("keep", "classes"), [("blocks.1.", 10), ("blocks.1.", 3), ("", 3)])
def test_a_directory_is_held_to_the_same(keep: str, classes: int, state: State, tmp_path: Path) -> None:
    save_file(without(state, keep) if keep else state, tmp_path / "model.safetensors")
    content = {
        "architecture": NAME,
        "num_classes": 10,
        "model_args": TINY_VIT,
        "pretrained_cfg": {"classifier": "head"},
    }
    (tmp_path / "config.json").write_text(json.dumps(content))
    config = BackboneConfig(name=f"local-dir:{tmp_path}")
    if keep:
        with pytest.raises(BackboneError, match=r"12 of the 30 tensors .* are not in it: blocks\.1\.norm1"):
            build_backbone(config, classes)
    else:
        assert_loaded(build_backbone(config, classes), state)
        other = prefixed(state, "module.backbone.")
        other["module.backbone.norm.weight"] = torch.full((24,), 5.0)
        torch.save(other, tmp_path / "other.pth")
        model = build_backbone(config.replace(checkpoint=str(tmp_path / "other.pth")), classes)
        assert model.state_dict()["norm.weight"].unique().tolist() == [5.0]  # and not the directory's own


def test_a_directory_is_read_whole(state: State, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """timm takes the average, whatever it holds, and says nothing of what it takes off."""
    average = without(prefixed(state, "module."), "module.blocks.1.")
    torch.save({"state_dict": prefixed(state, "module."), "model_ema": average}, tmp_path / "pytorch_model.bin")
    content = {
        "architecture": NAME,
        "num_classes": 10,
        "model_args": TINY_VIT,
        "pretrained_cfg": {"classifier": "head"},
    }
    (tmp_path / "config.json").write_text(json.dumps(content))
    with caplog.at_level(logging.WARNING):
        assert_loaded(build_backbone(BackboneConfig(name=f"local-dir:{tmp_path}"), 3), state)
    assert "of the names in the file of its weights 'state_dict' 'module.' is taken off" in caplog.text


def test_names_that_the_conversion_drops_are_said_nevertheless(tmp_path: Path) -> None:
    """The filter of this family keeps what begins with its own names."""
    torch.save({"someones.weight": torch.ones(2)}, tmp_path / "weights.pth")
    args = {"depth": 1, "embed_dim": 64, "num_heads": 2}
    config = BackboneConfig(name="deepseek_vit_412m", checkpoint=str(tmp_path / "weights.pth"), args=args)
    with pytest.raises(BackboneError, match=r"outside the head are not in it: .*; it has someones\.weight\. Every"):
        build_backbone(config, 3)


@register_model
def pretrained_test_loads_nothing(pretrained: bool = False, **arguments: Any) -> nn.Module:
    """A model that leaves `pretrained` aside."""
    return timm.create_model(NAME, **{key: value for key, value in arguments.items() if "cfg" not in key})


def test_a_model_that_loads_nothing_is_refused() -> None:
    config = BackboneConfig(name="pretrained_test_loads_nothing", args=TINY_VIT)
    with pytest.raises(BackboneError, match="nothing was loaded in timm's way"):
        build_backbone(config, 3)
    with pytest.raises(BackboneError, match="nothing was loaded in timm's way"):  # "norm.*" alone was known to be so
        build_backbone(config.replace(allow_missing=["norm.*"]), 3)
    build_backbone(config.replace(allow_missing=["*"]), 3)
    build_backbone(config.replace(pretrained=False), 3)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"checkpoint": "x.pth", "pretrained": False}, "pretrained is false, so it would not be loaded"),
        ({"args": {"num_classes": 3}}, "args has 'num_classes', which is not set there: it is what the data has"),
        ({"args": {"checkpoint_path": "x"}}, "set backbone.checkpoint"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(values: dict[str, Any], found: str) -> None:
    with pytest.raises(ConfigError, match=found):
        BackboneConfig(name=NAME, **values)
