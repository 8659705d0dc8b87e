"""The training loop: what it learns, what it writes down, and that a seed decides it all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.training import state_of
from torch import Tensor

from glorasearch.data import SearchData
from glorasearch.errors import BackboneError, ConfigError
from glorasearch.space import BoundSpace, Gene, LayerShape, Subnet
from glorasearch.supernet import Supernet
from glorasearch.tasks import CLASSIFY
from glorasearch.training import Fixed, Sandwich, SupernetTrainer, TrainingRecord, Uniform
from glorasearch.training.optimizer import lr_scale
from glorasearch.training.step import drop_probabilities

Build = Callable[..., SupernetTrainer]
MakeSupernet = Callable[..., Supernet]


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


@torch.no_grad()
def loss_of(supernet: Supernet, subnet: Subnet, data: SearchData) -> float:
    images, labels = data.train.batch(slice(None))
    with supernet.eval().activate(subnet):
        return float(F.cross_entropy(supernet(images), labels))


@pytest.mark.parametrize("drop_path", [0.0, 0.4])
def test_a_seed_decides_the_training(make_trainer: Build, make_supernet: MakeSupernet, drop_path: float) -> None:
    def train(seed: int) -> dict[str, Tensor]:
        supernet = make_supernet(drop_path_rate=drop_path)
        make_trainer(supernet, seed=seed).run()
        return state_of(supernet)

    torch.manual_seed(1)
    first = train(0)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert same(first, train(0))
    assert torch.equal(torch.get_rng_state(), before), "the global generator is put back"
    assert not same(first, train(1))


def test_drop_path_changes_the_training(make_trainer: Build, make_supernet: MakeSupernet) -> None:
    states = []
    for drop_path in (0.0, 0.4):
        supernet = make_supernet(drop_path_rate=drop_path)
        make_trainer(supernet).run()
        states.append(state_of(supernet))
    assert not same(*states)


def test_everything_that_drops_is_found(make_supernet: MakeSupernet) -> None:
    assert drop_probabilities(make_supernet()) == {}
    drop_path = drop_probabilities(make_supernet(drop_path_rate=0.4))
    assert list(drop_path) == ["model.blocks.1.drop_path1", "model.blocks.1.drop_path2"]
    assert list(drop_path.values()) == pytest.approx([0.4, 0.4])
    assert list(drop_probabilities(make_supernet(patch_drop_rate=0.5)).items()) == [("model.patch_drop", 0.5)]
    kinds = make_supernet(attn_drop_rate=0.1, proj_drop_rate=0.2, pos_drop_rate=0.3, drop_rate=0.4)
    assert set(drop_probabilities(kinds).values()) == {0.1, 0.2, 0.3, 0.4}


@pytest.mark.parametrize("drops", [{"patch_drop_rate": 0.5}, {"attn_drop_rate": 0.5}])
def test_other_dropouts_are_seeded_too(make_trainer: Build, make_supernet: MakeSupernet, drops: Any) -> None:
    states = []
    for seed in (1, 2):
        supernet = make_supernet(**drops)
        torch.manual_seed(seed)
        make_trainer(supernet, steps=4).run()
        states.append(state_of(supernet))
    assert same(*states)


def test_uniform_training_lowers_the_loss_of_every_subnet(
    make_trainer: Build, make_supernet: MakeSupernet, digits: SearchData
) -> None:
    supernet = make_supernet()
    subnets = [supernet.space.smallest(), supernet.space.largest(), Uniform(supernet.space, 9).sample(0)[0].subnet]
    before = [loss_of(supernet, subnet, digits) for subnet in subnets]
    result = make_trainer(supernet, steps=60, lr=1e-2, vector_lr=1e-3).run()
    after = [loss_of(supernet, subnet, digits) for subnet in subnets]
    assert all(new < old - 0.05 for new, old in zip(after, before, strict=True))
    assert after[1] < before[1] - 0.3
    assert result.steps == 60
    assert result.seconds > 0
    assert result.loss < before[0]


def test_sandwich_training_lowers_the_loss_of_the_smallest_subnet(
    make_trainer: Build, make_supernet: MakeSupernet, digits: SearchData
) -> None:
    """The smallest subnet sees labels only through the largest, whose outputs it learns."""
    supernet = make_supernet(choices={"B": ["lora:1", "lora:2"], "E": ["none", "vector"]})
    smallest, largest = supernet.space.smallest(), supernet.space.largest()
    before = loss_of(supernet, smallest, digits)
    make_trainer(supernet, lambda net: Sandwich(net.space, 0), steps=60, lr=1e-2, vector_lr=1e-3).run()
    assert loss_of(supernet, smallest, digits) < before - 0.3
    assert loss_of(supernet, largest, digits) < before - 0.3


def test_gradients_of_a_sandwich_step(make_trainer: Build, make_supernet: MakeSupernet, digits: SearchData) -> None:
    """The mean of the largest subnet's loss and the distillation losses, the teacher held fixed."""
    supernet, twin = make_supernet(), make_supernet()
    found: dict[str, Tensor] = {}

    def read(step: int) -> None:
        named = supernet.adapter_parameters() | supernet.head_parameters()
        found.update({name: p.grad.clone() for name, p in named.items() if p.grad is not None})

    trainer = make_trainer(
        supernet, lambda net: Sandwich(net.space, 0), steps=1, clip_norm=0.0, label_smoothing=0.1, on_step=read
    )
    trainer.run()
    images, labels = digits.train.batch(trainer._batches._order.indices(0))
    first, *rest = Sandwich(twin.space, 0).sample(0)
    with twin.activate(first.subnet):
        logits = twin(images)
    total = F.cross_entropy(logits, labels, label_smoothing=0.1)
    for path in rest:
        with twin.activate(path.subnet):
            total = total + CLASSIFY.distillation_loss(twin(images), logits.detach().softmax(-1))
    (total / 3).backward()  # type: ignore[no-untyped-call]
    named = twin.adapter_parameters() | twin.head_parameters()
    expected = {name: p.grad for name, p in named.items() if p.grad is not None}
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert torch.allclose(value, expected[name], atol=1e-6), name


def test_a_fixed_subnet_trains_its_own_storage_alone(make_trainer: Build, make_supernet: MakeSupernet) -> None:
    supernet = make_supernet()
    subnet = Subnet({("blocks.0.attn.qkv", "B"): "lora:2", ("blocks.1.mlp.fc1", "E"): "vector"})
    before = state_of(supernet)
    make_trainer(supernet, lambda net: Fixed(subnet), weight_decay=0.1).run()
    changed = {name for name, value in supernet.adapter_state().items() if not torch.equal(value, before[name])}
    adapters = {"blocks.0.attn.qkv.B.down", "blocks.0.attn.qkv.B.up", "blocks.1.mlp.fc1.E.vector"}
    assert changed == adapters | {"head.weight", "head.bias"}


def test_records_and_probes(make_trainer: Build, digits: SearchData) -> None:
    rows: list[TrainingRecord] = []
    modes: list[bool] = []
    steps: list[int] = []

    def probe(supernet: Supernet) -> dict[str, float]:
        modes.append(supernet.training)
        supernet.eval()
        return {"search_accuracy_smallest": 0.5}

    trainer = make_trainer(
        steps=13, record_every=3, probe_every=5, on_record=rows.append, probe=probe, on_step=steps.append, lr=1e-3
    )
    result = trainer.run()
    assert steps == list(range(1, 14))
    losses = [row for row in rows if "loss" in row.values]
    assert [row.step for row in losses] == [3, 6, 9, 12, 13]
    for row in losses:
        assert set(row.values) == {"loss", "lr", "gradient_norm", "images_per_second"}
        assert row.values["lr"] == pytest.approx(1e-3 * lr_scale(row.step - 1, 13, 1))
        assert row.values["loss"] > 0
        assert row.values["gradient_norm"] > 0
    assert result.loss == losses[-1].values["loss"]
    rates = [
        16 * (row.step - before) / row.values["images_per_second"]
        for row, before in zip(losses, [0, 3, 6, 9, 12], strict=True)
    ]
    assert sum(rates) == pytest.approx(result.seconds, rel=1e-6), "rates are those since the last record"
    assert [row.step for row in rows if "loss" not in row.values] == [5, 10, 13]
    assert modes == [True, True, True], "training goes on in training mode after a probe"


def test_recording_more_often_changes_nothing_but_the_records(make_trainer: Build, make_supernet: MakeSupernet) -> None:
    states = []
    for every in (1, 12):
        supernet = make_supernet()
        make_trainer(supernet, record_every=every).run()
        states.append(state_of(supernet))
    assert same(*states)


def test_mixed_precision(make_trainer: Build, make_supernet: MakeSupernet, digits: SearchData) -> None:
    supernet, plain = make_supernet(), make_supernet()
    before = loss_of(supernet, supernet.space.largest(), digits)
    make_trainer(supernet, precision="bfloat16", steps=40, lr=1e-2, vector_lr=1e-3).run()
    make_trainer(plain, precision="auto", steps=40, lr=1e-2, vector_lr=1e-3).run()
    assert {value.dtype for value in supernet.adapter_state().values()} == {torch.float32}
    assert not same(state_of(supernet), state_of(plain))
    assert loss_of(supernet, supernet.space.largest(), digits) < before - 0.2


def test_no_steps_change_nothing(make_trainer: Build, make_supernet: MakeSupernet) -> None:
    supernet = make_supernet()
    before = state_of(supernet)
    assert make_trainer(supernet, steps=0).run().steps == 0
    assert same(before, state_of(supernet))
    assert not supernet.training


def test_a_backbone_that_bypasses_its_layers_is_refused_before_the_first_step(
    make_trainer: Build, make_supernet: MakeSupernet
) -> None:
    backbone = make_supernet().merged(make_supernet().space.smallest())
    backbone.add_module("unused", torch.nn.Linear(4, 4))
    space = make_supernet().space
    genes = [*space.genes, Gene("unused", "E", ("none", "vector"))]
    unused = Supernet(backbone, BoundSpace(space.name, [*space.layers, LayerShape("unused", 4, 4)], genes))
    with pytest.raises(BackboneError, match="never uses unused"):
        make_trainer(unused).run()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", -1),
        ("batch_size", 0),
        ("warmup_steps", -1),
        ("clip_norm", -0.5),
        ("clip_norm", float("nan")),
        ("record_every", 0),
        ("probe_every", -1),
        ("checkpoint_every", 0),
    ],
)
def test_settings_that_cannot_be_used(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"'train\.{name}': expected (at least|a finite number).*, found {value!r}"):
        SupernetTrainer.Config(**{"steps": 10, name: value})  # type: ignore[arg-type]
