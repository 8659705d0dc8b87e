"""What a member trains and where it is used, read off the supernet that it would be trained in alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from glorasearch.choices import Choice, Site
from glorasearch.space import SUPPORT_TENSORS
from glorasearch.stacked.member import Member
from glorasearch.supernet import Supernet
from glorasearch.training.optimizer import peak_rates

Cut = tuple[slice | int, ...]


class Source(NamedTuple):
    """Where a part of a choice is stored: the name in `Supernet.adapter_state`, and the slices of it that it uses."""

    name: str
    cut: Cut


@dataclass(frozen=True, slots=True)
class Placed:
    """One choice of a member in its place."""

    layer: str
    tensor: str
    text: str
    choice_class: type[Choice]
    site: Site
    parts: Mapping[str, Source]

    @property
    def key(self) -> str:
        """Equal for choices whose contributions can be computed at once, in one layer."""
        return f"{self.tensor} {self.text} {sorted(self.site.options.items())} {self.site.layer} {self.parts}"


@dataclass(frozen=True, slots=True)
class Counter:
    """A choice that counts the steps that drew it: `SupportTensor.stepped` of one member."""

    placed: Placed
    whole: Mapping[str, str]
    """Part of the class → its name in the adapter state."""
    draws: int
    """At the start."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a member trains."""

    placed: tuple[Placed, ...]
    """The choices that add something."""
    counters: tuple[Counter, ...]
    values: Mapping[str, Tensor]
    """Name in the adapter state → start, of all parts in use and the head; whole, whatever the choices' arguments."""
    peaks: Mapping[str, float]
    """Peak learning rate of those that are trained, by name."""
    bases: Mapping[str, Tensor]
    """Layer → W0 `(out, in)`."""


def plan_of(member: Member, supernet: Supernet) -> Plan:
    """The plan of a member, from its supernet at its start."""
    groups = {(gene.layer, gene.tensor): gene.share for gene in member.space.genes}
    placed: list[Placed] = []
    counters: list[Counter] = []
    for layer, adapted in supernet.adapted.items():
        for tensor, text in zip(SUPPORT_TENSORS, member.subnet.layer(layer), strict=True):
            if text == "none":
                continue
            support = adapted.support_of(tensor)
            offered, views = support.lookup(text)
            home = f"shared.{groups[layer, tensor]}.{tensor}" if offered.shared else f"{layer}.{tensor}"
            parts = {part: Source(f"{home}.{name}", cut) for part, (name, cut) in views.items()}
            one = Placed(layer, tensor, text, offered.choice_class, offered.site, parts)
            placed.append(one)
            name = offered.choice_class.name
            if support.draws.get(name, -1) >= 0:
                whole = {part: f"{home}.{part}" for part in offered.parts}
                counters.append(Counter(one, whole, support.draws[name]))
    used = {source.name for one in placed for source in one.parts.values()}
    used |= {name for counter in counters for name in counter.whole.values()}
    state, rates, peaks = supernet.adapter_state(), supernet.rates(), peak_rates(member.space, member.config)
    head = supernet.head_parameters()
    return Plan(
        tuple(placed),
        tuple(counters),
        {name: state[name].clone() for name in (*sorted(used), *head)},
        {name: peaks[rates[name]] for name in sorted(used) if name in rates} | dict.fromkeys(head, peaks["head"]),
        {layer: adapted.weight_view.detach() for layer, adapted in supernet.adapted.items()},
    )
