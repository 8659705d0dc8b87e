"""How a subnet is written into a trial: one categorical parameter for every gene that has a choice to make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution

from glorasearch.space import BoundSpace, Subnet


class Genome:
    """Translates between subnets and the parameters of trials; genes with a single choice are not stored."""

    def __init__(self, space: BoundSpace) -> None:
        self.space = space
        self.distributions: dict[str, BaseDistribution] = {
            gene.name: CategoricalDistribution(gene.choices) for gene in space.free_genes
        }
        """Parameter name → choices, in the order of the genes."""
        self._fixed = {gene.key: gene.choices[0] for gene in space.genes if len(gene.choices) == 1}
        self._free = tuple((gene.key, gene.name) for gene in space.free_genes)

    def subnet(self, params: Mapping[str, Any]) -> Subnet:
        """The subnet that a trial's parameters describe."""
        return Subnet(self._fixed | {key: params[name] for key, name in self._free})

    def params(self, subnet: Subnet) -> dict[str, str]:
        """The parameters of a trial that describe the subnet."""
        return {name: subnet[key] for key, name in self._free}

    def choices(self, params: Mapping[str, Any]) -> tuple[str, ...]:
        """The choices of the free genes, in order: equal exactly when the subnets are."""
        return tuple(params[name] for _, name in self._free)
