"""What workers of one machine have in common is mapped from files, and is bit for bit what each would have made."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.models import TINY_VIT
from torch import Tensor

from glorasearch.adapters import frozen_tensors, head_names
from glorasearch.backbone import BackboneConfig, build_backbone
from glorasearch.data import DataConfig, InputSpec, load_search_data
from glorasearch.errors import EvaluationError
from glorasearch.evaluation import CandidateEvaluator, EvaluatorSpec, build_evaluator
from glorasearch.evaluation.node import shared_backbone, shared_search_split
from glorasearch.space import EvaluationResult, EvaluationTask, SearchSpace
from glorasearch.supernet import Supernet
from glorasearch.weights import NodeCache, WeightStore, frozen_digest, tensor_digest

VIT = TINY_VIT | {"embed_dim": 48}
BACKBONE = BackboneConfig(name="vit_tiny_patch16_224", pretrained=False, args=VIT)
DATA = DataConfig(source="digits", train=40, search=30, mean=(0.5,), std=(0.5,))
SPACE = SearchSpace.from_dict({"name": "tiny", "choices": {"B": ["none", "lora:2"], "E": ["none", "vector"]}})


def mapped_files(model: Tensor) -> list[str]:
    """The files of this process's mappings that hold a tensor's memory."""
    place = model.untyped_storage().data_ptr()
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, *_, path = line.split(maxsplit=5)
        begin, end = (int(number, 16) for number in span.split("-"))
        if begin <= place < end:
            found.append(path)
    return found


SWIN = {"img_size": 56, "window_size": 7, "depths": (1, 1), "embed_dim": 24, "num_heads": (2, 2)}


@pytest.mark.parametrize(
    ("name", "size", "args"),
    [
        ("vit_tiny_patch16_224", 32, {"img_size": 32, "depth": 2}),
        ("vit_small_patch16_rope_224", 32, {"img_size": 32, "depth": 2}),
        ("swin_tiny_patch4_window7_224", 56, SWIN),
        ("convnext_atto", 64, {}),
        ("levit_128s", 224, {}),
        ("efficientformerv2_s0", 224, {}),
    ],
)
def test_a_shared_backbone_computes_what_a_built_one_does(
    name: str, size: int, args: dict[str, Any], tmp_path: Path
) -> None:
    """Among them are models with buffers that no state dictionary has, and with tensors that are no buffers."""
    config = BackboneConfig(name=name, pretrained=False, args=args)
    built = build_backbone(config, 4)
    cache = NodeCache(tmp_path)
    images = torch.randn(2, 3, size, size)
    for _ in range(2):  # made, then found
        model = shared_backbone(cache, config, 4, tensor_digest(frozen_tensors(built)))
        assert not model.training
        assert not any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])
        with torch.inference_mode():
            assert torch.equal(model.forward_features(images), built.forward_features(images))  # type: ignore[operator]
            for head in head_names(model):
                model.get_submodule(head).load_state_dict(
                    dict(built.get_submodule(head).named_parameters()), strict=False
                )
            assert torch.equal(model(images), built(images))  # a norm in the head has its statistics
    big = max(frozen_tensors(model).values(), key=Tensor.numel)
    assert [str(tmp_path) in path for path in mapped_files(big)] == [True]


def test_another_backbone_is_refused_and_not_kept(tmp_path: Path) -> None:
    cache = NodeCache(tmp_path)
    for _ in range(2):
        with pytest.raises(EvaluationError, match="were trained on a backbone with digest 000000000000, this one has"):
            shared_backbone(cache, BACKBONE, 10, "0" * 64)
    digest = tensor_digest(frozen_tensors(build_backbone(BACKBONE, 10)))
    shared_backbone(cache, BACKBONE, 10, digest)


@pytest.mark.parametrize("cpu", [True, False])
def test_a_shared_split_has_the_batches_of_a_loaded_one(cpu: bool, tmp_path: Path) -> None:
    spec = InputSpec.from_backbone(build_backbone(BACKBONE, 10))
    expected = load_search_data(DATA, spec).search
    for _ in range(2):
        split = shared_search_split(NodeCache(tmp_path), DATA, spec, expected.digest, cpu=cpu)
        assert split.digest == expected.digest
        assert split.describe() == expected.describe()
        for found, wanted in zip(split.batch(slice(3, 20)), expected.batch(slice(3, 20)), strict=True):
            assert torch.equal(found, wanted)
    with pytest.raises(EvaluationError, match="images under 'digits' differ on this machine"):
        shared_search_split(NodeCache(tmp_path), DATA, spec, "0" * 64, cpu=cpu)


def test_a_split_that_does_not_fit_into_memory_is_read_by_each(tmp_path: Path) -> None:
    config = DATA.replace(max_memory_gib=1e-9)
    spec = InputSpec.from_backbone(build_backbone(BACKBONE, 10))
    expected = load_search_data(config, spec).search
    assert not expected.resident
    split = shared_search_split(NodeCache(tmp_path), config, spec, expected.digest, cpu=True)
    assert not split.resident
    assert torch.equal(split.batch(slice(None))[0], expected.batch(slice(None))[0])


def scores(result: EvaluationResult) -> tuple[Any, ...]:
    score = result.score
    return (score and replace(score, seconds=0.0)), result.error


def test_an_evaluator_of_shared_parts_scores_like_one_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLORASEARCH_CACHE", str(tmp_path / "cache"))
    supernet = Supernet(build_backbone(BACKBONE, 10), SPACE)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in (supernet.adapter_parameters() | supernet.head_parameters()).values():
            parameter.normal_(std=0.2, generator=generator)
    store = WeightStore(str(tmp_path / "weights"))
    spec = EvaluatorSpec(
        backbone=BACKBONE,
        classes=10,
        data=DATA,
        space=SPACE,
        store=store.url,
        weights=store.put(supernet.adapter_state(), {"backbone_digest": frozen_digest(supernet)}),
        split=load_search_data(DATA, InputSpec.from_backbone(supernet.model)).search.digest,
        batch_size=16,
    )
    tasks = [
        EvaluationTask(subnet.to_json(), subnet.digest, spec.weights)
        for subnet in (supernet.space.smallest(), supernet.space.largest())
    ]
    own = build_evaluator(spec.to_json())
    expected = [scores(own(task)) for task in tasks]
    evaluators: list[CandidateEvaluator] = [build_evaluator(spec.replace(shared=True).to_json()) for _ in range(2)]
    for evaluator in evaluators:
        assert [scores(evaluator(task)) for task in tasks] == expected
        assert torch.equal(evaluator.order, own.order)
        shared: Supernet = evaluator.model._supernet  # type: ignore[attr-defined]
        for tensor in [*shared.frozen_state().values(), *shared.adapter_state().values()]:
            if tensor.nbytes % 64 == 0:
                assert [str(tmp_path) in path for path in mapped_files(tensor)] == [True]
        assert [str(tmp_path) in path for path in mapped_files(evaluator._split.batch(slice(0, 1))[0])] == [False]
        held = evaluator._split._normalised[torch.device("cpu")]
        assert [str(tmp_path) in path for path in mapped_files(held)] == [True]
    shutil.rmtree(tmp_path / "cache")
    assert [scores(evaluators[0](task)) for task in tasks] == expected, "what is mapped stays"


@pytest.mark.gpu
def test_a_worker_on_a_gpu_which_works_in_a_thread_scores_like_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray calls actors that have concurrency groups in threads: compiled and captured there too."""
    monkeypatch.setenv("GLORASEARCH_CACHE", str(tmp_path / "cache"))
    supernet = Supernet(build_backbone(BACKBONE, 10), SPACE)
    with torch.no_grad():
        for parameter in (supernet.adapter_parameters() | supernet.head_parameters()).values():
            parameter.normal_(std=0.2)
    store = WeightStore(str(tmp_path / "weights"))
    spec = EvaluatorSpec(
        backbone=BACKBONE,
        classes=10,
        data=DATA,
        space=SPACE,
        store=store.url,
        weights=store.put(supernet.adapter_state(), {"backbone_digest": frozen_digest(supernet)}),
        split=load_search_data(DATA, InputSpec.from_backbone(supernet.model)).search.digest,
        batch_size=16,
        device="cuda",
        compile="on",
    )
    tasks = [
        EvaluationTask(subnet.to_json(), subnet.digest, spec.weights)
        for subnet in (supernet.space.smallest(), supernet.space.largest())
    ]
    here = build_evaluator(spec.to_json())
    expected = [scores(here(task)) for task in tasks]
    with ThreadPoolExecutor(1) as thread:
        there = thread.submit(build_evaluator, spec.replace(shared=True).to_json()).result()
        for _ in range(3):
            assert [scores(thread.submit(there, task).result()) for task in tasks] == expected
    assert expected[0] != expected[1]
