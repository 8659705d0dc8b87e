"""How a run scores its candidates: here, and in workers."""

from __future__ import annotations

from dataclasses import asdict

import torch

from glorasearch.errors import InputError
from glorasearch.evaluation import CandidateEvaluator, EvaluatorSpec
from glorasearch.evaluation.merged_model import Compile
from glorasearch.runs.run import Run
from glorasearch.supernet import Supernet


def evaluator_of(
    run: Run,
    supernet: Supernet,
    *,
    weights: str | None = None,
    hardest_first: bool = False,
    compile: Compile | None = None,
) -> CandidateEvaluator:
    """An evaluator of a supernet's subnets on the search split, as the run scores them; `compile` if given."""
    return CandidateEvaluator(
        supernet,
        run.data.search,
        device=run.device,
        batch_size=run.config.search.eval_batch_size,
        weights=weights,
        hardest_first=hardest_first,
        compile=compile or run.config.compile,
        mixed=_mixed_on(run, run.device),
    )


def evaluator_spec(run: Run, weights: str) -> EvaluatorSpec:
    """What a worker needs to evaluate the run's candidates.

    Workers use as many threads as this process, since sums in another order end in other last bits.

    Raises:
        InputError: if they are to use a GPU of a cluster that gives them none.
    """
    device = _worker_device(run)
    return EvaluatorSpec(
        backbone=asdict(run.backbone_config()),
        data=asdict(run.data_config),
        space=run.space.model_dump(mode="json", exclude_none=True),
        store=run.workspace.store_url,
        weights=weights,
        split=run.data.search.digest,
        device=device,
        batch_size=run.config.search.eval_batch_size,
        compile=run.config.compile,
        mixed=_mixed_on(run, device),
        threads=torch.get_num_threads(),
        shared=True,
    )


def _mixed_on(run: Run, device: str) -> bool:
    """Whether candidates are scored in bfloat16."""
    wanted = run.config.search.precision
    return wanted == "bfloat16" or (wanted == "auto" and device.startswith("cuda"))


def _worker_device(run: Run) -> str:
    """Where workers evaluate: on the GPUs that they are given, whatever this machine has, else on its device."""
    if run.resources.gpus_per_worker > 0:
        return "cpu" if run.config.device == "cpu" else "cuda"
    if run.resources.address is not None and run.device.startswith("cuda"):
        raise InputError(
            "workers of a Ray cluster see only the GPUs that they are given: add --gpus-per-worker (a share of one "
            "will do), or set device to cpu"
        )
    return run.device
