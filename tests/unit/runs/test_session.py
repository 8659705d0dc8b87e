from pathlib import Path

import pytest
import torch

from glorasearch.backbone import BackboneConfig, build_backbone
from glorasearch.runs.session import share_backbone
from glorasearch.space import SearchSpace
from glorasearch.supernet import Supernet
from glorasearch.weights import NodeCache, frozen_digest

SIZES = {"img_size": 28, "patch_size": 14, "embed_dim": 32, "depth": 2, "num_heads": 2}


def files_of(model: torch.nn.Module) -> set[str]:
    """Files that the parameters are views of; `""` for memory of the process's own."""
    spans = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, end = (int(text, 16) for text in line.split()[0].split("-"))
        spans.append((begin, end, line[line.index("/") :] if "weights.safetensors" in line else ""))
    return {
        next((file for begin, end, file in spans if begin <= parameter.data_ptr() < end), "")
        for parameter in model.parameters()
    }


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet18"])
def test_backbones_with_other_heads_share_their_memory(name, tmp_path):
    args = SIZES if name.startswith("vit") else {}
    first = build_backbone(BackboneConfig(name=name, pretrained=False, args=args), 3)
    second = build_backbone(BackboneConfig(name=name, pretrained=False, args=args), 5)
    own = dict(first.named_parameters())
    with torch.no_grad():
        for key, parameter in [*second.named_parameters(), *second.named_buffers()]:
            if parameter.shape == first.state_dict()[key].shape:
                parameter.copy_(first.state_dict()[key])
    images = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = first(images), second(images)

    cache = NodeCache(tmp_path)
    assert share_backbone(first, cache) is first
    share_backbone(second, cache)
    entries = [str(path / "weights.safetensors") for path in tmp_path.iterdir() if path.is_dir()]
    assert len(entries) == 1
    for model in (first, second):
        assert files_of(model) == {"", entries[0]}  # the head, and all the rest
    with torch.no_grad():
        assert torch.equal(first(images), before[0])
        assert torch.equal(second(images), before[1])
    assert all(own[key] is parameter for key, parameter in first.named_parameters())

    space = SearchSpace.from_dict(
        {
            "name": "small",
            "layers": {"include": ["*"], "types": ["linear", "conv2d"]},
            "choices": {"A": ["none", "lora:2"]},
        }
    )
    supernet = Supernet(first, space)
    assert frozen_digest(supernet) == frozen_digest(Supernet(second, space))
    with supernet.activate(supernet.space.largest()):
        supernet(images).square().mean().backward()
    assert all(parameter.grad is not None for parameter in supernet.head_parameters().values())
