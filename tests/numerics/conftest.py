"""Layers of every form under a supernet, and the equations of all choices written down once more, naively.

Nothing here asks the classes of `glorasearch.choices` for arithmetic: parts are read as they are stored, cut by hand,
and every product is made dense.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.data import few_digits
from support.models import Layers, tiny_vit
from support.stacks import double
from torch import Tensor, nn

from glorasearch.adapters import AdaptedLayer
from glorasearch.choices.fourier import entries
from glorasearch.data import TrainSplit
from glorasearch.space import SUPPORT_TENSORS, SearchSpace, Subnet
from glorasearch.supernet import Supernet

FORMS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(7, 6),
    "linear without bias": lambda: nn.Linear(6, 9, bias=False),
    "qkv": lambda: nn.Linear(5, 15),
    "conv": lambda: nn.Conv2d(3, 6, 3, stride=2, padding=1),
    "conv with groups": lambda: nn.Conv2d(4, 6, (3, 2), groups=2, dilation=2, padding=(2, 1)),
    "depthwise": lambda: nn.Conv2d(6, 6, 3, groups=6, padding=2, bias=False),
    "circular": lambda: nn.Conv2d(3, 7, (2, 3), padding=(1, 2), padding_mode="circular", stride=(1, 2)),
    "same": lambda: nn.Conv2d(2, 5, (2, 3), padding="same", dilation=(3, 1)),
}
"""What a layer may be. All allow rank 3 and five directions."""

KINDS: dict[str, tuple[str, ...]] = {
    "A": (
        "none",
        "constant",
        "vector",
        "lora:1",
        "lora:3",
        "wegeft:1",
        "wegeft:3",
        "gain",
        "repadapter:1",
        "repadapter:3",
    ),
    "B": (
        *("none", "constant", "vector", "lora:1", "lora:3", "fourier:4", "fourier:17"),
        *("dash:1:2", "dash:3:5", "tsd_init:1", "tsd_init:3", "tsd:1:2", "tsd:3:5"),
        *("lora_qkv:1", "lora_qkv:3"),
    ),
    "C": ("none", "vector", "lora:1", "lora:3"),
    "D": ("none", "constant", "vector"),
    "E": ("none", "constant", "vector"),
}
OPTIONS: dict[str, dict[str, float]] = {
    "wegeft": {"scale": 0.7},
    "repadapter": {"scale": 0.6, "groups": 1},
    "fourier": {"scale": 20.0, "seed": 5},
    "dash": {"scale": 1.3, "warmup": 1},
    "tsd_init": {"scale": 2.1, "warmup": 1},
    "tsd": {"scale": 0.6, "warmup": 1},
}


class Bench:
    """Builds supernets of one layer, and says what they should compute."""

    forms, kinds, options = FORMS, KINDS, OPTIONS

    def build(
        self,
        form: str | nn.Module,
        choices: Mapping[str, Any] = KINDS,
        *,
        name: str = "",
        dtype: torch.dtype = torch.float64,
        options: Mapping[str, Mapping[str, float]] = OPTIONS,
        **content: Any,
    ) -> Supernet:
        """A supernet of one layer, which is called `qkv` if the form is and no other name is given."""
        torch.manual_seed(0)
        layer = FORMS[form]() if isinstance(form, str) else form
        name = name or ("qkv" if form == "qkv" else "layer")
        named: dict[str, Any] = {
            "name": "one",
            "layers": {"include": [name], "types": ["linear", "conv2d"]},
            "choices": {tensor: list(texts) for tensor, texts in choices.items()},
            "options": {kind: dict(values) for kind, values in options.items()},
        }
        return Supernet(Layers({name: layer}, nn.Linear(2, 2)).to(dtype), SearchSpace.from_dict(named | content))

    def layer(self, supernet: Supernet) -> AdaptedLayer:
        (layer,) = supernet.adapted.values()
        return layer

    def subnet(self, supernet: Supernet, choices: Mapping[str, str]) -> Subnet:
        """The subnet with these choices, `none` elsewhere."""
        return supernet.space.subnet(choices.get(gene.tensor, "none") for gene in supernet.space.genes)

    def singles(self, supernet: Supernet) -> Iterator[tuple[str, str, Subnet]]:
        """Every choice of every support tensor, alone."""
        for gene in supernet.space.genes:
            for text in gene.choices:
                yield gene.tensor, text, self.subnet(supernet, {gene.tensor: text})

    def images(self, supernet: Supernet, seed: int = 3) -> Tensor:
        base = self.layer(supernet).base
        generator = torch.Generator().manual_seed(seed)
        if isinstance(base, nn.Linear):
            shape: tuple[int, ...] = (2, 4, base.in_features)
        else:
            shape = (2, base.in_channels, 9, 8)
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(base.weight.dtype)

    def randomise(self, supernet: Supernet, seed: int = 1, std: float = 0.5) -> None:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in supernet.adapter_parameters().values():
                parameter.normal_(std=std, generator=generator)

    def settle(self, supernet: Supernet, steps: int = 1) -> None:
        """What `steps` optimiser steps that drew every kind of B do to the directions (warm-ups are of one step)."""
        texts = [text for gene in supernet.space.genes if gene.tensor == "B" for text in gene.choices]
        for _ in range(steps):
            supernet.warm_ups.step([self.subnet(supernet, {"B": text}) for text in texts])

    def active(self, supernet: Supernet, subnet: Subnet, x: Tensor) -> Tensor:
        with torch.no_grad(), supernet.activate(subnet):
            result: Tensor = supernet(x)
        return result

    def expected(
        self, layer: AdaptedLayer, choices: Mapping[str, str], options: Any = OPTIONS
    ) -> tuple[Tensor, Tensor]:
        """Weight `(out, in)` and bias `(out,)` by the equations."""
        W0 = layer.base.weight.detach().reshape(layer.out_features, layer.in_features)
        out, ins = W0.shape
        b0 = W0.new_zeros(out) if layer.base.bias is None else layer.base.bias.detach()
        sizes = {"A": (out, ins), "B": (out, ins), "C": (ins, 1), "D": (out, 1), "E": (out, 1)}
        GLora = {tensor: W0.new_zeros(sizes[tensor]) for tensor in SUPPORT_TENSORS}
        more = W0.new_zeros(out, ins)
        for tensor, text in choices.items():
            kind, *given = text.split(":")
            if kind == "none":
                continue
            p = {name: value.detach() for name, value in stored(layer, tensor).items()}
            if kind == "gain":
                GLora["A"], GLora["D"] = GLora["A"] + p["gain"][:, None], GLora["D"] + p["gain"][:, None]
            elif kind == "repadapter":
                change, prompt = repadapter(W0, p, options[kind], *map(int, given))
                more, GLora["C"] = more + change, GLora["C"] + prompt
            elif kind in ("constant", "vector", "lora"):
                GLora[tensor] = GLora[tensor] + glora(kind, list(map(int, given)), p)
            else:
                more = more + EQUATIONS[kind](W0, p, options.get(kind, {}), *map(int, given))
        W = W0 + W0 * GLora["A"] + GLora["B"] + more
        b = b0 + b0 * GLora["D"][:, 0] + GLora["E"][:, 0] + (W0 @ GLora["C"])[:, 0]
        return W, b

    def run(self, layer: AdaptedLayer, W: Tensor, b: Tensor, x: Tensor) -> Tensor:
        """The layer's function with a weight and a bias."""
        base = layer.base
        return x @ W.T + b if isinstance(base, nn.Linear) else convolve(base, W, b, x)


def stored(layer: AdaptedLayer, tensor: str) -> dict[str, Tensor]:
    """All parts of a support tensor, whole, by name; those of the group too."""
    support = layer.support_of(tensor)
    return dict(support.named_parameters()) | support._shared


def glora(kind: str, given: list[int], p: Mapping[str, Tensor]) -> Tensor:
    """Value of a GLoRA form; `vector` and `constant` read what they share where they have no storage of their own."""
    if kind == "lora":
        return p["down"][:, : given[0]] @ p["up"][: given[0], :]
    if kind in p:
        return p[kind][:, None]
    column = p["down"][:, 0] if "down" in p else p["vector"]
    return column[:, None] if kind == "vector" else column[0].reshape(1, 1)


def wegeft(W0: Tensor, p: Mapping[str, Tensor], o: Mapping[str, float], r: int) -> Tensor:
    return o["scale"] * (W0 @ (p["phi"][:, :r] @ p["psi"][:r, :]))


def repadapter(W0: Tensor, p: Mapping[str, Tensor], o: Mapping[str, float], r: int) -> tuple[Tensor, Tensor]:
    """What x + s·(U·(D·x + d) + u) in front of the layer adds to its weight, and the prompt `(in, 1)`."""
    groups = int(o["groups"])
    each = W0.shape[1] // groups
    up = W0.new_zeros(W0.shape[1], r)
    for unit in range(r):
        first = unit % groups * each
        up[first : first + each, unit] = p["rep_up"][unit]
    prompt = up @ p["rep_down_bias"][:r] + p["rep_up_bias"]
    return o["scale"] * (W0 @ up @ p["rep_down"][:r]), o["scale"] * prompt[:, None]


def lora_qkv(W0: Tensor, p: Mapping[str, Tensor], o: Mapping[str, float], r: int) -> Tensor:
    """One product for each of the stacked weights."""
    downs = p["qkv_down"][:, :r].chunk(len(p["qkv_up"]))
    return torch.cat([down @ up[:r] for down, up in zip(downs, p["qkv_up"], strict=True)])


def fourier(W0: Tensor, p: Mapping[str, Tensor], o: Mapping[str, float], n: int) -> Tensor:
    """`α · Re(ifft2(F))` of the whole spectrum."""
    out, ins = W0.shape
    seed = int(o.get("seed", 777))
    if o.get("centre", -1.0) < 0:
        order = torch.randperm(out * ins, generator=torch.Generator().manual_seed(seed)).tolist()
        places = [(index // ins, index % ins) for index in order[:n]]
    else:  # how they are drawn is a test of its own
        places = entries(out, ins, n, seed, o["centre"], o.get("width", 100.0)).T.tolist()
    spectrum = torch.zeros(out, ins, dtype=torch.complex128)
    for (j, k), c in zip(places, p["coefficients"], strict=False):
        spectrum[j, k] = c
    return o["scale"] * torch.fft.ifft2(spectrum).real


def dash(W0: Tensor, p: Mapping[str, Tensor], o: Mapping[str, float], r: int, k: int, own: str = "dash") -> Tensor:
    change = o["scale"] * (p[f"{own}_down"][:, :r] @ p[f"{own}_up"][:r, :])
    for i in range(k):
        change = change + p[f"{own}_gains"][i] * torch.outer(p[f"{own}_left"][:, i], p[f"{own}_right"][i, :])
    return change


def tsd_init(W0: Tensor, p: Mapping[str, Tensor], o: Mapping[str, float], r: int, own: str = "init") -> Tensor:
    removed = o["scale"] * (p[f"{own}_start_down"][:, :r] @ p[f"{own}_start_up"][:r, :])
    return o["scale"] * (p[f"{own}_down"][:, :r] @ p[f"{own}_up"][:r, :]) - removed


def tsd(W0: Tensor, p: Mapping[str, Tensor], o: Mapping[str, float], r: int, k: int) -> Tensor:
    removed = o["scale"] * (p["tsd_start_down"][:, :r] @ p["tsd_start_up"][:r, :])
    return dash(W0, p, o, r, k, "tsd") - removed


EQUATIONS: dict[str, Callable[..., Tensor]] = {
    "wegeft": wegeft,
    "fourier": fourier,
    "lora_qkv": lora_qkv,
    "dash": dash,
    "tsd_init": tsd_init,
    "tsd": tsd,
}


def convolve(base: nn.Conv2d, W: Tensor, b: Tensor, x: Tensor) -> Tensor:
    """A convolution as products with patches, group by group; W is `(out, in / groups · height · width)`."""
    (high, wide), (down, right), groups = base.kernel_size, base.dilation, base.groups
    if base.padding == "same":
        rows, columns = down * (high - 1), right * (wide - 1)
        pads = [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2]
    else:
        rows, columns = base.padding
        pads = [columns, columns, rows, rows]
    x = F.pad(x, pads, mode="constant" if base.padding_mode == "zeros" else base.padding_mode)
    axes = zip(x.shape[2:], base.dilation, base.kernel_size, base.stride, strict=True)
    size = [(n - d * (k - 1) - 1) // s + 1 for n, d, k, s in axes]
    patches = F.unfold(x, base.kernel_size, dilation=base.dilation, stride=base.stride)
    outs = [w @ own for w, own in zip(W.chunk(groups), patches.chunk(groups, dim=1), strict=True)]
    return (torch.cat(outs, dim=1) + b[:, None]).unflatten(2, size)


@pytest.fixture(scope="session")
def bench() -> Bench:
    return Bench()


@pytest.fixture(scope="module")
def data() -> TrainSplit:
    """A few digits."""
    return few_digits().train


@pytest.fixture(scope="module")
def vit() -> nn.Module:
    """A small transformer in float64."""
    return double(tiny_vit())
