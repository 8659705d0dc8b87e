"""What a space offers on the layers of a backbone."""

from __future__ import annotations

from typing import Any

import pytest

from glorasearch.errors import SearchSpaceError
from glorasearch.space import Gene, LayerShape, SearchSpace, Subnet

BLOCKS = ["blocks.0.attn.qkv", "blocks.0.attn.proj", "blocks.0.mlp.fc1"]
BLOCKS += [name.replace("0", "1") for name in BLOCKS]


def space(**content: Any) -> SearchSpace:
    return SearchSpace.from_dict({"name": "mine", "choices": {"B": ["none", "lora:2"]}} | content)


def test_blocks_are_the_default_and_layers_keep_the_order_of_the_backbone(layers: list[LayerShape]) -> None:
    bound = space().bind(reversed(layers))
    assert [layer.name for layer in bound.layers] == BLOCKS[::-1]
    assert bound.genes == tuple(Gene(name, "B", ("none", "lora:2")) for name in BLOCKS[::-1])


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (["*"], [], ["stem.proj", *BLOCKS]),
        (["blocks.1.*"], [], BLOCKS[3:]),
        (["*.proj"], ["stem.*"], [BLOCKS[1], BLOCKS[4]]),
        (["blocks.?.attn.*"], ["*.qkv"], [BLOCKS[1], BLOCKS[4]]),
        (["blocks.[0-9].mlp.fc1"], [], [BLOCKS[2], BLOCKS[5]]),
        (["blocks.0.attn.qkv", "stem.proj"], [], ["stem.proj", BLOCKS[0]]),
    ],
)
def test_patterns(layers: list[LayerShape], include: list[str], exclude: list[str], expected: list[str]) -> None:
    bound = space(layers={"include": include, "exclude": exclude}).bind(layers)
    assert [layer.name for layer in bound.layers] == expected


def test_patterns_are_of_the_whole_name_and_case_counts(layers: list[LayerShape]) -> None:
    for pattern in ("qkv", "blocks.0", "Blocks.*"):
        with pytest.raises(SearchSpaceError, match="matches none"):
            space(layers={"include": [pattern]}).bind(layers)


def test_a_group_overrides_only_what_it_gives_and_the_later_one_wins(layers: list[LayerShape]) -> None:
    bound = space(
        choices={"A": ["none", "vector"], "B": ["none", "lora:2"]},
        groups=[
            {"layers": ["*.attn.*"], "B": ["none", "lora:4"], "E": ["vector"]},
            {"layers": ["blocks.1.attn.proj"], "B": ["none"]},
        ],
    ).bind(layers)
    offered = {gene.key: gene.choices for gene in bound.genes}
    for name in BLOCKS:
        assert offered[name, "A"] == ("none", "vector")
        assert ((name, "E") in offered) == (".attn." in name)
    assert offered["blocks.0.attn.proj", "B"] == ("none", "lora:4")
    assert offered["blocks.1.attn.qkv", "B"] == ("none", "lora:4")
    assert offered["blocks.1.attn.proj", "B"] == ("none",)
    assert offered["blocks.0.mlp.fc1", "B"] == ("none", "lora:2")


def test_d_is_not_offered_where_there_is_no_bias(layers: list[LayerShape]) -> None:
    bound = space(choices={tensor: ["none", "vector"] for tensor in "ABCDE"}).bind(layers)
    with_d = {gene.layer for gene in bound.genes if gene.tensor == "D"}
    assert with_d == {layer.name for layer in bound.layers if layer.bias}
    assert len(bound.genes) == 5 * 6 - 2


def test_sizes_and_parameter_range(layers: list[LayerShape]) -> None:
    bound = space(layers={"include": ["*.proj"]}, choices={"A": ["none", "constant"], "B": ["none", "lora:2"]}).bind(
        layers
    )
    assert bound.size() == 4**3
    assert bound.size_exponent() == pytest.approx(1.80618, abs=1e-5)
    lora = 2 * (12 + 8) + 2 * 2 * (8 + 8)
    assert bound.parameter_range() == (0, (lora + 3) / 2, lora + 3)
    assert bound.parameters(bound.smallest()) == 0
    assert bound.parameters(bound.largest()) == lora + 3


def test_free_genes_are_those_with_a_choice(layers: list[LayerShape]) -> None:
    bound = space(choices={"A": ["vector"], "B": ["none", "lora:2"]}).bind(layers)
    assert {gene.tensor for gene in bound.free_genes} == {"B"}
    assert bound.free_genes[0].name == "blocks.0.attn.qkv.B"


def test_subnets_are_checked(layers: list[LayerShape]) -> None:
    bound = space(choices={"A": ["vector", "constant"], "B": ["none", "lora:2"]}).bind(layers)
    good = bound.smallest()
    bound.check(good)
    bound.check(good.replace({("elsewhere", "A"): "none"}))
    with pytest.raises(SearchSpaceError, match=r"gene blocks\.0\.attn\.qkv\.B: 'lora:4' is not offered; offered are"):
        bound.check(good.replace({("blocks.0.attn.qkv", "B"): "lora:4"}))
    with pytest.raises(SearchSpaceError, match=r"no gene elsewhere\.A"):
        bound.parameters(good.replace({("elsewhere", "A"): "vector"}))
    with pytest.raises(SearchSpaceError, match=r"no choice for gene blocks\.0\.attn\.qkv\.A"):
        bound.check(Subnet({}))


def test_digests_tell_what_can_share_weights(layers: list[LayerShape]) -> None:
    """Budget and name do not change what is stored; storage, choices and layers do."""
    plain = space().bind(layers)
    assert plain.digest == space(name="other", budget={"max": 100}).bind(layers).digest
    assert plain.digest != space(entangle="reference").bind(layers).digest
    assert plain.digest != space(choices={"B": ["none", "lora:4"]}).bind(layers).digest
    assert plain.digest != space(layers={"include": ["blocks.0.*"]}).bind(layers).digest
    assert space().digest == space(name="other", description="another").digest
    assert space().digest != space(budget={"max": 100}).digest
    assert plain.digest in repr(plain) or plain.digest[:12] in repr(plain)


def test_a_space_survives_the_way_through_json(layers: list[LayerShape]) -> None:
    original = space(groups=[{"layers": ["*.proj"], "E": ["vector"]}], budget={"min": 3, "max": 900})
    again = SearchSpace.from_dict(original.model_dump(mode="json", exclude_none=True))
    assert again.digest == original.digest
    assert again.bind(layers).digest == original.bind(layers).digest


def test_an_option_at_its_default_makes_no_other_space(layers: list[LayerShape]) -> None:
    fourier = {"choices": {"B": ["none", "fourier:4"]}}
    plain = space(**fourier)
    written = space(**fourier, options={"fourier": {"scale": 300, "seed": 777}})
    mixed = space(**fourier, options={"fourier": {"scale": 300, "seed": 1}, "dash": {"warmup": 100}})
    seed = space(**fourier, options={"fourier": {"seed": 1}})
    assert (written.digest, written.bind(layers).digest) == (plain.digest, plain.bind(layers).digest)
    assert (mixed.digest, mixed.bind(layers).digest) == (seed.digest, seed.bind(layers).digest)
    assert seed.bind(layers).digest != plain.bind(layers).digest
    assert mixed.options == {"fourier": {"seed": 1.0}}


@pytest.mark.parametrize(
    "groups",
    [
        [{"layers": ["*.qkv"], "share": "all"}],
        [{"layers": ["*.qkv"], "B": ["lora:2"], "share": "all"}, {"layers": ["*.proj"], "A": ["wegeft:2"]}],
        [{"layers": ["*.qkv"], "A": ["wegeft:2"], "share": "all"}, {"layers": ["*.qkv"], "A": ["none"]}],
    ],
)
def test_a_group_that_shares_nothing_is_refused(layers: list[LayerShape], groups: list[dict[str, Any]]) -> None:
    """Its own lists and those that it inherits count, on the layers that it matches; not those of others."""
    others = {"layers": ["*.fc1"], "A": ["none", "wegeft:2"], "share": "fc1"}
    with pytest.raises(SearchSpaceError, match=r"groups\[1\]\.share: nothing is shared as 'all': none of the 2 layers"):
        space(groups=[others, *groups]).bind(layers)
    space(choices={"A": ["none", "wegeft:2"]}, groups=groups[:1]).bind(layers)
