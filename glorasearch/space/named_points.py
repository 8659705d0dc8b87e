"""Named points: what people know, as subnets of a given space (each fixed method everywhere, published patterns).

A method names choices for some support tensors. Where a gene offers one of them, the point has it; every other gene is
`none`, or if that is not offered its cheapest choice. So a point is derived from what the genes offer, and a space that
cannot express a method does not have its points.

- `lora:r`, `fourier:n`, `dash:r:k`, `tsd:r:k`, ...: that choice in B alone; `lora:r+bias` with E=`vector` (PEFT's
  `bias="all"`).
- `wegeft:r`: in A alone; `wegeft:r+bias` with E=`vector`; `repadapter:r`: in A alone, or where that is not offered
  `wegeft:r` with C=`vector`, on what reads its adapters: the first layers of attention and MLP. Any other choice with
  arguments in A alone is `A=lora:r` and so on.
- `ssf`: A=`gain` and E=`vector`, or where that is not offered A=`vector`, E=`vector` and where it is offered
  D=`vector`. `bitfit`: E=`vector`.
- `all:r`: A and B=`lora` of the largest rank up to r, where there is none `vector`; and where they are offered D and
  E=`vector`.
- `largest`: every gene's largest choice; above the budget with the ranks in A, in B and in C each up to some limit (0:
  no choice with a rank), of which the largest subnet within the budget counts. `smallest`: every gene's smallest one.

A point is `<method> <where>`, such as `lora:8 everywhere`; `glorasearch.space.patterns` says where.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import product
from typing import Final

from glorasearch.choices import Choice, parse_choice
from glorasearch.space.bound import BoundSpace, Gene
from glorasearch.space.patterns import entry_layers, patterns
from glorasearch.space.subnet import Subnet

_VECTOR: Final = ("vector",)
_FAMILIES: Final = ("lora", "all", "repadapter", "wegeft+bias", "wegeft", "ssf", "bitfit")
"""The families that come first; others follow in the order in which the genes offer their choices."""
_PATTERNED: Final = ("lora", "all", "ssf")
"""The families that also come in patterns."""


@dataclass(frozen=True, slots=True)
class _Method:
    """Support tensor → wanted choices, the first that a gene offers counts; each of `needed` must find a gene."""

    name: str
    needed: Mapping[str, tuple[str, ...]]
    welcome: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    entries: bool = False
    """Only on the first layers of attention and MLP."""

    def choice(self, gene: Gene) -> str | None:
        """What the method wants of a gene; None if it offers nothing of that."""
        wanted = self.needed.get(gene.tensor, ()) + self.welcome.get(gene.tensor, ())
        return next((choice for choice in wanted if choice in gene.choices), None)


def named_points(space: BoundSpace) -> dict[str, Subnet]:
    """Name → subnet of what is known beforehand: distinct, within the budget, in order of priority.

    First of each method everywhere the largest that the budget allows, then its smaller ones, then `smallest` and
    `largest`, then the main methods (LoRA, all, SSF) in patterns, again the largest that the budget allows. A point
    outside the budget is left out, so the next smaller rank stands for its method. Of several names of one subnet the
    first counts.
    """
    points = _Points(space)
    families = _families(space)
    layers = {layer.name for layer in space.layers}
    smaller = {name: points.add_first(methods, "everywhere", layers) for name, methods in families.items()}
    for methods in smaller.values():
        for method in methods:
            points.add_first([method], "everywhere", layers)
    points.add("smallest", space.smallest())
    points.add("largest", *_largest(space))
    for where, names in patterns(space.layers).items():
        for family in _PATTERNED:
            points.add_first(families.get(family, []), where, names)
        if where == "proj":  # the paper's recipe for vision transformers
            points.add_first(families.get("wegeft", []), where, names)
    return points.found


class _Points:
    """Collects points of a space."""

    def __init__(self, space: BoundSpace) -> None:
        self._space = space
        self.found: dict[str, Subnet] = {}

    def add(self, name: str, *subnets: Subnet) -> bool:
        """Add the first of these that lies within the budget, if it is new; whether one does."""
        space = self._space
        subnet = next((subnet for subnet in subnets if space.fits(subnet)), None)
        if subnet is not None and subnet not in self.found.values():
            self.found[name] = subnet
        return subnet is not None

    def add_first(self, methods: list[_Method], where: str, layers: AbstractSet[str]) -> list[_Method]:
        """Add the first of these methods that the layers can express within the budget; returns those after it."""
        for index, method in enumerate(methods):
            subnet = self._subnet(method, layers)
            if subnet is not None and self.add(f"{method.name} {where}", subnet):
                return methods[index + 1 :]
        return []

    def _subnet(self, method: _Method, layers: AbstractSet[str]) -> Subnet | None:
        """The method on some layers; None if no gene of theirs offers a choice that it needs."""
        space = self._space
        names = layers & entry_layers(space.layers) if method.entries else layers
        wanted = {gene.key: choice for gene in space.genes if gene.layer in names and (choice := method.choice(gene))}
        if not method.needed.keys() <= {tensor for _, tensor in wanted}:
            return None
        return space.subnet(wanted.get(gene.key) or _least(space, gene) for gene in space.genes)


def _least(space: BoundSpace, gene: Gene) -> str:
    """`none`, or if a gene does not offer it, its cheapest choice."""
    return "none" if "none" in gene.choices else min(gene.choices, key=space.alone(gene))


def _largest(space: BoundSpace) -> list[Subnet]:
    """The largest subnet, then those with ranks of A, B and C up to every combination of limits, the largest first."""
    whole = space.largest()
    if space.fits(whole):
        return [whole]
    limits = {
        tensor: sorted(
            {0, *(parse_choice(text).rank for gene in space.genes if gene.tensor == tensor for text in gene.choices)}
        )
        for tensor in "ABC"
    }
    best = {
        (gene.key, limit): max(_up_to(gene, limit), key=space.alone(gene))
        for gene in space.genes
        for limit in limits.get(gene.tensor, (0,))
    }
    found = []
    for combination in product(*limits.values()):
        limit = dict(zip(limits, combination, strict=True))
        found.append(space.subnet(best[gene.key, limit.get(gene.tensor, 0)] for gene in space.genes))
    return sorted(found, key=space.parameters, reverse=True)


def _up_to(gene: Gene, rank: int) -> list[str]:
    """The choices of a gene up to a rank; if all are above it, those of the least rank."""
    ranks = {text: parse_choice(text).rank for text in gene.choices}
    limit = max(rank, min(ranks.values()))
    return [text for text, own in ranks.items() if own <= limit]


def _families(space: BoundSpace) -> dict[str, list[_Method]]:
    """Methods by family, in order of priority; in a family the largest first."""
    offered = {tensor: _offered(space.genes, tensor) for tensor in "AB"}
    ranks = sorted({choice.rank for choice in (*offered["A"], *offered["B"]) if choice.name == "lora"}, reverse=True)
    families: dict[str, list[_Method]] = {name: [] for name in _FAMILIES}
    for rank in ranks:
        up_to = (*(f"lora:{smaller}" for smaller in ranks if smaller <= rank), *_VECTOR)
        families["all"].append(_Method(f"all:{rank}", {"A": up_to, "B": up_to}, {"D": _VECTOR, "E": _VECTOR}))
    if any("gain" in gene.choices for gene in space.genes):
        families["ssf"].append(_Method("ssf", {"A": ("gain",), "E": _VECTOR}))
    else:
        families["ssf"].append(_Method("ssf", {"A": _VECTOR, "E": _VECTOR}, {"D": _VECTOR}))
    families["bitfit"].append(_Method("bitfit", {"E": _VECTOR}))
    own_adapters = any(choice.name == "repadapter" for choice in offered["A"])
    for choice in offered["A"]:
        text = str(choice)
        alone = text if choice.name in ("wegeft", "repadapter") else f"A={text}"
        families.setdefault(alone.partition(":")[0], []).append(_Method(alone, {"A": (text,)}))
        if choice.name == "wegeft":
            both = _Method(f"{text}+bias", {"A": (text,), "E": _VECTOR})
            families["wegeft+bias"].append(both)
            if not own_adapters:
                adapter = _Method(f"repadapter:{choice.rank}", {"A": (text,), "C": _VECTOR}, entries=True)
                families["repadapter"].append(adapter)
    for choice in offered["B"]:
        text = str(choice)
        families.setdefault(choice.name, []).append(_Method(text, {"B": (text,)}))
        if choice.name == "lora":
            families.setdefault("lora+bias", []).append(_Method(f"{text}+bias", {"B": (text,), "E": _VECTOR}))
    return families


def _offered(genes: Iterable[Gene], tensor: str) -> list[Choice]:
    """The choices with arguments that any gene of a support tensor offers, by class, the largest first."""
    texts = dict.fromkeys(text for gene in genes if gene.tensor == tensor for text in gene.choices)
    choices = [choice for choice in map(parse_choice, texts) if choice.values]
    return sorted(choices, key=lambda choice: tuple(-value for value in choice.values))
