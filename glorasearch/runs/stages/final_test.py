"""The stage that measures on the test split: the only place that loads it, once per run."""

from __future__ import annotations

import numpy as np
from torch import nn

from glorasearch.data import InputSpec, load_splits
from glorasearch.evaluation import correct_on_test, outputs_on_test
from glorasearch.runs.results import (
    BaselineResult,
    ClassTest,
    Correct,
    DataSummary,
    RandomSubnets,
    RefitResult,
    SearchResult,
    TestResult,
    TrainResult,
)
from glorasearch.runs.session import Session
from glorasearch.runs.tables import write_tables
from glorasearch.space import sample_within_budget

RANDOM_TAG = 23


def final_test(session: Session) -> TestResult:
    """The test images that pick, best searched subnet and baselines classify correctly; accuracy of random subnets.

    A fixed method has no random subnets, and none of its baselines is the method itself.
    """
    found, pick = session.require(SearchResult), session.pick
    count = session.config.report.random_subnets if session.only_subnet is None else 0
    splits = load_splits(session.config.data, InputSpec.from_backbone(session.backbone), said=True)
    batch_size = session.config.search.eval_batch_size

    def correct(model: nn.Module) -> Correct:
        found = correct_on_test(model, splits.test, device=session.device, batch_size=batch_size)
        return Correct.pack(found.tolist())

    with session.progress.task("test split", 2 + len(session.baselines) + count) as advance:
        supernet = session.load(session.supernet(), TrainResult)
        inherited = correct(supernet.merged(found.subnet))
        rng = np.random.default_rng([session.config.seed, RANDOM_TAG])
        subnets = [sample_within_budget(supernet.space, rng) for _ in range(count)]
        accuracies = [correct(supernet.merged(subnet)).accuracy for subnet in subnets]
        advance(1 + count, "")
        own = session.load(session.supernet(session.space_of(pick.space_key)), RefitResult)
        outputs = outputs_on_test(own.merged(pick.subnet), splits.test, device=session.device, batch_size=batch_size)
        refitted = Correct.pack((outputs.predicted == splits.test.labels).tolist())
        advance(2 + count, "")
        baselines: dict[str, Correct] = {}
        for name, method in session.baselines.items():
            trained = session.load(session.supernet(method.space), BaselineResult, name)
            baselines[name] = correct(trained.merged(trained.space.largest()))
            advance(2 + count + len(baselines), "")
    return TestResult(
        files=write_tables(session.files.folder, splits, outputs),
        test_accuracy=refitted.accuracy,
        test_accuracy_inherited=inherited.accuracy,
        correct=refitted,
        correct_inherited=inherited,
        baselines={name: right.accuracy for name, right in baselines.items()},
        baselines_correct=baselines,
        random_subnets=RandomSubnets(
            count=count,
            mean_parameters=float(np.mean([supernet.space.parameters(subnet) for subnet in subnets])),
            mean_test_accuracy=float(np.mean(accuracies)),
            std_test_accuracy=float(np.std(accuracies)),
        )
        if count
        else None,
        splits=DataSummary.from_json(splits.describe()),
        by_class=ClassTest.each(splits.class_names, splits.test.labels.tolist(), refitted.each()),
    )
