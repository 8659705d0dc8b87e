"""Subnets: equal by content, immutable, with canonical JSON and a digest that never changes."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glorasearch.choices import CHOICES
from glorasearch.errors import SearchSpaceError
from glorasearch.space import SUPPORT_TENSORS, Subnet

EXAMPLE = Subnet({("blocks.0.attn.qkv", "A"): "lora:4", ("blocks.0.attn.qkv", "E"): "vector", ("fc", "C"): "none"})


@st.composite
def subnets(draw: st.DrawFn) -> Subnet:
    genes = {}
    for key in draw(st.lists(st.tuples(st.text(max_size=8), st.sampled_from(SUPPORT_TENSORS)), max_size=12)):
        made = draw(st.sampled_from([made for made in CHOICES.values() if key[1] in made.tensors]))
        genes[key] = str(made(tuple(draw(st.integers(1, 99)) for _ in made.arguments)))
    return Subnet(genes)


@given(subnets())
def test_json_round_trip(subnet: Subnet) -> None:
    again = Subnet.from_json(subnet.to_json())
    assert again == subnet
    assert hash(again) == hash(subnet)
    assert again.digest == subnet.digest
    assert again.to_json() == subnet.to_json()
    assert Subnet.from_dict(subnet.to_dict()) == subnet


@given(subnets(), st.randoms())
def test_the_order_of_the_genes_does_not_matter(subnet: Subnet, random: object) -> None:
    items = list(subnet.items())
    random.shuffle(items)  # type: ignore[attr-defined]
    assert Subnet(items) == subnet
    assert Subnet(items).to_json() == subnet.to_json()


@given(subnets())
def test_copies_and_pickles_are_equal(subnet: Subnet) -> None:
    for again in (pickle.loads(pickle.dumps(subnet)), copy.deepcopy(subnet), copy.copy(subnet)):
        assert again == subnet
        assert again.digest == subnet.digest


def test_json_is_canonical() -> None:
    assert EXAMPLE.to_json() == '{"blocks.0.attn.qkv":{"A":"lora:4","E":"vector"},"fc":{"C":"none"}}'


def test_the_digest_is_stable() -> None:
    """Stored weights, evaluations and exports are found by it: a change of this literal breaks every database."""
    assert EXAMPLE.digest == "7b57a4b13e18143e22877a198a8a6bfb5f83979f4e3655ecfb4386af333b7849"
    assert Subnet({}).digest == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_a_subnet_cannot_be_changed() -> None:
    before = EXAMPLE.to_json()
    with pytest.raises(AttributeError, match="immutable"):
        EXAMPLE.digest = "0"
    with pytest.raises(AttributeError, match="immutable"):
        EXAMPLE._items = ()
    with pytest.raises(TypeError):
        EXAMPLE["fc", "C"] = "vector"  # type: ignore[index]
    nested = EXAMPLE.to_dict()
    nested["fc"]["C"] = "vector"
    genes = {("fc", "C"): "none"}
    taken = Subnet(genes)
    genes["fc", "C"] = "vector"
    assert taken["fc", "C"] == "none"
    assert EXAMPLE.to_json() == before


def test_replace_makes_another() -> None:
    other = EXAMPLE.replace({("fc", "C"): "vector", ("fc", "E"): "vector"})
    assert other != EXAMPLE
    assert other["fc", "C"] == "vector"
    assert EXAMPLE["fc", "C"] == "none"
    assert len({EXAMPLE, other, EXAMPLE.replace({})}) == 2


def test_what_is_not_given_is_none() -> None:
    assert EXAMPLE["elsewhere", "A"] == "none"
    assert ("elsewhere", "A") not in EXAMPLE
    assert EXAMPLE.layer("blocks.0.attn.qkv") == ("lora:4", "none", "none", "none", "vector")
    assert len(EXAMPLE) == 3
    assert list(EXAMPLE) == [key for key, _ in EXAMPLE.items()]
    assert EXAMPLE.digest[:12] in repr(EXAMPLE)
    assert EXAMPLE != "not a subnet"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "must be JSON"),
        ("[]", "must be a JSON object"),
        ("null", "must be a JSON object"),
        ('{"fc": "vector"}', "layer 'fc': expected an object"),
        ('{"fc": {"F": "vector"}}', "'F' is not one of"),
        ('{"fc": {"A": 4}}', "a choice is a string, got 4"),
        ('{"fc": {"A": "fast"}}', "unknown choice 'fast'"),
        ('{"fc": {"C": "constant"}}', "support tensor C has no choice 'constant'"),
        ('{"fc": {"A": "none", "A": "vector"}}', "twice"),
    ],
)
def test_other_json_is_refused(text: str, said: str) -> None:
    with pytest.raises(SearchSpaceError, match=said):
        Subnet.from_json(text)


def test_a_gene_given_twice_is_refused() -> None:
    with pytest.raises(SearchSpaceError, match="twice"):
        Subnet([(("fc", "A"), "none"), (("fc", "A"), "vector")])


def test_from_json_takes_any_layout() -> None:
    assert Subnet.from_json(json.dumps(EXAMPLE.to_dict(), indent=4)) == EXAMPLE
