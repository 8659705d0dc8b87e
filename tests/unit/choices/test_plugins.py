"""Choice classes from outside: their biases, reserved names, what is checked before the start; and held warm-ups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
import torch
from support.models import Layers
from torch import Tensor, nn

from glorasearch.choices import CHOICES, Choice, Contribution, LowRank, Part, Site, parse_choice, register
from glorasearch.errors import SearchSpaceError
from glorasearch.evaluation.eager_model import EagerModel
from glorasearch.space import SearchSpace, Subnet
from glorasearch.supernet import Supernet


class Both(Choice):
    """Adds a product to the weight, and W0 times a prompt to the bias."""

    name = "both"
    tensors = "A"
    arguments = ("rank",)

    @classmethod
    def parts(cls, site: Site, **largest: int) -> dict[str, Part]:
        rank = largest["rank"]
        cut = {"rank": -1}
        return {"both_left": Part((site.rows, rank), cut=cut), "both_line": Part((site.layer.in_features,))}

    @classmethod
    def contribution(cls, parts: Mapping[str, Tensor], base: Tensor, site: Site) -> Contribution:
        left = parts["both_left"]
        return Contribution(shift=LowRank(left, base[: left.shape[-1]]), prompt=parts["both_line"])


class Named(Both):
    """Calls its parts as LoRA does."""

    name = "named"

    @classmethod
    def parts(cls, site: Site, **largest: int) -> dict[str, Part]:
        return {"down": Part((site.rows, largest["rank"]), cut={"rank": -1})}


class Starts(Both):
    """Is no no-op at the start."""

    name = "starts"

    @classmethod
    def parts(cls, site: Site, **largest: int) -> dict[str, Part]:
        def ones(value: Tensor, generator: torch.Generator) -> None:
            value.fill_(1.0)

        return {"starts_line": Part((site.rows,), ones)}

    @classmethod
    def contribution(cls, parts: Mapping[str, Tensor], base: Tensor, site: Site) -> Contribution:
        return Contribution(bias_shift=parts["starts_line"])


class Fails(Starts):
    """Has a shape that does not fit."""

    name = "fails"

    @classmethod
    def parts(cls, site: Site, **largest: int) -> dict[str, Part]:
        return {"fails_line": Part((site.rows + 1,))}

    @classmethod
    def contribution(cls, parts: Mapping[str, Tensor], base: Tensor, site: Site) -> Contribution:
        return Contribution(shift=parts["fails_line"])


class Rated(Both):
    """Has a learning rate that nobody knows."""

    name = "rated"

    @classmethod
    def parts(cls, site: Site, **largest: int) -> dict[str, Part]:
        return {"both_left": Part((site.rows, 1), rate="fast"), "both_line": Part((site.layer.in_features,))}


@pytest.fixture
def plugins() -> Iterator[None]:
    """These classes in the table of choices, for one test."""
    for choice in (Both, Named, Starts, Fails, Rated):
        register(choice)
    yield
    for choice in (Both, Named, Starts, Fails, Rated):
        del CHOICES[choice.name]
    parse_choice.cache_clear()


def supernet(bias: bool = False, **choices: list[str]) -> Supernet:
    torch.manual_seed(0)
    space = SearchSpace.from_dict({"name": "one", "layers": {"include": ["layer"]}, "choices": choices})
    net = Supernet(Layers({"layer": nn.Linear(6, 5, bias=bias)}, nn.Linear(5, 3), calls_head=True).double(), space)
    for name, value in net.adapter_state().items():
        if value.is_floating_point() and name.startswith("layer"):
            value.normal_()
    return net


@pytest.mark.usefixtures("plugins")
def test_a_plugins_bias_is_announced_and_scored() -> None:
    net = supernet(A=["none", "both:1", "lora:5"])
    assert net.gains_bias() == ["layer"]
    x = torch.randn(4, 6, dtype=torch.float64)
    model = EagerModel(net, "cpu")
    with torch.inference_mode():
        for choice in ("both:1", "lora:5", "none"):
            subnet = Subnet({("layer", "A"): choice})
            model.write(subnet)
            torch.testing.assert_close(model.forward(x), net.merged(subnet)(x).float())


@pytest.mark.usefixtures("plugins")
def test_the_names_that_fast_paths_know_are_taken() -> None:
    with pytest.raises(SearchSpaceError, match=r"'named' has a part 'down', and so has 'lora'"):
        supernet(A=["none", "named:2"])


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ("starts:1", "it changes bias_shift before anything is trained"),
        ("fails:1", "its contribution fails"),
        ("rated:1", "part 'both_left' has the rate 'fast'; one of factor, vector, spectrum"),
    ],
)
def test_what_a_plugin_gets_wrong_is_said_before_the_start(choice: str, said: str) -> None:
    with pytest.raises(SearchSpaceError, match=said):
        supernet(A=["none", choice])


def test_a_held_choice_never_starts_anew() -> None:
    net = supernet(B=["tsd_init:2", "dash:2:2"])
    subnets = [net.space.subnet([choice]) for choice in ("tsd_init:2", "dash:2:2")]
    net.warm_ups.step(subnets)
    net.warm_ups.hold_restarts()
    before = net.merged_layer("layer", subnets[0])[0].clone()
    for _ in range(120):
        net.warm_ups.step(subnets)
    assert torch.equal(net.merged_layer("layer", subnets[0])[0], before)
    assert net.warm_ups.draws() == {"layer.B.tsd_init_draws": -1, "layer.B.dash_draws": 121}
    other = supernet(B=["tsd_init:2", "dash:2:2"])
    other.load_adapter_state(net.adapter_state())
    assert other.warm_ups.draws() == net.warm_ups.draws()


def test_directions_that_a_weight_does_not_have_come_last() -> None:
    from glorasearch.choices.directions import task_directions

    base = torch.randn(6, 4, dtype=torch.float64)
    base[:, 3] = 0
    found = task_directions(base, torch.randn(6, 2).double(), torch.randn(2, 4).double(), 4)
    assert (found.values[:3] > 1e-3).all()
    assert found.values[3] < 1e-9
