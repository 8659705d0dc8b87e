"""Evaluation of a run's candidates, in this process or on workers."""

from __future__ import annotations

import torch

from glorasearch.config import Compile
from glorasearch.dotted import load_object
from glorasearch.errors import InputError
from glorasearch.evaluation import CandidateEvaluator, EvaluatorSpec
from glorasearch.runs.resources import load_from_workers
from glorasearch.runs.results import TrainResult
from glorasearch.runs.session import Session
from glorasearch.search import Executor, InProcessExecutor
from glorasearch.supernet import Supernet

EVALUATOR = "glorasearch.evaluation:build_evaluator"
"""Builds the evaluator of a worker."""
RAY_EXECUTOR = "workers:RayExecutor"


def make_executor(session: Session) -> Executor:
    """The executor that the run's resources name.

    Raises:
        InputError: if Ray is not installed, or workers are to use a GPU that they are not given.
        WeightStoreError: if the supernet's weights are gone or damaged.
    """
    executor: Executor = load_object(session.resources.evaluation_backend)(session)
    return executor


def local_executor(session: Session) -> Executor:
    """Evaluates in this process."""
    supernet = session.load(session.supernet(), TrainResult)
    weights = session.require(TrainResult).weights
    return InProcessExecutor(make_evaluator(session, supernet, weights=weights, hardest_first=True))


def single_executor(session: Session) -> Executor:
    """Evaluates one candidate in this process; compiling a model for it would take longer than that."""
    supernet = session.load(session.supernet(), TrainResult)
    weights = session.require(TrainResult).weights
    return InProcessExecutor(make_evaluator(session, supernet, weights=weights, compile="off"))


def ray_executor(session: Session) -> Executor:
    """Evaluates in actors of a Ray cluster, which load the weights themselves."""
    resources = session.resources
    executor: Executor = load_from_workers(RAY_EXECUTOR)(
        EVALUATOR,
        evaluator_spec(session).to_json(),
        workers=resources.evaluators,
        address=resources.address,
        gpus_per_worker=resources.gpus_per_worker,
        evaluation_timeout=resources.evaluation_timeout,
    )
    return executor


def make_evaluator(
    session: Session,
    supernet: Supernet,
    *,
    weights: str | None = None,
    hardest_first: bool = False,
    compile: Compile | None = None,
) -> CandidateEvaluator:
    """An evaluator of a supernet's subnets on the search split; `compile` overrides that of the run."""
    return CandidateEvaluator(
        supernet,
        session.data.search,
        device=session.device,
        batch_size=session.config.search.eval_batch_size,
        weights=weights,
        hardest_first=hardest_first,
        compile=compile or session.config.compile,
        precision=session.config.search.precision,
    )


def evaluator_spec(session: Session) -> EvaluatorSpec:
    """All that a worker needs to evaluate the run's candidates.

    Workers use as many threads as this process, since the order of summation changes the last bits.

    Raises:
        InputError: if they are to use a GPU of a cluster that gives them none.
        WeightStoreError: if the supernet's weights are gone or damaged.
    """
    device = worker_device(session)
    return EvaluatorSpec(
        backbone=session.config.backbone,
        classes=session.data.classes,
        data=session.config.data,
        space=session.space,
        store=session.store.url,
        weights=session.verify(TrainResult),
        split=session.data.search.digest,
        device=device,
        batch_size=session.config.search.eval_batch_size,
        compile=session.config.compile,
        precision=session.config.search.precision,
        threads=torch.get_num_threads(),
        code_cache=session.code_cache,
        shared=True,
    )


def worker_device(session: Session) -> str:
    """The device of the workers: the GPUs assigned to them, if any, else the device of this process."""
    if session.resources.gpus_per_worker > 0:
        return "cpu" if session.config.device == "cpu" else "cuda"
    if session.resources.address is not None and session.device.startswith("cuda"):
        raise InputError(
            "workers of a Ray cluster see only the GPUs that they are given: add --gpus-per-worker (a share of one "
            "will do), or set device to cpu"
        )
    return session.device
