"""On a GPU: merges that are recorded and replayed are exact, too."""

from __future__ import annotations

import pytest
import torch
from numpy.random import default_rng
from support.exports import toy
from support.models import randomise

from glorasearch.serving import AdapterServer, ServedAdapter
from glorasearch.space import SearchSpace, sample
from glorasearch.supernet import Supernet

CHOICES = {
    "A": ["none", "vector", "lora:2"],
    "B": ["none", "vector", "lora:4", "fourier:30"],
    "C": ["none", "lora:2"],
    "D": ["none", "vector"],
    "E": ["none", "constant"],
}


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["vit", "vit_bias_gained", "convnext"])
def test_recorded_merges_are_those_of_the_merged_model(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    backbone, images = toy(kind)
    server, expected = AdapterServer(backbone, device="cuda"), {}
    for seed, name in enumerate("abc"):
        space = SearchSpace.from_dict({"name": "toy", "choices": CHOICES})
        supernet = randomise(Supernet(backbone, space).eval(), 0.1, seed)
        subnet = sample(supernet.space, default_rng(seed))
        server.add(ServedAdapter.of(supernet, subnet, name=name))
        with torch.inference_mode():
            expected[name] = supernet.to("cuda").merged(subnet)(images.to("cuda"))
    for name in "abcabcbacab":
        assert torch.equal(server(name, images), expected[name]), name
    assert "cannot be recorded" not in caplog.text
    each = server.mixed(["a", "b", "c", "a", "b"], images, "grouped")
    for place, name in enumerate("abcab"):
        torch.testing.assert_close(each[place], expected[name][place], rtol=1e-4, atol=1e-5)
