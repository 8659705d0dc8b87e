"""Some 15 numbers in place of a trial's genes: few enough for a person to read and a browser to plot."""

from __future__ import annotations

import copy
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial

from glorasearch.errors import SearchSpaceError
from glorasearch.space import CLASS_METRICS, OF_NUMBERS, SUPPORT_TENSORS, parse_choice

PARAMETERS = "parameters"
"""Trainable parameters, as the trial's user attribute of this name says."""
MEAN_RANK = "mean rank"
"""Mean over the genes whose choice has a known rank; 0 if there are none."""
KEPT_ATTRIBUTES = (
    "accuracy", "cross_entropy", "tempered", "temperature", *CLASS_METRICS, *OF_NUMBERS,
    "cost_bytes", "cost_latency", "cost_training_flops",
    "start", "origin", "reason", "bound", "stopped_after",
)  # fmt: skip
"""The user attributes that a summary keeps."""


_FORM: Final = re.compile(r"([A-Za-z][A-Za-z0-9_-]*)(:[1-9][0-9]*)*")
"""How every choice is written."""


class _Form(NamedTuple):
    """What a summary shows of a choice."""

    name: str
    rank: int


class StudySummary:
    """How the trials of one study are summarised.

    For each support tensor and each choice class that it offers: the share of the tensor's genes with that choice,
    named `A: share of lora` and so on. Also the mean rank and the parameter count. Parameters that are not
    genes are kept. Fractions have three significant digits; those of objectives four, so that trials are told apart.

    For trials to be comparable, all of a study must have the same ranges; `most_parameters` is the upper end of that of
    the parameter count.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution], most_parameters: float) -> None:
        self.names = frozenset(distributions)
        """All parameters of the study, genes or not."""
        self.most_parameters = most_parameters
        self._choices: dict[str, _Form] = {}
        self._tensors: dict[str, str] = {}
        offered: set[tuple[str, str]] = set()
        for name, distribution in distributions.items():
            tensor, choices = name.rpartition(".")[2], _parse(distribution)
            if tensor in SUPPORT_TENSORS and choices:
                self._tensors[name] = tensor
                self._choices |= choices
                offered |= {(tensor, choice.name) for choice in choices.values()}
        self._offered = sorted(offered)
        self._sizes = Counter(self._tensors.values())
        self._distributions = self._make_distributions()

    def summarise(self, trial: FrozenTrial) -> FrozenTrial:
        """A trial with the summary in place of its genes."""
        summary = copy.copy(trial)
        kept = {key: trial.user_attrs[key] for key in KEPT_ATTRIBUTES if key in trial.user_attrs}
        summary.user_attrs = {key: digits(value) if isinstance(value, float) else value for key, value in kept.items()}
        if trial.values is not None:
            summary.values = [digits(value, 4) for value in trial.values]
        genes = {name: choice for name, choice in trial.params.items() if name in self._tensors}
        if not genes:
            return summary
        numbers = self._numbers(genes)
        distributions = dict(self._distributions)
        count = trial.user_attrs.get(PARAMETERS)
        if isinstance(count, int | float):
            numbers[PARAMETERS] = float(count)
        else:
            distributions.pop(PARAMETERS, None)
        others = trial.params.keys() - genes.keys()
        summary.params = numbers | {name: trial.params[name] for name in others}
        summary.distributions = distributions | {name: trial.distributions[name] for name in others}
        return summary

    def _numbers(self, genes: Mapping[str, str]) -> dict[str, float]:
        counts: Counter[tuple[str, str]] = Counter()
        ranks = []
        for name, text in genes.items():
            choice = self._choices[text]
            counts[self._tensors[name], choice.name] += 1
            if choice.rank:
                ranks.append(choice.rank)
        numbers = {
            _share(tensor, name): digits(counts[tensor, name] / self._sizes[tensor]) for tensor, name in self._offered
        }
        return numbers | {MEAN_RANK: digits(sum(ranks) / len(ranks)) if ranks else 0.0}

    def _make_distributions(self) -> dict[str, BaseDistribution]:
        largest_rank = max((choice.rank for choice in self._choices.values()), default=0)
        shares: dict[str, BaseDistribution] = {
            _share(tensor, name): FloatDistribution(0.0, 1.0) for tensor, name in self._offered
        }
        return shares | {
            MEAN_RANK: FloatDistribution(0.0, float(largest_rank)),
            PARAMETERS: FloatDistribution(0.0, self.most_parameters),
        }


def digits(number: float, count: int = 3) -> float:
    """A fraction with so many significant digits: 0.13708451714366673 → 0.137; whole numbers as they are."""
    return float(f"{number:.{count}g}") if math.isfinite(number) and number % 1 else number


def _share(tensor: str, choice: str) -> str:
    return f"{tensor}: share of {choice}"


def round_up(counts: Iterable[float]) -> float:
    """The largest count, rounded up to one significant digit: 882,116 → 900,000; at least 1."""
    largest = max(counts, default=1.0)
    if largest <= 1:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(largest))
    return math.ceil(largest / unit) * unit


def _parse(distribution: BaseDistribution) -> dict[str, _Form]:
    """The choices of a gene by their text; empty if the distribution is not that of a gene."""
    if not isinstance(distribution, CategoricalDistribution):
        return {}
    found = {text: _form(text) for text in distribution.choices if isinstance(text, str)}
    known = {text: form for text, form in found.items() if form is not None}
    return known if len(known) == len(distribution.choices) else {}


def _form(text: str) -> _Form | None:
    """A choice class that is not known here counts by its name: a dashboard need not be able to import it."""
    try:
        choice = parse_choice(text)
        return _Form(choice.name, choice.rank)
    except SearchSpaceError:
        match = _FORM.fullmatch(text)
        return None if match is None else _Form(match[1], 0)
