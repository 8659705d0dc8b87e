"""A fitness landscape that is no easier than it looks: every gene's worth depends on two others (an NK landscape)."""

from __future__ import annotations

import json

import numpy as np

from glorasearch.space import BoundSpace, EvaluationResult, EvaluationTask, Score

IMAGES = 1_000
"""Of the pretended search split."""


class Landscape:
    """Scores subnets; a pure function of the subnet and the landscape's seed.

    Gene g adds half of what its own choice is worth, and half of what its choice is worth together with those of two
    other genes, drawn once: both uniform between 0 and 1. The cross-entropy is 3 nats less three times the mean, so a
    random subnet has 1.5 on average, and the best there could be, were there no conflicts, about 0.
    """

    def __init__(self, space: BoundSpace, seed: int = 0) -> None:
        rng = np.random.default_rng((7, seed))
        genes, most = len(space.genes), max(len(gene.choices) for gene in space.genes)
        self._indices = {gene.key: {choice: i for i, choice in enumerate(gene.choices)} for gene in space.genes}
        self._alone = rng.random((genes, most))
        self._together = rng.random((genes, most, most, most))
        self._others = np.array([rng.choice(np.delete(np.arange(genes), g), 2, replace=False) for g in range(genes)])
        self._genes = np.arange(genes)

    def __call__(self, task: EvaluationTask) -> EvaluationResult:
        """The scores of a task's subnet."""
        subnet = json.loads(task.subnet_json)
        chosen = np.array(
            [indices[subnet.get(layer, {}).get(tensor, "none")] for (layer, tensor), indices in self._indices.items()]
        )
        first, second = chosen[self._others[:, 0]], chosen[self._others[:, 1]]
        worth = (self._alone[self._genes, chosen] + self._together[self._genes, chosen, first, second]) / 2
        cross_entropy = 3 * (1 - float(worth.mean()))
        correct = round(IMAGES * float(np.exp(-cross_entropy)))
        return EvaluationResult(
            task.subnet_digest, Score(correct, IMAGES, cross_entropy, tempered=cross_entropy, beta=1.0)
        )
