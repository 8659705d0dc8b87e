"""What a supernet refuses, what it leaves as it is, and the state that it gives and takes."""

from __future__ import annotations

import re
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from glorasearch.adapters import adaptable_layers
from glorasearch.errors import BackboneError, WeightStoreError
from glorasearch.space import SearchSpace, Subnet
from glorasearch.supernet import Supernet

PLAIN: dict[str, Any] = {
    "img_size": 28,
    "patch_size": 14,
    "embed_dim": 24,
    "depth": 2,
    "num_heads": 3,
    "in_chans": 1,
    "num_classes": 5,
}


def space(**content: Any) -> SearchSpace:
    choices = {"A": ["none", "vector", "lora:2"], "B": ["none", "lora:2"], "E": ["none", "constant", "vector"]}
    return SearchSpace.from_dict({"name": "mine", "layers": {"include": ["*"]}, "choices": choices} | content)


def vit(**arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = timm.create_model("vit_tiny_patch16_224", **PLAIN | arguments)
    return model.eval()


def images(size: int = 28) -> Tensor:
    return torch.randn(2, 1, size, size, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def active(supernet: Supernet, subnet: Subnet) -> Tensor:
    with supernet.activate(subnet):
        logits: Tensor = supernet(images())
    return logits


class Normed(nn.Module):
    """A model with batch norm, which timm's transformers do not have."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 8)
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, 5)

    def get_classifier(self) -> nn.Module:
        return self.head

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.drop(self.norm(self.fc(x.flatten(1)))))
        return logits


def test_a_layer_that_is_never_called_is_refused() -> None:
    backbone = vit()
    backbone.add_module("unused", nn.Linear(4, 4))
    supernet = Supernet(backbone, space())
    with pytest.raises(BackboneError, match=r"never uses unused: .*layers\.exclude"):
        supernet.check_reached(images())


def test_the_check_leaves_no_trace() -> None:
    supernet = Supernet(vit(), space())
    state = {key: value.clone() for key, value in supernet.state_dict().items()}
    outside = supernet(images())
    for mode in (True, False):
        supernet.train(mode)
        supernet.check_reached(images())
        assert all(module.training == mode for module in supernet.modules())
    assert torch.equal(supernet(images()), outside)
    assert all(torch.equal(value, state[key]) for key, value in supernet.state_dict().items())


def test_what_was_found_in_order_is_not_looked_at_again() -> None:
    supernet = Supernet(vit(), space())
    calls: list[int] = []
    supernet.model.register_forward_hook(lambda *_: calls.append(1))
    supernet.check_reached(images())
    once = len(calls)
    supernet.check_reached(images())
    assert len(calls) == once > 0


@pytest.mark.parametrize("mode", [True, False])
def test_a_supernet_starts_in_the_mode_of_its_backbone(mode: bool) -> None:
    backbone = vit()
    supernet = Supernet(backbone.train(mode), space())
    assert all(module.training == mode for module in supernet.modules())
    supernet.check_reached(images())
    assert all(module.training == mode for module in supernet.modules())


def test_batch_norm_stays_frozen_in_training() -> None:
    torch.manual_seed(0)
    backbone = Normed()
    backbone.norm.running_mean = torch.randn(8)
    supernet = Supernet(backbone, space(choices={"B": ["none", "lora:2"]})).train()
    before = {key: value.clone() for key, value in supernet.frozen_state().items()}
    with supernet.activate(supernet.space.largest()):
        first, second = (supernet(torch.ones(6, 1, 4, 4)) for _ in range(2))
    assert not torch.equal(first, second), "dropout is on"
    after = supernet.frozen_state()
    assert {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked", "fc.weight"} <= set(after)
    assert all(torch.equal(value, before[key]) for key, value in after.items())


def test_frozen_names_are_exact_even_where_the_backbone_uses_our_words() -> None:
    class Awkward(Normed):
        def __init__(self) -> None:
            super().__init__()
            self.base = nn.Sequential(nn.Linear(16, 16))
            self.support = nn.Sequential(nn.Linear(16, 16))

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(self.support(self.base(x.flatten(1))))

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base = nn.Sequential(Awkward())

        def get_classifier(self) -> nn.Module:
            return self.get_submodule("base.0.head")

    backbone = Wrapped().eval()
    supernet = Supernet(backbone, space(choices={"B": ["none", "lora:2"]}))
    assert set(supernet.adapted) == {"base.0.fc", "base.0.base.0", "base.0.support.0"}
    frozen = supernet.frozen_state()
    assert set(frozen) == {key for key in backbone.state_dict() if ".head." not in key}
    for key, value in frozen.items():
        assert torch.equal(value, backbone.state_dict()[key])


def test_adapter_state_round_trip() -> None:
    backbone = vit()
    trained, fresh = Supernet(backbone, space(), seed=0), Supernet(backbone, space(), seed=1)
    with torch.no_grad():
        for parameter in (trained.adapter_parameters() | trained.head_parameters()).values():
            parameter.normal_(std=0.1)
    state = trained.adapter_state()
    assert not any(tensor.requires_grad for tensor in state.values())
    fresh.load_adapter_state(state)
    assert not {tensor.data_ptr() for tensor in state.values()} & {
        tensor.data_ptr() for tensor in fresh.adapter_state().values()
    }
    for subnet in (trained.space.smallest(), trained.space.largest()):
        assert torch.equal(active(fresh, subnet), active(trained, subnet))


@pytest.mark.parametrize("name", ["lean", "everything", "wegeft", "lora_tsd", "glora_medium"])
def test_a_supernet_knows_the_start_of_another_seed(name: str) -> None:
    """Bit for bit that of a new one, with parts that groups share, parts that are not trained, and numbers of draws."""
    backbone = vit()
    used, fresh = Supernet(backbone, SearchSpace.load(name), seed=0), Supernet(backbone, SearchSpace.load(name), seed=7)
    with torch.no_grad():
        for parameter in used.adapter_state().values():
            parameter.fill_(3)
    used.warm_ups.step([used.space.largest()])
    before = {name: value.clone() for name, value in used.adapter_state().items()}
    found = used.start_state(7)
    assert all(torch.equal(value, before[name]) for name, value in used.adapter_state().items())
    expected = fresh.adapter_state()
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert found[key].dtype == value.dtype
        assert torch.equal(found[key], value), key


def test_adapter_state_of_another_supernet_is_refused_whole() -> None:
    backbone = vit()
    supernet = Supernet(backbone, space())
    before = {key: value.clone() for key, value in supernet.adapter_state().items()}
    good = {key: value + 1 for key, value in before.items()}
    first, second, third = (f"blocks.0.attn.qkv.A.{part}" for part in ("down", "up", "vector"))
    damaged = [
        ({key: value for key, value in good.items() if key != first}, f"(1 differences): {first} is missing"),
        (good | {"elsewhere.A.down": good[first]}, "(1 differences): elsewhere.A.down is not known"),
        (good | {second: good[second][:-1]}, f"{second} has shape (1, 24), expected (2, 24)"),
        ({key: value for key, value in good.items() if key not in (first, second, third)}, "(3 differences)"),
    ]
    for state, said in damaged:
        with pytest.raises(WeightStoreError, match=re.escape(said)):
            supernet.load_adapter_state(state)
        assert all(torch.equal(value, before[key]) for key, value in supernet.adapter_state().items())
    with pytest.raises(WeightStoreError, match="another supernet"):
        supernet.load_adapter_state(Supernet(backbone, space(choices={"B": ["lora:4"]})).adapter_state())


def test_models_that_cannot_be_adapted() -> None:
    headless = vit(num_classes=0)
    with pytest.raises(BackboneError, match=r"VisionTransformer has no classifier head; .* num_classes"):
        Supernet(headless, space())
    with pytest.raises(BackboneError, match=r"Sequential has no get_classifier\(\): a timm model is needed"):
        Supernet(nn.Sequential(nn.Linear(3, 3)), space())


def test_a_space_bound_to_another_backbone_is_refused() -> None:
    wide = vit(embed_dim=48)
    backbone = vit()
    with pytest.raises(BackboneError, match="bind it again"):
        Supernet(backbone, space().bind(adaptable_layers(wide)))
