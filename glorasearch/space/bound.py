"""A search space bound to the layers of a backbone: its genes, its subnets, their parameter counts."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from glorasearch.errors import SearchSpaceError
from glorasearch.space.choices import LayerShape, choice_parameters, parse_choice
from glorasearch.space.reachable import ReachableCounts
from glorasearch.space.subnet import GeneKey, Subnet


@dataclass(frozen=True, slots=True)
class Gene:
    """One (layer, support tensor) pair and the choices that it offers."""

    layer: str
    tensor: str
    choices: tuple[str, ...]

    @property
    def key(self) -> GeneKey:
        """(layer, support tensor)."""
        return self.layer, self.tensor

    @property
    def name(self) -> str:
        """`<layer>.<support tensor>`, the name of the gene's parameter in a study."""
        return f"{self.layer}.{self.tensor}"


class BoundSpace:
    """What a search needs to know: genes in the order of the backbone's layers, costs, and the budget.

    `budget` is (least, most) trainable parameters, both included, the head excluded; None for no upper limit.
    """

    def __init__(
        self,
        name: str,
        layers: Sequence[LayerShape],
        genes: Sequence[Gene],
        *,
        entangle: str = "untied",
        budget: tuple[int, int | None] = (0, None),
    ) -> None:
        self.name = name
        self.layers = tuple(layers)
        self.genes = tuple(genes)
        self.entangle = entangle
        self.budget = budget
        shapes = {layer.name: layer for layer in layers}
        self._costs: dict[GeneKey, dict[str, int]] = {
            gene.key: {
                text: choice_parameters(gene.tensor, parse_choice(text), shapes[gene.layer]) for text in gene.choices
            }
            for gene in self.genes
        }

    def __repr__(self) -> str:
        return f"BoundSpace({self.name}, {len(self.genes)} genes, {self.digest[:12]})"

    @property
    def free_genes(self) -> tuple[Gene, ...]:
        """The genes that have more than one choice: what a search decides."""
        return tuple(gene for gene in self.genes if len(gene.choices) > 1)

    def costs(self, gene: Gene) -> Mapping[str, int]:
        """Choice → trainable parameters."""
        return self._costs[gene.key]

    def size(self) -> int:
        """Number of subnets, the budget not considered."""
        return math.prod(len(gene.choices) for gene in self.genes)

    def size_exponent(self) -> float:
        """The number of subnets as a power of ten."""
        return sum(math.log10(len(gene.choices)) for gene in self.genes)

    def parameters(self, subnet: Subnet) -> int:
        """Trainable parameters of a subnet, the head excluded.

        Raises:
            SearchSpaceError: if the subnet makes a choice that the space does not offer.
        """
        total = 0
        for key, choice in subnet.items():
            try:
                total += self._costs[key][choice]
            except KeyError:
                self.check(subnet)
        return total

    def parameter_range(self) -> tuple[int, float, int]:
        """Smallest, mean (over uniformly drawn subnets) and largest parameter count."""
        per_gene = [tuple(self._costs[gene.key].values()) for gene in self.genes]
        mean = sum(sum(costs) / len(costs) for costs in per_gene)
        return sum(map(min, per_gene)), mean, sum(map(max, per_gene))

    def within_budget(self, parameters: int) -> bool:
        """Whether a parameter count lies within the budget."""
        least, most = self.budget
        return least <= parameters and (most is None or parameters <= most)

    def check(self, subnet: Subnet) -> None:
        """Raise `SearchSpaceError` unless the subnet makes exactly one offered choice for every gene."""
        for key, choice in subnet.items():
            offered = self._costs.get(key)
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

    def check_budget(self) -> None:
        """Raise `SearchSpaceError` if no subnet lies within the budget; the message gives the feasible range."""
        least, most = self.budget
        if self.reachable.any_within(least, most):
            return
        smallest, _, largest = self.parameter_range()
        nearest = self.reachable.nearest(least, most)
        raise SearchSpaceError(
            f"search space {self.name}, budget: no subnet has between {least:,} and "
            f"{'any number of' if most is None else f'{most:,}'} trainable parameters; the space reaches from "
            f"{smallest:,} to {largest:,}, nearest to the budget are {' and '.join(f'{n:,}' for n in nearest)}"
        )

    @cached_property
    def reachable(self) -> ReachableCounts:
        """The parameter counts that subnets of this space can have, exactly."""
        return ReachableCounts([tuple(self._costs[gene.key].values()) for gene in self.genes])

    def smallest(self) -> Subnet:
        """The subnet with the fewest parameters."""
        return self.subnet(min(gene.choices, key=self._costs[gene.key].__getitem__) for gene in self.genes)

    def largest(self) -> Subnet:
        """The subnet with the most parameters: every support tensor at its largest."""
        return self.subnet(max(gene.choices, key=self._costs[gene.key].__getitem__) for gene in self.genes)

    def subnet(self, choices: Iterable[str]) -> Subnet:
        """The subnet that makes these choices, in the order of `genes`."""
        return Subnet({gene.key: choice for gene, choice in zip(self.genes, choices, strict=True)})

    @cached_property
    def digest(self) -> str:
        """SHA-256 of layers, genes, choices and storage: two spaces with one digest share weights."""
        content = {
            "layers": [[layer.name, layer.in_features, layer.out_features, layer.bias] for layer in self.layers],
            "genes": [[gene.layer, gene.tensor, list(gene.choices)] for gene in self.genes],
            "entangle": self.entangle,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
