"""What a member trains and where it is used, read off the supernet that it would be trained in alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from glorasearch.choices import Choice, Site
from glorasearch.space import SUPPORT_TENSORS, BoundSpace, Subnet
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

    @property
    def draws(self) -> str:
        """The name in an adapter state of the number of steps that drew it, if its class counts them."""
        return f"{self.layer}.{self.tensor}.{self.choice_class.name}_draws"


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


@dataclass(frozen=True, slots=True)
class Layout:
    """What all members of one subnet have in common."""

    placed: tuple[Placed, ...]
    """The choices that add something."""
    counted: tuple[tuple[Placed, Mapping[str, str]], ...]
    """Those that count the steps that draw them unless they are held, with the names of `Counter.whole`."""
    rates: Mapping[str, str]
    """Name in the adapter state → learning-rate group, of all that a supernet trains but its head."""
    head: tuple[str, ...]
    bases: Mapping[str, Tensor]


def layout_of(space: BoundSpace, subnet: Subnet, supernet: Supernet) -> Layout:
    """The layout of a subnet, from a supernet of its space."""
    groups = {(gene.layer, gene.tensor): gene.share for gene in space.genes}
    placed: list[Placed] = []
    counted: list[tuple[Placed, Mapping[str, str]]] = []
    for layer, adapted in supernet.adapted.items():
        for tensor, text in zip(SUPPORT_TENSORS, subnet.layer(layer), strict=True):
            if text == "none":
                continue
            support = adapted.support_of(tensor)
            offered, views = support.lookup(text)
            home = f"shared.{groups[layer, tensor]}.{tensor}" if offered.shared else f"{layer}.{tensor}"
            parts = {part: Source(f"{home}.{name}", cut) for part, (name, cut) in views.items()}
            one = Placed(layer, tensor, text, offered.choice_class, offered.site, parts)
            placed.append(one)
            if offered.choice_class.name in support.draws:
                counted.append((one, {part: f"{home}.{part}" for part in offered.parts}))
    return Layout(
        tuple(placed),
        tuple(counted),
        supernet.rates(),
        tuple(supernet.head_parameters()),
        {layer: adapted.weight_view.detach() for layer, adapted in supernet.adapted.items()},
    )


def plan_of(layout: Layout, member: Member, state: Mapping[str, Tensor]) -> Plan:
    """The plan of a member of this layout, from the adapter state at its start, whose tensors it takes."""
    counters = [Counter(one, whole, int(state[one.draws])) for one, whole in layout.counted]
    counters = [counter for counter in counters if counter.draws >= 0]  # the others are held
    used = {source.name for one in layout.placed for source in one.parts.values()}
    used |= {name for counter in counters for name in counter.whole.values()}
    rates, head, peaks = layout.rates, layout.head, peak_rates(member.space, member.config)
    return Plan(
        layout.placed,
        tuple(counters),
        {name: state[name] for name in (*sorted(used), *head)},
        {name: peaks[rates[name]] for name in sorted(used) if name in rates} | dict.fromkeys(head, peaks["head"]),
        layout.bases,
    )
