"""`glorasearch space` shows all of what a space offers."""

from __future__ import annotations

import json

from click.testing import CliRunner

from glorasearch.cli.main import group


def output(*arguments: str) -> str:
    result = CliRunner().invoke(group, ["space", *arguments], env={"COLUMNS": "60"})
    assert result.exit_code == 0, result.output
    return result.stdout


def test_no_choice_is_cut_off_however_narrow_the_terminal() -> None:
    shown = output("convnext_glora", "--backbone", "convnext_atto")
    assert "…" not in shown
    assert "stages.*.blocks.*.conv_dw" in shown
    assert "2 x (40, 49)" in shown


def test_what_layers_share_is_said() -> None:
    assert "group projections: 12 layers share in A what can be shared\n" in output("wegeft")
    assert "share" not in output("repadapter")
    described = json.loads(output("wegeft", "--json"))
    assert {layer["type"] for layer in described["layers"]} == {"linear"}
    assert all(layer["shared"] == {"A": "projections"} for layer in described["layers"])


def test_norms_and_recipes_are_said() -> None:
    assert output("ssf").endswith("budget: 0 to no limit\nrecipe: lr_factor 3\n")
    assert "recipe" not in output("lora")
    described = json.loads(output("ssf", "--json"))
    assert described["recipe"] == {"lr_factor": 3.0}
    kinds = [layer["type"] for layer in described["layers"]]
    assert {kind: kinds.count(kind) for kind in kinds} == {"conv2d": 1, "norm": 25, "linear": 48}


def test_named_points_are_listed_with_their_parameters() -> None:
    shown = output("glora_medium", "--max", "600000")
    lines = shown[shown.index("named points within the budget") :].splitlines()[1:]
    listed = {line.rsplit(maxsplit=1)[0].strip(): int(line.rsplit(maxsplit=1)[1].replace(",", "")) for line in lines}
    assert listed["lora:4 everywhere"] == 589_824
    assert listed["ssf everywhere"] == 248_832
    assert "all:4 everywhere" not in listed

    described = json.loads(output("glora_medium", "--max", "600000", "--json"))["named_points"]
    assert {point["name"]: point["parameters"] for point in described} == listed
    assert next(iter(listed)) == described[0]["name"] == "lora:4 everywhere"
    assert len({point["digest"] for point in described}) == len(described)


def test_what_is_left_is_said_with_the_reason() -> None:
    shown = output("lora", "--backbone", "swinv2_tiny_window8_256")
    assert "left: patch_embed.proj: stem: not in layers.include\n" in shown
    assert "left: layers.*.blocks.*.attn.cpb_mlp.* (24): position: not in" in shown
    assert "layers.*.downsample.norm (3), norm: its type, norm, is not in layers.types\n" in shown
    described = json.loads(output("lora", "--backbone", "swinv2_tiny_window8_256", "--json"))
    assert described["left"]["patch_embed.proj"] == "stem: not in layers.include"
    assert described["notices"] == []
    announced = CliRunner().invoke(group, ["space", "lora", "--backbone", "swinv2_tiny_window8_256"]).stderr
    assert announced == "swinv2_tiny_window8_256: loading torch and timm, to build it\n"
    assert described["layers"][0]["roles"] == ["attention", "body", "entries", "qkv", "query", "value"]


def test_what_fits_some_layers_only_is_said() -> None:
    shown = output("wegeft", "--backbone", "swin_tiny_patch4_window7_224")
    assert "notice: group 'projections': its layers have 96, 192, 384, 768 inputs; those with equally many" in shown
    shown = output("repadapter", "--backbone", "resnet18")
    assert "notice: layers.include: there is no @entries here, so @body is taken: 19 layers\n" in shown
