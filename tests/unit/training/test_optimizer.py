"""Parameter groups, schedule, clipping and losses, against their definitions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from glorasearch.adapters import offered_choices
from glorasearch.space import LayerShape, SearchSpace
from glorasearch.supernet import Supernet
from glorasearch.tasks import CLASSIFY
from glorasearch.training import TrainingConfig
from glorasearch.training.optimizer import SPECTRUM_SHARE, SupernetOptimizer, lr_scale, peak_rates

MakeSupernet = Callable[..., Supernet]


def optimizer_of(supernet: Supernet, weight_decay: float = 0.0) -> SupernetOptimizer:
    optimizer = SupernetOptimizer(supernet, {"factor": 0.1, "vector": 0.01, "head": 0.001}, weight_decay=weight_decay)
    optimizer.set_lr(1.0)
    return optimizer


def trained(supernet: Supernet) -> dict[str, torch.nn.Parameter]:
    return supernet.adapter_parameters() | supernet.head_parameters()


def expected_lr(name: str) -> float:
    if name.startswith("head"):
        return 0.001
    return 0.1 if name.endswith((".down", ".up")) else 0.01


def test_groups_have_their_own_learning_rates(make_supernet: MakeSupernet) -> None:
    """The first step of Adam moves every element by the learning rate, against the sign of its gradient."""
    supernet = make_supernet()
    optimizer = optimizer_of(supernet)
    before = {name: parameter.detach().clone() for name, parameter in trained(supernet).items()}
    for parameter in trained(supernet).values():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    names = {name.rpartition(".")[2] for name in before}
    assert names == {"down", "up", "vector", "constant", "weight", "bias"}
    for name, parameter in trained(supernet).items():
        moved = before[name] - parameter.detach()
        assert moved.numpy() == pytest.approx(expected_lr(name), rel=1e-3), name


def test_what_was_not_drawn_is_not_touched(make_supernet: MakeSupernet) -> None:
    """No gradient: no step, no decay, no moments."""
    supernet = make_supernet()
    optimizer = optimizer_of(supernet, weight_decay=0.5)
    before = {name: parameter.detach().clone() for name, parameter in trained(supernet).items()}
    drawn = "blocks.0.attn.qkv.A.up"
    trained(supernet)[drawn].grad = torch.ones_like(trained(supernet)[drawn])
    optimizer.step()
    changed = {name for name, parameter in trained(supernet).items() if not torch.equal(parameter, before[name])}
    assert changed == {drawn}
    assert {name.rpartition("/")[0] for name in optimizer.state()} == {drawn}
    moved = before[drawn] - trained(supernet)[drawn].detach()
    assert torch.allclose(moved, 0.1 + 0.1 * 0.5 * before[drawn], atol=1e-6), "decay is decoupled"


@pytest.mark.parametrize("max_norm", [0.0, 0.5, 1e6])
def test_clipping(make_supernet: MakeSupernet, max_norm: float) -> None:
    supernet = make_supernet()
    optimizer = optimizer_of(supernet)
    assert optimizer.clip(max_norm) == 0
    some = list(trained(supernet).values())[:4]
    for parameter in some:
        parameter.grad = torch.full_like(parameter, 2.0)
    norm = 2.0 * sum(parameter.numel() for parameter in some) ** 0.5
    assert float(optimizer.clip(max_norm)) == pytest.approx(norm)
    after = torch.cat([parameter.grad.flatten() for parameter in some if parameter.grad is not None]).norm()
    assert float(after) == pytest.approx(min(norm, max_norm or norm), rel=1e-4)


def test_state_round_trip_goes_on_with_the_same_bits(make_supernet: MakeSupernet) -> None:
    supernets = [make_supernet(), make_supernet()]
    optimizers = [optimizer_of(supernet) for supernet in supernets]

    def step(index: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for parameter in trained(supernets[index]).values():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizers[index].step()

    step(0, 1)
    supernets[1].load_adapter_state(supernets[0].adapter_state())
    optimizers[1].load_state(optimizers[0].state())
    step(0, 2)
    step(1, 2)
    assert all(
        torch.equal(value, supernets[1].adapter_state()[name]) for name, value in supernets[0].adapter_state().items()
    )
    assert all(torch.equal(value, optimizers[1].state()[name]) for name, value in optimizers[0].state().items())


def test_schedule() -> None:
    """Linear from 1/(warm-up + 1) to 1, then half a cosine that would reach 0 after the last step."""
    factors = [lr_scale(step, 100, 9) for step in range(100)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert max(factors) == factors[9] == 1.0
    assert factors[9:] == sorted(factors[9:], reverse=True)
    assert factors[9 + 91 // 2] == pytest.approx(0.5, abs=0.02)
    assert 0 < factors[-1] < 0.001
    assert lr_scale(0, 1, 0) == 1.0
    assert [lr_scale(step, 3, 5) for step in range(3)] == pytest.approx([1 / 6, 2 / 6, 3 / 6])


def test_label_smoothing() -> None:
    logits = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    logs = logits.float().log_softmax(-1)
    sharp = -logs[torch.arange(6), labels].mean()
    even = -logs.mean(-1).mean()
    assert float(CLASSIFY.label_loss(logits, labels, 0.0)) == pytest.approx(float(sharp))
    assert float(CLASSIFY.label_loss(logits, labels, 0.3)) == pytest.approx(float(0.7 * sharp + 0.3 * even))


def test_distillation_is_smallest_at_the_teacher() -> None:
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    teacher = logits.softmax(-1)
    entropy = -(teacher * teacher.log()).sum(-1).mean()
    assert float(CLASSIFY.distillation_loss(logits, teacher)) == pytest.approx(float(entropy), rel=1e-5)
    assert CLASSIFY.distillation_loss(logits + torch.eye(6, 4), teacher) > entropy


def test_a_spectrum_of_every_size_moves_its_weight_as_far() -> None:
    """An entry moves by rate · α / size: the same share of a factor's rate for any size, unless a rate is given."""
    layers = [LayerShape("a.qkv", 8, 24), LayerShape("a.proj", 8, 8), LayerShape("a.fc1", 8, 32)]
    content = {"name": "x", "layers": {"include": ["*"]}, "options": {"fourier": {"scale": 20.0}}}
    group = {"layers": ["*.qkv"], "B": ["fourier_qv:4"]}
    space = SearchSpace.from_dict(content | {"choices": {"B": ["fourier:4"]}, "groups": [group]}).bind(layers)
    sizes = {"a.qkv": 8 * 8 / 300, "a.proj": 8 * 8 / 20, "a.fc1": 8 * 32 / 20}
    peaks = peak_rates(space, TrainingConfig(lr=1e-2))
    for gene in space.genes:
        (name, offered), *_ = offered_choices(space, gene).items()
        (part,) = offered.parts.values()
        assert peaks[part.rate] == pytest.approx(SPECTRUM_SHARE * 1e-2 * sizes[gene.layer], rel=1e-5), name
    given = peak_rates(space, TrainingConfig(lr=1e-2, spectrum_lr=0.5))
    assert [rate for group, rate in given.items() if group.startswith("spectrum")] == [0.5] * 3
