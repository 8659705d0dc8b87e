"""Who races: subnets of several search spaces, each at several rates and from one or more starts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from glorasearch.choices import parse_choice
from glorasearch.identity import digest
from glorasearch.race.config import Start
from glorasearch.space import BoundSpace, Subnet

Kind = Literal["method", "named", "searched"]
"""Where an entrant comes from: a fixed method, a named point of the run's space, a trial of the search."""
OWN_SPACE = "space"
"""Key of the run's own search space."""


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """A subnet that takes part."""

    name: str
    kind: Kind
    space_key: str
    """Which of the run's search spaces it is of: `space`, or `race.methods.<name>`."""
    space: BoundSpace
    subnet: Subnet

    @cached_property
    def parameters(self) -> int:
        """Trainable parameters, the head excluded."""
        return self.space.parameters(self.subnet)

    @cached_property
    def meaning(self) -> str:
        """Digest of what is trained: equal for a subnet of one space and the same one of another.

        That is its choices but for `none`, their options, and which layers share them.
        """
        chosen = {gene: choice for gene, choice in self.subnet.items() if choice != "none"}
        names = {parse_choice(choice).name for choice in chosen.values()}
        shares = [[*gene.key, gene.share] for gene in self.space.genes if gene.share and gene.key in chosen]
        options = {name: self.space.options[name] for name in sorted(names & self.space.options.keys())}
        genes = sorted([*gene, choice] for gene, choice in chosen.items())
        return digest({"genes": genes, "shares": sorted(shares), "options": options})


@dataclass(frozen=True)
class Candidate:
    """An entrant with a rate and a start: what is trained and ranked."""

    entrant: Entrant
    rate: float
    start: Start = "fresh"

    @property
    def label(self) -> str:
        """Such as `lora_r8 at 0.003`."""
        text = f"{self.entrant.name} at {self.rate:g}"
        return text if self.start == "fresh" else f"{text}, {self.start}"

    @cached_property
    def key(self) -> str:
        """Digest of what it is: the same in every process, and whoever else races."""
        content = [self.entrant.space.digest, self.entrant.subnet.to_json(), repr(self.rate), self.start]
        return digest({"candidate": json.dumps(content)})


def without_repeats(entrants: Iterable[Entrant]) -> list[Entrant]:
    """The entrants, each thing that is trained once: the first one stays."""
    found: dict[str, Entrant] = {}
    for entrant in entrants:
        found.setdefault(entrant.meaning, entrant)
    return list(found.values())


def candidates_of(
    entrants: Iterable[Entrant], rates: Sequence[float], starts: Sequence[Start] = ("fresh",)
) -> list[Candidate]:
    """Every entrant at every rate; those of the run's own space from every start, the others from a fresh one."""
    fresh: Sequence[Start] = ("fresh",)
    return [
        Candidate(entrant, rate, start)
        for entrant in entrants
        for start in (starts if entrant.space_key == OWN_SPACE else fresh)
        for rate in rates
    ]
