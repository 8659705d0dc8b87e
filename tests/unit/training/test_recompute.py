"""Activations that are computed again: the same bits, fewer bytes, and chosen where a step would not fit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import timm
import torch
from support.data import few_digits
from support.models import randomise, tiny_vit
from support.stacks import double, members_of, space_of
from support.training import STRATEGIES, FastTrainer, state_of
from torch import Tensor, nn

from glorasearch.data import SearchData
from glorasearch.errors import ConfigError
from glorasearch.fused import FusedStep, StepConfig
from glorasearch.fused.compiling import compile_blocks
from glorasearch.recompute import blocks_of, recompute_blocks, recomputing
from glorasearch.space import SearchSpace
from glorasearch.stacked import StackedTrainer
from glorasearch.supernet import Supernet
from glorasearch.tasks import CLASSIFY
from glorasearch.training import SupernetTrainer, Uniform
from glorasearch.training.memory import kept_by

FORMS = ["none", "constant", "vector", "lora:1", "lora:2"]
SPACE = SearchSpace.from_dict({"name": "tiny", "choices": {"A": FORMS, "B": FORMS, "E": ["none", "vector"]}})
GIB = 2**30


@pytest.fixture
def data() -> SearchData:
    return few_digits()


def trained(
    kind: type[SupernetTrainer], data: SearchData, strategy: str, *, drop_path: float = 0.0, **given: Any
) -> tuple[float, dict[str, Tensor]]:
    """Loss and weights after some steps."""
    backbone = tiny_vit(drop_path_rate=drop_path)
    if kind is SupernetTrainer:  # the fused step takes float32 here
        backbone = double(backbone)
    supernet = randomise(Supernet(backbone, SPACE))
    config = SupernetTrainer.Config(steps=5, batch_size=8, warmup_steps=1, lr=1e-2, **given)
    result = kind(supernet, data.train, STRATEGIES[strategy](supernet), config).run()
    return result.loss, state_of(supernet)


def same(first: tuple[float, dict[str, Tensor]], second: tuple[float, dict[str, Tensor]]) -> bool:
    return first[0] == second[0] and all(torch.equal(value, second[1][name]) for name, value in first[1].items())


@pytest.mark.parametrize("strategy", list(STRATEGIES))
@pytest.mark.parametrize(
    "given",
    [{}, {"drop_path": 0.3}, {"dropout": 0.3}, {"drop_path": 0.3, "augment": "strong", "mixup": 0.5}, {"ranks": 2}],
    ids=["plain", "drop path", "dropout", "drop path, augmented", "ranks"],
)
def test_the_plain_step_has_the_same_bits(data: SearchData, strategy: str, given: dict[str, Any]) -> None:
    kept, again = (trained(SupernetTrainer, data, strategy, recompute=how, **given) for how in ("off", "on"))
    assert same(kept, again)
    if "drop_path" in given or ("dropout" in given and strategy != "fixed"):
        assert not same(kept, trained(SupernetTrainer, data, strategy))


@pytest.mark.parametrize("strategy", list(STRATEGIES))
@pytest.mark.parametrize("given", [{}, {"ranks": 2}, {"augment": "light"}])
def test_the_fused_step_has_the_same_bits(data: SearchData, strategy: str, given: dict[str, Any]) -> None:
    kept, again = (trained(FastTrainer, data, strategy, recompute=how, **given) for how in ("off", "on"))
    assert same(kept, again)


def test_the_fused_step_gives_way_to_the_plain_one_where_the_model_drops(
    data: SearchData, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ConfigError, match=r"set compile to auto or off, or train.recompute to off"):
        trained(FastTrainer, data, "uniform", drop_path=0.3, recompute="on")
    monkeypatch.setattr(FastTrainer, "strict", False)
    found = trained(FastTrainer, data, "uniform", drop_path=0.3, recompute="on")
    assert "what drops at random is not computed again in a captured step" in caplog.text
    monkeypatch.setattr(FastTrainer, "_make_step", SupernetTrainer._make_step)
    assert same(found, trained(FastTrainer, data, "uniform", drop_path=0.3))


def test_a_fused_step_in_float64_has_the_same_bits() -> None:
    kept, again = (randomise(Supernet(tiny_vit().double(), SPACE)).train() for _ in range(2))
    loss = partial(CLASSIFY.subnet_loss, smoothing=0.1, weights=None)
    steps = [
        FusedStep(one, StepConfig(dtype=torch.float64), loss=loss, teacher=CLASSIFY.teacher_of) for one in (kept, again)
    ]
    steps[1].recompute()
    images, labels = torch.randn(8, 1, 14, 14, dtype=torch.float64), torch.arange(8)
    for number in range(4):
        subnets = [each.subnet for each in Uniform(kept.space, 0).sample(number)]
        first, second = (step.run(subnets, images, labels, {"factor": 1e-2, "vector": 1e-2}) for step in steps)
        assert torch.equal(first, second)
    assert all(torch.equal(value, again.adapter_state()[name]) for name, value in kept.adapter_state().items())


def engine(data: SearchData, side_by_side: bool, drop_path: float, **given: Any) -> StackedTrainer:
    backbone = double(tiny_vit(drop_path_rate=drop_path))
    members = members_of(backbone, space_of(backbone), len(data.train), 4, drop_path=drop_path, **given)
    return StackedTrainer(backbone, members, data.train, side_by_side=side_by_side)


@pytest.mark.parametrize("side_by_side", [True, False])
@pytest.mark.parametrize("drop_path", [0.0, 0.3])
def test_a_stack_has_the_same_bits(data: SearchData, side_by_side: bool, drop_path: float) -> None:
    kept, again = (engine(data, side_by_side, drop_path, recompute=how) for how in ("off", "on"))
    assert kept.kind == ("side by side" if side_by_side else "one by one")
    assert torch.equal(kept.run().loss, again.run().loss)
    for number in range(4):
        expected, found = kept.state(number), again.state(number)
        assert all(torch.equal(value, found[name]) for name, value in expected.items())


def wide() -> Supernet:
    """Of six blocks, whose activations outweigh all weights."""
    return Supernet(tiny_vit(depth=6, embed_dim=48, num_heads=3, img_size=56), SPACE)


def test_the_estimate_is_what_is_kept() -> None:
    supernet, images = wide().train(), torch.randn(8, 1, 56, 56)

    def run(again: bool) -> Tensor:
        largest = supernet.space.largest()
        with recomputing(supernet) if again else nullcontext(), supernet.activate(largest):
            logits: Tensor = supernet(images)
        return logits

    whole, less = kept_by(supernet, lambda: run(False)), kept_by(supernet, lambda: run(True))
    assert whole.blocks == 6
    assert less.whole < whole.again < whole.whole / 3, "outside of blocks; with their inputs and the largest; all"
    assert kept_by(supernet, lambda: run(False)) == whole
    seen = torch.random.get_rng_state()
    kept_by(supernet, lambda: run(False))
    assert torch.equal(torch.random.get_rng_state(), seen)
    assert not any("forward" in block.__dict__ for block in blocks_of(supernet))


def chosen(data: SearchData, caplog: pytest.LogCaptureFixture, **given: Any) -> str:
    """What a training says that may take so much."""
    caplog.clear()
    trained(SupernetTrainer, data, "uniform", **given)
    return caplog.text


def test_it_is_chosen_where_a_step_does_not_fit(data: SearchData, caplog: pytest.LogCaptureFixture) -> None:
    assert chosen(data, caplog) == "", "no limit on a CPU"
    assert chosen(data, caplog, memory_gib=1.0) == ""
    assert chosen(data, caplog, memory_gib=1e-6, recompute="off") == ""
    said = chosen(data, caplog, memory_gib=1e-6)
    assert "the activations of its 2 blocks are computed again in the backward pass" in said
    assert "the numbers are the same (train.recompute); that may not suffice: set a smaller batch_size" in said
    assert same(trained(SupernetTrainer, data, "uniform", memory_gib=1e-6), trained(SupernetTrainer, data, "uniform"))


def test_it_is_chosen_between_what_is_kept_and_what_suffices(caplog: pytest.LogCaptureFixture) -> None:
    from glorasearch.training.memory import fit_step

    class Step:
        recomputes = False

        def recompute(self) -> None:
            self.recomputes = True

    def choose(gib: float, batch: int) -> bool:
        config = SupernetTrainer.Config(batch_size=batch, memory_gib=gib)
        step, supernet = Step(), wide().train()
        assert fit_step(step, supernet, config, torch.randn(2, 1, 56, 56)) == step.recomputes
        return step.recomputes

    supernet = wide().train()
    with supernet.activate(supernet.space.largest()):
        images = [torch.randn(count, 1, 56, 56) for count in (1, 2)]
        one, two = (kept_by(supernet, lambda some=some: supernet(some)).whole for some in images)
    need = one + 63 * (two - one)
    assert choose(need / 2 / GIB, 64)
    assert "may not suffice" not in caplog.text
    assert not choose(need / 2 / GIB, 16)
    assert not choose(2 * need / GIB, 64)


def test_a_model_without_repeated_blocks_says_so(caplog: pytest.LogCaptureFixture) -> None:
    from support.models import Layers

    data = few_digits()
    model = Layers({"flat": nn.Flatten(), "a": nn.Linear(196, 12)}, nn.Linear(12, 10), calls_head=True)
    supernet = Supernet(model, SearchSpace.from_dict({"name": "a", "choices": {"B": ["lora:2"]}}))
    config = SupernetTrainer.Config(steps=1, batch_size=8, memory_gib=1e-9)
    SupernetTrainer(supernet, data.train, STRATEGIES["uniform"](supernet), config).run()
    assert "this model has no repeated blocks" in caplog.text


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "convnext_atto"])
def test_compiled_blocks_are_computed_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block is compiled alone, with a backend that needs no compiler here."""
    compiled: list[str] = []

    def compile(module: nn.Module, **options: Any) -> None:
        compiled.append(type(module).__name__)
        known(module, backend="aot_eager", **options)

    known: Callable[..., None] = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", compile)
    size = {"img_size": 64} if name.startswith(("vit", "swin")) else {}
    size["drop_path_rate"] = 0
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5, **size).requires_grad_(True)
    images = torch.randn(2, 3, 64, 64)
    model(images).square().sum().backward()
    wanted = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
    model.zero_grad()
    torch._dynamo.reset()
    try:
        count = compile_blocks(model)
        before = kept_by(model, lambda: model(images))
        assert recompute_blocks(model) == count == before.blocks > 1
        after = kept_by(model, lambda: model(images))
        model(images).square().sum().backward()
    finally:
        torch._dynamo.reset()
    assert "_Recomputed" not in compiled
    assert after.whole < before.whole
    found = {name.replace(".stack.", ".").replace(".block.", "."): value for name, value in model.named_parameters()}
    for key, value in wanted.items():
        torch.testing.assert_close(found[key].grad, value, rtol=1e-3, atol=1e-4)
