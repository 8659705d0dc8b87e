"""Too little memory for a chunk: two halves, with the same scores; too little for these: a failed candidate."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support.models import tiny_vit
from torch import Tensor, nn

from glorasearch.data import Splits
from glorasearch.evaluation import CandidateEvaluator
from glorasearch.space import EvaluationResult, EvaluationTask, SearchSpace, StopThreshold, Subnet, sample
from glorasearch.supernet import Supernet

NewSupernet = Callable[..., Supernet]


class Tight(nn.Module):
    """Has memory for so many images at once."""

    seen: list[int] = []  # noqa: RUF012
    """Images that all of its copies were asked for."""

    def __init__(self, inner: nn.Module, limit: int) -> None:
        super().__init__()
        self.inner, self.limit = inner, limit

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        if len(x) > self.limit:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {len(x)} MiB. GPU 0 has a story")
        result: Tensor = self.inner(x)
        return result


@pytest.fixture(autouse=True)
def nothing_seen() -> Iterator[None]:
    Tight.seen.clear()
    yield
    Tight.seen.clear()


def tight(supernet: Supernet, limit: int) -> Supernet:
    model: Any = supernet.model
    model.norm = Tight(model.norm, limit)
    return supernet


def some(supernet: Supernet, count: int) -> list[EvaluationTask]:
    rng = np.random.default_rng(4)
    subnets: list[Subnet] = [sample(supernet.space, rng) for _ in range(count)]
    return [EvaluationTask(subnet.to_json(), subnet.digest, "w") for subnet in subnets]


def scores(result: EvaluationResult) -> tuple[Any, ...]:
    score = result.score
    return score and replace(score, seconds=0.0), result.error


@pytest.mark.parametrize("batch_size", [25, 35, 70])
@pytest.mark.parametrize("hardest_first", [False, True])
def test_half_a_chunk_at_once_gives_the_scores_bounds_and_positions_of_a_whole_one(
    splits: Splits, new_supernet: NewSupernet, batch_size: int, hardest_first: bool
) -> None:
    options: dict[str, Any] = {"batch_size": batch_size, "hardest_first": hardest_first}
    plain = CandidateEvaluator(new_supernet(), splits.search, **options)
    chunk = plain.chunks.size
    small = CandidateEvaluator(tight(new_supernet(), chunk - 1), splits.search, **options)
    tasks = some(new_supernet(), 6)
    middle = float(np.median([plain(task).score.cross_entropy for task in tasks]))
    tasks += [
        EvaluationTask(t.subnet_json, t.subnet_digest, "w", StopThreshold("cross_entropy", middle / 2)) for t in tasks
    ]
    expected = [scores(plain(task)) for task in tasks]
    assert [scores(small(task)) for task in tasks] == expected
    assert {error for *_, error in expected} == {None}
    assert any(score is not None and score.stopped_early for score, _ in expected) == (plain.chunks.count > 1)
    assert set(Tight.seen) == {chunk, chunk // 2, chunk - chunk // 2}


def test_too_little_for_half_a_chunk_fails_the_candidate_and_says_so(splits: Splits, new_supernet: NewSupernet) -> None:
    evaluator = CandidateEvaluator(tight(new_supernet(), 16), splits.search, batch_size=35)
    task = some(new_supernet(), 1)[0]
    result = evaluator(task)
    assert result.subnet_digest == task.subnet_digest
    assert result.error == (
        "out of memory on cpu with 35 images at once, and with half of them: CUDA out of memory. Use fewer workers on "
        "a GPU, or a smaller search.eval_batch_size"
    )
    assert Tight.seen == [35, 18], "halved once, not for ever"


@pytest.mark.gpu
@pytest.mark.parametrize("captured", [False, True])
def test_on_a_gpu_that_fills_up(splits: Splits, captured: bool) -> None:
    """With less and less memory: the same scores, then the same scores by halves, then failed candidates."""
    choices = {"B": ["none", "lora:2"], "E": ["none", "vector"]}
    supernet = Supernet(
        tiny_vit(patch_size=1, embed_dim=576, num_heads=9).cuda(),
        SearchSpace.from_dict({"name": "tiny", "choices": choices}),
    )
    evaluator = CandidateEvaluator(
        supernet, splits.search, device="cuda", batch_size=70, precision="bfloat16", compile="on" if captured else "off"
    )
    model: Any = evaluator.model
    task, other = some(supernet, 2)
    expected = evaluator(task)
    assert expected.error is None
    halves = 0
    forward_part = model._forward_part

    def counted(images: Tensor) -> Tensor:
        nonlocal halves
        logits: Tensor = forward_part(images)
        halves += 1
        return logits

    model._forward_part = counted
    by_halves: list[EvaluationResult] = []
    failed: list[EvaluationResult] = []
    total = torch.cuda.get_device_properties(0).total_memory
    try:
        for mebibytes in (512, *range(384, 0, -4)):
            if captured:
                model._graphs.clear()  # a captured forward needs no more memory
            gc.collect()
            torch.cuda.empty_cache()
            limit = torch.cuda.memory_reserved() + mebibytes * 2**20
            torch.cuda.set_per_process_memory_fraction(limit / total)
            before = halves
            result = evaluator(task)
            if result.error is not None:
                failed.append(result)
                continue
            assert result.score.correct == pytest.approx(expected.score.correct, abs=1)
            assert result.score.cross_entropy == pytest.approx(expected.score.cross_entropy, rel=2e-2)
            by_halves += [result] * (halves - before == 2)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    print(f"{len(by_halves)} by halves, {len(failed)} failed")
    assert by_halves, "for some amount of memory half a chunk was all that could be done"
    assert failed
    assert all("out of memory on cuda with 70 images at once" in str(result.error) for result in failed)
    halves = 0
    evaluator(other)
    assert scores(evaluator(task)) == scores(expected), "once there is memory again, all is as before"
    assert halves == 0
