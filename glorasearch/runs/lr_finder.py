"""The learning rate of a supernet, found by pilots, for notebooks and programs; runs do it in their stage `pilot`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from glorasearch.backbone import resolve_device
from glorasearch.data import SearchData, Splits
from glorasearch.errors import DataError, NonFiniteLossError
from glorasearch.evaluation import CandidateEvaluator, probe
from glorasearch.runs.pilots import JUDGED_BY, GivenUpError, checks, in_order, is_behind, judged_subnets, outcome
from glorasearch.runs.progress import Advance, Progress, Silent
from glorasearch.runs.results import PilotsSummary, PilotSummary
from glorasearch.space import fitness_name
from glorasearch.supernet import Supernet
from glorasearch.training import SupernetTrainer, TrainingConfig, TrainSection, make_strategy
from glorasearch.weights import snapshot


def find_lr(
    supernet: Supernet,
    data: SearchData | Splits,
    *,
    device: str = "auto",
    progress: Progress | None = None,
    config: TrainSection | None = None,
    **options: Any,
) -> PilotsSummary:
    """The learning rate for `train_supernet`, found by short trainings at several rates.

    Args:
        supernet: what is to be trained; every pilot starts from the weights that it has, and leaves them as they are.
        data: pilots train on its training split, and are judged on its search split.
        device: `auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:<n>`.
        progress: shows the steps of each pilot.
        config: the recipe; `pilot_rates` and `pilot_steps` are the pilots'.
        options: fields of `TrainSection` in its place, such as `steps=1_000, pilot_rates=(1e-3, 1e-2)`.

    Raises:
        ConfigError: if an option cannot be used.
        DataError: if `data` is something else.
        RunError: if all pilots diverge.
    """
    if not isinstance(data, (SearchData, Splits)):
        raise DataError(f"find_lr: expected what load_data returns, got a {type(data).__name__}")
    section = TrainSection(**options) if config is None else config.replace(**options)
    start, done = snapshot(supernet.adapter_state()), list[PilotSummary]()
    for rate in in_order(section.pilot_rates):
        recipe = section.pilot(rate)
        try:
            with (progress or Silent()).task(f"pilot, rate {rate:g}", recipe.steps) as advance:
                done.append(_pilot(supernet, data, recipe, resolve_device(device), done, advance))
        finally:
            supernet.load_adapter_state(start)
    return outcome(done, len(judged_subnets(supernet.space, section.seed)))


def _pilot(
    supernet: Supernet,
    data: SearchData | Splits,
    recipe: TrainingConfig,
    device: str,
    others: Sequence[PilotSummary],
    advance: Advance,
) -> PilotSummary:
    subnets = judged_subnets(supernet.space, recipe.seed)
    evaluator = CandidateEvaluator(supernet, data.search, device=device, compile="off")
    scores: list[float] = []
    reached, stopped, diverged, began = 0, False, False, time.perf_counter()

    def judge(net: Supernet) -> Mapping[str, float]:
        evaluator.refresh()
        values = probe(evaluator, subnets, JUDGED_BY)
        scores.append(sum(values.values()) / len(values))
        if len(scores) < len(checks(recipe)) and is_behind(scores, others, data.chance):
            raise GivenUpError
        return values

    def step(number: int) -> None:
        nonlocal reached
        reached = number
        advance(number, f"{fitness_name(JUDGED_BY)} {scores[-1]:.3f}" if scores else "")

    strategy = make_strategy(recipe, supernet.space)
    try:
        SupernetTrainer(supernet, data.train, strategy, recipe, device=device, probe=judge, on_step=step).run()
    except GivenUpError:
        stopped = True
    except NonFiniteLossError:
        diverged = True
    return PilotSummary(
        rate=recipe.lr,
        steps=reached,
        seconds=time.perf_counter() - began,
        checks=checks(recipe)[: len(scores)],
        scores=tuple(scores),
        stopped=stopped,
        diverged=diverged,
    )
