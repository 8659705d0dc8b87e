"""Every choice, merged and active, against the equations of GLoRA written down once more, in float64."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.models import Layers
from torch import Tensor, nn

from glorasearch.adapters import AdaptedLinear
from glorasearch.space import SUPPORT_TENSORS, BoundSpace, LayerShape, SearchSpace, Subnet, parse_choice
from glorasearch.supernet import Supernet

TOLERANCE = 1e-12


def one_layer(inputs: int, outputs: int, bias: bool) -> Layers:
    return Layers({"layer": nn.Linear(inputs, outputs, bias=bias)}, nn.Linear(outputs, 3))


def supernet_of(inputs: int, outputs: int, bias: bool, rank: int, entangle: str, seed: int = 0) -> Supernet:
    """A one-layer supernet in float64 with all 432 choices (48·3·... without D), its support tensors random."""
    lora = f"lora:{rank}"
    torch.manual_seed(seed)
    space = SearchSpace.from_dict(
        {
            "name": "all",
            "entangle": entangle,
            "layers": {"include": ["layer"]},
            "choices": {
                "A": ["none", "constant", "vector", lora],
                "B": ["none", "constant", "vector", lora],
                "C": ["none", "vector", lora],
                "D": ["none", "constant", "vector"],
                "E": ["none", "constant", "vector"],
            },
        }
    )
    supernet = Supernet(one_layer(inputs, outputs, bias).double(), space)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in supernet.adapter_parameters().values():
            parameter.normal_(generator=generator)
    return supernet


def transcription(layer: AdaptedLinear, choices: tuple[str, ...], x: Tensor) -> Tensor:
    """`W = W0 + W0⊙A + B`, `b = b0 + b0⊙D + E + W0·C`, `y = x·Wᵀ + b`, with every support tensor made dense."""
    W0 = layer.base.weight.detach()
    out, inputs = W0.shape
    b0 = layer.base.bias.detach() if layer.base.bias is not None else torch.zeros(out, dtype=W0.dtype)

    def stored(tensor: str, name: str) -> Tensor:
        return getattr(layer.support[tensor], name).detach()

    def of(tensor: str, choice: str) -> tuple[str, Tensor | None]:
        parsed = parse_choice(choice)
        if parsed.name == "lora":
            return "lora", stored(tensor, "down")[:, : parsed.rank] @ stored(tensor, "up")[: parsed.rank, :]
        if parsed.name == "none":
            return "none", None
        support = layer.support[tensor]
        if hasattr(support, "constant") or (parsed.name == "vector" and hasattr(support, "vector")):
            return parsed.name, stored(tensor, parsed.name)
        column = stored(tensor, "down")[:, 0] if hasattr(support, "down") else stored(tensor, "vector")
        return parsed.name, column if parsed.name == "vector" else column[0]

    def matrix(tensor: str, choice: str) -> Tensor:
        kind, value = of(tensor, choice)
        full = torch.zeros(out, inputs, dtype=W0.dtype)
        if kind == "none" or value is None:
            return full
        if kind == "vector":
            for row in range(out):
                full[row, :] = value[row]
            return full
        return full + value

    def offset(tensor: str, choice: str, length: int) -> Tensor:
        kind, value = of(tensor, choice)
        full = torch.zeros(length, dtype=W0.dtype)
        return full if value is None or kind == "none" else full + value.reshape(-1)

    a, b, c, d, e = choices
    W = W0 + W0 * matrix("A", a) + matrix("B", b)
    bias = b0 + offset("E", e, out) + W0 @ offset("C", c, inputs)
    if layer.base.bias is not None:
        bias = bias + b0 * offset("D", d, out)
    return x @ W.T + bias


def all_subnets(space: BoundSpace) -> list[Subnet]:
    return [space.subnet(choices) for choices in itertools.product(*(gene.choices for gene in space.genes))]


@pytest.mark.parametrize("entangle", ["untied", "reference"])
@pytest.mark.parametrize("bias", [True, False])
def test_all_choices_of_a_layer_merged_and_active(bias: bool, entangle: str) -> None:
    supernet = supernet_of(7, 5, bias, 3, entangle)
    subnets = all_subnets(supernet.space)
    assert len(subnets) == (432 if bias else 144)
    x = torch.randn(4, 6, 7, dtype=torch.float64)
    for subnet in subnets:
        expected = transcription(supernet.adapted["layer"], subnet.layer("layer"), x)
        merged = supernet.merged(subnet)(x)
        with torch.no_grad(), supernet.activate(subnet):
            active = supernet(x)
        assert (merged - expected).abs().max() <= TOLERANCE, subnet.layer("layer")
        assert (active - expected).abs().max() <= 10 * TOLERANCE, subnet.layer("layer")


@settings(max_examples=60, deadline=None)
@given(
    inputs=st.integers(1, 24),
    outputs=st.integers(1, 24),
    bias=st.booleans(),
    entangle=st.sampled_from(["untied", "reference"]),
    seed=st.integers(0, 10_000),
    data=st.data(),
)
def test_any_shape_and_rank(
    inputs: int, outputs: int, bias: bool, entangle: str, seed: int, data: st.DataObject
) -> None:
    rank = data.draw(st.integers(1, min(inputs, outputs)))
    supernet = supernet_of(inputs, outputs, bias, rank, entangle, seed)
    subnet = supernet.space.subnet(data.draw(st.sampled_from(gene.choices)) for gene in supernet.space.genes)
    x = torch.randn(3, inputs, dtype=torch.float64)
    expected = transcription(supernet.adapted["layer"], subnet.layer("layer"), x)
    assert (supernet.merged(subnet)(x) - expected).abs().max() <= TOLERANCE


@pytest.mark.parametrize("entangle", ["untied", "reference"])
@pytest.mark.parametrize("bias", [True, False])
def test_parameter_count_is_the_number_of_elements_with_a_gradient(bias: bool, entangle: str) -> None:
    """Counted on the loss of random data, so that no gradient is zero by chance."""
    supernet = supernet_of(7, 5, bias, 3, entangle)
    x = torch.randn(11, 7, dtype=torch.float64)
    for subnet in all_subnets(supernet.space):
        supernet.zero_grad()
        with supernet.activate(subnet):
            output = supernet(x)
        if output.requires_grad:
            (output.sin().sum()).backward()
        touched = sum(
            int((parameter.grad != 0).sum())
            for parameter in supernet.adapter_parameters().values()
            if parameter.grad is not None
        )
        assert touched == supernet.space.parameters(subnet), subnet.layer("layer")


@pytest.mark.parametrize("rank_pair", [(1, 3), (2, 3)])
def test_a_smaller_rank_is_a_prefix(rank_pair: tuple[int, int]) -> None:
    small, large = rank_pair
    space = SearchSpace.from_dict(
        {
            "name": "ranks",
            "layers": {"include": ["layer"]},
            "choices": {tensor: ["none", f"lora:{small}", f"lora:{large}"] for tensor in "ABC"},
        }
    )
    supernet = Supernet(one_layer(7, 5, True).double(), space)
    with torch.no_grad():
        for parameter in supernet.adapter_parameters().values():
            parameter.normal_()
    x = torch.randn(4, 7, dtype=torch.float64)
    for choices in itertools.product(["none", f"lora:{small}", f"lora:{large}"], repeat=3):
        subnet = supernet.space.subnet(choices)
        expected = transcription(supernet.adapted["layer"], subnet.layer("layer"), x)
        assert (supernet.merged(subnet)(x) - expected).abs().max() <= TOLERANCE


@pytest.mark.parametrize("weight", ["lora", "vector", "constant", "none"])
@pytest.mark.parametrize("prompt", ["lora", "vector", "none"])
@pytest.mark.parametrize("offset", ["vector", "constant", "none"])
def test_peft_agrees_where_it_has_the_combination(weight: str, prompt: str, offset: str) -> None:
    """PEFT's GLoRA ties the form of A to that of B and that of D to that of E."""
    layer_module = pytest.importorskip("peft.tuners.glora.layer")
    config = pytest.importorskip("peft.tuners.glora.config").GloraConfig(
        r=3, config_A_B=weight, config_C=prompt, config_D_E=offset
    )
    supernet = supernet_of(7, 5, True, 3, "untied")
    ours = supernet.adapted["layer"]
    base = nn.Linear(7, 5).double()
    base.load_state_dict(ours.base.state_dict())
    theirs = layer_module.GloraLinear(base, "default", config).double()

    def forms(kind: str) -> str:
        return f"{kind}:3" if kind == "lora" else kind

    choices = (forms(weight), forms(weight), forms(prompt), offset, offset)
    with torch.no_grad():
        for tensor, choice in zip(SUPPORT_TENSORS, choices, strict=True):
            path = getattr(theirs, f"glora_{tensor}")["default"]
            parts = {} if choice == "none" else ours.support[tensor].parts(choice)
            if "down" in parts:
                path.Xd.copy_(parts["down"])
                path.Xu.copy_(parts["up"])
            for value in parts.values() if "down" not in parts else []:
                path.X.copy_(value.reshape(path.X.shape))
    x = torch.randn(4, 7, dtype=torch.float64)
    subnet = Subnet({("layer", tensor): choice for tensor, choice in zip(SUPPORT_TENSORS, choices, strict=True)})
    assert (supernet.merged(subnet)(x) - theirs(x)).abs().max() <= TOLERANCE


def test_layer_shape_of_the_fixture() -> None:
    assert supernet_of(7, 5, False, 2, "untied").space.layers == (LayerShape("layer", 7, 5, False),)
