"""bfloat16 autocast: the same code on the CPU (here) and on a GPU (`pytest -m gpu`, by hand)."""

import pytest
import torch
from support.data import grey
from support.models import tiny_vit
from torch import Tensor, nn

from glorasearch.data import DataConfig, load_splits
from glorasearch.space import SearchSpace, Subnet
from glorasearch.supernet import Supernet
from glorasearch.training import SupernetTrainer, TrainingRecord, Uniform

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def tiny_supernet() -> Supernet:
    return Supernet(tiny_vit(img_size=28, patch_size=14, num_heads=2), SearchSpace.load("glora_small"))


@pytest.mark.parametrize("device", DEVICES)
def test_training_in_bfloat16_keeps_float32_weights_and_learns(device: str) -> None:
    data = load_splits(DataConfig(source="digits", train=200, search=100), grey(28))
    records: list[TrainingRecord] = []
    supernet = tiny_supernet()
    config = SupernetTrainer.Config(
        steps=60,
        batch_size=32,
        lr=1e-2,
        vector_lr=1e-2,
        head_lr=1e-2,
        warmup_steps=5,
        precision="bfloat16",
        record_every=20,
    )
    strategy = Uniform(supernet.space, 0)
    SupernetTrainer(supernet, data.train, strategy, config, device=device, on_record=records.append).run()
    losses = [record.values["loss"] for record in records if "loss" in record.values]
    assert losses[-1] < losses[0]
    for name, value in supernet.adapter_state().items():
        assert value.dtype == torch.float32, name
        assert torch.isfinite(value).all(), name


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("choice", ["constant", "vector", "lora:2"])
@pytest.mark.parametrize("tensor", ["A", "B"])
def test_no_choice_turns_the_stream_into_float32(tensor: str, choice: str, device: str) -> None:
    """A layer that silently answered in float32 would take the layers behind it along, at twice the cost."""
    supernet = tiny_supernet().to(device)
    found: list[torch.dtype] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        found.append(output.dtype)

    hooks = [layer.register_forward_hook(note) for layer in supernet.adapted.values()]
    genes = {gene.key: "none" for gene in supernet.space.genes} | {
        gene.key: choice for gene in supernet.space.genes if gene.tensor == tensor
    }
    images = torch.randn(2, 1, 28, 28, device=device)
    with torch.autocast(device, torch.bfloat16), supernet.activate(Subnet(genes)):
        supernet(images)
    for hook in hooks:
        hook.remove()
    assert set(found) == {torch.bfloat16}
    assert len(found) == len(supernet.adapted)
