"""What people train in glorasearch's place: full fine-tuning, PEFT's LoRA, GLoRA as it is published; and the floor."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence

import peft
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glorasearch.adapters import AdaptedLayer
from glorasearch.fused.bank import storages
from glorasearch.space import SUPPORT_TENSORS, Subnet
from glorasearch.supernet import Supernet


def full(backbone: nn.Module, *, frozen: torch.dtype, trained: torch.dtype) -> nn.Module:
    """Everything is trained, so `frozen` has no meaning."""
    del frozen
    return copy.deepcopy(backbone).requires_grad_(True).to(trained)


def biases(backbone: nn.Module, *, frozen: torch.dtype, trained: torch.dtype) -> nn.Module:
    """The head, and the biases of the blocks' linear layers; the floor of whatever adapts these layers."""
    model = copy.deepcopy(backbone).requires_grad_(False).to(frozen)
    for name, module in list(model.named_modules()):
        if type(module) is nn.Linear:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, _Biased(module, trained, whole=name == "head"))
    return model


class _Biased(nn.Module):
    def __init__(self, linear: nn.Linear, trained: torch.dtype, *, whole: bool) -> None:
        super().__init__()
        weight = linear.weight.detach()
        self.weight = nn.Parameter(weight.to(trained) if whole else weight, requires_grad=whole)
        self.bias = nn.Parameter(linear.bias.detach().to(trained))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


def lora(
    backbone: nn.Module, layers: Sequence[str], *, frozen: torch.dtype, trained: torch.dtype, head: str = "head"
) -> nn.Module:
    """PEFT's LoRA of rank 4 on some layers, and a trained head; the frozen weights in `frozen`."""
    config = peft.LoraConfig(r=4, lora_alpha=4, target_modules=list(layers), modules_to_save=[head])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: nn.Module = peft.get_peft_model(copy.deepcopy(backbone).to(frozen), config)
    found = sum(isinstance(module, peft.tuners.lora.Linear) for module in model.modules())
    if found != len(layers):
        raise RuntimeError(f"PEFT adapts {found} layers in place of {len(layers)}")
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(trained)
    return model


class PublishedGlora(nn.Module):
    """GLoRA's arithmetic as its paper has it (arXiv 2306.07967): every step forms each layer's weight and bias,

        W = W0 + W0 ⊙ A + B    b = b0 + b0 ⊙ D + E + W0·C

    and autograd carries the weight's dense gradient back. `static` computes every form of every support tensor, with
    gates that make those zero that are not drawn, so that one computation serves all subnets and can be compiled;
    otherwise only what is drawn is computed, as published.
    """

    def __init__(
        self, supernet: Supernet, *, static: bool, frozen: torch.dtype = torch.float32, trained: torch.dtype
    ) -> None:
        """Takes copies of a supernet's storages, so that it computes what that does."""
        super().__init__()
        memo: dict[int, object] = {}
        self.layers: dict[str, _Published] = {}
        for name, layer in supernet.adapted.items():
            self.layers[name] = memo[id(layer)] = _Published(layer, static, frozen, trained)
        self._gates = torch.stack([layer.gates for layer in self.layers.values()])
        for layer, gates in zip(self.layers.values(), self._gates, strict=True):
            layer.gates = gates
        self.model = copy.deepcopy(supernet.model, memo)
        own = {id(parameter) for layer in self.layers.values() for parameter in layer.parameters()}
        for name, parameter in self.model.named_parameters():
            if id(parameter) not in own:
                head = name.split(".")[0] == "head"
                parameter.data = parameter.data.to(trained if head else frozen)
                parameter.requires_grad_(head)

    def draw(self, subnet: Subnet) -> None:
        """Be this subnet from now on; does not wait for a GPU."""
        rows = []
        for name, layer in self.layers.items():
            layer.choices = dict(zip(SUPPORT_TENSORS, subnet.layer(name), strict=True))
            rows.append(layer.gates_of(layer.choices))
        table = torch.tensor(rows, dtype=self._gates.dtype)
        self._gates.copy_(table.pin_memory() if self._gates.is_cuda else table, non_blocking=True)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.model(images)
        return logits


class _Published(nn.Module):
    def __init__(self, layer: AdaptedLayer, static: bool, frozen: torch.dtype, trained: torch.dtype) -> None:
        super().__init__()
        self.base, self.base_bias = layer.base.weight.detach().to(frozen), layer.base.bias.detach().to(frozen)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self._static = static
        self.parts = nn.ParameterDict(
            {
                f"{tensor}_{part}": value.detach().to(trained, copy=True)
                for (tensor, part), value in storages(layer).items()
            }
        )
        self.ranks = {t: self.parts[f"{t}_down"].shape[1] if f"{t}_down" in self.parts else 0 for t in SUPPORT_TENSORS}
        self.choices: dict[str, str] = dict.fromkeys(SUPPORT_TENSORS, "none")
        self.gates = torch.zeros(5, 2 + max(self.ranks.values()), device=self.base.device, dtype=trained)

    def gates_of(self, choices: dict[str, str]) -> list[list[float]]:
        """For A to E whether a constant and a vector are drawn, and a one for each rank that is."""
        rows = []
        for choice in choices.values():
            name, _, rank = choice.partition(":")
            ranks = [float(name == "lora" and number < int(rank or 0)) for number in range(self.gates.shape[1] - 2)]
            rows.append([float(name == "constant"), float(name == "vector"), *ranks])
        return rows

    def _every(self, tensor: str, *, column: bool) -> Tensor:
        """All forms of a support tensor, gated; a vector as a column, or as it is."""
        gate = self.gates[SUPPORT_TENSORS.index(tensor)]
        found: Tensor | float = 0.0
        if f"{tensor}_constant" in self.parts:
            found = found + gate[0] * self.parts[f"{tensor}_constant"]
        if f"{tensor}_vector" in self.parts:
            found = found + gate[1] * self.parts[f"{tensor}_vector"]
        found = found[:, None] if column and isinstance(found, Tensor) else found
        if rank := self.ranks[tensor]:
            product = (self.parts[f"{tensor}_down"] * gate[2 : 2 + rank]) @ self.parts[f"{tensor}_up"]
            found = found + (product if column else product.squeeze(-1))
        assert isinstance(found, Tensor)
        return found

    def _drawn(self, tensor: str, *, column: bool) -> Tensor | float:
        """The drawn form of a support tensor."""
        name, _, rank = self.choices[tensor].partition(":")
        if name == "none":
            return 0.0
        if name == "lora":
            product = self.parts[f"{tensor}_down"][:, : int(rank)] @ self.parts[f"{tensor}_up"][: int(rank)]
            return product if column else product.squeeze(-1)
        line: Tensor = self.parts[f"{tensor}_{name}"]
        return line[:, None] if column else line

    def forward(self, x: Tensor) -> Tensor:
        of = self._every if self._static else self._drawn
        a, b = of("A", column=True), of("B", column=True)
        c, d, e = (of(tensor, column=False) for tensor in "CDE")
        weight = self.base + self.base * a + b
        bias = self.base_bias + self.base_bias * d + e
        if isinstance(c, Tensor):
            bias = bias + self.base @ c.to(self.base.dtype)
        return F.linear(x, weight.to(x.dtype), bias.to(x.dtype))
