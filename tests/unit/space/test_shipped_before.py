"""Shipped spaces choose by roles; on plain vision transformers they are what they were when they chose by names.

The digests are those of bound spaces and named points before there were roles: layers, genes, choices, and so weights,
trials and results. A change here is one of every run's results.
"""

from __future__ import annotations

import hashlib
import json

import pytest
import timm
import torch

from glorasearch.adapters import adaptable_layers
from glorasearch.assets import quickstart_backbone_path
from glorasearch.space import LayerShape, SearchSpace, named_points

BACKBONES = {"small": f"local-dir:{quickstart_backbone_path()}", "base": "vit_base_patch16_224"}
"""Of the quickstart, and of the published experiments."""

BEFORE = """
bitfit small 38 38 6528 6528 a8ab752669a87ea8 9eff9458d665
bitfit base 74 74 102912 102912 ded64462014a869d ee15304c63bc
convnext_glora small 24 120 0 100320 a8a0739d5350e5f5 3b95e4e94b37
convnext_glora base 48 240 0 1603776 15d471263159adf0 945c78898f82
everything small 24 120 0 108768 8718c4e90c2da099 5d9adf2c46ae
everything base 48 240 0 1714752 f622022b1193b0ad 192b77200a2f
fourierft small 6 6 36000 36000 f852949874e82ad6 8d1f7cb5bbf2
fourierft base 12 12 72000 72000 6cf475a347071ed9 e6a0bac3cd7e
glora_large small 24 120 0 190272 fe13323b81570936 386c6df6ec94
glora_large base 48 240 0 3041664 737535b87116aa64 502303514995
glora_medium small 24 120 0 100320 a8a0739d5350e5f5 3b95e4e94b37
glora_medium base 48 240 0 1603776 15d471263159adf0 945c78898f82
glora_small small 24 120 0 55344 e92594cb814334aa 2d8fc835bc78
glora_small base 48 240 0 884832 0a325e9732f4e6b8 48eccdf0cd87
lean small 24 72 0 152640 f50e7062ae3b01d9 c098b5baaaf9
lean base 48 144 0 2442240 d298947adac21eb7 6bc032ee4408
linear_probe small 24 24 0 0 69ad49e441b081cd 3241e610121e
linear_probe base 48 48 0 0 0743dc625f82d092 6b686df80f02
lora small 24 24 36864 36864 6ddea920cd440b5d e0ecd51550fa
lora base 48 48 589824 589824 7ba9fd282f46ac16 415315b99bce
lora_dash small 24 24 37056 37056 334dce251b2421ad 2443f2be1cf4
lora_dash base 48 48 590208 590208 1e313bcaf6268752 db55c921b3c5
lora_r8 small 24 24 73728 73728 f57f675cfb25b5c8 ce72cc7ca57e
lora_r8 base 48 48 1179648 1179648 08d51dc9f222b956 7ba8fde0e475
lora_tsd small 24 24 37056 37056 c76dcdf93452a1c9 08d6fd73eb67
lora_tsd base 48 48 590208 590208 d127aa7b114a656a 2f61cd0184c9
repadapter small 12 12 15072 15072 8466962e5187c141 54ef381c4e82
repadapter base 24 24 239808 239808 7ea73396a2dd99af 6be4336b36fe
ssf small 38 76 13056 13056 f891fd7fdec051c3 fb9fd9079234
ssf base 74 148 205824 205824 b150a2613e4de5ba 4598a15e3459
wegeft small 6 6 3072 3072 7f6b9b9dda021d3e e47abe5cc428
wegeft base 12 12 24576 24576 30dc28d6a2324d7b 4f1f47f172c2
"""
"""Space, backbone, layers, genes, smallest and largest count, digests of the bound space and of its named points."""
ROWS = [line.split(" ") for line in BEFORE.strip().splitlines()]


@pytest.fixture(scope="module")
def layers() -> dict[str, list[LayerShape]]:
    with torch.device("meta"):
        return {key: adaptable_layers(timm.create_model(name, num_classes=2)) for key, name in BACKBONES.items()}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: " ".join(row[:2]))
def test_nothing_has_changed_on_plain_vision_transformers(row: list[str], layers: dict[str, list[LayerShape]]) -> None:
    name, backbone, *before = row
    bound = SearchSpace.load(name).bind(layers[backbone])
    smallest, _, largest = bound.parameter_range()
    points = {point: subnet.digest for point, subnet in named_points(bound).items()}
    seen = hashlib.sha256(json.dumps(points).encode()).hexdigest()
    sizes = [len(bound.layers), len(bound.genes), smallest, largest]
    assert [*map(str, sizes), bound.digest[:16], seen[:12]] == before


@pytest.mark.parametrize(
    ("name", "before"),
    [
        ("glora_medium", "43f8972bb7909062"),
        ("lora", "d2464e0e1df6d5e4"),
        ("bitfit", "1ae363e6e635df7a"),
        ("everything", "8abe9b7c9453a855"),
        ("linear_probe", "1a654a930234858d"),
    ],
)
def test_what_chose_all_blocks_has_the_identity_that_it_had(name: str, before: str) -> None:
    """The default of `layers` is another one, with the same meaning on such a backbone."""
    assert SearchSpace.load(name).digest[:16] == before
