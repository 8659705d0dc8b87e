"""The stage that measures on the test split: the only place that loads it, once per run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from glorasearch.data import InputSpec, TestSplit, load_splits
from glorasearch.evaluation import TestOutputs, outputs_on_test
from glorasearch.runs.results import (
    BaselineResult,
    ClassTest,
    Confusion,
    Correct,
    DataSummary,
    Errors,
    MetricTest,
    RandomSubnets,
    RefitResult,
    SearchResult,
    TargetTest,
    TemperatureFound,
    TestResult,
    TrainResult,
)
from glorasearch.runs.session import Session
from glorasearch.runs.tables import write_tables
from glorasearch.runs.task_rules import metrics_of
from glorasearch.space import sample_within_budget
from glorasearch.space.early_stopping import UNIT

RANDOM_TAG = 23
MIRRORED = "top1_mirrored"
"""Name of the accuracy on test images and their mirror images."""


def final_test(session: Session) -> TestResult:
    """The test images that pick, best searched subnet and baselines classify correctly; accuracy of random subnets.

    A fixed method has no random subnets, and none of its baselines is the method itself. The metrics of pick and
    baselines are made of the outputs of the same pass.
    """
    found, pick, temperature = session.require(SearchResult), session.pick, session.stored.results.temperature
    count = session.config.report.random_subnets if session.only_subnet is None else 0
    splits = load_splits(session.config.data, InputSpec.from_backbone(session.backbone), said=True)
    images = _TestImages(session, splits.test)
    with session.progress.task("test split", 2 + len(session.baselines) + count) as advance:
        supernet = session.load(session.supernet(), TrainResult)
        inherited = images.judged(images.outputs(supernet.merged(found.subnet)))
        rng = np.random.default_rng([session.config.seed, RANDOM_TAG])
        subnets = [sample_within_budget(supernet.space, rng) for _ in range(count)]
        random = [images.judged(images.outputs(supernet.merged(subnet))) for subnet in subnets]
        advance(1 + count, "")
        own = session.load(session.supernet(session.space_of(pick.space_key)), RefitResult)
        winner = own.merged(pick.subnet)
        outputs = images.outputs(winner)
        refitted, metrics = images.judged(outputs), images.of_winner(outputs, temperature) | images.mirrored(winner)
        advance(2 + count, "")
        baselines: dict[str, Correct | Errors] = {}
        baselines_metrics: dict[str, dict[str, MetricTest]] = {}
        for name, method in session.baselines.items():
            trained = session.load(session.supernet(method.space), BaselineResult, name)
            merged = trained.merged(trained.space.largest())
            answers = images.outputs(merged)
            baselines[name] = images.judged(answers)
            baselines_metrics[name] = images.of_baseline(answers) | images.mirrored(merged)
            advance(2 + count + len(baselines), "")
    task, labels = splits.test.task, splits.test.labels
    by_output = task.by_output(outputs.logits.numpy(), outputs.predicted.numpy(), labels.numpy())
    return TestResult(
        files=write_tables(session.files.folder, splits, outputs, 1.0 if temperature is None else temperature.value),
        **_judged(refitted, inherited, baselines),
        random_subnets=RandomSubnets(
            count=count,
            mean_parameters=float(np.mean([supernet.space.parameters(subnet) for subnet in subnets])),
            **_spread(random),
        )
        if count
        else None,
        splits=DataSummary.from_json(splits.describe()),
        by_class=ClassTest.each(splits.class_names, by_output) if task.right_or_wrong else (),
        by_target=() if task.right_or_wrong else TargetTest.each(splits.class_names, by_output),
        metrics=metrics,
        baselines_metrics=baselines_metrics,
        confusion=Confusion.each(labels.tolist(), outputs.predicted.tolist()) if task.exclusive else (),
        temperature=temperature,
    )


def _judged(
    refitted: Correct | Errors, inherited: Correct | Errors, baselines: dict[str, Correct | Errors]
) -> dict[str, Any]:
    """What is known of the test images one by one, and its means, by the fields that have it."""
    right = {name: one for name, one in baselines.items() if isinstance(one, Correct)}
    errors = {name: one for name, one in baselines.items() if isinstance(one, Errors)}
    found: dict[str, Any] = {"test_accuracy": None, "test_accuracy_inherited": None, "correct": None}
    if isinstance(refitted, Correct) and isinstance(inherited, Correct):
        found = {"test_accuracy": refitted.accuracy, "test_accuracy_inherited": inherited.accuracy}
        found |= {"correct": refitted, "correct_inherited": inherited}
    elif isinstance(refitted, Errors) and isinstance(inherited, Errors):
        found |= {"test_error": refitted.mean, "test_error_inherited": inherited.mean}
        found |= {"errors": refitted, "errors_inherited": inherited, "baselines_errors": errors}
    return found | {
        "baselines": {name: one.accuracy for name, one in right.items()},
        "baselines_correct": right,
    }


def _spread(random: Sequence[Correct | Errors]) -> dict[str, float | None]:
    """Mean and deviation over random subnets, of accuracies or of errors."""
    accuracies = [one.accuracy for one in random if isinstance(one, Correct)]
    errors = [one.mean for one in random if isinstance(one, Errors)]
    values, name = (errors, "error") if errors else (accuracies, "accuracy")
    found: dict[str, float | None] = {"mean_test_accuracy": None, "std_test_accuracy": None}
    return found | {f"mean_test_{name}": float(np.mean(values)), f"std_test_{name}": float(np.std(values))}


@dataclass(frozen=True)
class _TestImages:
    """The test split, and how it is measured."""

    session: Session
    split: TestSplit

    @property
    def _how(self) -> dict[str, Any]:
        return {"device": self.session.device, "batch_size": self.session.config.search.eval_batch_size}

    def outputs(self, model: nn.Module) -> TestOutputs:
        return outputs_on_test(model, self.split, **self._how)

    def mirrored(self, model: nn.Module) -> dict[str, MetricTest]:
        """The accuracy on images that are judged together with their mirror images, if the report asks for it."""
        if not self.session.config.report.flips:
            return {}
        outputs = outputs_on_test(model, self.split, **self._how, mirrored=True)
        arrays = (outputs.logits.numpy(), outputs.predicted.numpy(), self.split.labels.numpy())
        return {MIRRORED: MetricTest.of(self.split.task.measure(*arrays, ("top1",))["top1"])}

    def judged(self, outputs: TestOutputs) -> Correct | Errors:
        """The images that are right, or the error of each."""
        if not self.split.task.right_or_wrong:
            return Errors.pack((self.split.task.losses(outputs.logits, self.split.labels) * UNIT).tolist())
        return Correct.pack(self.split.task.matches(outputs.predicted, self.split.labels).tolist())

    def of_winner(self, outputs: TestOutputs, temperature: TemperatureFound | None) -> dict[str, MetricTest]:
        """Its metrics, with intervals, and at its temperature, too."""
        given = None if temperature is None else temperature.value
        return self._measured(outputs, temperature=given, resamples=self.session.config.report.resamples)

    def of_baseline(self, outputs: TestOutputs) -> dict[str, MetricTest]:
        """Its metrics, of which those that need resamples have no interval."""
        return self._measured(outputs, resamples=0)

    def _measured(self, outputs: TestOutputs, **options: Any) -> dict[str, MetricTest]:
        arrays = (outputs.logits.numpy(), outputs.predicted.numpy(), self.split.labels.numpy())
        config, task = self.session.config, self.split.task
        asked = metrics_of(task.kind, config.report)
        found = task.measure(*arrays, asked, seed=config.seed, **options)
        return {name: MetricTest.of(estimate) for name, estimate in found.items()}
