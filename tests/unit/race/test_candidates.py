"""Who races: one thing is trained once, whatever spaces offer it, and what differs is told apart."""

from glorasearch.choices import LayerShape
from glorasearch.race import OWN_SPACE, Candidate, Entrant, candidates_of, without_repeats
from glorasearch.space import SearchSpace, Subnet

LAYERS = [LayerShape("blocks.0.attn.qkv", 4, 12), LayerShape("blocks.0.mlp.fc1", 4, 8)]


def entrant(name: str, content: dict[str, object], subnet: Subnet | None = None, key: str = "") -> Entrant:
    space = SearchSpace.model_validate({"name": name} | content).bind(LAYERS)
    return Entrant(
        name=name, kind="method", space_key=key or f"race.methods.{name}", space=space, subnet=subnet or space.largest()
    )


def lora_of_a_larger_space() -> Entrant:
    wide = {"choices": {"A": ["none", "vector"], "B": ["none", "lora:2", "lora:1"]}}
    genes = {(layer.name, tensor): choice for layer in LAYERS for tensor, choice in (("A", "none"), ("B", "lora:2"))}
    return entrant("wide", wide, Subnet(genes), OWN_SPACE)


def test_a_subnet_is_the_same_in_two_spaces() -> None:
    lora = entrant("lora", {"choices": {"B": ["lora:2"]}})
    assert lora.meaning == lora_of_a_larger_space().meaning
    assert [kept.name for kept in without_repeats([lora, lora_of_a_larger_space()])] == ["lora"]


def test_options_and_sharing_make_another_subnet() -> None:
    plain = entrant("plain", {"choices": {"B": ["fourier:4"]}})
    scaled = entrant("scaled", {"choices": {"B": ["fourier:4"]}, "options": {"fourier": {"scale": 7.0}}})
    unused = entrant("unused", {"choices": {"B": ["lora:2"]}, "options": {"fourier": {"scale": 7.0}}})
    shared = entrant(
        "shared",
        {"choices": {"A": ["wegeft:2"]}, "groups": [{"layers": ["*"], "share": "all"}]},
    )
    apart = entrant("apart", {"choices": {"A": ["wegeft:2"]}})
    assert plain.meaning != scaled.meaning
    assert unused.meaning == entrant("lora", {"choices": {"B": ["lora:2"]}}).meaning
    assert shared.meaning != apart.meaning


def test_candidates_are_told_apart_by_subnet_rate_and_start() -> None:
    entrants = [entrant("lora", {"choices": {"B": ["lora:2"]}}), lora_of_a_larger_space()]
    found = candidates_of(entrants, (1e-3, 3e-3), ("fresh", "inherited"))
    assert [candidate.label for candidate in found] == [
        "lora at 0.001", "lora at 0.003", "wide at 0.001", "wide at 0.003", "wide at 0.001, inherited",
        "wide at 0.003, inherited",
    ]  # fmt: skip
    assert len({candidate.key for candidate in found}) == 6
    inherited = candidates_of(entrants, (1e-3,), ("inherited",))
    assert [candidate.label for candidate in inherited] == ["lora at 0.001", "wide at 0.001, inherited"]
    again = Candidate(entrant("lora", {"choices": {"B": ["lora:2"]}}), 1e-3)
    assert again.key == found[0].key
