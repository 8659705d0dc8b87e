"""The Grafana dashboards name the metrics and labels that the code exports, and leave none out.

No Grafana draws them here: none can be had without a network.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.receivers import scrape

import dashboards
from glorasearch.db import StageState
from glorasearch.runs.curves import Row
from glorasearch.runs.telemetry.prometheus import PrometheusEndpoint
from glorasearch.search import SearchProgress, TrialRecord
from glorasearch.space import Score
from workers.metrics import EvaluatorMetrics

FOLDER = Path(dashboards.__file__).with_name("grafana")
BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
OF_SERIES = {"instance", "job"}
"""Labels that Prometheus adds."""
OF_RAY = {"NodeAddress", "WorkerId", "le"}
"""Labels that Ray adds to its metrics, and that of buckets; `tests/integration/test_telemetry.py` sees them."""
WORDS = {"clamp_min", "histogram_quantile", "group_left", "label_values"}


def progress(score: Score) -> SearchProgress:
    best = TrialRecord(3, "digest", 1_234, score)
    return SearchProgress(
        trials=9, evaluated=5, reused=2, stopped_early=1, failed=1, best=best, best_fitness=0.31, latest=best
    )


@pytest.fixture(scope="module")
def exported() -> dict[str, set[str]]:
    """Metric → its labels, as a driver serves them and workers register them."""
    endpoint = PrometheusEndpoint("127.0.0.1", 0, "tiny", {"backbone": "vit", "data": "digits", "space": "lean"})
    endpoint.started("search")
    endpoint.advanced("search", 8, 9)
    endpoint.append(Row("train", 10, {"loss": 0.5}), {})
    endpoint.searched(progress(Score(correct=8, total=10, cross_entropy=0.5, tempered=0.4, beta=1.0)))
    endpoint.staffed(1, 2)
    endpoint.ended("search", StageState.FINISHED, None)
    found = {name: set(samples[0][0]) for name, samples in scrape(endpoint.address).items()}
    endpoint.close("finished")
    for metric in vars(EvaluatorMetrics()).values():
        name, labels = f"ray_{metric.info['name']}", set(metric.info["tag_keys"])
        ends = ("_bucket", "_sum", "_count") if "boundaries" in metric.info else ("",)
        found |= {name + end: labels | OF_RAY for end in ends}
    return found


def expressions(board: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Expression and legend of each target, and the query of each variable."""
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield target["expr"], target["legendFormat"]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"], ""


def metrics_of(expression: str) -> set[str]:
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\([a-zA-Z_, ]*\) ?(?=\(|glora|ray_)|\"[^\"]*\"", " ", expression)
    return set(re.findall(r"\b[a-z][a-z_]*_[a-z_]+\b", bare)) - WORDS


@pytest.mark.parametrize("name", sorted(BOARDS))
def test_a_dashboard_names_what_is_exported(name: str, exported: dict[str, set[str]]) -> None:
    for expression, legend in expressions(BOARDS[name]):
        metrics = metrics_of(expression)
        assert metrics, expression
        assert metrics <= exported.keys(), expression
        labels = set().union(*(exported[metric] for metric in metrics)) | OF_SERIES
        chosen = {label for body in re.findall(r"\{([^}]*)\}", expression) for label in re.findall(r"(\w+)!?=", body)}
        grouped = {
            label.strip()
            for body in re.findall(r"(?:by|on|group_left) \(([^)]*)\)", expression)
            for label in body.split(",")
        }
        assert chosen | grouped | set(re.findall(r"\{\{(\w+)\}\}", legend)) <= labels, (expression, legend)


def test_whatever_is_exported_is_drawn(exported: dict[str, set[str]]) -> None:
    drawn = set().union(*(metrics_of(one) for board in BOARDS.values() for one, _ in expressions(board)))
    ours = {name for name in exported if "glorasearch_" in name and not name.endswith("_created")}
    assert ours <= drawn


@pytest.mark.parametrize("name", sorted(BOARDS))
def test_panels_stand_beside_each_other_and_ask_the_chosen_source(name: str) -> None:
    board = BOARDS[name]
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        columns = range(place["x"], place["x"] + place["w"])
        cells = {(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken
        assert columns.stop <= 24
        taken |= cells
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
        assert panel["title"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert board["templating"]["list"][0]["name"] == "datasource"
