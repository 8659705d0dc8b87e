"""A training that was written down as JSON is the same one again, and nothing else is taken for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.models import TINY_VIT

from glorasearch.backbone import BackboneConfig, build_backbone
from glorasearch.data import DataConfig, InputSpec, SearchData, load_search_data
from glorasearch.errors import RunError
from glorasearch.space import SearchSpace
from glorasearch.supernet import Supernet
from glorasearch.training import Fixed, SamplingStrategy, Sandwich, SingleProcess, SupernetTrainer, Uniform
from glorasearch.training.build import TrainingSpec, build_training, check_facts, strategy_to_json

BACKBONE = BackboneConfig(
    name="vit_tiny_patch16_224",
    pretrained=False,
    args=TINY_VIT,
)
DATA = DataConfig(source="digits", train=60, search=40)
SPACE = SearchSpace.from_dict({"name": "tiny", "choices": {"B": ["none", "lora:1", "lora:2"]}})
STRATEGIES: dict[str, Callable[[Supernet], SamplingStrategy]] = {
    "uniform": lambda supernet: Uniform(supernet.space, 3),
    "sandwich": lambda supernet: Sandwich(supernet.space, 3, 2),
    "fixed": lambda supernet: Fixed(supernet.space.largest()),
}


class Two(SingleProcess):
    """Of two processes, so that a trainer states its facts."""

    size = 2  # type: ignore[assignment]


def facts(supernet: Supernet, data: Any, strategy: SamplingStrategy, config: Any) -> dict[str, Any]:
    return SupernetTrainer(supernet, data, strategy, config, communicator=Two()).facts


@pytest.fixture(scope="module")
def data() -> SearchData:
    spec = InputSpec.from_backbone(build_backbone(BACKBONE, 10))
    return load_search_data(DATA, spec)


@pytest.fixture
def make_spec(data: SearchData) -> Callable[..., tuple[TrainingSpec, Supernet]]:
    def make(strategy: str = "uniform", with_search: bool = False) -> tuple[TrainingSpec, Supernet]:
        supernet = Supernet(build_backbone(BACKBONE, 10, drop_path=0.1), SPACE, seed=5)
        paths = STRATEGIES[strategy](supernet)
        config = SupernetTrainer.Config(steps=4, batch_size=16, ranks=2, drop_path=0.1)
        split = data.train_and_search() if with_search else data.train
        spec = TrainingSpec(
            backbone=BACKBONE,
            classes=10,
            data=DATA,
            space=SPACE,
            strategy=strategy_to_json(paths),
            config=config,
            facts=facts(supernet, split, paths, config),
            torch=str(torch.__version__),
            with_search=with_search,
            probed={"largest": supernet.space.largest().to_dict()},
        )
        return spec, supernet

    return make


@pytest.mark.parametrize("with_search", [False, True])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_is_built_from_json_is_the_same_training(make_spec: Any, strategy: str, with_search: bool) -> None:
    spec, supernet = make_spec(strategy, with_search)
    again = TrainingSpec(**json.loads(json.dumps(spec.to_json())))
    built = build_training(again, supernet.adapter_state())
    found = facts(built.supernet, built.split, built.strategy, built.config)
    check_facts(spec.facts, found)
    assert built.probed == {"largest": supernet.space.largest()}
    assert built.strategy.sample(3, 1) == STRATEGIES[strategy](supernet).sample(3, 1)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("data", "does not have what the run was started with: the images differ"),
        ("backbone", "started with: the backbone's weights differ"),
    ],
)
def test_another_machine_that_has_other_files_is_refused(make_spec: Any, key: str, message: str) -> None:
    spec, _ = make_spec()
    with pytest.raises(RunError, match=message):
        check_facts(spec.facts, spec.facts | {key: "something else"})


def test_another_version_of_torch_is_refused(make_spec: Any) -> None:
    spec, supernet = make_spec()
    other = TrainingSpec(**spec.to_json() | {"torch": "1.0"})
    with pytest.raises(RunError, match=r"on this machine and 1\.0 where the run was started: install the same version"):
        build_training(other, supernet.adapter_state())
