"""The stage that measures on the test split: the only place that loads it, once per run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from glorasearch.data import InputSpec, TestSplit, load_splits
from glorasearch.evaluation import TestOutputs, correct_on_test, outputs_on_test
from glorasearch.runs.results import (
    BaselineResult,
    ClassTest,
    Confusion,
    Correct,
    DataSummary,
    MetricTest,
    RandomSubnets,
    RefitResult,
    SearchResult,
    TemperatureFound,
    TestResult,
    TrainResult,
)
from glorasearch.runs.session import Session
from glorasearch.runs.tables import write_tables
from glorasearch.runs.task_rules import metrics_of
from glorasearch.space import sample_within_budget

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
        inherited = images.correct(supernet.merged(found.subnet))
        rng = np.random.default_rng([session.config.seed, RANDOM_TAG])
        subnets = [sample_within_budget(supernet.space, rng) for _ in range(count)]
        accuracies = [images.correct(supernet.merged(subnet)).accuracy for subnet in subnets]
        advance(1 + count, "")
        own = session.load(session.supernet(session.space_of(pick.space_key)), RefitResult)
        winner = own.merged(pick.subnet)
        outputs = images.outputs(winner)
        refitted, metrics = images.right(outputs), images.of_winner(outputs, temperature) | images.mirrored(winner)
        advance(2 + count, "")
        baselines: dict[str, Correct] = {}
        baselines_metrics: dict[str, dict[str, MetricTest]] = {}
        for name, method in session.baselines.items():
            trained = session.load(session.supernet(method.space), BaselineResult, name)
            merged = trained.merged(trained.space.largest())
            answers = images.outputs(merged)
            baselines[name] = images.right(answers)
            baselines_metrics[name] = images.of_baseline(answers) | images.mirrored(merged)
            advance(2 + count + len(baselines), "")
    task, labels = splits.test.task, splits.test.labels
    by_output = task.by_output(outputs.logits.numpy(), outputs.predicted.numpy(), labels.numpy())
    return TestResult(
        files=write_tables(session.files.folder, splits, outputs, 1.0 if temperature is None else temperature.value),
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
        by_class=ClassTest.each(splits.class_names, by_output),
        metrics=metrics,
        baselines_metrics=baselines_metrics,
        confusion=Confusion.each(labels.tolist(), outputs.predicted.tolist()) if task.exclusive else (),
        temperature=temperature,
    )


@dataclass(frozen=True)
class _TestImages:
    """The test split, and how it is measured."""

    session: Session
    split: TestSplit

    @property
    def _how(self) -> dict[str, Any]:
        return {"device": self.session.device, "batch_size": self.session.config.search.eval_batch_size}

    def correct(self, model: nn.Module) -> Correct:
        return Correct.pack(correct_on_test(model, self.split, **self._how).tolist())

    def outputs(self, model: nn.Module) -> TestOutputs:
        return outputs_on_test(model, self.split, **self._how)

    def mirrored(self, model: nn.Module) -> dict[str, MetricTest]:
        """The accuracy on images that are judged together with their mirror images, if the report asks for it."""
        if not self.session.config.report.flips:
            return {}
        outputs = outputs_on_test(model, self.split, **self._how, mirrored=True)
        arrays = (outputs.logits.numpy(), outputs.predicted.numpy(), self.split.labels.numpy())
        return {MIRRORED: MetricTest.of(self.split.task.measure(*arrays, ("top1",))["top1"])}

    def right(self, outputs: TestOutputs) -> Correct:
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
