"""The arithmetic that benches say a step has is what torch counts of it, and a card's peak is found by its name."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from glorasearch.space import SearchSpace, sample
from glorasearch.supernet import Supernet

BATCH, CLASSES = 3, 7


def tiny() -> nn.Module:
    torch.manual_seed(0)
    arguments = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3, "num_classes": CLASSES}
    return timm.create_model("vit_tiny_patch16_224", **arguments)


def counted(model: nn.Module, *, backward: bool) -> int:
    """FLOP of a step by torch's own counter, attention as its plain products."""
    images, labels = torch.randn(BATCH, 3, 32, 32), torch.zeros(BATCH, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        logits = model(images)
        if backward:
            F.cross_entropy(logits, labels).backward()
    return counter.get_total_flops()


def work(benches: object) -> object:
    return benches("arithmetic").work_of(tiny())


def test_a_forward_pass(benches) -> None:
    with torch.no_grad():
        assert counted(tiny(), backward=False) == BATCH * work(benches).forward


def test_a_step_of_biases_and_head(benches) -> None:
    model = tiny()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("head") or (name.endswith("bias") and ".norm" not in name))
    model.patch_embed.requires_grad_(False)
    model.norm.requires_grad_(False)
    assert counted(model, backward=True) == BATCH * work(benches).biases


def test_a_step_of_everything(benches) -> None:
    assert counted(tiny(), backward=True) == BATCH * work(benches).full


def test_a_step_of_lora(benches) -> None:
    import peft

    config = peft.LoraConfig(
        r=4, lora_alpha=4, target_modules=["qkv", "proj", "fc1", "fc2"], exclude_modules="patch_embed.proj",
        modules_to_save=["head"],
    )  # fmt: skip
    model = peft.get_peft_model(tiny(), config)
    assert counted(model, backward=True) == BATCH * work(benches).lora(4)


def test_dense_gradients_are_those_of_layers_whose_choices_need_them(benches) -> None:
    """Products of A or B need it, and a scale where the layer does not widen; nothing else does."""
    arithmetic = benches("arithmetic")
    supernet = Supernet(tiny().eval(), SearchSpace.load("glora_medium"))
    rng = np.random.default_rng(0)
    for net in [sample(supernet.space, rng) for _ in range(5)]:
        expected = 0
        for name, layer in supernet.adapted.items():
            a, b, *_ = (choice.split(":")[0] for choice in net.layer(name))
            square = layer.in_features == layer.out_features
            if "lora" in (a, b) or (a in ("vector", "constant") and square):
                expected += layer.base.weight.numel()
        assert arithmetic.dense_elements(supernet, [net]) == expected > 0


def test_another_kind_of_model_is_refused(benches) -> None:
    with pytest.raises(ValueError, match="vision transformers only"):
        benches("arithmetic").work_of(nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA H200", 989.4),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA A100 80GB PCIe", 312.0),
        ("NVIDIA A10G", 70.0),
        ("NVIDIA L4", 121.0),
        ("NVIDIA L40S", 362.1),
        ("NVIDIA GeForce GTX 1080", None),
        (None, None),
    ],
)
def test_a_cards_peak_by_its_name(benches, name: str | None, tera: float | None) -> None:
    found = benches("peaks").peak_of(name)
    assert found == (None if tera is None else pytest.approx(tera * 1e12))


def test_a_row_says_its_share_of_the_peak(benches, capsys) -> None:
    """Ten TFLOP in 20 ms are half of 989.4 TFLOP/s; where the card is unknown nothing is said."""
    table: ModuleType = benches("table")
    row = table.Row(what="a", measured=20.0, unit="ms", flops=9.894e12, reference=10.0, reference_flops=1.9788e12)
    assert row.shares(989.4e12) == (pytest.approx(0.5), pytest.approx(0.2))
    assert row.shares(None) == (None, None)
    table.print_table([row], peak=989.4e12)
    assert "0.50 (0.20)" in capsys.readouterr().out
    table.print_table([row], peak=None)
    assert "peak" not in capsys.readouterr().out
