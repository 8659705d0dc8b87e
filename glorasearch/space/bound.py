"""A search space bound to the layers of a backbone: its genes, subnets and parameter counts."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from glorasearch.choices import Choice, LayerShape, Options, Site, options_of, parse_choice
from glorasearch.errors import SearchSpaceError
from glorasearch.space.prices import Prices, expected_shared
from glorasearch.space.reachable import Price, ReachableCounts
from glorasearch.space.subnet import GeneKey, Subnet


@dataclass(frozen=True, slots=True)
class Gene:
    """One (layer, support tensor) pair and the choices offered for it."""

    layer: str
    tensor: str
    choices: tuple[str, ...]
    share: str = ""
    """The group of layers that shares the parts of shareable choices; empty for none."""

    @property
    def key(self) -> GeneKey:
        """(layer, support tensor)."""
        return self.layer, self.tensor

    @property
    def unit(self) -> tuple[str, str]:
        """Equal for genes that share with each other."""
        return (f"share {self.share}" if self.share else self.layer), self.tensor

    @property
    def name(self) -> str:
        """`<layer>.<support tensor>`, the name of the gene's parameter in a study."""
        return f"{self.layer}.{self.tensor}"


BYTES_PER_NUMBER: Final = 4
"""An adapter is stored in float32."""


class BoundSpace:
    """What a search needs: genes in the order of the backbone's layers, their parameter counts, and the budget.

    `budget` is (least, most) trainable parameters, both included, the head excluded; None for no upper limit.
    `max_bytes` limits the adapters in float32, with the numbers that are stored but not trained.
    """

    def __init__(
        self,
        name: str,
        layers: Sequence[LayerShape],
        genes: Sequence[Gene],
        *,
        entangle: str = "untied",
        budget: tuple[int, int | None] = (0, None),
        max_bytes: int | None = None,
        options: Mapping[str, Options] | None = None,
        left: Mapping[str, str] | None = None,
        notices: Sequence[str] = (),
    ) -> None:
        """`options` are those of choice classes that differ from their defaults, by name."""
        self.name = name
        self.layers = tuple(layers)
        self.genes = tuple(genes)
        self.entangle = entangle
        self.budget, self.max_bytes = budget, max_bytes
        self.options = {name: dict(values) for name, values in (options or {}).items()}
        self.left = dict(left or {})
        """The other layers of the backbone, and why each is left alone."""
        self.notices = tuple(notices)
        """What a person should know of how the space fits the backbone."""
        self._shapes = {layer.name: layer for layer in layers}
        self._prices = self._price_all(Choice.parameters)
        self._sharing = {
            gene.key: gene for gene in self.genes if any(price.group for price in self._prices[gene.key].values())
        }

    def __repr__(self) -> str:
        return f"BoundSpace({self.name}, {len(self.genes)} genes, {self.digest[:12]})"

    @property
    def free_genes(self) -> tuple[Gene, ...]:
        """The genes with more than one choice: what a search decides."""
        return tuple(gene for gene in self.genes if len(gene.choices) > 1)

    def site(self, gene: Gene, name: str) -> Site:
        """Where a choice class is used by a gene, with the options that it has in this space."""
        return Site(gene.tensor, self._shapes[gene.layer], options_of(name, self.options.get(name, {})))

    def _price_all(self, count: Callable[[Choice, Site], int]) -> Prices:
        return {gene.key: {text: self._price(gene, text, count) for text in gene.choices} for gene in self.genes}

    def _price(self, gene: Gene, text: str, count: Callable[[Choice, Site], int]) -> Price:
        choice = parse_choice(text)
        cost = count(choice, self.site(gene, choice.name))
        if gene.share and choice.shareable:
            return Price(0, f"{gene.share}.{gene.tensor}.{choice.name}", cost)
        return Price(cost)

    @cached_property
    def _stored(self) -> Prices:
        return self._price_all(Choice.stored)

    @cached_property
    def _counted(self) -> Prices:
        """What the budget counts: parameters, or numbers stored if bytes are limited and some are not trained."""
        return self._prices if self.max_bytes is None or self._stored == self._prices else self._stored

    def price(self, gene: Gene, choice: str) -> Price:
        """What the budget counts of a choice of a gene: its own, and what its group shares."""
        return self._counted[gene.key][choice]

    def costs(self, gene: Gene) -> Mapping[str, int]:
        """Choice → trainable parameters of this gene alone, without those that a group of layers shares."""
        return {text: price.own for text, price in self._prices[gene.key].items()}

    def shares(self, gene: Gene) -> bool:
        """Whether the parameters of any choice of this gene depend on other genes."""
        return gene.key in self._sharing

    def size(self) -> int:
        """Number of subnets, ignoring the budget."""
        return math.prod(len(gene.choices) for gene in self.genes)

    def size_exponent(self) -> float:
        """Decimal logarithm of the number of subnets."""
        return sum(math.log10(len(gene.choices)) for gene in self.genes)

    def parameters(self, subnet: Subnet) -> int:
        """Trainable parameters of a subnet, the head excluded; what a group shares counts once, at its largest size.

        Raises:
            SearchSpaceError: if the subnet has a choice that the space does not offer.
        """
        return self._total(self._prices, subnet)

    def stored(self, subnet: Subnet) -> int:
        """Numbers stored for a subnet's adapters, the head excluded: parameters and the buffers of choices."""
        return self._total(self._stored, subnet)

    def counted(self, subnet: Subnet) -> int:
        """What the budget counts of a subnet."""
        return self._total(self._counted, subnet)

    def _total(self, prices: Prices, subnet: Subnet) -> int:
        total = 0
        for key, choice in subnet.items():
            try:
                total += prices[key][choice].own
            except KeyError:
                self.check(subnet)
        groups: dict[str, int] = {}
        for key in self._sharing:
            if key in subnet:
                price = prices[key][subnet[key]]
                groups[price.group] = max(groups.get(price.group, 0), price.shared)
        return total + sum(groups.values())

    def parameter_range(self) -> tuple[int, float, int]:
        """Smallest, mean (over uniformly sampled subnets) and largest parameter count."""
        mean = sum(sum(costs.values()) / len(costs) for costs in map(self.costs, self.genes))
        mean += expected_shared([self._prices[key] for key in self._sharing])
        return self.reachable.smallest, mean, self.reachable.largest

    @cached_property
    def limits(self) -> tuple[int, int | None]:
        """The budget: (least, most) of what it counts."""
        if self.max_bytes is None:
            return self.budget
        numbers = self.max_bytes // BYTES_PER_NUMBER
        if self._counted is not self._prices:
            return 0, numbers
        least, most = self.budget
        return least, numbers if most is None else min(most, numbers)

    def within_budget(self, counted: int) -> bool:
        """Whether so much of what the budget counts lies within it."""
        least, most = self.limits
        return least <= counted and (most is None or counted <= most)

    def fits(self, subnet: Subnet) -> bool:
        """Whether a subnet lies within the budget."""
        return self.within_budget(self.counted(subnet))

    def check(self, subnet: Subnet) -> None:
        """Raise `SearchSpaceError` unless the subnet has exactly one offered choice for every gene."""
        if self.complete(subnet) and all(choice in self._prices[key] for key, choice in subnet.items()):
            return
        for key, choice in subnet.items():
            offered = self._prices.get(key)
            if offered is None and choice != "none":
                raise SearchSpaceError(f"search space {self.name} has no gene {'.'.join(key)}; the subnet sets it")
            if offered is not None and choice not in offered:
                raise SearchSpaceError(
                    f"search space {self.name}, gene {'.'.join(key)}: {choice!r} is not offered; "
                    f"offered are {', '.join(offered)}"
                )
        for gene in self.genes:
            if gene.key not in subnet and "none" not in gene.choices:
                raise SearchSpaceError(f"search space {self.name}: the subnet makes no choice for gene {gene.name}")

    def complete(self, subnet: Subnet) -> bool:
        """Whether the subnet names every gene of the space, and no other."""
        return subnet.covers(self._prices.keys())

    def check_budget(self) -> None:
        """Raise `SearchSpaceError` if no subnet lies within the budget; the message gives the feasible range."""
        what = "trainable parameters"
        if self._counted is not self._prices:
            what = "stored numbers"
            if self.budget != (0, None):
                raise SearchSpaceError(
                    f"search space {self.name}, budget: it limits parameters and bytes, and some choices store more "
                    "than they train; give either min and max, or max_bytes"
                )
        least, most = self.limits
        if self.within.any_within(least, most):
            return
        bytes_ = "" if self.max_bytes is None else f" (max_bytes is {self.max_bytes:,}, {BYTES_PER_NUMBER} a number)"
        raise SearchSpaceError(
            f"search space {self.name}, budget: no subnet has "
            f"{f'at least {least:,}' if most is None else f'between {least:,} and {most:,}'} {what}{bytes_}; the "
            f"space reaches from {self.within.smallest:,} to {self.within.largest:,}, nearest to the budget are "
            f"{' and '.join(f'{n:,}' for n in self.within.nearest(least, most))}"
        )

    @cached_property
    def reachable(self) -> ReachableCounts:
        """The exact set of parameter counts that subnets of this space can have; its rows are the genes of `walk`."""
        return ReachableCounts([tuple(self._prices[gene.key].values()) for gene in self.walk])

    @cached_property
    def within(self) -> ReachableCounts:
        """As `reachable`, of what the budget counts."""
        if self._counted is self._prices:
            return self.reachable
        return ReachableCounts([tuple(self._counted[gene.key].values()) for gene in self.walk])

    def stored_range(self) -> tuple[int, int]:
        """Smallest and largest number of what subnets store."""
        counts = ReachableCounts([tuple(self._stored[gene.key].values()) for gene in self.walk])
        return counts.smallest, counts.largest

    @cached_property
    def walk(self) -> tuple[Gene, ...]:
        """The genes, those that share with each other in a row: what several open groups may hold multiplies."""
        first: dict[tuple[str, str], int] = {}
        for number, gene in enumerate(self.genes):
            first.setdefault(gene.unit, number)
        return tuple(sorted(self.genes, key=lambda gene: first[gene.unit]))

    def smallest(self) -> Subnet:
        """The subnet of the smallest choices, each for its layer alone: with groups, another one may be smaller."""
        return self.subnet(min(gene.choices, key=self.alone(gene)) for gene in self.genes)

    def largest(self) -> Subnet:
        """The subnet of the largest choices; it has the most parameters, unless layers share some of them."""
        return self.subnet(max(gene.choices, key=self.alone(gene)) for gene in self.genes)

    def alone(self, gene: Gene) -> Callable[[str], int]:
        """The parameters of each choice of a gene if its layer were the only one of its group."""
        return lambda text: self._prices[gene.key][text].own + self._prices[gene.key][text].shared

    def subnet(self, choices: Iterable[str]) -> Subnet:
        """The subnet with these choices, in the order of `genes`."""
        return Subnet(zip(self._prices, choices, strict=True))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of layers, genes, choices and storage: two spaces with one digest share weights."""
        content = {
            "layers": [
                [
                    layer.name,
                    layer.in_features,
                    layer.out_features,
                    layer.bias,
                    *[layer.kind] * (layer.kind != "linear"),
                ]
                for layer in self.layers
            ],
            "genes": [
                [gene.layer, gene.tensor, list(gene.choices), *[gene.share] * bool(gene.share)] for gene in self.genes
            ],
            "entangle": self.entangle,
        }
        if self.options:
            content["options"] = self.options
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
