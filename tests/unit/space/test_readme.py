"""The search spaces' README is true: its files load and bind, its numbers are those of the command."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from click.testing import CliRunner

from glorasearch.adapters import adaptable_layers
from glorasearch.choices import CHOICES
from glorasearch.cli.main import group
from glorasearch.space import BoundSpace, Recipe, SearchSpace, shipped_directory, shipped_names
from glorasearch.space.roles import ROLES
from glorasearch.space.sections import Budget, Group, LayerSelection

SpaceWriter = Callable[[str], Path]
TEXT = (shipped_directory() / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```toml\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
with torch.device("meta"):
    LAYERS = adaptable_layers(timm.create_model("vit_base_patch16_224", num_classes=2))


def table(heading: str) -> list[list[str]]:
    """Rows of the first table after a heading, as cells without backquotes."""
    section = TEXT.split(f"{heading}\n", 1)[1]
    rows = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert rows is not None
    lines = [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in rows[0].splitlines()]
    return lines[2:]


def bound(write_space: SpaceWriter, text: str) -> BoundSpace:
    return SearchSpace.load(write_space(text)).bind(LAYERS)


@pytest.mark.parametrize("text", BLOCKS)
def test_every_example_binds_to_vit_b(write_space: SpaceWriter, text: str) -> None:
    assert bound(write_space, text).layers


def test_there_are_examples_of_everything() -> None:
    assert len(BLOCKS) == 11
    tables = ("[layers]", "[choices]", "[options.", "[[groups]]", "[budget]", "[recipe]")
    for key in (*tables, "include", "exclude", "types", "share", "entangle", "description"):
        assert any(key in text for text in BLOCKS), key


def test_the_table_of_keys_is_complete() -> None:
    keys = {key for cells in table("## The keys") for key in re.split(r", | \.\.\. ", cells[0])}
    top = set(SearchSpace.model_fields) - {"layers", "choices", "budget", "recipe"}
    nested = {f"layers.{key}" for key in LayerSelection.model_fields} | {f"budget.{key}" for key in Budget.model_fields}
    nested |= {f"recipe.{key}" for key in Recipe.model_fields}
    assert keys == top | nested | {"groups.layers", "groups.share", "groups.A", "groups.E", "choices.A", "choices.E"}
    assert set(Group.model_fields) == {"layers", "share", *"ABCDE"}


def test_the_table_of_choices_is_that_of_the_code() -> None:
    rows = {cells[0].partition(":")[0]: cells for cells in table("### Choices")}
    assert set(rows) == set(CHOICES)
    for name, made in CHOICES.items():
        offered = {tensor for tensor, cell in zip("ABCDE", rows[name][1:6], strict=True) if cell == "yes"}
        assert offered == set(made.tensors)
        assert rows[name][0].count(":") == len(made.arguments)


def test_the_table_of_roles_is_that_of_the_code() -> None:
    assert [role for role, _ in table("### Roles")] == [f"@{role}" for role in ROLES]


def counts(on_backbone: BoundSpace) -> list[str]:
    """Number of subnets, and smallest, mean and largest parameter count, as they are written in the tables."""
    smallest, mean, largest = on_backbone.parameter_range()
    size = "1" if on_backbone.size() == 1 else f"10^{on_backbone.size_exponent():.1f}"
    return [size, f"{smallest:,}", f"{mean:,.0f}", f"{largest:,}"]


def test_the_tables_of_what_is_shipped() -> None:
    rows = {cells[0]: cells[1:] for cells in table("## What is shipped")}
    convolutional = table("### Shipped for convolutional networks")
    assert sorted([*rows, *{cells[0] for cells in convolutional}]) == shipped_names()
    for name, cells in rows.items():
        space = SearchSpace.load(name)
        assert cells == [space.description, *counts(space.bind(LAYERS))]
    for name, backbone, *cells in convolutional:
        with torch.device("meta"):
            layers = adaptable_layers(timm.create_model(backbone, num_classes=2))
        on_backbone = SearchSpace.load(name).bind(layers)
        assert cells == [str(len(on_backbone.layers)), *counts(on_backbone)]


def test_the_table_of_options_is_that_of_the_code() -> None:
    written = {(name, option): float(default) for name, option, default, _ in table("### Options")}
    assert written == {
        (name, option): value for name, made in CHOICES.items() for option, value in made.defaults.items()
    }


def test_the_sharing_example(write_space: SpaceWriter) -> None:
    on_vit = bound(write_space, next(text for text in BLOCKS if "share" in text))
    third = {gene.layer: gene.share for gene in on_vit.genes if gene.layer.startswith("blocks.3.")}
    assert list(third.values()) == ["attention", "attention", "mlp", ""]
    attention = {gene.key: "wegeft:16" for gene in on_vit.genes if gene.share == "attention"}
    one = dict(list(attention.items())[:1])
    assert on_vit.parameters(on_vit.smallest().replace(attention)) == 2 * 768 * 16
    assert on_vit.parameters(on_vit.smallest().replace(attention | dict.fromkeys(one, "wegeft:8"))) == 2 * 768 * 16
    assert on_vit.parameters(on_vit.smallest().replace(dict.fromkeys(one, "wegeft:8"))) == 2 * 768 * 8


def test_the_patterns_match_what_is_said() -> None:
    for pattern, said in table("### Patterns"):
        content = {"name": "x", "layers": {"include": [pattern]}, "choices": {"E": ["vector"]}}
        names = [layer.name for layer in SearchSpace.from_dict(content).bind(LAYERS).layers]
        count = {"all layers": 48, "qkv and proj": 24, "that one": 1, "those of the blocks 10": 8}
        expected = next((number for words, number in count.items() if said.startswith(words)), 12)
        assert len(names) == expected
        if expected == 12:
            assert said.split()[0] in names


def test_the_group_example(write_space: SpaceWriter) -> None:
    offered: dict[str, str] = {}
    text = next(text for text in BLOCKS if "*.mlp.fc2" in text)
    for gene in bound(write_space, text).genes:
        if gene.layer.startswith("blocks.3.") and gene.choices != ("none",):
            offered[gene.layer] = offered.get(gene.layer, "") + gene.tensor
    assert list(offered.values()) == ["AB", "AB", "A", "AE"]


def test_the_worked_example_prints_what_is_said(write_space: SpaceWriter) -> None:
    path = write_space(BLOCKS[-1])
    result = CliRunner().invoke(group, ["space", str(path)])
    assert result.exit_code == 0
    said = TEXT.split("says:\n\n", 1)[1].split("\n\n")[0]
    printed = [line.rstrip() for line in result.output.splitlines()]
    size = printed.index(said.splitlines()[0].strip())
    assert printed[size : size + 4] == [line.strip() for line in said.splitlines()]
    on_vit = bound(write_space, BLOCKS[-1])
    assert on_vit.parameters(on_vit.smallest()) == 2 * 4 * (768 + 2304 + 768 + 768) == 36_864
