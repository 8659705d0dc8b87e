"""`glorasearch space`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import click

from glorasearch.cli.options import json_option
from glorasearch.cli.output import echo_json
from glorasearch.cli.sizes_table import print_sizes
from glorasearch.space import (
    BYTES_PER_NUMBER,
    SUPPORT_TENSORS,
    BoundSpace,
    LayerShape,
    SearchSpace,
    SpaceConfig,
    known_layers,
    named_points,
    simulate_sizes,
)
from glorasearch.space.selectors import compact
from glorasearch.terminal import say

MOST_DRAWS = 1_000_000
"""Minutes of work."""


@click.command("space")
@click.argument("name")
@click.option("--backbone", default="vit_base_patch16_224", show_default=True, help="timm name or local-dir:<path>.")
@click.option("--min", "least", type=click.IntRange(0), help="Least trainable parameters.")
@click.option("--max", "most", type=click.IntRange(0), help="Most trainable parameters.")
@click.option("--all-layers", is_flag=True, help="A row for every layer instead of one for layers that are alike.")
@click.option(
    "--simulate", type=click.IntRange(1, MOST_DRAWS), metavar="N", help="Draw N subnets, and show how large they are."
)
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), default=0, show_default=True, help="Of these draws.")
@json_option
def command(
    name: str,
    backbone: str,
    least: int | None,
    most: int | None,
    all_layers: bool,
    simulate: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Show what search space NAME (a shipped one, or a TOML file) offers on a backbone.

    That is its layers and their choices, which layers it leaves alone and why, its size, and its named points within
    the budget: what is known beforehand, such as `lora:8 everywhere`, where a search starts. With --simulate that is
    followed by the distribution of trainable parameters: of subnets drawn uniformly, and of those that a search draws
    within the budget.
    """
    space = SpaceConfig(name=name, min=least, max=most).load()
    known = known_layers(backbone)
    bound = space.bind(*_built_layers(backbone)) if known is None else space.bind(known)
    sizes = None if simulate is None else simulate_sizes(bound, simulate, seed)
    if as_json:
        echo_json(_describe(space, bound, backbone) | ({} if sizes is None else {"simulated": sizes.to_json()}))
        return
    _print(space, bound, backbone, all_layers)
    if sizes is not None:
        print_sizes(sizes)


def _built_layers(backbone: str) -> tuple[Sequence[LayerShape], Mapping[str, str]]:
    """The layers of a backbone that has to be built to know them, without its weights; and those that are refused."""
    say(f"{backbone}: loading torch and timm, to build it", err=True)
    from glorasearch.adapters import adaptable_layers, unadaptable_layers
    from glorasearch.backbone import BackboneConfig, build_skeleton

    model = build_skeleton(BackboneConfig(name=backbone), classes=2)
    return adaptable_layers(model), unadaptable_layers(model)


def _describe(space: SearchSpace, bound: BoundSpace, backbone: str) -> dict[str, Any]:
    smallest, mean, largest = bound.parameter_range()
    return {
        "space": space.name,
        "description": space.description,
        "backbone": backbone,
        "entangle": space.entangle,
        "digest": bound.digest,
        "layers": [
            {
                "name": layer.name,
                "shape": [layer.out_features, layer.in_features],
                "bias": layer.bias,
                "type": layer.kind,
                "roles": sorted(layer.roles),
                "choices": {gene.tensor: list(gene.choices) for gene in bound.genes if gene.layer == layer.name},
                "shared": {gene.tensor: gene.share for gene in bound.genes if gene.layer == layer.name and gene.share},
            }
            for layer in bound.layers
        ],
        "left": bound.left,
        "notices": list(bound.notices),
        "genes": len(bound.genes),
        "subnets_log10": bound.size_exponent(),
        "parameters": {"smallest": smallest, "mean": mean, "largest": largest},
        "bytes": dict(zip(("smallest", "largest"), (BYTES_PER_NUMBER * n for n in bound.stored_range()), strict=True)),
        "budget": {"min": bound.budget[0], "max": bound.budget[1], "max_bytes": bound.max_bytes},
        "recipe": space.recipe.model_dump(exclude_defaults=True),
        "named_points": [
            {
                "name": name,
                "parameters": bound.parameters(subnet),
                "bytes": BYTES_PER_NUMBER * bound.stored(subnet),
                "digest": subnet.digest,
            }
            for name, subnet in named_points(bound).items()
        ],
    }


def _print(space: SearchSpace, bound: BoundSpace, backbone: str, all_layers: bool) -> None:
    from rich import box
    from rich.measure import Measurement
    from rich.table import Table

    from glorasearch.plain_console import PlainConsole

    console = PlainConsole()
    console.print(f"{space.name} on {backbone}: {space.description}", soft_wrap=True)
    table = Table(box=box.SIMPLE, show_lines=True)
    for column in ("layers", *SUPPORT_TENSORS):
        table.add_column(column, no_wrap=True)
    rows: dict[tuple[str, ...], int] = {}
    for layer in bound.layers:
        choices = {gene.tensor: "\n".join(gene.choices) for gene in bound.genes if gene.layer == layer.name}
        label = layer.name if all_layers else re.sub(r"\b\d+\b", "*", layer.name)
        key = (label, f"({layer.out_features}, {layer.in_features})", *(choices.get(t, "-") for t in SUPPORT_TENSORS))
        rows[key] = rows.get(key, 0) + 1
    for (label, shape, *offered), count in rows.items():
        table.add_row(f"{label}\n{count} x {shape}", *offered)
    wanted = Measurement.get(console, console.options.update(width=10_000), table).maximum
    PlainConsole(width=max(console.width, wanted)).print(table)  # a choice that is cut off cannot be copied
    for (share, tensor), count in Counter((gene.share, gene.tensor) for gene in bound.genes if gene.share).items():
        line = f"group {share}: {count} layers share in {tensor} what can be shared"
        console.print(line, soft_wrap=True)
    for line in _left(bound):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    smallest, mean, largest = bound.parameter_range()
    least, most = bound.budget
    lightest, heaviest = (BYTES_PER_NUMBER * numbers for numbers in bound.stored_range())
    bytes_ = "" if bound.max_bytes is None else f"; at most {bound.max_bytes:,} bytes"
    console.print(
        f"{len(bound.layers)} layers, {len(bound.genes)} genes, 10^{bound.size_exponent():.1f} subnets\n"
        f"trainable parameters (head excluded): smallest {smallest:,}, mean {mean:,.0f}, largest {largest:,}\n"
        f"bytes of the adapters in float32: smallest {lightest:,}, largest {heaviest:,}\n"
        f"budget: {least:,} to {'no limit' if most is None else f'{most:,}'}{bytes_}",
        soft_wrap=True,
    )
    recipe = space.recipe.model_dump(exclude_defaults=True)
    if recipe:
        said = ", ".join(f"{name} {value:g}" for name, value in recipe.items())
        console.print(f"recipe: {said}", soft_wrap=True)
    for line in _points(bound) if bound.size() > 1 else ():
        console.print(line, soft_wrap=True)


def _left(bound: BoundSpace) -> list[str]:
    """The layers that are not adapted, those with one reason together, and what a person should know."""
    reasons: dict[str, list[str]] = {}
    for name, why in bound.left.items():
        reasons.setdefault(why, []).append(name)
    others = [*bound.left, *(layer.name for layer in bound.layers)]
    rows = [f"left: {compact(names, others)}: {why}" for why, names in reasons.items()]
    return [*rows, *(f"notice: {notice}" for notice in bound.notices)]


def _points(bound: BoundSpace) -> list[str]:
    """The named points in the order in which a search takes them, with their parameters."""
    points = named_points(bound)
    width = max(map(len, points), default=0)
    rows = [f"  {name:<{width}}  {bound.parameters(subnet):>11,}" for name, subnet in points.items()]
    return [f"{len(points)} named points within the budget, where a search starts:", *rows]
